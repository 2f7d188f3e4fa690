"""Claim about several objects: all named objects appear. Measured by colours, independently of the guiding networks."""

from itertools import permutations
from typing import Any

import numpy as np

from papers.guided.study import Numbers, Pixels, Study, ink

VERSION = 1
COLOURS = {"red": 0.0, "yellow": 45.0, "green": 120.0, "blue": 215.0, "purple": 285.0}
"""Hues in degrees."""
SHAPES = ("heart", "circle")
LEAST = 0.02
"""Smallest share of the image that a colour must cover to count as present."""
SATURATED = 0.25
"""Smallest saturation of a pixel that counts as coloured."""


def prompts(count: int) -> list[tuple[str, tuple[str, str], str]]:
    """Prompts of two coloured shapes, the two colours, and the text of the option `objects`; a fixed choice."""
    found = []
    for n, (one, other) in enumerate(permutations(COLOURS, 2)):
        first, second = SHAPES if n % 2 else SHAPES[::-1]
        names = f"{one} {first}", f"{other} {second}"
        found.append((f"{names[0]} and {names[1]}, noto", (one, other), ", ".join(names)))
    return (found * (count // len(found) + 1))[:count]


def measure(study: Study) -> Numbers:
    """Number of the two named colours that are present, per prompt and method."""
    methods: dict[str, Any] = {"plain sampling": None, "attend-and-excite": {}, "objects": {}}
    found: Numbers = {name: [] for name in methods}
    for n, (prompt, colours, objects) in enumerate(prompts(study.size.prompts)):
        for name, options in methods.items():
            chosen = [] if options is None else [(name, {"objects": objects, **options})]
            made = study.model.generate(prompt, methods=chosen, seed=n, steps=study.size.steps).pixels[0]
            found[name].append(sum(share(made, colour) >= LEAST for colour in colours))
    return found


def share(pixels: Pixels, colour: str) -> float:
    """Share of the image that consists of saturated object pixels whose nearest hue in `COLOURS` is this colour."""
    hue, saturation = hues(pixels)
    names = list(COLOURS)
    away = np.stack([np.abs((hue - COLOURS[name] + 180) % 360 - 180) for name in names])
    seen = ink(pixels) & (saturation > SATURATED) & (away.argmin(axis=0) == names.index(colour))
    return float(seen.mean())


def hues(pixels: Pixels) -> tuple[np.ndarray, np.ndarray]:
    """Hue in degrees and saturation of every pixel."""
    rgb = pixels.astype(float) / 255
    high, low = rgb.max(axis=2), rgb.min(axis=2)
    span = np.where(high > low, high - low, 1.0)
    r, g, b = (rgb[..., n] for n in range(3))
    hue = np.select(
        [high == low, high == r, high == g], [0.0, (g - b) / span % 6, (b - r) / span + 2], (r - g) / span + 4
    )
    return 60 * hue, np.where(high > 0, (high - low) / np.where(high > 0, high, 1.0), 0.0)
