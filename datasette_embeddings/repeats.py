"""Searches that one page asks many times: a table's page counts, facets and lists its rows by the same condition.

An answer is kept as long as nothing is written to what it was found in, as the connection that asks again sees it.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from datasette_embeddings.indexes import state_of
from datasette_embeddings.limits import REPEATED_SEARCHES
from datasette_embeddings.snapshots import changes_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from datasette_embeddings.catalog import Collection
    from datasette_embeddings.tables import Tables

_answers: OrderedDict[tuple[object, ...], str] = OrderedDict()
_lock = threading.Lock()


def answer_once(
    conn: sqlite3.Connection,
    owner: object,
    tables: Tables,
    collection: Collection,
    question: tuple[object, ...],
    answer: Callable[[], str],
    *,
    reads_rows: bool = False,
) -> str:
    """Return the answer to a question about a collection, found now or shortly before.

    *owner*: tells the connection from others; it is kept longer than the connection, and so may not lead to it. *reads_rows*: the answer has what rows of the source say. Of these, and of the words of a collection where they are in an index
    of its source's own, only its own connection can tell whether they were written to.
    """
    state = state_of(conn, tables, collection)
    if state is None:
        return answer()
    source = (owner, *changes_of(conn)) if reads_rows or not collection.full_text else ()
    key = (state, source, *(_short(part) for part in question))
    with _lock:
        if key in _answers:
            _answers.move_to_end(key)
            return _answers[key]
    found = answer()
    with _lock:
        _answers[key] = found
        while len(_answers) > REPEATED_SEARCHES:
            _answers.popitem(last=False)
    return found


def _short(part: object) -> object:
    """Return a part of a question, a long text as its hash."""
    return hashlib.sha256(part.encode()).digest() if isinstance(part, str) and len(part) > 1_000 else part
