"""Every bound of the package, each with its reason. Documentation quotes this module."""

from __future__ import annotations

MAX_DIMENSIONS = 65_536
"""A vector longer than this is no embedding (the largest in use have 4,096 to 12,288) but an attempt to fill memory."""

MAX_K = 1_000
"""Most results of one search: Datasette's own `max_returned_rows`."""

DEFAULT_K = 10
"""Results of a search that names no number."""

MAX_SIMILARITIES = 1_000
"""Most stored neighbours of one item; the table holds items times this many rows."""

MAX_QUERY_CHARACTERS = 8_000
"""Longest text that SQL may embed: some 2,000 tokens, more than any search box needs."""

MAX_TEXT_CHARACTERS = 2_000_000
"""Longest text of a row that is read whole; what follows is beyond every model's reach and is cut before tokenising."""

MAX_FILE_BYTES = 50_000_000
"""Largest single file that `--files` reads."""

MAX_QUERY_WORDS = 64
"""Words of a visitor's text that full-text search looks for; each is a lookup of its own, and a question has fewer."""

MAX_TEXT_MATCHES = 1_000
"""Rows that full-text search offers to a search by words and meaning; those after them share few words with the query."""

NEAR_IDENTICAL = 0.95
"""Similarity from which two rows count as the same text (a wire story in two papers); the index of pairs holds these."""

QUERY_CACHE_ENTRIES = 1_024
"""Query vectors kept in memory: at 1,536 dimensions 6 MB."""

SEARCH_CHUNK_ROWS = 8_192
"""Rows scored at a time by an exact search: 12 MB at 384 dimensions."""

MATRICES_BYTES = 1_024_000_000
"""Vectors that one process keeps in memory, of all its collections: 660,000 of 384 dimensions. A larger collection is read
anew by each search."""

REPEATED_SEARCHES = 64
"""Answers of searches that are kept for a page that asks again: at 100 results each 0.5 MB."""

REMEMBERED_ENTRIES = 2_000
"""Things that a site remembers of its files, most of them a row's related rows of about 1 kB."""

BUSY_SECONDS = 5.0
"""How long to wait for another writer's lock before saying so."""

CLAIM_SECONDS = 600
"""A build that has not committed anything for this long counts as dead, and its claim may be taken over."""

WINDOW_ITEMS = 2_048
"""Texts handed to a model at once, so that it can sort them by length."""

WINDOW_CHARACTERS = 8_000_000
"""Characters handed to a model at once: bounds memory where texts are long."""

PREFETCH_SECONDS = 20.0
"""Longest wait of a visitor for the vector of a query, outside the SQL threads."""

SQL_GATE_SECONDS = 0.1
"""How long a thread that runs SQL waits for another one inside a model: many times what a local model needs for a text, and
little enough that a slow model does not keep the threads that serve other pages."""

QUERIES_PER_MINUTE = 60
"""Texts a minute that visitors may have sent to a model on another machine, unless `limits` of the configuration says
otherwise: at 20 tokens a query 1.7 million tokens a day."""

TILE_ROWS = 512
"""Side of one tile of the all-pairs product; 512 x 512 float32 stays in a core's level-2 cache."""
