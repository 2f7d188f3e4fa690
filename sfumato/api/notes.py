"""Notes before work: an image whose size is far from the model's own, and prompts in the syntax of other tools."""

import re
from collections.abc import Iterator

from sfumato.models.diffusion_model import DiffusionModel

FAR = 2.0
"""Ratio of the sides of two squares with the pixels of the image and of the training images, above which a note is
made; also below 1 / FAR."""

_WEIGHTS = "|".join(
    (
        r"\([^()]*[^()\d\s]\s*:\s*-?\d+\s*\)",  # (word:2), but not (12:30)
        r"\([^()]+:\s*-?\d*\.\d+\s*\)",  # (word:1.4)
        r"\(\([^()]+\)\)|\{\{[^{}]+\}\}|\[\[[^\[\]]+\]\]",  # ((word)), {{word}}, [[word]]
        r"\)[+-]+|\)\d*\.\d+",  # (two words)+, (two words)1.4
        r"(?<!\w)[^\W\d_]\w+(?:\+\+|--)[+-]*(?!\w)",  # word++, but not C++
        r"::-?\d",  # word::2
    )
)
#: What a prompt contains, the pattern, and what to do instead.
_SYNTAX = (
    ("weights", re.compile(_WEIGHTS),
     'scale the attention of words with --method prompt-to-prompt --reweight "word=1.4"'),
    ("LoRAs and embeddings", re.compile(r"<(?:lora|lyco|locon|hypernet|lokr):[^<>]*>|(?<!\w)embedding:\w+"),
     "merge them into a model folder with diffusers (load_lora_weights, fuse_lora, save_pretrained) and give it as "
     "--model"),
    ("changes during the run", re.compile(r"\[[^\[\]]*:[^\[\]]*:?\s*\d*\.?\d+\s*\]"),
     "a prompt is the same in all steps: leave them out"),
    ("alternatives", re.compile(r"\[[^\[\]|]+(?:\|[^\[\]|]+)+\]|\{[^{}|]+(?:\|[^{}|]+)+\}|__[\w/-]+__"),
     "choose one and write it out"),
    ("flags", re.compile(r"(?<!\S)--(?:ar|aspect|v|stylize|chaos|niji|no|q|seed|iw)(?!\w)"),
     "use the options of the command"),
)  # fmt: skip
_CAPITALS = ("joined prompts", re.compile(r"(?<!\w)(?:BREAK|AND)(?!\w)"), "write one prompt")


def size_note(network: DiffusionModel, name: str, size: tuple[int, int]) -> str:
    """A sentence about an image whose size is far from the training images of the model; "" for other sizes.

    Args:
        network: the model.
        name: what the sentence calls the image.
        size: (width, height) in pixels.
    """
    (width, height), (own_height, own_width) = size, network.native_size
    pixels = width * height / (own_width * own_height)
    if 1 / FAR**2 <= pixels <= FAR**2:
        return ""
    about = str(network.settings.get("summary", "")).partition(";")[0]
    model = f"{network.name or 'the model'}{f' ({about})' if about else ''}"
    effect = "blurs and deforms objects"
    if pixels > 1:
        effect = f"repeats and deforms objects, and every step takes {pixels:,.0f} times the work or more"
    return (
        f"{name} is {width} x {height} pixels, far from the {own_width} x {own_height} of the training images of "
        f"{model}: at this size the model {effect}; give an image of about its size, or another model (--model)."
    )


def prompt_note(prompt: str) -> str:
    """A sentence about parts of a prompt that other tools interpret and sfumato reads as words; "" without any.

    Brackets around words, as in "a cat (sitting)", are punctuation and give no note.
    """
    found = list(_other_syntax(prompt))
    if not found:
        return ""
    parts = [f'"{part}" ({kind}: {remedy})' for kind, part, remedy in found]
    return f"the prompt contains syntax of other tools, which is read as words here: {', '.join(parts)}."


def _other_syntax(prompt: str) -> Iterator[tuple[str, str, str]]:
    capitals = () if prompt.isupper() else (_CAPITALS,)
    for kind, pattern, remedy in (*_SYNTAX, *capitals):
        if match := pattern.search(prompt):
            yield kind, match[0], remedy
