"""The rope part against the literal definition; identity; grouped queries; what each mutation would break."""

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from llmtool import model
from llmtool.commands.convert.dsmoe import convert_dsmoe
from llmtool.commands.convert.export import export_model
from llmtool.commands.convert.rope import convert_rope
from llmtool.commands.convert.uniattn import convert_uniattn
from llmtool.core.checkpoint.directory import CheckpointReader, open_checkpoint
from llmtool.core.model.config import ConfigError, parse_config
from llmtool.core.model.decoder import Decoder
from llmtool.core.model.generate import generate
from llmtool.core.model.loading import read_architecture
from llmtool.core.model.rope import rotate
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from llmtool.methods.harpe import reference
from llmtool.methods.harpe.objective import Ramp
from llmtool.methods.harpe.part import HarpeRope
from tests.commands.convert.test_export import run_without_llmtool
from tests.core.model.families import draw_ids, save

QUIET = Console(verbosity=-1)
BASES = [300.0, 90_000.0]


def converted(
    source: Path, output: Path, values: list[float] | list[list[float]] | str = "", **settings: object
) -> Path:
    choice = str(values)
    if isinstance(values, list):
        (file := output.with_suffix(".json")).write_text(str(values))
        choice = str(file)
    convert_rope(source, output, target=256, bases=choice or None, console=QUIET, **settings)  # type: ignore[arg-type]
    return output


def test_tables_turn_each_head_by_its_base() -> None:
    config = read_architecture(open_checkpoint_of("llama3"))
    rope = HarpeRope(config, tuple(BASES))
    random = torch.Generator().manual_seed(1)
    positions = torch.tensor([[0, 1, 7, 63], [2, 3, 200, 5]])
    heads, size = config.num_attention_heads, config.head_dim
    for count in (heads, config.num_key_value_heads):
        x = torch.randn(2, count, 4, size, generator=random, dtype=torch.float64)
        turned = rotate(x, rope(positions, torch.float64))
        for row, head, place in itertools.product(range(2), range(count), range(4)):
            base = BASES[head // (count // 2)]
            wanted = reference.turn(x[row, head, place].tolist(), int(positions[row, place]), base)
            assert turned[row, head, place].tolist() == pytest.approx(wanted, abs=2e-4)


def open_checkpoint_of(family: str) -> CheckpointReader:
    import tempfile

    folder = Path(tempfile.mkdtemp())
    return open_checkpoint(save(folder / family, family))


@pytest.mark.parametrize("family", ["llama2", "llama3", "qwen3", "mistral", "olmo2", "smollm3"])
def test_old_bases_change_nothing(tmp_path: Path, family: str) -> None:
    source = save(tmp_path / "m", family, 0.5)
    config = read_architecture(open_checkpoint(source))
    same = converted(source, tmp_path / "h", [config.rope.theta] * config.num_key_value_heads)
    ids = draw_ids(2, 40)
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        assert model.load_model(same, dtype)(ids).equal(model.load_model(source, dtype)(ids)), dtype


def test_each_base_and_the_order_of_heads_matter(tmp_path: Path) -> None:
    """Mutations: other bases, heads swapped, one base for all, bases counted by query head."""
    source = save(tmp_path / "m", "llama3", 0.5)
    ids = draw_ids(2, 40)
    wanted = model.load_model(converted(source, tmp_path / "a", BASES))(ids)
    for number, values in enumerate(([BASES[1], BASES[0]], [BASES[0]] * 2, [BASES[0], BASES[1] * 1.05])):
        other = model.load_model(converted(source, tmp_path / f"o{number}", values))(ids)
        assert (other - wanted).abs().max() > 1e-4
    with pytest.raises(ConfigError, match="wanted 2, one for each key-value head"):
        config = read_architecture(open_checkpoint(source))
        Decoder(replace(config, methods=({"name": "harpe", "version": 1, "bases": [1e4] * 6},)))


def test_attention_equals_its_definition_head_by_head(tmp_path: Path) -> None:
    """A group's queries turn by the base of their key."""
    source = save(tmp_path / "m", "llama3", 0.5)
    found = model.load_model(converted(source, tmp_path / "h", BASES), "fp64")
    attention: Any = found.decoder.model.layers[0].self_attn
    x = torch.randn(1, 9, 48, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    from llmtool.core.model.decoder import prepare

    carry = prepare(found.config, found.decoder.ropes, torch.arange(9), 9, x.dtype, plain=True)
    q, k, v = (p(x).view(9, -1, 8).transpose(0, 1) for p in (attention.q_proj, attention.k_proj, attention.v_proj))
    out = torch.empty(9, 6, 8, dtype=torch.float64)
    for head in range(6):
        base = BASES[head // 3]
        turned_q = torch.tensor([reference.turn(q[head, m].tolist(), m, base) for m in range(9)], dtype=x.dtype)
        turned_k = torch.tensor([reference.turn(k[head // 3, m].tolist(), m, base) for m in range(9)], dtype=x.dtype)
        scores = turned_q @ turned_k.T / 8**0.5
        scores.masked_fill_(torch.ones(9, 9).triu(1).bool(), -torch.inf)
        out[:, head] = scores.softmax(-1) @ v[head // 3]
    wanted = attention.o_proj(out.flatten(1)[None])
    # angles are float32: at place 8 they err by 5e-7, times scores of up to some hundred
    assert (attention(x, carry) - wanted).abs().max() < 5e-5


def test_cache_padding_and_generation(tmp_path: Path) -> None:
    found = model.load_model(converted(save(tmp_path / "m", "llama3", 0.5), tmp_path / "h", BASES), "fp64")
    ids = draw_ids(2, 20)
    steps = list(generate(found.decoder, ids.tolist(), max_new_tokens=8))
    grown = ids
    for step in steps:
        assert found(grown)[:, -1].argmax(-1).tolist() == step
        grown = torch.cat((grown, torch.tensor(step)[:, None]), 1)
    short = ids[:1, 5:].tolist()[0]
    padded = list(generate(found.decoder, [ids[0].tolist(), short], max_new_tokens=6))
    alone = list(generate(found.decoder, [short], max_new_tokens=6))
    assert [step[1] for step in padded] == [step[0] for step in alone]


def test_export_without_llmtool(tmp_path: Path) -> None:
    source = converted(save(tmp_path / "m", "llama3", 0.3), tmp_path / "h", BASES)
    export_model(source, tmp_path / "e", console=QUIET)
    ids = draw_ids(2, 12)
    torch.save(model.load_model(tmp_path / "e")(ids), tmp_path / "e.logits")
    run_without_llmtool(
        """
import json
ids = torch.tensor(json.loads(sys.argv[1]))
model = AutoModelForCausalLM.from_pretrained(sys.argv[2], dtype="auto", trust_remote_code=True)
with torch.no_grad():
    assert model(ids).logits.equal(torch.load(sys.argv[2] + ".logits"))
more = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None}
assert model.generate(ids, **more).equal(model.generate(ids, **more, use_cache=False))
""",
        tmp_path / "modules", ids.tolist(), tmp_path / "e",
    )  # fmt: skip
    assert "cannot serve it" in (tmp_path / "e" / "README.md").read_text()


def test_it_composes_with_the_other_parts(tmp_path: Path) -> None:
    """Before or behind them: UniAttn's leaders turn by their heads' bases, DSMoE's exact start changes nothing."""
    source = save(tmp_path / "m", "llama3", 0.5, num_hidden_layers=4)
    ids = draw_ids(2, 30)
    harpe = model.load_model(converted(source, tmp_path / "h", BASES), "fp64")
    convert_dsmoe(tmp_path / "h", tmp_path / "hd", experts=4, console=QUIET)
    convert_dsmoe(source, tmp_path / "d", experts=4, console=QUIET)
    converted(tmp_path / "d", tmp_path / "dh", BASES)
    for name in ("hd", "dh"):
        assert (model.load_model(tmp_path / name, "fp64")(ids) - harpe(ids)).abs().max() < 1e-9
    convert_uniattn(source, tmp_path / "u", groups="2:0:4", init="zero", console=QUIET)
    converted(tmp_path / "u", tmp_path / "uh", BASES)
    convert_uniattn(tmp_path / "h", tmp_path / "hu", groups="2:0:4", init="zero", console=QUIET)
    wanted = model.load_model(tmp_path / "u", "fp64")
    plain = wanted(ids)
    wanted.decoder.ropes = dict.fromkeys(wanted.decoder.ropes, HarpeRope(wanted.config, tuple(BASES)))
    for name in ("uh", "hu"):
        found = model.load_model(tmp_path / name, "fp64")
        assert found(ids).equal(wanted(ids))
        assert (found(ids) - plain).abs().max() > 1e-4
        export_model(tmp_path / name, tmp_path / f"{name}-e", console=QUIET)
        assert model.load_model(tmp_path / f"{name}-e", "fp64")(ids).equal(wanted(ids))


def test_the_ramp_goes_from_the_old_base_to_the_bases(tmp_path: Path) -> None:
    source = save(tmp_path / "m", "llama3", 0.5)
    old, found = model.load_model(source), model.load_model(converted(source, tmp_path / "h", BASES))
    (rope,), ids = found.decoder.ropes.values(), draw_ids(1, 30)
    assert isinstance(rope, HarpeRope)
    wanted = found(ids)
    ramp = Ramp(4)
    half = 0.5 * (torch.tensor(BASES).log() + torch.tensor(old.config.rope.theta).log())
    gaps = []
    for step in range(6):
        ramp.before_step(found.decoder, step, 10)
        gaps.append(float((found(ids) - wanted).abs().max()))
        if step == 1:
            place = half.exp()[:, None] ** (-torch.arange(0, 8, 2) / 8)
            assert torch.allclose(rope.frequencies(torch.device("cpu")), place, rtol=1e-5)
    assert gaps[0] > gaps[1] > gaps[2] > gaps[3] == gaps[4] == gaps[5] == 0
    rope.share = torch.tensor(0.0)
    assert torch.allclose(found(ids), old(ids), atol=1e-5)
    with pytest.raises(UserError, match="the run has 3 steps"):
        Ramp(4).before_step(found.decoder, 0, 3)


def test_bases_by_layer(tmp_path: Path) -> None:
    """A list for each layer: equal lists are the one list bit for bit, two lists are two tables, export included."""
    source = save(tmp_path / "m", "llama3", 0.5, num_hidden_layers=3)
    ids = draw_ids(2, 30)
    one = model.load_model(converted(source, tmp_path / "one", BASES))
    same = model.load_model(converted(source, tmp_path / "same", [BASES] * 3))
    assert len(one.decoder.ropes) == len(same.decoder.ropes) == 1
    assert same(ids).equal(one(ids))
    other = [BASES, [400.0, 5_000.0], BASES]
    found = model.load_model(converted(source, tmp_path / "h", other), "fp64")
    assert len(found.decoder.ropes) == 2
    attention: Any = found.decoder.model.layers[1].self_attn
    with torch.no_grad():  # the middle layer turns by its own bases: with the others' it is another model
        wanted = found(ids)
        attention.rope = next(key for key in found.decoder.ropes if key.bases == tuple(BASES))
        assert (found(ids) - wanted).abs().max() > 1e-4
    literal = model.load_model(source, "fp64")
    tables = [HarpeRope(literal.config, tuple(row)) for row in other]
    keys = [replace(literal.config.rope, bases=tuple(row)) for row in other]
    literal.decoder.ropes = dict(zip(keys, tables, strict=True))
    for place, key in enumerate(keys):
        turned: Any = literal.decoder.model.layers[place].self_attn
        turned.rope = key
    assert literal(ids).equal(wanted)
    steps = list(generate(model.load_model(tmp_path / "h", "fp64").decoder, ids.tolist(), max_new_tokens=4))
    grown = ids
    for step in steps:
        assert literal(grown)[:, -1].argmax(-1).tolist() == step
        grown = torch.cat((grown, torch.tensor(step)[:, None]), 1)
    export_model(tmp_path / "h", tmp_path / "e", console=QUIET)
    assert model.load_model(tmp_path / "e", "fp64")(ids).equal(wanted)
    with pytest.raises(UserError, match="has a base for each head already"):
        convert_rope(tmp_path / "h", tmp_path / "again", target=512, console=QUIET)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([[1e4, 1e4]], "bases of 1 layer; the model has 3"),
        ([[1e4, 1e4], 5, 5], "layer 1"),
        ([[1e4], [1e4, 2], 3], "layer 0"),
    ],
)
def test_bases_by_layer_that_do_not_fit(tmp_path: Path, values: list[Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        converted(save(tmp_path / "m", "llama3"), tmp_path / "h", values)
    raw = json.loads((converted(tmp_path / "m", tmp_path / "right", BASES) / "config.json").read_text())
    raw["llmtool"]["methods"][0]["bases"] = values
    with pytest.raises(ConfigError, match="harpe: bases"):
        parse_config(raw)
