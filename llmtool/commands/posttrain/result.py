"""The files of the finished model beside its weights: the tokenizer, the template and the end that were trained."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llmtool.commands.train.start import tokenizer_files
from llmtool.core.bpe.definition_file import from_json, serialize
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.errors import UserError
from llmtool.core.run.json_file import dumps, parse_json

if TYPE_CHECKING:
    from llmtool.commands.posttrain.data import Reader
    from llmtool.commands.posttrain.start import Start
    from llmtool.core.train.sft.examples import Counts

TEMPLATE, FURTHER, OWN = "chat_template.jinja", "additional_chat_templates/", "llmtool.json"
SETTINGS, NAMED, GENERATION = "tokenizer_config.json", "special_tokens_map.json", "generation_config.json"
OF_THE_MODEL = (GENERATION, "LICENSE", "NOTICE", "USE_POLICY")
"""Files that stay whatever the tokenizer."""


@dataclass(frozen=True)
class Result:
    """config.json and the other files; `said`: what of them is new, for people."""

    raw: dict[str, Any]
    files: dict[str, bytes]
    said: tuple[str, ...] = ()


def result(start: "Start", reader: "Reader", counts: "Counts", *, foreign: bool) -> Result:
    """foreign: the tokenizer is not the checkpoint's own."""
    files = dict(start.files())
    if foreign:
        kept = {name: content for name, content in files.items() if name.startswith(OF_THE_MODEL)}
        files = {**tokenizer_files(reader.tokenizer, None), **kept}
        if reader.template is not None:
            files = with_template(files, reader.template.source)
            names = {name: source for name, source in reader.template.sources.items() if name != "default"}
            files |= {f"{FURTHER}{name}.jinja": source.encode() for name, source in names.items()}
    said = []
    if reader.options.template is not None and reader.template is not None:
        files = with_template(files, reader.template.source)
        said.append(f"the chat template of the result is {reader.template.where}")
    raw, ending = start.raw, counts.ending
    stops = stops_of(files, raw)
    if ending is not None and ending not in stops:
        text = reader.tokenizer.definition.vocabulary.spellings[ending]
        raw, files = with_end(raw, files, ending, text, stops)
        said.append(f"answers end with {text!r} (id {ending}), at which the model did not stop: the result does")
    return Result(raw, files, tuple(said))


def with_template(files: dict[str, bytes], source: str) -> dict[str, bytes]:
    """The one template, wherever a tokenizer's files have theirs."""
    changed = {name: content for name, content in files.items() if not name.startswith(FURTHER)}
    if SETTINGS in changed and "chat_template" in (facts := _object(changed, SETTINGS)):
        changed[SETTINGS] = _written({**facts, "chat_template": source})
    if OWN in changed:
        own = from_json(_object(changed, OWN), OWN)
        beside = replace(own.beside, templates={})
        changed[OWN] = serialize(replace(own, chat_template=source, beside=beside))
    return {**changed, TEMPLATE: source.encode()}


def stops_of(files: dict[str, bytes], raw: dict[str, Any]) -> list[int]:
    """Ids that end a text, as the model's users find them."""
    defaults = _object(files, GENERATION) if GENERATION in files else {}
    eos = raw.get("eos_token_id") if defaults.get("eos_token_id") is None else defaults["eos_token_id"]
    return list(eos) if isinstance(eos, list) else [] if eos is None else [eos]


def with_end(
    raw: dict[str, Any], files: dict[str, bytes], ending: int, text: str, stops: list[int]
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The id and the text of what ends an answer, before what ended one until now."""
    changed = dict(files)
    ids: int | list[int] = [ending, *stops] if stops else ending
    defaults = _object(files, GENERATION) if GENERATION in files else {}
    changed[GENERATION] = _written({**defaults, "eos_token_id": ids})
    for name in (SETTINGS, NAMED):
        if name in files and (facts := _object(files, name)).get("eos_token") is not None:
            before = facts["eos_token"]
            facts["eos_token"] = {**before, "content": text} if isinstance(before, dict) else text
            changed[name] = _written(facts)
    if OWN in files:
        changed[OWN] = serialize(replace(from_json(_object(files, OWN), OWN), eos=text))
    return {**raw, "eos_token_id": ending}, changed


def _written(facts: dict[str, Any]) -> bytes:
    return dumps(facts, indent=2, ensure_ascii=False).encode() + b"\n"


def _object(files: Mapping[str, bytes], name: str) -> dict[str, Any]:
    """The object in one of the files."""
    try:
        facts = parse_json(files[name])
    except ValueError as error:
        raise UserError(f"not JSON: {error}", where=name) from None
    if not isinstance(facts, dict):
        raise UserError("not a JSON object", where=name)
    return facts
