"""What help pages show beside options: two commands of each that run as they stand, the method's paper, --set's keys.

The examples are a walk: each runs in a directory that holds corpus.jsonl, held_out.jsonl, chat.jsonl, log.jsonl,
log_b.jsonl, runs.csv and what the examples before it have written. tests/cli/test_examples.py walks it.
"""

import re
from collections.abc import Iterator

from llmtool import catalog
from llmtool.cli.tree import Command
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.errors import UserError


@dataclass(frozen=True)
class Example:
    """A command as it is typed, and what it does."""

    command: str
    does: str


@dataclass(frozen=True)
class Page:
    """What a command's page shows; methods: their options in the catalog."""

    examples: tuple[Example, ...]
    methods: tuple[str, ...] = ()


PAGES = """
llmtool
    Make a tokenizer: writes tokenizer.json.
    $ llmtool tokenizer train corpus.jsonl
    Train a model with it: writes model.
    $ llmtool train corpus.jsonl
    Let it speak.
    $ llmtool generate model "Once upon a time"
llmtool methods
    Every method with its paper.
    $ llmtool methods
    The same for programs.
    $ llmtool methods --json
llmtool doctor
    What is installed, and which engine runs.
    $ llmtool doctor
    The same for programs.
    $ llmtool doctor --json
llmtool tokenizer
    Make one.
    $ llmtool tokenizer train corpus.jsonl
    See how it cuts a line.
    $ llmtool tokenizer inspect tokenizer.json "How is this cut?"
llmtool tokenizer train: scaffold lbpe
    32,000 tokens at most, into tokenizer.json.
    $ llmtool tokenizer train corpus.jsonl
    Scaffold-BPE, of a size and a name of your own.
    $ llmtool tokenizer train corpus.jsonl -o scaffold.json --vocab-size 1K --algorithm scaffold
llmtool tokenizer encode: lbpe
    A line of text to a line of ids; without a file, stdin.
    $ llmtool tokenizer encode tokenizer.json line.txt
    A corpus to one flat file that `llmtool train` reads.
    $ llmtool tokenizer encode tokenizer.json corpus.jsonl --format bin --eos -o train.bin
llmtool tokenizer decode
    Ids back to text.
    $ llmtool tokenizer decode tokenizer.json train.bin -o back.txt
    One document a line.
    $ llmtool tokenizer decode tokenizer.json train.bin --documents line -o lines.txt
llmtool tokenizer inspect
    What a tokenizer is.
    $ llmtool tokenizer inspect tokenizer.json
    How it cuts a text.
    $ llmtool tokenizer inspect tokenizer.json "How is this cut?"
llmtool tokenizer compare
    Two tokenizers on text that neither has seen.
    $ llmtool tokenizer compare tokenizer.json scaffold.json --corpus held_out.jsonl
    The same as a figure.
    $ llmtool tokenizer compare tokenizer.json scaffold.json --corpus held_out.jsonl --plot compare.png
llmtool tokenizer diff
    What two vocabularies do not share.
    $ llmtool tokenizer diff tokenizer.json scaffold.json
    And which texts they cut otherwise.
    $ llmtool tokenizer diff tokenizer.json scaffold.json --corpus held_out.jsonl --show 3
llmtool tokenizer extend
    100 tokens more, for the text of a new field.
    $ llmtool tokenizer extend tokenizer.json held_out.jsonl --add 100
    None with a digit in it.
    $ llmtool tokenizer extend tokenizer.json held_out.jsonl --add 50 --veto "[0-9]" -o words
llmtool tokenizer trim
    The 300 ids that this text needs most.
    $ llmtool tokenizer trim tokenizer.json corpus.jsonl --to 300
    Nothing that the text uses less than twice.
    $ llmtool tokenizer trim tokenizer.json corpus.jsonl --min-count 2 -o frequent
llmtool tokenizer export
    For transformers, vLLM and others.
    $ llmtool tokenizer export tokenizer.json
    For tiktoken.
    $ llmtool tokenizer export tokenizer.json tik --to tiktoken
llmtool train
    Text in, a model out: finds tokenizer.json, writes model.
    $ llmtool train corpus.jsonl
    Tokens in, a size and a name of your own, a part held out.
    $ llmtool train train.bin -o small --model 300K --tokenizer tokenizer.json --tokens 20K --batch 2K --holdout 0.1
llmtool generate
    Go on with a text.
    $ llmtool generate model "Once upon a time" --max-tokens 20
    Draw, the same each time.
    $ llmtool generate model "Once upon a time" --max-tokens 20 --temperature 0.8 --seed 1
llmtool verify
    Are two checkpoints the same model?
    $ llmtool verify model model --max-kl 0 --tokens 256
    How far apart are they on text?
    $ llmtool verify model model held_out.jsonl --tokens 256
llmtool convert
    What a checkpoint is and costs.
    $ llmtool convert inspect model
    A sparse one from it.
    $ llmtool convert dsmoe model
llmtool convert inspect
    Parameters, FLOPs and cache, from headers alone.
    $ llmtool convert inspect model
    At the end of a long context.
    $ llmtool convert inspect model --context 32K
llmtool convert copy
    Half the bytes.
    $ llmtool convert copy model half --dtype bf16
    In small files.
    $ llmtool convert copy model pieces --max-shard-size 1MB
llmtool convert export
    For transformers.
    $ llmtool convert export model
    In bf16.
    $ llmtool convert export model exported-bf16 --dtype bf16
llmtool convert dsmoe: dsmoe
    Eight experts a layer; the same model, bit for bit.
    $ llmtool convert dsmoe model
    Usable without training: fitted to text, half of the blocks open.
    $ llmtool convert dsmoe model sparse --experts 4 --share 0.5 --calibration corpus.jsonl --off-mean --refit
llmtool convert dsmoe-baseline: dsmoe
    Pruning in the same form, which routing has to beat.
    $ llmtool convert dsmoe-baseline static model static --experts 4 --share 0.5 --calibration corpus.jsonl
    LLaMA-MoE's top k.
    $ llmtool convert dsmoe-baseline topk model topk-experts --experts 4 --share 0.5
llmtool convert dense: dsmoe
    Back to dense layers.
    $ llmtool convert dense model-dsmoe
    Under a name of your own.
    $ llmtool convert dense model-dsmoe dense
llmtool convert uniattn: uniattn
    Layers that follow the one before them, fitted to text.
    $ llmtool convert uniattn small shared --groups 2:0:2 --calibration corpus.jsonl --samples 4
    As `eval attention` has planned it.
    $ llmtool convert uniattn small planned --plan plan.json --calibration corpus.jsonl --samples 4
llmtool convert rope: harpe
    A base for each head, for 1,024 positions.
    $ llmtool convert rope model --target 1024
    One base for all heads.
    $ llmtool convert rope model abf --method abf --target 1024
llmtool convert gguf
    A checkpoint from a GGUF file.
    $ llmtool convert gguf small.gguf
    In fp32.
    $ llmtool convert gguf small.gguf from-gguf --dtype fp32
llmtool convert topk
    Eight routed copies of each layer.
    $ llmtool convert topk small
    Four of them, not quite alike.
    $ llmtool convert topk small routed --experts 4 --noise 0.01
llmtool convert cartesian: cartesian_moe
    Two routed sub-layers.
    $ llmtool convert cartesian small --experts 4
    In layer 1 alone.
    $ llmtool convert cartesian small pairs --experts 4 --layers 1
llmtool convert mask: mask_moe
    Copies that token ids choose among.
    $ llmtool convert mask small --table mask.safetensors
    With a dense expert beside them.
    $ llmtool convert mask small masked --table mask.safetensors --shared
llmtool convert finedeep: finedeep
    Eight small experts, all run.
    $ llmtool convert finedeep small
    Two sub-layers of four.
    $ llmtool convert finedeep small deep --sublayers 2 --experts 4
llmtool convert merge-lora: lora
    Adapters into the weights.
    $ llmtool convert merge-lora adapted
    In bf16.
    $ llmtool convert merge-lora adapted merged --dtype bf16
llmtool convert vocab
    To the vocabulary that `tokenizer extend` wrote.
    $ llmtool convert vocab model --tokenizer tokenizer-extended
    And say what it does to text.
    $ llmtool convert vocab model wider --tokenizer tokenizer-extended --check held_out.jsonl
llmtool eval
    Loss on text.
    $ llmtool eval loss model --data held_out.jsonl --tokens 1K
    What a sparse checkpoint opens.
    $ llmtool eval experts model-dsmoe --data held_out.jsonl --tokens 256
llmtool eval loss
    Nats a token and bits a byte.
    $ llmtool eval loss model --data held_out.jsonl --tokens 1K
    By position, as a figure.
    $ llmtool eval loss model --data held_out.jsonl --tokens 1K --length 64 --plot positions.png
llmtool eval niah
    Needles of random ids.
    $ llmtool eval niah small --samples 2 --length 64
    As a figure.
    $ llmtool eval niah small --samples 2 --length 64 --plot needles.png
llmtool eval ruler
    Two questions of one kind.
    $ llmtool eval ruler small --task single --samples 2 --length 64 --kind ids
    What would be asked.
    $ llmtool eval ruler small --length 128 --kind ids --dry-run
llmtool eval attention: uniattn
    Which layers look alike.
    $ llmtool eval attention small --data held_out.jsonl --window 64 --samples 2
    And a plan for a wanted saving.
    $ llmtool eval attention small --data held_out.jsonl --window 64 --samples 2 --kv-saving 12% -o plan.json
llmtool eval experts: dsmoe
    Which experts are used, at which loss.
    $ llmtool eval experts model-dsmoe --data held_out.jsonl --tokens 256
    At two thresholds, as a figure.
    $ llmtool eval experts model-dsmoe --data held_out.jsonl --tokens 256 --taus 0.3,0.7 --plot experts.png
llmtool eval activations: finedeep
    How many activations are not near zero.
    $ llmtool eval activations model --data held_out.jsonl
    Of fewer tokens.
    $ llmtool eval activations model --data held_out.jsonl --tokens 256
llmtool scaling: temporal
    Where will this run end?
    $ llmtool scaling fit log.jsonl
    Which of two ends lower?
    $ llmtool scaling compare log.jsonl log_b.jsonl
llmtool scaling fit: temporal
    The final loss with a 90% interval.
    $ llmtool scaling fit log.jsonl
    As of 60% of the run, drawn beside what came.
    $ llmtool scaling fit log.jsonl --fit-until 60% --plot fit.png -o fit.json
llmtool scaling predict: temporal
    A saved fit at its horizon.
    $ llmtool scaling predict fit.json
    At other steps.
    $ llmtool scaling predict fit.json --at 1K --at 1.5K
llmtool scaling backtest: temporal
    How good would forecasts have been?
    $ llmtool scaling backtest log.jsonl
    By one law.
    $ llmtool scaling backtest log.jsonl --law power
llmtool scaling compare: temporal
    Which run ends lower, and how likely?
    $ llmtool scaling compare log.jsonl log_b.jsonl
    As of half of them.
    $ llmtool scaling compare log.jsonl log_b.jsonl --fit-until 50%
llmtool scaling positions: temporal
    The law over token positions.
    $ llmtool scaling positions positions.jsonl
    As a figure.
    $ llmtool scaling positions positions.jsonl --plot law.png
llmtool scaling law: temporal
    A law over sizes.
    $ llmtool scaling law runs.csv --bootstrap 5
    The best size for a budget.
    $ llmtool scaling law runs.csv --bootstrap 5 --compute 1e21
llmtool data
    Is the instruction data read as it was meant?
    $ llmtool data check chat.jsonl --tokenizer tokenizer.json --template plain
    Long samples from short documents.
    $ llmtool data nextlong corpus.jsonl --target 2K --chunk 128 --samples 4
llmtool data check
    One example, what is learned of it marked.
    $ llmtool data check chat.jsonl --tokenizer tokenizer.json --template plain
    Another one, in rows of 256 tokens.
    $ llmtool data check chat.jsonl --tokenizer tokenizer.json --template plain --row 3 --length 256
llmtool data token-experts: mask_moe
    Which experts each token id sees.
    $ llmtool data token-experts corpus.jsonl --tokenizer tokenizer.json --model small --experts 4
    Into a file of another name.
    $ llmtool data token-experts corpus.jsonl --tokenizer tokenizer.json --model small --experts 4 -o table.safetensors
llmtool data nextlong: nextlong
    Four samples of 2,000 tokens, into nextlong.
    $ llmtool data nextlong corpus.jsonl --target 2K --chunk 128 --samples 4
    Documents in random order, to compare with.
    $ llmtool data nextlong corpus.jsonl --target 2K --method concat -o concat
llmtool data chunk: nextlong
    The first stage alone.
    $ llmtool data chunk corpus.jsonl -o work --chunk 256
    Of smaller chunks.
    $ llmtool data chunk corpus.jsonl -o smaller --chunk 128
llmtool data embed: nextlong
    A vector for each chunk.
    $ llmtool data embed work
    Of the smaller ones, in this process.
    $ llmtool data embed smaller --workers 1
llmtool data index: nextlong
    The index over the vectors.
    $ llmtool data index work
    Exact search, on any size.
    $ llmtool data index smaller --index flat
llmtool data mine: nextlong
    Hard negatives of four samples.
    $ llmtool data mine work --target 2K --samples 4
    Of shorter ones.
    $ llmtool data mine smaller --target 1K --samples 4
llmtool data assemble: nextlong
    The samples.
    $ llmtool data assemble work -o long --target 2K --samples 4
    As token ids for training.
    $ llmtool data assemble smaller -o long-bin --target 1K --samples 4 --format bin
llmtool data report: nextlong
    How good are they?
    $ llmtool data report nextlong
    As a figure.
    $ llmtool data report nextlong --plot nextlong.png
llmtool data show: nextlong
    The first sample, its spans in order.
    $ llmtool data show nextlong 0
    The beginnings of them.
    $ llmtool data show nextlong 0 --chars 60
llmtool posttrain
    Instruction tuning.
    $ llmtool posttrain sft small chat.jsonl --template plain --length 64 --batch 512 --steps 2
    With adapters alone.
    $ llmtool posttrain sft small chat.jsonl -o adapted --lora 4 --template plain --length 64 --batch 512 --steps 2
llmtool posttrain sft
    The standard way; a checkpoint with a chat template needs no --template.
    $ llmtool posttrain sft small chat.jsonl --template plain --length 64 --batch 512 --steps 2
    With adapters alone, which `convert merge-lora` merges.
    $ llmtool posttrain sft small chat.jsonl -o adapted --lora 4 --template plain --length 64 --batch 512 --steps 2
llmtool posttrain uniattn: uniattn
    What `convert uniattn` made, in two stages.
    $ llmtool posttrain uniattn shared chat.jsonl --template plain --length 64 --batch 512 --steps 2
    Under a name of your own.
    $ llmtool posttrain uniattn shared chat.jsonl -o answers --template plain --length 64 --batch 512 --steps 2
llmtool bench
    What this machine is.
    $ llmtool bench machine
    Two checkpoints side by side.
    $ llmtool bench decode model small --context 64 --new 4 --rounds 2
llmtool bench kernels
    Every op beside its rivals.
    $ llmtool bench kernels --plot figures
    One op, small, for a tenth of a second.
    $ llmtool bench kernels swiglu --sizes odd --seconds 0.1 --no-checks
llmtool bench compile
    The machine code of one kernel, with no GPU.
    $ llmtool bench compile swiglu --arch sm_90 --first
    All of them, and 3 where code is not what it must be.
    $ llmtool bench compile --check
llmtool bench machine
    A large copy, a large product.
    $ llmtool bench machine
    On the CPU, also where there is a GPU.
    $ llmtool bench machine --cpu
llmtool bench device
    Everything about a GPU in five minutes, into device.
    $ llmtool bench device
    Two parts of it.
    $ llmtool bench device --parts env,ops --budget 60
llmtool bench decode
    Two checkpoints side by side.
    $ llmtool bench decode model small --context 64 --new 4 --rounds 2
    Two batches, as Markdown.
    $ llmtool bench decode small --batch 1,2 --context 64 --new 4 --rounds 2 --markdown
llmtool bench tokenizer
    Encoding beside the fastest tokenizers installed.
    $ llmtool bench tokenizer corpus.jsonl
    Training.
    $ llmtool bench tokenizer corpus.jsonl --task train --repeats 1
llmtool rerun
    The command that made tokenizer.json, once more.
    $ llmtool rerun tokenizer.json.run.json
    Into another place.
    $ llmtool rerun tokenizer.json.run.json -o again.json
llmtool completions
    For this shell; in ~/.bashrc for every one.
    $ source <(llmtool completions bash)
    zsh: into a directory of $fpath.
    $ llmtool completions zsh > _llmtool
llmtool help
    A page.
    $ llmtool help tokenizer train
    All commands.
    $ llmtool help
"""
"""Path, a colon and methods; then what each example does, and behind a dollar sign what is typed."""


def pages() -> dict[str, Page]:
    """The pages by path."""
    return dict(_parsed())


def _parsed() -> Iterator[tuple[str, Page]]:
    for block in re.split(r"\n(?=\S)", PAGES.strip()):
        title, *lines = block.splitlines()
        path, _, methods = title.partition(":")
        examples = tuple(
            Example(typed.strip().removeprefix("$ "), does.strip())
            for does, typed in zip(lines[::2], lines[1::2], strict=True)
        )
        yield path, Page(examples, tuple(methods.split()))


def links(page: Page) -> list[str]:
    """Each method of a page with where its paper is."""
    found = []
    for name in page.methods:
        row = next(row for row in catalog.METHODS if row.option == name)
        number = re.search(r"arXiv (\d{4}\.\d{5})", row.paper)
        if number is None:
            raise UserError(f"the paper of {name} is nowhere")
        found.append(f"{row.name}: https://arxiv.org/abs/{number[1]}")
    return found


def settings_lines(command: Command) -> list[tuple[str, str]]:
    """What --set takes of which method: `dsmoe.tau`, one line. Objectives' keys only where something is trained."""
    if not any(option.standin == "METHOD.KEY=VALUE" for option in command.options):
        return []
    trains = command.path.split()[1] in ("train", "posttrain")
    kinds = (catalog.ARCHITECTURE, catalog.OBJECTIVE) if trains else (catalog.ARCHITECTURE,)
    rows = [row for row in catalog.METHODS if row.kind in kinds]
    return [(f"{row.option}.{key}", says) for row in rows for key, says in row.settings.items()]
