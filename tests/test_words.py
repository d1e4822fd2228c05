"""Word vectors as a model, and sums of words as a query: on small files of every format, and on the demonstration's own."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import pickle
import re
import shutil
import sqlite3
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from datasette.app import Datasette

from datasette_embeddings import register
from datasette_embeddings.errors import ConfigError, ModelError
from datasette_embeddings.models import available, get_model, words
from datasette_embeddings.queries import queries_of
from demo.words import LIST, TABLE, rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).parent.parent
GLOVE = LIST.with_suffix(".npy")

WORDS = ["the", ",", "red", "green", "vice-president", "vice", "president", "'s", "u.s.", "café", "Paris", "red"]
VECTORS = np.eye(len(WORDS), 12, dtype=np.float32) * np.arange(1, len(WORDS) + 1, dtype=np.float32)[:, None]


def text_of(names: Sequence[str], vectors: np.ndarray) -> str:
    return "".join(
        f"{name} {' '.join(map(str, row))}\n" for name, row in zip(names, vectors.astype(float).tolist(), strict=True)
    )


def write(path: Path, names: Sequence[str] = WORDS, vectors: np.ndarray = VECTORS, header: bool = False) -> str:
    """Write word vectors as the end of the name says; return the model's name."""
    text = (f"{len(names)} {vectors.shape[1]}\n" if header else "") + text_of(names, vectors)
    if path.suffix == ".npy":
        np.save(path, vectors)
        path.with_suffix(".txt").write_text("".join(f"{name}\n" for name in names), "utf-8")
    elif path.suffix == ".npz":
        np.savez_compressed(path, words=np.array(names), vectors=vectors)
    else:
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return f"words/{path}"


@pytest.fixture
def model(tmp_path: Path) -> str:
    """The name of a model with a dozen words, each of a direction of its own."""
    return write(tmp_path / "few.txt")


def vector(conn: sqlite3.Connection, name: str, text: str) -> dict[str, float]:
    """Return the shares of the small model's words in the vector of a text."""
    blob = conn.execute("select embed_decode(embed_text(?, ?))", [name, text]).fetchone()[0]
    return {WORDS[n]: share for n, share in enumerate(json.loads(blob)) if share}


# The files


@pytest.mark.parametrize("file", ["a.npy", "a.npz", "a.txt", "a.vec", "a.txt.gz", "a.vec.gz"])
@pytest.mark.parametrize("kind", ["<f2", ">f4", "<f8"])
def test_formats(conn: sqlite3.Connection, tmp_path: Path, file: str, kind: str) -> None:
    """Whatever the format and the numbers are, a word has its vector, as a unit vector, from SQL too."""
    name = write(tmp_path / file, vectors=VECTORS.astype(kind), header=".vec" in file)
    assert vector(conn, name, "green") == {"green": 1.0}
    assert vector(conn, name, "café") == {"café": 1.0}


def test_words_with_blanks_and_rare_line_ends(tmp_path: Path) -> None:
    """Only line feeds end lines, and only the last numbers of a line are its vector: `. . .` and U+0085 are words of GloVe's."""
    names = ["the", ". . .", "\x85", "\u2028", "a\xa0b", "at name@domain.com"]
    for file in ("a.txt", "a.npy"):
        loaded = get_model(write(tmp_path / file, names, VECTORS[:6]))
        assert [loaded.embed_one(name, "document").argmax() for name in names if name.strip()] == [0, 1, 4, 5]
        assert loaded.dimensions == 12


def test_windows_line_ends(tmp_path: Path) -> None:
    """A list of words that was saved on Windows has the same words."""
    name = write(tmp_path / "a.npy")
    (tmp_path / "a.txt").write_bytes("".join(f"{word}\r\n" for word in WORDS).encode())
    assert get_model(name).embed_one("green", "document").argmax() == 3


def test_npy_is_mapped(tmp_path: Path) -> None:
    """A .npy file is read where it lies, not into memory."""
    assert isinstance(get_model(write(tmp_path / "a.npy")).vectors.base, np.memmap)


def test_home_folder_and_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path may begin with ~, and a relative one counts from where the command runs."""
    write(tmp_path / "a.txt")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert get_model("words/~/a.txt").dimensions == get_model("words/a.txt").dimensions == 12


def test_limit(tmp_path: Path) -> None:
    """`limit` reads the first words only, of every format; fewer words are another revision."""
    for file in ("a.npy", "a.npz", "a.txt", "a.vec"):
        name = write(tmp_path / file, header=file == "a.vec")
        some, every = get_model(name, {name: {"limit": 3}}), get_model(name)
        assert some.embed_one("red", "document").argmax() == 2
        with pytest.raises(ModelError, match="knows no word"):
            some.embed_one("green", "document")
        assert some.revision != every.revision


def test_revision_is_of_the_content(tmp_path: Path) -> None:
    """Equal files have equal revisions, wherever they are; another word or number makes another one."""
    (tmp_path / "b").mkdir()
    one, same = write(tmp_path / "a.npy"), write(tmp_path / "b" / "c.npy")
    other = write(tmp_path / "d.npy", vectors=VECTORS + np.float32(0.5))
    renamed = write(tmp_path / "e.npy", [*WORDS[:-1], "blue"])
    revisions = [get_model(name).revision for name in (one, same, other, renamed)]
    assert revisions[0] == revisions[1]
    assert len(set(revisions)) == 3


# Files that are none


def object_array() -> np.ndarray:
    array = np.empty((2, 2), object)
    array[:] = Trap()
    return array


class Trap:
    """Unpickled, it leaves a file behind."""

    path = ""

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")


def npy(array: np.ndarray, words: str = "a\nb\n") -> dict[str, bytes]:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return {"w.npy": buffer.getvalue(), "w.txt": words.encode()}


def npz(**arrays: np.ndarray) -> dict[str, bytes]:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return {"w.npz": buffer.getvalue()}


TWO = np.eye(2, dtype=np.float32)

BROKEN: dict[str, tuple[Callable[[], dict[str, bytes]], str]] = {
    "no file": (lambda: {"w.txt": b""}, r"there is no file .*w\.npy"),
    "no words": (lambda: {"w.npy": npy(TWO)["w.npy"]}, r"there is no file .*w\.txt"),
    "objects": (lambda: npy(object_array()), "[Oo]bject"),
    "one dimension": (lambda: npy(np.ones(2)), r"float64 of shape \(2,\); floating point numbers"),
    "integers": (lambda: npy(np.ones((2, 2), int)), r"int64 of shape \(2, 2\); floating point"),
    "fewer words": (lambda: npy(TWO, "a\n"), "2 vectors and 1 words; one word for each"),
    "more words": (lambda: npy(TWO, "a\nb\nc\n"), "2 vectors and more words; one word for each"),
    "no rows": (lambda: npy(np.empty((0, 2)), ""), "0 vectors and 0 words"),
    "cut npy": (lambda: {"w.npy": npy(TWO)["w.npy"][:100], "w.txt": b"a\nb\n"}, "cannot be read as word vectors"),
    "an archive as npy": (lambda: {"w.npy": npz(a=TWO)["w.npz"], "w.txt": b"a\nb\n"}, "cannot be read as word vectors"),
    "other arrays": (lambda: npz(words=np.array(["a", "b"]), x=TWO), r"holds words\.npy, x\.npy; words and vectors"),
    "numbers as words": (lambda: npz(words=TWO, vectors=TWO), "words are float32 of shape .* a list of strings"),
    "objects in an archive": (lambda: npz(words=np.array(["a", "b"]), vectors=object_array()), "allow_pickle"),
    "no archive": (lambda: {"w.npz": b"PK no"}, "not a zip file"),
    "a number fewer": (lambda: {"w.txt": b"a 1 2\nb 1\n"}, "word 2 has 1 numbers; 2 were expected"),
    "no number": (lambda: {"w.txt": b"a 1 2\nb 1 x\n"}, "could not convert string 'x'"),
    "one column": (lambda: {"w.txt": b"a\nb\n"}, "first line was expected to hold a word and the numbers"),
    "empty": (lambda: {"w.txt": b"\n"}, "first line was expected"),
    "header alone": (lambda: {"w.txt": b"2 3\n"}, "says that it holds 2 words and holds 0"),
    "cut short": (lambda: {"w.txt": b"3 2\na 1 2\nb 1 2\n"}, "says that it holds 3 words and holds 2; copy it anew"),
    "no dimensions": (lambda: {"w.txt": b"3 0\na\n"}, "0 dimensions; 1 to 65,536"),
    "cut gzip": (lambda: {"w.txt.gz": gzip.compress(b"a 1 2\n" * 999)[:30]}, "ended before"),
    "no gzip": (lambda: {"w.txt.gz": b"a 1 2\n"}, "Not a gzipped file"),
    "word2vec's binary": (lambda: {"w.bin": b"1 2\na \0\0"}, r"\.npy, \.npz, \.txt.* expected; gensim writes"),
}


@pytest.mark.filterwarnings("ignore:.*input contained no data")
@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_are_named(tmp_path: Path, case: str) -> None:
    """What is no file of word vectors is a ModelError that names the model, what was found and what is expected."""
    Trap.path = str(tmp_path / "trapped")
    files, said = BROKEN[case]
    for file, content in files().items():
        (tmp_path / file).write_bytes(content)
    name = f"words/{tmp_path / 'w.npy' if case == 'no file' else tmp_path / next(iter(files()))}"
    with pytest.raises(ModelError, match=said) as raised:
        get_model(name)
    assert str(raised.value).startswith(name)
    assert not (tmp_path / "trapped").exists()


def test_settings_are_checked(model: str) -> None:
    """Settings that there are not, and limits that are none, are errors of the configuration."""
    with pytest.raises(ConfigError, match="no setting limt; did you mean limit"):
        get_model(model, {model: {"limt": 3}})
    for limit in (0, -1, "3", True, 1.5):
        with pytest.raises(ConfigError, match="a number of words from 1 on"):
            get_model(model, {model: {"limit": limit}})


def test_nothing_fills_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What unpacks to more than the bound is refused before it is unpacked; a .npy file is not unpacked at all."""
    monkeypatch.setattr(words, "MAX_WORD_VECTOR_BYTES", 500)
    for file in ("a.npz", "a.txt", "a.vec.gz"):
        with pytest.raises(ModelError, match="more than 5e-07 GB of memory"):
            get_model(write(tmp_path / file))
    assert get_model(write(tmp_path / "a.npy")).dimensions == 12


def test_archive_that_lies_about_its_size(tmp_path: Path) -> None:
    """An array that says it has terabytes is an error, not an attempt to have them."""
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for array in ("words", "vectors"):
            buffer = io.BytesIO()
            np.lib.format.write_array_header_1_0(
                buffer, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 1 << 10)}
            )
            archive.writestr(f"{array}.npy", buffer.getvalue())
    with pytest.raises(ModelError, match="cannot be read as word vectors"):
        get_model(f"words/{tmp_path / 'a.npz'}")


def test_endless_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line without an end is not read to its end."""
    monkeypatch.setattr(words, "MAX_WORD_LINE_BYTES", 1000)
    (tmp_path / "a.txt").write_bytes(b"a" * 5000)
    with pytest.raises(ModelError, match="a line of 1,000 bytes or more"):
        get_model(f"words/{tmp_path / 'a.txt'}")


# Texts


TEXTS = {
    "red green": {"red", "green"},
    "Red, GREEN!": {"red", "green"},
    "(red)\n\t“green”…": {"red", "green"},
    "vice-president": {"vice-president"},
    "Vice-President's": {"vice", "president", "'s"},
    "president’s": {"president", "'s"},
    "green-red": {"green", "red"},
    "green/red_green": {"green", "red"},
    "red'green": {"green", "red"},
    "the U.S. president": {"the", "u.s.", "president"},
    "Cafe\u0301": {"café"},
    "paris": None,
    "Paris": {"Paris"},
    "red , green": {"red", "green"},
    ",": {","},
    "red 🎈 zzz": {"red"},
    "zzz": None,
    "--": None,
    "\0": None,
}


@pytest.mark.parametrize("text", TEXTS)
def test_words_of_a_text(conn: sqlite3.Connection, model: str, text: str) -> None:
    """Words are found without the marks around them, in lower case where they are not as spelled, and else by their parts."""
    expected = TEXTS[text]
    if expected is None:
        with pytest.raises(ModelError, match="the model knows no word of it"):
            get_model(model).embed_one(text, "query")
    else:
        assert set(vector(conn, model, text)) == expected


def test_mean(conn: sqlite3.Connection, model: str) -> None:
    """A text is the mean of the vectors as the file has them, each as often as its word stands there."""
    shares = vector(conn, model, "red green red red")
    assert shares["green"] / shares["red"] == pytest.approx(4 / (3 * 3))  # green has the length 4, red the length 3
    assert sum(share**2 for share in shares.values()) == pytest.approx(1)


def test_a_text_has_one_vector() -> None:
    """Neither the order of words nor the batch that a text is in changes a bit."""
    loaded = get_model(f"words/{GLOVE}")
    known = [word for word, _ in rows()]
    texts = [" ".join(known[start::97]) for start in range(40)]
    alone = [loaded.embed_one(text, "document") for text in texts]
    for _, batch in loaded.embed_many(texts[:1], "document"):
        assert np.array_equal(batch.vectors[0], alone[0])
    together = loaded.embed(texts, "document").vectors
    backwards = loaded.embed([" ".join(reversed(text.split())) for text in texts], "query").vectors
    assert np.array_equal(together, np.stack(alone))
    assert np.array_equal(backwards, together)


def test_order_counts_for_nothing(tmp_path: Path) -> None:
    """Numbers whose sum depends on the order in which they are added give one vector all the same."""
    loaded = get_model(write(tmp_path / "a.txt", list("abcd"), np.array([[1e20, 0], [1, 1], [-1e20, 0], [3, 1]])))
    texts = ["a b c d", "a c b d", "b d c a", "d a c b", "c d b a"]
    assert len({loaded.embed_one(text, "document").tobytes() for text in texts}) == 1


def test_long_text(monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    """A text is read up to a bound, and said to be longer; many different words are added up in parts."""
    longer = get_model(model).embed(["red " * 100_001, "red " * 200_000, "red " * 500_000, "red"], "document")
    assert longer.truncated == {0: 100_001, 1: 200_000, 2: 500_000}
    assert longer.words == longer.tokens == 300_001
    glove = get_model(f"words/{GLOVE}")
    text = " ".join(word for word, _ in rows())
    whole = glove.embed_one(text, "document")
    monkeypatch.setattr(words, "SLICE_WORDS", 7)
    assert np.allclose(glove.embed_one(text, "document"), whole, atol=1e-6)


def test_images_are_refused(model: str) -> None:
    """Word vectors have none for an image."""
    assert "reads texts" in get_model(model).embed([b"\x89PNG"], "document").failures[0]


def test_models_are_listed() -> None:
    """`models` shows that word vectors can be used, and of what a text's vector is made."""
    found = next(provider for provider in available() if provider.model == "words/...")
    assert found.state == "ready"
    assert "words that it knows" in found.about


# Builds


def test_build_and_search(cli: Callable, tmp_path: Path) -> None:
    """A table is embedded and searched by word vectors; what no word is known of is skipped, and many unknown words are said."""
    database = tmp_path / "notes.db"
    with sqlite3.connect(database) as conn:
        conn.execute("create table notes (id integer primary key, body text)")
        texts = [
            "A king and his queen in the castle",
            "Rain, snow and cold wind",
            "zzqx qqzk xxqw",
            "Wetter und Schnee in Berlin",
        ]
        conn.executemany("insert into notes (body) values (?)", [[text] for text in texts])
    conn.close()
    model = f"words/{GLOVE}"
    printed = cli("embed", database, "notes", "--table", "notes", "--column", "body", "-m", model).output
    assert "4 rows: 3 embedded, 1 skipped" in printed
    assert "of the words are unknown to words/" in printed
    assert "skipped, the model knows no word of it: 1 rows" in printed
    assert json.loads(cli("search", database, "notes", "winter weather", "--json").output)[0]["id"] == "2"
    assert json.loads(cli("search", database, "notes", "royal prince", "--json").output)[0]["id"] == "1"
    again = cli("embed", database, "notes", "--table", "notes", "--column", "body", "-m", model).output
    assert "nothing changed" in again


# Word arithmetic


@pytest.fixture(scope="module")
def glove_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the demonstration's words, embedded; not to be written to."""
    folder = tmp_path_factory.mktemp("glove")
    configure(folder, f"words/{GLOVE}")
    with sqlite3.connect(folder / "demo.db") as conn:
        conn.execute(TABLE)
        conn.executemany("insert into words values (?, ?)", list(rows()))
    conn.close()
    build(folder)
    return folder


def configure(folder: Path, model: str, **more: object) -> None:
    collection = {"database": "demo", "table": "words", "columns": ["word"], "model": model, **more}
    block = {"collections": {"words": collection}}
    if "table_prefix" in collection:
        block["table_prefix"] = collection.pop("table_prefix")
    (folder / "metadata.json").write_text(json.dumps({"plugins": {"datasette-embeddings": block}}))


def build(folder: Path) -> None:
    from click.testing import CliRunner

    from datasette_embeddings.cli import embeddings

    result = CliRunner().invoke(embeddings, ["build", str(folder)])
    assert result.exit_code == 0, result.output


async def answer(site: Datasette, q: str) -> list[dict[str, Any]]:
    response = await site.client.get("/demo/arithmetic_words.json", params={"q": q, "_shape": "array"})
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()
    return found


async def first(site: Datasette, q: str) -> str:
    return str((await answer(site, q))[0]["id"])


SUMS = {
    "germany + paris - france": "berlin",
    "germany - france + paris": "berlin",
    "-france +germany +paris": "berlin",
    "- france germany paris": "berlin",
    "Germany  +  PARIS -France": "berlin",
    "germany + paris − france": "berlin",
    "germany + paris + - france": "berlin",
    "king + woman - man": "queen",
    "italy + paris - france": "rome",
    "mother + he - she": "father",
    "king": "prince",
    "king + king": "prince",
    "u.s.": "us",
}


@pytest.mark.asyncio
async def test_sums(glove_once: Path) -> None:
    """Signs and words in every spelling; the words asked are left out, and ten others answer."""
    site = Datasette(config_dir=glove_once)
    for q, expected in SUMS.items():
        found = await answer(site, q)
        assert (q, found[0]["id"]) == (q, expected)
        assert len(found) == 10
        assert not {row["id"] for row in found} & set(re.findall(r"[\w.-]*\w[.]?", q.lower()))
        assert [row["score"] for row in found] == sorted((row["score"] for row in found), reverse=True)
        assert all(row["note"] is None for row in found)


@pytest.mark.asyncio
async def test_answer_is_that_of_numpy(glove_once: Path) -> None:
    """The ten words are those whose unit vectors are nearest to the sum of unit vectors."""
    vectors = np.load(GLOVE).astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    known = [word for word, _ in rows()]
    at = {word: vectors[row] for row, word in enumerate(known)}
    target = at["germany"] + at["paris"] - at["france"]
    scores = vectors @ (target / np.linalg.norm(target))
    expected = [known[row] for row in np.argsort(-scores) if known[row] not in {"germany", "paris", "france"}][:10]
    found = await answer(Datasette(config_dir=glove_once), "germany + paris - france")
    assert [row["id"] for row in found] == expected
    assert found[0]["score"] == pytest.approx(scores[known.index(expected[0])], abs=2e-6)


NOTES = {
    "germany + pariss - france": "not among words: pariss",
    "zzb - zza zzb": "not among words: zza, zzb",
    "germany+paris": "not among words: germany+paris",
    "vice–president": "not among words: vice–president",
    "king - king": "these words cancel each other out",
    "king + queen - queen - king": "these words cancel each other out",
    "'; drop table words --": "not among words: ';",
}


@pytest.mark.asyncio
async def test_no_answer_to_another_question(glove_once: Path) -> None:
    """Where a word is not there, or nothing is left, a note says so in place of an answer."""
    site = Datasette(config_dir=glove_once)
    for q, note in NOTES.items():
        assert await answer(site, q) == [{"id": None, "score": None, "note": note}]


HOSTILE = {
    "": 0,
    "   ": 0,
    "+": 0,
    "- + -": 0,
    "-+" * 5_000: 0,
    "- " * 10_000 + "king": 10,
    "king " * 5_000: 10,
    '"], ["king': 1,
    '{"a": [1, 2]}': 1,
    "\\": 1,
    "\\u0000": 1,
    "'\" \\\" ' :q %s $1 ?": 1,
    "<script>alert(1)</script>": 1,
    "king\nqueen": 1,
    "💥": 1,
}


@pytest.mark.asyncio
async def test_whatever_is_asked_has_a_result(glove_once: Path) -> None:
    """Quotes, JSON, SQL, thousands of signs and nothing at all are questions like others."""
    site = Datasette(config_dir=glove_once)
    for q, count in HOSTILE.items():
        assert (q[:30], len(await answer(site, q))) == (q[:30], count)
    html = (await site.client.get("/demo/arithmetic_words", params={"q": "<script>alert(1)</script>"})).text
    assert "<script>alert(1)" not in html


@pytest.mark.asyncio
async def test_served_without_the_model(glove_once: Path, tmp_path: Path) -> None:
    """In a file that is served read-only, without a configuration and without the model's file, sums are answered."""
    file = Path(shutil.copy(glove_once / "demo.db", tmp_path / "demo.db"))
    with sqlite3.connect(file) as conn:
        conn.execute("update collections set model = 'words/not/there.npy'")
    conn.close()
    site = Datasette([], immutables=[str(file)])
    assert await first(site, "germany + paris - france") == "berlin"
    html = (await site.client.get("/demo/arithmetic_words?q=germany+%2B+paris+-+france")).text
    assert 'href="/demo/words/berlin"' in html
    assert "A sign has a blank before it or stands first" in html
    assert "embed_scale" in html


def test_capitals_are_words_of_their_own(conn: sqlite3.Connection, tmp_path: Path, cli: Callable) -> None:
    """Where words differ by capitals only, the one that is spelled as asked counts."""
    database = tmp_path / "cased.db"
    names = ["US", "us", "them", "nation"]
    made = write(tmp_path / "a.txt", names, np.array([[1, 0], [0, 1], [0.1, 1], [1, 0.1]], np.float32))
    cli("embed", database, "w", "-m", made, "--format", "csv", "--store", "-", stdin=csv_of(names))
    with sqlite3.connect(database) as other:
        register(other)
        sql = next(query.sql for query in queries_of(other) if query.name == "arithmetic_w")
        assert other.execute(sql, {"q": "US"}).fetchone()[0] == "nation"
        assert other.execute(sql, {"q": "us"}).fetchone()[0] == "them"
        assert other.execute(sql, {"q": "Them"}).fetchone()[0] == "us"
    other.close()


def csv_of(names: Sequence[str]) -> bytes:
    return ("id,content\n" + "".join(f"{name},{name}\n" for name in names)).encode()


@pytest.mark.asyncio
async def test_tables_under_a_prefix(tmp_path: Path, model: str) -> None:
    """Under a table_prefix the query reads the tables of that prefix."""
    configure(tmp_path, model, table_prefix="my_")
    with sqlite3.connect(tmp_path / "demo.db") as conn:
        conn.execute(TABLE)
        conn.executemany("insert into words values (?, 1)", [[word] for word in sorted(set(WORDS))])
    conn.close()
    build(tmp_path)
    assert await first(Datasette(config_dir=tmp_path), "red + green - vice") is not None
    assert (await answer(Datasette(config_dir=tmp_path), "reed"))[0]["note"] == "not among words: reed"


def test_only_words_have_the_query(cli: Callable, tmp_path: Path, news: Path) -> None:
    """Texts that word vectors embedded are no words, and other models have no word arithmetic."""
    cli("embed", news, "topics", "--table", "articles", "--column", "title", "-m", f"words/{GLOVE}")
    cli("embed", news, "paths", "--table", "articles", "--column", "path", "-m", "static")
    with sqlite3.connect(news) as conn:
        names = {query.name for query in queries_of(conn)}
    conn.close()
    assert {"search_topics", "search_paths"} <= names
    assert not [name for name in names if name.startswith("arithmetic")]


# The demonstration


def test_files_of_the_demonstration() -> None:
    """The words kept in the repository are those that NOTICE names, each with a vector."""
    notice = (ROOT / "NOTICE").read_text()
    for path in (GLOVE, LIST):
        assert re.search(rf"{re.escape(path.name)} +SHA-256 {hashlib.sha256(path.read_bytes()).hexdigest()}", notice)
    known = [word for word, _ in rows()]
    assert len(known) == len(set(known)) == 10_000
    assert known[:3] == ["the", "of", "to"]
    vectors = np.load(GLOVE)
    assert vectors.shape == (10_000, 50)
    assert vectors.dtype == np.float16
    assert np.isfinite(vectors).all()


def test_the_trap_works(tmp_path: Path) -> None:
    """The pickle that broken files hold would leave its file, were it read."""
    Trap.path = str(tmp_path / "trapped")
    pickle.loads(pickle.dumps(Trap()))
    assert (tmp_path / "trapped").exists()
