"""Where items come from: tables, SQL, files, and CSV, TSV, JSON or NDJSON from a file or a pipe.

Every source gives rows once, in order; a row that cannot be embedded comes with its reason instead of its content, so
that no row is lost without a word.
"""

from datasette_embeddings.sources.files import FileSource, read_text
from datasette_embeddings.sources.records import RecordSource, read_records
from datasette_embeddings.sources.row import Row, Source, content_hash
from datasette_embeddings.sources.tables import PARAGRAPH, QuerySource, TableSource, content_of, table_source, text_of

__all__ = [
    "PARAGRAPH",
    "FileSource",
    "QuerySource",
    "RecordSource",
    "Row",
    "Source",
    "TableSource",
    "content_hash",
    "content_of",
    "read_records",
    "read_text",
    "table_source",
    "text_of",
]
