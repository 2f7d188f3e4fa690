"""Load CLIP's tokenizer from a folder: only its vocabulary, merges, special tokens and added tokens.

Normalizer, pre-tokenizer and decoder are those of the class. Those in the folder are ignored, because they may contain
regular expressions that take hours or gigabytes; so are chat templates and names of other files.
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
from sfumato.networks.configs import MOST
from sfumato.networks.load import readable
from sfumato.networks.places import GIVE, has, model_file
from sfumato.networks.tables import read_table
from sfumato.text_files import read_text

#: Limits: number of added tokens (textual inversions, for example), and characters per token.
MOST_ADDED, _CHARACTERS = 10_000, 1000
_SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token")
_SEVERAL = ("additional_special_tokens", "extra_special_tokens")
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


def read_tokenizer(folder: Path, root: Path | None = None) -> CLIPTokenizer:
    """Load the CLIP tokenizer in a folder. If there is no vocabulary, the tokenizer has only two (special) tokens.

    Args:
        folder: a folder with tokenizer.json, or with vocab.json and merges.txt.
        root: the model folder that the user named, if `folder` is a part of it.

    Raises:
        BadInput: a file cannot be read, links to the outside, or does not belong to a CLIP tokenizer.
    """
    root = root or folder
    problem = f"The CLIP tokenizer in {printable(folder)} cannot be read"
    with readable(problem), quiet(), tempfile.TemporaryDirectory(prefix="sfumato-") as clean:
        for file, read in _FILES.items():
            if has(folder / file):
                (Path(clean) / file).write_text(read(folder / file, root), encoding="utf-8")
        tokenizer = CLIPTokenizer.from_pretrained(clean, local_files_only=True, trust_remote_code=False)
    tokenizer.name_or_path = tokenizer.init_kwargs["name_or_path"] = str(folder)
    return tokenizer


def _tokenizer_json(path: Path, root: Path) -> str:
    """tokenizer.json, reduced to vocabulary, merges and added tokens."""
    table = read_table(path, root)
    model, added = table.get("model"), table.get("added_tokens") or []
    if not isinstance(model, dict) or not isinstance(added, list):
        raise _wrong(path, "must contain a model and a list of added_tokens")
    bpe = {"vocab": _numbers(path, model.get("vocab")), "merges": _merges(path, model.get("merges"))}
    tokens = [_token(path, each) | {"id": _number(path, each.get("id"))} for each in _few(path, added)]
    rules = dict.fromkeys(("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder"))
    return json.dumps({"version": "1.0", "added_tokens": tokens, **rules, "model": {"type": "BPE", **bpe}})


def _vocabulary(path: Path, root: Path) -> str:
    """vocab.json or added_tokens.json: tokens and their ids."""
    return json.dumps(_numbers(path, read_table(path, root)))


def _settings(path: Path, root: Path) -> str:
    """tokenizer_config.json or special_tokens_map.json, reduced to special tokens, context length and padding side."""
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
    "tokenizer.json": _tokenizer_json,
    "vocab.json": _vocabulary,
    "merges.txt": _merge_lines,
    "added_tokens.json": _vocabulary,
    "tokenizer_config.json": _settings,
    "special_tokens_map.json": _settings,
}


def _numbers(path: Path, tokens: Any) -> dict[str, int]:
    if isinstance(tokens, dict):
        return {token: _number(path, number) for token, number in tokens.items()}
    raise _wrong(path, "must map every token of its vocabulary to an id")


def _number(path: Path, number: Any) -> int:
    if isinstance(number, int) and not isinstance(number, bool) and 0 <= number <= MOST:
        return number
    raise _wrong(path, f"must have token ids from 0 to {MOST:,}")


def _merges(path: Path, merges: Any) -> list[Any]:
    """Check that merges are pairs of strings or, in older files, single strings with a space."""
    if isinstance(merges, list) and all(
        isinstance(each, str) or (isinstance(each, list) and len(each) == 2 and all(isinstance(p, str) for p in each))
        for each in merges
    ):
        return merges
    raise _wrong(path, "must contain merges as a list of pairs of strings")


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
    raise _wrong(path, f"must contain special and added tokens as strings of at most {_CHARACTERS} characters")


def _context(path: Path, length: Any) -> int | float:
    """Check model_max_length; it is 1e30 for tokenizers without a limit."""
    if isinstance(length, int | float) and not isinstance(length, bool) and math.isfinite(length) and length >= 3:
        return length
    raise _wrong(path, "must have a model_max_length of at least 3")


def _wrong(path: Path, what: str) -> BadInput:
    return BadInput(f"{printable(path)} {what}: {GIVE}.")
