"""`llmtool eval activations`: the rate of non-sparse activations by layer, on any checkpoint with dense layers."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from llmtool.commands.options import Device, Dtype, Force, MeasuringThreads
from llmtool.core.corpus.calibration import text_rows
from llmtool.core.corpus.reading import Reading
from llmtool.core.run.console import QUIET, Console
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.extras import require
from llmtool.core.run.settings import Option, Settings
from llmtool.model import load_model

SCHEMA = "llmtool.eval-activations/1"


@dataclass(frozen=True, kw_only=True)
class ActivationsSettings(Settings):
    """On how much text."""

    tokens: Annotated[int, Option("Tokens of text.", min=8, metavar="N")] = 4096
    length: Annotated[int, Option("Tokens in a row.", min=8, metavar="N")] = 256
    dtype: Dtype = None
    device: Device = "auto"
    threads: MeasuringThreads = None
    force: Force = False


def activations(
    path: str | Path,
    data: Sequence[str],
    settings: ActivationsSettings | None = None,
    *,
    reading: Reading | None = None,
    console: Console = QUIET,
    **named_settings: Any,
) -> dict[str, Any]:
    """Share of |silu(gate x)| above 0.05, 0.1 and 0.2, by layer, and whether that speaks for sparse experts.

    >>> import llmtool
    >>> llmtool.eval.activations("model", ["corpus.txt"], tokens=64, length=16)["schema"]
    'llmtool.eval-activations/1'
    """
    reading, named_settings = Reading.split(reading, named_settings)
    asked = ActivationsSettings.of(settings, named_settings)
    require("torch", extra="models", why="to run models")
    from llmtool.core.eval.activations import HIGH, LOW, TAUS, measure
    from llmtool.core.kernels.cpu import use_threads

    use_threads(asked.threads)
    model = load_model(path, asked.dtype, asked.device)
    if model.note:
        console.info(model.note)
    length = min(asked.length, model.config.max_position_embeddings)
    rows = text_rows(model.tokenizer.encode_prompt, data, asked.tokens, length, reading=reading, seed=reading.seed,
                     console=console)  # fmt: skip
    layers = measure(model.decoder, rows, str(path))
    shares = [layer["nsar"] for layer in layers]
    mean = {str(tau): sum(share[str(tau)] for share in shares) / len(shares) for tau in TAUS}  # type: ignore[index]
    middle = mean["0.1"]
    verdict = "sparse" if middle < LOW else "dense" if middle > HIGH else "between"
    return {"schema": SCHEMA, "path": str(path), "tokens": sum(map(len, rows)), "nsar": mean, "layers": layers,
            "activations": verdict}  # fmt: skip


ADVICE = {
    "sparse": "few activations count for a token: a candidate for sparse experts (convert dsmoe)",
    "between": "neither sparse nor dense: sparse experts will cost quality before training",
    "dense": "most activations count: cutting blocks away will cost much",
}


def lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """The report for people."""
    taus = list(facts["nsar"])
    yield f"{'layer':>12}  " + "  ".join(f"NSAR {tau:>4}" for tau in taus) + "  median |silu(gate)|"
    for layer in facts["layers"]:
        shares = "  ".join(f"{layer['nsar'][tau]:>9.1%}" for tau in taus)
        yield f"{layer['layer'].replace('.mlp', ''):>12}  {shares}  {layer['deciles'][4]:>19.4f}"
    yield f"{'all':>12}  " + "  ".join(f"{facts['nsar'][tau]:>9.1%}" for tau in taus)
    yield f"{facts['tokens']:,} tokens; {ADVICE[facts['activations']]}"
    yield "a rule of thumb: the figures hang on the scale of the gate's input, so compare models trained alike"
