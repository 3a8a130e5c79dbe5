"""Conversations as text, ids and masks, against `transformers`: every form of template with every kind of tokenizer."""

import datetime
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")
pytest.importorskip("torch")
pytest.importorskip("jinja2")

import transformers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Theirs

from llmtool import Tokenizer
from llmtool.core.train.sft.conversation import Message, Row
from llmtool.core.train.sft.examples import Around, Counts, Tokenized, tokenize
from llmtool.core.train.sft.template import REWRITTEN, Specials, Template
from tests.core.train.sft.chat_templates import CONVERSATIONS, MARKS, SYSTEM, TEMPLATES, TOOL, TOOLS

KINDS = ("byte-level", "nfc", "prepend", "metaspace first", "metaspace always")
CORPUS = ["Yes: 5 > 3. And 3 > 5? No user assistant system Be short. degrees é the weather today"] * 40
Built = tuple[Any, Tokenizer]


def build(kind: str, folder: Path) -> Built:
    """A tokenizer of the kind, as `transformers` has it and as ours."""
    if kind in ("byte-level", "nfc"):
        made = Theirs(models.BPE())
        made.normalizer = normalizers.NFC() if kind == "nfc" else None
        made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        first, texts = ["<s>", "</s>"], CORPUS
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    else:
        made = Theirs(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
        texts = CORPUS
        if kind == "prepend":
            made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
            texts = [text.replace(" ", "▁") for text in CORPUS]
        else:
            made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=kind.split()[1], split=False)
        made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
        first, alphabet = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))], []
    made.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=420, special_tokens=first, initial_alphabet=alphabet)
    )
    taking = {"<|end|>": {"rstrip": True}, "<|assistant|>": {"rstrip": True}}
    made.add_special_tokens([AddedToken(mark, normalized=False, **taking.get(mark, {})) for mark in MARKS])
    theirs = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", clean_up_tokenization_spaces=False
    )
    folder.mkdir(exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    return theirs, Tokenizer.load(folder)


@pytest.fixture(scope="module", params=KINDS)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(request.param, tmp_path_factory.mktemp("tokenizer") / "t")


def ours(template: Template, row: Row, tokenizer: Tokenizer) -> Tokenized:
    return tokenize(row, template, Around(), tokenizer.encode_with_places, Counts())


def kind_of(tokenizer: Tokenizer) -> str:
    """What its symbols are: with bytes every line's end is a token of its own."""
    return str(tokenizer.definition.vocabulary.alphabet)


def row_of(turns: list[dict[str, Any]], tools: list[dict[str, Any]] | None) -> Row:
    return Row("d:1", tuple(Message(turn["role"], turn["content"], turn) for turn in turns), tools=tools)


CASES = [(name, talk) for name, (_, talks) in TEMPLATES.items() for talk in talks]


def test_ids_and_masks_are_those_of_transformers(built: Built) -> None:
    theirs, tokenizer = built
    templates = {name: Template(source, Specials("<s>", "</s>"), name) for name, (source, _) in TEMPLATES.items()}
    for name, talk in CASES:
        source, turns, tools = TEMPLATES[name][0], CONVERSATIONS[talk], [TOOL] if talk == TOOLS else None
        marked = "generation" in source.replace("add_generation_prompt", "")
        wanted = theirs.apply_chat_template(
            turns, chat_template=source, tools=tools, return_dict=True, return_assistant_tokens_mask=marked
        )
        made = ours(templates[name], row_of(turns, tools), tokenizer)
        if name == "qwen3":  # writes a thought, or that there is none, into the last answer alone
            assert [untrained for *_, untrained in made.spans] == [REWRITTEN, ""]
        else:
            assert not any(untrained for *_, untrained in made.spans) or name == "mistral-v3", (name, talk)
        if name == "mistral-v3" and turns[0]["role"] == "system":
            # It writes the system turn before a last question only, so never into a finished conversation: the example
            # stands behind the prompt that the model will be given, which holds it.
            behind = theirs.apply_chat_template(turns[:-1], chat_template=source, add_generation_prompt=True)[
                "input_ids"
            ]
            assert made.ids[: len(behind)] == behind
            assert len(made.ids) > len(wanted["input_ids"])
            assert str(turns[-1]["content"]) in tokenizer.decode(made.ids[len(behind) :])
            continue
        assert made.ids == wanted["input_ids"], (name, talk)
        if marked:
            text = theirs.apply_chat_template(turns, chat_template=source, tokenize=False)
            offsets = theirs(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
            for place, (trained, masked) in enumerate(zip(made.trained, wanted["assistant_masks"], strict=True)):
                # Of the last character's tokens ("▁" and a byte) `transformers` marks the first alone, we mark all.
                rest = place and offsets[place][0] < offsets[place - 1][1] and made.trained[place - 1]
                assert trained == bool(masked) or (trained and rest), (name, talk, place)
            assert kind_of(tokenizer) != "bytes" or list(map(int, made.trained)) == wanted["assistant_masks"]
        prompt = theirs.apply_chat_template(turns[:-1], chat_template=source, tools=tools, add_generation_prompt=True,
                                            tokenize=False)  # fmt: skip
        shown = (
            templates[name].render(row_of(turns[:-1], tools).messages, prompt=True, where="d") if not tools else prompt
        )
        assert shown == prompt, (name, talk)


@pytest.mark.parametrize("name", ["chatml", "llama-2", "llama-3", "gemma", "command-r", "qwen2.5"])
def test_an_answer_is_trained_as_the_model_will_make_it(built: Built, name: str) -> None:
    """The tokens before an answer are those of the prompt for it; what is trained goes on from there to the end."""
    theirs, tokenizer = built
    source, turns = TEMPLATES[name][0], CONVERSATIONS["plain"]
    made = ours(Template(source, Specials("<s>", "</s>"), name), row_of(turns, None), tokenizer)
    assert len(made.spans) == 2
    for (start, end, _), number in zip(made.spans, (1, 3), strict=True):
        prompt = theirs.apply_chat_template(turns[:number], chat_template=source, add_generation_prompt=True,
                                            return_dict=True)["input_ids"]  # fmt: skip
        assert made.ids[:start] == prompt
        text = theirs.decode(made.ids[start:end])
        assert str(turns[number]["content"])[-2:] in text
        assert text.strip().endswith(("</s>", "<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|END_OF_TURN_TOKEN|>"))


def test_what_stands_behind_the_last_turn_alone_costs_no_answer(built: Built) -> None:
    """Phi-3's form writes the end of text behind whatever it is given; its <|end|> takes the line's end along."""
    _, tokenizer = built
    template = Template(TEMPLATES["phi-3"][0], Specials("<s>", "</s>"), "phi-3")
    made = ours(template, row_of(CONVERSATIONS[SYSTEM], None), tokenizer)
    ends = [tokenizer.added_tokens[mark] for mark in ("<|end|>", "</s>")]
    assert [made.ids[end - 1] for _, end, _ in made.spans] == ends
    assert all(made.ids[start - 1] == tokenizer.added_tokens["<|assistant|>"] for start, *_ in made.spans)


def test_the_day_can_be_fixed() -> None:
    source = "{{ strftime_now('%d %b %Y') }}"
    fixed = Template(source, Specials(), "t", now="2024-07-26T00:00:00")
    assert fixed.render([Message("user", "")], prompt=False, where="d") == "26 Jul 2024"
    assert fixed.dated
    today = Template(source, Specials(), "t").render([Message("user", "")], prompt=False, where="d")
    assert today == datetime.datetime.now().strftime("%d %b %Y")
