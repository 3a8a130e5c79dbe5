import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtool.core.corpus.document import RowErrors, Skipped
from llmtool.core.corpus.jsonl import read_jsonl
from llmtool.core.run.errors import UserError


def read(data: bytes, *, field: str = "text", strict: bool = False) -> tuple[list[tuple[bytes, int]], Skipped]:
    skipped = Skipped()
    documents = read_jsonl([data], "f", field=field, errors=RowErrors(skipped, strict))
    return [(document.text, document.row) for document in documents], skipped


@given(st.lists(st.text()), st.booleans())
def test_any_text_survives(texts: list[str], ascii_only: bool) -> None:
    data = "".join(json.dumps({"text": text}, ensure_ascii=ascii_only) + "\n" for text in texts).encode()
    assert read(data)[0] == [(text.encode(), row) for row, text in enumerate(texts, start=1)]


def test_rows_are_line_numbers() -> None:
    data = b'\xef\xbb\xbf{"text": "a"}\r\n\n  \t\n{"id": 1, "text": ""}\n{"text": "last"}'
    documents, skipped = read(data)
    assert documents == [(b"a", 1), (b"", 4), (b"last", 5)]
    assert skipped.count == 0


def test_lone_surrogates_have_bytes() -> None:
    data = rb'{"text": "a\udc80\ud83d b \ud83d\ude00 \udcff"}'
    assert read(data)[0] == [(b"a\x80\xed\xa0\xbd b \xf0\x9f\x98\x80 \xff", 1)]


BAD = [
    (b'{"text": "a"', "not valid JSON", "Expecting ',' delimiter at column 13"),
    (b'{"text": "a"} x', "not valid JSON", "Extra data at column 15"),
    (b'{"text": "\xff"}', "not valid UTF-8", "byte 11 of the line"),
    (b'{"text": "\xed\xa0\x80"}', "not valid UTF-8", "byte 11 of the line"),
    (b'["text"]', "not a JSON object", ""),
    (b"null", "not a JSON object", ""),
    (b'"text"', "not a JSON object", ""),
    (b'{"Text": "a", "id": 3}', "no field 'text'", "the row's fields: 'Text', 'id'"),
    (b"{}", "no field 'text'", "the row's fields: none"),
    (b'{"text": null}', "field 'text' is not a string", "NoneType"),
    (b'{"text": ["a"]}', "field 'text' is not a string", "list"),
    (b'{"text": "a", "n": ' + b"9" * 5000 + b"}", "not valid JSON", "Exceeds the limit"),
    (b'{"text": ' + b"[" * 100_000, "not valid JSON", "maximum recursion depth exceeded"),
    ('{"text": "a"}'.encode("utf-16"), "not valid UTF-8", "byte 1 of the line"),
]


@pytest.mark.parametrize(("line", "reason", "detail"), BAD, ids=range(len(BAD)))
def test_a_bad_row_is_counted_and_the_rest_read(line: bytes, reason: str, detail: str) -> None:
    documents, skipped = read(b'{"text": "before"}\n' + line + b'\n{"text": "after"}')
    assert documents == [(b"before", 1), (b"after", 3)]
    assert skipped.reasons == {reason: 1}
    where, what = skipped.first[0]
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
