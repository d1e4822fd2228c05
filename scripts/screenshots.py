"""Pictures of the demonstration for the documentation, in docs/images: `python scripts/screenshots.py`.

It needs demo.db (`make demo-build`) and Chromium; where pngquant is installed the pictures become smaller.
"""

from __future__ import annotations

import io
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError
from urllib.request import urlopen

from PIL import Image
from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "docs" / "images"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
START_SECONDS = 60
DRAWING_SECONDS = 4
"""A map draws itself by software here, after it has its points."""

MAX_BYTES = 150_000

WIDTH = 1280
PAGES = {
    "home.png": ("/", 800),
    "search.png": ("/-/embeddings/demo/articles/search?q=slow+down+so+that+a+site+does+not+block+me", 800),
    "map.png": ("/-/embeddings/demo/articles/map", 900),
    "clusters.png": ("/-/embeddings/demo/articles/clusters", 800),
    "spectrum.png": (
        "/-/embeddings/demo/sentences/spectrum?q=Justice+is+more+than+the+law.+She+put+the+brick+on+the+wall.+Doubt+is+where+learning+begins."
        "+The+kettle+stood+on+the+stove.",
        800,
    ),
    "finder.webp": ("/-/embeddings/demo/catalogue/images?like=tap-0530", 1000),
    "related.png": ("/demo/functions/datasette~2Fapp~2Epy~3ADatasette~2E_register_renderers", 640),
}
"""File -> (address, height in pixels)."""

QUIET = (
    "--no-sandbox",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-sync",
)


def main(site: Path) -> int:
    """Take every picture of the site in a folder; return the exit code."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print("Chromium is needed for pictures, e.g. apt-get install chromium", file=sys.stderr)
        return 1
    if not (site / "demo.db").is_file():
        print(f"{site / 'demo.db'} is missing: make demo-build makes it", file=sys.stderr)
        return 1
    IMAGES.mkdir(parents=True, exist_ok=True)
    with served(site) as address, sync_playwright() as playwright:
        page = playwright.chromium.launch(executable_path=browser, args=list(QUIET)).new_page()
        for name, (path, height) in PAGES.items():
            target = IMAGES / name
            take(page, address + path, target, height)
            print(f"{target.relative_to(ROOT)}: {target.stat().st_size:,} bytes")
    return int(any((IMAGES / name).stat().st_size > MAX_BYTES for name in PAGES))


@contextmanager
def served(site: Path) -> Iterator[str]:
    """Serve a folder by this environment's Datasette; yields its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    program = Path(sys.executable).parent / "datasette"
    command = [str(program), ".", "--port", str(port)]
    server = subprocess.Popen(command, cwd=site, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait(address)
        yield address
    finally:
        server.terminate()
        server.wait()


def wait(address: str) -> None:
    """Return once the server answers; raises TimeoutError."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        try:
            urlopen(address, timeout=5).close()
        except (URLError, ConnectionError):
            time.sleep(0.2)
        else:
            return
    raise TimeoutError(f"Datasette did not answer at {address} within {START_SECONDS} seconds")


def take(page: Page, url: str, target: Path, height: int) -> None:
    """Write a picture of a page, in few colours where pngquant is there to choose them."""
    page.set_viewport_size({"width": WIDTH, "height": height})
    page.goto(url, timeout=START_SECONDS * 1000)
    page.wait_for_timeout(DRAWING_SECONDS * 1000)
    if target.suffix == ".webp":  # a page of pictures, for which PNG is not made
        Image.open(io.BytesIO(page.screenshot())).save(target, quality=80)
        return
    page.screenshot(path=target)
    quantizer = shutil.which("pngquant")
    if quantizer:
        subprocess.run([quantizer, "--force", "--output", str(target), "64", str(target)], check=True)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT))
