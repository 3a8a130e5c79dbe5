"""Exports load and generate in a process where llmtool cannot be imported, bit for bit as the source does."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from llmtool import Tokenizer, catalog, model
from llmtool.commands.convert.export import export_model
from llmtool.core.checkpoint.directory import open_checkpoint
from llmtool.core.model.export import MODULES, code_files, refuse_foreign, rewrite
from llmtool.core.run.console import Console
from tests.conftest import SCRIPTS
from tests.core.model.families import save, spell_as_4x

QUIET = Console(verbosity=-1)
BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "llmtool":
            raise ModuleNotFoundError(f"No module named {name!r}")
sys.meta_path.insert(0, Block())
try:
    import llmtool
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("llmtool can be imported")
import torch, transformers
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer
"""
COMPARE = """
ids = torch.randint(2, 96, (2, 12), generator=torch.Generator().manual_seed(3))
mask = torch.ones_like(ids)
mask[0, :4] = 0
for source, export in zip(sys.argv[1::2], sys.argv[2::2]):
    # In float64 the oracle's own Gemma-2 gives NaN for padded rows: its mask is the least float64, its softmax float32.
    for dtype in (torch.float32 if "gemma2" in source else torch.float64, torch.bfloat16):
        a = AutoModelForCausalLM.from_pretrained(source, dtype=dtype)
        b = AutoModelForCausalLM.from_pretrained(export, dtype=dtype, trust_remote_code=True)
        assert type(b).__name__ == "LlmtoolForCausalLM"
        with torch.no_grad():
            assert a(ids).logits.equal(b(ids).logits), (source, dtype)
            assert a(ids, attention_mask=mask).logits[0, 4:].equal(b(ids, attention_mask=mask).logits[0, 4:])
            assert a(ids, labels=ids).loss.equal(b(ids, labels=ids).loss)
        settings = {"max_new_tokens": 12, "do_sample": False}
        for more in ({}, {"attention_mask": mask}, {"num_beams": 2}, {"use_cache": False}):
            assert a.generate(ids, **settings, **more).equal(b.generate(ids, **settings, **more)), (source, more)
    base = AutoModel.from_pretrained(export, trust_remote_code=True)
    assert base(ids).last_hidden_state.shape == (2, 12, b.config.hidden_size)
    b.save_pretrained(export + "-again")
    again = AutoModelForCausalLM.from_pretrained(export + "-again", dtype=dtype, trust_remote_code=True)
    assert again(ids).logits.equal(b(ids).logits)
"""


def run_without_llmtool(code: str, cache: Path, *arguments: object) -> None:
    environment = {**os.environ, "HF_MODULES_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", BLOCK + code, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_stock_transformers_computes_the_same(tmp_path: Path) -> None:
    pairs: list[Path] = []
    old = ("llama3.2", "mistral", "qwen2", "qwen3")
    for family in (*old, "smollm3", "granite", "olmo3", "phi3-long", "gemma2", "gemma3", "glm4", "ministral3"):
        source, output = save(tmp_path / family, family, 0.3), tmp_path / f"{family}-export"
        if family in old:
            spell_as_4x(source)  # which 4.57 and 5.x both read
        export_model(source, output, console=QUIET)
        pairs += [source, output]
    run_without_llmtool(COMPARE, tmp_path / "modules", *pairs)


def test_the_tokenizer_the_card_and_the_origin_go_along(tmp_path: Path) -> None:
    source, output = save(tmp_path / "model", "llama3", 0.3, vocab_size=400), tmp_path / "export"
    tokenizer = Tokenizer.train_from_documents(SCRIPTS * 2, 400, special=["<|endoftext|>"])
    from llmtool.core.bpe.export import export_huggingface

    export_huggingface(tokenizer, tmp_path / "tok")
    for file in (tmp_path / "tok").iterdir():
        (source / file.name).write_bytes(file.read_bytes())
    export_model(source, output, dtype="bf16", console=QUIET)
    wanted = tokenizer.encode(SCRIPTS[0])
    code = f"""
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1], trust_remote_code=True)
assert tokenizer({SCRIPTS[0]!r})["input_ids"] == {wanted!r}
assert AutoModelForCausalLM.from_pretrained(sys.argv[1], trust_remote_code=True).dtype == torch.bfloat16
"""
    run_without_llmtool(code, tmp_path / "modules", output)
    facts = json.loads((output / "config.json").read_text())
    assert facts["auto_map"].keys() == {"AutoConfig", "AutoModel", "AutoModelForCausalLM"}
    card = (output / "README.md").read_text()
    for words in ("`convert export`", "`model`", "trust_remote_code=True", "What does not", "vLLM", "untested"):
        assert words in card
    manifest = json.loads((output / "run.json").read_text())
    assert manifest["command"] == "convert export"
    assert any("sha256" in str(shard) for shard in manifest["outputs"])


PART = '''
"""A feed-forward part that doubles what it adds."""

from dataclasses import replace

import torch

from llmtool.core.model.carry import Carry
from llmtool.core.model.ffn import SwiGLU


class Twice(SwiGLU):
    def forward(self, x: torch.Tensor, h: torch.Tensor, carry: Carry) -> torch.Tensor:
        return super().forward(x, h, carry) * self.times


class Doubling:
    def __call__(self, parts, settings):
        def make(config, layer):
            ffn = Twice(config, layer)
            ffn.times = settings["times"]
            return ffn
        return replace(parts, make_ffn=make)
'''


def test_a_methods_part_is_exported_by_the_same_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "doubling.py").write_text(PART)
    monkeypatch.syspath_prepend(tmp_path)
    names = ("doubling", "none", "nobody", "doubling:Doubling")
    row = catalog.Method("Doubling", catalog.ARCHITECTURE, *names, "for this test")
    monkeypatch.setattr(catalog, "METHODS", (*catalog.METHODS, row))
    plain, changed, output = save(tmp_path / "plain", "llama3", 0.3), tmp_path / "changed", tmp_path / "export"
    export_model(plain, changed, console=QUIET)
    facts = json.loads((changed / "config.json").read_text())
    facts["llmtool"]["methods"] = [{"name": "doubling", "version": 1, "times": 3.0}]
    (changed / "config.json").write_text(json.dumps(facts))
    export_model(changed, output, console=QUIET)
    assert (output / "doubling_part.py").is_file()
    ids = [[5, 6, 7, 8]]
    torch.save(model.load_model(changed)(ids), tmp_path / "wanted.pt")
    assert not model.load_model(changed)(ids).equal(model.load_model(plain)(ids))
    code = f"""
found = AutoModelForCausalLM.from_pretrained(sys.argv[1], trust_remote_code=True, dtype="auto")(torch.tensor({ids}))
assert found.logits.equal(torch.load(sys.argv[2]))
"""
    run_without_llmtool(code, tmp_path / "modules", output, tmp_path / "wanted.pt")


def test_what_the_export_does_not_do_is_refused_by_name(tmp_path: Path) -> None:
    output = tmp_path / "export"
    export_model(save(tmp_path / "model", "llama3"), output, console=QUIET)
    code = """
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], trust_remote_code=True)
ids = torch.ones(1, 4, dtype=torch.long)
cache = transformers.StaticCache(model.config, 8)
for wrong in ({"attention_mask": torch.ones(1, 1, 4, 4)}, {"past_key_values": cache}):
    try:
        model(ids, **wrong)
    except ValueError as error:
        assert "supported" in str(error), error
    else:
        raise SystemExit(f"{wrong.keys()} was taken")
"""
    run_without_llmtool(code, tmp_path / "modules", output)


def test_exported_code_imports_torch_and_its_siblings_only() -> None:
    for name, text in code_files({}).items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and node.level:
                assert node.level == 1
                assert f"{node.module}.py" in {f"{module}.py" for module in MODULES}
            elif isinstance(node, ast.ImportFrom | ast.Import):
                modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
                roots = {module.partition(".")[0] for module in modules}
                allowed = {"torch", *sys.stdlib_module_names} | (
                    {"transformers"} if name.endswith("_llmtool.py") else set()
                )
                assert roots <= allowed, name
    with pytest.raises(AssertionError, match="cannot be exported"):
        refuse_foreign("part.py", rewrite("from llmtool.core.run.errors import UserError\n"))


def test_the_contract_of_vllms_transformers_backend() -> None:
    """Statically: what its documentation asks of a custom model. It is not run here."""
    pytest.importorskip("transformers")
    from llmtool.core.model import modeling_llmtool as code
    from llmtool.core.model.configuration_llmtool import LlmtoolConfig

    assert code.LlmtoolModel._supports_attention_backend
    assert LlmtoolConfig.base_model_tp_plan
    assert LlmtoolConfig.base_model_pp_plan.keys() == {"embed_tokens", "layers", "norm"}
    source = Path(code.__file__).read_text()
    assert "ALL_ATTENTION_FUNCTIONS[name]" in source
    assert "**options" in source


def test_an_attention_function_is_found_by_its_name(tmp_path: Path) -> None:
    """As a serving engine registers one: it gets the layer, the heads as they are, and its own arguments."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    from llmtool.core.model.configuration_llmtool import LlmtoolConfig
    from llmtool.core.model.modeling_llmtool import LlmtoolModel

    output = tmp_path / "export"
    export_model(save(tmp_path / "model", "mistral"), output, console=QUIET)
    network = LlmtoolModel(LlmtoolConfig(**json.loads((output / "config.json").read_text())))
    seen = []

    def engine(module, q, k, v, mask, *, scaling, sliding_window, instances):  # type: ignore[no-untyped-def]
        seen.append((module.layer_idx, module.is_causal, q.shape[1], k.shape[1], scaling, sliding_window))
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v, mask, scale=scaling, enable_gqa=True)
        return instances(out.transpose(1, 2)), None

    ids = torch.randint(2, 96, (2, 9))
    plain = network(ids).last_hidden_state
    ALL_ATTENTION_FUNCTIONS["test_engine"] = engine
    network.config._attn_implementation = "test_engine"
    found = network(None, inputs_embeds=network.embed_tokens(ids), instances=lambda out: out, return_dict=False)[0]
    assert seen == [(layer, True, 6, 2, 10**-0.5, 5) for layer in range(3)]
    assert (found - plain).abs().max() < 1e-5


def test_an_unknown_method_is_one_line(tmp_path: Path) -> None:
    output = tmp_path / "export"
    export_model(save(tmp_path / "model", "llama3"), output, console=QUIET)
    facts = json.loads((output / "config.json").read_text())
    facts["llmtool"]["methods"] = [{"name": "unheard"}]
    (output / "config.json").write_text(json.dumps(facts))
    with pytest.raises(Exception, match="architecture 'unheard' is not known"):
        model.load_model(output)
    assert "unheard" in str(open_checkpoint(output).config)
