"""A rough look at what language texts are in: enough to warn that an English model will not understand them."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

FUNCTION_WORDS = {
    "English": "the of and to in is that for with as was are this it be on by from or an not which have but",
    "German": "der die das und ist nicht ein eine mit auf für von dem den zu im auch sich des wird bei oder",
    "French": "le la les des et est une dans pour que qui pas sur au avec du ce sont par plus ne il elle",
    "Spanish": "el la los las de y es una en para que por con del no se un al como más su lo sus pero",
    "Italian": "il di che e la per un una non sono del della con le da si nel alla gli come più è anche",
    "Portuguese": "o a os as de e é um uma em para que por com do da não se no na mais dos ao como foi",
    "Dutch": "de het een en van in is op te dat die voor met niet zijn aan er om ook als bij door naar",
    "Swedish": "och att det som en på är av för med den till inte har de om ett var jag så från kan",
    "Polish": "i w nie na się z do to że jest jak o po co tak za od dla przez ale czy być jego",
}
WORDS = {name: frozenset(words.split()) for name, words in FUNCTION_WORDS.items()}
WORD = re.compile(r"[^\W\d_]+")
MIN_LETTERS = 20
FOREIGN_LETTERS = 0.3


def looks_like(text: str) -> str | None:
    """Return the language that a text seems to be in, "another script", or None where it cannot be told.

    >>> looks_like("Der Hund ist nicht im Haus und die Katze schläft auf dem Dach")
    'German'
    >>> looks_like("def f(x): return x") is None
    True
    """
    letters = [c for c in text[:2000] if c.isalpha()]
    if len(letters) < MIN_LETTERS and not any(ord(c) > 0x2E80 for c in letters):
        return None
    foreign = sum("LATIN" not in unicodedata.name(c, "") for c in letters)
    if letters and foreign / len(letters) > FOREIGN_LETTERS:
        return "another script"
    words = [word.lower() for word in WORD.findall(text[:2000])]
    counts = {name: sum(word in known for word in words) for name, known in WORDS.items()}
    best = max(counts, key=lambda name: counts[name])
    return (
        best
        if (counts[best] >= 2 and counts[best] > 1.5 * counts["English"]) or (best == "English" and counts[best])
        else None
    )


def share_not_english(texts: Iterable[str]) -> tuple[float, str]:
    """Return the share of texts that seem to be in another language than English, and the commonest of those."""
    found = [looks_like(text) for text in texts]
    others = [name for name in found if name not in {None, "English"}]
    if not others:
        return 0.0, ""
    return len(others) / len(found), max(set(others), key=others.count) or ""
