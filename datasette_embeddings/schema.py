"""How our tables come to be in a database file: DDL, migrations, and refusal of other tables of the same names.

llm's two tables are made with llm's own DDL and recorded as its migrations, so that llm reads and writes our files; ours
come under our own migration set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from datasette_embeddings.database import column_names, table_names
from datasette_embeddings.errors import StoreError
from datasette_embeddings.tables import (
    LLM_COLUMNS,
    NAMES,
    PEER_COLUMNS,
    SIGNATURES,
    Tables,
    find_tables,
    has_own_tables,
    is_llm,
    own_tables,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence

    from sqlite_utils import Migrations
    from sqlite_utils.db import Database

OWN_SET = "datasette_embeddings"
LLM_SET = "llm.embeddings"
LLM_MIGRATIONS = (
    "m001_create_tables",
    "m002_foreign_key",
    "m003_add_updated",
    "m004_store_content_hash",
    "m005_add_content_blob",
)

LLM_DDL = """
CREATE TABLE {collections} (
   "id" INTEGER PRIMARY KEY,
   "name" TEXT,
   "model" TEXT
);
CREATE UNIQUE INDEX {idx_collections_name}
    ON {collections} ("name");
CREATE TABLE {embeddings} (
   "collection_id" INTEGER REFERENCES {collections}("id"),
   "id" TEXT,
   "embedding" BLOB,
   "content" TEXT,
   "content_blob" BLOB,
   "content_hash" BLOB,
   "metadata" TEXT,
   "updated" INTEGER,
   PRIMARY KEY ("collection_id", "id")
);
CREATE INDEX {idx_embeddings_content_hash}
    ON {embeddings} ("content_hash");
"""

OWN_DDL = """
CREATE TABLE {embeddings_collections} (
    collection_id INTEGER PRIMARY KEY REFERENCES {collections}(id),
    owner TEXT NOT NULL,           -- config, add, embed or import: who may rebuild it
    source TEXT,                   -- JSON: where its rows come from
    template TEXT,
    fingerprint TEXT,              -- of model, prefix and template
    model_fingerprint TEXT,        -- of model and dimensions alone: vectors of equal ones may be copied
    dimensions INTEGER,
    similarities INTEGER,          -- k of the stored similarities; NULL when there are none
    generation INTEGER NOT NULL DEFAULT 0,
    built TEXT,                    -- UTC, ISO 8601
    rows INTEGER, embedded INTEGER, skipped INTEGER, failed INTEGER,
    tokens INTEGER NOT NULL DEFAULT 0,
    cost_usd REAL,
    query_prefix TEXT
);
CREATE TABLE {embeddings_issues} (
    collection_id INTEGER, id TEXT, status TEXT, reason TEXT,
    content_hash BLOB,             -- of a text that the model refused: it is not asked again
    PRIMARY KEY (collection_id, id)
) WITHOUT ROWID;
CREATE TABLE {embeddings_changes} (
    collection_id INTEGER, id TEXT,
    PRIMARY KEY (collection_id, id)
) WITHOUT ROWID;
CREATE TABLE {embeddings_builds} (
    claim INTEGER PRIMARY KEY CHECK (claim = 1),
    pid INTEGER, host TEXT, heartbeat INTEGER   -- pid NULL: it ended before its end
);
CREATE TABLE {similarities} (
    id TEXT, other_id TEXT, score REAL, collection_id INTEGER,
    PRIMARY KEY (id, collection_id, other_id)
) WITHOUT ROWID;
"""

SEARCH_DDL = """
ALTER TABLE {embeddings_collections} ADD COLUMN full_text TEXT;
ALTER TABLE {embeddings_collections} ADD COLUMN noise_floor REAL;
ALTER TABLE {embeddings_collections} ADD COLUMN version INTEGER NOT NULL DEFAULT 0;
CREATE TABLE {embeddings_documents} (
    number INTEGER PRIMARY KEY,    -- rowid of the item's text in its collection's full-text index
    collection_id INTEGER, id TEXT,
    content_hash BLOB,             -- of the text that is indexed
    UNIQUE (collection_id, id)
);
CREATE INDEX {embeddings_duplicates}
    ON {similarities} (collection_id, score) WHERE score >= 0.95;
"""
"""full_text: the FTS5 table that builds keep, where the source has none of its own. noise_floor: the score below which a
result says little. version: another number after every write to the collection's vectors, so that what was read of them can be
kept."""

CHUNKS_DDL = """
ALTER TABLE {embeddings_collections} ADD COLUMN chunk INTEGER;
CREATE TABLE {chunks} (
    collection_id INTEGER,
    id TEXT,                       -- of its embedding: parent_id, #, position
    parent_id TEXT,                -- the row that it is a part of
    position INTEGER,              -- in the row, from 0
    start INTEGER, "end" INTEGER,  -- characters of the row's text
    heading TEXT,                  -- the headings that it stands under, joined by " > "
    content_hash BLOB,             -- of its own text, as in embeddings
    row_hash BLOB,                 -- of the row's text when it was cut
    PRIMARY KEY (collection_id, id)
) WITHOUT ROWID;
CREATE INDEX {idx_chunks_parent_id}
    ON {chunks} (parent_id);
"""
"""chunk: the most tokens of one chunk; NULL where rows are embedded whole.

The index has the primary key behind its column, as those of tables without rowid do; one that began with collection_id would be
passed over by SQLite, which takes the primary key's own order for as good, and reads a whole collection for one row.
"""

PROMPTS_DDL = """
ALTER TABLE {embeddings_collections} ADD COLUMN document_prefix TEXT;
"""

LANGUAGE_DDL = """
ALTER TABLE {embeddings_collections} ADD COLUMN foreign_share REAL;
"""
"""foreign_share: of the texts, in a language that the model was not made for; NULL where it knows many or nobody knows."""

SKETCHES_DDL = """
CREATE TABLE {embeddings_sketches} (
    collection_id INTEGER PRIMARY KEY REFERENCES {collections}(id),
    stamp TEXT,                    -- JSON: version, number of items, and the last that was written; others mean out of date
    dimensions INTEGER,
    basis BLOB, head INTEGER,      -- principal components, float32; how many of them are read where int8 products are slow
    error REAL                     -- what int8 leaves out of any item's components, at most
);
CREATE TABLE {embeddings_sketch_parts} (
    collection_id INTEGER, part INTEGER,
    ids TEXT,                      -- JSON array of item ids, in order
    codes BLOB,                    -- of each item its components as int8
    units BLOB,                    -- of each item what one of int8 stands for, float32
    rests BLOB,                    -- of each item the length that is not in the head, then of each that in no component, float32
    PRIMARY KEY (collection_id, part)
);
"""
"""Sketches of the vectors of large collections, which searches read in place of the vectors (`sketches`)."""

DERIVED_DDL = """
ALTER TABLE {embeddings_collections} ADD COLUMN clusters TEXT;
ALTER TABLE {embeddings_collections} ADD COLUMN projection TEXT;
ALTER TABLE {embeddings_collections} ADD COLUMN labels TEXT;
ALTER TABLE {embeddings_collections} ADD COLUMN labels_hash TEXT;
CREATE TABLE {clusters} (
    collection_id INTEGER,
    cluster INTEGER,               -- from 1; kept from build to build while most of its members stay together
    label TEXT,                    -- its name: the terms that set it apart, or a title by a chat model
    size INTEGER,                  -- how many members it has
    embedding BLOB,                -- its centroid, of length 1
    terms TEXT,                    -- JSON array of the terms that set it apart, the best first
    item TEXT, score REAL,         -- its most central member, and that one's score to the centroid
    model TEXT,                    -- the chat model that gave the title; NULL where terms name it
    label_hash TEXT,               -- of what the title was made from
    PRIMARY KEY (collection_id, cluster)
) WITHOUT ROWID;
CREATE TABLE {cluster_members} (
    collection_id INTEGER,
    id TEXT,
    cluster INTEGER,
    score REAL,                    -- cosine similarity to the centroid
    PRIMARY KEY (collection_id, id)
) WITHOUT ROWID;
CREATE INDEX {idx_cluster_members_cluster}
    ON {cluster_members} (cluster, collection_id, score);
CREATE TABLE {projections} (
    collection_id INTEGER,
    id TEXT,
    x REAL, y REAL,
    PRIMARY KEY (collection_id, id)
) WITHOUT ROWID;
CREATE TABLE {embeddings_projections} (
    collection_id INTEGER PRIMARY KEY REFERENCES {collections}(id),
    method TEXT,                   -- pca or umap
    mean BLOB, basis BLOB,         -- of pca: what a vector is moved by, then two rows of one number a dimension, float32
    explained TEXT,                -- of pca: JSON array, the share of the variance along x and along y
    items INTEGER                  -- how many items it was made from
);
CREATE TABLE {labels} (
    collection_id INTEGER,
    label TEXT,
    embedding BLOB,                -- the average of its examples
    size INTEGER,                  -- how many examples it has
    PRIMARY KEY (collection_id, label)
) WITHOUT ROWID;
CREATE TABLE {predictions} (
    collection_id INTEGER,
    id TEXT,
    label TEXT,                    -- the nearest
    score REAL,                    -- cosine similarity to its average
    margin REAL,                   -- how much nearer it is than the next label
    PRIMARY KEY (collection_id, id)
) WITHOUT ROWID;
CREATE INDEX {idx_predictions_label}
    ON {predictions} (label, collection_id, margin);
CREATE TABLE {embeddings_reserve} (
    collection_id INTEGER, part INTEGER,
    ids TEXT,                      -- JSON array of item ids, in order
    others BLOB,                   -- of each item the positions of its nearest among all items, the best first, int32; -1 where there are no more
    scores BLOB,                   -- and their scores, float32
    PRIMARY KEY (collection_id, part)
);
"""
"""clusters, projection, labels: what is wanted, as `catalog.Stages` has it. labels_hash: of the labels of rows that averages were made from.

embeddings_reserve: the neighbours of `similarities` and some after them, which take the place of one that goes (`reserves`).
"""


PICTURES_DDL = """
CREATE TABLE {thumbnails} (
    collection_id INTEGER, id TEXT,
    type TEXT,                     -- media type, image/webp
    width INTEGER, height INTEGER,
    data BLOB,
    PRIMARY KEY (collection_id, id)
);
"""
"""Thumbnails of the items of image collections. The table has rowids, as SQLite keeps large rows better in those."""


def ensure_tables(conn: sqlite3.Connection, prefix: str = "") -> Tables:
    """Make what is missing of our tables and bring older ones up to date; raises StoreError on a clash of names."""
    found = find_tables(conn)
    tables = found or Tables(prefix)
    if found and prefix and found.prefix != prefix:
        raise StoreError(
            f"this file keeps its embeddings under the table prefix {found.prefix!r}, not {prefix!r}; use that one"
        )
    if not has_own_tables(conn, tables):
        _refuse_clash(conn, tables, NAMES)
    else:
        held, coming = own_tables(conn, tables), _to_be_made(conn, tables)
        missing = [name for name in SIGNATURES if name in coming or tables.plain(name) not in held]
        _refuse_clash(conn, tables, missing, later=True)
    _migrate(conn, tables)
    return tables


def _refuse_clash(conn: sqlite3.Connection, tables: Tables, names: Sequence[str], *, later: bool = False) -> None:
    """Raise StoreError where a table that is not ours has one of the names of those to be made; *later*: in a file that has others of ours."""
    # SQLite ignores the case of names.
    existing = {name.lower(): (name, kind) for name, kind in table_names(conn).items()}
    for name in names:
        plain = tables.plain(name)
        held, kind = existing.get(plain.lower(), (None, ""))
        if held is None or (not tables.prefix and name in LLM_COLUMNS and is_llm(conn)):
            continue
        columns = column_names(conn, plain)
        if kind == "table" and set(columns) == PEER_COLUMNS.get(plain):
            raise StoreError(
                f"the table {plain!r} was made by openai-to-sqlite: `datasette embeddings import` takes it over"
            )
        if later:
            raise StoreError(
                f"this file has a {kind} {held!r} that is not ours, and this release keeps a table of that name; "
                f"rename yours, as in `alter table {held} rename to my_{held}`, or build into a file that has none"
            )
        raise StoreError(
            f"this file already has a {kind} {held!r} with columns {', '.join(columns)}, which is not ours; "
            "keep both with --table-prefix emb_ (or `table_prefix: emb_` in the configuration)"
        )


def _to_be_made(conn: sqlite3.Connection, tables: Tables) -> set[str]:
    """Return which of our tables this release has still to make in a file, as that says itself."""
    from sqlite_utils import Database

    pending = _migrations(tables)[1].pending(Database(conn))
    return {name for name in NAMES for step in pending if f"CREATE TABLE {{{name}}}" in STEPS[step.name]}


def _migrate(conn: sqlite3.Connection, tables: Tables) -> None:
    """Apply llm's migrations (in their final form) and ours, each recorded where sqlite-utils and llm look for them."""
    from sqlite_utils import Database

    db = Database(conn)
    llm_set, own_set = _migrations(tables)
    if _newer(own_set, db):
        raise StoreError(
            "this file was written by a newer release of this package: pip install -U datasette-embeddings-suite"
        )
    for migrations in (llm_set, own_set):
        if migrations.pending(db):
            migrations.apply(db)


def is_current(conn: sqlite3.Connection, tables: Tables) -> bool:
    """Tell whether a file has all tables that this release makes, as far as it says itself."""
    from sqlite_utils import Database

    return not _migrations(tables)[1].pending(Database(conn))


STEPS = {
    "m001_tables": OWN_DDL,
    "m002_search": SEARCH_DDL,
    "m003_chunks": CHUNKS_DDL,
    "m004_prompts": PROMPTS_DDL,
    "m005_language": LANGUAGE_DDL,
    "m006_sketches": SKETCHES_DDL,
    "m007_derived": DERIVED_DDL,
    "m008_pictures": PICTURES_DDL,
}
"""Our migrations, in order."""


def _migrations(tables: Tables) -> tuple[Migrations, Migrations]:
    """Return the sets of llm's and of our migrations."""
    from sqlite_utils import Migrations

    llm_set = Migrations(LLM_SET if not tables.prefix else f"{OWN_SET}.{tables.prefix}llm")
    for name in LLM_MIGRATIONS:
        llm_set(name=name)(_llm_step(tables))
    own_set = Migrations(OWN_SET if not tables.prefix else f"{OWN_SET}.{tables.prefix}")
    for name, ddl in STEPS.items():
        own_set(name=name)(_ddl_step(ddl, tables))
    return llm_set, own_set


def _newer(migrations: Migrations, db: Database) -> bool:
    known = {migration.name for migration in migrations._migrations}
    return any(applied.name not in known for applied in migrations.applied(db))


def _ddl_step(ddl: str, tables: Tables) -> Callable[[Database], None]:
    def step(db: Database) -> None:
        for statement in ddl.format_map({name: getattr(tables, name) for name in NAMES}).split(";\n"):
            if statement.strip():
                db.conn.execute(statement)

    return step


def _llm_step(tables: Tables) -> Callable[[Database], None]:
    """Return a step that makes llm's tables, or adds the column that llm before 0.12 did not make."""

    def step(db: Database) -> None:
        existing = table_names(db.conn)
        if tables.plain("embeddings") not in existing:
            _ddl_step(LLM_DDL, tables)(db)
            return
        if "content_blob" not in column_names(db.conn, tables.plain("embeddings")):
            db.conn.execute(f"alter table {tables.embeddings} add column content_blob BLOB")

    return step
