"""Parameters of Self-Guidance (Epstein et al., arXiv 2306.00986): changes, weights, schedule, reference images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from sfumato.core.prompt import Prompt
from sfumato.errors import BadInput
from sfumato.options.inversions import DeterministicParams
from sfumato.options.objects import Changes, parse, parse_swaps
from sfumato.options.option import option
from sfumato.options.other_images import (
    ReferenceImage,
    ReferenceObject,
    check_proportions,
    parse_reference_objects,
    read_prompts,
)
from sfumato.options.params import PromptPair, check_weights
from sfumato.options.prompt_words import NamedWord
from sfumato.options.shared_words import shared
from sfumato.options.targets import Target, check_cells, check_contradictions, parse_targets

if TYPE_CHECKING:
    from sfumato.images import LoadedImage
    from sfumato.models.diffusion_model import DiffusionModel
    from sfumato.shifts.energy.guidance import Schedule

_POSITION, _SIZE, _SHAPE, _APPEARANCE = "centroid_weight", "size_weight", "shape_weight", "appearance_weight"
_WEIGHTS = {
    "move": (_POSITION, _SHAPE),
    "resize": (_SIZE, _SHAPE),
    "reshape": (_SIZE, _SHAPE),
    "swap": (_POSITION, _SHAPE),
    "place": (_POSITION,),
    "cover": (_SIZE,),
    "box": (_POSITION, _SHAPE),
    "restyle": (_APPEARANCE,),
    "objects_from": (_POSITION, _SIZE, _SHAPE, _APPEARANCE),
    "appearance_from": (_APPEARANCE,),
    "layout_from": (_SHAPE,),
}
"""The weights of the terms that each option changes."""


@dataclass(frozen=True)
class SelfGuidanceParams(DeterministicParams):
    """Changes of objects, weights of the energies, and the schedule of the guidance."""

    needs_text: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = (
        "move", "resize", "reshape", "swap", "place", "cover", "box", "restyle", "objects_from",
        "appearance_from", "layout_from",
    )  # fmt: skip

    guidance_scale: float = option(1.0, "guidance scale of the target prompt", stage="edit", low=0, high=100)
    move: str = option(
        "", 'displacements right and down, shares of the image: "fox: 0.2, 0; ball: 0, -0.1"', stage="edit"
    )
    resize: str = option("", 'factors of the width and height of objects: "fox: 1.5"', stage="edit")
    reshape: str = option("", 'factors of width and height, and a rotation in degrees: "fox: 1, 0.5, 30"', stage="edit")
    swap: str = option("", 'pairs of objects that exchange their places: "fox, ball"', stage="edit")
    place: str = option(
        "", 'centres of objects, shares of width and height from the upper left: "fox: 0.3, 0.5"', stage="edit"
    )
    cover: str = option("", 'shares of the image that objects cover: "fox: 0.25"', stage="edit")
    box: str = option(
        "",
        "boxes of objects, left, top, right and bottom edge as shares of the image from the upper left: "
        '"fox: 0.1, 0.2, 0.5, 0.9"',
        stage="edit",
    )
    restyle: str = option(
        "",
        'appearances of objects from other images with their prompts: "fox: red.png: red fox", or "fox=cat: cat.png: '
        'cat" for a word that differs there',
        stage="edit",
        file=True,
    )
    objects_from: str = option(
        "",
        'places, shapes and appearances of objects from other images, written as for restyle: "fox: fox.png: fox; '
        'ball: ball.png: ball"',
        stage="edit",
        file=True,
    )
    appearance_from: str = option(
        "", "image that all words of its prompt take their appearance from", stage="edit", file=True
    )
    appearance_prompt: str = option("", "prompt of the image of appearance_from", stage="edit")
    layout_from: str = option("", "image that all words of its prompt take their shape from", stage="edit", file=True)
    layout_prompt: str = option("", "prompt of the image of layout_from", stage="edit")
    energy_scale: float = option(0.3, "weight v of the gradient of the energies", stage="edit", low=0, high=1e6)
    gradient: str = option(
        "unit",
        "unit: gradient of unit RMS; sigma: times sqrt(1 - abar_t), as in the paper; plain: as in the notebook",
        stage="edit",
        choices=("unit", "sigma", "plain"),
    )
    schedule: str = option(
        "thirds",
        "guided steps: thirds (first 3/16, then every other one, as in the paper) or window (from start to end)",
        stage="edit",
        choices=("thirds", "window"),
    )
    start: float = option(0.0, "fraction of the steps at which the window begins", stage="edit", low=0, high=1)
    end: float = option(0.5, "fraction of the steps at which the window ends", stage="edit", low=0, high=1)
    centroid_weight: float = option(1.0, "weight of the position of moved objects", stage="edit", low=0, high=1e6)
    size_weight: float = option(1.0, "weight of the size of changed objects", stage="edit", low=0, high=1e6)
    shape_weight: float = option(0.5, "weight of all shapes", stage="edit", low=0, high=1e6)
    appearance_weight: float = option(0.1, "weight of all appearances", stage="edit", low=0, high=1e6)

    @property
    def keeps_prompt(self) -> bool:
        """True, as the source prompt can be used as target prompt."""
        return True

    @property
    def needs_reference(self) -> bool:
        """Whether an option is relative to a source: move, resize, reshape or swap."""
        return bool(self.changes() or self.swaps())

    def check(self) -> None:
        """Check value ranges, the format of all changes, and that each has a weight above 0. Raises BadInput."""
        super().check()
        placed = [*self.changes(), *self.swaps(), *(word for _, word, _ in self.targets())]
        window = (self.start, self.end)
        if self.schedule == "thirds" and window != (SelfGuidanceParams.start, SelfGuidanceParams.end):
            raise BadInput("start and end belong to the schedule window: leave them out, or set schedule to window.")
        if self.schedule == "window" and self.start >= self.end:
            raise BadInput(f"start must be below end = {self.end:g}, not {self.start:g}.")
        for name, weights in _WEIGHTS.items():
            check_weights(self, name, weights)
        check_contradictions(
            self.targets(), {*parse(self.move, "", ""), *self.swaps()}, parse("", self.resize, self.reshape)
        )
        placed += self.restyled()
        if both := [word for word in self.objects_from_images() if word in placed]:
            raise BadInput(f'objects_from sets all properties of "{both[0]}": do not name it in another option.')
        for name, given in (("appearance", self.appearance_from), ("layout", self.layout_from)):
            if bool(given) != bool(getattr(self, f"{name}_prompt").strip()):
                raise BadInput(f"Give {name}_from, an image, and {name}_prompt, its prompt, together.")

    def changes(self) -> Changes:
        """Parse move, resize and reshape: affine maps by word. Raises BadInput for text that cannot be parsed."""
        return parse(self.move, self.resize, self.reshape)

    def swaps(self) -> dict[str, str]:
        """Parse swap: by word, the word whose position it takes. Raises BadInput for text that cannot be parsed."""
        return parse_swaps(self.swap)

    def targets(self) -> list[Target]:
        """Parse place, cover and box. Raises BadInput for text that cannot be parsed."""
        return parse_targets(self.place, self.cover, self.box)

    def restyled(self) -> dict[str, ReferenceObject]:
        """Parse restyle: objects of reference images by word. Raises BadInput for text that cannot be parsed."""
        return parse_reference_objects("restyle", self.restyle)

    def objects_from_images(self) -> dict[str, ReferenceObject]:
        """Parse objects_from: objects of reference images by word. Raises BadInput for text that cannot be parsed."""
        return parse_reference_objects("objects_from", self.objects_from)

    @property
    def appearance_image(self) -> ReferenceImage | None:
        """The image of `appearance_from`, or None."""
        return ReferenceImage(self.appearance_from, self.appearance_prompt) if self.appearance_from else None

    @property
    def layout_image(self) -> ReferenceImage | None:
        """The image of `layout_from`, or None."""
        return ReferenceImage(self.layout_from, self.layout_prompt) if self.layout_from else None

    def images(self) -> list[ReferenceImage]:
        """Return all reference images without duplicates."""
        taken = [*self.restyled().values(), *self.objects_from_images().values()]
        found = [each.image for each in taken] + [self.appearance_image, self.layout_image]
        return list(dict.fromkeys(each for each in found if each is not None))

    def named(self) -> list[str]:
        """Return the words of all objects that are named in options, without duplicates."""
        targets = [word for _, word, _ in self.targets()]
        taken = [*self.restyled(), *self.objects_from_images()]
        return list(dict.fromkeys([*self.changes(), *self.swaps(), *targets, *taken]))

    @property
    def named_words(self) -> Sequence[NamedWord]:
        """The words of all options; changes relative to the source name words of both prompts."""
        moved: dict[str, Iterable[str]] = {
            "move": parse(self.move, "", ""),
            "resize": parse("", self.resize, ""),
            "reshape": parse("", "", self.reshape),
            "swap": self.swaps(),
        }
        others: dict[str, Iterable[str]] = {"restyle": self.restyled(), "objects_from": self.objects_from_images()}
        found = [NamedWord(option, word, "source") for option, words in moved.items() for word in words]
        found += [NamedWord(option, word, "target") for option, words in (moved | others).items() for word in words]
        return found + [NamedWord(each.option, each.word, "target") for each in self.targets()]

    @property
    def files(self) -> Sequence[str]:
        """Paths of the reference images."""
        return list(dict.fromkeys(each.path for each in self.images()))

    @cached_property
    def loaded_images(self) -> dict[str, LoadedImage]:
        """The reference images by path, read once. Raises BadInput."""
        from sfumato.images import read_image

        return {path: read_image(path) for path in self.files}

    def check_headers(self) -> None:
        """Read the reference images, which needs no torch. Raises BadInput."""
        _ = self.loaded_images

    def check_files(self) -> None:
        """Read the reference images. Raises BadInput."""
        _ = self.loaded_images

    def guided(self) -> Schedule:
        """Return the schedule: that of the paper, or the window from `start` to `end`."""
        from sfumato.shifts.energy.guidance import thirds, window

        return thirds if self.schedule == "thirds" else window(self.start, self.end)

    def check_run(self, network: DiffusionModel, size: tuple[int, int], prompts: Sequence[PromptPair]) -> None:
        """Check the schedule, the words of the prompts, sizes, and the aspect ratios of images. Raises BadInput."""
        from sfumato.models.layout import word_layers

        if not self.named() and not self.images():
            return
        guided, run = self.guided(), self.steps - self.skip
        if not any(guided(i, run) for i in range(run)):
            raise BadInput(
                f"The schedule {self.schedule} guides none of the remaining steps ({run}): run more steps, or choose "
                "the schedule window with start = 0."
            )
        if not prompts:
            raise BadInput("The text encoders of this model split the prompts differently, so words have no positions.")
        for source, target in prompts:
            for word in {**self.changes(), **self.swaps()}:
                source.positions(word)
            for word in self.named():
                target.positions(word)
        _, grid = word_layers(network.unet, size)
        check_cells(self.changes(), self.targets(), grid)
        for path, image in self.loaded_images.items():
            check_proportions(image.size, path, size, network.latent_multiple)
        shown = self.images()
        there = dict(zip(shown, read_prompts(network, [each.prompt for each in shown]), strict=True))
        for taken in [*self.restyled().values(), *self.objects_from_images().values()]:
            there[taken.image].positions(taken.word)
        for name, whole in (("appearance", self.appearance_image), ("layout", self.layout_image)):
            if whole is not None:
                for _, target in prompts:
                    self._check_shared(name, there[whole], target)

    def _check_shared(self, name: str, there: Prompt, target: Prompt) -> None:
        """Check that words of the target prompt are guided by `appearance_from` or `layout_from`. Raises BadInput."""
        taken = {**self.restyled(), **self.objects_from_images()}
        guided = name == "appearance" and any(word not in taken and there.has(word) for word in self.named())
        if not guided and not shared(there, target, self.named()):
            raise BadInput(
                f'{name}_prompt "{there.text}" and the target prompt "{target.text}" have no word in common that '
                f"{name}_from can act on: use the same words for what they share."
            )
