"""URLs through fsspec: memory, local files, and an HTTP server that breaks off."""

import gzip
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import pytest

from llmtool.core.corpus import remote
from llmtool.core.corpus.provenance import describe
from llmtool.core.corpus.readers import read_documents, total_bytes
from llmtool.core.run.errors import UserError

fsspec = pytest.importorskip("fsspec", reason="the extra `remote` is not installed")

ROWS = "".join(json.dumps({"text": f"row {number}", "id": number}) + "\n" for number in range(50)).encode()
TEXTS = [f"row {number}".encode() for number in range(50)]


def texts(*urls: str) -> list[bytes]:
    return [document.text for document in read_documents(urls)]


@pytest.fixture(params=["memory", "local"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    url = f"memory://corpus-{tmp_path.name}" if request.param == "memory" else f"local://{tmp_path}/corpus"
    system, path = fsspec.core.url_to_fs(url)
    system.makedirs(f"{path}/data")
    system.makedirs(f"{path}/.hidden")
    for name, data in (
        ("data/part-0.jsonl.gz", gzip.compress(ROWS)),
        ("data/part-1.jsonl", ROWS),
        ("README.md", b"about"),
        (".hidden/x.jsonl", ROWS),
    ):
        system.pipe(f"{path}/{name}", data)
    return url


def test_files_and_directories(base: str) -> None:
    assert texts(f"{base}/data/part-0.jsonl.gz") == TEXTS
    assert texts(base) == TEXTS * 2  # the readme and what is hidden are left out
    assert texts(f"{base}/data/part-1.jsonl@2") == TEXTS * 2
    assert total_bytes([base]) == len(ROWS) + len(gzip.compress(ROWS))
    known = describe(f"{base}/data/part-1.jsonl", Event(), read_whole=True)
    assert (known["bytes"], known["sha256"]) == (len(ROWS), None)
    with pytest.raises(UserError, match=r"nothing: cannot read: no such file or directory"):
        texts(f"{base}/nothing")


def test_globs(base: str) -> None:
    assert texts(f"{base}/data/*.gz") == TEXTS
    assert texts(f"{base}/*/part-?.jsonl*") == TEXTS * 2
    with pytest.raises(UserError, match=r"nothing-\*: no file is called so"):
        texts(f"{base}/nothing-*")
    system, path = fsspec.core.url_to_fs(f"{base}/one[1].jsonl")
    system.pipe(path, ROWS)
    assert texts(f"{base}/one[1].jsonl") == TEXTS  # a name as it stands comes first


def test_parquet_is_read_where_it_lies(base: str) -> None:
    pa = pytest.importorskip("pyarrow", reason="the extra `parquet` is not installed")
    pq = pytest.importorskip("pyarrow.parquet")
    system, path = fsspec.core.url_to_fs(f"{base}/f.parquet")
    with system.open(path, "wb") as file:
        pq.write_table(pa.table({"text": ["a", "b"], "id": [1, 2]}), file)
    assert [(d.text, d.id) for d in read_documents([f"{base}/f.parquet"])] == [(b"a", "1"), (b"b", "2")]


@pytest.mark.parametrize(
    ("url", "package"), [("s3://b/x", "s3fs"), ("gs://b/x", "gcsfs"), ("hf://x/y", "huggingface_hub")]
)
def test_a_missing_file_system_is_named(url: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> None:
        raise ImportError("Please install it")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(UserError, match=rf"^{url}: cannot read: Please install it \(pip install {package}\)"):
        texts(url)


def test_what_is_missing_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"nosuch://x: cannot read: .*nosuch"):
        texts("nosuch://x")
    monkeypatch.setattr(remote, "require", lambda *_, **__: (_ for _ in ()).throw(UserError("fsspec is needed")))
    with pytest.raises(UserError, match="fsspec is needed"):
        texts("memory://x")


BODY = b"".join(b"%07d of a line that is long enough\n" % number for number in range(200_000))  # 7.4 MB


class Unsteady(BaseHTTPRequestHandler):
    """Serves BODY by ranges; every second answer breaks off half way."""

    answers = 0

    def do_HEAD(self) -> None:
        self.send_response(200 if self.path == "/f.txt" else 404)
        self.send_header("Content-Length", str(len(BODY)))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", "v1")
        self.end_headers()

    def do_GET(self) -> None:
        if self.path != "/f.txt":
            self.send_error(404)
            return
        first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        part = BODY[int(first) : int(last) + 1 if last else None]
        self.send_response(206)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(BODY)}")
        self.end_headers()
        Unsteady.answers += 1
        self.wfile.write(part[: len(part) // 2] if Unsteady.answers % 2 == 0 else part)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[str]:
    pytest.importorskip("aiohttp", reason="the extra `remote` is not installed")
    with ThreadingHTTPServer(("127.0.0.1", 0), Unsteady) as http:
        thread = Thread(target=http.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def test_a_connection_that_breaks_is_taken_up_again(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "FIRST_WAIT", 0.01)
    assert b"".join(remote.chunks(f"{server}/f.txt")) == BODY
    assert Unsteady.answers > 2
    assert describe(f"{server}/f.txt", Event(), read_whole=True)["identity"] == ["v1"]
    with pytest.raises(UserError, match=r"gone: cannot read"):
        texts(f"{server}/gone")
