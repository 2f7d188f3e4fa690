"""Names of the tensors in LoRA and textual inversion files, checked without importing torch.

LoRAs have two families of names: those of diffusers and PEFT ("unet.mid_block.attentions.0.proj_in.lora_A.weight", and
".lora.down.", "_lora.down." and ".lora_linear_layer.down." in older files), and those of kohya-ss
("lora_unet_mid_block_attentions_0_proj_in.lora_down.weight", for SDXL with the names of the original U-Net).

Textual inversions are of three kinds: one tensor under the word itself (diffusers), one tensor "emb_params", and
the tensors "clip_l" and "clip_g" for the two text encoders of SDXL. The last two do not contain the word; by default it
is the name of the file, as in the tools that write them.
"""

import re
from pathlib import Path

from sfumato.errors import BadInput
from sfumato.files import printable
from sfumato.networks.weights import single_file_weights

_PART = re.compile(
    r"(?P<layer>.+?)[._](?P<down>lora_down|lora_A|lora\.down|lora_linear_layer\.down)(?:\.default)?\.weight"
    r"|(?P<layer_>.+?)[._](?:lora_up|lora_B|lora\.up|lora_linear_layer\.up)(?:\.default)?\.weight"
    r"|(?P<alpha>.+)\.alpha"
)
#: Substrings of tensor names that occur only in files of other adapter types.
_OTHERS = {
    "hada_w": "a LoHa",
    "lokr_w": "a LoKr",
    "dora_scale": "a DoRA",
    "lora_magnitude_vector": "a DoRA",
    "lora_mid": "a LoCon with Tucker decomposition",
    ".oft_": "an OFT adapter",
    "base_model.model.": "an adapter of PEFT without its configuration",
}
_LONGEST = 300
"""Largest number of characters of a tensor's name."""
MOST_VECTORS = 75
"""Largest number of vectors of a word: the number of text tokens in CLIP's context."""
_NAMELESS = ({"emb_params"}, {"clip_l", "clip_g"})


def lora_parts(path: Path) -> dict[str, dict[str, str]]:
    """Read the names of the matrices of a LoRA.

    Returns:
        For every layer of the file, the names of its tensors by kind: "down", "up" and possibly "alpha".

    Raises:
        BadInput: the file is not a LoRA, is of an unsupported kind or is incomplete.
    """
    name = printable(path)
    names = list(single_file_weights(path).shapes)
    for mark, what in _OTHERS.items():
        if any(mark in each for each in names):
            raise BadInput(f"{name} is {what}, which is not supported: fuse it into a copy of its model with its tool.")
    parts: dict[str, dict[str, str]] = {}
    for each in names:
        found = _PART.fullmatch(each)
        if found is None or len(each) > _LONGEST:
            raise BadInput(f"{name} is not a LoRA: it contains {each!r:.100}; give a LoRA for Stable Diffusion.")
        kind = "alpha" if found["alpha"] else "down" if found["down"] else "up"
        kinds = parts.setdefault(found["alpha"] or found["layer"] or found["layer_"], {})
        if kind in kinds:
            raise BadInput(
                f"{name} is damaged: {kinds[kind]!r:.100} and {each!r:.100} are the same; download it again."
            )
        kinds[kind] = each
    if broken := [layer for layer, kinds in parts.items() if not {"down", "up"} <= set(kinds)]:
        raise BadInput(f"{name} is incomplete: {broken[0]!r:.100} lacks one of its matrices; download it again.")
    if not parts:
        raise BadInput(f"{name} contains no weights; download it again.")
    return parts


def embedding_word(path: Path, word: str = "") -> tuple[str, set[str]]:
    """Determine the word of a textual inversion, and the names of its tensors.

    Args:
        path: the file.
        word: the word that the user named; "" for that of the file.

    Raises:
        BadInput: the file is not a textual inversion, or the word cannot be used.
    """
    name = printable(path)
    shapes = single_file_weights(path).shapes
    keys = set(shapes)
    if keys not in _NAMELESS and len(keys) != 1:
        raise BadInput(f"{name} is not a textual inversion: it contains {len(keys)} tensors; give an embedding file.")
    if any(
        not 1 <= len(shape) <= 2 or not 1 <= (shape[0] if len(shape) == 2 else 1) <= MOST_VECTORS
        for shape in shapes.values()
    ):
        raise BadInput(f"{name} is not a textual inversion of 1 to {MOST_VECTORS} vectors; give an embedding file.")
    if len(counts := sorted({shape[0] if len(shape) == 2 else 1 for shape in shapes.values()})) > 1:
        raise BadInput(
            f"{name} is damaged: its two text encoders have {counts[0]} and {counts[1]} vectors for the word, not the "
            "same number; download it again."
        )
    word = word or (path.stem if keys in _NAMELESS else next(iter(keys)))
    if not word.strip() or len(word.split()) != 1 or len(word) > 100:
        raise BadInput(f"{word!r:.100} cannot be a word of prompts: name another one, {path.name}:WORD.")
    return word, keys
