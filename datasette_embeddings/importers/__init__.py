"""Taking over embeddings that other tools made: no model is used, nothing is sent anywhere.

`origin` says what vectors of another tool are; `peers`, `sqlite_vec` and `files` read them, `finding` chooses among them;
`target` says what they become, `survey` checks every one of them; `takeover` writes them as collections of ours, in one
transaction; `advice` says what was done and what to do next.
"""

from datasette_embeddings.importers.request import Request
from datasette_embeddings.importers.takeover import take_over

__all__ = ["Request", "take_over"]
