"""hf:// through huggingface_hub's own client, against a server here that has the routes which it asks for."""

import hashlib
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from threading import Event, Thread
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from llmtool.core.corpus.document import ReadReport
from llmtool.core.corpus.provenance import describe
from llmtool.core.corpus.readers import read_documents
from llmtool.core.run.errors import UserError

fsspec = pytest.importorskip("fsspec", reason="the extra `remote` is not installed")
pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")

ROWS = "".join(json.dumps({"text": f"row {number}"}) + "\n" for number in range(400)).encode()
TEXTS = [f"row {number}".encode() for number in range(400)]


class Hub(BaseHTTPRequestHandler):
    """One data set, org/name, at the revision main."""

    files: dict[str, bytes]

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def entries(self, under: str) -> list[dict[str, object]]:
        """Files below a directory, and the directories."""
        names = [name for name in self.files if name.startswith(f"{under}/".lstrip("/"))]
        folders = {name.rpartition("/")[0] for name in names if "/" in name} - {under}
        return [
            *({"type": "directory", "oid": "0", "size": 0, "path": folder} for folder in sorted(folders)),
            *(self.entry(name) for name in names),
        ]

    def entry(self, name: str) -> dict[str, object]:
        data = self.files[name]
        return {"type": "file", "oid": hashlib.sha1(data).hexdigest(), "size": len(data), "path": name}

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path)
        if path.startswith("/api/datasets/org/name/tree/"):
            found = self.entries("/".join(path.split("/")[7:]))
            if "recursive=true" not in url.query.lower():
                found = [each for each in found if str(each["path"]).count("/") == path.count("/") - 6]
            self.answer(200, json.dumps(found).encode(), Content_Type="application/json")
        elif path.startswith("/api/datasets/org/name"):
            about = {"id": "org/name", "sha": "a" * 40, "siblings": [{"rfilename": name} for name in self.files]}
            self.answer(200, json.dumps(about).encode(), Content_Type="application/json")
        elif path.startswith("/datasets/org/name/resolve/") and (name := "/".join(path.split("/")[6:])) in self.files:
            data = self.files[name]
            first, _, last = self.headers.get("Range", f"bytes=0-{len(data) - 1}").removeprefix("bytes=").partition("-")
            part = data[int(first) : int(last or len(data)) + 1]
            span = f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}"
            self.answer(206, part, ETag='"v1"', X_Repo_Commit="a" * 40, Content_Range=span)
        else:
            self.answer(404, b"", X_Error_Code="RepoNotFound" if "org/name" not in path else "EntryNotFound")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        """What stands at some paths."""
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        asked = json.loads(body)["paths"] if body.startswith("{") else parse_qs(body)["paths"]
        found = [self.entry(name) for name in asked if name in self.files]
        found += [
            {"type": "directory", "oid": "0", "size": 0, "path": name}
            for name in asked
            if any(file.startswith(f"{name}/") for file in self.files)
        ]
        self.answer(200, json.dumps(found).encode(), Content_Type="application/json")

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    pa = pytest.importorskip("pyarrow", reason="the extra `parquet` is not installed")
    pq = pytest.importorskip("pyarrow.parquet")
    table = BytesIO()
    pq.write_table(pa.table({"text": [text.decode() for text in TEXTS]}), table)
    Hub.files = {"README.md": b"about", ".gitattributes": b"x", "data/a.parquet": table.getvalue(), "data/b.json": ROWS}
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as http:
        thread = Thread(target=http.serve_forever, daemon=True)
        thread.start()
        there = {"endpoint": f"http://127.0.0.1:{http.server_port}", "token": False, "skip_instance_cache": True}
        monkeypatch.setitem(fsspec.config.conf, "hf", there)
        yield "hf://datasets/org/name"
        http.shutdown()
        thread.join()


def test_a_data_set_of_the_hub(hub: str) -> None:
    report = ReadReport()
    assert [document.text for document in read_documents([hub], report=report)] == TEXTS * 2
    assert (report.files, report.count) == ({"parquet": 1, "jsonl": 1}, 1)  # the README is left out
    assert [document.text for document in read_documents([f"{hub}@main/data/b.json"])] == TEXTS
    assert [document.text for document in read_documents([f"{hub}/data/*.parquet"])] == TEXTS
    known = describe(f"{hub}/data/b.json", Event(), read_whole=True)
    assert (known["bytes"], known["sha256"]) == (len(ROWS), None)


def test_what_is_not_there_is_one_line(hub: str) -> None:
    with pytest.raises(UserError, match=r"org/name/nothing: cannot read: no such file or directory"):
        list(read_documents([f"{hub}/nothing"]))
    with pytest.raises(UserError, match=r"^hf://datasets/org/other: cannot read: .*404") as refused:
        list(read_documents(["hf://datasets/org/other"]))
    assert "\n" not in str(refused.value)
