"""The configuration: the `datasette-embeddings` block of metadata.yml, or a file of its own, as checked dataclasses."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasette_embeddings import chat
from datasette_embeddings.catalog import QUERYABLE
from datasette_embeddings.errors import ConfigError, nearest
from datasette_embeddings.limits import MAX_CLUSTERS, MAX_LABELS, MAX_SIMILARITIES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PLUGIN = "datasette-embeddings"
METADATA_FILES = ("metadata.yml", "metadata.yaml", "metadata.json")
DATASETTE_FILES = ("datasette.yml", "datasette.yaml", "datasette.json")
DATABASE_SUFFIXES = (".db", ".sqlite", ".sqlite3")
SECRET_WORDS = ("api_key", "apikey", "key", "token", "secret", "password", "authorization", "credentials")


@dataclass(frozen=True)
class Prefix:
    """Texts put before what is embedded, in place of the model's own prompts; None where it has its own.

    *document* is part of the content that is embedded and hashed, as with `llm embed-multi --prepend`.
    """

    document: str | None = None
    query: str | None = None

    @classmethod
    def of(cls, document: str | None, query: str | None = None) -> Prefix:
        """Return what one text for documents means: an empty one, that the model's prompts are wanted for neither."""
        return cls(document, "" if document == "" and query is None else query)


@dataclass(frozen=True)
class CollectionConfig:
    """One collection as the configuration describes it.

    Rows come from *table* (its *columns*, *key* and *where*) or from *sql*, whose first column is the id.
    *chunk*: tokens of one chunk, 0 for as many as suit the model; None where rows are embedded whole. *clusters*, *projection* and *labels* as in
    `catalog.Stages`. *image*: the column of pictures, or of their paths below the folder *images*, in place of texts.
    """

    name: str
    database: str | None = None
    table: str | None = None
    sql: str | None = None
    columns: tuple[str, ...] = ()
    template: str | None = None
    key: tuple[str, ...] = ()
    where: str | None = None
    model: str | None = None
    prefix: Prefix = field(default_factory=Prefix)
    similarities: int = 10
    store: bool = False
    chunk: int | None = None
    clusters: str | None = None
    projection: str | None = None
    labels: str | None = None
    image: str | None = None
    images: str | None = None


@dataclass(frozen=True)
class Config:
    """The whole block. *models* maps a model's name to its settings; *limits* bounds spending.

    *chat_model* answers questions, None where quotations do.
    """

    default_model: str = "static"
    chat_model: str | None = None
    collections: Mapping[str, CollectionConfig] = field(default_factory=dict)
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    allow_sql: bool = False
    trusted_schema: bool = False
    limits: Mapping[str, float] = field(default_factory=dict)
    table_prefix: str = ""
    place: str = "configuration"

    def model_of(self, collection: CollectionConfig) -> str:
        """Return the name of the model that embeds a collection."""
        return collection.model or self.default_model

    def for_database(self, name: str) -> list[CollectionConfig]:
        """Return the collections of one database, in the order of the configuration."""
        return [c for c in self.collections.values() if c.database in {None, name}]


KNOWN_LIMITS = ("max_cost_usd", "queries_per_minute", "answers_per_minute", "index_megabytes")


def parse(block: object, place: str = "configuration") -> Config:
    """Return the checked configuration; raises ConfigError naming the place, the key and its nearest known one."""
    block = _mapping(block or {}, place)
    refuse_secrets(block, place)
    _known(block, [f.name for f in fields(Config) if f.name != "place"], place)
    collections = {
        str(name): _collection(str(name), value, f"{place}: collections.{name}")
        for name, value in _mapping(block.get("collections") or {}, f"{place}: collections").items()
    }
    limits = _mapping(block.get("limits") or {}, f"{place}: limits")
    _known(limits, KNOWN_LIMITS, f"{place}: limits")
    for name, value in limits.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
            raise ConfigError(f"{place}: limits.{name}: a number from 0 on was expected; found {value!r}")
    models = {
        str(name): _mapping(value or {}, f"{place}: models.{name}")
        for name, value in _mapping(block.get("models") or {}, f"{place}: models").items()
    }
    chat_model = _optional(block, "chat_model", place)
    if chat_model is not None:
        _check_chat(chat_model, models, f"{place}: chat_model")
    return Config(
        default_model=_text(block.get("default_model", "static"), f"{place}: default_model"),
        chat_model=chat_model,
        collections=collections,
        models=models,
        allow_sql=_typed(block.get("allow_sql", False), bool, f"{place}: allow_sql"),
        trusted_schema=_typed(block.get("trusted_schema", False), bool, f"{place}: trusted_schema"),
        limits=limits,
        table_prefix=_text(block.get("table_prefix", ""), f"{place}: table_prefix"),
        place=place,
    )


def _check_chat(name: str, models: Mapping[str, Mapping[str, Any]], place: str) -> None:
    try:
        chat.check(name, models)
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from None


def _collection(name: str, value: object, place: str) -> CollectionConfig:
    value = _mapping(value, place)
    _known(value, [f.name for f in fields(CollectionConfig) if f.name != "name"], place)
    if not QUERYABLE.match(name):
        raise ConfigError(
            f"{place}: a collection's name is made of letters, digits and _, as it becomes part of query names"
        )
    if bool(value.get("table")) == bool(value.get("sql")):
        raise ConfigError(f"{place}: give either `table` or `sql` as the source of its rows")
    useless = [key for key in ("columns", "where", "key") if value.get("sql") and value.get(key)]
    if useless:
        raise ConfigError(
            f"{place}: {useless[0]!r} belongs to `table`; with `sql`, the query itself chooses columns and rows, the id first"
        )
    if value.get("table") and sum(bool(value.get(key)) for key in ("columns", "template", "image")) != 1:
        raise ConfigError(
            f"{place}: say what is embedded of each row, by `columns: [..]`, `template: ...` or `image: COLUMN`, one of them"
        )
    _check_image(value, place)
    similarities = _typed(value.get("similarities", 10), int, f"{place}: similarities")
    if not 0 <= similarities <= MAX_SIMILARITIES:
        raise ConfigError(f"{place}: similarities is a number from 0 to {MAX_SIMILARITIES}; found {similarities}")
    return CollectionConfig(
        name=name,
        database=_optional(value, "database", place),
        table=_optional(value, "table", place),
        sql=_optional(value, "sql", place),
        columns=_names(value.get("columns"), f"{place}: columns"),
        template=_optional(value, "template", place),
        key=_names(value.get("key"), f"{place}: key"),
        where=_optional(value, "where", place),
        model=_optional(value, "model", place),
        prefix=_prefix(value.get("prefix"), f"{place}: prefix"),
        similarities=similarities,
        store=_typed(value.get("store", False), bool, f"{place}: store"),
        chunk=_chunk(value.get("chunk", False), f"{place}: chunk"),
        clusters=_clusters(value.get("clusters"), f"{place}: clusters"),
        projection=_projection(value.get("projection"), f"{place}: projection"),
        labels=_labels(value, f"{place}: labels"),
        image=_optional(value, "image", place),
        images=_optional(value, "images", place),
    )


def _check_image(collection: Mapping[str, object], place: str) -> None:
    """Raise ConfigError for settings of a collection that do not go with pictures, or need them."""
    if collection.get("images") and not collection.get("image"):
        raise ConfigError(
            f"{place}: `images` is the folder of pictures that a column names; name that column by `image: COLUMN`"
        )
    useless = [key for key in ("sql", "chunk") if collection.get("image") and collection.get(key)]
    if useless:
        raise ConfigError(
            f"{place}: `image` is a column of `table`, whose pictures are embedded whole; remove {useless[0]!r}"
        )


def _clusters(value: object, place: str) -> str | None:
    """Return how many clusters are wanted, as text."""
    if value is None or value is False or value == 0:
        return None
    if value is True or value == "auto":
        return "auto"
    if not isinstance(value, int) or not 1 <= value <= MAX_CLUSTERS:
        raise ConfigError(f"{place}: auto, or a number from 1 to {MAX_CLUSTERS}, was expected; found {value!r}")
    return str(value)


PROJECTIONS = ("pca", "umap")


def _projection(value: object, place: str) -> str | None:
    """Return by which method items are placed on a map."""
    if value is None or value is False:
        return None
    if value is True:
        return PROJECTIONS[0]
    if value not in PROJECTIONS:
        raise ConfigError(f"{place}: {' or '.join(PROJECTIONS)} was expected; found {value!r}")
    return str(value)


def _labels(collection: Mapping[str, object], place: str) -> str | None:
    """Return what gives labels, a column of the table or examples of each, as JSON."""
    value = collection.get("labels")
    if value is None:
        return None
    if isinstance(value, str):
        if not collection.get("table"):
            raise ConfigError(
                f"{place}: a column has labels only where the source is a `table`; give example texts of each label"
            )
        return json.dumps(value, ensure_ascii=False)
    examples = {str(label): _examples(texts, f"{place}.{label}") for label, texts in _mapping(value, place).items()}
    if not 2 <= len(examples) <= MAX_LABELS:
        raise ConfigError(f"{place}: examples of 2 to {MAX_LABELS:,} labels were expected; found {len(examples)}")
    return json.dumps(examples, ensure_ascii=False)


def _examples(value: object, place: str) -> tuple[str, ...]:
    texts = (value,) if isinstance(value, str) else value
    if not isinstance(texts, (list, tuple)) or not texts or not all(isinstance(t, str) and t.strip() for t in texts):
        raise ConfigError(f"{place}: a list of example texts was expected; found {value!r}")
    return tuple(texts)


def _chunk(value: object, place: str) -> int | None:
    if isinstance(value, bool):
        return 0 if value else None
    if not isinstance(value, int) or value < 1:
        raise ConfigError(f"{place}: true, or the number of tokens of one chunk, was expected; found {value!r}")
    return value


def _prefix(value: object, place: str) -> Prefix:
    if value is None:
        return Prefix()
    if isinstance(value, str):
        return Prefix.of(value)
    value = _mapping(value, place)
    _known(value, ("document", "query"), place)
    return Prefix(_optional(value, "document", place), _optional(value, "query", place))


def _names(value: object, place: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise ConfigError(f"{place}: a column name or a list of them was expected; found {value!r}")


def _mapping(value: object, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{place}: keys and values were expected; found {type(value).__name__}")
    return value


def _known(value: Mapping[str, object], known: Any, place: str) -> None:  # noqa: ANN401
    for key in value:
        if key not in known:
            raise ConfigError(f"{place}: unknown key {key!r}; {nearest(str(key), known)}")


def _typed(value: object, kind: type, place: str) -> Any:  # noqa: ANN401
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ConfigError(f"{place}: {kind.__name__} was expected; found {value!r}")
    return value


def _text(value: object, place: str) -> str:
    return str(_typed(value, str, place))


def _optional(value: Mapping[str, object], key: str, place: str) -> str | None:
    return None if value.get(key) is None else _text(value[key], f"{place}: {key}")


def refuse_secrets(block: object, place: str) -> None:
    """Raise ConfigError naming the place of a literal API key; only `{$env: NAME}` may stand there."""
    for where, secret, value in _walk(block, place):
        if secret and value is not None:
            raise ConfigError(
                f"{where} holds a literal value; keys are read from the environment only: write {{$env: NAME_OF_VARIABLE}}"
            )
        if isinstance(value, str) and URL_PASSWORD.match(value):
            raise ConfigError(f"{where} holds a password inside a URL; keys are read from the environment only")


URL_PASSWORD = re.compile(r"\w[\w+.-]*://[^/?#@]*:[^/?#@]*@")


def _walk(value: object, place: str, secret: bool = False) -> Iterator[tuple[str, bool, object]]:
    """Yield (place, whether it is or lies below a key that names a secret, value) of every plain value."""
    if isinstance(value, dict) and list(value) != ["$env"]:
        for key, inner in value.items():
            where = f"{place}.{key}" if ":" in place else f"{place}: {key}"
            yield from _walk(inner, where, secret or _names_secret(str(key), place))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _walk(inner, f"{place}[{number}]", secret)
    elif not isinstance(value, dict):
        yield place, secret, value


def _names_secret(key: str, place: str) -> bool:
    """Tell whether a key below *place* names a secret; names of collections and models, and key columns, do not."""
    if place.endswith((": collections", ": models")) or (key == "key" and ": collections." in place):
        return False
    key = key.lower().replace("-", "_")
    return any(word == key or key.endswith("_" + word) for word in SECRET_WORDS)


def read_file(path: Path) -> dict[str, Any]:
    """Return the contents of a YAML or JSON file; raises ConfigError with the line of a mistake."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    try:
        if path.suffix == ".json":
            value = json.loads(text)
        else:
            import yaml

            value = yaml.safe_load(text)
    except Exception as error:
        raise ConfigError(f"{path} is not valid {'JSON' if path.suffix == '.json' else 'YAML'}: {error}") from error
    return _mapping(value or {}, str(path))


def refuse_misplaced(content: Mapping[str, Any], place: str) -> None:
    """Raise ConfigError where our block stands where nothing reads it, or under another name than ours."""
    plugins = content.get("plugins") or {}
    names = plugins if isinstance(plugins, dict) else {}
    wrong = next((name for name in names if name != PLUGIN and LIKE_OURS.match(str(name))), None)
    if wrong and PLUGIN not in names:
        raise ConfigError(f"{place}: the block under `plugins` is called {PLUGIN!r}; found {wrong!r}")
    databases = content.get("databases") or {}
    inner = databases.values() if isinstance(databases, dict) else ()
    below = any(PLUGIN in (one.get("plugins") or {}) for one in inner if isinstance(one, dict))
    if below or PLUGIN in content:
        raise ConfigError(
            f"{place}: the block {PLUGIN!r} stands under `plugins` at the top of the file, and nowhere else"
        )


LIKE_OURS = re.compile(r"datasette[-_]embeddings?([-_]suite)?\Z", re.I)


def load(path: Path | None, directory: Path) -> Config:
    """Return the configuration in *path*, or else in the metadata.* and datasette.* files of *directory*."""
    if path is not None:
        content = read_file(path)
        refuse_misplaced(content, path.name)
        block = _mapping(content["plugins"] or {}, f"{path}: plugins").get(PLUGIN) if "plugins" in content else content
        return parse(block, path.name)
    found = []
    for names in (METADATA_FILES, DATASETTE_FILES):
        existing = next((directory / name for name in names if (directory / name).is_file()), None)
        if existing:
            content = read_file(existing)
            refuse_misplaced(content, existing.name)
            block = _mapping(content.get("plugins") or {}, f"{existing}: plugins").get(PLUGIN)
            if block is not None:
                found.append((existing, block))
    if len(found) > 1:
        raise ConfigError(both_places(found[0][0].name, found[1][0].name))
    return parse(found[0][1], found[0][0].name) if found else Config()


def both_places(one: str, other: str) -> str:
    """Say what is wrong with a configuration in two files."""
    return (
        f"`plugins: {PLUGIN}:` stands in both {one} and {other}, and Datasette 1.0 would ignore one of them; "
        f"keep it in {one} only"
    )


def databases_in(directory: Path) -> list[Path]:
    """Return the database files that `datasette DIRECTORY` would serve."""
    return sorted(p for p in directory.iterdir() if p.suffix in DATABASE_SUFFIXES and p.is_file())


def environment(name: str) -> str | None:
    """Return an environment variable, None when unset or empty."""
    return os.environ.get(name) or None
