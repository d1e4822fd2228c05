"""Long texts in pieces: nothing is lost, nothing is too long, and every piece knows the headings that it stands under."""

from __future__ import annotations

from itertools import pairwise
from textwrap import dedent

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from datasette_embeddings.errors import ConfigError
from datasette_embeddings.limits import HEADING_SHARE, OVERLAP_SHARE
from datasette_embeddings.models import get_model
from datasette_embeddings.splitting import Piece, embedded_text, split

COUNTERS = {
    "characters": lambda texts: [len(text) for text in texts],
    "words": lambda texts: [len(text.split()) for text in texts],
    "bytes": lambda texts: [-(-len(text.encode("utf-8", "replace")) // 3) for text in texts],
    "special tokens": lambda texts: [len(text.split()) * 2 + 3 for text in texts],
    "more than its parts": lambda texts: [int(len(text) ** 1.1) for text in texts],
    "static": lambda texts: get_model("static").token_counts(texts),
    "minilm": lambda texts: get_model("minilm").token_counts(texts),
}
characters, words = COUNTERS["characters"], COUNTERS["words"]

MARKS = (
    *("# One\n", "## Two\n", "#### Four `x` ##\n", "Title\n=====\n", "Sub\n---\n", "***\nOver\n***\n", "---\n", "\r\n"),
    *(
        "```\n",
        "~~~\n",
        "    code()\n",
        "# ",
        "- item\n",
        "1. first\n",
        "\n",
        "\n\n",
        "A sentence. ",
        "word ",
        "and on\n",
    ),
    *("x" * 150, "東京。", "東" * 40, "é", "\U0001f469\u200d\U0001f680", "\ud800", "\x00", " ", "\t", "\u2028"),
)
TEXTS = st.lists(st.sampled_from(MARKS) | st.text(max_size=20), max_size=60).map("".join)


def prose(sentences: int, begin: int = 0) -> str:
    """Return sentences of six words, all different."""
    return " ".join(f"Number {n} of these small sentences." for n in range(begin, begin + sentences))


def headings(text: str, title: str = "") -> list[str]:
    """Return the headings of the pieces of a text in which each WORDS are four sentences, and two of them do not fit."""
    return [piece.heading for piece in split(dedent(text).replace("WORDS", prose(4)), title, words, 40)]


@pytest.mark.parametrize("counter", COUNTERS)
@settings(max_examples=60, deadline=None)
@given(text=TEXTS, title=st.sampled_from(["", "One", "The title of a row " * 8]), limit=st.sampled_from([12, 30, 128]))
@example(text="x" * 5_000, title="One", limit=12)
@example(text="東京" * 2_000, title="", limit=128)
@example(text="one two. " * 700, title="One", limit=30)
@example(text="a\n" * 900, title="", limit=12)
@example(text="# " + "a" * 300 + "\n\n" + "b c. " * 200, title="One", limit=30)
def test_every_character_in_order_and_within_the_limit(counter, text, title, limit):
    count = COUNTERS[counter]
    pieces = split(text, title, count, limit)
    assert pieces == split(text, title, count, limit)
    assert bool(pieces) == bool(text)
    if pieces:
        assert (pieces[0].start, pieces[-1].end) == (0, len(text))
        assert all(a.start < b.start <= a.end < b.end for a, b in pairwise(pieces))
        assert max(count([embedded_text(text, piece) for piece in pieces])) <= limit
        whole = embedded_text(text, Piece(0, len(text), pieces[0].heading))
        assert (len(pieces) == 1) == (count([whole])[0] <= limit)
    if counter == "characters":
        assert all(a.end - b.start <= OVERLAP_SHARE * limit for a, b in pairwise(pieces))


def test_a_text_that_fits_is_one_piece_with_its_title():
    (piece,) = split("A short text.", "Row", words, 10)
    assert piece == Piece(0, 13, "Row")
    assert embedded_text("A short text.", piece) == "Row\n\nA short text."
    assert embedded_text("A short text.", Piece(2, 7, "")) == "short"
    assert split("", "Row", words, 10) == []


MARKDOWN = """\
    # Guide

    WORDS

    ## Install

    WORDS

    ### From source

    WORDS

    ## [Usage](https://example.org) of `it` ##

    WORDS
    """


def test_markdown_is_cut_at_its_headings():
    assert headings(MARKDOWN) == ["Guide", "Guide > Install", "Guide > Install > From source", "Guide > Usage of it"]
    text = dedent(MARKDOWN).replace("WORDS", prose(4))
    pieces = split(text, "", words, 40)
    assert all(text[piece.start : piece.end].startswith("#") for piece in pieces)


def test_the_title_begins_every_path_and_is_not_said_twice():
    assert headings(MARKDOWN, "A book")[:2] == ["A book > Guide", "A book > Guide > Install"]
    assert headings(MARKDOWN, "guide")[:2] == ["guide", "guide > Install"]


def test_underlined_headings_of_markdown():
    text = "Guide\n=====\n\nWORDS\n\nInstall\n---\n\nWORDS\n\n### Source\n\nWORDS\n\nNone\n~~~~~\n\nWORDS"
    assert headings(text) == ["Guide", "Guide > Install", "Guide > Install > Source", "Guide > Install > Source"]


def test_underlined_headings_of_restructuredtext_nest_in_the_order_of_their_signs():
    text = """\
    *******
     Guide
    *******

    WORDS

    Install
    ~~~~~~~

    WORDS

    Source
    ^^^^^^

    WORDS

    ======  ======
    A table of it.
    ======  ======

    And so on
    ^^^

    WORDS

    Usage
    ~~~~~

    WORDS
    """
    assert list(dict.fromkeys(headings(text))) == [
        "Guide",
        "Guide > Install",
        "Guide > Install > Source",
        "Guide > Usage",
    ]


@pytest.mark.parametrize("fence", ["```", "~~~~", "```python"])
def test_comments_in_fenced_code_are_no_headings(fence):
    closing = fence.rstrip("python")
    code = f"{fence}\n# install\n\n# run\n{closing}\n"
    text = f"# Guide\n\n{prose(2)}\n\n{code}\n## Next\n\n{prose(2)}\n"
    pieces = split(text, "", words, 18)
    assert [piece.heading for piece in pieces] == ["Guide", "Guide", "Guide > Next"]
    assert text[pieces[1].start : pieces[1].end].strip() == code.strip()


def test_a_line_between_fences_is_no_heading():
    assert set(headings("Guide\n=====\n\nWORDS\n\n~~~~~~~\ninstall\n~~~~~~~\n\nWORDS")) == {"Guide"}


def test_settings_at_the_beginning_are_no_heading():
    assert headings("---\ntitle: x\n---\n\nWORDS\n\nPart\n====\n\nWORDS\n") == ["", "Part"]


def test_code_stays_whole_where_it_fits():
    code = "```\n" + "a = 1\n\n" * 5 + "```\n"
    text = f"{prose(3)}\n\n{code}\n{prose(3, 9)}\n"
    pieces = split(text, "", words, 20)
    assert any(code in text[piece.start : piece.end] for piece in pieces)


def test_small_sections_are_joined_up_to_the_limit():
    text = "".join(f"# Part {n}\n\nThree words each.\n\n" for n in range(6))
    pieces = split(text, "", words, 16)
    assert [text[piece.start :].partition("\n")[0] for piece in pieces] == ["# Part 0", "# Part 2", "# Part 4"]
    assert [piece.heading for piece in pieces] == ["", "", ""]  # no heading is that of two parts


def test_the_end_of_a_long_section_is_not_joined_to_the_next():
    text = f"# Long\n\n{prose(10)}\n\n# Short\n\n{prose(1)}\n\n# Last\n\n{prose(1)}"
    pieces = split(text, "", words, 40)
    assert [piece.heading for piece in pieces] == ["Long", "Long", ""]
    assert text[pieces[2].start :].startswith("# Short")


def test_sections_in_one_piece_stand_under_the_headings_that_they_share():
    text = "# Guide\n\nWords.\n\n" + "".join(f"## Part {n}\n\n{prose(1)}\n\n" for n in range(4))
    pieces = split(text, "Book", words, 40)
    several = [piece for piece in pieces if text.count("## ", piece.start, piece.end) > 1]
    assert several
    assert {piece.heading for piece in several} == {"Book > Guide"}


def test_a_heading_stays_with_its_text():
    text = f"# Guide\n\n## Install\n\n{prose(1)}\n\n{prose(4)}\n\n## Usage\n\n{prose(3)}"
    pieces = split(text, "", words, 30)
    assert pieces[0].heading == "Guide > Install"
    assert "sentences" in text[pieces[0].start : pieces[0].end]
    assert not any(text[piece.start : piece.end].strip().endswith("## Usage") for piece in pieces)


def test_long_paragraphs_are_cut_between_sentences_and_begin_with_the_last_one_before():
    text = f"# Guide\n\n{prose(60)}\n\n# Other\n\n{prose(60, 60)}"
    pieces = split(text, "", words, 80)
    assert all(text[piece.start : piece.end].rstrip().endswith(".") for piece in pieces)
    assert all(text[piece.start :].startswith(("#", "Number")) for piece in pieces)
    inside = [a.end - b.start for a, b in pairwise(pieces) if a.heading == b.heading]
    across = [a.end - b.start for a, b in pairwise(pieces) if a.heading != b.heading]
    assert min(inside) > 30
    assert across == [0]


@pytest.mark.parametrize("limit", [28, 240])
def test_wrapped_lines_are_cut_where_sentences_end(limit):
    text = "\n".join(
        f"This is the sentence with the number {n} which goes\non in the line after it." for n in range(90)
    )
    pieces = split(text, "", words, limit)
    assert all(text[piece.start :].startswith("This") for piece in pieces)


def test_pieces_are_filled():
    text = f"{prose(7)}\n\n{prose(1)}\n\n{prose(1)}"
    assert len(split(text, "", words, 40)) == 2  # the end of the first paragraph goes with the others
    lines = "\n".join(prose(1, n) for n in range(100))
    *full, _ = split(lines, "", lambda texts: [len(text.split()) + 10 for text in texts], 70)
    assert all(len(lines[piece.start : piece.end].split()) > 40 for piece in full)


def test_a_heading_gives_way_to_a_character_that_needs_the_room():
    assert split("\U0001f680" * 2, "R", lambda texts: [len(text.encode()) for text in texts], 6) == [
        Piece(0, 1, ""),
        Piece(1, 2, ""),
    ]


def test_a_long_path_takes_a_share_of_the_limit():
    text = "# The book\n\n" + "".join(
        f"{'#' * depth} A chapter of depth {depth}\n\n{prose(8)}\n\n" for depth in range(2, 6)
    )
    for limit, last in ((24, "A chapter of depth 5"), (40, "The book > … > A chapter of depth 5"), (16, "")):
        pieces = split(text, "", words, limit)
        assert all(words([piece.heading])[0] <= limit * HEADING_SHARE for piece in pieces)
        assert pieces[-1].heading == last


def test_a_limit_too_small_for_one_character_says_what_would_do():
    with pytest.raises(ConfigError, match=r"2 tokens.*'a' alone has 5.*5 at least"):
        split("a b", "Row", lambda texts: [5 * len(text.split()) for text in texts], 2)


@pytest.mark.parametrize(
    "text",
    ["x" * 2_000_000, "東京" * 200_000, "lorem ipsum " * 40_000, "# a\n\n" * 40_000, "\n" * 400_000],
    ids=["one word", "one line", "words", "headings", "empty lines"],
)
def test_work_grows_with_the_length(text):
    counted = 0

    def count(texts):
        nonlocal counted
        counted += sum(map(len, texts))
        return [len(text.encode()) // 4 + 1 for text in texts]

    pieces = split(text, "A title", count, 256)
    assert len(pieces) > len(text) / 1024
    assert counted < 8 * len(text)
