"""Editors of a benchmark: sfumato methods (batched), diffusers pipelines (one image at a time), and no edit."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfumato.api import Model
from sfumato.bench.contenders import Contender, LeditsPP, SDEdit, Task, counted
from sfumato.bench.items import Item, ItemImages
from sfumato.bench.settings import UNCHANGED, Setting


@dataclass(frozen=True)
class Edited:
    """Result of one call of an editor.

    Attributes:
        pixels: uint8 [h,w,3] for each edit.
        seconds: wall time of all edits together, including the encoding of images and prompts and the inversion.
        cpu_seconds: CPU time of all edits and threads together; less affected by other load on the machine.
        evaluations: number of rows that the network evaluated for all edits together.
    """

    pixels: list[NDArray[np.uint8]]
    seconds: float
    cpu_seconds: float
    evaluations: int


class Editor(Protocol):
    """Protocol of an editor, which edits images of one size with one setting.

    Attributes:
        together: whether one call with several edits costs less than one call per edit.
    """

    together: bool

    def edit(self, items: Sequence[Item], images: Sequence[ItemImages]) -> Edited:
        """Edit all images, in their order."""


class Ours:
    """A method of sfumato through the Python API; all images of a call form one batch."""

    together = True

    def __init__(self, model: Model, setting: Setting) -> None:
        self.model, self.setting = model, setting

    def edit(self, items: Sequence[Item], images: Sequence[ItemImages]) -> Edited:
        """Invert with the source prompts, edit with the target prompts. Raises BadInput before any evaluation."""
        setting, began, busy = self.setting, time.perf_counter(), time.process_time()
        plan = self.model.plan(
            [Image.fromarray(each.source) for each in images],
            [item.source_text for item in items],
            [item.target_text for item in items],
            methods=setting.method,
            seed=setting.seed,
            residual=setting.residual,
            resolution="full",  # the same size as for the diffusers pipelines
            **setting.params,
        )
        result = plan.run().result
        return Edited(
            result.pixels,
            time.perf_counter() - began,
            time.process_time() - busy,
            result.report["network_evaluations"]["samples"],
        )


class Theirs:
    """A pipeline of diffusers with the same weights, one image at a time."""

    together = False

    def __init__(self, model: Model, setting: Setting) -> None:
        assert model.folder is not None
        given: dict[str, Any] = {"source_guidance_scale": 1.0} | dict(setting.params)
        blank, place = Image.new("RGB", (8, 8)), str(model.network.device)
        task = Task(model.folder, blank, "", "", **given, device=place, seed=setting.seed)
        self.contender: Contender = _CONTENDERS[setting.method](task)

    def edit(self, items: Sequence[Item], images: Sequence[ItemImages]) -> Edited:
        """Edit the images one after the other."""
        pixels, began, busy = [], time.perf_counter(), time.process_time()
        with counted(self.contender.unet) as rows:
            for item, each in zip(items, images, strict=True):
                self.contender.task = replace(
                    self.contender.task,
                    image=Image.fromarray(each.source),
                    source=item.source_text,
                    target=item.target_text,
                )
                self.contender.invert()
                pixels.append(np.asarray(self.contender.edit().convert("RGB")))
        return Edited(pixels, time.perf_counter() - began, time.process_time() - busy, sum(rows))


class Unchanged:
    """Returns the source images."""

    together = True

    def edit(self, items: Sequence[Item], images: Sequence[ItemImages]) -> Edited:
        """Return the source images with zero cost."""
        return Edited([each.source for each in images], 0.0, 0.0, 0)


_CONTENDERS: dict[str, Callable[[Task], Contender]] = {"diffusers-ledits++": LeditsPP, "diffusers-img2img": SDEdit}


def editor(model: Model, setting: Setting) -> Editor:
    """The editor of a resolved setting; a pipeline of diffusers is loaded here."""
    if setting.method == UNCHANGED:
        return Unchanged()
    return Theirs(model, setting) if setting.method in _CONTENDERS else Ours(model, setting)
