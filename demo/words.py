"""Table `words`: the 10,000 commonest English words of GloVe 6B, whose vectors lie beside the list.

What they mean is in how they are used in Wikipedia and the news of many years, so they can be added and subtracted:
germany + paris - france is near to berlin.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

TABLE = """
create table words (
    word text primary key,
    rank integer not null
)
"""

LIST = Path(__file__).parent / "glove" / "glove-6b-50d.txt"


def rows() -> Iterator[tuple[object, ...]]:
    """Yield (word, rank), the commonest word first."""
    for rank, word in enumerate(LIST.read_text("utf-8").removesuffix("\n").split("\n"), 1):
        yield word, rank
