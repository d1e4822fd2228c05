"""Pictures that others made, with names: furniture, emoji and stamps, from Debian and npm, pinned by SHA-256.

Nothing of them is in the repository. What is read from a package is kept as a small archive in the cache folder of
scripts/fit_corpus.py. Furniture and emoji may be fitted on; the stamps (GPL) are only ever judged by.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import subprocess
import tarfile
import zipfile
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from bench.common import say
from scripts import fit_corpus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NPM: dict[str, tuple[str, str]] = {
    # name: (package, SHA-256 of its archive)
    "emoji": (
        "@lobehub/fluent-emoji-3d@1.1.0",
        "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58",
    ),
    "emoji-names": ("emojibase-data@17.0.0", "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a"),
}

HELD_OUT = 5
"""Of names of furniture and emoji every fifth, by hash, is fitted to by nothing and judged by."""

PRODUCER = {"Blend Swap", "Scopia", "Kator Legaz", "Reallusion"}
"""Tags that name who made a picture and nothing that is seen in it."""


@dataclass(frozen=True)
class Picture:
    """A picture's file with what it shows: *name* (a caption), *category*, further *words*."""

    name: str
    category: str
    words: tuple[str, ...]
    data: bytes


def held_out(name: str) -> bool:
    """Tell whether pictures of that name are kept for judging, in whatever set they are."""
    return int(hashlib.sha256(name.lower().encode()).hexdigest(), 16) % HELD_OUT == 0


def furniture() -> list[Picture]:
    """Return 820 products of Sweet Home 3D's furniture library, 128 x 128 with alpha: CC0 and CC-BY 3.0."""
    return kept("furniture", _furniture)


def emoji() -> list[Picture]:
    """Return Microsoft's Fluent emoji in 3D (MIT) with their labels and keywords; skin tones are left out."""
    return kept("emoji", _emoji)


def stamps() -> list[Picture]:
    """Return the stamps of Tux Paint (GPL): photographs and drawings with a caption of one sentence."""
    return kept("stamps", _stamps)


def kept(name: str, make: Callable[[], Iterator[Picture]]) -> list[Picture]:
    """Return the pictures of a set, from the cache folder where they are there. Raises SystemExit where a package cannot be had."""
    path = fit_corpus.CACHE / f"pictures-{name}.zip"
    if not path.exists():
        say(f"reading the pictures of {name}; they are kept in {path}")
        _keep(path, list(make()))
    with zipfile.ZipFile(path) as archive:
        index = json.loads(archive.read("index.json"))
        return [
            Picture(entry["name"], entry["category"], tuple(entry["words"]), archive.read(f"{number}"))
            for number, entry in enumerate(index)
        ]


def _keep(path: Path, pictures: list[Picture]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with zipfile.ZipFile(part, "w") as archive:
        index = [{key: value for key, value in asdict(picture).items() if key != "data"} for picture in pictures]
        archive.writestr("index.json", json.dumps(index))
        for number, picture in enumerate(pictures):
            archive.writestr(f"{number}", picture.data)
    part.replace(path)


def _furniture() -> Iterator[Picture]:
    for path, body in fit_corpus.deb_files("sweethome3d-furniture"):
        if not path.endswith(".sh3f"):
            continue
        with zipfile.ZipFile(io.BytesIO(body)) as library:
            text = library.read("PluginFurnitureCatalog.properties").decode("latin-1")
            entries = dict(re.findall(r"^(\w+#\d+)=(.*?)\s*$", text, re.MULTILINE))
            for number in (key.partition("#")[2] for key in entries if key.startswith("icon#")):
                tags = [tag.strip() for tag in _unescaped(entries.get(f"tags#{number}", "")).split(",")]
                yield Picture(
                    _unescaped(entries[f"name#{number}"]),
                    _unescaped(entries[f"category#{number}"]),
                    tuple(tag for tag in tags if tag and tag not in PRODUCER),
                    library.read(entries[f"icon#{number}"].lstrip("/")),
                )


def _unescaped(text: str) -> str:
    """Return the value of a Java property: `\\u00e9` is a letter."""
    return re.sub(r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), text)


def _emoji() -> Iterator[Picture]:
    names = {}
    for path, body in npm_files("emoji-names"):
        if path == "package/en/data.json":
            names = {entry["hexcode"].lower(): entry for entry in json.loads(body)}
    plain = {code.replace("-fe0f", ""): entry for code, entry in names.items()}
    for path, body in npm_files("emoji"):
        entry = plain.get(PurePosixPath(path).stem.lower().replace("-fe0f", ""))
        if path.endswith(".webp") and entry and "group" in entry:
            yield Picture(entry["label"], str(entry["group"]), tuple(entry.get("tags", ())), body)


def _stamps() -> Iterator[Picture]:
    captions, images = {}, {}
    for path, body in fit_corpus.deb_files("tuxpaint-stamps-default"):
        stem, _, kind = path.rpartition(".")
        if kind == "txt":
            captions[stem] = body.decode("utf-8", "replace").splitlines()[:1]
        elif kind == "png" and not stem.endswith("_mirror"):
            images[stem] = body
    for stem, body in sorted(images.items()):
        if caption := captions.get(stem):
            category = stem.partition("/stamps/")[2].split("/")[0]
            yield Picture(caption[0].strip(), category, (), body)


def npm_files(name: str) -> Iterator[tuple[str, bytes]]:
    """Yield (path, bytes) of the files in a package of npm, which npm itself downloads."""
    package, digest = NPM[name]
    path = fit_corpus.CACHE / (re.sub(r"[@/]+", "-", package).strip("-") + ".tgz")
    if not path.exists():
        folder = fit_corpus.CACHE / "npm"
        folder.mkdir(parents=True, exist_ok=True)
        command = ["npm", "pack", "--silent", "--pack-destination", str(folder), package]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise SystemExit(f"{package} could not be had by npm ({error}); put its archive at {path}") from error
        (folder / done.stdout.split()[-1]).rename(path)
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != digest:
        raise SystemExit(f"{path} is not {package} as it was published: delete it")
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for entry in archive:
            opened = archive.extractfile(entry) if entry.isreg() else None
            if opened:
                yield entry.name, opened.read()
