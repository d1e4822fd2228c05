"""An answer on its way: written by a thread that asks the model, read as an iterator, given up from any thread.

The asking has a thread of its own because nothing else bounds it: a reader of a socket waits for a server that drips,
and cannot be told to stop.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from datasette_embeddings.errors import ChatError, CutShort
from datasette_embeddings.limits import MOST_CHARACTERS_PER_TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable


EMPTY = "the answer is empty"


class Sink:
    """Where pieces are put; blank ones before the first text are left out. *tokens*: the limit of the answer."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self.begun = False
        self.queue: queue.SimpleQueue[str | BaseException | None] = queue.SimpleQueue()
        self._room = tokens * MOST_CHARACTERS_PER_TOKEN

    def put(self, text: str) -> None:
        """Hand on a piece of text."""
        if not self.begun:
            text = text.lstrip()
        if text:
            self.begun = True
            self._room -= len(text)
            self.queue.put(text)

    @property
    def full(self) -> bool:
        """Whether more came than a model could write that keeps its limit."""
        return self._room < 0

    def at_limit(self) -> str:
        """Return what is said of an answer that reached its limit."""
        if self.begun:
            return f"the answer reached its limit of {self.tokens} tokens"
        return f"the model used up its {self.tokens} tokens before the answer began; a model that thinks first needs more, by the setting answer_tokens"


def failure(name: str, begun: bool, reason: str) -> ChatError:
    """Return the error of an answer that ends too early, or that never *begun*."""
    return (
        CutShort(f"{name} was cut short: {reason}", reason) if begun else ChatError(f"{name} gave no answer: {reason}")
    )


class Pieces(Iterator[str]):
    """The pieces of one answer, each as it comes; the end, or a ChatError, within *seconds* of its making."""

    def __init__(
        self, name: str, seconds: float, sink: Sink, ask: Callable[[], None], cancel: Callable[[], None]
    ) -> None:
        """Call *ask* on a thread of its own: it puts into *sink*, returns at the end of the answer or raises why there is none."""
        self._name, self._seconds, self._sink, self._cancel = name, seconds, sink, cancel
        self._until = time.monotonic() + seconds
        self._over = False
        threading.Thread(target=_run, args=(ask, sink.queue), daemon=True, name="embeddings-chat").start()

    def __next__(self) -> str:
        """Return the next piece; raises ChatError, of which CutShort where pieces were returned before."""
        came: str | BaseException | None = None
        try:
            if not self._over:
                came = self._sink.queue.get(timeout=max(0.0, self._until - time.monotonic()))
        except queue.Empty:
            came = failure(self._name, self._sink.begun, f"the answer was not complete within {self._seconds:g} s")
        if self._over:  # given up before or meanwhile
            raise StopIteration
        if isinstance(came, str):
            return came
        self.close()
        if came is None:
            raise StopIteration
        raise came from None

    def close(self) -> None:
        """Give the answer up: closes the connection at once. Safe from any thread and at any time, also twice."""
        if not self._over:
            self._over = True
            self._cancel()
            self._sink.queue.put(None)  # for a thread that waits for the next piece

    __del__ = close


def _run(ask: Callable[[], None], out: queue.SimpleQueue[str | BaseException | None]) -> None:
    try:
        ask()
        out.put(None)
    except BaseException as error:
        out.put(error)
