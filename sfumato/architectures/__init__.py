"""Configurations of the published Stable Diffusion models, for checkpoints in one file. Imports no large library.

The JSON files describe the networks of Stable Diffusion 1.x, 2.x and XL; the tokenizer is CLIP's, which all of them
use. Its merges are those of OpenAI's CLIP (MIT, THIRD_PARTY.md), from which the vocabulary follows.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
START, END = "<|startoftext|>", "<|endoftext|>"
_CONTEXT = 77
_BYTES = 256


@dataclass(frozen=True)
class Architecture:
    """A published architecture.

    Attributes:
        name: name of its folder.
        words: its name in messages.
        text: beginning of the names of the weights of its last text encoder.
        layer: name of a weight of the U-Net that reads the tokens.
        width: width of the tokens.
        pads: padding token of every tokenizer, by the name of its part.
    """

    name: str
    words: str
    text: str
    layer: str
    width: int
    pads: Mapping[str, str]

    def fits(self, shapes: Mapping[str, tuple[int, ...]]) -> bool:
        """Whether weights of these names and shapes are those of the architecture."""
        return self._reads(shapes) and any(name.startswith(self.text) for name in shapes)

    def _reads(self, shapes: Mapping[str, tuple[int, ...]]) -> bool:
        return shapes.get(f"model.diffusion_model.{self.layer}", ())[1:] == (self.width,)

    @contextmanager
    def staged(self) -> Iterator[Path]:
        """A temporary folder with the configurations and the tokenizers, as the pipelines of diffusers have them."""
        with tempfile.TemporaryDirectory(prefix="sfumato-") as place:
            folder = Path(place) / self.name
            shutil.copytree(FOLDER / self.name, folder)
            merges = (FOLDER / "tokenizer" / "merges.txt").read_text(encoding="utf-8")
            for part, pad in self.pads.items():
                (folder / part).mkdir()
                (folder / part / "merges.txt").write_text(merges, encoding="utf-8")
                (folder / part / "vocab.json").write_text(json.dumps(vocabulary(merges)), encoding="utf-8")
                special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": pad}
                settings = special | {"model_max_length": _CONTEXT}
                (folder / part / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
            yield folder


ARCHITECTURES = (
    Architecture(
        "sd1",
        "Stable Diffusion 1.x",
        "cond_stage_model.transformer.",
        "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight",
        768,
        {"tokenizer": END},
    ),
    Architecture(
        "sd2",
        "Stable Diffusion 2.x",
        "cond_stage_model.model.",
        "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight",
        1024,
        {"tokenizer": "!"},
    ),
    Architecture(
        "sdxl",
        "Stable Diffusion XL",
        "conditioner.embedders.1.model.",
        "input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight",
        2048,
        {"tokenizer": END, "tokenizer_2": "!"},
    ),
)


def architecture_of(shapes: Mapping[str, tuple[int, ...]]) -> Architecture | None:
    """The published architecture of a checkpoint in one file, from the names and shapes of its weights; or None."""
    return next((each for each in ARCHITECTURES if each.fits(shapes)), None)


def vocabulary(merges: str) -> dict[str, int]:
    """The ids of CLIP's tokens: the bytes, the bytes at the end of a word, the merges in order, start and end."""
    letters = [*map(chr, _printable()), *(chr(_BYTES + n) for n in range(_BYTES - len(_printable())))]
    pairs = [line.replace(" ", "") for line in merges.splitlines()[1:]]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *pairs, START, END]
    return {token: number for number, token in enumerate(tokens)}


def _printable() -> list[int]:
    """The bytes that byte-level tokenizers write as themselves; the others are written as characters from 256 on."""
    return [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
