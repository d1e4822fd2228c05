"""One drawing of how long a search takes as the rows grow, for every way that was measured; needs matplotlib."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bench.common import say

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DIMENSIONS = 384
STYLES = ("-", "--", ":")


def draw(found: Mapping[tuple[str, int, int], Mapping[str, Mapping[str, Any]]], path: Path) -> None:
    """Write an SVG of median latency against rows: real embeddings, and a million like them. *found*: (kind, rows, dimensions) -> way -> figures."""
    try:
        matplotlib = import_module("matplotlib")
    except ImportError as error:
        say(f"{path.name} was not drawn: {error}")
        return
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": path.name, "font.size": 9})
    pyplot = import_module("matplotlib.pyplot")
    cases = sorted((case for case in found if "real" in case[0] and case[2] == DIMENSIONS), key=lambda case: case[1])
    figure, axes = pyplot.subplots(figsize=(8.5, 5))
    names = dict.fromkeys(name for case in cases for name in found[case] if "nothing baked" not in name)
    for number, name in enumerate(names):
        points = [(case[1], found[case][name]["ms"]) for case in cases if name in found[case]]
        ours = name.startswith("ours")
        style = {"linewidth": 2.2 if ours else 1.1, "linestyle": STYLES[number % 3], "zorder": 3 if ours else 2}
        axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=name.replace("`", ""), **style)
    axes.set(
        xscale="log", yscale="log", xlabel=f"vectors of {DIMENSIONS} dimensions", ylabel="ms, median of one search"
    )
    axes.set_xticks([case[1] for case in cases], [f"{case[1]:,}" for case in cases])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(visible=True, which="major", linewidth=0.4)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
