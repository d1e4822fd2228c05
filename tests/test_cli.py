"""The commands, as a person or a build script meets them."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from conftest import make_news
from openai_server import OpenAIServer

from datasette_embeddings.cli import embeddings
from datasette_embeddings.vectors import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def configure(directory: Path, **block: Any) -> None:
    """Write a metadata.yml with the plugin's block."""
    (directory / "metadata.yml").write_text(yaml.safe_dump({"plugins": {"datasette-embeddings": block}}))


ARTICLES = {"database": "news", "table": "articles", "columns": ["title", "body"]}


def test_add_builds_everything_and_prints_a_configuration_that_works(news: Path, cli: Callable) -> None:
    """What `add` proposes and prints is what `build` then finds unchanged."""
    said = cli("add", news, "articles").output
    assert "title, body of articles with static" in said
    block = yaml.safe_load(said[said.index("plugins:") : said.index("Now:")])
    (news.parent / "metadata.yml").write_text(yaml.safe_dump(block))
    assert "8 rows: 8 embedded" in cli("build", news.parent).output
    assert "Nothing changed." in cli("build", news.parent).output


def test_add_is_repeated_by_build_without_configuration(built: Path, cli: Callable) -> None:
    """The file remembers what `add` made of it: `build` alone keeps it up to date."""
    with sqlite3.connect(built) as conn:
        conn.execute("insert into articles values ('news/snow', 'Snow in the mountains', 'Roads are icy.', 'weather')")
    said = cli("build", built).output
    assert "1 new, 0 changed, 0 removed, 1 text embedded" in said


def test_dry_run_changes_nothing(news: Path, cli: Callable) -> None:
    """Rows, tokens, cost, time and size are said, and the file stays as it was, byte for byte."""
    before = news.read_bytes()
    said = cli("add", news, "articles", "--dry-run").output
    for part in ("8 rows, 8 new", "8 texts to embed by static", "tokens", "no cost", "about 1 s", "kB more"):
        assert part in said
    assert news.read_bytes() == before


def test_second_build_leaves_the_file_alone(built: Path, cli: Callable) -> None:
    """Nothing to do means nothing written."""
    before = (built.read_bytes(), built.stat().st_mtime_ns)
    assert cli("build", built).output.splitlines()[-1] == "Nothing changed."
    assert (built.read_bytes(), built.stat().st_mtime_ns) == before


def test_status_adds_up(built: Path, cli: Callable) -> None:
    """Embedded, skipped and failed rows add up to the rows of the source."""
    with sqlite3.connect(built) as conn:
        conn.execute("insert into articles values ('blank', '', '  ', 'x')")
        conn.execute("insert into articles values ('bytes', x'ff00', '', 'x')")
    cli("build", built)
    state = json.loads(cli("status", built, "--json").output)[0]
    assert (state["rows"], state["embedded"], state["skipped"], state["failed"]) == (10, 8, 1, 1)
    assert state["reasons"] == {"failed: a column holds a BLOB that is no text": 1, "skipped: empty": 1}
    assert state["notes"] == []


def test_status_says_what_is_out_of_date(built: Path, cli: Callable) -> None:
    """Rows added since, a missing table: each is a note."""
    with sqlite3.connect(built) as conn:
        conn.execute("insert into articles values ('news/new', 'A new one', 'Fresh.', 'x')")
    assert "its source has 9 rows now: build again" in cli("status", built).output
    with sqlite3.connect(built) as conn:
        conn.execute("drop table articles")
    assert "source table 'articles' is gone" in cli("status", built).output


@pytest.mark.parametrize("form", ["--json", "--nl", "--csv", None])
def test_search_speaks_every_format(built: Path, cli: Callable, form: str | None) -> None:
    """The best hit is the same in text, JSON, NDJSON and CSV."""
    said = cli("search", built, "articles", "football match", "-n", 2, *([form] if form else [])).output
    assert "news/football" in said.split("news/tennis")[0]
    assert len(json.loads(said) if form == "--json" else said.splitlines()) == (3 if form == "--csv" else 2)


def test_hybrid_search_is_that_of_sql(built: Path, cli: Callable, query: Callable) -> None:
    """`search --hybrid` ranks as `embed_hybrid` does, and not as the vectors alone."""
    words = "injection nurses"
    found = json.loads(cli("search", built, "articles", words, "--hybrid", "--json").output)
    sql = "select value ->> 'id', value ->> 'score' from json_each(embed_hybrid('articles', ?))"
    assert [(row["id"], row["score"]) for row in found] == query(built, sql, words)
    alone = json.loads(cli("search", built, "articles", words, "--json").output)
    assert found[0]["score"] > max(row["score"] for row in alone)


def test_similar_agrees_with_the_stored_similarities(built: Path, cli: Callable, query: Callable) -> None:
    """`similar` computes what the table stores."""
    found = json.loads(cli("similar", built, "articles", "news/heat", "--json").output)
    sql = "select other_id, score from similarities where id = 'news/heat' order by score desc, other_id"
    assert [(row["id"], row["score"]) for row in found] == query(built, sql)


def test_well_known_query_runs_unchanged_and_by_index(built: Path, query: Callable) -> None:
    """The seed article's join finds related rows, and nothing is scanned."""
    sql = """select articles.title from articles join similarities on articles.path = similarities.other_id
             where similarities.id = ? order by similarities.score desc limit 10"""
    assert query(built, sql, "news/rates")[0] == ("Prices climb again",)
    assert not [step for *_, step in query(built, "explain query plan " + sql, "x") if step.startswith("SCAN")]


def test_only_and_unknown_names(news: Path, cli: Callable) -> None:
    """`--only` builds one collection; a wrong name is answered by the nearest."""
    configure(news.parent, collections={"articles": ARTICLES, "titles": {**ARTICLES, "columns": ["title"]}})
    cli("build", news.parent, "--only", "titles")
    assert [row["name"] for row in json.loads(cli("collections", news, "--json").output)] == ["titles"]
    assert "did you mean titles?" in cli("build", news.parent, "--only", "titels", code=1).output


def test_site_made_anew_embeds_nothing_again(news: Path, tmp_path: Path, cli: Callable) -> None:
    """`--reuse OLD.db` copies the vectors of equal texts; the result is the same table."""
    configure(tmp_path, collections={"articles": ARTICLES})
    cli("build", tmp_path)
    old = news.rename(tmp_path / "old.file")
    make_news(news)
    said = cli("build", news, "--reuse", old, "-c", tmp_path / "metadata.yml").output
    assert "0 texts embedded, 8 vectors reused" in said
    for table in ("similarities", "(select id, embedding, content_hash from embeddings)"):
        rows = [
            sqlite3.connect(path).execute(f"select * from {table} order by 1, 2").fetchall() for path in (old, news)
        ]
        assert rows[0] == rows[1]


@pytest.fixture
def priced(news: Path) -> Iterator[tuple[Path, OpenAIServer]]:
    """The articles configured with a model that has a price."""
    with OpenAIServer() as server:
        settings = {"openai/any": {"base_url": server.url, "price": 1000.0}}
        configure(news.parent, models=settings, collections={"articles": {**ARTICLES, "model": "openai/any"}})
        yield news, server


def test_nothing_is_sent_without_agreement(
    priced: tuple[Path, OpenAIServer], cli: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first time, a build says how much goes where and at what cost, and needs --yes where nobody can be asked."""
    from datasette_embeddings.models import get_model

    news, server = priced
    monkeypatch.setattr(
        get_model("openai/any", {"openai/any": {"base_url": server.url, "price": 1000.0}}), "remote", True
    )
    said = cli("build", news.parent, code=1).output
    assert "send 8 texts" in said
    assert "$" in said
    assert "--yes" in said
    assert server.calls == 0
    assert "$0." in cli("build", news.parent, "--yes").output
    with sqlite3.connect(news) as conn:
        conn.execute("update articles set title = 'Changed' where path = 'news/heat'")
    cli("build", news.parent)
    assert len(server.texts) == 9


def test_spending_stops_at_the_limit(priced: tuple[Path, OpenAIServer], cli: Callable) -> None:
    """A build ends before the batch that would cost more than allowed, and says how to go on."""
    news, server = priced
    said = cli("build", news.parent, "--yes", "--max-cost", "0.0001", code=1).output
    assert "the limit of $0.0001 is reached" in said
    assert server.calls == 0
    cli("build", news.parent, "--yes", "--max-cost", "10")
    assert len(server.texts) == 8


def test_a_build_with_nothing_to_embed_needs_no_key(news: Path, cli: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only texts need the key: a dry run goes without, and the real one names the variable."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    model = ("-m", "openai/text-embedding-3-small")
    assert "about $0.0000" in cli("add", news, "articles", *model, "--dry-run").output
    assert "OPENAI_API_KEY" in cli("add", news, "articles", *model, "--yes", code=1).output


@pytest.mark.parametrize("command", sorted(embeddings.commands))
def test_every_command_has_help(command: str, cli: Callable) -> None:
    """Each says what it does, and what each option is for."""
    said = cli(command, "--help").output
    assert "Usage:" in said
    for parameter in embeddings.commands[command].params:
        assert parameter.param_type_name == "argument" or parameter.help, parameter.name


def test_module_runs_the_same_commands(built: Path) -> None:
    """`python -m datasette_embeddings` is `datasette embeddings`."""
    done = subprocess.run(
        [sys.executable, "-m", "datasette_embeddings", "collections", str(built), "--nl"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["items"] == 8


def test_pipe_keeps_accents(tmp_path: Path, cli: Callable, query: Callable) -> None:
    """NDJSON from a pipe: the text arrives as it was written."""
    path = tmp_path / "pipe.db"
    cli(
        "embed",
        path,
        "drinks",
        "-",
        stdin='{"id": 1, "text": "café au lait"}\n{"id": 2, "text": "thé vert"}\n'.encode(),
    )
    assert query(path, "select content from embeddings order by id") == [("café au lait",), ("thé vert",)]


def test_symbex_pipe(tmp_path: Path, cli: Callable) -> None:
    """The functions of a package, straight from symbex."""
    (tmp_path / "mod.py").write_text(
        'def area(r):\n    "Area of a circle"\n    return 3.14 * r * r\n\n\ndef greet(n):\n    return "hi " + n\n'
    )
    code = subprocess.run(
        [str(Path(sys.executable).with_name("symbex")), "*", "*:*", "--nl"],
        cwd=tmp_path,
        capture_output=True,
        check=True,
    ).stdout
    cli("embed", tmp_path / "code.db", "functions", "-", stdin=code)
    assert "mod.py:1" in cli("search", tmp_path / "code.db", "functions", "surface of a round shape", "-n", 1).output


@pytest.mark.parametrize("place", ["site.v2/news.db", "site.v2/news", "site/news", "site/news.db"])
def test_configuration_is_found_beside_a_file_of_any_name(
    place: str, news: Path, tmp_path: Path, cli: Callable
) -> None:
    """A dot in a directory's name makes it no file, and a database needs no suffix."""
    path = tmp_path / place
    path.parent.mkdir()
    news.rename(path)
    configure(path.parent, collections={"titles": {**ARTICLES, "columns": ["title"]}})
    assert "titles: 8 rows" in cli("build", path).output
    if path.suffix:
        assert "Nothing changed." in cli("build", path.parent).output


USELESS = {
    "--template": ("--files", ".", "*", "--template", "{{ content }}"),
    "--metadata": ("--table", "articles", "--column", "title", "--metadata"),
    "--prefix": ("--table", "articles", "--column", "title", "--prefix", "a-"),
    "--encoding": ("--sql", "select path, title from articles", "--encoding", "latin-1"),
    "--format": ("--files", ".", "*", "--format", "csv"),
    "--column": ("--sql", "select path, title from articles", "--column", "title"),
    "--key": ("-", "--key", "path"),
    "--attach": ("-", "--attach", "other", "other.db"),
}


@pytest.mark.parametrize("option", USELESS)
def test_options_without_effect_are_refused(option: str, news: Path, cli: Callable) -> None:
    """What would be passed over is wrong usage, with what the option is for."""
    said = cli("embed", news, "c", *USELESS[option], code=2).output
    assert f"Error: {option} is for " in said
    assert json.loads(cli("collections", news, "--json").output) == []


@pytest.fixture
def view(news: Path) -> Path:
    """The articles as a view."""
    with sqlite3.connect(news) as conn:
        conn.execute("create view shown as select path as place, title, body from articles")
    return news


def test_views_can_be_embedded_by_naming_their_key(view: Path, tmp_path: Path, cli: Callable) -> None:
    """What the message says to do works, for both commands and the configuration that is printed."""
    assert "--key" in cli("embed", view, "c", "--table", "shown", "--column", "title", code=1).output
    cli("embed", view, "c", "--table", "shown", "--column", "title", "--key", "place")
    assert "news/tennis" in cli("search", view, "c", "tournament", "-n", 1).output
    assert "--key" in cli("add", view, "shown", code=1).output
    said = cli("add", view, "shown", "--key", "place").output
    assert "Embedding title, body of shown" in said
    (tmp_path / "metadata.yml").write_text(said[said.index("plugins:") : said.index("Now:")])
    assert "(8 rows: 8 embedded" in cli("build", tmp_path).output


def test_status_advises_the_command_that_works(news: Path, cli: Callable) -> None:
    """A collection of `embed` is brought up to date by `embed`."""
    command = ("embed", news, "c", "--table", "articles", "--column", "title")
    cli(*command)
    with sqlite3.connect(news) as conn:
        conn.execute("delete from articles where path = 'news/heat'")
        conn.execute("update embeddings set embedding = x'00' where id = 'news/rates'")
    said = cli("status", news).output
    assert "its source has 7 rows now: run the same `embed` command again" in said
    assert "1 stored vectors are malformed or of other dimensions; searches pass over them: run the same" in said
    cli(*command, "--rebuild")
    assert json.loads(cli("status", news, "--json").output)[0]["notes"] == []


def test_a_file_that_is_not_there_can_be_planned(tmp_path: Path, cli: Callable) -> None:
    """`--dry-run` says what a first `embed` would do, and makes nothing."""
    path = tmp_path / "new.db"
    said = cli("embed", path, "c", "-", "--dry-run", stdin=b"id,text\n1,one\n2,two\n").output
    assert "c: 2 rows, 2 new" in said
    assert not path.exists()


@pytest.mark.parametrize("stdin", [b"", b"id\n1\n", b"[1]"])
def test_a_failed_embed_leaves_no_empty_file(tmp_path: Path, cli: Callable, stdin: bytes) -> None:
    """A typing mistake makes no database."""
    cli("embed", tmp_path / "new.db", "c", "-", stdin=stdin, code=1)
    cli("embed", tmp_path / "new.db", "c", tmp_path / "nosuch.csv", code=1)
    cli("embed", tmp_path / "new.db", "c", "-", "-m", "openai", stdin=b"id,text\n1,one\n", code=1)
    assert list(tmp_path.iterdir()) == []


def test_build_names_what_lost_its_configuration_or_its_table(news: Path, tmp_path: Path, cli: Callable) -> None:
    """A collection that is configured no more, and one whose table is gone, are named with the command that removes them."""
    configure(tmp_path, collections={"articles": ARTICLES, "titles": {**ARTICLES, "columns": ["title"]}})
    assert "delete" not in cli("build", tmp_path).output
    configure(tmp_path, collections={"titles": {**ARTICLES, "columns": ["title"]}})
    removal = f"datasette embeddings delete {news} articles"
    assert "articles: it was built from a configuration" in cli("build", tmp_path).output
    assert removal in cli("build", news).output
    cli("embed", news, "c", "--sql", "select path, title from articles")
    cli("embed", news, "d", "--table", "articles", "--column", "title")
    with sqlite3.connect(news) as conn:
        conn.execute("alter table articles rename to other")
    (tmp_path / "metadata.yml").unlink()
    said = cli("build", news, code=1).output
    assert f"d: its table 'articles' is gone; what it holds stays until `datasette embeddings delete {news} d`" in said
    assert removal in said
    cli("delete", news, "articles")
    assert "articles:" not in cli("build", news, code=1).output


def test_status_says_that_similarities_of_llm_are_stale(built: Path, cli: Callable) -> None:
    """The llm tool knows nothing of similarities; `status` says how to compute them anew, and that works."""
    with sqlite3.connect(built) as conn:
        conn.execute("insert into collections (name, model) values ('pets', 'static')")
        conn.execute(
            "insert into embeddings (collection_id, id, embedding, updated) select 2, id, embedding, 1 from embeddings "
            "where id != 'news/heat'"
        )
    note = f"`datasette embeddings similarities {built} pets -n 3` computes them anew"
    assert "anew" not in cli("status", built).output
    cli("similarities", built, "pets", "-n", 3)
    assert "anew" not in cli("status", built).output
    with sqlite3.connect(built) as conn:
        conn.execute(
            "insert into embeddings (collection_id, id, embedding, updated) select 2, id, embedding, 1 from embeddings "
            "where id = 'news/heat'"
        )
    assert note in cli("status", built).output
    cli("similarities", built, "pets", "-n", 3)
    assert "anew" not in cli("status", built).output


ALICE, BOB = {"id": "alice"}, {"id": "bob"}


@pytest.mark.parametrize(
    ("site", "noted"),
    [
        ({"databases": {"news": {"tables": {"articles": {"allow": ALICE}}}}}, True),
        ({"databases": {"news": {"tables": {"articles": {"allow": False}}}}}, True),
        ({"databases": {"news": {"tables": {"articles": {"permissions": {"view-table": ALICE}}}}}}, True),
        ({"databases": {"news": {"allow": BOB, "tables": {"articles": {"allow": ALICE}}}}}, True),
        ({"databases": {"news": {"allow": ALICE, "tables": {"articles": {"allow": ALICE}}}}}, False),
        ({"allow": ALICE, "databases": {"news": {"tables": {"articles": {"allow": ALICE}}}}}, False),
        ({"databases": {"news": {"tables": {"articles": {"allow": True}, "other": {"allow": ALICE}}}}}, False),
        ({"databases": {"other": {"tables": {"articles": {"allow": ALICE}}}}}, False),
        ({"databases": {"news": {"allow": ALICE}}}, False),
        ({"databases": None}, False),
    ],
)
@pytest.mark.parametrize("name", ["metadata.json", "datasette.yaml"])
def test_status_warns_of_a_private_source_in_a_shared_database(
    built: Path, cli: Callable, site: dict[str, Any], noted: bool, name: str
) -> None:
    """A table that fewer people may see than its database closes all embeddings in the file to the others."""
    (built.parent / name).write_text(json.dumps(site))
    cli("embed", built, "asked", "--sql", "select path, title from articles")
    states = json.loads(cli("status", built, "--json").output)
    for state in states:
        assert any(f"{name} keeps its source 'articles' from some" in note for note in state["notes"]) == noted


def test_status_goes_on_where_the_site_cannot_be_read(built: Path, cli: Callable) -> None:
    """A mistake in metadata.yml is a note; the counts are told."""
    (built.parent / "metadata.yml").write_text("a: [")
    said = cli("status", built).output
    assert "8 rows = 8 embedded" in said
    assert "metadata.yml is not valid YAML" in said


def test_files_of_an_older_llm_gain_what_is_missing(tmp_path: Path, cli: Callable, query: Callable) -> None:
    """Before 0.12, llm had no column for bytes: such a file can be looked at as it is, planned for and added to."""
    path = tmp_path / "old.db"
    with sqlite3.connect(path) as conn:
        conn.execute("create table collections (id integer primary key, name text, model text)")
        conn.execute(
            "create table embeddings (collection_id integer references collections(id), id text, embedding blob, "
            "content text, content_hash blob, metadata text, updated integer, primary key (collection_id, id))"
        )
        conn.execute("insert into collections values (1, 'pets', 'static')")
        vector = cli("embed-text", "a cat").output
        values = (encode(json.loads(vector)), b"\0" * 16)
        conn.execute("insert into embeddings values (1, 'cat', ?, 'a cat', ?, null, 1)", values)
    assert "1 rows = 1 embedded" in cli("status", path).output
    before = path.read_bytes()
    assert "1 new" in cli("embed", path, "pets", "-", "--dry-run", stdin=b"id,text\ndog,a dog\n").output
    assert path.read_bytes() == before
    cli("embed", path, "pets", "-", stdin=b"id,text\ndog,a dog\n")
    assert query(path, "select id, content, content_blob from embeddings") == [
        ("cat", "a cat", None),
        ("dog", "a dog", None),
    ]
