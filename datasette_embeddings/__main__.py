"""`python -m datasette_embeddings ...`: the same commands as `datasette embeddings ...`."""

from datasette_embeddings.cli import embeddings

embeddings(prog_name="datasette embeddings")
