"""Laws over sizes: published parameters come back from runs made with them."""

import os
from pathlib import Path

import numpy as np
import pytest

from llmtool.commands.scaling import laws as commands
from llmtool.commands.scaling import verbs
from llmtool.core.run.errors import UserError
from llmtool.methods.temporal_scaling.across_runs import (
    CHINCHILLA,
    DATA_CONSTRAINED,
    KAPLAN,
    SizeLaw,
    bootstrap,
    fit_sizes,
    optimal_sizes,
)
from llmtool.methods.temporal_scaling.critical_batch import read_batches, to_json
from llmtool.methods.temporal_scaling.isoflop import envelope, parabolas
from llmtool.methods.temporal_scaling.size_doubts import outliers, require_identifiable
from llmtool.methods.temporal_scaling.size_table import Table, read_table

PUBLISHED = {
    "chinchilla": np.array([np.log(1.69), np.log(406.4), np.log(410.7), 0.34, 0.28]),
    "kaplan": np.array([np.log(8.8e13), np.log(5.4e13), 0.076, 0.095]),
    "data-constrained": np.array(
        [np.log(1.87), np.log(521.0), np.log(1488.0), 0.35, 0.35, np.log(5.31), np.log(15.39)]
    ),
}


def table(law: SizeLaw, noise: float = 0.0) -> Table:
    generator = np.random.default_rng(0)
    params = np.repeat(np.geomspace(5e7, 2e10, 7), 6)
    tokens = np.tile(np.geomspace(1e9, 4e11, 6), 7)
    unique = tokens / generator.choice([1, 2, 8, 30], len(tokens))
    bare = Table(params, tokens, unique, np.ones(len(params)))
    loss = np.exp(law.log_loss(PUBLISHED[law.name], bare) + noise * generator.standard_normal(len(params)))
    return Table(params, tokens, unique, loss)


def write(runs: Table, path: Path) -> Path:
    rows = zip(runs.params, runs.tokens, runs.unique, runs.loss, strict=True)
    path.write_text(
        "N,tokens,unique_tokens,loss\n" + "".join(",".join(map(repr, map(float, row))) + "\n" for row in rows)
    )
    return path


@pytest.mark.parametrize("law", [CHINCHILLA, KAPLAN], ids=lambda law: law.name)
def test_parameters_come_back(law: SizeLaw) -> None:
    theta = fit_sizes(law, table(law, noise=5e-4))
    exponents = [place for place, log in enumerate(law.logarithms) if not log]
    np.testing.assert_allclose(theta[exponents], PUBLISHED[law.name][exponents], rtol=0.1)


def test_repeated_data() -> None:
    runs = table(DATA_CONSTRAINED)
    theta = fit_sizes(DATA_CONSTRAINED, runs)
    np.testing.assert_allclose(np.exp(DATA_CONSTRAINED.log_loss(theta, runs)), runs.loss, rtol=3e-3)
    assert np.exp(theta[6]) == pytest.approx(15.39, rel=0.4)


def test_an_outlier_does_not_move_the_law() -> None:
    runs = table(CHINCHILLA, noise=5e-4)
    loss = runs.loss.copy()
    loss[5] *= 1.3
    theta = fit_sizes(CHINCHILLA, Table(runs.params, runs.tokens, runs.unique, loss))
    np.testing.assert_allclose(theta[3:], PUBLISHED["chinchilla"][3:], rtol=0.15)


def test_compute_optimal_sizes() -> None:
    e, a, b, alpha, beta = PUBLISHED["chinchilla"]
    compute = 1e21
    params, tokens, loss = optimal_sizes(CHINCHILLA, PUBLISHED["chinchilla"], compute)
    exact = (alpha * np.exp(a) / (beta * np.exp(b))) ** (1 / (alpha + beta)) * (compute / 6) ** (beta / (alpha + beta))
    assert params == pytest.approx(exact, rel=0.02)
    assert 6 * params * tokens == pytest.approx(compute)
    assert loss > np.exp(e)


def test_bootstrap_is_repeatable_and_spreads() -> None:
    runs = table(CHINCHILLA, noise=5e-3)
    theta = fit_sizes(CHINCHILLA, runs)
    first, second = (bootstrap(CHINCHILLA, runs, theta, 2, seed=1) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first[:, 3].std() > 1e-4


def test_law_of_a_file(tmp_path: Path) -> None:
    path = write(table(CHINCHILLA, noise=1e-3), tmp_path / "runs.csv")
    facts, lines = commands.size_law(path, bootstrap=2, compute=[1e20, 1e21], plot=tmp_path / "law.svg")
    assert facts["schema"] == "llmtool.scaling-law/1"
    assert facts["parameters"]["alpha"]["low"] <= facts["parameters"]["alpha"]["high"]
    assert facts["mape"] < 0.2
    assert [row["compute"] for row in facts["compute_optimal"]] == [1e20, 1e21]
    assert lines[0].startswith("chinchilla: E + A / N^alpha + B / D^beta, 42 runs")
    assert b"<svg" in (tmp_path / "law.svg").read_bytes()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "no column 'params'"),
        ("params,loss\n1,2\n", "no column 'tokens'"),
        ("params,tokens,loss\n1,2,x\n", ":2: 'loss' is no number"),
        ("params,tokens,loss\n1,2,-1\n", "not a positive number"),
    ],
)
def test_bad_tables(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "runs.csv").write_text(content)
    with pytest.raises(UserError, match=says):
        read_table(tmp_path / "runs.csv")


def test_too_few_runs() -> None:
    with pytest.raises(UserError, match="too few"):
        fit_sizes(CHINCHILLA, table(CHINCHILLA).rows(slice(5)))


def test_critical_batch(tmp_path: Path) -> None:
    rows = ["loss,batch,steps"]
    for loss in (3.0, 2.5):
        critical = 2e8 / loss ** (1 / 0.21)
        rows += [f"{loss},{batch},{1000 * (1 + critical / batch)}" for batch in (1e5, 1e6, 1e7)]
    (tmp_path / "b.csv").write_text("\n".join(rows))
    facts = to_json(read_batches(tmp_path / "b.csv"))
    assert facts["law"]["alpha"] == pytest.approx(0.21, rel=1e-3)
    assert facts["law"]["b_star"] == pytest.approx(2e8, rel=1e-2)
    assert facts["losses"][0]["s_min"] == pytest.approx(1000, rel=1e-3)
    (tmp_path / "few.csv").write_text("loss,batch,steps\n3,1,2\n")
    with pytest.raises(UserError, match="three batch sizes"):
        read_batches(tmp_path / "few.csv")


def test_one_size_is_refused_and_a_fixed_ratio_is_flagged(tmp_path: Path) -> None:
    runs = table(CHINCHILLA, noise=1e-3)
    one = Table(np.full(len(runs.params), 1e9), runs.tokens, runs.unique, runs.loss)
    with pytest.raises(UserError, match="all runs have about 1e\\+09 parameters"):
        require_identifiable(one)
    params = np.geomspace(1e8, 1e10, 8)
    bare = Table(params, 20 * params, 20 * params, np.ones(8))
    loss = np.exp(CHINCHILLA.log_loss(PUBLISHED["chinchilla"], bare))
    path = write(Table(params, 20 * params, 20 * params, loss), tmp_path / "runs.csv")
    facts, lines = commands.size_law(path, bootstrap=0, compute=[1e24])
    assert not facts["confident"]
    assert facts["compute_optimal"] == []
    found = " ".join(facts["doubts"])
    for said in ("8 runs for 5 parameters", "D / N about 20", "times the largest run"):
        assert said in found
    assert sum(line.startswith("  NOT CONFIDENT") for line in lines) == len(facts["doubts"])


def test_outliers_are_named() -> None:
    runs = table(CHINCHILLA, noise=5e-4)
    loss = runs.loss.copy()
    loss[5] *= 1.1
    named = Table(runs.params, runs.tokens, runs.unique, loss, tuple(f"line {at + 2}" for at in range(len(loss))))
    theta = fit_sizes(CHINCHILLA, named, PUBLISHED["chinchilla"])
    assert [each["run"] for each in outliers(CHINCHILLA, named, theta)] == ["line 7"]


def test_amounts_and_flop_as_people_write_them(tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text("Model Size,Training FLOP,Loss,name\n7B,4.2e22,2.1,big\n1.4B,8.4e21,2.4,small\n")
    runs = read_table(tmp_path / "runs.csv")
    np.testing.assert_allclose(runs.params, [7e9, 1.4e9])
    np.testing.assert_allclose(runs.tokens, [1e12, 1e12])
    assert runs.names == ("big (line 2)", "small (line 3)")


def test_isoflop_parabolas() -> None:
    budgets = np.repeat([1e19, 1e20, 1e21], 7)
    best = 0.1 * budgets**0.5
    params = best * np.tile(np.geomspace(0.3, 3, 7), 3)
    loss = 2.5 + 0.05 * np.log(params / best) ** 2
    found = parabolas(Table(params, budgets / 6 / params, budgets / 6 / params, loss))
    assert found is not None
    assert found["exponent"] == pytest.approx(0.5, abs=1e-3)
    assert found["budgets"][0]["params"] == pytest.approx(0.1 * 1e19**0.5, rel=1e-2)


def test_the_lower_envelope_of_the_curves() -> None:
    # N_opt = G (C / 6)^(beta / (alpha + beta)) exactly, where the curves of all sizes are dense.
    sizes, tokens = np.geomspace(3e7, 3e10, 25), np.geomspace(1e9, 2e12, 60)
    params, seen = np.repeat(sizes, 60), np.tile(tokens, 25)
    theta = PUBLISHED["chinchilla"]
    bare = Table(params, seen, seen, np.ones(len(params)))
    found = envelope(Table(params, seen, seen, np.exp(CHINCHILLA.log_loss(theta, bare))))
    assert found is not None
    assert found["exponent"] == pytest.approx(0.28 / (0.34 + 0.28), abs=0.02)
    for row in found["budgets"][::10]:
        best, _, _ = optimal_sizes(CHINCHILLA, theta, row["compute"])
        assert row["params"] == pytest.approx(best, rel=0.25)  # sizes lie a third apart


def test_no_envelope_where_no_size_has_a_curve() -> None:
    params = np.geomspace(1e8, 1e10, 6)
    assert envelope(Table(params, 20 * params, 20 * params, np.linspace(4, 2, 6))) is None


EPOCH = {"E": 1.8172, "A": 477.84, "B": 2143.86, "alpha": 0.347313, "beta": 0.367183}
"""The minimum that Besiroglu et al. (arXiv 2404.10102) find in their notebook on 240 points read off a figure."""


def test_a_table_at_the_published_refit() -> None:
    theta = np.array([*np.log([EPOCH["E"], EPOCH["A"], EPOCH["B"]]), EPOCH["alpha"], EPOCH["beta"]])
    params = np.repeat(np.geomspace(5e7, 1.6e10, 15), 16)
    tokens = np.tile(np.geomspace(2e8, 4e11, 16), 15)
    bare = Table(params, tokens, tokens, np.ones(len(params)))
    found = fit_sizes(CHINCHILLA, Table(params, tokens, tokens, np.exp(CHINCHILLA.log_loss(theta, bare))))
    for name, value in CHINCHILLA.named(found).items():
        assert value == pytest.approx(EPOCH[name], rel=2e-3)


def test_the_published_refit_on_its_own_table(tmp_path: Path) -> None:
    """Their table has no licence, so it is not stored here: LLMTOOL_EPOCH_TABLE names svg_extracted_data.csv."""
    source = os.environ.get("LLMTOOL_EPOCH_TABLE")
    if source is None:
        pytest.skip("LLMTOOL_EPOCH_TABLE is not set")
    head, *rows = Path(source).read_text().splitlines()
    (tmp_path / "runs.csv").write_text("\n".join([head, *rows[5:]]) + "\n")  # they leave the first five out
    named = CHINCHILLA.named(fit_sizes(CHINCHILLA, read_table(tmp_path / "runs.csv")))
    for name, value in named.items():
        assert value == pytest.approx(EPOCH[name], rel=1e-3)


def test_a_saved_law_predicts_another_size(tmp_path: Path) -> None:
    path = write(table(CHINCHILLA, noise=1e-3), tmp_path / "runs.csv")
    facts, _ = commands.size_law(path, bootstrap=2, output=tmp_path / "law.json")
    assert facts["backtest"]["median_error"] < 0.5
    told = commands.predict_size(tmp_path / "law.json", "7B", "140B")
    row = told["predictions"][0]
    exact = np.exp(CHINCHILLA.log_loss(PUBLISHED["chinchilla"], Table.one(7e9, 1.4e11)))
    assert row["value"] == pytest.approx(exact[0], rel=3e-3)
    assert row["low"] < exact[0] < row["high"]
    assert not commands.predict_size(tmp_path / "law.json", "700B", "100T")["confident"]
    for settings, says in (
        ({"params": "7B"}, "--tokens is missing"),
        ({"tokens": "1T"}, "--params is missing"),
        ({}, "--params and --tokens are missing"),
        ({"at": [100.0], "schedule": "wsd"}, "is a law over sizes, which --at, --schedule do not go with"),
        ({"params": "7B", "tokens": "1T", "horizon": 9.0}, "which --horizon does not go with"),
    ):
        with pytest.raises(UserError, match=says):
            verbs.predict(tmp_path / "law.json", **settings)
    assert verbs.predict(tmp_path / "law.json", params="7B", tokens="140B")["predictions"] == told["predictions"]
    with pytest.raises(UserError, match="not a number such as 7B"):
        commands.predict_size(tmp_path / "law.json", "seven", "1T")


def test_unique_tokens_are_asked_of_a_law_for_repeated_data(tmp_path: Path) -> None:
    path, saved = write(table(DATA_CONSTRAINED, noise=1e-3), tmp_path / "runs.csv"), tmp_path / "law.json"
    commands.size_law(path, law="data-constrained", bootstrap=0, output=saved)
    seen = {}
    for unique in (None, "100B", "10B"):
        facts = commands.predict_size(saved, "1B", "100B", unique)
        seen[unique] = facts["predictions"][0]
        theta = PUBLISHED["data-constrained"]
        run = Table.one(1e9, 1e11, {None: 1e11, "100B": 1e11, "10B": 1e10}[unique])
        assert seen[unique]["value"] == pytest.approx(np.exp(DATA_CONSTRAINED.log_loss(theta, run)[0]), rel=0.01)
    assert seen[None]["value"] == seen["100B"]["value"] < seen["10B"]["value"]
    assert "unique" not in seen[None]
    assert "1e+10 of them unique" in next(commands.size_prediction_lines(facts))
    with pytest.raises(UserError, match="--unique 200B: more than --tokens 100B"):
        commands.predict_size(saved, "1B", "100B", "200B")
    commands.size_law(path, bootstrap=0, output=tmp_path / "other.json")
    with pytest.raises(UserError, match="is no law for repeated data"):
        commands.predict_size(tmp_path / "other.json", "1B", "100B", "10B")
