"""Parameters of DiffuseIT (Kwon and Ye, arXiv 2209.15264), with the images and networks that they refer to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from sfumato.core.path import repeat_first
from sfumato.errors import BadInput
from sfumato.files import printable
from sfumato.networks.image_networks import check_clip, check_vision
from sfumato.options.inversions import DETERMINISTIC, EVERY, InversionParams
from sfumato.options.option import option, skip_option
from sfumato.options.other_images import check_proportions
from sfumato.options.params import PromptPair, check_weights

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.metrics.text import DualEncoder
    from sfumato.metrics.vision import VisionEncoder
    from sfumato.models.diffusion_model import DiffusionModel

Texts = tuple[str, str]
"""(text that describes the source image, text that describes the edited image); "" for a text that is not given."""
_EXTRACTED = dict.fromkeys(("edit-friendly", "native-ddpm"), 3.5)


@dataclass(frozen=True)
class DiffuseITParams(InversionParams):
    """The defaults of the authors' code, and a common guidance scale, as their network has no text input."""

    inversion: str = option("sdedit", "name of the inversion", stage="invert", choices=("sdedit", *EVERY))
    source_guidance_scale: float = option(
        1.0, "guidance scale of the source prompt", stage="invert", low=0, high=100, after=_EXTRACTED
    )
    skip: int = skip_option(40, after=dict.fromkeys(DETERMINISTIC, 20))
    guidance_scale: float = option(7.5, "guidance scale of the target prompt", stage="edit", low=0, high=100)
    target_image: str = option(
        "", "image file with the target appearance; without it the target text is used", stage="edit", file=True
    )
    target_text: str = option("", "text of the text losses; by default the target prompt", stage="edit")
    source_text: str = option("", "text about the source image; by default the source prompt", stage="edit")
    loss_scale: float = option(1.0, "factor of all losses", stage="edit", low=0, high=1e6)
    contrast_weight: float = option(
        200.0, "weight of the contrast between positions of ViT keys", stage="edit", low=0, high=1e6
    )
    similarity_weight: float = option(
        1000.0, "weight of the self-similarity of ViT keys", stage="edit", low=0, high=1e6
    )
    divergence_weight: float = option(
        100.0, "weight of the distance to the class token of the step before", stage="edit", low=0, high=1e6
    )
    divergence_above: int = option(
        500, "the divergence loss is used at timesteps above this one", stage="edit", low=0, high=999
    )
    text_weight: float = option(2000.0, "weight of the agreement with the text", stage="edit", low=0, high=1e6)
    direction_weight: float = option(
        0.0, "weight of the directional loss, for the change from the source to the target text", stage="edit",
        low=0, high=1e6,
    )  # fmt: skip
    class_weight: float = option(
        2000.0, "weight of the distance to the class token of the target image", stage="edit", low=0, high=1e6
    )
    pixel_weight: float = option(
        3000.0, "weight of the distance to the pixels of the target image", stage="edit", low=0, high=1e6
    )
    range_weight: float = option(200.0, "weight of pixels outside [-1, 1]", stage="edit", low=0, high=1e6)
    crops: int = option(8, "number of random crops that the text losses read", stage="edit", low=1, high=256)
    resample: int = option(
        10, "number of times that the first step is run (resampling)", stage="edit", low=1, high=1000
    )
    noise_augmentation: bool = option(
        False, "compute the losses from a mixture of P_t and x_t instead of P_t; one more decoding", stage="edit"
    )
    through_network: bool = option(
        True,
        "pass gradients through the denoising network; without, the predicted noise is a constant: faster",
        stage="edit",
    )
    colour_match: str = option(
        "none", "image to whose mean and covariance of colours the result is matched", stage="edit",
        choices=("none", "source", "target"),
    )  # fmt: skip
    vit_folder: str = option(
        "",
        "folder or hub id of a vision transformer (DINO, CLIP, ...); by default the bundled one",
        stage="edit",
        file=True,
    )
    clip_folder: str = option(
        "", "folder or hub id of a CLIP; by default the bundled dual encoder", stage="edit", file=True
    )

    @property
    def keeps_prompt(self) -> bool:
        """Whether a target image or text replaces the target prompt."""
        return bool(self.target_image or self.target_text.strip())

    @property
    def uses_vit(self) -> bool:
        """Whether a loss uses the vision transformer."""
        return any((self.contrast_weight, self.similarity_weight, self.divergence_weight)) or self.uses_class_token

    @property
    def uses_class_token(self) -> bool:
        """Whether a loss uses the class token of the vision transformer."""
        return bool(self.divergence_weight or (self.target_image and self.class_weight))

    @property
    def uses_text(self) -> bool:
        """Whether a text loss is used: its weight is not 0, and no target image or also a target text is given."""
        wanted = not self.target_image or bool(self.target_text.strip())
        return wanted and bool(self.text_weight or self.direction_weight)

    @property
    def reads_target(self) -> bool:
        """Whether a text loss reads the target prompt, in place of a target text."""
        return self.uses_text and not self.target_text.strip()

    @cached_property
    def target(self) -> Tensor | None:
        """The target image, [1,3,h,w] in [-1,1], read once; None if none is given. Raises BadInput."""
        from sfumato.images import read_image
        from sfumato.images.tensors import to_tensor

        return to_tensor(read_image(self.target_image)) if self.target_image else None

    @cached_property
    def vit(self) -> VisionEncoder:
        """The vision transformer, loaded once. Raises BadInput."""
        from sfumato.metrics.evaluator import SHIPPED
        from sfumato.metrics.frozen import local_folder
        from sfumato.metrics.vision import VisionEncoder

        folder = local_folder(self.vit_folder or self.clip_folder or SHIPPED)
        encoder = VisionEncoder(folder)
        if self.uses_class_token and not encoder.has_class_token:
            raise BadInput(
                f"The vision transformer in {printable(folder)} has no class token: give another vit_folder, or set "
                "divergence_weight and class_weight to 0."
            )
        return encoder

    @cached_property
    def clip(self) -> DualEncoder:
        """The dual encoder, loaded once. Raises BadInput."""
        from sfumato.metrics.evaluator import SHIPPED
        from sfumato.metrics.frozen import local_folder
        from sfumato.metrics.text import DualEncoder

        return DualEncoder.load(local_folder(self.clip_folder or SHIPPED))

    def check(self) -> None:
        """Check value ranges, and that a target image and a target text are used if given. Raises BadInput."""
        super().check()
        if self.colour_match == "target" and not self.target_image:
            raise BadInput("colour_match = target needs a target_image: name one, or choose source or none.")
        if self.colour_match != "target":
            check_weights(self, "target_image", ("class_weight", "pixel_weight"))
        for name in ("target_text", "source_text"):
            check_weights(self, name, ("text_weight", "direction_weight"))
        if self.target_image and not self.target_text.strip() and (self.direction_weight or self.source_text.strip()):
            raise BadInput(
                "direction_weight and source_text belong to the text losses, which a target_image replaces: give a "
                "target_text too, or leave them out."
            )

    @property
    def files(self) -> Sequence[str]:
        """Paths of the target image and of local network folders."""
        folders = [each for each in (self.vit_folder, self.clip_folder) if each and Path(each).is_dir()]
        return [*folders, *([self.target_image] if self.target_image else [])]

    def check_headers(self) -> None:
        """Read the target image, and check the files of the networks that are used. Raises BadInput."""
        from sfumato.images import read_image

        if self.target_image:
            read_image(self.target_image)
        if self.uses_vit and (folder := self.vit_folder or self.clip_folder):
            check_vision(folder)
        if self.uses_text and self.clip_folder:
            check_clip(self.clip_folder)

    def check_files(self) -> None:
        """Read the target image and load the networks. Raises BadInput if one of them cannot be read."""
        _ = self.target, self.uses_vit and self.vit, self.uses_text and self.clip

    def check_run(self, network: DiffusionModel, size: tuple[int, int], prompts: Sequence[PromptPair]) -> None:
        """Check the proportions of the target image, and the texts that the losses need. Raises BadInput."""
        if self.target is not None and self.pixel_weight:
            height, width = self.target.shape[-2:]
            otherwise = ", or set pixel_weight to 0"
            check_proportions((width, height), self.target_image, size, network.latent_multiple, otherwise)
        if not self.uses_text:
            return
        if network.takes_text and not prompts and not (self.source_text.strip() and self.target_text.strip()):
            raise BadInput(
                "The two text encoders of this model split prompts differently: give source_text and target_text."
            )
        pairs = self.texts(prompts)
        if given := [text for text in dict.fromkeys(text for pair in pairs for text in pair) if text]:
            self.clip.check_texts(given)
        if self.direction_weight and any(not all(pair) or pair[0] == pair[1] for pair in pairs):
            raise BadInput("direction_weight needs two different texts: give source_text and target_text.")

    def texts(self, prompts: Sequence[PromptPair]) -> list[Texts]:
        """Return the texts of every image; a single pair for all images if the prompts are not known."""
        known = [(source.plain.strip(), target.plain.strip()) for source, target in prompts] or [("", "")]
        return [(self.source_text.strip() or source, self.target_text.strip() or target) for source, target in known]

    def path(self, steps: int) -> list[int]:
        """Return the path on which the first step is run `resample` times."""
        return repeat_first(steps, self.resample)

    def finish(self, edited: Tensor, source: Tensor | None, inside: Tensor | None = None) -> Tensor:
        """Match colours inside the mask to those of the target or the source image, as `colour_match` selects."""
        from sfumato.images.colour_match import match_colours

        if self.colour_match == "none":
            return edited
        from_source = self.colour_match == "source"
        reference = source if from_source else self.target
        assert reference is not None  # the method generates no images, and `check` requires the target image
        of_reference = inside if from_source else None
        return match_colours(edited, reference, inside=inside, inside_references=of_reference).to(edited.dtype)
