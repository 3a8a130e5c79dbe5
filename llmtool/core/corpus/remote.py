"""Files behind a URL (s3://, gs://, https://, hf://datasets/...), through fsspec: the extra `remote`.

Streamed in order; a connection that breaks is taken up again where it broke.
"""

import re
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

from llmtool.core.corpus.blocks import BLOCK
from llmtool.core.run.errors import UserError
from llmtool.core.run.extras import require
from llmtool.core.run.numbers import whole

TRIES = 4
"""Attempts at one place of a file; the waits between them are 0.5, 1 and 2 seconds."""

FIRST_WAIT = 0.5
_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "hf": "huggingface_hub"}
_GLOB = re.compile(r"[*?\[]")
_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")


def is_url(source: str) -> bool:
    """Whether a name is a URL rather than a path."""
    return _URL.match(source) is not None


def find(url: str) -> tuple[str, list[tuple[str, int]]] | None:
    """(the directory, (URL, size) of all files below it, sorted); None where the URL is a file.

    A URL with `*`, `?` or `[` that is no file itself is a glob, as the shell has it for paths here.
    """
    if url.lower().startswith(("http://", "https://")):
        return None  # a page of links is no directory, and to look for links fetches the whole file
    system, path = _system(url)
    with _explained(url):
        mark = _GLOB.search(path)
        if mark and not system.exists(path):
            root = path[: mark.start()].rpartition("/")[0]
            listing = {name: facts for name, facts in system.glob(path, detail=True).items() if facts["type"] == "file"}
            if not listing:
                raise UserError("no file is called so", where=url)
        elif system.info(path)["type"] != "directory":
            return None
        else:
            root, listing = path, system.find(path, detail=True)
        below = [
            (system.unstrip_protocol(name), whole(facts["size"] or 0, "size", where=name))
            for name, facts in listing.items()
        ]
        base = system.unstrip_protocol(root)
    hidden = re.compile(r"/(\.|__pycache__)")
    return base, sorted((name, length) for name, length in below if not hidden.search(name[len(base) :]))


def size(url: str) -> int | None:
    """Bytes of a file; None where the server does not say."""
    system, path = _system(url)
    with _explained(url):
        found = system.info(path).get("size")
    return None if found is None else whole(found, "size", where=url)


def identity(url: str) -> str | None:
    """What changes when the file changes (an ETag, a time), as far as the server tells."""
    system, path = _system(url)
    with _explained(url):
        facts = system.info(path)
    known = [str(facts[key]) for key in ("ETag", "etag", "md5Hash", "LastModified", "mtime", "created") if key in facts]
    return known[0] if known else None


def chunks(url: str, on_bytes: Callable[[int], None] | None = None) -> Generator[bytes, None, None]:
    """The file's bytes; after a failure the reading goes on at the byte it had reached."""
    place, failures = 0, 0
    while True:
        try:
            with open_file(url) as file:
                if place:
                    file.seek(place)
                while chunk := file.read(BLOCK):
                    place, failures = place + len(chunk), 0
                    if on_bytes:
                        on_bytes(len(chunk))
                    yield chunk
                return
        except UserError:
            raise
        except Exception as error:  # each file system has errors of its own
            failures += 1
            if failures == TRIES or isinstance(error, (FileNotFoundError, PermissionError)):
                raise _unreadable(url, error) from None
            time.sleep(FIRST_WAIT * 2 ** (failures - 1))


@contextmanager
def open_file(url: str) -> Iterator[Any]:
    """The file, open for reading at any place."""
    system, path = _system(url)
    with system.open(path, "rb", block_size=4 * BLOCK) as file:
        yield file


def _system(url: str) -> tuple[Any, str]:
    """fsspec's file system for a URL, and the path in it."""
    fsspec: Any = require("fsspec.core", extra="remote", why="to read URLs")
    try:
        system, path = fsspec.url_to_fs(url)
    except ImportError as error:  # s3fs, gcsfs, ...: fsspec says which
        package = _PACKAGES.get(url.partition("://")[0].lower())
        hint = f"pip install {package}" if package else "pip install it beside 'llmtool[remote]'"
        raise UserError(f"cannot read: {error}", where=url, hint=hint) from None
    except ValueError as error:
        raise UserError(f"cannot read: {error}", where=url) from None
    return system, path


@contextmanager
def _explained(url: str) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise _unreadable(url, error) from None


def _unreadable(url: str, error: Exception) -> UserError:
    if error.__cause__ is not None and str(error.__cause__):  # fsspec calls a refused connection a missing file
        reason = str(error.__cause__)
    elif isinstance(error, FileNotFoundError):
        reason = "no such file or directory"
    else:
        reason = str(error) or type(error).__name__
    return UserError(f"cannot read: {reason}", where=url)
