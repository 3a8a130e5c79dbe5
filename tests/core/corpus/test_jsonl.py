import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtool.core.corpus.broken import BrokenText
from llmtool.core.corpus.document import ReadReport, RowErrors
from llmtool.core.corpus.jsonl import read_jsonl, read_objects
from llmtool.core.corpus.records import Selector
from llmtool.core.run.errors import UserError


def read(
    data: bytes, *, field: str = "text", strict: bool = False, replace: bool = False
) -> tuple[list[tuple[bytes, int]], ReadReport]:
    report = ReadReport()
    errors = RowErrors(report, strict)
    select = Selector([field], None, (), errors, BrokenText(report, errors, replace=replace))
    found = [
        select.document(record, "f", row, damaged=damaged) for row, record, damaged in read_jsonl([data], "f", errors)
    ]
    return [(document.text, document.row) for document in found if document], report


@given(st.lists(st.text()), st.booleans())
def test_any_text_survives(texts: list[str], ascii_only: bool) -> None:
    data = "".join(json.dumps({"text": text}, ensure_ascii=ascii_only) + "\n" for text in texts).encode()
    assert read(data)[0] == [(text.encode(), row) for row, text in enumerate(texts, start=1)]


def test_rows_are_line_numbers() -> None:
    data = b'\xef\xbb\xbf{"text": "a"}\r\n\n  \t\n{"id": 1, "text": ""}\n{"text": "last"}'
    documents, report = read(data)
    assert documents == [(b"a", 1), (b"", 4), (b"last", 5)]
    assert report.count == 0


def test_lone_surrogates_have_bytes() -> None:
    data = rb'{"text": "a\udc80\ud83d b \ud83d\ude00 \udcff"}'
    documents, report = read(data)
    assert documents == [(b"a\x80\xed\xa0\xbd b \xf0\x9f\x98\x80 \xff", 1)]
    assert (report.count, report.broken) == (0, {"lone surrogates": 1})
    assert read(data, replace=True)[0] == [("a\ufffd\ufffd b \U0001f600 \ufffd".encode(), 1)]


def test_a_row_that_is_no_utf8_keeps_its_bytes() -> None:
    data = b'{"text": "caf\xe9 \xff\xfe", "id": "a"}\n{"text": "good", "note": "caf\xe9"}\n'
    documents, report = read(data)
    assert documents == [(b"caf\xe9 \xff\xfe", 1), (b"good", 2)]
    assert (report.count, report.broken) == (0, {"not UTF-8": 1})  # what is not taken is nobody's trouble
    assert read(data, replace=True)[0][0] == ("caf\ufffd \ufffd\ufffd".encode(), 1)
    with pytest.raises(UserError, match=r"^f:1: not UTF-8: .* \(mend the text"):
        read(data, strict=True)


def test_nul_is_a_character() -> None:
    documents, report = read(rb'{"text": "a\u0000b"}', replace=True, strict=True)
    assert documents == [(b"a\0b", 1)]
    assert report.broken == {"NUL": 1}


BAD = [
    (b'{"text": "a"', "not valid JSON", "Expecting ',' delimiter at column 13"),
    (b'{"text": "a"} x', "not valid JSON", "Extra data at column 15"),
    (b'{"text": "\xff" "}', "not valid UTF-8", "byte 11 of the line"),
    (b'["text"]', "not a JSON object", ""),
    (b"null", "not a JSON object", ""),
    (b'"text"', "not a JSON object", ""),
    (b'{"Text": "a", "id": 3}', "no field 'text'", "the row's fields: 'Text', 'id'"),
    (b"{}", "no field 'text'", "the row's fields: none"),
    (b'{"text": null}', "field 'text' is not a string", "null"),
    (b'{"text": ["a", 1]}', "field 'text' is not a string", "a list of more than strings"),
    (b'{"text": {"a": "b"}}', "field 'text' is not a string", "dict"),
    (b'{"text": ' + b"[" * 100_000, "JSON nested too deeply", ""),
    (b'{"text": "a", "n": ' + b"7" * 5000 + b"}", "JSON with a number of more than 4,300 digits", ""),
    ('{"text": "a"}'.encode("utf-16"), "not valid UTF-8", "byte 1 of the line"),
]


@pytest.mark.parametrize(("line", "reason", "detail"), BAD, ids=range(len(BAD)))
def test_a_bad_row_is_counted_and_the_rest_read(line: bytes, reason: str, detail: str) -> None:
    documents, report = read(b'{"text": "before"}\n' + line + b'\n{"text": "after"}')
    assert documents == [(b"before", 1), (b"after", 3)]
    assert report.reasons == {reason: 1}
    where, what = report.first[0]
    assert where == "f:2"
    assert what.startswith(f"{reason}: {detail}" if detail else reason)


@pytest.mark.parametrize(("line", "reason", "detail"), BAD, ids=range(len(BAD)))
def test_strict_names_the_row(line: bytes, reason: str, detail: str) -> None:
    with pytest.raises(UserError) as caught:
        read(b'{"text": "before"}\n' + line, strict=True)
    assert str(caught.value).startswith(f"f:2: {reason}")
    assert str(caught.value).endswith(")")


def test_the_hint_knows_the_nearest_field() -> None:
    with pytest.raises(UserError, match=r"did you mean 'texts'\?.* --field"):
        read(b'{"texts": "a"}', strict=True)
    assert read(b'{"body": "b", "text": 1}', field="body")[0] == [(b"b", 1)]


def items(data: bytes, size: int) -> tuple[list[object], ReadReport]:
    report = ReadReport()
    blocks = [data[start : start + size] for start in range(0, len(data), size)]
    return [value for _, value, _ in read_objects(blocks, "f", RowErrors(report, strict=False))], report


@given(st.lists(st.dictionaries(st.text(max_size=3), st.text() | st.floats(allow_nan=False) | st.lists(st.integers()))),
       st.integers(1, 60), st.booleans())  # fmt: skip
def test_an_array_however_its_blocks_are_cut(rows: list[object], size: int, pretty: bool) -> None:
    data = b"\xef\xbb\xbf \n" + json.dumps(rows, indent=2 if pretty else None, ensure_ascii=pretty).encode() + b"\n"
    assert items(data, size)[0] == rows


@given(st.lists(st.dictionaries(st.text(max_size=3), st.text()), min_size=1), st.integers(1, 60), st.booleans())
def test_objects_one_after_another_with_and_without_a_last_newline(
    rows: list[object], size: int, newline: bool
) -> None:
    data = "\n".join(json.dumps(row, indent=2) for row in rows).encode() + b"\n" * newline
    found, report = items(data, size)
    assert (found, report.count) == (rows, 0)


def test_a_fault_in_an_array_ends_it_and_is_said() -> None:
    for data, found, what in (
        (b'[{"a": 1}, {"b": 2}', 2, "the array does not end"),
        (b'[{"a": 1}, {"b": }, {"c": 3}]', 1, "Expecting value"),
        (b'[{"a": 1} {"b": 2}]', 1, "the array does not end"),
        (b'[{"a": 1},]', 1, "Expecting value"),
        (b'"a"', 0, "neither an array nor an object"),
        (b'{"a": 1} x', 1, "Expecting value"),
        (b'{"a": 1}\n{"b": ' + b"7" * 5000 + b"}", 1, "a number of more than 4,300 digits; the rest is not read"),
        (b'[{"b": ' + b"[" * 5000, 0, "JSON nested too deeply; the rest is not read"),
        (b"[", 0, "Expecting value"),
    ):
        rows, report = items(data, 3)
        assert len(rows) == found
        assert what in report.first[0][1]
    assert items(b"[]", 1) == ([], ReadReport())
    assert items(b'{"a": 1}\n\n {\n}{"b": 2}\n', 3)[0] == [{"a": 1}, {}, {"b": 2}]
