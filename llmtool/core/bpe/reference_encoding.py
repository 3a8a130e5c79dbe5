"""What a tokenizer does with a text, by definition: slow, literal, and what the fast forms must agree with.

The rules are those of `tokenizers` 0.23, for any definition: cut at the raw added tokens, normalize what lies
between, cut at the normalized ones, cut each segment into pieces, and merge each piece.
"""

from collections.abc import Iterator

from llmtool.core.bpe.added_tokens import AddedToken, find, search_order
from llmtool.core.bpe.decoders import decode_tokens
from llmtool.core.bpe.definition import Definition
from llmtool.core.bpe.normalizers import normalize, symbols_of
from llmtool.core.bpe.pretokenizers import byte_pieces
from llmtool.core.bpe.reference import encode_piece
from llmtool.core.run.errors import UserError


def encode(definition: Definition, text: str, allow_special: bool = False) -> list[int]:
    """Ids of a text. Special tokens in it are plain text unless they are allowed; the other added tokens match."""
    ids: list[int] = []
    raw, normalized = searches(definition)
    for start, segment in _cut(text, raw, allow_special):
        if isinstance(segment, AddedToken):
            ids.append(segment.id)
            continue
        for place, part in _cut(normalize(segment, definition.normalizer), normalized, allow_special):
            if isinstance(part, AddedToken):
                ids.append(part.id)
                continue
            for piece in byte_pieces(part, definition.pretokenizer_steps, at_start=start == 0 and place == 0):
                ids += model_ids(definition, piece)
    return ids


def searches(definition: Definition) -> tuple[dict[str, AddedToken], dict[str, AddedToken]]:
    """The tokens of the two searches, by their content as it is searched."""
    raw: dict[str, AddedToken] = {}
    normalized: dict[str, AddedToken] = {}
    symbols = symbols_of(definition.normalizer)
    for token in search_order(definition.vocabulary.added):
        if token.content in symbols:
            normalized.setdefault(token.content, token)
        elif token.normalized:
            normalized.setdefault(normalize(token.content, definition.normalizer), token)
        else:
            raw.setdefault(token.content, token)
    return raw, normalized


def _cut(text: str, tokens: dict[str, AddedToken], allow_special: bool) -> Iterator[tuple[int, str | AddedToken]]:
    """(place, token or what lies between two of them)."""
    end = 0
    for match in find(text, tokens, allow_special):
        if match.start > end:
            yield end, text[end : match.start]
        yield match.start, match.token
        end = match.end
    if end < len(text):
        yield end, text[end:]


def model_ids(definition: Definition, piece: bytes) -> list[int]:
    """Ids of a piece: unknown symbols stand for themselves, what lies between two of them is merged."""
    vocabulary = definition.vocabulary
    unknown = vocabulary.unknown
    if definition.ignore_merges and piece in vocabulary.unit_of:
        return list(vocabulary.emit[vocabulary.unit_of[piece]])
    ids: list[int] = []
    known: list[int] = []
    waiting = False  # an unknown token is written before the next known symbol, or at the end

    def end_run() -> None:
        ids.extend(i for unit in encode_piece(known, vocabulary.merges) for i in vocabulary.emit[unit])
        known.clear()

    def end_waiting() -> None:
        nonlocal waiting
        if waiting:
            if unknown.id is None:
                raise UserError(f"the unknown token {unknown.token!r} is not in the vocabulary, and a text needs it")
            ids.append(unknown.id)
        waiting = False

    for symbol in vocabulary.symbols(piece):
        unit = vocabulary.unit_of.get(symbol)
        if unit is not None:
            if waiting:
                end_run()
            end_waiting()
            known.append(unit)
        elif unknown.byte_fallback and all(byte in unknown.byte_ids for byte in symbol):
            end_run()
            ids.extend(unknown.byte_ids[byte] for byte in symbol)
        elif unknown.token is not None:
            end_run()
            if not unknown.fuse:
                end_waiting()
            waiting = True
        # else the symbol is dropped, and its neighbours meet
    end_run()
    end_waiting()
    return ids


def model_units(definition: Definition, piece: bytes) -> list[list[int]]:
    """Units of a piece, in runs: what an unknown symbol is written as lies between two of them."""
    vocabulary = definition.vocabulary
    if definition.ignore_merges and piece in vocabulary.unit_of:
        return [[vocabulary.unit_of[piece]]]
    unknown = vocabulary.unknown
    runs: list[list[int]] = [[]]
    for symbol in vocabulary.symbols(piece):
        if symbol in vocabulary.unit_of:
            runs[-1].append(vocabulary.unit_of[symbol])
        elif unknown.token is not None or (unknown.byte_fallback and all(byte in unknown.byte_ids for byte in symbol)):
            runs.append([])
    return [encode_piece(run, vocabulary.merges) for run in runs if run]


def decode(definition: Definition, ids: list[int], skip_special: bool = False) -> str:
    """The text of ids as `tokenizers` decodes them: ids that are none are skipped, undecodable bytes are U+FFFD.

    skip_special drops by text: also a token of the model that is spelled like a special one.
    """
    vocabulary = definition.vocabulary
    tokens = [definition.spellings[number] for number in ids if number in definition.spellings]
    if skip_special:
        tokens = [token for token in tokens if token not in vocabulary.special]
    return decode_tokens(tokens, definition.decoder)
