"""What crashed once, hung, filled memory or was believed, a row each: tried every time beside the mutations.

A row changes one value of a JSON file (a path of keys, and what is put there; DROP takes it away), or bytes.
"""

import json
from dataclasses import dataclass
from typing import Any

DROP = object()
DIGITS = "9" * 5000
DEEP: dict[str, Any] = {}
for _ in range(600):
    DEEP = {"a": DEEP}
NESTED = b'{"id": "3", "text": ' + b"[" * 900 + b'"x"' + b"]" * 900 + b', "other": '
BRACKETS = b"<\x01{'descr': '<%b8'" + b"(" * 198
"""The header of a .npy file, as long as it says, whose brackets are too much memory for Python's parser."""
LONG_PIECE = b"\x0a\xc4\x84\x3d\x0a\xc0\x84\x3d" + b"ab" * 500_000
"""Of SentencePiece: field 1, a message of field 1, a million bytes of text."""


@dataclass(frozen=True)
class Row:
    """reader: of readers.py. at: keys to the value, in JSON; else `old` bytes become `new` ones. DIGITS is a number."""

    reader: str
    at: tuple[str | int, ...] = ()
    value: Any = DROP
    old: bytes = b""
    new: bytes = b""

    def apply(self, seed: bytes) -> bytes:
        """The file with this change."""
        if not self.at:
            assert self.old in seed
            return seed.replace(self.old, self.new, 1)
        start, end = (8, 8 + int.from_bytes(seed[:8], "little")) if "safetensors" in self.reader else (0, len(seed))
        framed = start == 8 and self.reader != "safetensors index"
        facts = json.loads(seed[start:end] if framed else seed)
        place = facts
        for key in self.at[:-1]:
            place = place[key]
        if self.value is DROP:
            del place[self.at[-1]]
        else:
            place[self.at[-1]] = self.value
        text = json.dumps(facts).replace(f'"{DIGITS}"', DIGITS).encode()
        return len(text).to_bytes(8, "little") + text + seed[end:] if framed else text


ROWS = (
    # sidecars that were believed: tokens given twice, dropped, read as another type
    Row("tokens' sidecar, decoded", ("dtype",), "float32"),
    Row("tokens' sidecar, decoded", ("dtype",), "S0"),
    Row("tokens' sidecar, decoded", ("tokens",), -1),
    Row("tokens' sidecar, decoded", ("tokens",), "x"),
    Row("tokens' sidecar, decoded", ("tokens",), float("nan")),
    Row("tokens' sidecar, mapped", ("tokens",), 1e999),
    Row("tokens' sidecar, decoded", ("offsets",), "../ids.bin.offsets.npy"),
    Row("offsets, decoded", old=b"(2,)", new=b"True"),
    Row("offsets, mapped", old=b"{'descr'", new=b"{(((((((("),
    # fits and laws whose lengths and types nobody had asked about
    Row("fit", ("fit", "schedule", "eta"), [1.0]),
    Row("fit", ("fit", "theta"), "x"),
    Row("fit", ("fit", "spread"), 5),
    Row("fit", ("fit", "theta", 0), 1e300),
    Row("fit", ("fit", "theta", 0), float("nan")),
    Row("fit", ("fit", "until"), 0),
    Row("fit, elsewhere", ("fit", "reference"), "1"),
    Row("fit over positions", ("fit", "form"), "log N"),
    Row("fit over positions", ("fit", "coefficients"), [[1]]),
    Row("law over sizes", ("fit", "draws"), [1, 2, 3]),
    Row("law over sizes", ("fit", "theta", 0), 1e999),
    Row("law over sizes", ("fit", "sd"), float("nan")),
    # states, manifests, journals
    Row("state.json", ("step",), DIGITS),
    Row("state.json", ("terms",)),
    Row("metrics.jsonl", old=b'{"', new=b"\0" * 100),
    Row("train.json", ("config",), 5),
    Row("run.json of a file", ("config",), None),
    Row("run.json of a file", ("outputs",), 5),
    Row("journal", ("files",), [["x"]]),
    Row("journal", ("files",), [[".text.txt.abcdefgh.partial", "../tok.json"]]),
    Row("marker of a unit", ("files",), 5),
    Row("totals of a stage", ("units",), "1"),
    Row("done.json of nextlong", ("work",)),
    Row("samples", old=b'"chunk_id": ', new=b'"chunk_id": 9'),
    # numbers beyond Python's digits, infinities, other types
    Row("config.json", ("num_hidden_layers",), 10**9),
    Row("config.json", ("rope_scaling",), {"rope_type": {}}),
    Row("config.json, copied", ("hidden_size",), 1 << 39),
    Row("config.json, copied", ("rms_norm_eps",), float("nan")),
    Row("config.json, copied", ("num_hidden_layers",), True),
    Row("generation_config.json", ("eos_token_id",), {"a": 1}),
    Row("trainer_state.json", ("max_steps",), 1e999),
    Row("trainer_state.json", ("log_history", 0, "step"), DIGITS),
    Row("log as printed", old=b"step 100/4200", new=b"step 1/" + b"1" * 5000),
    Row("log in CSV", old=b"step,loss", new=b"step,loss," + b"x" * 140_000),
    Row("log in CSV", old=b"\n", new=b"\r"),
    Row("options in TOML", old=b"vocab-size = 300", new=b"vocab-size = 1979-05-27"),
    Row("options in TOML", old=b"vocab-size = 300", new=b"vocab-size = inf"),
    Row("options in TOML", old=b"vocab-size = 300", new=b"vocab-size = " + b"9" * 5000),
    Row("options in TOML", old=b"vocab-size = 300", new=b"vocab-size = " + b"[" * 50_000),
    # merges of a long piece cost the square of its length
    Row("tokenizer.model", old=b"\x0a\x0e\x0a\x05<unk>", new=LONG_PIECE + b"\x0a\x0e\x0a\x05<unk>"),
    Row("tekken.json", ("vocab", 0, "token_bytes"), "AA\ud800"),
    # encoders and baselines of others
    Row("modules of an encoder", (0, "path"), "x" * 100_000),
    Row("modules of an encoder", (0, "path"), "../../etc"),
    Row("prompts of an encoder", ("prompts",), 5),
    Row("prompts of an encoder", ("default_prompt_name",), {}),
    Row("baseline of a measurement", ("rows", 0, "dtype")),
    Row("baseline of a measurement", ("machine",), []),
    # found by 70,000 cases in rounds
    Row("run.json of a file", ("outputs", 0, "path"), "x" * 100_000),
    Row("run.json of a file", ("outputs", 0, "path"), "a\0b"),
    Row("run.json of a file", ("settings",), DEEP),
    Row("run.json of a file", ("options",), DEEP),
    Row("offsets, decoded", old=b"v\x00{'descr': '<u8'", new=BRACKETS % b"u"),
    Row("map of ids", old=b"v\x00{'descr': '<i8'", new=BRACKETS % b"i"),
    Row("array of a stage", old=b"v\x00{'descr': '<u8'", new=BRACKETS % b"u"),
    Row("JSONL", old=b'{"id": "3", "text": ', new=NESTED),
    Row("JSON", old=b'{"id": "3", "text": ', new=NESTED),
    Row("config.json, copied", ("model_type",), "x\ud800"),
    Row("metrics.jsonl", old=b'"loss": ', new=b'"loss": "1979-05-27", "was": '),
    Row("metrics.jsonl", old=b'"loss": ', new=b'"loss": null, "was": '),
    Row("samples", old=b'"chunk_id": 66', new=b'"chunk_id": "66"'),
    Row("table of batches", old=b"loss,batch", new=b'"' + b"y" * 140_000 + b'",batch'),
)  # fmt: skip
"""Each is refused in a line, or right."""
