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

    def spend(self, texts: int = 1) -> None:
        """Take texts off; raises BudgetExceeded, and takes none, where so many are not left."""
        with self._lock:
            self._refill()
            if self._left >= texts:
                self._left -= texts
                return
        wait = self.wait_seconds(texts)
        if not self.per_minute:
            raise BudgetExceeded(f"this site sends no {self.spent.format('')} (`{self.limit}: 0`)")
        if wait is None:
            raise BudgetExceeded(
                f"this site sends at most {self.per_minute:g} {self.spent.format(' a minute')}, and this would be {texts:,}; shorten it"
            )
        raise BudgetExceeded(
            f"this site sends at most {self.per_minute:g} {self.spent.format(' a minute')}, and these are used up; "
            f"try again in {wait} s"
        )

    def wait_seconds(self, texts: int = 1) -> int | None:
        """Return in how many seconds there are so many texts to spend again, None for never."""
        if texts > self._capacity:
            return None
        with self._lock:
            self._refill()
            return ceil(max(0.0, texts - self._left) * 60 / self.per_minute)

    def _refill(self) -> None:
        now = time.monotonic()
        self._left = min(self._capacity, self._left + (now - self._seen) * self.per_minute / 60)
        self._seen = now
