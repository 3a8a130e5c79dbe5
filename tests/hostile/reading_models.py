"""Tokenizers, checkpoints, tokens and what belongs to them, read as commands read them."""

from pathlib import Path

from tests.hostile.answers import MADE, command_line, finite


def tokenizer(path: Path) -> None:
    from llmtool.tokenizer import Tokenizer

    found = Tokenizer.load(path)
    found.decode(found.encode("old output, né 漢 <|endoftext|>\n 123"))
    found.encode("<|endoftext|> new", allow_special=True)


def merges(path: Path) -> None:
    tokenizer(path.with_name("vocab.json"))


def settings_beside(path: Path) -> None:
    tokenizer(path.parent)


def compiled_vocabulary(path: Path) -> None:
    from llmtool.core.bpe.compiled import load_entry

    if (entry := load_entry(path)) is not None:
        assert entry.vocabulary.units[:256], "a vocabulary without its bytes"


def settings_of_tokenizer(path: Path) -> None:
    from llmtool.core.train.sft.template_files import find_specials, find_template

    tokenizer(path.parent)
    specials = find_specials(path.parent)
    if path.is_file() and '"chat_template"' in path.read_text(errors="replace"):
        find_template(None, path.parent, specials)


def inspected(path: Path) -> None:
    import llmtool

    report = llmtool.convert.inspect(path.parent)
    said = ("llmtool", "max_position_embeddings")  # as config.json has them; what is no number is printed as null
    finite({key: value for key, value in report.items() if key not in said})


def loaded(path: Path) -> None:
    import torch

    import llmtool

    model = llmtool.load_model(path.parent, device="cpu")
    assert torch.isfinite(model(torch.tensor([[1, 2, 3]]))).all(), "a result that is no number"
    assert isinstance(model.stop_ids, frozenset)


def copied(path: Path) -> None:
    """What is copied can be looked at."""
    import llmtool

    llmtool.convert.copy(path.parent, Path(MADE) / "copy", dry_run=True)
    llmtool.convert.copy(path.parent, Path(MADE) / "copy")
    inspected(Path(MADE) / "copy" / "config.json")


def tensors(path: Path) -> None:
    from llmtool.core.checkpoint.directory import open_checkpoint

    checkpoint = open_checkpoint(path.parent)
    for name, tensor in checkpoint.tensors():
        assert tensor.shape == checkpoint.shape(name)


def mapped_tokens(path: Path) -> None:
    from llmtool.core.corpus.token_files import open_tokens, refuse_out_of_range

    array = _array_of(path)
    file = open_tokens(array)
    refuse_out_of_range(file, 300)
    file.fingerprint()
    assert len(file.documents(0, len(file))) == len(file) == int(file.starts[-1])
    assert int(file.starts[0]) == 0, "tokens before the first document"


def decoded_tokens(path: Path) -> None:
    from llmtool.core.corpus.token_documents import read_token_documents
    from llmtool.tokenizer import Tokenizer

    found = Tokenizer.load("in/tok.json")
    array = _array_of(path)
    documents = list(read_token_documents(str(array), found))
    for ids in documents:
        found.decode(ids)
    if array.suffix == ".bin":
        assert sum(map(len, documents)) == array.stat().st_size // 2, "tokens lost, or given twice"


def _array_of(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(".json").removesuffix(".offsets.npy")) if "." in path.stem else path


def id_map(path: Path) -> None:
    from llmtool.commands.tokenizer.remap import read_map
    from llmtool.tokenizer import Tokenizer

    read_map(path, Tokenizer.load("in/tok.json"))


def gguf(path: Path) -> None:
    from llmtool.core.checkpoint.gguf_file import GgufFile

    file = GgufFile(path)
    file.config()
    for _ in file.tensors():
        pass


def gguf_converted(path: Path) -> None:
    import llmtool

    llmtool.convert.gguf(path, Path(MADE) / "gguf")


def plan(path: Path) -> None:
    from llmtool.methods.uniattn.plan import read_plan

    read_plan(path, 3)


def table_of_experts(path: Path) -> None:
    from llmtool.methods.mask_moe.artefact import load_table

    load_table(path).padded(320)


def bases(path: Path) -> None:
    from llmtool.methods.harpe.bases import read

    finite(read(path, 2, 3))


def kept_tokens(path: Path) -> None:
    import llmtool.commands.tokenizer.trim as trimming

    command_line(["tokenizer", "trim", "in/tok.json", "--keep", str(path), "-o", f"{MADE}/less", "--force"])
    assert trimming


def modules(path: Path) -> None:
    from llmtool.methods.nextlong.encoders import _poolings, _steps, prompt_of

    prompt_of(path.parent)
    for kind, place in _steps(path.parent):
        if kind == "Pooling":
            _poolings(place, path.parent)
