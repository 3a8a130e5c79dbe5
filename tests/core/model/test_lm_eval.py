"""lm-eval runs on an export, offline, with a local JSONL task, and gives the log-likelihoods that we give.

lm-eval is no dependency: `pip install 'lm-eval[hf]'` beside llmtool runs this test.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("lm_eval")

from llmtool import Tokenizer  # noqa: E402
from llmtool.core.bpe.export import export_huggingface  # noqa: E402
from llmtool.core.checkpoint.directory import open_checkpoint  # noqa: E402
from llmtool.core.checkpoint.writer import write_checkpoint  # noqa: E402
from llmtool.core.model.config import parse_config  # noqa: E402
from llmtool.core.model.decoder import Decoder, expected_shapes  # noqa: E402
from llmtool.core.model.export import export_checkpoint  # noqa: E402
from llmtool.core.model.loading import load_decoder  # noqa: E402
from llmtool.core.run.manifest import Run  # noqa: E402
from tests.conftest import SCRIPTS  # noqa: E402
from tests.core.checkpoint.files import CONFIG  # noqa: E402

TASK = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
doc_to_text: "{{{{question}}}}"
"""
CHOICE = 'output_type: multiple_choice\ndoc_to_choice: "{{choices}}"\ndoc_to_target: "{{answer}}"\n'
GENERATE = (
    'output_type: generate_until\ndoc_to_target: "{{choices[0]}}"\nmetric_list: [{metric: exact_match}]\n'
    "generation_kwargs: {until: ['<|endoftext|>'], do_sample: false, max_gen_toks: 12}\n"
)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[Any]]]:
    """The checkpoint, and what lm-eval logged for each task on its export."""
    root = tmp_path_factory.mktemp("lm-eval")
    tokenizer = Tokenizer.train_from_documents(SCRIPTS * 2, 400, special=["<|endoftext|>"])
    export_huggingface(tokenizer, root / "tokenizer")
    config = {**CONFIG, "vocab_size": tokenizer.vocab_size, "max_position_embeddings": 256, "hidden_act": "silu"}
    config |= {"bos_token_id": 0, "eos_token_id": 0}
    generator = torch.Generator().manual_seed(5)
    shapes = expected_shapes(Decoder(parse_config(config)))
    weights = ((name, torch.randn(shape, generator=generator)) for name, shape in shapes.items())
    files = {file.name: file.read_bytes() for file in (root / "tokenizer").iterdir()}
    write_checkpoint(root / "model", weights, config, run=Run("test", {}), files=files)
    export_checkpoint(open_checkpoint(root / "model"), root / "export", run=Run("convert export", {}))
    rows = [{"question": text[:30], "choices": ["a", "dog!", text[31:45]], "answer": 2} for text in SCRIPTS[:4]]
    (root / "tasks").mkdir()
    data = root / "tasks" / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, rest in (("choice", CHOICE), ("generate", GENERATE)):
        (root / "tasks" / f"{name}.yaml").write_text(TASK.format(name=f"local_{name}", data=data) + rest)
    command = [
        sys.executable, "-m", "lm_eval", "--model", "hf",
        "--model_args", f"pretrained={root / 'export'},trust_remote_code=True,dtype=float32",
        "--tasks", "local_choice,local_generate", "--include_path", str(root / "tasks"), "--device", "cpu",
        "--batch_size", "3", "--output_path", str(root / "results"), "--log_samples",
    ]  # fmt: skip
    offline = {"HF_HOME": str(root / "hf"), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **offline})
    assert done.returncode == 0, done.stderr
    logged = {}
    for task in ("local_choice", "local_generate"):
        (file,) = (root / "results").rglob(f"samples_{task}_*.jsonl")
        logged[task] = [json.loads(line) for line in file.read_text().splitlines()]
    return root / "model", logged


def decoder(path: Path) -> Any:
    return load_decoder(path, Decoder)


def test_log_likelihoods(samples: tuple[Path, dict[str, list[Any]]]) -> None:
    path, logged = samples
    model, tokenizer = decoder(path), Tokenizer.load(path)
    assert len(logged["local_choice"]) == 4
    for row in logged["local_choice"]:
        for number, ((found, greedy),) in enumerate(row["resps"]):
            asked = row["arguments"][f"gen_args_{number}"]
            # lm-eval gives white space at the end of a context to the answer
            context, ids = tokenizer.encode(asked["arg_0"].rstrip()), tokenizer.encode(asked["arg_0"] + asked["arg_1"])
            with torch.inference_mode():
                chances = model(torch.tensor([ids]))[0].log_softmax(-1)[len(context) - 1 : -1]
            answer = torch.tensor(ids[len(context) :])
            assert len(answer)
            assert float(found) == pytest.approx(chances.gather(1, answer[:, None]).sum().item(), abs=1e-3)
            assert greedy == str(bool((chances.argmax(-1) == answer).all()))


def test_generation(samples: tuple[Path, dict[str, list[Any]]]) -> None:
    path, logged = samples
    model, tokenizer = decoder(path), Tokenizer.load(path)
    assert len(logged["local_generate"]) == 4
    for row in logged["local_generate"]:
        ids = tokenizer.encode(row["arguments"]["gen_args_0"]["arg_0"])
        new: list[int] = []
        with torch.inference_mode():
            while len(new) < 12 and 0 not in new:
                new.append(int(model(torch.tensor([ids + new]))[0, -1].argmax()))
        text = tokenizer.decode([token for token in new if token]).encode(errors="surrogateescape")
        assert row["resps"][0][0] == text.decode(errors="replace")
