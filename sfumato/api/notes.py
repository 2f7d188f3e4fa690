"""Notes for users: image sizes far from the model's native size, unusual images, and prompt syntax of other tools."""

import re
from collections.abc import Iterator

from sfumato.models.diffusion_model import DiffusionModel

FAR = 2.0
"""A note is made if the square root of (pixels of the image / pixels of the training images) is above FAR or below
1 / FAR, or if the shorter or the longer side is above FAR^2 or below 1 / FAR^2 times that of the training images."""
KNOWN = 0.44
"""Threshold of the similarity of an image to its caption by the bundled dual encoder. 95 % of the images that the
bundled U-Net was trained on have a higher similarity (0.439, 300 images), and so have 95 % of the images that the dual
encoder was trained on (0.66). 95 % of the pairs of one of the latter and the caption of another image have less."""

NATIVE = "edit it at the model's size (--resolution native)"
"""Default remedy of `size_note`."""

_INNER = r"(?:[^()\\]|\\.)"  # content of brackets; the escaped "\(" and "\)" are not brackets
_DECIMAL = r"-?(?:\d+\.\d*|\.\d+)"
_WEIGHTS = "|".join(
    (
        rf"\({_INNER}{{0,300}}(?:[^()\d\s\\]|\\.)\s*:\s*-?\d+\s*\)",  # (word:2), but not (12:30)
        rf"\({_INNER}{{1,300}}:\s*{_DECIMAL}\s*\)",  # (word:1.4)
        rf"\)\s*:\s*{_DECIMAL}\s*\)",  # (a (word):1.4)
    )
)
_NAMES_WITH_PLUS = r"(?:disney|canal|paramount|discovery|google|espn|apple|lgbt\w*|notepad)\+"
_BEFORE_TEXT = ("say", "says", "saying", "read", "reads", "reading", "word", "words", "text", "letters", "written")
_NOT_SHOWN = "".join(f"(?<!{word} )" for word in _BEFORE_TEXT)
_OTHER_WEIGHTS = "|".join(
    (
        r"\(\([^()]+\)\)|\{\{[^{}]+\}\}|\[\[[^\[\]]+\]\]",  # ((word)), {{word}}, [[word]]
        r"\)[+-]+|\)\d*\.\d+",  # (two words)+, (two words)1.4
        r'(?<![\w"])"[^"]+"(?:\++|--+|\d*\.\d+)(?!\w)',  # "two words"+, but not "hi"- or 5"x7"
        rf"(?<!\w)(?!(?i:{_NAMES_WITH_PLUS}))[^\W\d_]\w+(?:\+\+|--)[+-]*(?!\w)",  # word++, but not C++
        rf"(?<![\w+-])(?!{_NAMES_WITH_PLUS})[a-z]{{3,}}\+(?=[\s,.;:]|$)",  # word+, but not Disney+, A+, 18+ or a+b
        rf"{_NOT_SHOWN}\[(?!sic\])[a-z]+(?:[ ,-]+[a-z]+)*\]",  # [word], but not [EXIT], [1920] or a text that is shown
        r"::-?\d",  # word::2
    )
)
#: Kind of syntax, its pattern, and the alternative.
_SYNTAX = (
    ("weights", re.compile(f"{_WEIGHTS}|{_OTHER_WEIGHTS}"),
     "for (word:1.4) give --prompt-weights; or scale the attention of words with --method prompt-to-prompt --reweight "
     '"word=1.4"'),
    ("LoRAs and embeddings", re.compile(r"<(?:lora|lyco|locon|hypernet|lokr):[^<>]*>|(?<!\w)embedding:\w+"),
     "give their files with --lora FILE:SCALE and --textual-inversion FILE"),
    ("changes during the run", re.compile(r"\[[^\[\]]*:[^\[\]]*:?\s*\d*\.?\d+\s*\]"),
     "prompts cannot change during the run: leave them out"),
    ("alternatives", re.compile(r"\[[^\[\]|]+(?:\|[^\[\]|]+)+\]|\{[^{}|]+(?:\|[^{}|]+)+\}|__[\w/-]+__"),
     "choose one and write it out"),
    ("several prompts in one", re.compile(r"(?:\w{1,30}|[)\"'])\.(?:and|blend|swap)\("),
     "write one prompt"),
    ("flags", re.compile(r"(?<!\S)--(?:ar|aspect|v|stylize|chaos|niji|no|q|seed|iw)(?!\w)"),
     "use the options of the command"),
)  # fmt: skip
#: For a model that supports "(word:1.4)", the weights are removed first; remaining brackets are text.
_WITH_WEIGHTS = ("weights", re.compile(_OTHER_WEIGHTS), "write (word:1.4)")
_CAPITALS = ("joined prompts", re.compile(r"(?<!\w)(?:BREAK|AND)(?!\w)"), "write one prompt")


def size_note(
    network: DiffusionModel,
    name: str,
    size: tuple[int, int],
    edited: tuple[int, int] | None = None,
    remedy: str = NATIVE,
) -> str:
    """Return a note on an image that is edited at another size, or at a size far from that of the training images.

    Args:
        network: the model.
        name: name of the image in the note.
        size: (width, height) of the image in pixels.
        edited: (width, height) at which the image is edited, see `sfumato.api.resolution`; None for `size`.
        remedy: how to use the model's size, for an image of another size that is edited at its own.

    Returns:
        The note; "" if the image is edited at its own size and this is near the size of the training images.
    """
    (width, height), (own_height, own_width) = edited or size, network.native_size
    pixels = width * height / (own_width * own_height)
    sides = min(width, height) / min(own_width, own_height), max(width, height) / max(own_width, own_height)
    far = not all(1 / FAR**2 <= ratio <= FAR**2 for ratio in (pixels, *sides))
    about = str(network.settings.get("summary", "")).partition(";")[0]
    model = f"{network.name or 'the model'}{f' ({about})' if about else ''}"
    effect = "blurs and deforms objects"
    if pixels > 1:
        effect = f"repeats and deforms objects, and every step takes {pixels:,.0f} times the work or more"
    given = f"{name} is {size[0]} x {size[1]} pixels"
    native = f"{own_width} x {own_height} of the training images of {model}"
    if edited not in (None, size):
        why = f"far from the {native}: at this size the model {effect}" if far else f"near the {native}"
        return (
            f"{given} and is edited at {width} x {height}, {why}; the change is brought to the full size with the "
            "detail of the image. --resolution sets the size, --model another model."
        )
    if not far:
        return ""
    return (
        f"{given}, far from the {native}: at this size the model {effect}; {remedy}, or give another model (--model)."
    )


def similarity_note(name: str, similarity: float) -> str:
    """Return a note on an image that differs from the training images of the bundled dual encoder; "" for others.

    Args:
        name: name of the image in the note.
        similarity: cosine similarity between the image and its source prompt.
    """
    if similarity >= KNOWN:
        return ""
    return (
        f"the CLIP similarity of {name} to its own prompt is {similarity:.2f}, and 95 % of the emoji that the bundled "
        f"model was trained on have more than {KNOWN}: do not rely on its similarities for this image or prompt."
    )


def prompt_note(prompt: str, *, weighted: bool = False) -> str:
    """Return a note on prompt syntax of other tools that sfumato reads as plain words; "" if there is none.

    Brackets around words, as in "a cat (sitting)", are punctuation and give no note.

    Args:
        prompt: the prompt; for a model that supports prompt weights, without them (`TextEncoder.plain`).
        weighted: whether the model supports prompt weights.
    """
    found = list(_other_syntax(prompt, weighted))
    if not found:
        return ""
    parts = [f'"{part}" ({kind}: {remedy})' for kind, part, remedy in found]
    return f"the prompt contains syntax of other tools, which is read as words here: {', '.join(parts)}."


def _other_syntax(prompt: str, weighted: bool) -> Iterator[tuple[str, str, str]]:
    capitals = () if prompt.isupper() else (_CAPITALS,)
    syntax = (_WITH_WEIGHTS, *_SYNTAX[1:]) if weighted else _SYNTAX
    for kind, pattern, remedy in (*syntax, *capitals):
        if match := pattern.search(prompt):
            yield kind, match[0], remedy
