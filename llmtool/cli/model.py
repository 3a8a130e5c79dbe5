"""`llmtool generate` and `llmtool verify`: run checkpoints."""

from typing import Annotated

import typer

from llmtool.cli import options
from llmtool.core.run.errors import ExitCode
from llmtool.core.run.json_file import dumps

AsIds = Annotated[bool, typer.Option("--ids", help="The input is token ids, with spaces between, not text.")]


def generate(
    checkpoint: options.Checkpoint,
    prompts: Annotated[
        list[str] | None,
        typer.Argument(help="Texts to continue, decoded together; - or nothing for stdin.", metavar="[PROMPT]..."),
    ] = None,
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1, help="Tokens to add at most.", metavar="N")] = 128,
    temperature: Annotated[
        float, typer.Option("--temperature", min=0, help="0 takes the likeliest token; above, tokens are drawn.")
    ] = 0.0,
    top_k: Annotated[int, typer.Option("--top-k", min=0, help="Draw among so many; 0 for all.", metavar="K")] = 0,
    top_p: Annotated[
        float, typer.Option("--top-p", min=0, max=1, help="Draw among the fewest that hold this probability together.")
    ] = 1.0,
    seed: options.Seed = 0,
    input_: Annotated[
        list[str] | None,
        typer.Option(
            "--input", help='JSONL rows {"prompt"} or {"messages"} to answer; again for more.', metavar="FILE"
        ),
    ] = None,
    chat: Annotated[
        bool,
        typer.Option("--chat", help="Prompts are a user's messages; without one, a line of stdin is a turn."),
    ] = False,
    system: Annotated[
        str | None, typer.Option("--system", help="The system's message of a chat.", metavar="TEXT")
    ] = None,
    template: options.Template = None,
    stop: Annotated[
        list[str] | None, typer.Option("--stop", help="End where this is written; again for more.", metavar="TEXT")
    ] = None,
    ignore_eos: Annotated[bool, typer.Option("--ignore-eos", help="Go on after the end-of-text token.")] = False,
    ids: AsIds = False,
    dtype: options.Dtype = None,
    device: options.Device = "auto",
    kernels: options.Kernels = "auto",
    compiled: Annotated[
        bool | None,
        typer.Option("--compile/--no-compile", help="torch.compile the step, CUDA graphs; on a GPU by default."),
    ] = None,
    threads: options.TorchThreads = None,
    set_: options.Set = (),
    override: options.Override = (),
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    config: options.Config = None,
) -> None:
    """Continue text; a single prompt streams to stdout."""
    from llmtool.commands.generate import print_texts

    print_texts(
        checkpoint, prompts or [], max_tokens=max_tokens, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed,
        ignore_eos=ignore_eos, ids=ids, dtype=dtype, device=device, kernels=kernels, compiled=compiled, set=set_,
        input=input_ or [], chat=chat, system=system, template=template, stop=stop or [], threads=threads,
        override=override, as_json=as_json, console=options.console(quiet, verbose),
    )  # fmt: skip


def verify(
    norm: options.Checkpoint,
    other: options.Checkpoint,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(help="Text to compare on; - for stdin. Default: random ids.", metavar="[INPUT]..."),
    ] = None,
    max_kl: Annotated[
        float | None, typer.Option("--max-kl", help="Exit with 3 if the mean KL in nats is larger.", metavar="X")
    ] = None,
    tokens: Annotated[int, typer.Option("--tokens", min=1, help="Tokens to compare on at most.", metavar="N")] = 4096,
    length: Annotated[int, typer.Option("--length", min=1, help="Tokens in a row.", metavar="N")] = 256,
    ids: AsIds = False,
    seed: options.Seed = 0,
    override: options.Override = (),
    dtype: options.Dtype = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
) -> None:
    """Compare the logits of two checkpoints: KL divergence, largest difference, same likeliest token."""
    from llmtool.commands import verify as verification

    report = verification.verify(
        norm, other, inputs or [], ids=ids, tokens=tokens, length=length, seed=seed, dtype=dtype, device=device,
        max_kl=max_kl, override=override, console=options.console(quiet, verbose=False),
    )  # fmt: skip
    if as_json:
        print(dumps(report))
    if report["passed"] is False:
        raise typer.Exit(ExitCode.CHECK_FAILED)
