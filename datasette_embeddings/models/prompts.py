"""Prompts: what a model was trained to find before documents and before queries, from its settings, its files, or its card.

A model without them in its place answers worse without a word, so nobody has to know of them: a model that is loaded has its
prompts, a build keeps those that it used, and searches take them from there.
"""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from datasette_embeddings.models.base import Item, Purpose

SETTINGS = ("query_prompt", "document_prompt")

DOCUMENT_NAMES = ("document", "passage", "corpus")
"""Under which of these names a model of sentence-transformers keeps it, in the order in which that library looks."""


class Prompts(NamedTuple):
    """The text before every document and before every query, and who says so, in words; all "" for a model without."""

    document: str = ""
    query: str = ""
    origin: str = ""

    def of(self, purpose: Purpose) -> str:
        """Return the text for one purpose."""
        return self.query if purpose == "query" else self.document

    @property
    def words(self) -> str:
        r"""What stands where, in words; "" for nothing anywhere.

        >>> Prompts("passage: ", "query: ").words
        '"passage: " before documents, "query: " before queries'
        >>> Prompts(query="find:\n").words
        'nothing before documents, "find:\\n" before queries'
        """
        if not (self.document or self.query):
            return ""
        return f"{_quoted(self.document)} before documents, {_quoted(self.query)} before queries"


NO_PROMPTS = Prompts()


def _quoted(text: str) -> str:
    return '"{}"'.format(text.replace("\n", "\\n")) if text else "nothing"


class Card(NamedTuple):
    """What the card of some models says. *names*: the last parts of theirs; *source*: where it says so."""

    names: str
    document: str
    query: str
    source: str


PASSAGES = "Represent this sentence for searching relevant passages: "
WEB_SEARCH = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"
HUB = "https://huggingface.co/"

CARDS = (
    Card(
        "e5-small e5-base e5-large e5-small-v2 e5-base-v2 e5-large-v2 multilingual-e5-small multilingual-e5-base multilingual-e5-large",
        "passage: ",
        "query: ",
        HUB + "intfloat/multilingual-e5-small#faq",
    ),
    Card(
        "multilingual-e5-large-instruct e5-mistral-7b-instruct",
        "",
        WEB_SEARCH + " ",
        HUB + "intfloat/multilingual-e5-large-instruct",
    ),
    Card(
        "bge-small-en bge-base-en bge-large-en bge-small-en-v1.5 bge-base-en-v1.5 bge-large-en-v1.5",
        "",
        PASSAGES,
        HUB + "BAAI/bge-small-en-v1.5#model-list",
    ),
    Card(
        "nomic-embed-text nomic-embed-text-v1 nomic-embed-text-v1.5 nomic-embed-text-v2-moe modernbert-embed-base",
        "search_document: ",
        "search_query: ",
        HUB + "nomic-ai/nomic-embed-text-v1.5#task-instruction-prefixes",
    ),
    Card("mxbai-embed-large mxbai-embed-large-v1", "", PASSAGES, HUB + "mixedbread-ai/mxbai-embed-large-v1"),
    Card(
        "snowflake-arctic-embed snowflake-arctic-embed-xs snowflake-arctic-embed-s snowflake-arctic-embed-m "
        "snowflake-arctic-embed-l snowflake-arctic-embed-m-long snowflake-arctic-embed-m-v1.5",
        "",
        PASSAGES,
        HUB + "Snowflake/snowflake-arctic-embed-m-v1.5",
    ),
    Card(
        "snowflake-arctic-embed2 snowflake-arctic-embed-m-v2.0 snowflake-arctic-embed-l-v2.0",
        "",
        "query: ",
        HUB + "Snowflake/snowflake-arctic-embed-l-v2.0",
    ),
    Card(
        "embeddinggemma embeddinggemma-300m",
        "title: none | text: ",
        "task: search result | query: ",
        HUB + "google/embeddinggemma-300m#prompt-instructions",
    ),
    Card(
        "qwen3-embedding qwen3-embedding-0.6b qwen3-embedding-4b qwen3-embedding-8b",
        "",
        WEB_SEARCH,
        HUB + "Qwen/Qwen3-Embedding-0.6B#usage",
    ),
)
"""Models that need prompts, and whose servers, converted files or older folders do not say so; as of November 2026."""

PACKING = re.compile(r"(:[\w.-]+)?\Z|[-_.](gguf|onnx|mlx|int8|fp16|fp32|4bit|8bit)(?=[-_.:]|\Z)")
"""What names of converted models have behind the name: `:latest` (Ollama), `-GGUF`, `-onnx`."""


def card(name: str) -> Card | None:
    """Return what is known of a model, by the last part of its name; None where nothing is.

    >>> [bool(card(name)) for name in ("intfloat/e5-small-v2", "nomic-embed-text:latest", "models/e5", "e5-small-mine")]
    [True, True, False, False]
    """
    last = PACKING.sub("", PurePath(name.replace("\\", "/")).name.lower())
    return next((one for one in CARDS if last in one.names.split()), None)


def prompts_of(
    name: str, settings: Mapping[str, object], own: Mapping[str, str] | None = None, default: str | None = None
) -> Prompts:
    """Return the prompts of a model: from its *settings*, else as its files say, else as is known of it by *name*.

    *own*: name of a prompt -> text, as config_sentence_transformers.json has them; *default*: the name of the one that stands for others.
    """
    found = _own(own or {}, default)
    known = card(name)
    if not (found.document or found.query) and known:
        found = Prompts(known.document, known.query, f"as its card says ({known.source})")
    given = {key: str(settings[key]) for key in SETTINGS if settings.get(key) is not None}
    if not given:
        return found
    query, document = (given.get(key, text) for key, text in zip(SETTINGS, (found.query, found.document), strict=True))
    return Prompts(document, query, "as its settings say")


def _own(own: Mapping[str, str], default: str | None) -> Prompts:
    """Return the prompts that a model's files name, as sentence-transformers chooses among them."""
    other = own.get(default or "", "")
    query = own.get("query", other)
    document = next((own[name] for name in DOCUMENT_NAMES if name in own), other)
    return Prompts(document, query, "as its files say" if document or query else "")


def before(prompt: str, items: Sequence[Item]) -> list[Item]:
    """Return items with a prompt before each text; images stay as they are."""
    return [prompt + item if isinstance(item, str) else item for item in items]
