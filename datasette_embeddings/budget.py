"""How much visitors of a site may spend: texts a minute that are sent to models on other machines, questions to a chat model."""

from __future__ import annotations

import threading
import time
from math import ceil

from datasette_embeddings.errors import BudgetExceeded


class Budget:
    """A token bucket, full at first: *per_minute* texts at once, and then as many a minute, evenly.

    *spent*: what each is, in words; *limit*: what the configuration calls the bound.
    """

    def __init__(
        self,
        per_minute: float,
        spent: str = "queries{} to models on other machines",
        limit: str = "queries_per_minute",
    ) -> None:
        self.per_minute = per_minute
        self.spent = spent
        self.limit = limit
        self._capacity = max(1.0, per_minute) if per_minute else 0.0
        self._left = self._capacity
        self._seen = time.monotonic()
        self._lock = threading.Lock()

    def spend(self) -> None:
        """Take one text off; raises BudgetExceeded where none is left."""
        with self._lock:
            self._refill()
            if self._left >= 1:
                self._left -= 1
                return
        wait = self.wait_seconds()
        if wait is None:
            raise BudgetExceeded(f"this site sends no {self.spent.format('')} (`{self.limit}: 0`)")
        raise BudgetExceeded(
            f"this site sends at most {self.per_minute:g} {self.spent.format(' a minute')}, and these are used up; "
            f"try again in {wait} s"
        )

    def wait_seconds(self) -> int | None:
        """Return in how many seconds there is a text to spend again, None for never."""
        if not self.per_minute:
            return None
        with self._lock:
            self._refill()
            return ceil(max(0.0, 1 - self._left) * 60 / self.per_minute)

    def _refill(self) -> None:
        now = time.monotonic()
        self._left = min(self._capacity, self._left + (now - self._seen) * self.per_minute / 60)
        self._seen = now
