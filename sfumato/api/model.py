"""A loaded model: inverts pictures, generates new ones, takes up saved inversions."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sfumato.api.arguments import (
    as_list,
    check_batch,
    check_negative,
    check_prompts,
    check_seeds,
    check_shifts,
    height_and_width,
    resolve,
    spread,
)
from sfumato.api.composition import Named, as_named, name_of
from sfumato.api.edit_plan import plan_edit
from sfumato.api.finding import between
from sfumato.api.generating import extra_condition, generating, read_extra
from sfumato.api.interpolating import interpolate_steps
from sfumato.api.inverted import Inverted
from sfumato.api.inverting import inverting, outlines
from sfumato.api.loaded import Loaded
from sfumato.api.opening import opened
from sfumato.api.plan import Plan, with_masks
from sfumato.api.result import Result
from sfumato.api.run import Run
from sfumato.core.shift import Shift
from sfumato.errors import BadInput
from sfumato.images import MAX_PIXELS, Picture, read_image
from sfumato.methods.generate import GenerateParams
from sfumato.methods.params import Params, Stage, options_of
from sfumato.methods.registry import Method, get_method
from sfumato.models.checks import check_prompts_suffice
from sfumato.models.load import list_models, load_model
from sfumato.shifts.text_direction import TextDirection

DEFAULT_METHOD = "edit-friendly"
"""The method where the caller names none."""


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


class Model(Loaded):
    """A diffusion model that edits and generates pictures; the attributes are those of `Loaded`."""

    def invert(self, images: Any, prompts: str | Sequence[str] = "", **options: Any) -> Inverted:
        """Invert pictures under their source prompts; see `invert_steps`."""
        return self.invert_steps(images, prompts, **options).result

    def invert_steps(
        self,
        images: Any,
        prompts: str | Sequence[str] = "",
        *,
        method: str = DEFAULT_METHOD,
        seed: int | Sequence[int] = 0,
        batch: int | None = None,
        max_pixels: int = MAX_PIXELS,
        **options: Any,
    ) -> Run[Inverted]:
        """Invert, yielding after every step; everything is checked before the first.

        Args:
            images: a path, bytes, Pillow image or uint8 array [h,w,3], or a list of them, of any sizes.
            prompts: prompts of the pictures, one for all or one for each; may be empty.
            method: the method that they are inverted for: it chooses the inversion and the defaults of the edit.
            seed: one for all or one for each picture; one picture with several seeds is inverted several times.
            batch: most rows in one call of the network; by default as many as fit comfortably.
            max_pixels: width x height of the largest picture that is read.
            options: the method's options, e.g. steps, eta, source_guidance_scale, exact.

        Raises:
            BadInput: anything that cannot be used, with the allowed range.
        """
        return Run(self.network, inverting(self._sources(images, prompts, method, seed, batch, max_pixels, options)))

    def plan(
        self,
        images: Any,
        source: str | Sequence[str] = "",
        target: str | Sequence[str] = "",
        *,
        methods: str | Sequence[Named] = DEFAULT_METHOD,
        shifts: Sequence[Shift] = (),
        seed: int | Sequence[int] = 0,
        batch: int | None = None,
        max_pixels: int = MAX_PIXELS,
        guidance_scale: float | Sequence[float] | None = None,
        mask: Any = None,
        mask_words: str = "",
        mask_difference: bool = False,
        mask_threshold: float | None = None,
        residual: bool = True,
        check: bool = False,
        negative_prompt: str = "",
        **options: Any,
    ) -> Plan:
        """An edit of pictures in which everything has been read and checked, once: `plan.run()` runs it.

        Args:
            images: as for `invert_steps`; so are seed, batch and max_pixels.
            source: prompts of the pictures, one for all or one for each; may be empty.
            target: prompts of the edited pictures; this and all arguments that are not named here as for
                `Inverted.edit_steps`.
            methods: name of a method, or several as for `Inverted.edit_steps`: the first one chooses the inversion.
            options: of the inversion and of the run; with the name of one method those of its edit, too.

        Raises:
            BadInput: anything that cannot be used, with the allowed range.
        """
        several = [] if isinstance(methods, str) else as_named(methods)
        first = methods if isinstance(methods, str) else name_of(several[0]) if several else DEFAULT_METHOD
        known = get_method(first).params
        later = {name: options[name] for name in options if several and name not in options_of(known, "invert")}
        inverting_with = {name: value for name, value in options.items() if name not in later}
        sources = self._sources(images, source, first, seed, batch, max_pixels, inverting_with)
        edit: dict[str, Any] = {
            "shifts": shifts,
            "guidance_scale": guidance_scale,
            "mask": mask,
            "mask_words": mask_words,
            "mask_difference": mask_difference,
            "mask_threshold": mask_threshold,
            "residual": residual,
            "check": check,
            "negative_prompt": negative_prompt,
        }
        chosen = None if isinstance(methods, str) else several
        planned = plan_edit(sources, target, methods=chosen, options=later, **edit)
        request: dict[str, Any] = {"source": source, "target": target, "methods": methods, "seed": seed, "batch": batch}
        request |= {"images": sources.pictures if len(as_list(images)) > 1 else sources.pictures[0]}
        return with_masks(Plan(sources, planned, request | edit | options))

    def _sources(
        self, images: Any, prompts: Any, method: str, seed: Any, batch: int | None, max_pixels: int, options: Any
    ) -> Inverted:
        """Pictures read and everything about their inversion checked. Raises BadInput."""
        check_prompts_suffice(self.network, "invert")
        chosen = get_method(method)
        check_batch(batch)
        params = self._params(chosen, options)
        seeds = check_seeds(as_list(seed))
        texts = check_prompts(self.network, as_list(prompts), "source prompt", empty=not chosen.params.needs_text)
        pictures = [each if isinstance(each, Picture) else read_image(each, max_pixels) for each in as_list(images)]
        if not pictures:
            raise BadInput("Give at least one picture.")
        count = max(len(seeds), len(texts)) if len(pictures) == 1 else len(pictures)
        pictures = pictures * count if len(pictures) == 1 else pictures
        texts, seeds = spread(texts, count, "source prompt"), spread(seeds, count, "seed")
        groups = outlines(self, chosen, params, pictures, texts, seeds, batch)
        return Inverted(self, chosen, params, groups, {}, batch)

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
        check_prompts_suffice(self.network, "open")
        check_batch(batch)
        return opened(self, path, images, batch)

    def interpolate(self, first: Any, second: Any, prompts: Sequence[str] = ("", ""), **options: Any) -> Result:
        """Pictures on the way from one picture to another; see `interpolate_steps`."""
        return self.interpolate_steps(first, second, prompts, **options).result

    def interpolate_steps(
        self, first: Any, second: Any, prompts: Sequence[str] = ("", ""), **options: Any
    ) -> Run[Result]:
        """`sfumato.api.interpolating.interpolate_steps`, which explains the options, with this model."""
        check_prompts_suffice(self.network, "interpolate")
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
        maps: Tensor | None = None,
        labels: int | Sequence[Any] | Tensor | None = None,
        tokens: Tensor | None = None,
        shifts: Sequence[Shift] = (),
        batch: int | None = None,
        **options: Any,
    ) -> Run[Result]:
        """Generate, yielding after every step; everything is checked before the first.

        Args:
            prompts: what the pictures shall show.
            seed: one for all or one for each; a single prompt takes several seeds.
            size: (width, height) in pixels, or the side of a square; by default that of the maps, or the model's
                native size.
            negative_prompt: what guidance moves away from.
            maps: [n,c,h,w] for a network that takes channels beside the latent's (inpainting, InstructPix2Pix), one
                for all pictures or one for each; see `sfumato.models.maps`.
            labels: class labels for a network that takes them, one for all or one for each; see
                `sfumato.models.class_labels`.
            tokens: [n,k,d] for a network with cross-attention and no text encoder, one for all or one for each.
            shifts: what moves the reverse process (`sfumato.core.shift.Shift`), in order.
            batch: most rows in one call of the network.
            options: steps, guidance_scale, eta.

        Raises:
            BadInput: anything that cannot be used, with the allowed range.
        """
        network = self.network
        check_batch(batch)
        check_shifts(shifts)
        params = resolve(network, GenerateParams, options, stages=("generate",), section="generate", what="generate")
        seeds = check_seeds(as_list(seed))
        texts = check_prompts(network, as_list(prompts), "prompt", empty=False)
        check_negative(network, params.uses_negative, negative_prompt, [params.guidance_scale])
        parts = read_extra(network, maps, labels, tokens)
        count = max(len(seeds), len(texts), *(len(part) for part in parts.values()))
        texts, seeds = spread(texts, count, "prompt"), spread(seeds, count, "seed")
        if size is None and maps is not None:
            size = maps.shape[3] * network.factor, maps.shape[2] * network.factor
        shape = network.latent_shape(*height_and_width(network, size))
        extra = extra_condition(parts, count, shape)
        return Run(network, generating(self, params, texts, seeds, shape, negative_prompt, batch, extra, shifts))
