"""The drawn taps: what they are follows from the seed, and what is said of them is what the pictures show."""

from __future__ import annotations

import sqlite3
from collections import Counter
from io import BytesIO
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml
from datasette.app import Datasette

from demo import catalogue
from demo.__main__ import replace_table
from demo.catalogue import ACCENTS, COUNT, SEED, Attributes, described, drawn, taps
from demo.taps.drawing import SIZE, View, picture, webp
from demo.taps.finishes import FINISHES
from demo.taps.parts import SHAPES, Design, tap

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest.importorskip("PIL")

ROOT = Path(__file__).parent.parent
SOME = 26  # taps that tests look at, enough for every shape


@pytest.fixture(scope="module")
def all_attributes() -> list[Attributes]:
    """What the catalogue says of its taps."""
    return [described(SEED, number)[0] for number in range(COUNT)]


@pytest.fixture(scope="module")
def some() -> list[tuple[Attributes, bytes]]:
    """The first taps of another seed, with their pictures."""
    return list(taps(7, SOME))


def pixels(image: bytes) -> np.ndarray[Any, Any]:
    from PIL import Image

    return np.asarray(Image.open(BytesIO(image)), dtype=int)


def shown(image: bytes) -> np.ndarray[Any, Any]:
    """The colours of a picture's points that are not of the studio, which is light and grey."""
    points = pixels(image).reshape(-1, 3)
    return points[(points.min(axis=1) < 150) | (np.ptp(points, axis=1) > 40)]


def test_a_seed_says_all(some: list[tuple[Attributes, bytes]]) -> None:
    """A tap depends on the seed and its number, not on the process that draws it or on how many are drawn."""
    assert [drawn(7, number) for number in (0, 11)] == [some[0], some[11]]
    assert drawn(8, 0)[1] != some[0][1]


def test_pictures(some: list[tuple[Attributes, bytes]]) -> None:
    """Each is a WebP of its own, of the promised size, and shows the whole tap: no part is cut off at the edge."""
    from PIL import Image

    assert len({image for _, image in some}) == SOME
    for attributes, image in some:
        opened = Image.open(BytesIO(image))
        assert (opened.format, opened.size, opened.mode) == ("WEBP", (SIZE, SIZE), "RGB")
        assert 1_000 < len(image) < 16_000
        points = pixels(image)
        edges = [points[:4], points[-4:], points[:, :4], points[:, -4:]]
        assert min(edge.min() for edge in edges) > 170, attributes
        if attributes.finish != "white":
            assert 0.02 < len(shown(image)) / SIZE**2 < 0.5, attributes


def test_every_shape_comes_in_every_finish(all_attributes: list[Attributes]) -> None:
    """Five of each pair, with other measures: none is the same tap twice."""
    pairs = Counter((tap.shape, tap.finish) for tap in all_attributes)
    assert set(pairs.values()) == {5}
    assert len(pairs) == len(SHAPES) * len(FINISHES)
    assert len({(tap.shape, tap.height_mm, tap.reach_mm, tap.handles, tap.finish) for tap in all_attributes}) == COUNT
    assert [tap.id for tap in all_attributes] == [f"tap-{number:04}" for number in range(1, COUNT + 1)]


def test_attributes_are_independent(all_attributes: list[Attributes]) -> None:
    """Handles and mounts are spread over finishes, and a dear tap has a cheaper one of its shape in another finish."""
    for tap_ in all_attributes:
        fitting, for_walls = SHAPES[tap_.shape]
        assert tap_.handles in fitting
        assert tap_.mount == "deck" or for_walls
        assert tap_.second_finish != tap_.finish
    for finish in FINISHES:
        of_it = [tap for tap in all_attributes if tap.finish == finish.name]
        assert {tap.handles for tap in of_it} == {handles for fitting, _ in SHAPES.values() for handles in fitting}
        assert {tap.mount for tap in of_it} == {"deck", "wall"}
    assert {tap.second_finish for tap in all_attributes} == {None, *ACCENTS}
    dear = [tap for tap in all_attributes if tap.price_eur > 200]
    cheaper = [
        any(
            (other.shape, other.handles) == (tap.shape, tap.handles)
            and other.finish != tap.finish
            and other.price_eur < tap.price_eur
            for other in all_attributes
        )
        for tap in dear
    ]
    assert sum(cheaper) / len(dear) > 0.98


def test_what_is_said_is_what_was_chosen(all_attributes: list[Attributes]) -> None:
    """A name and a sentence say the finishes; measures and prices are plausible."""
    for one in all_attributes:
        assert one.finish in one.name
        for text in (one.name, one.description):
            assert (one.second_finish or one.finish) in text
        assert f"{one.height_mm} mm" in one.description
        assert 40 < one.height_mm < 420
        assert 70 < one.reach_mm < 260
        assert 20 < one.price_eur < 2000


# How much of a colour there is in (red, green, blue): what is grey has none of any.
HUES = {
    "gold": (0.5, 0.5, -1),
    "copper": (1, -0.5, -0.5),
    "purple": (0.5, -1, 0.5),
    "teal": (-1, 0.5, 0.5),
    "red": (1, -0.5, -0.5),
}


@pytest.mark.parametrize(
    ("finish", "second"),
    [("gold", "purple"), ("purple", None), ("teal", "copper"), ("chrome", "red"), ("chrome", None)],
)
def test_finishes_are_seen(finish: str, second: str | None) -> None:
    """The colours of a tap and of its handles are in the picture, and no others."""
    made = tap(Design("arc", "top lever", "deck", finish, second), Random(1))
    colours = shown(webp(picture(made.parts, View(38, 15))))
    seen = {hue for hue, weights in HUES.items() if np.mean(colours @ np.array(weights) > 45) > 0.04}
    of_both = {finish, second} & set(HUES)
    assert of_both <= seen
    assert not seen or of_both


def test_pictures_are_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second run reads them; the table is written once; a picture that is gone is drawn again, the same."""
    monkeypatch.setattr(catalogue, "CACHE", tmp_path)
    first = list(catalogue.rows(3))
    files = sorted(tmp_path.glob("*/*"))
    written = [file.stat().st_mtime_ns for file in files]
    assert len(files) == 3
    assert list(catalogue.rows(3)) == first
    assert [file.stat().st_mtime_ns for file in files] == written
    files[1].unlink()
    assert list(catalogue.rows(3)) == first
    with sqlite3.connect(":memory:", isolation_level=None) as conn:
        assert replace_table(conn, "catalogue", catalogue.TABLE, first)
        assert not replace_table(conn, "catalogue", catalogue.TABLE, list(catalogue.rows(3)))
        assert conn.execute("select count(*), min(length(picture)) > 1000 from catalogue").fetchone() == (3, 1)


@pytest.fixture
def site(tmp_path: Path, some: list[tuple[Attributes, bytes]]) -> Iterator[Datasette]:
    """Datasette with the demonstration's metadata, over some taps and without their embeddings."""
    metadata = yaml.safe_load((ROOT / "metadata.yml").read_text())
    file = tmp_path / "demo.db"
    with sqlite3.connect(file, isolation_level=None) as conn:
        replace_table(conn, "catalogue", catalogue.TABLE, [(*attributes, image) for attributes, image in some])
    conn.close()
    yield Datasette([str(file)], metadata={"databases": metadata["databases"]})


@pytest.mark.asyncio
async def test_pages(site: Datasette, some: list[tuple[Attributes, bytes]]) -> None:
    """The table's page says that prices are fictional, offers facets, and holds no picture as text; a row's link gives it."""
    html = (await site.client.get("/demo/catalogue")).text
    assert "fictional" in html
    assert len(html) < 200_000
    assert "UklGR" not in html  # how a WebP begins in base64
    facets = (await site.client.get("/demo/catalogue.json?_facet=shape")).json()
    assert {"shape", "finish", "handles", "mount"} <= set(
        facets["facet_results"].get("results", facets["facet_results"])
    )
    image = await site.client.get("/demo/catalogue/tap-0001.blob?_blob_column=picture")
    assert image.content == some[0][1]
