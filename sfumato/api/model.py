"""A loaded model: inverts pictures, generates new ones, takes up saved inversions."""

import os
import threading
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sfumato.api.arguments import (
    as_list,
    check_batch,
    check_negative,
    check_prompts,
    check_run,
    check_seeds,
    height_and_width,
    resolve,
    spread,
)
from sfumato.api.finding import between
from sfumato.api.generating import generating
from sfumato.api.group import padded_size
from sfumato.api.interpolating import interpolate_steps
from sfumato.api.inverted import Inverted
from sfumato.api.inverting import inverting
from sfumato.api.opening import opened
from sfumato.api.regions import Region, check_region
from sfumato.api.result import Result
from sfumato.api.run import Run
from sfumato.api.settings import check_settings
from sfumato.errors import BadInput
from sfumato.images import MAX_PIXELS, read_image
from sfumato.methods.generate import GenerateParams
from sfumato.methods.params import Params, Stage
from sfumato.methods.registry import Method, get_method
from sfumato.metrics import DualEncoder
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.load import list_models, load_model
from sfumato.shifts.text_direction import TextDirection


def load(
    name: str | os.PathLike[str],
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    *,
    config: str | os.PathLike[str] | None = None,
) -> "Model":
    """Load a model by its bundled name, local folder, hub id or single .safetensors file.

    Args:
        name: e.g. "emoji", "/models/stable-diffusion-v1-5", "stable-diffusion-v1-5/stable-diffusion-v1-5".
        device: "cpu", "cuda", ...; by default CUDA where there is one.
        dtype: "fp32", "bf16" or "fp16" for the network; latents are float32 whatever it is.
        config: for a single file, the folder of a model of the same architecture.

    Raises:
        BadInput: no such model, or one that cannot be used.
    """
    network = load_model(os.fspath(name), device, dtype, config=None if config is None else Path(config))
    bundled = {model.name: model.folder for model in list_models()}
    return Model(network, bundled.get(os.fspath(name), Path(name).expanduser()))


class Model:
    """A diffusion model that edits and generates pictures.

    Attributes:
        network: the network, its autoencoder and text towers.
        folder: where it was loaded from, if that is a folder; a `dual_encoder` in it scores the results.

    Raises:
        BadInput: a network that needs more than latents and prompts, or defaults that no method can take.
    """

    def __init__(self, network: DiffusionModel, folder: Path | None = None) -> None:
        if network.map_channels:
            raise BadInput(
                f"{network.name or 'This network'} takes {network.map_channels} channels beside the latent "
                "(inpainting, for example): load the model without them, and give edits a mask."
            )
        check_settings(network.settings, network.name)
        self.network = network
        self.folder = folder
        self._with_dual_encoder = threading.RLock()

    @property
    def dual_encoder(self) -> DualEncoder | None:
        """The model's own CLIP, for text similarity in reports; None where the folder has none."""
        with self._with_dual_encoder:
            return self._dual_encoder

    def text_features(self, texts: Sequence[str]) -> Tensor | None:
        """Features of texts under the dual encoder, whose tokenizer takes one call at a time.

        None where there is no dual encoder, or the network takes no text.

        Raises:
            BadInput: as `DualEncoder.text_features`.
        """
        encoder = self.dual_encoder
        if encoder is None or not self.network.takes_text:
            return None
        with self._with_dual_encoder:
            return encoder.text_features(texts)

    @cached_property
    def _dual_encoder(self) -> DualEncoder | None:
        if self.folder is None or not (self.folder / "dual_encoder").is_dir():
            return None
        return DualEncoder.load(self.folder / "dual_encoder", self.network.device)

    def invert(self, images: Any, prompts: str | Sequence[str] = "", **options: Any) -> Inverted:
        """Invert pictures under their source prompts; see `invert_steps`."""
        return self.invert_steps(images, prompts, **options).result

    def invert_steps(
        self,
        images: Any,
        prompts: str | Sequence[str] = "",
        *,
        method: str = "edit-friendly",
        seed: int | Sequence[int] = 0,
        batch: int | None = None,
        max_pixels: int = MAX_PIXELS,
        **options: Any,
    ) -> Run[Inverted]:
        """Invert, yielding after every step; everything is checked before the first.

        Args:
            images: a path, bytes, Pillow image or uint8 array [h,w,3], or a list of them, of any sizes.
            prompts: what the pictures show, one for all or one for each; may be empty.
            method: name of the method.
            seed: one for all or one for each picture; one picture with several seeds is inverted several times.
            batch: most rows in one call of the network; by default as many as fit comfortably.
            max_pixels: width x height of the largest picture that is read.
            options: the method's options, e.g. steps, eta, source_strength, exact.

        Raises:
            BadInput: anything that cannot be used, with the allowed range.
        """
        chosen = get_method(method)
        check_batch(batch)
        params = self._params(chosen, options)
        seeds = check_seeds(as_list(seed))
        texts = check_prompts(self.network, as_list(prompts), "source prompt", empty=not chosen.params.needs_text)
        pictures = [read_image(each, max_pixels) for each in as_list(images)]
        if not pictures:
            raise BadInput("Give at least one picture.")
        count = max(len(seeds), len(texts)) if len(pictures) == 1 else len(pictures)
        pictures = pictures * count if len(pictures) == 1 else pictures
        texts, seeds = spread(texts, count, "source prompt"), spread(seeds, count, "seed")
        return Run(self.network, inverting(self, chosen, params, pictures, texts, seeds, batch))

    def check_edit(
        self,
        source: str,
        target: str = "",
        *,
        method: str = "edit-friendly",
        size: tuple[int, int] | None = None,
        region: Region | None = None,
        negative_prompt: str = "",
        **options: Any,
    ) -> None:
        """Refuse an edit that `Inverted.edit` would refuse, before the picture has been inverted for it.

        Args:
            source: what the picture shows.
            target: what it shall show.
            method: name of the method.
            size: (width, height) of the picture in pixels; the model's native size by default.
            region: what bounds the edit, see `sfumato.api.regions`.
            negative_prompt: what guidance moves away from.
            options: the method's options, those of the inversion and those of the edit.

        Raises:
            BadInput: options out of range, prompts that cannot be read, words that are not in them, files that do not
                fit the model.
        """
        network, chosen = self.network, get_method(method)
        params = self._params(chosen, options)
        texts = check_prompts(network, [source], "source prompt", empty=not params.needs_text)
        targets = check_prompts(network, [target], "target prompt", empty=params.keeps_prompt)
        check_negative(network, params, negative_prompt, [getattr(params, "strength", 1.0)])
        targets = [target if target.strip() else source for source, target in zip(texts, targets, strict=True)]
        _, height, width = network.latent_shape(*padded_size(network, size or network.native_size[::-1]))
        check_run(network, params, [(height, width)], texts, targets)
        if region is not None:
            check_region(network, region, texts, targets)

    def _params(self, method: Method, options: Mapping[str, Any]) -> Params:
        stages: tuple[Stage, ...] = ("invert", "edit")
        what = f"method {method.name}"
        return resolve(self.network, method.params, options, stages=stages, section=method.section, what=what)

    def open(self, path: str | os.PathLike[str], images: Any = None, *, batch: int | None = None) -> Inverted:
        """Take up an inversion that `Inverted.save` wrote.

        Args:
            path: the file.
            images: the source pictures, for their alpha and colour profile; without them the stored pixels are used.
            batch: most rows in one call of the network; by default as many as fit comfortably.

        Raises:
            BadInput: not an inversion, one of another model, or other pictures.
        """
        check_batch(batch)
        return opened(self, path, images, batch)

    def interpolate(self, first: Any, second: Any, prompts: Sequence[str] = ("", ""), **options: Any) -> Result:
        """Pictures on the way from one picture to another; see `interpolate_steps`."""
        return self.interpolate_steps(first, second, prompts, **options).result

    def interpolate_steps(
        self, first: Any, second: Any, prompts: Sequence[str] = ("", ""), **options: Any
    ) -> Run[Result]:
        """`sfumato.api.interpolating.interpolate_steps`, which explains the options, with this model."""
        return interpolate_steps(self, first, second, prompts, **options)

    def text_direction(self, source: str | Sequence[str], target: str | Sequence[str]) -> TextDirection:
        """The direction from one word, or bank of sentences, to another; see `sfumato.api.finding.between`."""
        return between(self, source, target)

    def generate(self, prompts: str | Sequence[str] = "", **options: Any) -> Result:
        """New pictures from prompts; see `generate_steps`."""
        return self.generate_steps(prompts, **options).result

    def generate_steps(
        self,
        prompts: str | Sequence[str] = "",
        *,
        seed: int | Sequence[int] = 0,
        size: int | tuple[int, int] | None = None,
        negative_prompt: str = "",
        batch: int | None = None,
        **options: Any,
    ) -> Run[Result]:
        """Generate, yielding after every step; everything is checked before the first.

        Args:
            prompts: what the pictures shall show.
            seed: one for all or one for each; a single prompt takes several seeds.
            size: (width, height) in pixels, or the side of a square; the model's native size by default.
            negative_prompt: what guidance moves away from.
            batch: most rows in one call of the network.
            options: steps, strength, eta.

        Raises:
            BadInput: anything that cannot be used, with the allowed range.
        """
        network = self.network
        check_batch(batch)
        params = resolve(network, GenerateParams, options, stages=("generate",), section="generate", what="generate")
        seeds = check_seeds(as_list(seed))
        texts = check_prompts(network, as_list(prompts), "prompt", empty=False)
        check_negative(network, params, negative_prompt, [params.strength])
        count = max(len(seeds), len(texts))
        texts, seeds = spread(texts, count, "prompt"), spread(seeds, count, "seed")
        shape = network.latent_shape(*height_and_width(network, size))
        return Run(network, generating(self, params, texts, seeds, shape, negative_prompt, batch))
