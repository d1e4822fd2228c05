"""How near to a collection nonsense comes: the score below which a result says little.

What a model gives for a text without meaning is still nearest to something. So the build asks each collection for words that
are none, and keeps how near their best results were: their mean and one and a half standard deviations. On seven collections
and two models, 8 percent of other nonsense came above that, and 7 percent of right answers below (docs/performance.md, hybrid).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from datasette_embeddings import vectors
from datasette_embeddings.errors import EmbeddingsError

if TYPE_CHECKING:
    from datasette_embeddings.catalog import Collection
    from datasette_embeddings.matrices import Matrix
    from datasette_embeddings.models import EmbeddingModel

NONSENSE = (
    *("asdf qwer zxcv", "flibbertigibbet xylocarp zorp", "qwpo zmxn vbty", "lkjh gfds poiu", "blorptak vundle smeerp"),
    *("xkcdqz jjw pfft", "wibble frangle ploot", "zzxq vvbn mmlk", "oktarvian drelb snurgle", "tyrp qoond vashti plix"),
    *("hjkl uiop bnm", "quorble dask wemmit", "frumpled zindle ockwop", "rtyu fghj vbnm cde", "snaffrik pondlebum"),
    *("jexu mivol terrat", "glimp", "zorbax", "qqqq wwww eeee", "xyzzy plugh fnord", "marvok illith zent"),
    *("drooble krangst", "pfloomp", "aeiou bcdfg hjklm", "vexil trundabor quaff zim", "nurgh", "brillig slithy toves"),
    *(
        "mimsy borogoves outgrabe",
        "kzt rwq plm",
        "thrombulate gorvex",
        "yibber yabber zubber",
        "ulmak feddle worrop sneev",
    ),
)
"""With 200 other choices of as many from twice the number, the floor moved by .007 to .026."""

SPREAD = 1.5


def noise_floor(model: EmbeddingModel, collection: Collection, matrix: Matrix) -> float | None:
    """Return the score below which a result of a collection says little, in [-1, 1].

    None where nobody can tell: for an empty collection, pictures, and a model that is asked over a connection, which would
    be sent texts that nobody wrote.
    """
    if not model.in_process or "text" not in model.modalities or not matrix.ids:
        return None
    try:
        embedded = model.embed(NONSENSE, "query", collection.query_prompt)
    except EmbeddingsError:
        return None
    known = [row for number, row in enumerate(embedded.vectors) if number not in embedded.failures]
    if not known:
        return None
    nearest = [float(vectors.score_rows(matrix.rows, row).max()) for row in known]
    return round(float(np.mean(nearest) + SPREAD * np.std(nearest)), vectors.SCORE_DECIMALS)
