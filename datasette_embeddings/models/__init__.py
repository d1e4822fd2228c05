"""Models by name: `static`, `minilm`, `provider/name`, or a bare name that the `llm` tool knows.

`get_model` loads a model once a process; nothing heavy is imported before that. A provider is one module with a function
`load(name, settings) -> EmbeddingModel`, listed in PROVIDERS.
"""

from __future__ import annotations

import threading
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

from datasette_embeddings.errors import ModelError, nearest
from datasette_embeddings.models.base import Embedded, EmbeddingModel, Item, Purpose

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "BUILT_IN",
    "PROVIDERS",
    "Embedded",
    "EmbeddingModel",
    "Item",
    "Provider",
    "Purpose",
    "available",
    "built_in",
    "configured_name",
    "get_model",
    "is_loaded",
    "parse_name",
    "said_of",
    "stored_name",
]


class Provider(NamedTuple):
    """One line of `datasette embeddings models`."""

    model: str
    about: str
    language: str
    dimensions: int | str
    tokens: int | str
    state: str


PROVIDERS: dict[str, tuple[str, str]] = {
    "static": ("static", "token table shipped with the package; numpy only, English, no download"),
    "minilm": ("minilm", "all-MiniLM-L6-v2 by onnxruntime, English, 256 tokens"),
    "onnx": ("exported", "onnx/FOLDER: a model exported to ONNX, of texts, or of texts and pictures (CLIP)"),
    "bridge": ("bridge", "bridge/FOLDER: a network of pictures and a map to a text model, as the demonstration has it"),
    "words": ("words", "words/FILE: word vectors; numpy only, a text is the mean of the words that it knows"),
    "sentence-transformers": (
        "sentence_transformers",
        "sentence-transformers/NAME: any model of that library, some of them of texts and pictures (CLIP)",
    ),
    "openai": ("openai", "openai/NAME: OpenAI or any compatible server"),
    "llm": ("llm", "llm/NAME: any embedding model of the llm tool, some of them of texts and pictures"),
}
"""Provider -> (module here, one line about it)."""

MINILM_ALIASES = {"sentence-transformers/all-MiniLM-L6-v2", "all-MiniLM-L6-v2"}
"""Spellings in files made by llm; run by `minilm` where torch is absent, as the weights are the same."""

BUILT_IN = ("static", "minilm")
"""Models that come with the package or with weights checked against its own hashes."""

_loaded: dict[str, EmbeddingModel] = {}
_lock = threading.RLock()  # a bridge loads its text model while it is loaded itself


def parse_name(name: str) -> tuple[str, str]:
    """Return (provider, name within it); a bare name that is no provider of ours belongs to llm.

    >>> parse_name("minilm"), parse_name("openai/x"), parse_name("text-embedding-3-small"), parse_name("3-small")
    (('minilm', ''), ('openai', 'x'), ('openai', 'text-embedding-3-small'), ('llm', '3-small'))
    """
    provider, _, rest = name.partition("/")
    if provider in PROVIDERS and (rest or provider in {"static", "minilm"}):
        return provider, rest
    if name.startswith("text-embedding-") and "/" not in name:
        return "openai", name
    return "llm", name


NEEDS = {
    "minilm": ("onnxruntime", "minilm"),
    "onnx": ("onnxruntime", "minilm"),
    "bridge": ("onnxruntime", "minilm"),
    "sentence-transformers": ("sentence_transformers", "sentence-transformers"),
    "openai": ("openai", "openai"),
    "llm": ("llm", "llm"),
}
"""Provider -> (package, extra that brings it)."""


def available() -> list[Provider]:
    """Return every provider with whether it can be used here; the two built-in models are loaded to see."""
    return [_look_at(name, about) for name, (_, about) in PROVIDERS.items()]


def _look_at(name: str, about: str) -> Provider:
    package, extra = NEEDS.get(name, ("numpy", ""))
    if find_spec(package) is None:
        return Provider(name, about, "", "", "", f"pip install 'datasette-embeddings-suite[{extra}]'")
    if name not in {"static", "minilm"}:
        return Provider(f"{name}/...", about, "", "", "", "ready")
    try:
        model = get_model(name)
    except ModelError as error:
        return Provider(name, about, "", "", "", str(error))
    return Provider(name, about, model.language, model.dimensions or "", model.max_tokens or "", "ready")


def get_model(name: str, settings: Mapping[str, Mapping[str, Any]] | None = None) -> EmbeddingModel:
    """Return the model of that name, loading it at most once a process.

    *settings* is the `models:` block of the configuration: model name -> its settings.
    Raises ModelError (MissingExtra, MissingKey, ...) with what to do about it.
    """
    settings = settings or {}
    name, own, key = _identity(name, settings)
    if key in _loaded:  # without waiting for a model that another thread is loading
        return _loaded[key]
    with _lock:
        if key not in _loaded:
            _loaded[key] = _load(name, own)
        return _loaded[key]


def is_loaded(name: str, settings: Mapping[str, Mapping[str, Any]]) -> bool:
    """Tell whether `get_model` returns at once."""
    return _identity(name, settings)[2] in _loaded


def _identity(name: str, settings: Mapping[str, Mapping[str, Any]]) -> tuple[str, dict[str, Any], str]:
    """Return the name that is loaded, its own settings, and both as a key."""
    name = configured_name(name, settings, settings) or name
    own = settings_of(name, settings)
    return name, own, f"{name} {sorted(own.items())!r}"


def configured_name(name: str, known: Iterable[str], settings: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return which of the *known* names means the same model as *name*, None where none does.

    *name* may be spelled otherwise, or be what stands in the tables of llm: a model of a configuration is loaded with its
    settings, whatever a file calls it.
    """
    wanted = parse_name(name)
    known = sorted(known)
    spelled = (other for other in known if parse_name(other) == wanted)
    stored = (other for other in known if stored_name(other, settings) == name)
    return next(spelled, None) or next(stored, None)


def settings_of(name: str, settings: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the settings of one model, {} where it has none."""
    wanted = parse_name(name)
    return next((dict(own) for other, own in settings.items() if parse_name(other) == wanted), {})


def stored_name(name: str, settings: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a model's name as a build keeps it in `collections`, for llm to resolve; the model is not loaded.

    A bare OpenAI name means OpenAI itself: a model that *settings* (the configuration's `models`) puts on another server
    keeps its full name.

    >>> stored_name("llm/clip", {}), stored_name("minilm", {})
    ('clip', 'minilm')
    >>> stored_name("openai/text-embedding-3-small", {"text-embedding-3-small": {"dimensions": 512}})
    'text-embedding-3-small-512'
    >>> stored_name("text-embedding-3-small", {"openai/text-embedding-3-small": {"base_url": "http://localhost/v1"}})
    'openai/text-embedding-3-small'
    """
    provider, rest = parse_name(name)
    if provider == "openai":
        from datasette_embeddings.models.openai import name_at_llm

        return name_at_llm(rest, settings_of(name, settings)) or f"openai/{rest}"
    return rest if provider == "llm" else name


def built_in(name: str) -> str | None:
    """Return the one of BUILT_IN that a name means, None where it means another model.

    >>> built_in("static"), built_in("sentence-transformers/all-MiniLM-L6-v2"), built_in("openai/x")
    ('static', 'minilm', None)
    """
    if name in BUILT_IN:
        return name
    return "minilm" if name in MINILM_ALIASES else None


def said_of(name: str) -> str:
    """Return what people should know of a model beside its name: the sentences ABOUT of its provider, "" for none; nothing is loaded."""
    module = import_module(f"datasette_embeddings.models.{PROVIDERS[parse_name(name)[0]][0]}")
    return str(getattr(module, "ABOUT", ""))


def _load(name: str, settings: Mapping[str, Any]) -> EmbeddingModel:
    if not name.strip():
        raise ModelError(f"a model name is empty; {nearest('', PROVIDERS)}")
    provider, rest = parse_name(name)
    if name in MINILM_ALIASES and not _has_torch():
        provider, rest = "minilm", ""
    module = import_module(f"datasette_embeddings.models.{PROVIDERS[provider][0]}")
    model: EmbeddingModel = module.load(rest, settings)
    return model


def _has_torch() -> bool:
    return find_spec("sentence_transformers") is not None and find_spec("torch") is not None
