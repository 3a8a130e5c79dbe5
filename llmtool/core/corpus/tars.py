"""Tars of samples, as WebDataset writes them: members of one name, each with a suffix of its own, are one row.

`000.txt` and `000.json` are a row with the fields `txt` and `json`; the members of a JSON object are fields as well,
where no suffix is called so. A field `text` that no member has is `txt`.
"""

import io
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtool.core.corpus.blocks import MAX_ROW
from llmtool.core.corpus.document import RowErrors
from llmtool.core.run.errors import UserError
from llmtool.core.run.json_file import parse_json

if TYPE_CHECKING:
    import tarfile


class Stream(io.RawIOBase):
    """Chunks of bytes as a file that can only be read on."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks, self._held = iter(chunks), memoryview(b"")
        self.size, self.tail = 0, b""
        """Bytes read so far, and the last 512 of them."""

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill at most `buffer`; 0 at the end."""
        while not self._held:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self.size += len(chunk)
            self.tail = (self.tail + chunk)[-512:] if len(chunk) < 512 else chunk[-512:]
            self._held = memoryview(chunk)
        size = min(len(buffer), len(self._held))
        buffer[:size], self._held = self._held[:size], self._held[size:]
        return size


_PADDING = 1 << 16  # zeros behind the end: tar pads to 10 KiB unless told otherwise


def _named(member: "tarfile.TarInfo") -> tuple[str, str] | None:
    """(key of its sample, suffix) of a member; None of what belongs to no sample."""
    folder, slash, base = member.name.rpartition("/")
    name, _, suffix = base.partition(".")
    return (folder + slash + name, suffix.lower()) if member.isfile() and name else None


def samples(path: str) -> Iterator[tuple[int, int, int]]:
    """(where it ends, 1, bytes) of each sample of a plain tar, from its headers alone."""
    import tarfile  # 1.5 ms of a start that few need

    try:
        with Path(path).open("rb") as file, tarfile.open(fileobj=file, mode="r:") as members:
            key, start, end = "", 0, 0
            for member in members:
                if (named := _named(member)) is not None:
                    if key and named[0] != key:
                        yield member.offset, 1, member.offset - start
                        start = member.offset
                    key = named[0]
                end = members.offset
            if key:
                yield end, 1, end - start
            file.seek(-512, os.SEEK_END)
            if any(file.read()):  # as in read_tar, which does not see the end of a part's file
                raise EOFError("it ends too early")
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        raise UserError(f"not a readable tar: {error}", where=path, hint="is the file complete?") from None
    except OSError as error:
        raise UserError(f"cannot read: {error.strerror}", where=path) from None


def read_tar(
    chunks: Iterable[bytes], source: str, errors: RowErrors, fields: Sequence[str] | None = None, before: int = 0
) -> Iterator[tuple[int, dict[str, Any], str]]:
    """(number from 1, row, its key) of each sample; members of other types than files are passed over.

    before: samples of the tar in front of these.

    fields: members that these do not need are not read, and are empty.
    """
    import tarfile

    wanted = None if fields is None else {"json", "txt", *(field.partition(".")[0] for field in fields), *fields}
    row, key, held = before, "", dict[str, Any]()
    stream = Stream(chunks)
    try:
        with tarfile.open(fileobj=io.BufferedReader(stream, 1 << 20), mode="r|") as members:
            for member in members:
                if (named := _named(member)) is None:
                    continue
                if named[0] != key:
                    if held:
                        row += 1
                        yield row, _row(held, f"{source}:{row}", errors), key
                    key, held = named[0], {}
                suffix = named[1]
                needed = wanted is None or suffix in wanted
                if needed and member.size > MAX_ROW:
                    raise UserError(f"{member.name} is larger than {MAX_ROW >> 20:,} MiB", where=source)
                file = members.extractfile(member) if needed else None
                held[suffix] = file.read() if file else b""
            end = members.offset
        if held:
            yield row + 1, _row(held, f"{source}:{row + 1}", errors), key
        while stream.read(1 << 20):
            pass
        if any(stream.tail):  # tarfile takes a header that is cut off for the end
            raise EOFError("it ends too early")
        if stream.size - end > _PADDING:
            errors.report.add(source, "what follows the tar's end is not read")
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        raise UserError(f"not a readable tar: {error}", where=source, hint="is the file complete?") from None


def _row(members: dict[str, Any], where: str, errors: RowErrors) -> dict[str, Any]:
    row = dict(members)
    if "json" in members:
        try:
            row["json"] = parse_json(members["json"].decode())
        except (ValueError, RecursionError):
            errors.report.add(where, "not valid JSON", "the sample's .json; its other members are read")
            del row["json"]
    if isinstance(row.get("json"), dict):
        row = {**row["json"], **row}
    if "text" not in row and "txt" in row:
        row["text"] = row["txt"]
    return row
