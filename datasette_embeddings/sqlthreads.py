"""What Python's sqlite3 keeps from visitors: why a function failed, said by the statement that called it.

SQLite lets no words of a function through; "user-defined function raised exception" is all that sqlite3 says. Datasette runs
each read in one of its SQL threads, and the functions that the read calls run in that very thread. So a function leaves its
reason with the thread, and the thread puts it into the error that comes out of the read.
"""

from __future__ import annotations

import functools
import os
import re
import sqlite3
import threading
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from datasette_embeddings import scope
from datasette_embeddings.errors import EmbeddingsError, for_visitors

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from datasette.app import Datasette

Result = TypeVar("Result")

INTERRUPTED = "interrupted"
"""What SQLite says of a statement that is stopped: here by Datasette, after so many milliseconds."""

UNSAFE = re.compile(r"unsafe use of (.+)")
"""What SQLite says of a view or a column that calls what `PRAGMA trusted_schema=OFF` keeps from it."""


class _Read(threading.local):
    """The read that this thread is busy with: when it began, on the clock of `time.monotonic`, and what failed in it."""

    began: float | None = None
    failure: str | None = None


_read = _Read()


def seconds_so_far() -> float:
    """Return how long the read of this thread has been running; 0 outside of one."""
    return 0.0 if _read.began is None else time.monotonic() - _read.began


def recorded(function: Callable[..., Result]) -> Callable[..., Result]:
    """Let an SQL function leave the reason of its errors with the thread that runs it."""

    @functools.wraps(function)
    def recording(*arguments: object) -> Result:
        try:
            return function(*arguments)
        except (EmbeddingsError, sqlite3.Error) as error:
            if _read.began is not None:
                _read.failure = for_visitors(_explained(error))
            raise

    return recording


def _explained(error: Exception) -> str:
    """Return the reason of an error in a function; those of SQLite are of statements that the function ran itself."""
    if isinstance(error, EmbeddingsError):
        return str(error)
    if str(error) == INTERRUPTED:
        return INTERRUPTED
    return f"a search inside this query failed: {error}"


def watched(read: Callable[..., Result], *arguments: object, **named: object) -> Result:
    """Run a read; an sqlite3.OperationalError that it raises says why, where that is known."""
    _read.began, _read.failure = time.monotonic(), None
    try:
        return read(*arguments, **named)
    except sqlite3.OperationalError as error:
        sentence = _sentence(str(error))
        if sentence is None:
            raise
        if (
            sentence == INTERRUPTED
        ):  # of a page's own limits Datasette takes this as an answer: a facet is not suggested
            raise _query_interrupted(error) from error
        raise sqlite3.OperationalError(sentence) from error
    finally:
        _read.began = None


def _query_interrupted(error: sqlite3.OperationalError) -> Exception:
    from datasette.database import QueryInterrupted

    interrupted: Exception = QueryInterrupted(error, "", {})
    return interrupted


def _sentence(said: str) -> str | None:
    """Return what to say in place of what sqlite3 said; None where that is best."""
    if said.startswith("user-defined "):
        return _read.failure
    unsafe = UNSAFE.fullmatch(said)
    if unsafe is None:
        return None
    return (
        f"{said}: a view, column or trigger of this database calls it, and the database's own definitions may call little here, "
        "as they name functions of datasette-embeddings-suite; call it in your own SQL, or, where you trust the file, set "
        "`trusted_schema: true` in the plugin's configuration"
    )


class WatchedExecutor(Executor):
    """Datasette's executor, of which every read is watched; in all else the executor that it was.

    Requests that search have threads of their own, so that a table's page need not wait for all searches that came before it.
    """

    def __init__(self, inner: Executor) -> None:
        self._inner = inner
        self._searching = ThreadPoolExecutor(os.cpu_count() or 1, "embeddings-search")

    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:  # noqa: ANN401
        """Hand a read over to a thread."""
        threads = self._searching if scope.current().searches else self._inner
        return threads.submit(watched, fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads."""
        self._searching.shutdown(wait=wait, cancel_futures=cancel_futures)
        self._inner.shutdown(wait=wait, cancel_futures=cancel_futures)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._inner, name)


def install(datasette: Datasette) -> None:
    """Watch every read of this Datasette; once or again."""
    if datasette.executor is None:  # num_sql_threads: 0
        for database in list(datasette.databases.values()):
            _watch_unthreaded(database)
    elif not isinstance(datasette.executor, WatchedExecutor):
        datasette.executor = WatchedExecutor(datasette.executor)


def _watch_unthreaded(database: Any) -> None:  # noqa: ANN401
    """Watch the reads of a database that run in the event loop itself, one after the other."""
    name = "_execute_fn" if hasattr(database, "_execute_fn") else "execute_fn"
    if name in vars(database):
        return
    original = getattr(database, name)

    def execute(fn: Callable[[sqlite3.Connection], Result]) -> Awaitable[Result]:
        awaitable: Awaitable[Result] = original(lambda conn: watched(fn, conn))
        return awaitable

    setattr(database, name, execute)
