"""The options of PARASOL: files, style and content, and the scales of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from sfumato.errors import BadInput
from sfumato.formats import PARASOL
from sfumato.models.bundled import bundled_parasol
from sfumato.networks.image_networks import check_clip
from sfumato.options.inversions import DeterministicParams
from sfumato.options.option import option
from sfumato.options.params import PromptPair
from sfumato.options.weighted import parse_weighted, weighted_text
from sfumato.style.files import check_style_encoder

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from sfumato.core.condition import Condition
    from sfumato.core.guidance import Guided
    from sfumato.models.diffusion_model import DiffusionModel
    from sfumato.shifts.two_modalities import TwoModalities
    from sfumato.style.describers import Describers
    from sfumato.style.tokens import Parasol

OWN_TOKENS = "own-tokens"
"""Value of `invert_with` that selects the inversion under the descriptors of the image itself."""
ALONE, WITH_CONTENT = "alone", "with-content"
"""Values of `style_term`: eps_s0 - eps_00, or eps_sy - eps_0y."""
FROM_STEPS = -1
"""Value of `lam` that selects two fifths of the steps (20 of 50)."""


@dataclass(frozen=True)
class ParasolParams(DeterministicParams):
    """The paper's settings: 50 steps, lambda 20, both scales 5."""

    needs: ClassVar[tuple[str, ...]] = ("parasol",)

    invert_with: str = option(
        "prompt",
        "condition of the inversion",
        stage="invert",
        choices=("prompt", OWN_TOKENS),
    )
    guidance_scale: float = option(
        1.0, "guidance scale of the source prompt; only without a PARASOL file", stage="edit", low=0, high=100
    )
    parasol: str = option(
        "",
        "file from `sfumato train parasol`, or emoji for the bundled one",
        stage="edit",
        file=True,
        bundled=bundled_parasol,
    )
    style: str = option(
        "", 'style image, or several with weights: "a.png=2,b.png=1"; default: the style of the image', stage="edit"
    )
    style_text: str = option("", "style words such as twemoji, averaged with the style images", stage="edit")
    content: str = option("", "image of another content, or several with weights; default: the source", stage="edit")
    content_text: str = option("", "caption of another content, averaged with the content images", stage="edit")
    style_scale: float = option(5.0, "g_s, guidance scale of the style", stage="edit", low=0, high=100)
    content_scale: float = option(5.0, "g_y, guidance scale of the content", stage="edit", low=0, high=100)
    style_term: str = option(
        ALONE,
        "prediction that g_s scales: under the style alone, as in the paper, or with the content",
        stage="edit",
        choices=(ALONE, WITH_CONTENT),
    )
    lam: int = option(
        FROM_STEPS,
        "lambda, first steps with the style of the image itself, which keep its structure; -1 for 2/5 of the steps",
        stage="edit",
        low=FROM_STEPS,
        high=1000,
    )
    colour_match: bool = option(False, "match mean and covariance of the style's colours", stage="edit")
    content_encoder: str = option(
        "", "CLIP folder or hub id; default: the bundled content encoder", stage="edit", file=True
    )
    style_encoder: str = option("", "style encoder; default: the bundled one", stage="edit", file=True)

    def __post_init__(self) -> None:
        """Convert mappings of paths to weights, which are allowed in Python, to strings."""
        for name in ("style", "content"):
            if isinstance(value := getattr(self, name), Mapping):
                object.__setattr__(self, name, weighted_text(value))

    @property
    def inverts_with(self) -> tuple[str, ...]:
        """The options that the image's own tokens and their guidance depend on, if the image is inverted with them."""
        scales = "style_scale", "content_scale", "style_term"
        return ("parasol", *scales, "content_encoder", "style_encoder") if self.invert_with == OWN_TOKENS else ()

    @property
    def keeps_prompt(self) -> bool:
        """True, as the method uses no target prompt."""
        return True

    @property
    def replaces_guidance(self) -> bool:
        """Whether a PARASOL file is given."""
        return bool(self.parasol)

    @property
    def style_images(self) -> Mapping[str, float]:
        """Weights of the style images by path."""
        return parse_weighted("style", self.style)

    @property
    def content_images(self) -> Mapping[str, float]:
        """Weights of the content images by path."""
        return parse_weighted("content", self.content)

    @property
    def files(self) -> Sequence[str]:
        """Paths of the PARASOL file, the images and local encoders; bundled files are not among them."""
        encoders = [each for each in (self.content_encoder, self.style_encoder) if each and Path(each).exists()]
        own = [self.parasol] if self.parasol and not bundled_parasol(self.parasol) else []
        return [*own, *self.style_images, *self.content_images, *encoders]

    def check(self) -> None:
        """Check value ranges, lambda, and that options that need a PARASOL file are given with it. Raises BadInput."""
        super().check()
        images = {"style": bool(self.style_images), "content": bool(self.content_images)}
        texts = {"style_text": bool(self.style_text.strip()), "content_text": bool(self.content_text.strip())}
        for name, given in (images | texts | {"colour_match": self.colour_match}).items():
            if given and not self.parasol:
                raise BadInput(f"{name} needs a PARASOL file: give it as parasol, or leave {name} out.")
        if self.invert_with == OWN_TOKENS and not self.parasol:
            raise BadInput(
                "invert_with = own-tokens needs a PARASOL file at the inversion: give it as parasol too, to `sfumato "
                "edit`, `sfumato style` or in Python, with parasol as the only method."
            )
        if self.colour_match and not self.style_images:
            raise BadInput("colour_match needs a style image: name one as style, or leave it out.")
        if self.parasol and self.lam > self.steps - self.skip:
            raise BadInput(
                f"lam must be between 0 and {self.steps - self.skip}, the number of steps of the edit, not {self.lam}."
            )

    @cached_property
    def saved(self) -> Parasol | None:
        """The content of the PARASOL file, read once; None if none is given. Raises BadInput."""
        from sfumato.style.tokens import Parasol

        return Parasol.load(bundled_parasol(self.parasol) or self.parasol) if self.parasol else None

    @cached_property
    def describers(self) -> Describers:
        """The encoders, loaded once. Raises BadInput."""
        from sfumato.style.describers import Describers

        return Describers.load(self.content_encoder or None, self.style_encoder or None)

    def descriptor(self, modality: str) -> Float[Tensor, "1 d"] | None:
        """Return the unit descriptor [1,d] of the images and texts that the options give for a modality.

        Args:
            modality: "style" or "content".

        Returns:
            The descriptor, or None if the options give none, so that the descriptor of the source image is used.
        """
        from sfumato.style.mixing import mixed

        images = self.style_images if modality == "style" else self.content_images
        text = (self.style_text if modality == "style" else self.content_text).strip()
        return mixed(self.describers, modality, images, text)

    @cached_property
    def descriptors(self) -> dict[str, Tensor | None]:
        """`descriptor` of both modalities, computed once. Raises BadInput for images and texts that cannot be used."""
        return {name: self.descriptor(name) for name in ("style", "content")}

    @cached_property
    def colours(self) -> dict[str, Tensor]:
        """The style images with a weight above 0, [1,3,h,w] in [-1,1], by path, read once. Raises BadInput."""
        from sfumato.images import read_image, to_tensor

        return {path: to_tensor(read_image(path)) for path, weight in self.style_images.items() if weight}

    def check_headers(self) -> None:
        """Check the images, the header of the PARASOL file, and the files of the encoders. Raises BadInput."""
        if not self.parasol:
            return
        from sfumato.images import read_image

        PARASOL.check(bundled_parasol(self.parasol) or self.parasol)
        for path in (*self.style_images, *self.content_images):
            read_image(path)
        if self.content_encoder:
            check_clip(self.content_encoder)
        if self.style_encoder:
            check_style_encoder(self.style_encoder)

    def check_files(self) -> None:
        """Read all files, and check that the tokens were trained with these encoders. Raises BadInput."""
        if self.saved is not None:
            self.saved.check_describers(self.describers)
            _ = self.descriptors
            if self.colour_match:
                _ = self.colours

    def notes(self, prompts: Sequence[tuple[str, str]]) -> list[str]:
        """Note which of target prompt, guidance scale and style words have no effect with PARASOL's tokens."""
        if not self.parasol:
            return []
        from sfumato.style.words import notes_on

        found = notes_on(self.describers.style.words.unknown(self.style_text))
        unused = ["target prompt"] if any(target.strip() and target != source for source, target in prompts) else []
        unused += ["guidance scale"] if self.guidance_scale != 1 else []
        if not unused:
            return found
        return [
            *found,
            f"the {' and the '.join(unused)} had no effect: parasol takes style and content from images or texts "
            "(style, style_text, content, content_text), each with its own scale (style_scale, content_scale).",
        ]

    def check_run(self, network: DiffusionModel, size: tuple[int, int], prompts: Sequence[PromptPair]) -> None:
        """Check that the tokens were trained for this model. Raises BadInput."""
        if self.saved is not None:
            self.saved.check_model(network)

    def check_inversion(self, network: DiffusionModel) -> None:
        """Check that the tokens were trained for this model if the inversion uses them. Raises BadInput."""
        if self.invert_with == OWN_TOKENS and self.saved is not None:
            self.saved.check_model(network)

    def inverted_under(
        self, network: DiffusionModel, guided: Guided, condition: Condition, x0: Tensor
    ) -> tuple[Guided, Condition]:
        """Return guidance and condition: those of the source prompt, or the images' own tokens with both scales."""
        if self.invert_with != OWN_TOKENS:
            return guided, condition
        return self.modalities(network, None, None, self.steps).of_source(guided, condition, x0)

    def modalities(
        self, network: DiffusionModel, style: Tensor | None, content: Tensor | None, own_steps: int
    ) -> TwoModalities:
        """Return the shift for these descriptors, or those of the source if None. Requires a PARASOL file."""
        from sfumato.shifts.two_modalities import TwoModalities

        assert self.saved is not None
        return TwoModalities(
            self.saved.tokens.to(network.device), network, self.describers, style, content, self.style_scale,
            self.content_scale, own_steps, self.invert_with == OWN_TOKENS, self.style_term == WITH_CONTENT,
        )  # fmt: skip

    def finish(self, edited: Tensor, source: Tensor | None, inside: Tensor | None = None) -> Tensor:
        """Match colours inside the mask to the weighted style images, if `colour_match` is set."""
        from sfumato.images.colour_match import match_colours

        if not self.colour_match:
            return edited
        weights = [self.style_images[path] for path in self.colours]
        return match_colours(edited, *self.colours.values(), weights=weights, inside=inside).to(edited.dtype)
