"""Inverted pictures: reconstructed and edited as often as the user likes."""

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sfumato.api.arguments import as_list, check_negative, check_prompts, check_run, revise, spread
from sfumato.api.editing import Order, batches, editing
from sfumato.api.finish import inside
from sfumato.api.group import Group
from sfumato.api.reconstructing import reconstructing
from sfumato.api.regions import Region, check_region, region
from sfumato.api.report import made_with, parameters
from sfumato.api.result import Result
from sfumato.api.run import Run
from sfumato.errors import BadInput
from sfumato.images import Picture
from sfumato.inversion import Inversion
from sfumato.methods.params import Params
from sfumato.methods.registry import Method

if TYPE_CHECKING:
    from sfumato.api.model import Model


@dataclass(frozen=True, eq=False)
class Inverted:
    """The outcome of `Model.invert`.

    Attributes:
        model: what inverted the pictures and will edit them.
        method: the method.
        params: its parameters; those of the edit are defaults that `edit` may override.
        groups: the pictures by size, each group with its inversion.
        report: seconds, network_evaluations, parameters, pictures.
        batch: most rows in one call of the network, as the user said.
        errors: largest latent error of the reconstruction by picture, as far as it has been measured.
    """

    model: "Model"
    method: Method
    params: Params
    groups: list[Group]
    report: dict[str, Any]
    batch: int | None = None
    errors: dict[int, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(len(group.indices) for group in self.groups)

    @property
    def pictures(self) -> list[Picture]:
        """The pictures in the user's order."""
        placed = {i: p for group in self.groups for i, p in zip(group.indices, group.pictures, strict=True)}
        return [placed[i] for i in range(len(self))]

    @property
    def prompts(self) -> list[str]:
        """The source prompts in the user's order."""
        placed = {i: p for group in self.groups for i, p in zip(group.indices, group.inversion.prompts, strict=True)}
        return [placed[i] for i in range(len(self))]

    @property
    def latent_error(self) -> float | None:
        """Largest difference between replayed and encoded x_0 over all pictures; None until `reconstruct` ran."""
        return max(self.errors.values()) if len(self.errors) == len(self) else None

    def edit(self, prompts: str | Sequence[str] = "", **options: Any) -> Result:
        """The pictures under other prompts; see `edit_steps`."""
        return self.edit_steps(prompts, **options).result

    def edit_steps(
        self,
        prompts: str | Sequence[str] = "",
        *,
        strength: float | Sequence[float] | None = None,
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
            prompts: what the pictures shall show, one for all or one for each; a single picture takes several. Empty
                is their source prompt, where the method does something without another one (pullback).
            strength: guidance strength of the prompt, one for all or one for each result.
            mask: image files (or Pillow images) of the pictures' size, white where the picture may change; one for
                all or one for each result. Outside it the result has the source's own pixels.
            mask_words: bound the edit by where these words of either prompt are, "cat,dog", by their attention maps.
            mask_difference: bound the edit by where the two prompts want other things (DiffEdit).
            mask_threshold: see `sfumato.api.regions`.
            residual: give back what the autoencoder loses where the edit left the picture alone.
            check: replay the source first, unless that has been done, and report
                `reconstruction_latent_max_error`.
            negative_prompt: what guidance moves away from.
            options: other options of the method's edit, e.g. skip.

        Raises:
            BadInput: anything that cannot be used, with the allowed range.
        """
        strengths, masks = ([] if each is None else as_list(each) for each in (strength, mask))
        texts = as_list(prompts)
        wanted = max(len(texts), len(strengths), len(masks)) if len(self) == 1 else len(self)
        found = region(mask_words, mask_difference, mask_threshold)
        order = self._order(wanted, texts, strengths, masks, found, negative_prompt, options, residual, check)
        return Run(self.model.network, editing(self, order))

    def reconstruct(self, *, residual: bool = False) -> Result:
        """The pictures as the inversion reproduces them; see `reconstruct_steps`."""
        return self.reconstruct_steps(residual=residual).result

    def reconstruct_steps(self, *, residual: bool = False) -> Run[Result]:
        """Replay every step under the source prompt, and measure how far x_0 is from the encoded picture.

        Args:
            residual: add what the autoencoder loses, which leaves nothing to see: off by default.
        """
        return Run(self.model.network, reconstructing(self, residual))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Keep the inversion in one safetensors file, to be taken up by `Model.open`.

        Raises:
            BadInput: pictures of several sizes, or a path that cannot be written.
        """
        if len({group.size for group in self.groups}) != 1:
            raise BadInput("One file holds pictures of one size: invert and save those of other sizes separately.")
        indices = [index for group in self.groups for index in group.indices]
        inversion = Inversion.cat([group.inversion for group in self.groups])
        in_order = inversion.rows([indices.index(n) for n in range(len(indices))])
        dataclasses.replace(in_order, model=self.model.network.fingerprint()).save(path)

    def recipe(self, index: int) -> dict[str, Any]:
        """Everything needed to invert one of the pictures again, as JSON values."""
        group = next(each for each in self.groups if index in each.indices)
        row = group.indices.index(index)
        return {
            **made_with(self.model.network),
            "method": self.method.name,
            "source_prompt": group.inversion.prompts[row],
            "seed": group.inversion.seeds[row],
            **parameters(self.params),
        }

    def _order(
        self,
        wanted: int,
        prompts: list[Any],
        strengths: list[Any],
        masks: list[Any],
        found: Region | None,
        negative_prompt: str,
        options: dict[str, Any],
        residual: bool,
        check: bool,
    ) -> Order:
        network, what = self.model.network, f"edit by {self.method.name}"
        params = revise(network, self.params, options, what)
        for each in strengths:
            revise(network, params, {"strength": each}, what)
        texts = check_prompts(network, prompts, "target prompt", empty=params.keeps_prompt)
        sources = spread(self.prompts, wanted, "picture")
        texts = [
            text if text.strip() else source
            for text, source in zip(spread(texts, wanted, "target prompt"), sources, strict=True)
        ]
        sizes = ((group.inversion.x.shape[-2], group.inversion.x.shape[-1]) for group in self.groups)
        check_run(network, params, sizes, sources, texts)
        if found is not None:
            check_region(network, found, sources, texts)
        chosen = spread(strengths or [getattr(params, "strength", 1.0)], wanted, "strength")
        check_negative(network, params, negative_prompt, chosen)
        pictures = spread(self.pictures, wanted, "picture")
        given = zip(spread(masks or [None], wanted, "mask"), pictures, strict=True)
        return Order(
            masks=[None if mask is None else inside(mask, picture.size) for mask, picture in given],
            region=found,
            batches=batches(self, texts, chosen, negative_prompt),
            of=spread(list(range(len(self))), wanted, "picture"),
            pictures=pictures,
            prompts=texts,
            strengths=chosen,
            params=params,
            residual=residual,
            check=check,
            negative_prompt=negative_prompt,
            text_features=self.model.text_features(texts),
        )
