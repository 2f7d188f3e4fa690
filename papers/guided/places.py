"""Claim about Self-Guidance (arXiv 2306.00986): generated objects appear at the requested place, measured in pixels."""

from typing import Any

from papers.guided.moves import NAMES, SCALE
from papers.guided.study import STYLES, Numbers, Study, centre, ink

VERSION = 2
STEPS = 20
TARGETS = (0.25, 0.75)
"""Requested centres, as fractions of the width; the height is 0.5."""


def measure(study: Study) -> Numbers:
    """Horizontal centres of the objects of images from noise, with and without guidance; one value per image.

    Without classifier-free guidance, which favours large objects in the middle, and with fresh noise in every step. An
    image without an object counts as centred.
    """
    found: Numbers = {"names": [], "requested": [], "plain": [], "placed": []}
    for n, name in enumerate(NAMES * len(TARGETS)):
        count = min(len(STYLES), study.size.moved - len(found["names"]))
        if count < 1:
            break
        target = TARGETS[(n + n // len(NAMES)) % len(TARGETS)]  # every object at every target
        prompts = [f"{name}, {style}" for style in STYLES[:count]]
        place = ("self-guidance", {"place": f"{name}: {target}, 0.5", "energy_scale": SCALE})
        options: dict[str, Any] = {"steps": STEPS, "seed": n, "guidance_scale": 1.0, "eta": 1.0}
        for kind, methods in (("plain", []), ("placed", [place])):
            images = study.model.generate(prompts, methods=methods, **options).pixels
            found[kind] += [centre(ink(each))[0] if ink(each).any() else 0.5 for each in images]
        found["names"] += [name] * count
        found["requested"] += [target] * count
    return found
