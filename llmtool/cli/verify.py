"""`llmtool verify A B`: whether two checkpoints compute the same."""

import json
from typing import Annotated

import typer

from llmtool.cli import options
from llmtool.core.run.errors import ExitCode


def verify(
    a: Annotated[str, typer.Argument(help="Checkpoint that is the norm; its tokenizer cuts the text.", metavar="A")],
    b: Annotated[str, typer.Argument(help="Checkpoint to compare with it.", metavar="B")],
    text: Annotated[
        list[str] | None, typer.Option("--text", help="Text to compare on; may be given again.", metavar="FILE")
    ] = None,
    ids: Annotated[
        str | None,
        typer.Option("--ids", help="Ids to compare on, as tokenizer encode writes them; - for stdin.", metavar="FILE"),
    ] = None,
    tokens: Annotated[int, typer.Option("--tokens", min=1, help="Tokens at most.", metavar="N")] = 8192,
    length: Annotated[int, typer.Option("--length", min=2, help="Tokens in a window.", metavar="N")] = 512,
    max_kl: Annotated[
        float | None, typer.Option("--max-kl", min=0, help="Exit with 3 where the mean KL is above.", metavar="X")
    ] = None,
    seed: options.Seed = 0,
    dtype: options.Dtype = None,
    device: options.Device = "cpu",
    as_json: options.Json = False,
    config: options.Config = None,
) -> None:
    """Compare two checkpoints on text, ids or random ids: KL divergence, largest difference of a logit, top-1, loss."""
    from llmtool.core.eval import comparison, windows
    from llmtool.model import load_model
    from llmtool.tokenizer import Tokenizer

    first, second = (load_model(path, dtype=dtype, device=device) for path in (a, b))
    sample = windows.take_sample(
        text,
        ids,
        lambda: Tokenizer.load(a),
        vocab_size=first.config.vocab_size,
        length=length,
        tokens=tokens,
        seed=seed,
    )
    found = comparison.compare(first, second, sample.windows, device)
    facts = {**found.to_json(), "a": a, "b": b, "source": sample.source, "passed": found.passes(max_kl)}
    print(json.dumps(facts) if as_json else "\n".join(found.lines()))
    if not found.passes(max_kl):
        raise typer.Exit(ExitCode.CHECK_FAILED)
