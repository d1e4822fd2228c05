"""A server that answers as the Hugging Face hub does about one repository, `acme/tiny`, on this machine."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

COMMIT = "c" * 40


class Hub:
    """The hub, with the files of the folder *root*; *asked*: names of those that were asked for."""

    def __init__(self, root: Path) -> None:
        self.asked: set[str] = set()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, root, self.asked))

    def __enter__(self) -> Hub:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def run(self, code: str, cache: Path, **environment: str) -> str:
        """Return what *code* prints in a process of its own, as the hub's client reads its environment once."""
        endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        return run_at(endpoint, code, cache, **environment)


def run_at(endpoint: str, code: str, cache: Path, **environment: str) -> str:
    """Return what *code* prints, in a process whose hub is at that address."""
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(cache), **environment}
    done = subprocess.run([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


class _Handler(http.server.BaseHTTPRequestHandler):
    def __init__(self, root: Path, asked: set[str], *arguments: object) -> None:
        self.root, self.asked = root, asked
        super().__init__(*arguments)

    def do_GET(self) -> None:
        self.answer(body=True)

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def answer(self, body: bool) -> None:
        path = self.path.partition("?")[0]
        file = self.root / path.partition(f"/acme/tiny/resolve/{COMMIT}/")[2]
        if path.startswith("/api/models/acme/tiny"):
            data = json.dumps(self.tree() if "/tree/" in path else {"id": "acme/tiny", "sha": COMMIT}).encode()
        elif file.is_file():
            self.asked.add(file.name)
            data = file.read_bytes()
        else:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def tree(self) -> list[dict[str, object]]:
        files = [path for path in self.root.rglob("*") if path.is_file()]
        return [
            {"type": "file", "path": str(path.relative_to(self.root)), "size": path.stat().st_size, "oid": "0" * 40}
            for path in files
        ]

    def log_message(self, *arguments: object) -> None:
        pass
