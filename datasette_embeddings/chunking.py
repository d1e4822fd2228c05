"""Rows embedded in chunks: each row's text cut by `splitting` into items that know where they stand in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from datasette_embeddings.catalog import chunk_id
from datasette_embeddings.errors import ConfigError
from datasette_embeddings.limits import CHUNK_TOKENS, MIN_CHUNK_TOKENS
from datasette_embeddings.splitting import SPLITTER, embedded_text, split

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from datasette_embeddings.models import EmbeddingModel
    from datasette_embeddings.spec import Spec

TITLE_CHARACTERS = 120
"""A first line of more characters is a paragraph, not what the text is called."""


class Chunk(NamedTuple):
    """A part of a row: its item id, where it stands in the row's text, and what is embedded of it."""

    id: str
    position: int
    start: int
    end: int
    heading: str
    content: str


@dataclass(frozen=True)
class Chunker:
    """Cuts rows for one model. *limit*: tokens of one chunk; *prepend*: what stands before each, for the model alone."""

    model: EmbeddingModel
    limit: int
    prepend: str = ""

    @property
    def identity(self) -> str:
        """What changes whenever the same row would be cut otherwise."""
        return f"chunk {self.limit} {SPLITTER}"

    def chunks(self, row: str, content: str) -> Iterator[Chunk]:
        """Yield the chunks of a row's content, which begins with *prepend*."""
        text = content[len(self.prepend) :]
        for position, piece in enumerate(split(text, title_of(text), self._count, self.limit)):
            item = chunk_id(row, position)
            embedded = self.prepend + embedded_text(text, piece)
            yield Chunk(item, position, piece.start, piece.end, piece.heading, embedded)

    def _count(self, texts: Sequence[str]) -> list[int]:
        return self.model.token_counts([self.prepend + text for text in texts])


def chunker(spec: Spec, model: EmbeddingModel) -> Chunker | None:
    """Return what cuts the rows of a collection, None where they are embedded whole; raises ConfigError for a bad size."""
    if spec.chunk is None:
        return None
    most = min(model.max_tokens or CHUNK_TOKENS, CHUNK_TOKENS)
    limit = spec.chunk or most
    if limit < MIN_CHUNK_TOKENS or limit > (model.max_tokens or limit):
        at_most = f" and at most the {model.max_tokens} that {model.name} reads" if model.max_tokens else ""
        raise ConfigError(
            f"{spec.name}: a chunk has at least {MIN_CHUNK_TOKENS} tokens{at_most}; found {limit}; leave the number out for {most}"
        )
    return Chunker(model, limit, spec.source.prepend)


def title_of(text: str) -> str:
    """Return the first line of a text where it stands alone and is short, as titles are; "" where it does not, or is a heading.

    >>> title_of("Faucets\\n\\nA faucet is a valve."), title_of("A faucet is a valve.\\nIt closes.")
    ('Faucets', '')
    """
    first, end, rest = text.lstrip().partition("\n")
    alone = end and (not rest or rest[0] in "\r\n")
    titled = alone and len(first) <= TITLE_CHARACTERS and not first.startswith("#")
    return first.strip() if titled else ""
