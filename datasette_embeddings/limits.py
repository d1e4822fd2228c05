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

MAX_CLUSTERS = 10_000
"""Most clusters of a collection: comparing a million items with so many takes a minute a round."""

MAX_LABELS = 1_000
"""Most labels of a collection: a column of more different values tells rows apart and not kinds of rows, and nobody reads such a facet."""

MAX_LABEL_CHARACTERS = 200
"""Longest label: a name of some 30 words. A column of longer texts holds what is to be classified."""

SPECTRUM_CHARACTERS = 40_000
"""Longest text that is coloured between two labels: some 7,000 words, a long newspaper article."""

SPECTRUM_SENTENCES = 300
"""Sentences of it that are looked at: two seconds of a local model, in which nobody else is answered by one."""

MAX_QUERY_CHARACTERS = 8_000
"""Longest text that SQL may embed: some 2,000 tokens, more than any search box needs."""

MAX_TEXT_CHARACTERS = 2_000_000
"""Longest text of a row that is read whole; what follows is beyond every model's reach and is cut before tokenising."""

MAX_FILE_BYTES = 50_000_000
"""Largest single file that `--files` reads."""

MAX_IMAGE_BYTES = 20_000_000
"""Largest image file that is read: a camera's JPEG of 50 megapixels has as many."""

MAX_IMAGE_PIXELS = 40_000_000
"""Larger than the picture of nearly any camera or scanner; decoded as RGB it takes 120 MB of memory."""

ENOUGH_PIXELS = 4_000_000
"""Of a larger picture every second pixel is looked at, or every third: models read 0.05 to 0.3 megapixels."""

THUMBNAIL_PIXELS = 320
"""Longer side of a thumbnail: two beside each other fill a phone, sharply, and sixty of them are well below 1 MB."""

THUMBNAIL_QUALITY = 75
"""Of WebP: a picture of this size has 5 to 15 kB, and nobody sees what is lost."""

MAX_WORD_VECTOR_BYTES = 4_000_000_000
"""Largest table of word vectors that is unpacked into memory: the largest published, of three million words and 300 dimensions, takes
3.6 GB. One in a `.npy` file is read where it lies, and may be larger."""

MAX_WORD_LINE_BYTES = 2_000_000
"""Longest line of a text file of word vectors: a word and 65,536 numbers of 30 characters."""

MIN_CHUNK_TOKENS = 16
"""A chunk of fewer tokens is a fragment that says nothing by itself."""

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

INDEX_BYTES = 1_024_000_000
"""What one process keeps in memory to search in, of all its collections, unless `limits` of the configuration says otherwise: the vectors
of 500,000 items of 384 dimensions, or sketches of two millions. A collection that takes more is read anew by each search."""

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

CHAT_TIMEOUT_SECONDS = 60.0
"""Longest silence of a chat model, unless its setting `timeout` says otherwise: a local one reads a long prompt before its first
word."""

CHAT_DEADLINE_TIMEOUTS = 3
"""An answer of a chat model, with all its tries and waits, may take this many of its timeouts; a visitor waits for it."""

CHAT_RETRIES = 2
"""Tries of a chat model after the first: what the `openai` package does, and all that someone who waits has time for."""

MAX_ANSWER_TOKENS = 100_000
"""Most tokens that an answer may be configured to have, thoughts included; no model writes more at once for a reader."""

MOST_CHARACTERS_PER_TOKEN = 16
"""An answer longer than its tokens times this comes from a model that keeps no limit, and is cut: a token has 4 characters in
English, and hardly more than 16 in any text of some length."""

STREAM_BYTES = 1_000_000
"""Largest answer of a chat server, apart from its tokens."""

STREAM_BYTES_PER_TOKEN = 2_000
"""And for each token: an event has some 300 bytes, with log probabilities and the fields of gateways a few times that."""

TILE_ROWS = 512
"""Side of one tile of the all-pairs product; 512 x 512 float32 stays in a core's level-2 cache."""

RETRIEVED_ROWS = 40
"""Rows that a question finds before the best passages of them are chosen: three times what fits, so that there is a choice."""

PASSAGE_CHARACTERS = 30_000
"""Of a long row that are looked through for a passage, about 5,000 words; longer texts are found by chunks (`chunk:`)."""

WINDOW_TOKENS = 220
"""Tokens of one passage of a row that is embedded whole: some 150 words, the answer to a question and what is around it."""

PASSAGES_PER_ROW = 2
"""Passages of one row in an answer, so that one long document does not keep out all others."""

CONTEXT_TOKENS = 2_500
"""Tokens of the excerpts for one question: with the instructions and the answer they fit the 4,096 that Ollama gives a model
unless told otherwise."""

MAX_CONTEXT_TOKENS = 100_000
"""Most tokens of excerpts that anybody may ask for: what current chat models read, with room for the answer."""

ANSWER_TOKENS = 800
"""Tokens of one answer: half a page or so, and the rest of the 4,096."""

QUOTED_SENTENCES = 5
"""Sentences of an answer that is made of quotations: what is read at a glance."""

QUOTED_CANDIDATES = 24
"""Sentences that are compared with a question by meaning, those with most of its words and of the best rows; of 30 questions all
sentences answered no more, in three times the time."""

QUOTED_CHARACTERS = 400
"""Longest quotation, some 60 words; a longer sentence is a table, a list or code, and is cut."""

ANSWERS_PER_MINUTE = 10
"""Questions a minute that visitors may ask the chat model, unless `limits` of the configuration says otherwise: at 4,000 tokens
each 58 million tokens a day at most."""

ANSWERS_AT_ONCE = 2
"""Answers of the chat model that are being written at the same time; a model on this machine slows down with each."""

CHUNK_TOKENS = 256
"""Tokens of a piece of a long text, where the model reads more: some 180 words. Measured with `static`, 128 found sections of
documentation and functions of source code no better, for twice the rows; 384 and 512 found functions worse."""

HEADING_SHARE = 0.25
"""Most of a piece that its path of headings takes, which says the same for all pieces of a section."""

HEADING_CHARACTERS = 200
"""A longer line is no heading."""

FRONT_MATTER_LINES = 100
"""Longest settings at the beginning of a Markdown file; a rule below which none ends so far on is no more than a rule."""

OVERLAP_SHARE = 0.1
"""Of a piece's tokens that are the end of the piece before, where a section is cut."""

SKETCHED_ROWS = 20_000
"""Items from which on a collection is searched by sketches first; fewer are all scored in a millisecond."""

CHECKPOINT_SECONDS = 30.0
"""Progress of all similarities is saved this often: what a run that is ended loses at most, for half a second of saving."""

RESERVED_ROWS = 20_000
"""Rows from which on some neighbours more than `similarities` shows are kept for the next build; all of fewer are computed in two seconds."""

RESERVED_SIMILARITIES = 6
"""How many neighbours more: with 1 percent of the rows changed at each build, tens of builds pass before a row in a hundred has lost so many."""

MAP_POINTS = 1_000_000
"""Points that a map shows: 6 MB to send. Of a larger collection every second item is shown, or every third."""

MAP_COLORS = 12
"""Colours of a map's legend: more are not told apart. Values after the eleven commonest are one colour."""

MAP_SAMPLE = 400
"""Items of the map that is drawn where no script runs: each is a link, and they are 100 kB."""

MAP_ITEMS = 40
"""Items of a part of the map that are listed beside it; the SQL that they are linked to gives all."""
