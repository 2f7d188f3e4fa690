"""Differences between the weights that the configuration of a network describes and those in its files."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel

from sfumato.networks.weights import Weights

Shape = tuple[int, ...]
#: Buffer in files of older versions of transformers.
_POSITIONS = "position_ids"


@dataclass(frozen=True)
class Differences:
    """Differences between a network and its files.

    Attributes:
        missing: names of weights of the network that the files lack.
        unexpected: names of weights in the files that the network lacks, without `harmless` ones.
        reshaped: name, shape in the network and shape in the files of weights whose shapes differ.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    reshaped: tuple[tuple[str, Shape, Shape], ...]

    @property
    def clause(self) -> str:
        """A description of the first difference, with "the configuration" and "the file"; "" if there is none."""
        if self.reshaped:
            name, ours, theirs = self.reshaped[0]
            return f"{name:.200} has the shape {list(ours)} in the configuration and {list(theirs)} in the file"
        if self.missing:
            return f"the file lacks {_some(self.missing)} of the configuration"
        return f"the configuration lacks {_some(self.unexpected)} of the file" if self.unexpected else ""


def compare(network: Any, found: Mapping[str, Shape]) -> Differences:
    """Compare a network, which may be on the meta device, with the shapes of the weights in its files.

    Args:
        network: a network of diffusers or transformers.
        found: shape of every weight in the files, by its name in the network.
    """
    wanted = {name: tuple(weight.shape) for name, weight in network.state_dict().items()}
    return Differences(
        tuple(name for name in wanted if name not in found),
        without_harmless(network, (name for name in found if name not in wanted)),
        tuple((name, shape, found[name]) for name, shape in wanted.items() if found.get(name, shape) != shape),
    )


def renamed(network: Any, weights: Weights) -> Mapping[str, Shape]:
    """The shapes of the weights of a diffusers network; names of old attention layers are replaced as in diffusers.

    Files of old versions contain "query", "key", "value" and "proj_attn" in place of "to_q", "to_k", "to_v" and
    "to_out.0". diffusers replaces these names only in weights in one file.
    """
    if len(weights.files) > 1:
        return weights.shapes
    names: dict[str, Shape] = dict(weights.shapes)
    network._fix_state_dict_keys_on_load(names)
    return names


def without_harmless(network: Any, unexpected: Iterable[str]) -> tuple[str, ...]:
    """Unexpected weights without those that a network may ignore.

    These are position ids, those that its class lists, and for transformers the modules that the network does not have
    at all: the head of a classifier, or the other encoder of a CLIP.
    """
    ignored = [re.compile(each) for each in getattr(network, "_keys_to_ignore_on_load_unexpected", None) or ()]
    names = [
        name
        for name in unexpected
        if not name.endswith(_POSITIONS) and not any(pattern.search(name) for pattern in ignored)
    ]
    if isinstance(network, PreTrainedModel):
        base = f"{network.base_model_prefix}."
        inside = [*dict(network.named_modules()), *network.state_dict()]
        modules = {name.removeprefix(base).split(".")[0] for name in inside}
        names = [name for name in names if name.removeprefix(base).split(".")[0] in modules]
    return tuple(sorted(names))


def _some(names: Collection[str]) -> str:
    first = next(iter(names))
    return f"the weight {first:.200}" if len(names) == 1 else f"{len(names)} weights, such as {first:.200},"
