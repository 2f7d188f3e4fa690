"""CLIP's tokenizer from a folder: its vocabulary, its merges, its special and added tokens, and nothing else.

What splits a text and what joins tokens is CLIP's and in the class. A folder may bring rules of its own, regular
expressions among them that take hours or gigabytes, templates of chats, and names of other files; they are not read.
"""

import json
import math
import tempfile
from pathlib import Path
from typing import Any

from transformers import CLIPTokenizer

from sfumato.errors import BadInput
from sfumato.files import printable
from sfumato.libraries import quiet
from sfumato.networks.configs import MOST, read_table
from sfumato.networks.load import readable
from sfumato.networks.places import GIVE, has, model_file
from sfumato.text_files import read_text

#: Tokens beside the vocabulary (textual inversions, for example), and characters of one of them.
MOST_ADDED, _CHARACTERS = 10_000, 1000
_SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token")
_SEVERAL = ("additional_special_tokens", "extra_special_tokens")
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


def read_tokenizer(folder: Path, root: Path | None = None) -> CLIPTokenizer:
    """The CLIP tokenizer in a folder; one of two tokens where its vocabulary is missing.

    Args:
        folder: with tokenizer.json, or vocab.json and merges.txt.
        root: the model folder that the user named, where `folder` is a part of it.

    Raises:
        BadInput: a file that cannot be read, leads elsewhere, or is no part of such a tokenizer.
    """
    root = root or folder
    problem = f"{printable(folder)} has no CLIP tokenizer that can be read"
    with readable(problem), quiet(), tempfile.TemporaryDirectory(prefix="sfumato-") as clean:
        for file, read in _FILES.items():
            if has(folder / file):
                (Path(clean) / file).write_text(read(folder / file, root), encoding="utf-8")
        tokenizer = CLIPTokenizer.from_pretrained(clean, local_files_only=True, trust_remote_code=False)
    tokenizer.name_or_path = tokenizer.init_kwargs["name_or_path"] = str(folder)
    return tokenizer


def _whole(path: Path, root: Path) -> str:
    """tokenizer.json with its vocabulary, merges and added tokens alone."""
    table = read_table(path, root)
    model, added = table.get("model"), table.get("added_tokens") or []
    if not isinstance(model, dict) or not isinstance(added, list):
        raise _wrong(path, "must hold a model and a list of added_tokens")
    bpe = {"vocab": _numbers(path, model.get("vocab")), "merges": _merges(path, model.get("merges"))}
    tokens = [_token(path, each) | {"id": _number(path, each.get("id"))} for each in _few(path, added)]
    rules = dict.fromkeys(("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder"))
    return json.dumps({"version": "1.0", "added_tokens": tokens, **rules, "model": {"type": "BPE", **bpe}})


def _vocabulary(path: Path, root: Path) -> str:
    """vocab.json, and added_tokens.json: tokens and their numbers."""
    return json.dumps(_numbers(path, read_table(path, root)))


def _settings(path: Path, root: Path) -> str:
    """tokenizer_config.json, and special_tokens_map.json: the special tokens, the context and the padding's side."""
    table = read_table(path, root)
    kept = {name: _token_or_text(path, table[name]) for name in _SPECIAL if table.get(name) is not None}
    for name in _SEVERAL:
        if isinstance(table.get(name), list):
            kept[name] = [_token_or_text(path, each) for each in _few(path, table[name])]
    if isinstance(added := table.get("added_tokens_decoder"), dict):
        kept["added_tokens_decoder"] = {
            str(_number(path, int(number))): _token(path, each) for number, each in _few(path, added).items()
        }
    if table.get("model_max_length") is not None:
        kept["model_max_length"] = _context(path, table["model_max_length"])
    kept |= {side: table[side] for side in ("padding_side", "truncation_side") if table.get(side) in ("left", "right")}
    return json.dumps(kept)


def _merge_lines(path: Path, root: Path) -> str:
    """merges.txt."""
    model_file(path, root)
    return read_text(path, GIVE)


_FILES = {
    "tokenizer.json": _whole,
    "vocab.json": _vocabulary,
    "merges.txt": _merge_lines,
    "added_tokens.json": _vocabulary,
    "tokenizer_config.json": _settings,
    "special_tokens_map.json": _settings,
}


def _numbers(path: Path, tokens: Any) -> dict[str, int]:
    if isinstance(tokens, dict):
        return {token: _number(path, number) for token, number in tokens.items()}
    raise _wrong(path, "must give every token of its vocabulary a number")


def _number(path: Path, number: Any) -> int:
    if isinstance(number, int) and not isinstance(number, bool) and 0 <= number <= MOST:
        return number
    raise _wrong(path, f"must give tokens numbers from 0 to {MOST:,}")


def _merges(path: Path, merges: Any) -> list[Any]:
    """Pairs, each two texts or, in older files, one text with a space between."""
    if isinstance(merges, list) and all(
        isinstance(each, str) or (isinstance(each, list) and len(each) == 2 and all(isinstance(p, str) for p in each))
        for each in merges
    ):
        return merges
    raise _wrong(path, "must hold merges as a list of pairs of texts")


def _few(path: Path, tokens: Any) -> Any:
    if len(tokens) <= MOST_ADDED:
        return tokens
    raise _wrong(path, f"must not add more than {MOST_ADDED:,} tokens")


def _token_or_text(path: Path, token: Any) -> Any:
    if isinstance(token, str) and len(token) <= _CHARACTERS:
        return token
    return _token(path, token) | {"__type": "AddedToken"}


def _token(path: Path, token: Any) -> dict[str, Any]:
    content = token.get("content") if isinstance(token, dict) else None
    if isinstance(content, str) and 0 < len(content) <= _CHARACTERS:
        return {"content": content} | {name: token[name] for name in _FLAGS if isinstance(token.get(name), bool)}
    raise _wrong(path, f"must hold special and added tokens as texts of at most {_CHARACTERS} characters")


def _context(path: Path, length: Any) -> int | float:
    """The most tokens of a text; 1e30 where a tokenizer has no limit of its own."""
    if isinstance(length, int | float) and not isinstance(length, bool) and math.isfinite(length) and length >= 3:
        return length
    raise _wrong(path, "must have a model_max_length of at least 3")


def _wrong(path: Path, what: str) -> BadInput:
    return BadInput(f"{printable(path)} {what}: {GIVE}.")
