"""A small Hugging Face Hub on 127.0.0.1: what `huggingface_hub` needs to list a repository and to download its files.

Large files are redirected to another host, as the hub redirects to its storage, which resumes with `Range`. `faults`
tell the server to misbehave.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

REPOSITORY = "someone/SwiftVR"
COMMIT = "0123456789abcdef" * 2 + "01234567"
_LARGE = ".safetensors"


@dataclass
class Faults:
    """How the server misbehaves.

    break_at: closes a connection after so many bytes of a large file's body, `breaks` times. flip: sends another byte
    there. no_ranges: answers `Range` with the whole file. status: answers everything with it, with these `headers`.
    page: answers every request with this text, as a hotel's login page does. stall: sends half a large file and waits.
    no_digests: lists files without sizes and digests.
    """

    break_at: int | None = None
    breaks: int = 0
    flip: bool = False
    no_ranges: bool = False
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    page: str | None = None
    stall: threading.Event | None = None
    no_digests: bool = False


@dataclass
class HubServer:
    """The running server. storage: its address as another host. requests: what was asked, as `METHOD path` or
    `METHOD path range`. leaks: requests that showed a token to the storage. stalled: see `Faults.stall`.
    """

    root: Path
    url: str = ""
    storage: str = ""
    card: dict[str, Any] | None = field(default_factory=lambda: {"license": "apache-2.0"})
    faults: Faults = field(default_factory=Faults)
    requests: list[str] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)
    stalled: threading.Event = field(default_factory=threading.Event)

    def info(self) -> dict[str, Any]:
        """What `/api/models/...` answers."""
        siblings = [self.sibling(path) for path in sorted(self.root.rglob("*")) if path.is_file()]
        return {"id": REPOSITORY, "modelId": REPOSITORY, "sha": COMMIT, "cardData": self.card, "siblings": siblings}

    def tree(self) -> list[dict[str, Any]]:
        """What `/api/models/.../tree/COMMIT` answers: the same in other words."""
        return [
            {
                "type": "file",
                "path": entry["rfilename"],
                "size": entry["size"],
                "oid": entry["blobId"],
                **({"lfs": {**entry["lfs"], "oid": entry["lfs"]["sha256"]}} if "lfs" in entry else {}),
            }
            for entry in self.info()["siblings"]
        ]

    def sibling(self, path: Path) -> dict[str, Any]:
        name = path.relative_to(self.root).as_posix()
        if self.faults.no_digests:
            return {"rfilename": name}
        data = path.read_bytes()
        git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        entry: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": git}
        if name.endswith(_LARGE):
            entry["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
        return entry


@contextmanager
def serve_hub(root: Path) -> Iterator[HubServer]:
    """Serve the files below `root` as the repository `REPOSITORY`."""
    hub = HubServer(root)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url, hub.storage = (f"http://{host}:{server.server_port}" for host in ("127.0.0.1", "localhost"))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        if hub.faults.stall:
            hub.faults.stall.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, format: str, *args: Any) -> None: ...

    def _answer(self, *, body: bool) -> None:
        faults, path = self.hub.faults, unquote(urlsplit(self.path).path)
        self.hub.requests.append(" ".join(filter(None, (self.command, path, self.headers.get("Range")))))
        if faults.status is not None or faults.page is not None:
            self._reply(faults.status or 200, (faults.page or "").encode(), faults.headers, body)
        elif path in (f"/api/models/{REPOSITORY}", *(self._revision_path(r) for r in ("main", "v1", COMMIT))):
            self._reply(200, json.dumps(self.hub.info()).encode(), {"Content-Type": "application/json"}, body)
        elif path == f"/api/models/{REPOSITORY}/tree/{COMMIT}":
            self._reply(200, json.dumps(self.hub.tree()).encode(), {"Content-Type": "application/json"}, body)
        elif path.startswith(f"/api/models/{REPOSITORY}/revision/"):
            self._reply(404, b"{}", {"X-Error-Code": "RevisionNotFound"}, body)
        elif path.startswith("/api/models/"):
            self._reply(404, b"{}", {"X-Error-Code": "RepoNotFound"}, body)
        elif path.startswith(prefix := f"/{REPOSITORY}/resolve/{COMMIT}/"):
            self._resolve(path.removeprefix(prefix), body)
        elif path.startswith("/storage/"):
            self._store(path.removeprefix("/storage/"), body)
        else:
            self._reply(404, b"", {"X-Error-Code": "EntryNotFound"}, body)

    @staticmethod
    def _revision_path(revision: str) -> str:
        return f"/api/models/{REPOSITORY}/revision/{revision}"

    def _resolve(self, name: str, body: bool) -> None:
        data = (self.hub.root / name).read_bytes()
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha1(data).hexdigest()}"'}
        if not name.endswith(_LARGE):
            self._reply(200, data, headers, body)
            return
        headers |= {"X-Linked-Size": str(len(data)), "X-Linked-ETag": f'"{hashlib.sha256(data).hexdigest()}"'}
        self._reply(302, b"", {**headers, "Location": f"{self.hub.storage}/storage/{name}"}, body)

    def _store(self, name: str, body: bool) -> None:
        data, faults = (self.hub.root / name).read_bytes(), self.hub.faults
        asked = self.headers.get("Range", "")
        if "Authorization" in self.headers:
            self.hub.leaks.append(self.path)
        if faults.flip:
            data = bytes([data[0] ^ 1]) + data[1:]
        if not asked or faults.no_ranges:
            self._reply(200, data, {"Accept-Ranges": "bytes"}, body)
            return
        start = int(asked.removeprefix("bytes=").split("-")[0])
        if start >= len(data):
            self._reply(416, b"", {"Content-Range": f"bytes */{len(data)}"}, body)
            return
        self._reply(206, data[start:], {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}, body)

    def _reply(self, status: int, data: bytes, headers: dict[str, str], body: bool) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self._send(data, large="/storage/" in self.path)

    def _send(self, data: bytes, *, large: bool) -> None:
        faults = self.hub.faults
        if large and faults.stall is not None:
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            self.hub.stalled.set()
            faults.stall.wait(60)
            self.close_connection = True
        elif large and faults.breaks and faults.break_at is not None and len(data) > faults.break_at:
            faults.breaks -= 1
            self.wfile.write(data[: faults.break_at])
            self.wfile.flush()
            self.close_connection = True
        else:
            self.wfile.write(data)
