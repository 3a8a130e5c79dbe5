"""An embedding server that speaks OpenAI's form (text-embeddings-inference, vLLM, llama.cpp and their like).

--embedder http://HOST:PORT/v1 or http://HOST:PORT/v1#MODEL; without a name the server's first model is taken. A key, if
the server wants one, is read from EMBEDDINGS_API_KEY. What a server refuses as too long is sent in halves, whose
vectors are averaged by length.
"""

import json
import os
import time
import urllib.error
import urllib.request
from typing import Any

import numpy as np
import numpy.typing as npt

from llmtool.core.run.errors import UserError
from llmtool.methods.nextlong.words import I64, U64

BATCH = 32
WAITS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds before each further try, where the server is busy, down for a moment, or out of reach."""

TIMEOUT = 120.0
TOO_LONG = (400, 413, 422)
SHORTEST = 64
"""Characters of a text that is not halved any more."""


class Refused(Exception):  # noqa: N818 - not shown: the texts are halved
    """The server will not take these texts."""


class Endpoint:
    """Texts to vectors over HTTP."""

    def __init__(self, name: str, prefix: str | None = None) -> None:
        self.url, _, model = name.partition("#")
        self.url = self.url.rstrip("/").removesuffix("/embeddings")
        self.prefix = prefix or ""
        self.model = model or self._first_model()

    def _first_model(self) -> str:
        try:
            return str(self._answer("models", None)["data"][0]["id"])
        except (Refused, KeyError, IndexError, TypeError):
            return "default"  # a server of one model need not list it

    def _answer(self, path: str, body: dict[str, Any] | None) -> Any:
        """The JSON of an answer; tries again where that may help."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get("EMBEDDINGS_API_KEY"):
            headers["Authorization"] = f"Bearer {key}"
        why = ""
        for wait in (*WAITS, None):
            request = urllib.request.Request(f"{self.url}/{path}", data, headers)
            try:
                with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
                    return json.loads(answer.read())
            except urllib.error.HTTPError as error:
                why = f"HTTP {error.code}: {error.read(200).decode('utf-8', 'replace').strip()}"
                if error.code in TOO_LONG or (error.code == 404 and body is None):
                    raise Refused(why) from None
                if error.code < 500 and error.code not in (408, 425, 429):
                    break
            except (OSError, ValueError) as error:  # no connection, cut off, no JSON
                why = str(getattr(error, "reason", error))
            if wait is not None:
                time.sleep(wait)
        raise UserError(f"the embedding server does not answer: {why}", where=self.url, hint="is it running?")

    def __call__(self, texts: list[bytes], _hashes: U64, _ends: I64) -> npt.NDArray[Any]:
        """See embedding.Embedder."""
        strings = [text.decode("utf-8", "replace") for text in texts]
        return np.concatenate([self.embed(strings[start : start + BATCH]) for start in range(0, len(strings), BATCH)])

    def embed(self, texts: list[str]) -> npt.NDArray[np.float64]:
        """Vectors of a few texts, however long they are."""
        try:
            return self._vectors(texts)
        except Refused as why:
            if len(texts) > 1:
                return np.concatenate([self.embed([text]) for text in texts])
            text = texts[0]
            if len(text) < SHORTEST:
                raise UserError(f"the embedding server refuses a text: {why}", where=self.url) from None
            place = text.rfind(" ", 1, len(text) // 2) + 1 or len(text) // 2
            halves = [text[:place], text[place:]]
            rows = np.concatenate([self.embed([half]) for half in halves])
            lengths = np.linalg.norm(rows, axis=1, keepdims=True)
            unit = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
            mean = (unit * np.array([[len(half)] for half in halves]) / len(text)).sum(0, keepdims=True)
            return np.asarray(mean, np.float64)

    def _vectors(self, texts: list[str]) -> npt.NDArray[np.float64]:
        body = {"model": self.model, "input": [self.prefix + text for text in texts], "encoding_format": "float"}
        answer = self._answer("embeddings", body)
        try:
            rows = sorted(answer["data"], key=lambda row: row["index"])
            found = np.array([row["embedding"] for row in rows], np.float64)
        except (KeyError, TypeError, ValueError):
            raise UserError("the answer is not in OpenAI's form (data, index, embedding)", where=self.url) from None
        if found.ndim != 2 or len(found) != len(texts) or not np.isfinite(found).all():
            raise UserError(f"{len(texts)} texts were sent, vectors of shape {found.shape} came back", where=self.url)
        return found
