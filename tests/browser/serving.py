"""A site as its visitors meet it: a real Datasette process on this machine, and Debian's Chromium that looks at it."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.error import URLError
from urllib.request import urlopen

import pytest
import yaml
from click.testing import CliRunner

from datasette_embeddings.cli import embeddings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from playwright.sync_api import Browser

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
"""Programs that are looked for, as `make chromium` looks; the variable CHROMIUM names another."""

MISSING = "The tests of pages need Chromium, which is not installed here: apt-get install chromium"

QUIET = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
"""Options that keep the browser to the pages it is sent to; tests may run as root, for whom it has no sandbox."""

DRAWING = [
    *(option for option in QUIET if option != "--disable-gpu"),
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
]
"""Options of a browser that draws by WebGL where there is no graphics processor, slowly and the same everywhere."""

START_SECONDS = 60

HOSTILE = (
    '<script>window.__xss = 1</script><img src="/xss" onerror="window.__xss = 1">'
    "\"'><svg onload='window.__xss = 1'><b onmouseover=\"window.__xss = 1\">weather</b>"
)
"""What runs as a script wherever it is printed as it is: as markup, and out of an attribute in either kind of quotes."""

SETTINGS = {
    "databases": {
        "news": {
            "tables": {
                "articles": {
                    "description": "Eight short articles, and what somebody hostile added.",
                    "facets": ["topic"],
                    "label_column": "title",
                }
            }
        }
    }
}


def make_site(folder: Path, built: Path) -> None:
    """Write a site with the articles, one hostile row, and one that has no text to embed."""
    database = folder / "news.db"
    shutil.copy(built, database)
    with sqlite3.connect(database) as conn:
        conn.execute("insert into articles values (?, ?, ?, ?)", ["news/hostile" + HOSTILE, *[HOSTILE] * 3])
        conn.execute("insert into articles values ('news/empty', '', '', '')")
    conn.close()
    result = CliRunner().invoke(embeddings, ["build", str(database)])
    assert result.exit_code == 0, result.output
    (folder / "metadata.yml").write_text(yaml.safe_dump(SETTINGS))


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder by this environment's Datasette; yields its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "datasette", str(folder), "--port", str(port)]
    with (folder / "server.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            wait(f"http://127.0.0.1:{port}", server)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def wait(address: str, server: subprocess.Popen) -> None:
    """Return once the server answers."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            urlopen(f"{address}/-/versions.json", timeout=5).close()
        except (URLError, ConnectionError):
            time.sleep(0.1)
        else:
            return
    pytest.fail(f"Datasette did not answer at {address} within {START_SECONDS} seconds", pytrace=False)


@contextmanager
def running_browser(options: Sequence[str] = QUIET) -> Iterator[Browser]:
    """Start the browser of the machine; none is downloaded."""
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.fail(MISSING, pytrace=False)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(options))
        yield browser
        browser.close()
