"""What SQL may ask of models: of those that are not quick one text at a time, and of all no longer than a query may run.

Datasette has few SQL threads, and its time limit does not stop a function: a query that asks a slow model for each of its rows
would keep a thread, and a handful of them the site. Search queries of our own are not bounded here; `prefetch` asks
for those before they run.
"""

from __future__ import annotations

import threading
import time
from concurrent import futures
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from datasette_embeddings.errors import ModelError
from datasette_embeddings.limits import SQL_GATE_SECONDS
from datasette_embeddings.sqlthreads import seconds_so_far

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Result = TypeVar("Result")


class Guard:
    """The one place inside a model that all SQL threads of a site share; *seconds* is how long a query may run."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._gate = threading.Lock()
        self._entered = 0.0
        self._away: dict[str, futures.Future[object]] = {}

    @contextmanager
    def turn(self, name: str) -> Iterator[None]:
        """Be the one thread that asks a model; raises ModelError where the query is late or the place is taken for long."""
        self.check_time()
        if not self._gate.acquire(timeout=max(0.0, self._entered + SQL_GATE_SECONDS - time.monotonic())):
            raise self._busy(name)
        self._entered = time.monotonic()
        try:
            earlier = self._away.get(name)
            if earlier and not earlier.done():
                raise self._busy(name)
            yield
        finally:
            self._gate.release()

    def away(self, name: str, call: Callable[[], Result], late: str) -> Result:
        """Return what *call* gives in a thread of its own, waiting as long as the query may run; *late* says it took longer.

        What is given up goes on, and until it ends no other thread asks that model. Only within a turn.
        """
        done: futures.Future[Result] = futures.Future()

        def run() -> None:
            try:
                done.set_result(call())
            except BaseException as error:
                done.set_exception(error)

        threading.Thread(target=run, daemon=True, name="embeddings-sql").start()
        self._away[name] = done  # type: ignore[assignment]
        futures.wait([done], timeout=max(0.0, self._left()))
        if done.done():
            return done.result()
        raise ModelError(f"{late} (`sql_time_limit_ms`: {self.seconds:g} s); try again in a moment")

    def check_time(self) -> None:
        """Raise ModelError where the query has been running for too long to embed another text."""
        if self._left() <= 0:
            raise ModelError(
                f"this query has embedded texts for {seconds_so_far():.1f} s, longer than a query may run here "
                f"(`sql_time_limit_ms`: {self.seconds:g} s); ask for fewer rows, or embed the table once with "
                "`datasette embeddings embed` and read the stored embeddings"
            )

    def _left(self) -> float:
        return self.seconds - seconds_so_far()

    @staticmethod
    def _busy(name: str) -> ModelError:
        return ModelError(f"{name} is busy with a text of another query, and takes one at a time from SQL; try again")
