"""BERT's uncased WordPiece tokenizer in pure Python, the same ids as `tokenizers` gives.

Text is cleaned, lower-cased, stripped of accents and cut at white space, punctuation and Chinese characters; each word is then
cut into the longest pieces that the vocabulary has, from its start (Devlin et al. 2018; Wu et al. 2016). One character
always becomes the same string, so that the first half is one `str.translate`; the second half remembers words.

Special tokens are never read from text: "[SEP]" in a text is three ordinary tokens.
"""

from __future__ import annotations

import unicodedata
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

UNKNOWN = "[UNK]"

MAX_WORD_CHARACTERS = 100
"""Longer words are unknown as a whole: BERT's own rule, which also bounds the time that one word takes."""

CACHE_WORDS = 50_000
"""Words remembered, about 8 MB; a full cache is emptied, as the common words come back at once."""

CHINESE = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B920, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)
"""Code points that BERT makes words of their own. The sixth begins at 2B920 where BERT's first code has 2B820: `tokenizers` does so."""


DROPPED = frozenset({"Cc", "Cf", "Co", "Cs"})
"""Unicode categories that are no text: controls, format marks, private use, lone surrogates. Unassigned ones stay."""


class WordPiece:
    """A vocabulary, and the words cut so far. Shared by threads: what they race for is the same for all."""

    def __init__(self, vocabulary: Sequence[str]) -> None:
        """Take the pieces in the order of their ids; `##` begins those that continue a word."""
        self.ids = {piece: number for number, piece in enumerate(vocabulary)}
        self.unknown = self.ids[UNKNOWN]
        self.longest = max(map(len, self.ids))
        self._characters = _Characters()
        self._words = _Words(self)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text's pieces, without [CLS] and [SEP]; the id of [UNK] for each word that cannot be made."""
        return list(chain.from_iterable(map(self._words.__getitem__, self.words(text))))

    def words(self, text: str) -> list[str]:
        """Return the normalised words and punctuation marks of a text.

        >>> WordPiece(["[UNK]"]).words("Café-Noir 東京!")
        ['cafe', '-', 'noir', '東', '京', '!']
        """
        return text.translate(self._characters).split()

    def pieces(self, word: str) -> tuple[int, ...]:
        """Return the ids of one normalised word.

        >>> WordPiece(["[UNK]", "token", "##izer", "##s"]).pieces("tokenizers")
        (1, 2, 3)
        """
        if len(word) > MAX_WORD_CHARACTERS:
            return (self.unknown,)
        found: list[int] = []
        start, prefix = 0, ""
        while start < len(word):
            end = min(len(word), start + self.longest)
            while end > start and (piece := self.ids.get(prefix + word[start:end])) is None:
                end -= 1
            if end == start:
                return (self.unknown,)
            found.append(piece)  # type: ignore[arg-type]
            start, prefix = end, "##"
        return tuple(found)


class _Words(dict[str, tuple[int, ...]]):
    """Word -> ids, cut when first asked for."""

    def __init__(self, tokenizer: WordPiece) -> None:
        super().__init__()
        self.tokenizer = tokenizer

    def __missing__(self, word: str) -> tuple[int, ...]:
        found = self.tokenizer.pieces(word)
        if len(self) >= CACHE_WORDS:
            self.clear()
        self[word] = found
        return found


class _Characters(dict[int, str]):
    """Code point -> what it becomes, found out when first asked for; at most as many as Unicode has."""

    def __missing__(self, code: int) -> str:
        self[code] = found = _normalised(chr(code))
        return found


def _normalised(character: str) -> str:
    """Return what one character becomes: nothing, a space, itself in lower case, or a word of its own between spaces."""
    if character in "\t\n\r" or (character.isspace() and unicodedata.category(character) != "Cc"):
        return " "
    if character == "\ufffd" or unicodedata.category(character) in DROPPED:
        return ""
    plain = "".join(part for part in unicodedata.normalize("NFD", character) if unicodedata.category(part) != "Mn")
    lower = "".join(f" {part} " if _is_punctuation(part) else part for part in plain.lower())
    return f" {lower} " if any(low <= ord(character) <= high for low, high in CHINESE) else lower


def _is_punctuation(character: str) -> bool:
    """Say whether BERT cuts here: all of ASCII's marks, symbols among them, and Unicode's punctuation but not its symbols."""
    if character.isascii():
        return character.isprintable() and not character.isalnum() and character != " "
    return unicodedata.category(character)[0] == "P"
