"""What the command was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Request:
    """The options; everything that is not given is found out or has its usual value.

    *place*, *vectors*, *ids*, *id_column*, *vector_column*: where the vectors are. *table*, *key*, *columns*, *template*,
    *sql*, *prepend*: the rows that they belong to and what of these was embedded. The rest: what the collection is to be.
    """

    place: str | None = None
    vectors: Path | None = None
    ids: Path | None = None
    id_column: str | None = None
    vector_column: str | None = None
    collection: str | None = None
    model: str | None = None
    table: str | None = None
    key: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    template: str | None = None
    sql: str | None = None
    prepend: str = ""
    similarities: int | None = None
    table_prefix: str = ""
    dry_run: bool = False

    @property
    def names_one(self) -> bool:
        """Whether one set of vectors is meant, instead of all that the file has."""
        return bool(self.place or self.vectors or self.vector_column or self.describes_one)

    @property
    def describes_one(self) -> bool:
        """Whether something is said that can be true of one set of vectors only."""
        return bool(self.collection or self.model or self.names_rows)

    @property
    def names_rows(self) -> bool:
        """Whether the rows that vectors belong to, or what of them was embedded, are named."""
        return bool(self.table or self.sql or self.columns or self.template)
