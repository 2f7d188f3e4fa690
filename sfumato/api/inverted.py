"""Inverted images, which can be reconstructed and edited any number of times."""

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sfumato.api.arguments import given
from sfumato.api.edit_plan import plan_edit
from sfumato.api.editing import edit_run
from sfumato.api.named import Named
from sfumato.api.reconstructing import reconstructing
from sfumato.api.result import Result
from sfumato.api.run import Run, finished
from sfumato.api.sources import Sources
from sfumato.core.shift import Shift
from sfumato.errors import BadInput
from sfumato.inversion import Inversion


@dataclass(frozen=True, eq=False)
class Inverted(Sources):
    """Inverted images, returned by `Model.invert` and `Model.open`; the attributes are those of `Sources`."""

    def edit_steps(
        self,
        prompts: str | Sequence[str] = "",
        *,
        maps: Tensor | None = None,
        labels: int | Sequence[Any] | Tensor | None = None,
        tokens: Tensor | None = None,
        methods: str | Sequence[Named] | None = None,
        shifts: Sequence[Shift] = (),
        skip: int | None = None,
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
        """Edit the images, yielding after every step.

        All arguments are checked before the first step. `edit` has the same arguments and returns the result.

        Args:
            prompts: target prompts, which describe the edited images; one for all or one per image, or several for a
                single image. For methods that edit without a target prompt (e.g. pullback), an empty prompt is replaced
                by the source prompt.
            maps: maps of the edit, as for `Model.invert_steps`; n is 1 or the number of images, or several for a single
                image. By default those of the inversion; the same applies to labels and tokens.
            labels: class labels of the edit.
            tokens: tokens of the edit.
            methods: name of a method, or a list of names and pairs (name, options of the edit), whose shifts are
                applied in this order. By default, the method that the images were inverted for; () replays the
                inversion under the target prompt without any method. A method can edit inversions of all kinds that it
                accepts, including those that were computed for another method. A pair (name, parameters) contains
                complete parameters, an object of the class of the method, to which no defaults of the model apply;
                their options of the inversion are those of this inversion, and their skip and guidance_scale are those
                of the first method.
            shifts: additional shifts (`sfumato.core.shift.Shift`), which are applied after those of the methods.
            skip: number of first (noisiest) steps to skip; higher values preserve more of the image. By default that
                of the inversion, as for guidance_scale.
            guidance_scale: guidance scale of the target prompt, one for all or one per result.
            mask: image files, Pillow images or arrays of the images' size, white where the edit applies; one for all
                or one per result. Where the mask is black, the result is bit-identical to the source; grey levels blend
                the edit and the source.
            mask_words: restrict the edit to the regions of these words of either prompt, e.g. "cat,dog", which are
                computed from their cross-attention maps.
            mask_difference: restrict the edit to the region where the predictions under source and target prompt differ
                (DiffEdit, arXiv 2210.11427).
            mask_threshold: threshold of mask_words (0 to 1, default 0.3: fraction of the range of the maps) or of
                mask_difference (0 to 100, default 1.5: multiple of the mean difference).
            residual: add back the reconstruction error of the autoencoder where the edit does not change the image.
            check: replay the source first, unless this has been done, and report
                `reconstruction_latent_max_error`.
            negative_prompt: the negative prompt of classifier-free guidance.
            options: other options of the edit; options of the method only if `methods` is a single name or
                not given.

        Returns:
            A run: iterate over it for progress, then read `result`. Its images are uint8 [h,w,3] of the size of the
            source.

        Raises:
            BadInput: an argument is invalid; the message gives the allowed values.
        """
        plan = plan_edit(
            self,
            prompts,
            maps=maps,
            labels=labels,
            tokens=tokens,
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
            options=given(options, skip=skip),
        )
        return edit_run(self, plan)

    edit = finished(edit_steps)

    def reconstruct(self, *, residual: bool = False) -> Result:
        """Reconstruct the images from their inversion and return the result; see `reconstruct_steps`."""
        return self.reconstruct_steps(residual=residual).result

    def reconstruct_steps(self, *, residual: bool = False) -> Run[Result]:
        """Replay every step under the source prompt and measure the error, yielding after every step.

        The report has `reconstruction_latent_max_error`, the largest absolute difference between the replayed and the
        encoded x_0, and the PSNR in dB of every image.

        Args:
            residual: add back the reconstruction error of the autoencoder. The reconstruction is then visually
                identical to the source, so this is off by default.

        Returns:
            A run: iterate over it for progress, then read `result`.
        """
        return Run(self.model.network, reconstructing(self, residual))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the inversion, with the source images, to one safetensors file, which `Model.open` reads.

        The file does not contain maps, labels and tokens; `Model.open` takes them again.

        Args:
            path: the file.

        Raises:
            BadInput: the images have different sizes, or the path cannot be written.
        """
        if len({group.full_size for group in self.groups}) != 1:
            raise BadInput("One file contains images of one size: invert and save those of other sizes separately.")
        indices = [index for group in self.groups for index in group.indices]
        inversion = Inversion.cat([group.inversion for group in self.groups])
        in_order = inversion.rows([indices.index(n) for n in range(len(indices))])
        dataclasses.replace(in_order, model=self.model.network.fingerprint()).save(path)
