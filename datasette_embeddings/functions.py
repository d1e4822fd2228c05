"""The SQL functions, defined once: registration (`sql`), documentation and tests all come from the table FUNCTIONS."""

from __future__ import annotations

import ctypes
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import orjson

from datasette_embeddings import keys, scan, vectors
from datasette_embeddings.answers.gathering import Wish, gather
from datasette_embeddings.answers.prompting import context
from datasette_embeddings.answers.question import question_of
from datasette_embeddings.catalog import tables_and_collection
from datasette_embeddings.database import item_id
from datasette_embeddings.errors import BadVector, DimensionMismatch, EmbeddingsError
from datasette_embeddings.limits import CONTEXT_TOKENS, DEFAULT_K, MAX_CONTEXT_TOKENS
from datasette_embeddings.repeats import answer_once
from datasette_embeddings.search import hybrid_items, nearest_items
from datasette_embeddings.snapshots import memory_for
from datasette_embeddings.sqlthreads import recorded

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from datasette_embeddings.catalog import Collection
    from datasette_embeddings.embedder import Embedder
    from datasette_embeddings.models import Purpose
    from datasette_embeddings.search import Hit
    from datasette_embeddings.tables import Tables

PURPOSES = ("document", "query")


class Session:
    """What the functions of one connection may reach: that connection, and models.

    The connection owns its functions, and Python's garbage collector does not see that: functions that owned the connection
    in turn would keep it, and its open file, for ever.
    """

    def __init__(self, conn: sqlite3.Connection, embedder: Embedder) -> None:
        self._borrow = borrowed(conn)
        self._memory = memory_for(conn)  # as long as the functions that own this session, and so as the connection
        self.sign = object()  # tells this connection from others, without keeping what belongs to it
        self.embedder = embedder

    @property
    def conn(self) -> sqlite3.Connection:
        """The connection that is running a function of this session; only such a function may ask."""
        conn = self._borrow()
        if conn is None:
            raise EmbeddingsError(
                "the object that these functions were registered through is gone; keep it while they run"
            )
        return conn


def borrowed(conn: sqlite3.Connection) -> Callable[[], sqlite3.Connection | None]:
    """Return what gives *conn* back while it lives, without keeping it alive.

    CPython's own connections take no weak references. Their address does as well: SQLite runs a function only from within
    its connection, which therefore lives.
    """
    try:
        return weakref.ref(conn)
    except TypeError:
        address = id(conn)
        return lambda: cast("sqlite3.Connection", ctypes.cast(address, ctypes.py_object).value)


@dataclass(frozen=True)
class SQLFunction:
    """One SQL function.

    *make* gives the Python callable for a session, for an aggregate its class. *examples* are (SQL expression, result)
    with the result as SQLite returns it; they stand in the documentation and run in the tests.
    """

    name: str
    arguments: tuple[str, ...]
    gives: str
    about: str
    make: Callable[[Session], Any]
    examples: tuple[tuple[str, object], ...] = ()
    aliases: tuple[str, ...] = ()
    aggregate: bool = False

    @property
    def arities(self) -> list[int]:
        """How many arguments each form takes; -1 for any number."""
        return sorted({-1 if "..." in form else len(form.split(",")) for form in self.arguments})


def strict(function: Callable[..., Any]) -> Callable[[Session], Callable[..., Any]]:
    """Make a function NULL whenever one of its arguments is NULL."""

    @recorded
    def null_for_null(*arguments: object) -> object:
        return None if None in arguments else function(*arguments)

    return lambda _: null_for_null


def dot(a: object, b: object) -> float:
    """Return the dot product of two embeddings."""
    return float(np.dot(*vectors.pair(a, b)))


def l2(a: object, b: object) -> float:
    """Return the Euclidean distance of two embeddings."""
    x, y = vectors.pair(a, b)
    return float(np.linalg.norm(x - y))


def add(a: object, b: object) -> bytes:
    """Return the sum of two embeddings."""
    x, y = vectors.pair(a, b)
    return vectors.encode(x + y)


def subtract(a: object, b: object) -> bytes:
    """Return the difference of two embeddings."""
    x, y = vectors.pair(a, b)
    return vectors.encode(x - y)


def scale(a: object, factor: object) -> bytes:
    """Return an embedding times a number."""
    if not isinstance(factor, (int, float)):
        raise BadVector(f"embed_scale multiplies by a number; found {vectors.kind(factor)}")
    return vectors.encode(vectors.decode(a).astype(np.float64) * factor)


def spectrum(v: object, low: object, high: object) -> float:
    """Return where *v* lies between two poles, 0 at *low* and 1 at *high*, all three taken as unit vectors."""
    x, a = vectors.pair(v, low)
    _, b = vectors.pair(v, high)
    x, a, b = vectors.direction(x), vectors.direction(a), vectors.direction(b)
    axis = b - a
    length = float(np.dot(axis, axis))
    if length == 0.0:
        raise BadVector("embed_spectrum needs two different poles; low and high are the same direction")
    return float(np.clip(np.dot(x - a, axis) / length, 0.0, 1.0))


def key_part(item: object, number: object) -> str | None:
    """Return one part of a compound item id, None where it has no such part."""
    return keys.key_part(str(item), as_count(number))


def joined_id(*parts: object) -> str | None:
    """Return the item id of a row with a compound key."""
    return item_id(parts)


class Average:
    """Aggregate: the plain mean of embeddings, summed in float64; NULL over no rows, NULLs left out."""

    def __init__(self) -> None:
        self.total: Any = None
        self.count = 0

    @recorded
    def step(self, blob: object) -> None:
        """Add one row."""
        if blob is None:
            return
        vector = vectors.decode(blob)
        if self.total is None:
            self.total = np.zeros(vector.size)
        if self.total.size != vector.size:
            raise DimensionMismatch(
                f"embeddings of different dimensions have no average: {self.total.size} and {vector.size}"
            )
        self.total += vector
        self.count += 1

    @recorded
    def finalize(self) -> bytes | None:
        """Return the mean."""
        return None if self.total is None else vectors.encode(self.total / self.count)


def make_text(session: Session) -> Callable[..., bytes | None]:
    """Return embed_text for a session."""

    @recorded
    def embed_text(*arguments: object) -> bytes | None:
        if None in arguments:
            return None
        model, text, purpose = session.embedder.default_model, arguments[-1], "document"
        if len(arguments) > 1:
            model, text = str(arguments[0]), arguments[1]
        if len(arguments) == 3:
            purpose = str(arguments[2])
        return session.embedder.item(model, as_text(text), as_purpose(purpose))

    return embed_text


def as_purpose(value: object) -> Purpose:
    """Return what a text is embedded for."""
    if value not in PURPOSES:
        raise EmbeddingsError(f"the purpose of a text is document or query; found {str(value)[:40]!r}")
    return cast("Purpose", value)


def make_query(session: Session) -> Callable[..., bytes | None]:
    """Return embed_query for a session."""

    @recorded
    def embed_query(name: object, text: object, purpose: object = "query") -> bytes | None:
        if name is None or text is None or purpose is None:
            return None
        collection = tables_and_collection(session.conn, str(name))[1]
        return session.embedder.query(collection, as_text(text), as_purpose(purpose))

    return embed_query


def make_image(session: Session) -> Callable[..., bytes | None]:
    """Return embed_image for a session."""

    @recorded
    def embed_image(model: object, image: object) -> bytes | None:
        if model is None or image is None:
            return None
        if not isinstance(image, bytes):
            raise BadVector(f"embed_image takes the image file as a BLOB; found {vectors.kind(image)}")
        return session.embedder.item(str(model), image, "document")

    return embed_image


def make_search(session: Session) -> Callable[..., str | None]:
    """Return embed_search for a session."""

    @recorded
    def embed_search(name: object, query: object, k: object = DEFAULT_K, ids: object = ()) -> str | None:
        if name is None or query is None or k is None or ids is None:
            return None
        wanted = Wanted.of(session, name, k, ids)
        vector = query if isinstance(query, bytes) else session.embedder.query(wanted.collection, as_text(query))
        if vector is None or wanted.k == 0:
            return "[]"
        return as_json(nearest_items(session.conn, wanted.tables, wanted.collection, vector, wanted.k, wanted.ids))

    return embed_search


def make_hybrid(session: Session) -> Callable[..., str | None]:
    """Return embed_hybrid for a session."""

    @recorded
    def embed_hybrid(name: object, query: object, k: object = DEFAULT_K, ids: object = ()) -> str | None:
        if name is None or query is None or k is None or ids is None:
            return None
        wanted = Wanted.of(session, name, k, ids)
        text = as_text(query)
        if not text.strip() or wanted.k == 0:
            return "[]"
        vector = session.embedder.query_if_known(wanted.collection, text)
        tables, collection = wanted.tables, wanted.collection

        def answer() -> str:
            return as_json(hybrid_items(session.conn, tables, collection, vector, text, wanted.k, wanted.ids))

        return answer_once(session.conn, session.sign, tables, collection, (vector, text, wanted.k, ids), answer)

    return embed_hybrid


def make_context(session: Session) -> Callable[..., str | None]:
    """Return embed_context for a session."""

    @recorded
    def embed_context(name: object, question: object, tokens: object = CONTEXT_TOKENS) -> str | None:
        if name is None or question is None or tokens is None:
            return None
        wanted = Wanted.of(session, name, 0, ())
        wish = Wish(min(as_count(tokens), MAX_CONTEXT_TOKENS))
        text = as_text(question)
        if not text.strip():
            return ""
        asked = question_of(session.embedder, wanted.collection, text)
        tables, collection = wanted.tables, wanted.collection

        def answer() -> str:
            return context(gather(session.conn, tables, collection, asked, wish))

        key = ("context", asked.vector, text, wish.tokens)
        return answer_once(session.conn, session.sign, tables, collection, key, answer, reads_rows=True)

    return embed_context


@dataclass(frozen=True)
class Wanted:
    """What a search is asked for besides its query: of which collection, how many items, and among which."""

    tables: Tables
    collection: Collection
    k: int
    ids: list[str] | None

    @classmethod
    def of(cls, session: Session, name: object, k: object, ids: object) -> Wanted:
        """Return the checked arguments of a search; *ids* is () where none are given."""
        tables, collection = tables_and_collection(session.conn, str(name))
        return cls(tables, collection, as_count(k), as_ids(ids) if ids != () else None)


def as_json(hits: list[Hit]) -> str:
    """Return results for json_each."""
    return orjson.dumps([{"id": hit.id, "score": hit.score, **_chunk(hit)} for hit in hits]).decode()


def _chunk(hit: Hit) -> dict[str, str]:
    return {"chunk": hit.chunk} if hit.chunk else {}


def as_text(value: object) -> str:
    """Return an SQL value as text; a BLOB is refused, as it may be an embedding in the wrong place."""
    if isinstance(value, bytes):
        raise BadVector("a text was expected; found a BLOB")
    return str(value)


def as_count(value: object) -> int:
    """Return k: a whole number from 0 on, which may come as text, as form fields do."""
    try:
        number = int(value) if isinstance(value, (int, float, str)) else -1
    except (ValueError, OverflowError):
        number = -1
    if number < 0:
        raise EmbeddingsError(f"the number of results is a whole number from 0 on; found {str(value)[:40]!r}")
    return number


def as_ids(value: object) -> list[str]:
    """Return the ids of a JSON array."""
    try:
        ids = orjson.loads(value)  # type: ignore[arg-type]
    except (orjson.JSONDecodeError, TypeError):
        ids = None
    if not isinstance(ids, list):
        raise EmbeddingsError('the ids to search among are a JSON array such as ["a", "b"]; found something else')
    return [str(item) for item in ids]


FUNCTIONS: tuple[SQLFunction, ...] = (
    SQLFunction(
        "embed_text",
        ("text", "model, text", "model, text, purpose"),
        "vector BLOB",
        "The embedding of a text, by the default model or the one named; purpose is document (default) or query. "
        "NULL for an empty text.",
        make_text,
        (
            ("embed_dimensions(embed_text('static', 'hello world'))", 256),
            ("embed_text('static', '')", None),
        ),
        aliases=("llm_embed",),
    ),
    SQLFunction(
        "embed_query",
        ("collection, text", "collection, text, purpose"),
        "vector BLOB",
        "The embedding of a query by that collection's own model, purpose and prefix: what hand-written SQL should use. With the purpose "
        "document, as the collection's rows are embedded: for texts that are compared with averages of rows.",
        make_query,
    ),
    SQLFunction(
        "embed_image",
        ("model, blob",),
        "vector BLOB",
        "The embedding of an image file, by a model that takes images.",
        make_image,
    ),
    SQLFunction(
        "embed_encode",
        ("json",),
        "vector BLOB",
        "A BLOB of little-endian float32 from a JSON array of numbers.",
        strict(vectors.from_json),
        (("hex(embed_encode('[1, 0.5]'))", "0000803F0000003F"),),
    ),
    SQLFunction(
        "embed_decode",
        ("blob",),
        "JSON array",
        "The numbers of an embedding, in the shortest digits that give the same float32.",
        strict(vectors.to_json),
        (("embed_decode(embed_encode('[0.1, -2]'))", "[0.1,-2.0]"),),
        aliases=("llm_embed_decode",),
    ),
    SQLFunction(
        "embed_valid",
        ("blob",),
        "1 or 0",
        "Whether a value is an embedding: a BLOB of 4 bytes a dimension without NaN or infinity.",
        strict(lambda value: int(vectors.valid(value))),
        (("embed_valid(x'0000803F')", 1), ("embed_valid(x'00')", 0), ("embed_valid('text')", 0)),
    ),
    SQLFunction(
        "embed_dimensions",
        ("blob",),
        "integer",
        "How many dimensions an embedding has.",
        strict(lambda value: vectors.decode(value).size),
        (("embed_dimensions(embed_encode('[3, 4]'))", 2),),
    ),
    SQLFunction(
        "embed_cosine",
        ("a, b",),
        "float in [-1, 1]",
        "Cosine similarity of two embeddings of equal dimensions; higher is closer.",
        lambda _: scan.make_cosine(),
        (
            ("embed_cosine(embed_encode('[1, 0]'), embed_encode('[2, 0]'))", 1.0),
            ("embed_cosine(embed_encode('[1, 0]'), embed_encode('[0, 1]'))", 0.0),
            ("embed_cosine(NULL, embed_encode('[1, 0]'))", None),
        ),
        aliases=("llm_embed_cosine",),
    ),
    SQLFunction(
        "embed_dot",
        ("a, b",),
        "float",
        "Dot product.",
        strict(dot),
        (("embed_dot(embed_encode('[1, 2]'), embed_encode('[3, 4]'))", 11.0),),
    ),
    SQLFunction(
        "embed_l2",
        ("a, b",),
        "float",
        "Euclidean distance: 0 for equal embeddings, lower is closer.",
        strict(l2),
        (("embed_l2(embed_encode('[0, 0]'), embed_encode('[3, 4]'))", 5.0),),
    ),
    SQLFunction(
        "embed_add",
        ("a, b",),
        "vector BLOB",
        "Sum: `germany + paris - france` is embed_subtract(embed_add(germany, paris), france).",
        strict(add),
        (("embed_decode(embed_add(embed_encode('[1, 2]'), embed_encode('[3, 4]')))", "[4.0,6.0]"),),
    ),
    SQLFunction(
        "embed_subtract",
        ("a, b",),
        "vector BLOB",
        "Difference.",
        strict(subtract),
        (("embed_decode(embed_subtract(embed_encode('[3, 4]'), embed_encode('[1, 1]')))", "[2.0,3.0]"),),
    ),
    SQLFunction(
        "embed_scale",
        ("a, x",),
        "vector BLOB",
        "An embedding times a number.",
        strict(scale),
        (("embed_decode(embed_scale(embed_encode('[1, 2]'), 0.5))", "[0.5,1.0]"),),
    ),
    SQLFunction(
        "embed_normalize",
        ("a",),
        "vector BLOB",
        "The embedding scaled to length 1.",
        strict(vectors.normalize),
        (("embed_decode(embed_normalize(embed_encode('[3, 4]')))", "[0.6,0.8]"),),
    ),
    SQLFunction(
        "embed_average",
        ("blob",),
        "vector BLOB",
        'Aggregate: the plain mean of embeddings ("average location"), not normalised; NULL over no rows.',
        lambda _: Average,
        (
            ("(select embed_decode(embed_average(embed_encode(value))) from json_each('[[1,2],[3,4]]'))", "[2.0,3.0]"),
            ("(select embed_average(1) from (select 1 where 0))", None),
        ),
        aliases=("llm_embed_average",),
        aggregate=True,
    ),
    SQLFunction(
        "embed_spectrum",
        ("v, low, high",),
        "float in [0, 1]",
        "Where v lies between two average locations, 0 at low and 1 at high: "
        "clamp((v - low)·(high - low) / abs(high - low)^2, 0, 1) on unit vectors.",
        strict(spectrum),
        (("embed_spectrum(embed_encode('[1, 1]'), embed_encode('[1, 0]'), embed_encode('[0, 1]'))", 0.5),),
    ),
    SQLFunction(
        "embed_key",
        ("id, n",),
        "text",
        "Part n (from 0) of the item id of a row with a compound key, for joins.",
        strict(key_part),
        (("embed_key('a~2Cb,7', 0)", "a,b"), ("embed_key('a~2Cb,7', 1)", "7")),
    ),
    SQLFunction(
        "embed_id",
        ("a, b, ...",),
        "text",
        "The item id of a row with a compound key, from the values of its key columns.",
        strict(joined_id),
        (("embed_id('a,b', 7)", "a~2Cb,7"),),
    ),
    SQLFunction(
        "embed_search",
        ("collection, query", "collection, query, k", "collection, query, k, ids"),
        'JSON array of {"id", "score"}',
        "The k items (10 unless told) of a collection nearest to a text or a vector, best first, for json_each; ids, a "
        "JSON array, narrows before the k are chosen.",
        make_search,
    ),
    SQLFunction(
        "embed_hybrid",
        ("collection, text", "collection, text, k", "collection, text, k, ids"),
        'JSON array of {"id", "score"}',
        "As embed_search, by words and meaning together: the score is the cosine similarity, raised by how much of the "
        "query's words the row holds. Without a full-text index, it is embed_search.",
        make_hybrid,
    ),
    SQLFunction(
        "embed_context",
        ("collection, question", "collection, question, tokens"),
        "text",
        f"The excerpts of a collection's rows that a question can be answered from, numbered, each with its row's id and title, "
        f"{CONTEXT_TOKENS:,} tokens in all unless told: for a chat model of your own. Empty where nothing comes near.",
        make_context,
    ),
)
