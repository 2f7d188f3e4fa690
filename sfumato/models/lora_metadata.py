r"""alpha in the metadata of LoRA files written by diffusers, including per-layer values (alpha_pattern).

PEFT gives a layer the alpha of the first pattern p for which the regular expression "(.*\.)?(p)$" matches its name. A
regular expression from an untrusted file can take exponential time in Python's `re`. It is therefore evaluated by RE2
in pyarrow, whose time is linear in the length of the names. Most patterns are plain names, which are looked up instead.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sfumato.errors import BadInput

KEY = "lora_adapter_metadata"
_PARTS = ("unet", "text_encoder", "text_encoder_2")
_LONGEST = 200
"""Largest number of characters of a pattern."""
_MOST_WORK = 50_000_000
"""Largest product of the total lengths of all expressions and of all names; matching then takes seconds."""
_PLAIN = re.compile(r"[\w.-]+", re.ASCII)
_EXPRESSION = re.compile(r"(?:[\w.:|()\[\]^$*+?-]|\\[.dDwW])+", re.ASCII)


class AdapterMetadata:
    """The factor alpha / r of every layer of a file.

    Args:
        file: name of the file, for messages.
        metadata: metadata of the file.
        layers: names of its layers, with the part of the pipeline ("unet.conv_in").

    Raises:
        BadInput: the metadata are damaged, or a pattern is not supported.
    """

    def __init__(self, file: str, metadata: Mapping[str, str], layers: Sequence[str]) -> None:
        try:
            self._table: Mapping[str, Any] = dict(json.loads(metadata.get(KEY, "{}")))
        except (TypeError, ValueError, RecursionError) as error:
            raise BadInput(f"{file} is damaged: its metadata cannot be read; download it again.") from error
        self._alphas: dict[str, Any] = {}
        for part in _PARTS:
            names = [layer.removeprefix(f"{part}.") for layer in layers if layer.startswith(f"{part}.")]
            patterns = self._table.get(f"{part}.alpha_pattern") or {}
            if not isinstance(patterns, dict):
                raise BadInput(f"{file} is damaged: alpha_pattern in its metadata is no table; download it again.")
            self._alphas |= {f"{part}.{name}": patterns[each] for name, each in first_matches(patterns, names, file)}

    def factor(self, layer: str, rank: int) -> float:
        """alpha / r, or alpha / sqrt(r) for rank-stabilised LoRAs (arXiv 2312.03732); 1 if the file states no alpha.

        NaN if alpha is not a number.
        """
        part = layer.partition(".")[0]
        alpha = self._alphas.get(layer, self._table.get(f"{part}.lora_alpha", rank))
        if not isinstance(alpha, int | float) or not abs(alpha) < 1e30:
            return math.nan
        return alpha / (math.sqrt(max(1, rank)) if self._table.get(f"{part}.use_rslora") else max(1, rank))


def first_matches(patterns: Mapping[str, Any], names: Sequence[str], file: str) -> Iterator[tuple[str, str]]:
    """The names that match a pattern, each with the first that it matches.

    Args:
        patterns: the patterns, in their order. In patterns without regular expression operators, "." is a literal dot.
        names: names of layers.
        file: name of the file, for messages.

    Raises:
        BadInput: a pattern uses anything but literals, ".", character classes, groups, "|", "*", "+" and "?", is too
            long, or there are too many patterns.
    """
    order = {pattern: place for place, pattern in enumerate(patterns)}
    first: dict[str, list[int]] = {}
    for name in names:
        parts = name.split(".")
        endings = (".".join(parts[n:]) for n in range(len(parts)))
        first[name] = [order[each] for each in endings if each in order and _PLAIN.fullmatch(each)]
    expressions = [pattern for pattern in patterns if not _PLAIN.fullmatch(pattern)]
    for pattern in _checked(expressions, names, file):
        for name in _matching(pattern, names, file):
            first[name].append(order[pattern])
    inverse = list(patterns)
    return ((name, inverse[min(places)]) for name, places in first.items() if places)


def _checked(expressions: Sequence[str], names: Sequence[str], file: str) -> Sequence[str]:
    for each in expressions:
        if len(each) > _LONGEST or not _EXPRESSION.fullmatch(each):
            raise _unsupported(each, file)
    if sum(map(len, expressions)) * sum(map(len, names)) > _MOST_WORK:
        raise BadInput(
            f"{file} has {len(expressions):,} expressions in the alpha_pattern of its metadata for {len(names):,} "
            "layers, which is more than is supported: save the LoRA with the alpha of every layer."
        )
    return expressions


def _matching(pattern: str, names: Sequence[str], file: str) -> list[str]:
    # imported here because few files have expressions
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        found = pc.match_substring_regex(pa.array(names, pa.string()), rf"^(?:.*\.)?(?:{pattern})$")
    except pa.ArrowInvalid as error:
        raise _unsupported(pattern, file) from error
    return [name for name, matches in zip(names, found.to_pylist(), strict=True) if matches]


def _unsupported(pattern: str, file: str) -> BadInput:
    return BadInput(
        f"{file} has the expression {pattern!r:.100} in the alpha_pattern of its metadata, which is not supported: "
        "save the LoRA with the alpha of every layer."
    )
