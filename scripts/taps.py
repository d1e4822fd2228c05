"""Picture of the catalogue for the documentation, docs/images/taps.webp: `python scripts/taps.py`."""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from demo.catalogue import COUNT, SEED, described, drawn  # noqa: E402
from demo.taps.parts import SHAPES  # noqa: E402

# A tap of each shape, each in another finish.
SHOWN = dict(
    zip(SHAPES, "chrome/gold/rose gold/matt black/teal/copper/brushed nickel/brass/red/bronze".split("/"), strict=True)
)
COLUMNS, SIDE = 5, 240


def main() -> None:
    """Write the picture."""
    sheet = Image.new("RGB", (COLUMNS * SIDE, -(-len(SHOWN) // COLUMNS) * SIDE))
    for place, (shape, finish) in enumerate(SHOWN.items()):
        number = next(n for n in range(COUNT) if described(SEED, n)[0][2:4] == (shape, finish))
        tap = Image.open(BytesIO(drawn(SEED, number)[1])).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        sheet.paste(tap, (place % COLUMNS * SIDE, place // COLUMNS * SIDE))
    sheet.save(ROOT / "docs" / "images" / "taps.webp", quality=85)


if __name__ == "__main__":
    main()
