"""Inverted pictures: reconstructed and edited as often as the user likes."""

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sfumato.api.composition import Named
from sfumato.api.edit_plan import plan_edit
from sfumato.api.editing import editing
from sfumato.api.reconstructing import reconstructing
from sfumato.api.result import Result
from sfumato.api.run import Run
from sfumato.api.sources import Sources
from sfumato.core.shift import Shift
from sfumato.errors import BadInput
from sfumato.inversion import Inversion


@dataclass(frozen=True, eq=False)
class Inverted(Sources):
    """The outcome of `Model.invert`; the attributes are those of `Sources`."""

    def edit(self, prompts: str | Sequence[str] = "", **options: Any) -> Result:
        """The pictures under other prompts; see `edit_steps`."""
        return self.edit_steps(prompts, **options).result

    def edit_steps(
        self,
        prompts: str | Sequence[str] = "",
        *,
        methods: Sequence[Named] | None = None,
        shifts: Sequence[Shift] = (),
        guidance_scale: float | Sequence[float] | None = None,
        mask: Any = None,
        mask_words: str = "",
        mask_difference: bool = False,
        mask_threshold: float | None = None,
        residual: bool = True,
        check: bool = False,
        negative_prompt: str = "",
        **options: Any,
    ) -> Run[Result]:
        """Edit, yielding after every step; everything is checked before the first.

        Args:
            prompts: prompts of the edited pictures, one for all or one for each; a single picture takes several. Empty
                is their source prompt, where the method does something without another one (pullback).
            methods: names of methods, or pairs of a name and the options of its edit, whose shifts act together in this
                order; () for the replay under the prompt alone. By default the method that the pictures were inverted
                for. Every method edits any inversion that it accepts, whatever it was made for.
            shifts: further shifts of your own (`sfumato.core.shift.Shift`), behind those of the methods.
            guidance_scale: guidance scale of the prompt, one for all or one for each result.
            mask: image files (or Pillow images) of the pictures' size, white where the picture may change; one for
                all or one for each result. Outside it the result has the source's own pixels.
            mask_words: bound the edit by where these words of either prompt are, "cat,dog", by their attention maps.
            mask_difference: bound the edit by where the predictions under the two prompts differ (DiffEdit).
            mask_threshold: see `sfumato.api.regions`.
            residual: give back what the autoencoder loses where the edit left the picture alone.
            check: replay the source first, unless that has been done, and report
                `reconstruction_latent_max_error`.
            negative_prompt: what guidance moves away from.
            options: other options of the edit, e.g. skip; those of the method where `methods` is not given.

        Raises:
            BadInput: anything that cannot be used, with the allowed range.
        """
        plan = plan_edit(
            self,
            prompts,
            methods=methods,
            shifts=shifts,
            guidance_scale=guidance_scale,
            mask=mask,
            mask_words=mask_words,
            mask_difference=mask_difference,
            mask_threshold=mask_threshold,
            residual=residual,
            check=check,
            negative_prompt=negative_prompt,
            options=options,
        )
        return Run(self.model.network, editing(self, plan))

    def reconstruct(self, *, residual: bool = False) -> Result:
        """The pictures as the inversion reproduces them; see `reconstruct_steps`."""
        return self.reconstruct_steps(residual=residual).result

    def reconstruct_steps(self, *, residual: bool = False) -> Run[Result]:
        """Replay every step under the source prompt, and measure how far x_0 is from the encoded picture.

        Args:
            residual: add what the autoencoder loses, which leaves no difference to see: off by default.
        """
        return Run(self.model.network, reconstructing(self, residual))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Keep the inversion in one safetensors file, which `Model.open` reads.

        Raises:
            BadInput: pictures of several sizes, or a path that cannot be written.
        """
        if len({group.size for group in self.groups}) != 1:
            raise BadInput("One file holds pictures of one size: invert and save those of other sizes separately.")
        indices = [index for group in self.groups for index in group.indices]
        inversion = Inversion.cat([group.inversion for group in self.groups])
        in_order = inversion.rows([indices.index(n) for n in range(len(indices))])
        dataclasses.replace(in_order, model=self.model.network.fingerprint()).save(path)
