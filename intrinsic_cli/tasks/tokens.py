"""Texts as token ids, in which nothing that a text says is a control token.

A row that spells `</s>` or `[SEP]` speaks of it and does not end there. Tokenizers are told to split such words;
those whose vocabulary holds them as plain pieces (SentencePiece's) get them with a space behind the first letter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from intrinsic_cli.errors import ConfigError, DataError, ModelError, is_failure


def check_length(tokenizer: Any, max_length: int) -> None:
    """Raise ConfigError where rows may have more tokens than the model reads."""
    if max_length > (most := tokenizer.model_max_length):
        raise ConfigError(
            f"data.max_length={max_length} is above the {most} tokens the model reads; set data.max_length={most}"
        )


def encode(
    tokenizer: Any, texts: Sequence[str], pairs: Sequence[str] | None, max_length: int
) -> Mapping[str, list[list[int]]]:
    """`input_ids` and, where the tokenizer makes them, `token_type_ids` of each row, cut to `max_length` tokens.

    Raises ModelError where the tokenizer fails, and DataError at a row that spells a control token after all.
    """
    rows = _call(tokenizer, texts, pairs, max_length)
    control = control_tokens(tokenizer)
    probe = _call(tokenizer, ["a"], None if pairs is None else ["a"], max_length)
    wanted = _count(probe["input_ids"][0], control)
    for row in [i for i, ids in enumerate(rows["input_ids"]) if _count(ids, control) != wanted]:
        text, pair = texts[row], None if pairs is None else pairs[row]
        for normal in (False, True):
            spelled = [
                _spelled_out(tokenizer, side, control, normal=normal)
                for side in (text, pair)
                if side is not None
            ]
            one = _call(tokenizer, spelled[:1], spelled[1:] or None, max_length)
            if _count(one["input_ids"][0], control) == wanted:
                break
        else:
            raise spells_control(text)
        for key in rows:
            rows[key][row] = one[key][0]
    return rows


def spells_control(text: str) -> DataError:
    """The error at a row of which a tokenizer makes a control token, whatever it is told."""
    return DataError(f"the row {text!r:.60} spells a control token of the tokenizer; take it out of the text")


def control_tokens(tokenizer: Any) -> dict[int, str]:
    """Ids and spelling of the tokens that mean something to the model, less the one for unknown words."""
    known = {i: str(token) for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    known |= dict(zip(tokenizer.all_special_ids, map(str, tokenizer.all_special_tokens), strict=True))
    others = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.sep_token_id, tokenizer.cls_token_id)
    if tokenizer.unk_token_id not in others:
        known.pop(tokenizer.unk_token_id, None)
    return known


def _call(
    tokenizer: Any, texts: Sequence[str], pairs: Sequence[str] | None, max_length: int
) -> dict[str, Any]:
    try:
        rows = tokenizer(
            list(texts), None if pairs is None else list(pairs), truncation=True, max_length=max_length,
            return_attention_mask=False, split_special_tokens=True,
        )  # fmt: skip
    except BaseException as error:  # a tokenizer passes on whatever its parts raise
        if not is_failure(error):
            raise
        raise ModelError(
            f"the tokenizer can't read the rows: {type(error).__name__}: {error}; save its files again"
        ) from error
    return {key: rows[key] for key in ("input_ids", "token_type_ids") if key in rows}


def _count(ids: Sequence[int], control: Mapping[int, str]) -> int:
    return len([token for token in ids if token in control])


def _spelled_out(tokenizer: Any, text: str, control: Mapping[int, str], *, normal: bool) -> str:
    """`text` with a space behind the first letter of every control token that it spells, `normal`ized before."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if normal and backend is not None and backend.normalizer is not None:
        text = backend.normalizer.normalize_str(text)
    for word in sorted(control.values(), key=len, reverse=True):
        if word:
            text = text.replace(word, f"{word[0]} {word[1:]}")
    return text
