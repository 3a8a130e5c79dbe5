"""Tables of runs as people have them: dialects, names, and several rows of one run."""

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from llmtool.commands.scaling import laws as commands
from llmtool.core.run.errors import UserError
from llmtool.methods.temporal_scaling.across_runs import CHINCHILLA, bootstrap, fit_sizes
from llmtool.methods.temporal_scaling.critical_batch import read_batches
from llmtool.methods.temporal_scaling.size_doubts import on_the_largest
from llmtool.methods.temporal_scaling.size_report import lines, to_json
from llmtool.methods.temporal_scaling.size_table import Table, read_table

PARAMS, TOKENS, LOSSES = [1.25e8, 3.5e8, 1.3e9], [2.5e9, 7e9, 2.6e10], [3.25, 2.875, 2.5]
ROWS = list(zip(PARAMS, TOKENS, LOSSES, strict=True))


def joined(delimiter: str, header: str = "params,tokens,loss") -> Callable[[], str]:
    return lambda: "\n".join([header.replace(",", delimiter), *(delimiter.join(map(repr, row)) for row in ROWS)])


FORMS: dict[str, Callable[[], str]] = {
    "CSV": joined(","),
    "TSV": joined("\t"),
    "semicolons": joined(";"),
    "decimal commas": lambda: joined(";")().replace(".", ","),
    "Markdown": lambda: (
        "| params | tokens | loss |\n|---|:-:|---|\n" + "\n".join(f"| {n:g} | {d:g} | {loss} |" for n, d, loss in ROWS)
    ),
    "JSONL": lambda: "\n".join(json.dumps(dict(zip(("params", "tokens", "loss"), row, strict=True))) for row in ROWS),
    "an array": lambda: json.dumps([{"N": n, "D": d, "final_loss": loss} for n, d, loss in ROWS], indent=1),
    "nested": lambda: json.dumps([{"model": {"params": n}, "data": {"tokens": d}, "loss": v} for n, d, v in ROWS]),
    "other names": joined(",", "params_active_precise,train tokens seen,loss_c4"),
    "beside others": lambda: (
        "url params,loss upper,tokens per second,loss,tokens,model parameters\n"
        + "\n".join(f"a,9,1,{loss},{d},{n}" for n, d, loss in ROWS)
    ),
    "as people write": lambda: "Params,Tokens,Loss\n125M,2.5B,3.25\n350M,7B,2.875\n1.3B,26B,2.5\n",
}


@pytest.mark.parametrize("form", FORMS)
def test_dialects(tmp_path: Path, form: str) -> None:
    (tmp_path / "runs").write_text(FORMS[form]())
    runs = read_table(tmp_path / "runs")
    np.testing.assert_allclose([runs.params, runs.tokens, runs.loss], [PARAMS, TOKENS, LOSSES])
    assert runs.runs == len(ROWS)


def test_columns_are_named_where_several_may_be_meant(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text("params_embed,params_all,tokens,loss_a,loss_b\n1e6,2e6,3e9,4,5\n1e7,2e7,3e9,3,4\n")
    with pytest.raises(
        UserError, match=r"several columns may be its params: params_embed, params_all .*--params-column"
    ):
        read_table(path)
    with pytest.raises(UserError, match=r"has no column 'params_al' \(--params-column\).*params_all"):
        read_table(path, chosen={"params": "params_al"})
    runs = read_table(path, chosen={"params": "Params_all", "loss": "loss_b"})
    assert (runs.params.tolist(), runs.loss.tolist()) == ([2e6, 2e7], [5, 4])
    assert runs.columns == {"params": "params_all", "tokens": "tokens", "loss": "loss_b"}
    with pytest.raises(UserError, match="--params-column, or one of params"):
        write(path, "a,b\n1,2\n")


def write(path: Path, text: str) -> Table:
    path.write_text(text)
    return read_table(path)


def test_what_is_no_table_is_refused_where_it_fails(tmp_path: Path) -> None:
    path = tmp_path / "runs"
    for text, says in (
        ('{"params": 1}\n{"params"', r"runs:2: not JSON"),
        ("[1, 2]", "runs:1: a row that is no object"),
        ('[{"params": 1}', "not JSON"),
        ("params,tokens,loss\n1,,2\n", "runs:2: 'tokens' is no number: ''"),
        ('{"params": true, "tokens": 2, "loss": 3}', "runs:1: 'params' is no number"),
        ("| params | tokens | loss |\n|---|---|---|\n| 1 | 2 | x |", "runs:3: 'loss' is no number"),
    ):
        with pytest.raises(UserError, match=says):
            write(path, text)


def curves(runs: int = 12, rows: int = 20, scatter: float = 0.01) -> Table:
    """Checkpoints of runs, each of which errs by one amount."""
    generator = np.random.default_rng(0)
    params = np.repeat(np.geomspace(5e7, 2e10, runs), rows)
    tokens = np.tile(np.geomspace(1e9, 4e11, rows), runs)
    theta = np.array([np.log(1.69), np.log(406.4), np.log(410.7), 0.34, 0.28])
    bare = Table(params, tokens, tokens, np.ones(len(params)))
    loss = np.exp(CHINCHILLA.log_loss(theta, bare) + np.repeat(scatter * generator.standard_normal(runs), rows))
    return Table(params, tokens, tokens, loss, group=np.repeat(np.arange(runs), rows))


def test_rows_of_one_run_are_no_runs_of_their_own() -> None:
    """Drawn one by one they tell E to a tenth of what it is off by."""
    runs = curves()
    theta = fit_sizes(CHINCHILLA, runs)
    whole, alone = (bootstrap(CHINCHILLA, each, theta, 12, seed=0)
                    for each in (runs, Table(runs.params, runs.tokens, runs.unique, runs.loss)))  # fmt: skip
    assert whole[:, 3].std() > 2.5 * alone[:, 3].std()
    drawn = runs.drawn(np.random.default_rng(1))
    for run in np.unique(drawn.group):
        assert (drawn.group == run).sum() % 20 == 0
        assert set(drawn.tokens[drawn.group == run]) == set(runs.tokens[:20])
    facts = to_json(CHINCHILLA, runs, theta, whole[:0], ())
    assert (facts["runs"], facts["rows"]) == (12, 240)
    assert next(lines(facts)).startswith("chinchilla: E + A / N^alpha + B / D^beta, 240 rows of 12 runs")
    few = runs.rows(runs.group >= 6)
    assert few.drawn(np.random.default_rng(1)).runs <= few.runs == 6
    assert any("6 runs for 5 parameters" in doubt for doubt in to_json(CHINCHILLA, few, theta, whole[:0], ())["doubts"])


def test_the_largest_runs_are_held_out_whole() -> None:
    """Every run reaches the same tokens, so that the two largest of twelve are those of the most parameters."""
    runs = curves(scatter=0.0)
    loss = np.where(runs.group >= 10, 2 * runs.loss, runs.loss)
    test = on_the_largest(CHINCHILLA, Table(runs.params, runs.tokens, runs.unique, loss, group=runs.group))
    assert test is not None
    assert test["runs"] == 2
    assert test["median_error"] == pytest.approx(50, abs=1)  # the others told nothing of the factor


def test_rows_with_one_name_are_one_run(tmp_path: Path) -> None:
    text = "run_name,params,tokens,loss\n" + "".join(
        f"{name},{n},{d},{3 - 1e-10 * d}\n" for name, n in (("a", 1e8), ("b", 2e8)) for d in (1e9, 2e9, 3e9)
    )
    assert write(tmp_path / "runs.csv", text).group.tolist() == [0, 0, 0, 1, 1, 1]
    single = text.replace("a,", "one,").replace("b,", "one,")
    assert not len(write(tmp_path / "runs.csv", single).group)  # a column that names nothing
    models = write(tmp_path / "runs.csv", text.replace("run_name", "model"))  # of which there are several runs each
    assert not len(models.group)
    assert models.names[0] == "a (line 2)"


def test_the_columns_that_were_taken_are_told(tmp_path: Path) -> None:
    runs = curves(8, 6, 1e-3)
    rows = zip(runs.params, runs.tokens, runs.loss, strict=True)
    (tmp_path / "runs.csv").write_text("params_all,params_no_embed,tokens,loss\n" + "".join(
        f"{n},{n / 2},{d},{loss}\n" for n, d, loss in rows
    ))  # fmt: skip
    facts, said = commands.size_law(tmp_path / "runs.csv", bootstrap=0, params_column="params_no_embed")
    assert facts["columns"]["params"] == "params_no_embed"
    assert said[1] == "  columns: params params_no_embed, tokens tokens, loss loss"
    with pytest.raises(UserError, match="do not go with --law critical-batch"):
        commands.size_law(tmp_path / "runs.csv", law="critical-batch", loss_column="loss")


def test_batches_of_jsonl(tmp_path: Path) -> None:
    rows = [{"loss": 3.0, "batch": batch, "steps": 1000 + 5 * batch} for batch in (1, 2, 4)]
    (tmp_path / "b.jsonl").write_text("\n".join(map(json.dumps, rows)))
    [(loss, (batch, steps))] = read_batches(tmp_path / "b.jsonl").items()
    assert (loss, batch.tolist(), steps.tolist()) == (3.0, [1, 2, 4], [1005, 1010, 1020])
    table = "Target Loss,batch_size,num_steps\n" + "".join(
        f"3,{size}K,{steps}\n" for size, steps in zip((1, 2, 4), steps, strict=True)
    )
    (tmp_path / "b.csv").write_text(table)
    assert read_batches(tmp_path / "b.csv")[3.0][0].tolist() == [1e3, 2e3, 4e3]
    (tmp_path / "b.csv").write_text("loss,size,steps\n3,1,2\n")
    with pytest.raises(UserError, match="has no column 'batch'; columns: loss, size, steps"):
        read_batches(tmp_path / "b.csv")


def test_units_in_names_are_applied_and_told(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    for header, scales in (
        ("params (M),tokens (B),loss", (1e6, 1e9)),
        ("num_params_millions,training_tokens_billions,final_loss", (1e6, 1e9)),
        ("N_params_B,D_tokens_B,val_loss", (1e9, 1e9)),
        ("Model Size (bn),Tokens [T],Loss", (1e9, 1e12)),
        ("N,D,loss", (1.0, 1.0)),
    ):
        runs = write(path, f"{header}\n70,2,3\n160,5,2.5\n")
        np.testing.assert_allclose([runs.params, runs.tokens], np.multiply([[70, 160], [2, 5]], np.array([scales]).T))
        assert len(runs.notes) == (2 if scales != (1.0, 1.0) else 0)
    assert write(path, "params (M),tokens,loss\n70M,2B,3\n").params.tolist() == [7e7]  # cells say so themselves
    flop = write(path, "params,PFLOPs,loss\n1e6,6,3\n")
    np.testing.assert_allclose(flop.tokens, 6e15 / 6 / 1e6)
    assert "'PFLOPs' counts in 1e+15" in flop.notes[0]


def test_of_two_losses_the_one_taken_is_told(tmp_path: Path) -> None:
    runs = write(tmp_path / "runs.csv", "params,tokens,loss,val_loss\n1,2,3,4\n")
    assert runs.loss.tolist() == [3]
    assert runs.notes == ("the loss is 'loss'; there is 'val_loss', too (--loss-column)",)


def test_decimal_commas_go_by_the_column(tmp_path: Path) -> None:
    path = tmp_path / "runs"
    tabs = "params\ttokens\tloss\n{}\t2000000000\t{}\n{}\t5000000000\t{}\n"
    assert write(path, tabs.format(70_000_000, "2,9616", 160_000_000, "2,962")).loss.tolist() == [2.9616, 2.962]
    assert write(path, tabs.format(7, "0,962", 8, "1,962")).loss.tolist() == [0.962, 1.962]
    quoted = 'params,tokens,loss\n"70,000,000",2000,2.962\n"160,000",5000,2.9\n'
    assert write(path, quoted).params.tolist() == [7e7, 160_000]
    points = 'params,tokens,loss\n"70,000",2000,2.962\n'  # elsewhere in it decimals stand behind points
    assert write(path, points).params.tolist() == [70_000]
    european = "params;tokens;loss\n70.000.000;2.000.000.000;2,962\n1,5B;3.000.000.000;1,962\n"
    runs = write(path, european)
    assert (runs.params.tolist(), runs.loss.tolist()) == ([7e7, 1.5e9], [2.962, 1.962])
    for unclear in (tabs.format(70_000_000, "2,962", 160_000_000, "2,851"),
                    'params,tokens,loss\n70,2000,"2,962"\n160,5000,"2,851"\n'):  # fmt: skip
        with pytest.raises(UserError, match=r"runs:2: 'loss': 2,962 may be a whole number or a fraction"):
            write(path, unclear)


def test_rows_without_a_loss_are_dropped_and_counted(tmp_path: Path) -> None:
    runs = write(tmp_path / "runs.csv", "params,tokens,loss\n1,2,3\n4,5,\n6,7,nan\n8,9,2\n")
    assert runs.params.tolist() == [1, 8]
    assert runs.notes == ("dropped 2 rows without a loss",)
    assert runs.names == ("line 2", "line 5")


def test_comments_packed_and_wide_text_and_columns_of_json(tmp_path: Path) -> None:
    text = joined(",")()
    held = {"params": PARAMS, "tokens": TOKENS, "loss": LOSSES}
    for content in (
        f"# exported\n# by hand, in May\n{text}".encode(),
        f"# {text}".encode(),  # as numpy writes a header
        gzip.compress(text.encode()),
        text.encode("utf-16"),
        json.dumps(held).encode(),
        json.dumps({"parameter_count" if key == "params" else key: each for key, each in held.items()}).encode(),
    ):
        (tmp_path / "runs").write_bytes(content)
        runs = read_table(tmp_path / "runs")
        np.testing.assert_allclose([runs.params, runs.tokens, runs.loss], [PARAMS, TOKENS, LOSSES])


def test_an_error_lists_a_dozen_columns(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"columns: c0, .*c11 and 88 more \("):
        write(tmp_path / "runs.csv", ",".join(f"c{at}" for at in range(100)) + "\n" + "1," * 99 + "1\n")


def test_parquet(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {
        "params": [*PARAMS, 1e9],
        "tokens": [*TOKENS, 1e9],
        "loss": [*LOSSES, None],
        "data": [{"name": "c4"}] * 4,
    }
    parquet.write_table(arrow.table(columns), tmp_path / "runs.parquet")
    found = read_table(tmp_path / "runs.parquet")
    assert (found.params.tolist(), found.tokens.tolist(), found.loss.tolist()) == (PARAMS, TOKENS, LOSSES)
    assert found.names[0] == "line 1"
    (tmp_path / "broken").write_bytes((tmp_path / "runs.parquet").read_bytes()[:-9])
    with pytest.raises(UserError, match="not a readable Parquet file"):
        read_table(tmp_path / "broken")


@pytest.mark.parametrize("form", ["CSV", "JSONL", "packed"])
def test_standard_input(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    text = FORMS["CSV" if form == "packed" else form]().encode()
    stdin = SimpleNamespace(buffer=io.BytesIO(gzip.compress(text) if form == "packed" else text))
    monkeypatch.setattr("sys.stdin", stdin)
    assert read_table(Path("-")).loss.tolist() == LOSSES


def test_parquet_on_standard_input_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"PAR1 and so on")))
    with pytest.raises(UserError, match="Parquet can be read only from a plain file"):
        read_table(Path("-"))
