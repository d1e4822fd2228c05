"""The map of 200,000 points in Chromium: first picture, frames while it is moved, memory; beside the bare examples of deck.gl and regl-scatterplot.

Each draws the same points in the same colours at the same place, in a field of the same size, in one browser that draws by software, as machines
without a graphics processor do. A frame is from a movement of the pointer to pixels that can be read back. Frames of all pages are taken
in turns. The floor is one call of WebGL that draws all points, and nothing else.
"""

from __future__ import annotations

import json
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen

import numpy as np

from bench import common, real

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from playwright.sync_api import Browser, Page

POINTS, QUICK_POINTS = 200_000, 20_000
CLUSTERS = 24
ROUNDS, QUICK_ROUNDS = 5, 2
FRAMES = 2
STARTS, QUICK_STARTS = 3, 2
WIDTH, HEIGHT = 1280, 860
SETTLED_MS = 1_500

MOST_SECONDS = 2.0
MOST_FRAME = 1.3

OPTIONS = (
    "--no-sandbox --use-angle=swiftshader --enable-unsafe-swiftshader --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

OURS, DECK, REGL, FLOOR = "map page", "deck.gl, bare example", "regl-scatterplot, bare example", "floor: one draw call"
LIBRARIES = {"regl-scatterplot": "1.16.0"}
"""Beside those of web/package.json, whose deck.gl the bare example takes with the layers of the same release."""

PAGE = """<!doctype html><title>{name}</title><style>body {{ margin: 0 }} #field {{ position: relative; width: {width}px; height: {height}px }}</style>
<div id="field"></div><script src="{script}.js"></script>"""

READING = """
const buffer = await (await fetch("/-/embeddings/site/items/map/points.bin")).arrayBuffer();
const length = new DataView(buffer).getUint32(0, true);
const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
const n = head.points;
const places = new Uint16Array(buffer, 4 + length, 2 * n);
const clusters = new Uint16Array(buffer, 4 + length + 4 * n, n);
const field = document.getElementById("field");
const [width, height] = [field.clientWidth, field.clientHeight];
const box = head.view.map((value) => value / 65535);
const scale = Math.min(width / (1.12 * (box[2] - box[0])), height / (1.12 * (box[3] - box[1])));
const middle = [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2];
const palette = ["#177dd1", "#e4743d", "#119245", "#cc71c5", "#c48e00", "#00b3be", "#c44b5c", "#9088f3", "#708600", "#00a8e5", "#d88000", "#af7de4"];
const rgb = palette.map((hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)));
const started = performance.now();
"""

EXAMPLES = {
    "deck": """
import { Deck, OrthographicView } from "@deck.gl/core";
import { ScatterplotLayer } from "@deck.gl/layers";
(async () => {
%s
const position = Float32Array.from(places, (value) => value / 65535);
const color = new Uint8Array(4 * n);
for (let i = 0; i < n; i += 1) color.set([...rgb[clusters[i] %% 12], 110], 4 * i);
const deck = new Deck({
  parent: field,
  views: new OrthographicView({ flipY: false }),
  initialViewState: { target: [...middle, 0], zoom: Math.log2(scale) },
  controller: true,
  layers: [new ScatterplotLayer({
    id: "points",
    data: { length: n, attributes: { getPosition: { value: position, size: 2 }, getFillColor: { value: color, size: 4, normalized: true } } },
    getRadius: 1,
    radiusUnits: "pixels",
  })],
  onAfterRender: () => { if (deck.layerManager) window.first ??= performance.now() - started; },
});
})();
""",
    "regl": """
import createScatterplot from "regl-scatterplot";
(async () => {
%s
const canvas = document.createElement("canvas");
field.append(canvas);
const side = Math.max(width, height) / (2 * scale);
const x = new Float32Array(n), y = new Float32Array(n), z = new Float32Array(n);
for (let i = 0; i < n; i += 1) {
  x[i] = (places[2 * i] / 65535 - middle[0]) / side;
  y[i] = (places[2 * i + 1] / 65535 - middle[1]) / side;
  z[i] = clusters[i] %% 12;
}
const plot = createScatterplot({ canvas, width, height, pointSize: 2, opacity: 0.43, colorBy: "valueA", pointColor: palette });
await plot.draw({ x, y, valueA: z });
window.first = performance.now() - started;
})();
""",
    "floor": """
(async () => {
%s
const canvas = document.createElement("canvas");
Object.assign(canvas, { width, height });
field.append(canvas);
const gl = canvas.getContext("webgl2", { antialias: false, depth: false });
const program = gl.createProgram();
const add = (kind, source) => {
  const shader = gl.createShader(kind);
  gl.shaderSource(shader, "#version 300 es\\n" + source);
  gl.compileShader(shader);
  gl.attachShader(program, shader);
};
add(gl.VERTEX_SHADER, `layout(location=0) in vec2 place; layout(location=1) in vec4 paint; uniform vec4 look; out vec4 color;
  void main() { gl_Position = vec4((place - look.xy) * look.zw, 0, 1); gl_PointSize = 2.0; color = paint; }`);
add(gl.FRAGMENT_SHADER, `precision mediump float; in vec4 color; out vec4 pixel; void main() { pixel = color; }`);
gl.linkProgram(program);
gl.useProgram(program);
const color = new Uint8Array(4 * n);
for (let i = 0; i < n; i += 1) color.set([...rgb[clusters[i] %% 12], 110], 4 * i);
[[places, 2, gl.UNSIGNED_SHORT], [color, 4, gl.UNSIGNED_BYTE]].forEach(([data, size, type], at) => {
  gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
  gl.bufferData(gl.ARRAY_BUFFER, data, gl.STATIC_DRAW);
  gl.enableVertexAttribArray(at);
  gl.vertexAttribPointer(at, size, type, true, 0, 0);
});
gl.enable(gl.BLEND);
gl.blendFunc(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA);
let from = null, at = 0;
const draw = () => {
  gl.clear(gl.COLOR_BUFFER_BIT);
  gl.uniform4f(gl.getUniformLocation(program, "look"), middle[0] - at / scale, middle[1], 2 * scale / width, 2 * scale / height);
  gl.drawArrays(gl.POINTS, 0, n);
  window.first ??= performance.now() - started;
};
canvas.addEventListener("pointerdown", (event) => { from = event.clientX - at; });
window.addEventListener("pointermove", (event) => { if (from !== null) { at = event.clientX - from; requestAnimationFrame(draw); } });
window.addEventListener("pointerup", () => { from = null; });
requestAnimationFrame(draw);
})();
""",
}

FRAME = """async (frames) => {
  const canvas = document.querySelector("#map-canvas canvas, #field canvas");
  const box = canvas.getBoundingClientRect();
  const gl = canvas.getContext("webgl2") ?? canvas.getContext("2d");
  const read = () => gl.readPixels ? gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4)) : gl.getImageData(0, 0, 1, 1);
  const send = (type, x) => {
    const about = { clientX: box.left + x, clientY: box.top + 8, bubbles: true, cancelable: true, pointerId: 1, isPrimary: true, pointerType: "mouse", button: 0, buttons: type === "up" ? 0 : 1 };
    canvas.dispatchEvent(new PointerEvent("pointer" + type, about));
    canvas.dispatchEvent(new MouseEvent("mouse" + type, about));
  };
  const next = () => new Promise((done) => requestAnimationFrame(done));
  const seconds = [];
  send("down", 100);
  for (let n = 1; n <= frames + 2; n += 1) {
    const began = performance.now();
    send("move", 100 + 12 * n);
    await next();
    await next();
    read();
    if (n > 2) seconds.push((performance.now() - began) / 1000);
  }
  send("move", 100);
  send("up", 100);
  await next();
  return seconds;
}"""
"""Moves the picture to the right, frame by frame, and back; the first two frames do not count."""


def main(argv: Sequence[str] | None = None) -> None:
    """Print the results."""
    quick = common.quick(__doc__, argv)
    points = QUICK_POINTS if quick else POINTS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        common.say(f"a collection of {points:,} items, their map and clusters")
        write(folder / "site.db", points)
        with served(folder) as address, browser() as (chromium, program):
            print(measured(chromium, program, address, folder, points, quick))


def measured(chromium: Browser, program: str, address: str, folder: Path, points: int, quick: bool) -> common.Table:
    """Return the table of all pages."""
    where = f"{address}/-/embeddings/site/items/map"
    starts, blank, took = [], memory(program), []
    for _ in range(QUICK_STARTS if quick else STARTS):
        page = drawn(chromium, where)
        starts.append(
            page.evaluate("performance.measure('m', 'embeddings-map-data', 'embeddings-map-drawn').duration") / 1e3
        )
        took.append(memory(program) - blank)
        heap = page.evaluate("performance.memory.usedJSHeapSize") / 1e6
        box = page.locator("#map-canvas").bounding_box()
        page.context.close()
    assert box is not None
    examples = bundle(folder / "bare", round(box["width"]), round(box["height"]))
    pages = {OURS: drawn(chromium, where)}
    first = {OURS: statistics.median(starts)}
    for label, script in zip((DECK, REGL, FLOOR), examples, strict=True):
        pages[label] = open_page(chromium, f"{address}/bare/{script}.html")
        pages[label].wait_for_function("window.first", timeout=60_000)
        first[label] = pages[label].evaluate("window.first") / 1e3
    seconds: dict[str, list[float]] = {label: [] for label in pages}
    names = list(pages)
    for number in range(QUICK_ROUNDS if quick else ROUNDS):
        for label in names[number % len(names) :] + names[: number % len(names)]:
            pages[label].bring_to_front()
            seconds[label] += pages[label].evaluate(FRAME, FRAMES)
    frame = {label: statistics.median(taken) for label, taken in seconds.items()}
    table = common.Table(("page", "first picture, s", "frame while moving, ms", "/ deck.gl's", "/ floor"))
    for label in pages:
        ratios = (common.times(frame[label] / frame[other]) for other in (DECK, FLOOR))
        table.rows.append((label, common.number(first[label]), common.number(1e3 * frame[label]), *ratios))
    what = f"map of {points:,} rows"
    table.goal(f"{what}, first picture after its data arrived", first[OURS], MOST_SECONDS, "s")
    table.goal(f"{what}, frame", frame[OURS] / frame[DECK], MOST_FRAME, "times that of deck.gl's bare example")
    table.goal(
        f"{what}, frame beside the other library",
        frame[OURS] / frame[REGL],
        MOST_FRAME,
        "times that of regl-scatterplot's",
    )
    table.note(
        f"Memory of the map page: {common.number(statistics.median(took))} MB more than an empty page in all processes of the browser, the picture "
        f"drawn by software among them; {common.number(heap)} MB are the script's own."
    )
    size = len(urlopen(f"{where}/points.bin").read())
    table.note(
        f"Sent: {common.number(size / 1e6)} MB of points, {script_size()}. Field of {box['width']:.0f} x {box['height']:.0f} pixels; {version(chromium)}."
    )
    return table


def write(path: Path, count: int) -> None:
    """Write a collection with a map of the first two principal components, and in clusters around some of its items."""
    rows = np.asarray(real.vectors(count)[0])
    common.write_collection(path, rows)
    sample = rows[:20_000] - rows[:20_000].mean(axis=0)
    axes = np.linalg.eigh(sample.T @ sample)[1][:, :-3:-1]
    places = (rows - rows[:20_000].mean(axis=0)) @ axes
    clusters = np.argmax(rows @ rows[:: count // CLUSTERS][:CLUSTERS].T, axis=1) + 1
    with closing(sqlite3.connect(path)) as conn, conn:
        ids = [item for (item,) in conn.execute("select id from embeddings order by id")]
        points = zip(ids, places.tolist(), strict=True)
        conn.executemany("insert into projections select id, ?, ?, ? from collections", [(i, *at) for i, at in points])
        members = zip(ids, clusters.tolist(), strict=True)
        conn.executemany("insert into cluster_members select id, ?, ?, 1 from collections", members)
        conn.execute(
            "insert into clusters (collection_id, cluster, label, size) "
            "select collection_id, cluster, 'cluster number ' || cluster, count(*) from cluster_members group by cluster"
        )


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder's database, and its folder `bare` beside; yields the address."""
    (folder / "bare").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--static", f"bare:{folder / 'bare'}", "--setting", "sql_time_limit_ms", "20000"]
    command = [sys.executable, "-m", "datasette", str(folder / "site.db"), "--port", str(port), *options]
    address = f"http://127.0.0.1:{port}"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            for _ in range(300):
                try:
                    urlopen(f"{address}/-/embeddings/site/items/map").close()
                except OSError:
                    time.sleep(0.1)
                else:
                    break
            yield address
        finally:
            server.terminate()


@contextmanager
def browser() -> Iterator[tuple[Browser, str]]:
    """Start Chromium; yields it and an option by which its processes are known."""
    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        raise SystemExit("Chromium is needed: apt-get install chromium")
    with tempfile.TemporaryDirectory() as mark, sync_playwright() as playwright:
        options = [*OPTIONS, f"--crash-dumps-dir={mark}", "--enable-precise-memory-info"]
        chromium = playwright.chromium.launch(executable_path=program, args=options)
        chromium.new_page()
        yield chromium, mark
        chromium.close()


def open_page(chromium: Browser, address: str) -> Page:
    """Return a page in a context of its own, so that nothing is cached."""
    page = chromium.new_context(viewport={"width": WIDTH, "height": HEIGHT}).new_page()
    page.goto(address)
    return page


def drawn(chromium: Browser, address: str) -> Page:
    """Return the map page, drawn and at rest."""
    page = open_page(chromium, address)
    page.locator(".map-drawn").wait_for(timeout=60_000)
    page.wait_for_timeout(SETTLED_MS)
    return page


def bundle(folder: Path, width: int, height: int) -> list[str]:
    """Make the examples' pages with npm's packages; return their names."""
    own = json.loads((common.ROOT / "web" / "package.json").read_text("utf-8"))
    versions = {**own["dependencies"], **own["devDependencies"], **LIBRARIES}
    versions["@deck.gl/layers"] = versions["@deck.gl/core"]
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        (work / "package.json").write_text(json.dumps({"private": True, "dependencies": versions}), "utf-8")
        run(work, "npm", "install", "--ignore-scripts", "--no-audit", "--no-fund")
        for script, source in EXAMPLES.items():
            (work / f"{script}.js").write_text(source % READING, "utf-8")
            options = ("--bundle", "--minify", "--format=iife", "--log-level=error", f"--outfile={folder / script}.js")
            run(work, "node", "node_modules/esbuild/bin/esbuild", f"{script}.js", *options)
            page = PAGE.format(name=script, script=script, width=width, height=height)
            (folder / f"{script}.html").write_text(page, "utf-8")
            common.say(f"{script}: {(folder / script).with_suffix('.js').stat().st_size / 1e3:,.0f} kB")
    return list(EXAMPLES)


def run(folder: Path, program: str, *arguments: str) -> None:
    """Run node or npm, which this bench needs to be installed."""
    found = shutil.which(program)
    if found is None:
        raise SystemExit(f"{program} is needed for the bare examples: install Node")
    subprocess.run([found, *arguments], cwd=folder, check=True, stdout=subprocess.DEVNULL)


def memory(mark: str) -> float:
    """Return the memory of a browser's processes in MB, what they share counted once; 0 where that cannot be told."""
    parents: dict[int, int] = {}
    roots = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if mark.encode() in (entry / "cmdline").read_bytes():
                roots.add(int(entry.name))
        except OSError:  # it ended meanwhile
            continue
    family = set(roots)
    while grown := {process for process, parent in parents.items() if parent in family} - family:
        family |= grown
    return sum(map(proportional, family))


def proportional(process: int) -> float:
    """Return the proportional set size of a process in MB."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0) * 1.024e-3


def script_size() -> str:
    """Return the size of the page's script in words."""
    import gzip

    from datasette_embeddings.pages.map import BUNDLE

    body = BUNDLE.read_bytes()
    return f"{len(body) / 1e3:,.0f} kB of script ({len(gzip.compress(body)) / 1e3:,.0f} kB compressed)"


def version(chromium: Browser) -> str:
    """Return which browser it is."""
    return f"Chromium {chromium.version}"


if __name__ == "__main__":
    main()
