"""The documentation is current and complete, its examples run, and its links lead somewhere."""

from __future__ import annotations

import functools
import json
import re
import shutil
import sqlite3
import sys
import threading
from contextlib import closing
from dataclasses import fields
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from test_datasette import IS_V1

from datasette_embeddings import errors, limits, schema
from datasette_embeddings.cli import embeddings
from datasette_embeddings.config import KNOWN_LIMITS, PLUGIN, CollectionConfig, Config, parse
from datasette_embeddings.functions import FUNCTIONS
from datasette_embeddings.models import PROVIDERS

sys.path.insert(0, str(Path(__file__).parent.parent))
from scripts import docs

PAGES = {page.relative_to(docs.ROOT).as_posix(): page.read_text(encoding="utf-8") for page in docs.pages()}
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.M)
CODE = re.compile(r"^```.*?^```$", re.M | re.S)


@pytest.fixture(scope="session")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with til.db, as pages expect it."""
    folder = tmp_path_factory.mktemp("docs") / "ready"
    folder.mkdir()
    docs.prepare(folder)
    return folder


# Examples


SERVED = re.compile(r"datasette \S+ (--get|-p)|Datasette\(")
"""Examples that Datasette itself answers."""

one_line_is_enough = pytest.mark.skipif(
    IS_V1, reason="run with Datasette 0.65: these examples and recipes do not depend on its version"
)


def examples(name: str) -> object:
    """Return the case of a page's examples; commands and SQL alone are the same on both lines of Datasette."""
    text = "".join(block.text for block in docs.blocks(PAGES[name]) if block.mark == "run")
    return pytest.param(name, marks=() if SERVED.search(text) or name == "README.md" else one_line_is_enough)


@pytest.mark.parametrize("name", [examples(name) for name in PAGES if docs.blocks(PAGES[name])])
def test_examples_run_and_print_what_the_page_shows(name, ready, tmp_path):
    folder = tmp_path / "page"
    if Path(name).name in docs.FROM_SCRATCH:
        folder.mkdir()
        docs.copy_examples(folder)
    else:
        shutil.copytree(ready, folder)
    assert docs.play(PAGES[name], folder) == PAGES[name], "run: python scripts/docs.py"


def test_the_first_words_of_the_readme_are_the_three_lines():
    first = re.search(r"```bash\n(.*?)```", PAGES["README.md"], re.S)
    assert [line.split()[0] for line in first[1].splitlines()] == ["pip", "datasette", "datasette"]


@pytest.mark.parametrize("name", PAGES)
def test_generated_parts_are_current(name):
    assert docs.fill(PAGES[name]) == PAGES[name], "run: python scripts/docs.py"


def test_configurations_are_valid():
    found = [
        block.text
        for page in PAGES.values()
        for block in docs.blocks(page)
        if (block.language, block.mark) == ("yaml", "config")
    ]
    assert len(found) > 2
    keys = set()
    for text in found:
        block = yaml.safe_load(text)["plugins"][PLUGIN]
        config = parse(block)
        keys |= set(block) | {key for collection in (block.get("collections") or {}).values() for key in collection}
        assert set(config.collections) == set(block.get("collections") or {})
    assert keys == {f.name for kind in (Config, CollectionConfig) for f in fields(kind)} - {"place", "name"}


# Nothing is left out


def test_every_function_and_alias_is_documented():
    for function in FUNCTIONS:
        for name in (function.name, *function.aliases):
            assert f"`{name}" in PAGES["docs/sql-functions.md"]


def test_every_command_and_option_is_documented():
    for path, command in docs.walk(embeddings):
        section = PAGES["docs/commands.md"].split(f"\n### {path}\n")[1].split("\n### ")[0]
        for parameter in command.params:
            for option in parameter.opts if parameter.param_type_name == "option" else []:
                assert f"`{option}`" in section
        assert command.help


def test_every_option_says_what_it_does():
    silent = [
        (path, parameter.name)
        for path, command in docs.walk(embeddings)
        for parameter in command.params
        if parameter.param_type_name == "option" and not parameter.help
    ]
    assert silent == []


def test_every_configuration_key_is_documented_with_its_default():
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", PAGES["docs/configuration.md"], re.M))
    config = {f.name: f.default for f in fields(Config) if f.name != "place"}
    collection = {f.name: f.default for f in fields(CollectionConfig) if f.name != "name"}
    for name, default in {**config, **collection}.items():
        assert name in rows
        if isinstance(default, bool):
            assert rows[name] == f"`{str(default).lower()}`"
        elif isinstance(default, (str, int)) and default:
            assert str(default) in rows[name]
    for name in KNOWN_LIMITS:
        assert f"`{name}`" in PAGES["docs/configuration.md"]


def test_every_model_and_setting_is_documented():
    page = PAGES["docs/models.md"]
    for provider, (module, _) in PROVIDERS.items():
        section = page.split(f"\n## {provider}\n")[1].split("\n## ")[0]
        for setting in getattr(import_module(f"datasette_embeddings.models.{module}"), "SETTINGS", ()):
            assert f"`{setting}`" in section, (provider, setting)


def test_every_table_and_column_is_documented():
    page = PAGES["docs/tables.md"]
    with closing(sqlite3.connect(":memory:")) as conn:
        schema.ensure_tables(conn)
        tables = [row[0] for row in conn.execute("select name from sqlite_master where type = 'table'")]
        for table in tables:
            if table == "_sqlite_migrations":
                continue
            section = next(part for part in page.split("\n## ") if re.match(rf"[\w, ]*\b{table}\b", part))
            for row in conn.execute(f"pragma table_info({table})").fetchall():
                assert f"`{row[1]}`" in section, (table, row[1])


def test_every_error_is_documented():
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.EmbeddingsError)
    ]
    assert len(kinds) > 10
    for kind in kinds:
        assert f"`{kind.__name__}`" in PAGES["docs/errors.md"]


def test_every_limit_has_a_reason():
    names = [name for name in vars(limits) if name.isupper()]
    for name in names:
        assert re.search(rf"^\| `{name}` \| [\d.,]+ \| \w.*\. \|$", PAGES["docs/limits.md"], re.M), name


def test_every_field_of_the_pages_is_documented(ready):
    page = PAGES["docs/pages.md"].split("\n## JSON\n")[1].split("\n## ")[0]
    for path in (".json", "/til/til.json", "/til/til/search.json?q=bread", "/til/til/item/git_bisect~2Emd.json"):
        answer = json.loads(docs.Stage(ready).bash(f"datasette til.db --get '/-/embeddings{path}'"))
        answers = [answer, *(entry for value in answer.values() if isinstance(value, list) for entry in value)]
        for name in {name for found in answers for name in found}:
            assert f"`{name}`" in page, (path, name)


# Links


def targets(name: str) -> list[str]:
    return [link for link in LINK.findall(CODE.sub("", PAGES[name])) if not link.startswith(("http://", "https://"))]


@pytest.mark.parametrize("name", PAGES)
def test_links_resolve(name):
    for link in targets(name):
        path, _, anchor = link.partition("#")
        target = ((docs.ROOT / name).parent / path).resolve() if path else docs.ROOT / name
        assert target.exists(), link
        if anchor:
            assert anchor in {
                slug(heading) for heading in HEADING.findall(CODE.sub("", target.read_text(encoding="utf-8")))
            }, link


def slug(heading: str) -> str:
    """Return the anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def test_every_page_is_in_the_index():
    linked = {link.partition("#")[0] for link in targets("docs/index.md")}
    assert {Path(name).name for name in PAGES if name.startswith("docs/")} - {"index.md"} <= linked


# The recipe for a site's own pages


def test_the_recipe_for_pages_shows_what_is_related(tmp_path):
    for block in docs.blocks(PAGES["docs/your-own-pages.md"]):
        if block.mark == "run":
            docs.Stage(tmp_path).run(block)
    with closing(sqlite3.connect(tmp_path / "news.db")) as conn:
        articles = dict(conn.execute("select slug, title from articles"))
        nearest = "select other_id from similarities where id = ? order by score desc, other_id limit 5"
        for slug, title in articles.items():
            page = docs.Stage(tmp_path).bash(f"datasette . --get /news/articles/{slug}")
            assert f"<h1>{title}</h1>" in page
            related = [(other, articles[other]) for (other,) in conn.execute(nearest, [slug])]
            assert re.findall(r'<li><a href="/news/articles/([^"]+)">([^<]+)</a>', page) == related
    readme = re.search(r"## Related articles.*?```html\n(.*?)```", PAGES["README.md"], re.S)
    assert readme[1] in (tmp_path / "templates" / "row-news-articles.html").read_text(encoding="utf-8")


# The recipe for sites


@pytest.fixture
def web(tmp_path):
    """A folder and the address where it is on the web."""
    folder = tmp_path / "web"
    folder.mkdir()
    handler = functools.partial(QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files without a word."""

    def log_message(self, *_):
        pass


def recipe() -> list[tuple[str, str]]:
    """Return (name, command) of the steps that a shell runs."""
    workflow = yaml.safe_load((docs.EXAMPLES / "site" / "build.yml").read_text(encoding="utf-8"))
    return [(step["name"], step["run"]) for step in workflow["jobs"]["build"]["steps"] if "run" in step]


def make_repository(folder: Path) -> None:
    folder.mkdir()
    for name in ("metadata.yml", "requirements.txt"):
        shutil.copy(docs.EXAMPLES / "site" / name, folder)
    shutil.copy(docs.EXAMPLES / "til.csv", folder)


@one_line_is_enough
def test_the_recipe_embeds_nothing_twice(web, tmp_path, monkeypatch):
    published, address = web
    monkeypatch.setenv("PUBLISHED", f"{address}/til.db")
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # all that is to be installed is here
    printed = {}
    for run in (1, 2):
        folder = tmp_path / f"run{run}"
        make_repository(folder)
        if run == 2:
            with (folder / "til.csv").open("a", encoding="utf-8") as rows:
                rows.write("git_tags.md,git,Give a release a name,git tag marks a commit.\n")
        for name, command in recipe():
            printed[run, name] = docs.Stage(folder).bash(command)
        shutil.copy(folder / "public" / "til.db", published)
    assert "Nothing is published yet" in printed[1, "Fetch the file that was published last"]
    assert "38 texts embedded" in printed[1, "Embed what is new"]
    assert "1 text embedded, 38 vectors reused" in printed[2, "Embed what is new"]


def test_the_recipe_stops_when_the_server_is_out_of_order(tmp_path, monkeypatch):
    class Broken(QuietHandler):
        def do_GET(self):
            self.send_error(503)

    folder = tmp_path / "repository"
    make_repository(folder)
    fetch = dict(recipe())["Fetch the file that was published last"].replace("--retry 3", "")
    with ThreadingHTTPServer(("127.0.0.1", 0), Broken) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("PUBLISHED", f"http://127.0.0.1:{server.server_port}/til.db")
        with pytest.raises(AssertionError, match="answered 503"):
            docs.Stage(folder).bash(fetch)
        server.shutdown()
