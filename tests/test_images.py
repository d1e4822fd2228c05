"""Collections of pictures: what gets in and what does not, what a build makes of them and what of them leaves again.

The model is a tiny CLIP whose vector of a picture is its mean colour, and of a text the sum of the colours that it names. So what is
similar is known, and of relevance nothing is proved.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import socket
import sqlite3
import struct
import subprocess
import sys
import warnings
import zlib
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hard
import numpy as np
import pytest
import yaml
from onnx_files import vision_network, write_clip_folder
from pictures import plain, saved
from PIL import Image, ImageCms
from test_datasette import make_site
from test_pages import data

from datasette_embeddings import embed
from datasette_embeddings.models import get_model
from datasette_embeddings.models.vision import VisionSession
from datasette_embeddings.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

COLOURS = ("red", "green", "blue", "white")
CORNERS = dict(zip(COLOURS, ((255, 0, 0), (0, 128, 0), (0, 0, 255), (255, 255, 255)), strict=True))
"""Of the picture of four quarters: red and green above, blue and white below."""

SIZE = (96, 64)
GREEN = (0, 128, 0)
CANARY = "canary-5f3a9c"


@pytest.fixture(scope="session")
def eye(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of the tiny CLIP."""
    return f"onnx/{write_clip_folder(tmp_path_factory.mktemp('eye'))}"


def quarters(size: tuple[int, int] = SIZE, mode: str = "RGB") -> Image.Image:
    """Return a picture of four colours, one in each corner."""
    image = Image.new("RGB", size)
    half = (size[0] // 2, size[1] // 2)
    for number, color in enumerate(COLOURS):
        image.paste(Image.new("RGB", half, color), (half[0] * (number % 2), half[1] * (number // 2)))
    return image.convert(mode)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, kind: int, raw: bytes, extra: bytes = b"") -> bytes:
    """Return a PNG written by hand: of sizes and depths that Pillow does not write."""
    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    )


def deep(image: Image.Image, extra: bytes = b"") -> bytes:
    """Return a picture as a PNG of 16 bits a channel."""
    values = np.asarray(image).astype(">u2") * 257
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    return png(*image.size, 16, 2 if values.ndim == 3 else 0, rows, extra)


def turned(orientation: int) -> bytes:
    """Return the four quarters as a camera held in that way writes them, so that they are upright when it is heeded."""
    undo = {
        2: (Image.Transpose.FLIP_LEFT_RIGHT,),
        3: (Image.Transpose.ROTATE_180,),
        4: (Image.Transpose.FLIP_TOP_BOTTOM,),
        5: (Image.Transpose.TRANSPOSE,),
        6: (Image.Transpose.ROTATE_90,),
        7: (Image.Transpose.TRANSVERSE,),
        8: (Image.Transpose.ROTATE_270,),
    }
    image = quarters()
    for step in undo.get(orientation, ()):
        image = image.transpose(step)
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(image, "JPEG", quality=95, exif=exif)


def animated(form: str, **options: Any) -> bytes:
    """Return an animation: the four quarters, then black."""
    return saved(quarters(), form, save_all=True, append_images=[Image.new("RGB", SIZE)], duration=40, **options)


def see_through() -> bytes:
    """Return the four quarters with a transparent white one, which is black where transparency is not heeded."""
    image = quarters(mode="RGBA")
    image.paste((0, 0, 0, 0), (SIZE[0] // 2, SIZE[1] // 2, *SIZE))
    return saved(image)


def palette() -> bytes:
    """Return the same with a palette one of whose colours is transparent."""
    image = Image.new("P", SIZE)
    image.putpalette([channel for color in (*CORNERS.values(), (0, 0, 0)) for channel in color])
    for number in range(4):
        index = number if number < 3 else 4
        image.paste(index, (48 * (number % 2), 32 * (number // 2), 48 * (number % 2) + 48, 32 * (number // 2) + 32))
    return saved(image, transparency=4)


def with_metadata() -> bytes:
    """Return a JPEG with a place, a comment, XMP and a colour profile."""
    exif = Image.Exif()
    exif[0x010E] = CANARY
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 51.0, 29.0)})
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    xmp = f"<x:xmpmeta xmlns:x='adobe:ns:meta/'>{CANARY}</x:xmpmeta>".encode()
    return saved(quarters(), "JPEG", quality=95, exif=exif, comment=CANARY.encode(), icc_profile=profile, xmp=xmp)


SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8" onload="alert(1)"><script>alert(2)</script></svg>'
JPEG = saved(quarters(), "JPEG", quality=95)
CUT_EXIF = b"II*\0\x08\0\0\0\x05\0\x12\x01\x03\0\x01\0"
ODD_EXIF = b"II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x04\0\0\0abc\0"

GOOD = {
    "plain.png": saved(quarters()),
    "baseline.jpg": JPEG,
    "progressive.jpg": saved(quarters(), "JPEG", quality=95, progressive=True),
    "cmyk.jpg": saved(quarters(mode="CMYK"), "JPEG", quality=95),
    "named.png": JPEG,
    "named_gif.jpg": saved(quarters(), "GIF"),
    "no_extension": saved(quarters(), "WEBP", lossless=True),
    "lossy.webp": saved(quarters(), "WEBP", quality=90),
    "animated.gif": animated("GIF"),
    "animated.webp": animated("WEBP", lossless=True),
    "animated.png": animated("PNG"),
    "rgb16.png": deep(quarters()),
    "palette.png": saved(quarters(mode="P")),
    "see_through.png": see_through(),
    "palette_see_through.png": palette(),
    "profile.jpg": with_metadata(),
    "cut_exif.jpg": JPEG[:2] + b"\xff\xe1\0\x18Exif\0\0" + CUT_EXIF + JPEG[2:],
    "cut_exif.webp": saved(quarters(), "WEBP", lossless=True, exif=CUT_EXIF),
    "odd_exif.png": saved(quarters(), exif=ODD_EXIF),
    "no_exif.webp": saved(quarters(), "WEBP", lossless=True, exif=b"no EXIF"),
    "mpo.jpg": animated("MPO", quality=95),
    "polyglot.png": saved(quarters()) + b"PK\x03\x04<script>" + CANARY.encode(),
    **{f"held{n}.jpg": turned(n) for n in range(1, 9)},
    "held9.jpg": turned(9),
}
"""Files that show the four quarters, upright."""

GREY = {
    "grey16.png": deep(Image.new("L", SIZE, 128)),
    "grey16_key.png": deep(Image.new("L", SIZE, 128), chunk(b"tRNS", b"\0\1")),
    "grey.jpg": saved(Image.new("L", SIZE, 128), "JPEG"),
    "la.png": saved(Image.merge("LA", [Image.new("L", SIZE, 0), Image.new("L", SIZE, 127)])),
}
"""Files that show nothing but grey of middle lightness."""

NARROW = {
    "wide.png": (saved(Image.new("RGB", (20_000, 10), "green")), (320, 1)),
    "high.png": (saved(Image.new("RGB", (3, 6_000), "green")), (1, 320)),
    "dot.png": (plain("green", (1, 1)), (1, 1)),
    "dot.gif": (plain("green", (1, 1), "GIF"), (1, 1)),
}
"""Green files of odd shapes, and the size of the thumbnail of each."""

BAD = {
    "bomb.png": (png(60_000, 60_000, 8, 2, b""), "the image has too many pixels"),
    "smaller_bomb.png": (png(10_000, 10_000, 8, 2, b""), "10000 x 10000 pixels; 40,000,000 in all are the most"),
    "cut.jpg": (JPEG[:-40], "truncated"),
    "cut.png": (saved(quarters(size=(400, 400)))[:200], "truncated"),
    "cut.webp": (saved(quarters(), "WEBP")[:60], "no readable image"),
    "cut.gif": (saved(quarters(), "GIF")[:40], "no readable image"),
    "nothing.png": (png(0, 0, 8, 2, b""), "no readable image"),
    "svg.png": (SVG, "cannot identify"),
    "page.jpg": (b"<!doctype html><script>alert(1)</script>", "cannot identify"),
    "script.gif": (b"GIF89a/*" + bytes(5) + b"*/=alert(1)//", "no readable image"),
    "scan.tif": (saved(quarters(), "TIFF"), "cannot identify"),
    "paint.bmp": (saved(quarters(), "BMP"), "cannot identify"),
    "sky.fits": (b"SIMPLE  =                    T".ljust(2880), "cannot identify"),
    "sky.fits.gz": (zlib.compress(b"SIMPLE  =                    T".ljust(2880), wbits=31), "cannot identify"),
    "print.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%id) (w) file", "cannot identify"),
    "noise.jpg": (b"\xff\xd8\xff" + bytes(range(256)) * 4, "no readable image"),
    "photo.webp": (saved(Image.new("RGB", (4_000, 3_500)), "WEBP", method=0), "a WebP of this size takes 224 MB"),
}
"""Files that are set aside, and what is said of each."""


def thumbnails(path: Path, name: str = "taps") -> dict[str, tuple[Any, ...]]:
    """Return id -> (type, width, height, data) of a collection."""
    sql = (
        "select t.id, type, width, height, data from thumbnails t join collections c on c.id = collection_id "
        "where c.name = ? order by 1"
    )
    return {item: tuple(rest) for item, *rest in hard.query(path, sql, [name])}


def vectors(path: Path, name: str = "taps") -> dict[str, bytes]:
    """Return id -> vector."""
    sql = "select e.id, embedding from embeddings e join collections c on c.id = collection_id where c.name = ? order by 1"
    return dict(hard.query(path, sql, [name]))


def issues(path: Path) -> dict[str, tuple[str, str]]:
    """Return id -> (status, reason)."""
    return {item: tuple(rest) for item, *rest in hard.query(path, "select id, status, reason from embeddings_issues")}


def shown(thumbnail: tuple[Any, ...]) -> Image.Image:
    """Return a thumbnail as a browser would show it."""
    image = Image.open(io.BytesIO(thumbnail[3]))
    assert (image.format, image.size, thumbnail[0]) == ("WEBP", thumbnail[1:3], "image/webp")
    return image.convert("RGB")


def near(found: Any, expected: Any, most: int = 24) -> bool:
    """Tell whether two colours are nearly the same: pictures lose a little by JPEG and WebP."""
    return bool(np.abs(np.array(found, int) - np.array(expected, int)).max() <= most)


# What gets in


NAMES = [
    "../secret.png",
    "a/../../secret.png",
    "{outside}/secret.png",
    "/dev/zero",
    "link_out.png",
    "folder_out/secret.png",
    "pipe.png",
    "device",
    "a",
    "ok.png\0.txt",
    "http://localhost/ok.png",
    "file:///ok.png",
    "data:image/png;base64,iVBORw0KGgo=",
    "..\\secret.png",
    "C:\\secret.png",
    "\\\\server\\share\\secret.png",
    "//server/share/secret.png",
    "~/secret.png",
    "%2e%2e/secret.png",
    "ok.png ",
    "round_and_round",
    "missing.png",
    "\ud800.png",
    "x" * 5_000,
]
"""Names that lead to no picture below the folder, whatever stands there."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of pictures with two good names in it, and everything that a name can mislead to."""
    inside = tmp_path / "photos"
    (inside / "a").mkdir(parents=True)
    (inside / "ok.png").write_bytes(plain("green"))
    (inside / "link_in.png").symlink_to("ok.png")
    (tmp_path / "secret.png").write_bytes(plain("red"))
    (inside / "link_out.png").symlink_to(tmp_path / "secret.png")
    (inside / "folder_out").symlink_to(tmp_path)
    (inside / "device").symlink_to("/dev/zero")
    (inside / "round_and_round").symlink_to("round_and_round")
    os.mkfifo(inside / "pipe.png")
    return inside


def open_files() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes, nor links for everybody")
def test_only_files_below_the_folder_are_read(
    folder: Path, eye: str, cli: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every other name is said to be none of them, no file stays open, and nothing is fetched."""
    path = folder.parent / "shop.db"
    names = [name.replace("{outside}", str(folder.parent)) for name in NAMES] + ["a"] * 20
    hard.change(path, "create table taps (id integer primary key, photo text)")
    for number, name in enumerate(["ok.png", "link_in.png", *names]):
        value = name.encode("utf-8", "surrogatepass")
        hard.change(path, ("insert into taps values (?, cast(? as text))", [number, value]))

    def refuse(*_: object) -> None:
        raise AssertionError("a connection was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    before = open_files()
    cli("add", path, "taps", "--image", "photo", "--folder", folder, "-m", eye)
    assert open_files() < before + 10
    assert set(vectors(path)) == {"0", "1"}
    assert len(set(vectors(path).values())) == 1
    assert near(shown(thumbnails(path)["0"]).getpixel((5, 5)), GREEN)
    said = issues(path)
    assert set(said) == {str(number + 2) for number in range(len(names))}
    assert {status for status, _ in said.values()} == {"failed"}
    outside = [reason for item, (_, reason) in said.items() if "leads out" in reason]
    assert len(outside) == 5
    addresses = [reason for item, (_, reason) in said.items() if "nothing is fetched" in reason]
    assert len(addresses) == 3
    assert hard.account(path, "taps") == (len(names) + 2, 2, 0, len(names))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes, nor links for everybody")
def test_a_glob_finds_only_files_below_the_folder(folder: Path, eye: str, cli: Callable) -> None:
    """A link that leads out is named with its reason; pipes and devices are no files."""
    path = folder.parent / "shop.db"
    cli("embed", path, "taps", "--files", folder, "**/*", "--images", "-m", eye)
    assert set(vectors(path)) == {"ok.png", "link_in.png"}
    assert issues(path) == {"link_out.png": ("failed", "the path leads out of the folder of pictures")}


@pytest.fixture(scope="session")
def gallery_once(tmp_path_factory: pytest.TempPathFactory, eye: str) -> tuple[Path, str]:
    """A database of every kind of file, good and bad, and what its build said; of what is odd about them, Pillow does not warn."""
    inside = tmp_path_factory.mktemp("gallery") / "photos"
    inside.mkdir()
    files = {**GOOD, **GREY, **{n: f for n, (f, _) in NARROW.items()}, **{n: f for n, (f, _) in BAD.items()}}
    for name, content in {**files, "empty.png": b""}.items():
        (inside / name).write_bytes(content)
    path = inside.parent / "gallery.db"
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        said = hard.run("embed", path, "taps", "--files", inside, "*", "--images", "-m", eye).output
    assert not warned
    return path, said


def test_every_file_is_embedded_or_set_aside_with_a_reason(gallery_once: tuple[Path, str]) -> None:
    """The build goes on, and says how many."""
    path, said = gallery_once
    good = {*GOOD, *GREY, *NARROW}
    assert set(vectors(path)) == set(thumbnails(path)) == good
    assert set(issues(path)) == {*BAD, "empty.png"}
    assert issues(path).pop("empty.png") == ("skipped", "empty")
    for name, (_, reason) in BAD.items():
        status, found = issues(path)[name]
        assert (status, reason in found) == ("failed", True), f"{name}: {found}"
        assert "0x" not in found
    count = len(good) + len(BAD) + 1
    assert f"{count} pictures: {len(good)} embedded, 1 skipped, {len(BAD)} failed" in said
    assert "'svg.png'" in said or "'page.jpg'" in said
    assert hard.run("verify", path).exit_code == 0


@pytest.mark.parametrize("name", GOOD)
def test_thumbnails_show_what_the_file_shows(gallery_once: tuple[Path, str], name: str) -> None:
    """Upright, in its colours, the first frame, on white; and so does what the model sees."""
    image = shown(thumbnails(gallery_once[0])[name])
    assert image.size == SIZE
    for number, color in enumerate(COLOURS):
        place = (24 + 48 * (number % 2), 16 + 32 * (number // 2))
        assert near(image.getpixel(place), CORNERS[color], 40), (color, image.getpixel(place))
    mean = np.mean(list(CORNERS.values()), axis=0)
    vector = np.frombuffer(vectors(gallery_once[0])[name], "<f4")
    np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=0.06)


@pytest.mark.parametrize("name", GREY)
def test_grey_of_more_bits_is_not_white(gallery_once: tuple[Path, str], name: str) -> None:
    """Nor black."""
    assert near(shown(thumbnails(gallery_once[0])[name]).getpixel((5, 5)), (128, 128, 128), 6)


@pytest.mark.parametrize("name", NARROW)
def test_thumbnails_of_odd_shapes(gallery_once: tuple[Path, str], name: str) -> None:
    """A side has a pixel at least, and nothing is made larger."""
    thumbnail = thumbnails(gallery_once[0])[name]
    assert thumbnail[1:3] == NARROW[name][1]
    assert near(shown(thumbnail).getpixel((0, 0)), GREEN)


def test_thumbnails_hold_nothing_else_of_the_file(gallery_once: tuple[Path, str]) -> None:
    """No place, no comment, no profile, nothing that came after the picture."""
    path, _ = gallery_once
    for *_, thumbnail in thumbnails(path).values():
        image = Image.open(io.BytesIO(thumbnail))
        assert not dict(image.getexif())
        assert not {"exif", "icc_profile", "xmp", "comment"} & set(image.info)
        assert getattr(image, "n_frames", 1) == 1
    assert CANARY.encode() not in path.read_bytes()
    assert b"<script" not in path.read_bytes()


def test_large_pictures_become_smaller_evenly(tmp_path: Path, eye: str, cli: Callable) -> None:
    """Of more pixels than are looked at: each kind is made smaller in its own way, and shows the same."""
    size = (3_001, 2_003)
    kinds = {
        "large.jpg": saved(quarters(size), "JPEG"),
        "large.png": saved(quarters(size), compress_level=1),
        "large_grey.png": deep(Image.new("L", size, 128)),
    }
    for name, content in kinds.items():
        (tmp_path / name).write_bytes(content)
    path = tmp_path / "large.db"
    cli("embed", path, "taps", "--files", tmp_path, "*.*g", "--images", "-m", eye)
    for name, thumbnail in thumbnails(path).items():
        image = shown(thumbnail)
        assert image.size in {(320, 213), (320, 214)}
        expected = [(128, 128, 128)] * 4 if "grey" in name else list(CORNERS.values())
        found = [image.getpixel((80 + 160 * (n % 2), 53 + 107 * (n // 2))) for n in range(4)]
        assert all(near(*pair) for pair in zip(found, expected, strict=True)), (name, found)
    assert len(thumbnails(path)) == 3


DRAWING = """
import PIL.Image
from datasette_embeddings.models.images import open_image
from datasette_embeddings.thumbnails import thumbnails
PIL.Image.init()
data = Path(sys.argv[1]).read_bytes()
before = memory("VmRSS")
found = thumbnails([data, data])
assert all(hasattr(one, "data") for one in found), found
open_image(data)
"""

READING = """
import sqlite3
from datasette_embeddings.sources import TableSource
conn = sqlite3.connect(sys.argv[1])
before = memory("VmRSS")
(row,) = TableSource("taps", image="photo").rows(conn)
assert "more than 20,000,000 bytes" in row.problem, row
"""

needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")


def peak(code: str, file: Path) -> float:
    """Return how many megabytes more than *before* a program of its own needed."""
    program = (
        "import sys\nfrom pathlib import Path\n"
        "memory = lambda kind: int(Path('/proc/self/status').read_text().split(kind + ':')[1].split()[0]) / 1000\n"
        f"{code}\nprint(memory('VmHWM') - before)"
    )
    command = [sys.executable, "-c", program, file]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


@needs_proc
@pytest.mark.parametrize("kind", ["rgba.png", "progressive.jpg", "phone.webp"])
def test_the_largest_pictures_take_little_memory(tmp_path: Path, kind: str) -> None:
    """Of two at the same time one waits: 40 megapixels with transparency, a progressive JPEG, what a telephone writes as WebP."""
    file = tmp_path / kind
    if kind == "rgba.png":
        Image.new("RGBA", (7_300, 5_479), (9, 99, 9, 128)).save(file, compress_level=1)
    elif kind == "progressive.jpg":
        Image.new("RGB", (7_300, 5_479), "green").save(file, progressive=True)
    else:
        Image.new("RGB", (4_032, 3_024), "green").save(file, method=0)
    assert peak(DRAWING, file) < 215


@needs_proc
def test_a_value_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    """A BLOB may have a gigabyte."""
    path = tmp_path / "shop.db"
    statements = (
        "create table taps (id integer primary key, photo)",
        "insert into taps values (1, zeroblob(90000000))",
    )
    hard.change(path, *statements)
    assert peak(READING, path) < 60


def test_a_column_of_other_things_than_pictures(tmp_path: Path, eye: str, cli: Callable) -> None:
    """Numbers, texts without a folder and files too large are set aside; NULL and nothing are skipped."""
    path = tmp_path / "shop.db"
    hard.change(path, "create table taps (id integer primary key, photo)")
    for number, value in enumerate([plain("green"), None, b"", "", 12, 3.5, "ok.png"]):
        hard.change(path, ("insert into taps values (?, ?)", [number, value]))
    hard.change(path, "insert into taps values (7, zeroblob(20000001))")
    said = cli("add", path, "taps", "--image", "photo", "-m", eye).output
    assert set(vectors(path)) == {"0"}
    found = issues(path)
    assert {item for item, (status, _) in found.items() if status == "skipped"} == {"1", "2", "3"}
    assert "found int" in found["4"][1]
    assert "found float" in found["5"][1]
    assert "--folder" in found["6"][1]
    assert "more than 20,000,000 bytes" in found["7"][1]
    assert "skipped, empty: 3 pictures ('1', '2', '3')" in said


# Builds


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A database of pictures in a column: six colours, two of them the same, and a row without one."""
    path = tmp_path / "shop.db"
    hard.change(path, "create table taps (id integer primary key, name text, photo blob)")
    colors = ["red", "darkred", "green", "blue", "navy", "red", None]
    for number, color in enumerate(colors):
        photo = color and plain(color)
        hard.change(path, ("insert into taps values (?, ?, ?)", [number, f"tap {number}", photo]))
    return path


def held(path: Path) -> dict[str, Any]:
    """Return all that a file holds of the pictures."""
    return {**hard.tables_of(path, "taps"), "thumbnails": thumbnails(path)}


def test_a_second_build_changes_nothing(shop: Path, eye: str, cli: Callable) -> None:
    """Equal pictures are embedded once, and what is similar is by their colours."""
    said = cli("add", shop, "taps", "--image", "photo", "-m", eye).output
    assert "6 pictures to embed" not in said
    assert "5 pictures to embed by onnx/" in said
    assert "7 pictures: 6 embedded, 1 skipped, 0 failed" in said
    assert "5 pictures embedded" in said
    assert "token" not in said
    assert "-m metadata.yml" in said
    assert "The finder is at /-/embeddings/shop/taps/images" in said
    assert hard.query(shop, "select other_id, score from similarities where id = '0' order by score desc, other_id")[
        :2
    ] == [("1", 1.0), ("5", 1.0)]
    before = shop.read_bytes()
    assert "nothing changed (7 pictures: 6 embedded, 1 skipped, 0 failed)" in cli("build", shop).output
    assert shop.read_bytes() == before
    assert "the largest 'tap' with" in said
    assert hard.query(shop, "select name from sqlite_master where name like 'embeddings_fts%'") == []


def test_what_changes_and_leaves(shop: Path, eye: str, cli: Callable) -> None:
    """A build after every kind of change equals one from scratch, and nothing of what was there before is in the file."""
    noise = [saved(Image.effect_noise((120, 120), 99)) for _ in range(8)]
    hard.change(shop, *(("insert into taps values (?, 'gone', ?)", [n + 20, data]) for n, data in enumerate(noise)))
    hard.change(shop, ("insert into taps values (7, 'gone', ?)", [plain("pink")]))
    hard.change(shop, ("insert into taps values (8, 'emptied', ?)", [plain("olive")]))
    cli("add", shop, "taps", "--image", "photo", "-m", eye)
    before = thumbnails(shop)
    hard.change(
        shop,
        "delete from taps where name = 'gone'",
        "update taps set photo = null where id = 8",
        ("update taps set photo = ? where id = 3", [plain("teal")]),
        ("update taps set photo = ? where id = 4", [b"no picture"]),
        ("update taps set photo = ? where id = 6", [plain("green")]),
        ("insert into taps values (9, 'new', ?)", [plain("plum")]),
    )
    said = cli("build", shop).output
    assert "2 new, 2 changed, 11 removed, 2 pictures embedded, 1 vector reused" in said
    assert (
        "  failed, no readable image, which is a whole JPEG or PNG or WEBP or GIF (cannot identify image file): 1 picture ('4')"
        in said
    )
    after = thumbnails(shop)
    assert after["3"] != before["3"]
    assert set(after) == set(vectors(shop)) == {"0", "1", "2", "3", "5", "6", "9"}
    for item in ("3", "4", "7", "8"):
        assert before[item][3] not in shop.read_bytes()
    assert not any(data[2_000:2_100] in shop.read_bytes() for data in noise)
    incremental = held(shop)
    cli("delete", shop, "taps")
    assert not any(data in shop.read_bytes() for *_, data in after.values())
    cli("add", shop, "taps", "--image", "photo", "-m", eye)
    assert held(shop) == incremental


def test_files_that_change(tmp_path: Path, eye: str, cli: Callable) -> None:
    """Of a column of paths and of a glob: a build reads the files again."""
    photos = tmp_path / "my photos"
    photos.mkdir()
    for color in ("red", "blue"):
        (photos / f"{color}.png").write_bytes(plain(color))
    path = tmp_path / "shop.db"
    hard.change(
        path,
        "create table taps (id integer primary key, photo text)",
        "insert into taps values (1, 'red.png'), (2, 'blue.png')",
    )
    cli("add", path, "taps", "--image", "photo", "--folder", photos, "-m", eye)
    globbed = ("embed", path, "files", "--files", photos, "*.png", "--images", "-m", eye, "--delete-missing")
    cli(*globbed)
    assert "nothing changed" in cli("build", path).output
    (photos / "red.png").write_bytes(plain("green"))
    (photos / "blue.png").unlink()
    assert "1 changed, 1 removed" in cli("build", path).output
    assert "1 changed, 1 removed" in cli(*globbed).output
    assert issues(path)["2"] == ("failed", "the file cannot be read: No such file or directory")
    for name, item in (("taps", "1"), ("files", "red.png")):
        assert near(shown(thumbnails(path, name)[item]).getpixel((5, 5)), GREEN)


def configured(path: Path, eye: str, **more: object) -> Path:
    """Write a metadata.yml with one collection of pictures beside a database."""
    block = {"table": "taps", "image": "photo", "model": eye, "similarities": 3, **more}
    block = {"plugins": {"datasette-embeddings": {"collections": {"taps": block}}}}
    path.with_name("metadata.yml").write_text(yaml.safe_dump(block))
    return path.parent


def test_a_configuration_of_paths(tmp_path: Path, eye: str, cli: Callable) -> None:
    """The folder counts from where the database is; one by its whole path is not told to readers of the file."""
    site = tmp_path / "site"
    (site / "photos").mkdir(parents=True)
    (site / "photos" / "red.png").write_bytes(plain("red"))
    path = site / "shop.db"
    hard.change(
        path, "create table taps (id integer primary key, photo text)", "insert into taps values (1, 'red.png')"
    )
    cli("build", configured(path, eye, images="photos"))
    assert set(thumbnails(path)) == {"1"}
    cli("build", configured(path, eye, images=str(site / "photos")))
    hard.change(path, "insert into taps values (2, 'red.png')")
    cli("build", configured(path, eye, images=str(site / "photos")))
    assert set(thumbnails(path)) == {"1", "2"}
    (source,) = hard.query(path, "select source from embeddings_collections")[0]
    assert "folder" not in json.loads(source)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"image": None, "images": "photos", "columns": ["name"]}, "name that column by `image: COLUMN`"),
        ({"columns": ["name"]}, "one of them"),
        ({"template": "{{ name }}"}, "one of them"),
        ({"chunk": True}, "remove 'chunk'"),
        ({"table": None, "sql": "select id, photo from taps"}, "remove 'sql'"),
        ({"image": "foto"}, "did you mean photo?"),
        ({"images": "fotos"}, "there is no folder"),
        ({"images": "~nobody-of-this-name/fotos"}, "there is no folder"),
        ({"model": "static"}, "sentence-transformers/clip-ViT-B-32"),
        ({"image": ["photo"]}, "taps: image"),
    ],
    ids=str,
)
def test_wrong_configurations_name_the_fix(
    shop: Path, eye: str, cli: Callable, more: dict[str, object], said: str
) -> None:
    """In one sentence, before anything is written."""
    before = shop.read_bytes()
    configured(shop, eye, **more)
    assert said in cli("build", shop.parent, code=1).output
    assert shop.read_bytes() == before


def test_a_model_of_texts_is_not_given_pictures_nor_the_other_way_round(shop: Path, cli: Callable) -> None:
    """The sentence leads to a model that fits."""
    said = cli("add", shop, "taps", "--image", "photo", code=1).output
    assert "static embeds texts, and the source holds pictures" in said
    assert "`datasette embeddings models`" in said
    assert any(line.startswith("Error: taps: static") for line in said.splitlines())


def test_a_table_without_texts_is_asked_about_its_pictures(tmp_path: Path, cli: Callable) -> None:
    """`add` says by which option a column of pictures is embedded, and does not take other BLOBs for such."""
    path = tmp_path / "shop.db"
    hard.change(path, "create table taps (id integer primary key, sku text, sound blob, [the photo] blob)")
    hard.change(path, ("insert into taps values (1, 'A1', x'00010203', ?)", [plain("red")]))
    said = cli("add", path, "taps", code=1).output
    assert "'the photo' holds pictures: --image 'the photo'" in said


def test_vectors_of_an_earlier_file_are_reused(shop: Path, eye: str, cli: Callable, tmp_path: Path) -> None:
    """Thumbnails are drawn anew; no picture is embedded."""
    cli("build", configured(shop, eye))
    old = shop.rename(tmp_path / "old.file")
    with closing(sqlite3.connect(shop)) as conn, conn:
        conn.execute("attach ? as old", [str(old)])
        conn.execute("create table taps (id integer primary key, name text, photo blob)")
        conn.execute("insert into taps select * from old.taps")
    assert "0 pictures embedded, 6 vectors reused" in cli("build", shop, "--reuse", old).output
    assert thumbnails(shop) == thumbnails(old)
    assert vectors(shop) == vectors(old)


class Watched:
    """Counts the pictures that the model is given; where *after* is set, Ctrl-C is pressed before more than so many."""

    def __init__(self) -> None:
        self.seen = 0
        self.after: int | None = None


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    """The model of pictures, watched."""
    real, state = VisionSession.__call__, Watched()

    def call(self: VisionSession, pictures: Any) -> Any:
        if state.after is not None and state.seen + len(pictures) > state.after:
            raise KeyboardInterrupt
        state.seen += len(pictures)
        return real(self, pictures)

    monkeypatch.setattr(VisionSession, "__call__", call)
    return state


def test_the_same_command_goes_on_after_ctrl_c(shop: Path, eye: str, cli: Callable, watched: Watched) -> None:
    """What was committed is not embedded again, and the end is as it would have been."""
    command = ("embed", shop, "taps", "--table", "taps", "--column", "photo", "--images", "-m", eye, "--batch-size", 2)
    watched.after = 4
    assert "run the same command to go on" in cli(*command, code=1).output
    assert watched.seen == 4
    assert set(thumbnails(shop)) == set(vectors(shop))
    assert hard.query(shop, "select count(distinct content_hash) from embeddings") == [(4,)]
    watched.after = None
    cli(*command)
    assert watched.seen == 5
    once = held(shop)
    cli("delete", shop, "taps")
    cli(*command)
    assert held(shop) == once


@pytest.mark.parametrize("removed", [False, True])
def test_a_file_that_changes_meanwhile_stops_the_build(
    tmp_path: Path, eye: str, cli: Callable, monkeypatch: pytest.MonkeyPatch, removed: bool
) -> None:
    """Files are read when it is their turn; no vector is stored for a picture that is another by then."""
    monkeypatch.setattr(embed, "WINDOW_ITEMS", 2)
    for color in ("red", "green", "blue", "navy", "plum"):
        (tmp_path / f"{color}.png").write_bytes(plain(color))
    path = tmp_path / "shop.db"
    command = ("embed", path, "taps", "--files", tmp_path, "*.png", "--images", "-m", eye, "--delete-missing")
    real = VisionSession.__call__

    def call(self: VisionSession, pictures: Any) -> Any:
        for file in tmp_path.glob("*.png"):
            file.unlink() if removed else file.write_bytes(plain("white"))
        return real(self, pictures)

    with monkeypatch.context() as patch:
        patch.setattr(VisionSession, "__call__", call)
        assert "changed or removed while the build ran; run the same command to go on" in cli(*command, code=1).output
    assert len(vectors(path)) == len(thumbnails(path)) == 2
    (tmp_path / "teal.png").write_bytes(plain("teal"))
    cli(*command)
    assert set(vectors(path)) == {file.name for file in tmp_path.glob("*.png")}
    assert "all as it should be" in cli("verify", path).output


def test_another_model_is_built_beside_the_one_that_serves(
    shop: Path, eye: str, cli: Callable, tmp_path: Path, watched: Watched
) -> None:
    """With thumbnails of its own; both names swap at the end, and nothing of the old one is left."""
    cli("build", configured(shop, eye))
    before = (vectors(shop), thumbnails(shop))
    weights = np.eye(3, dtype="<f4")[::-1].copy()
    other = write_clip_folder(tmp_path / "other", {"vision_model.onnx": vision_network(weights=weights)})
    site = configured(shop, f"onnx/{other}")
    get_model(f"onnx/{other}").batch_items = 2
    watched.seen, watched.after = 0, 2
    cli("build", site, code=1)
    assert (vectors(shop), thumbnails(shop)) == before
    assert len(thumbnails(shop, "taps~next")) == len(vectors(shop, "taps~next")) > 0
    watched.after = None
    cli("build", site)
    assert thumbnails(shop) == before[1]
    assert vectors(shop)["0"] != before[0]["0"]
    assert hard.query(shop, "select count(distinct collection_id), count(*) from thumbnails") == [(1, 6)]
    assert "all as it should be" in cli("verify", shop).output


def test_originals_are_kept_only_where_asked(shop: Path, eye: str, cli: Callable) -> None:
    """`--store` keeps each file as it is."""
    command = ("embed", shop, "taps", "--table", "taps", "--column", "photo", "--images", "-m", eye)
    cli(*command)
    assert hard.query(
        shop, "select count(*) from embeddings where content_blob is not null or content is not null"
    ) == [(0,)]
    cli(*command, "--store")
    same = "select count(*) from embeddings e join taps t on t.id = e.id where e.content_blob is t.photo"
    assert hard.query(shop, same) == [(6,)]
    cli(*command, "--no-store")
    assert hard.query(shop, same) == [(0,)]
    files = shop.parent / "files"
    files.mkdir()
    (files / "red.png").write_bytes(plain("red"))
    cli("embed", shop, "files", "--files", files, "*", "--images", "-m", eye, "--store")
    assert hard.query(shop, "select content_blob from embeddings where id = 'red.png'") == [(plain("red"),)]


def test_a_dry_run_says_pictures_and_writes_nothing(shop: Path, eye: str, cli: Callable) -> None:
    """And a picture that cannot be opened does not end it."""
    hard.change(shop, ("insert into taps values (8, 'bad', ?)", [SVG]))
    before = shop.read_bytes()
    said = cli("build", configured(shop, eye), "--dry-run").output
    assert "8 rows, 7 new, 0 changed, 0 gone, 1 without a vector; 6 pictures to embed by onnx/" in said
    assert ", no cost, about 1 s, about " in said
    assert "token" not in said
    assert shop.read_bytes() == before


def test_texts_do_not_take_the_place_of_pictures(shop: Path, eye: str, cli: Callable) -> None:
    """Nor pictures that of texts, by an option that was forgotten: each command says what it found."""
    cli("add", shop, "taps", "--column", "name", "-m", "static")
    said = cli("add", shop, "taps", "--image", "photo", "-m", eye, code=1).output
    assert "the collection 'taps' holds texts, and pictures would take their place; give --name NAME to those" in said
    cli("add", shop, "taps", "--image", "photo", "-m", eye, "--name", "photos")
    files = shop.parent / "files"
    files.mkdir()
    (files / "red.png").write_bytes(plain("red"))
    command = ("embed", shop, "files", "--files", files, "*.png", "-m", eye)
    cli(*command, "--images")
    assert "say --image (--images of `embed`) again" in cli(*command, code=1).output
    assert set(vectors(shop, "files")) == {"red.png"}
    assert len(vectors(shop, "photos")) == 6


@pytest.mark.asyncio
async def test_an_edited_picture_is_noticed(shop: Path, eye: str, cli: Callable) -> None:
    """Its pages say so until the next build; those of others do not."""
    cli("add", shop, "taps", "--image", "photo", "-m", eye)
    hard.change(shop, ("update taps set photo = ? where id = 3", [plain("teal")]))
    site = make_site(shop.parent)
    address = "/-/embeddings/shop/taps/item"
    assert (await data(site, f"{address}/3.json"))["state"] == "edited"
    assert (await data(site, f"{address}/4.json"))["state"] == "current"
    assert (await data(site, f"{address}/6.json"))["state"] == "skipped"
    assert "what is related is of its earlier picture" in (await site.client.get(f"{address}/3")).text
    cli("build", shop)
    assert (await data(make_site(shop.parent), f"{address}/3.json"))["state"] == "current"


def test_what_llm_embedded_is_adopted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Callable) -> None:
    """Vectors of llm's own stay as they are, its copies of the files go, and thumbnails come."""
    llm = pytest.importorskip("llm")
    import sqlite_utils
    from llm.plugins import load_plugins, pm

    class Eye(llm.EmbeddingModel):
        model_id = "mean-colour"
        supports_binary = True
        supports_text = False
        calls = 0

        def embed_batch(self, items: Any, *, key: Any = None) -> Any:
            for item in items:
                self.calls += 1
                yield [float(value) for value in np.asarray(Image.open(io.BytesIO(item)).convert("RGB")).mean((0, 1))]

    class Plugin:
        model = Eye()

        @llm.hookimpl
        def register_embedding_models(self, register: Any) -> None:
            register(self.model)

    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path))
    load_plugins()
    plugin = Plugin()
    pm.register(plugin)
    try:
        photos = tmp_path / "photos"
        photos.mkdir()
        path = tmp_path / "pics.db"
        for color in ("red", "green", "blue"):
            (photos / f"{color}.png").write_bytes(plain(color))
        made = llm.Collection("taps", sqlite_utils.Database(path), model_id="mean-colour")
        made.embed_multi(((file.name, file.read_bytes()) for file in sorted(photos.iterdir())), store=True)
        before, calls = vectors(path), plugin.model.calls
        command = ("embed", path, "taps", "--files", photos, "*.png", "--images", "-m", "llm/mean-colour")
        said = cli(*command).output
        assert "0 pictures embedded, 3 vectors reused" in said
        assert plugin.model.calls == calls
        assert vectors(path) == before
        assert set(thumbnails(path)) == set(before)
        assert hard.query(path, "select count(*) from embeddings where content_blob is not null") == [(0,)]
        assert "Nothing changed" in cli(*command).output
    finally:
        pm.unregister(plugin)


def test_a_picture_of_many_rows_is_committed_bit_by_bit(
    tmp_path: Path, eye: str, cli: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no picture is to be had a catalogue shows the same one in thousands of rows; memory does not grow with these."""
    (tmp_path / "none.jpg").write_bytes(saved(Image.effect_noise((320, 320), 99), "JPEG"))
    path = tmp_path / "shop.db"
    rows = ", ".join(f"({number}, 'none.jpg')" for number in range(300))
    hard.change(path, "create table taps (id integer primary key, photo text)", f"insert into taps values {rows}")
    real, sizes = Store.save, []

    def save(self: Store, collection: Any, items: Any, *rest: Any) -> None:
        sizes.append(sum(len(item.content_blob or b"") + len(item.thumbnail.data) for item in items))
        real(self, collection, items, *rest)

    monkeypatch.setattr(Store, "save", save)
    said = cli("add", path, "taps", "--image", "photo", "--folder", tmp_path, "-m", eye, "-n", 1).output
    assert "300 pictures: 300 embedded, 0 skipped, 0 failed; 300 new" in said
    assert "1 picture embedded" in said
    assert max(sizes) < 9_000_000 < sum(sizes)


def test_a_picture_that_another_program_embedded_gets_a_thumbnail_of_its_own(
    shop: Path, eye: str, cli: Callable
) -> None:
    """As `llm embed-multi` does of a picture that changed: the vector is as the program left it, and no thumbnail is of the earlier one."""
    cli("add", shop, "taps", "--image", "photo", "-m", eye)
    teal = plain("teal")
    digest = hashlib.md5(teal).digest()
    hard.change(
        shop,
        ("update taps set photo = ? where id = 3", [teal]),
        ("update embeddings set content_hash = ?, updated = updated + 9 where id = '3'", [digest]),
    )
    cli("build", shop)
    assert near(shown(thumbnails(shop)["3"]).getpixel((5, 5)), (0, 128, 128))
    assert "nothing changed" in cli("build", shop).output


@pytest.mark.parametrize(
    "own", ["id integer primary key, url text", "id integer primary key, collection_id integer, data blob"]
)
def test_a_file_of_an_earlier_release_with_thumbnails_of_its_owner(
    shop: Path, eye: str, cli: Callable, own: str
) -> None:
    """Their table is left alone: the sentence says how both are kept."""
    cli("add", shop, "taps", "--column", "name", "-m", "static")
    hard.change(
        shop,
        "drop table thumbnails",
        "delete from _sqlite_migrations where name = 'm008_pictures'",
        f"create table thumbnails ({own})",
        "insert into thumbnails (id) values (12)",
    )
    assert "Nothing changed" in cli("build", shop).output
    command = ("add", shop, "taps", "--image", "photo", "-m", eye, "--name", "photos")
    said = cli(*command, code=1).output
    assert "`alter table thumbnails rename to my_thumbnails`" in said
    hard.change(shop, "alter table thumbnails rename to my_thumbnails")
    cli(*command)
    assert len(thumbnails(shop, "photos")) == 6
    assert hard.query(shop, "select id from my_thumbnails") == [(12,)]
    assert "all as it should be" in cli("verify", shop).output


def test_tables_with_a_prefix(shop: Path, eye: str, cli: Callable) -> None:
    """Beside a table of the owner's that has the name of ours."""
    hard.change(shop, "create table thumbnails (id integer primary key, collection_id integer)")
    assert "--table-prefix emb_" in cli("add", shop, "taps", "--image", "photo", "-m", eye, code=1).output
    cli("add", shop, "taps", "--image", "photo", "-m", eye, "--table-prefix", "emb_")
    assert hard.query(shop, "select count(*) from emb_thumbnails") == [(6,)]
    assert hard.query(shop, "select count(*) from thumbnails") == [(0,)]
    hard.change(shop, "delete from emb_thumbnails where id = '3'")
    assert "1 ('3') have no thumbnail" in cli("verify", shop, code=1).output
    assert "1 vector reused" in cli("build", shop).output
    assert "all as it should be" in cli("verify", shop).output


def test_without_pillow_nothing_is_written(
    shop: Path, eye: str, cli: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sentence says what to install; a build without anything to do does not need it."""
    cli("build", configured(shop, eye))
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert "nothing changed" in cli("build", shop).output
    cli("delete", shop, "taps")
    before = shop.read_bytes()
    said = cli("build", shop, code=1).output
    assert "pip install 'datasette-embeddings-suite[images]'" in said
    assert shop.read_bytes() == before


def test_pictures_are_not_cut(shop: Path, eye: str, cli: Callable) -> None:
    """An option that would set aside every row is refused."""
    said = cli("add", shop, "taps", "--image", "photo", "-m", eye, "--chunk", code=2).output
    assert "--chunk is for texts" in said


def test_the_folder_of_before_is_taken_again(tmp_path: Path, eye: str, cli: Callable) -> None:
    """As the model is: by one option less no picture is lost; a folder that is gone is named, with what to do."""
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "red.png").write_bytes(plain("red"))
    path = tmp_path / "shop.db"
    hard.change(
        path, "create table taps (id integer primary key, photo text)", "insert into taps values (1, 'red.png')"
    )
    of_table = ("embed", path, "more", "--table", "taps", "--column", "photo", "--images")
    for command in (("add", path, "taps", "--image", "photo"), of_table):
        cli(*command, "--folder", photos, "-m", eye)
        assert "nothing changed" in cli(*command).output
    photos.rename(tmp_path / "elsewhere")
    said = cli("build", path, code=1).output
    assert "there is no folder" in said
    assert "`images` (--folder)" in said
    assert set(vectors(path)) == {"1"}


# What is said, and what must hold


def test_status_says_pictures_and_their_thumbnails(shop: Path, eye: str, cli: Callable) -> None:
    """As text and as JSON; a column that is gone is named."""
    cli("add", shop, "taps", "--image", "photo", "-m", eye)
    said = cli("status", shop).output
    size = sum(len(data) for *_, data in thumbnails(shop).values())
    assert "7 pictures = 6 embedded + 1 skipped + 0 failed" in said
    assert f"thumbnails of {size / 1e3:,.0f} kB" in said
    assert json.loads(cli("status", shop, "--json").output)[0]["thumbnails"] == size
    hard.change(shop, "alter table taps rename column photo to picture")
    assert "no column photo any more" in cli("status", shop).output


DAMAGES = {
    "delete from thumbnails where id = '3'": "1 ('3') have no thumbnail",
    "insert into thumbnails select collection_id, 'x', type, width, height, data from thumbnails limit 1": (
        "thumbnails has 1 ('x'), which have no vector"
    ),
    "update thumbnails set data = x'89504e470d0a1a0a' where id = '3'": "1 ('3') are no WebP",
    "update thumbnails set type = 'text/html' where id = '3'": "1 ('3') are no WebP",
    "update thumbnails set data = null where id = '3'": "1 ('3') are no WebP",
    "update thumbnails set height = 0 where id = '3'": "1 ('3') are no WebP",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_verify_names_broken_thumbnails(shop: Path, eye: str, cli: Callable, damage: str) -> None:
    """In words, with exit code 1; what a build can mend, it mends."""
    cli("add", shop, "taps", "--image", "photo", "-m", eye)
    whole = held(shop)
    hard.change(shop, damage)
    assert DAMAGES[damage] in cli("verify", shop, code=1).output
    cli("build", shop, "--rebuild")
    assert "all as it should be" in cli("verify", shop).output
    assert held(shop) == whole


def test_a_build_draws_what_has_no_thumbnail(shop: Path, eye: str, cli: Callable) -> None:
    """The picture is not embedded for it."""
    cli("add", shop, "taps", "--image", "photo", "-m", eye)
    whole = held(shop)
    hard.change(shop, "delete from thumbnails where id = '3'")
    assert "0 pictures embedded, 1 vector reused" in cli("build", shop).output
    assert held(shop) == whole


# The recipes of docs/images.md

PAGE = (Path(__file__).parent.parent / "docs" / "images.md").read_text(encoding="utf-8")
CLIP = "sentence-transformers/clip-ViT-B-32"


def block(heading: str, language: str, number: int = 0) -> str:
    """Return a block of code of a section of the page."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", section, re.M | re.S)[number]


def test_the_recipe_of_photographs_and_prices(
    tmp_path: Path, eye: str, cli: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on the page, with the tiny model in the place of CLIP; the query for what is alike and cheaper runs too."""
    heading = "A real catalogue: your photographs and a list of prices"
    (tmp_path / "taps.csv").write_text(block(heading, "text"))
    (tmp_path / "photos").mkdir()
    for color, file in zip(("red", "green", "darkred"), ("a-1.jpg", "a-2.jpg", "b-7.jpg"), strict=True):
        (tmp_path / "photos" / file).write_bytes(plain(color, form="JPEG"))
    monkeypatch.chdir(tmp_path)
    insert, add, serve = block(heading, "bash").splitlines()
    assert serve.startswith("datasette ")
    subprocess.run([sys.executable, "-m", *insert.replace("sqlite-utils", "sqlite_utils", 1).split()], check=True)
    cli(*add.replace(CLIP, eye).split()[2:])
    path = Path("shop.db")
    assert set(thumbnails(path)) == {"A-1", "A-2", "B-7"}
    sql = block("Finding", "sql")
    found = hard.query(path, sql, {"sku": "A-1"})
    assert [(sku, price) for sku, _, price, _ in found] == [("B-7", 45.5)]
    assert hard.query(path, sql, {"sku": "B-7"}) == []


FURNITURE = Path(os.environ.get("SWEETHOME3D_FURNITURE", "/usr/share/sweethome3d/furniture"))


def test_the_recipe_of_furniture_is_python() -> None:
    """Whether or not the data is here."""
    compile(block("A real catalogue to try: 820 pieces of furniture", "python"), "furniture.py", "exec")


@pytest.mark.skipif(
    not any(FURNITURE.glob("*.sh3f")),
    reason="set SWEETHOME3D_FURNITURE to the folder of .sh3f files of Debian's sweethome3d-furniture",
)
def test_the_recipe_of_furniture(tmp_path: Path, eye: str, cli: Callable) -> None:
    """820 products, each with a picture that is embedded."""
    script = tmp_path / "furniture.py"
    script.write_text(block("A real catalogue to try: 820 pieces of furniture", "python"))
    command = [sys.executable, script, FURNITURE]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == block("A real catalogue to try: 820 pieces of furniture", "text"), done.stderr
    path = tmp_path / "furniture.db"
    said = cli("add", path, "products", "--image", "photo", "-m", eye).output
    assert "820 pictures: 820 embedded, 0 skipped, 0 failed" in said
    assert hard.query(path, "select count(*), count(distinct category), count(creator) from products") == [
        (820, 12, 820)
    ]
