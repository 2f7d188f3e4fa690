"""A loaded model, with methods to invert, edit, generate and interpolate images and to open saved inversions."""

import copy
import os
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from sfumato.api.arguments import (
    as_list,
    check_batch,
    check_prompts,
    check_seeds,
    given,
    resolve,
    spread,
)
from sfumato.api.composition import Named, as_named, name_of
from sfumato.api.edit_plan import plan_edit
from sfumato.api.extra import extra_condition, read_extra
from sfumato.api.finding import compute_text_direction
from sfumato.api.generation_plan import plan_generation
from sfumato.api.group import padded_size
from sfumato.api.interpolating import interpolate_steps
from sfumato.api.inverted import Inverted
from sfumato.api.inverting import inverting, outlines
from sfumato.api.loaded import Loaded
from sfumato.api.opening import opened
from sfumato.api.plan import Generation, Plan, with_masks
from sfumato.api.resolution import Resolution, at_resolution, check_resolution
from sfumato.api.result import Result
from sfumato.api.run import Run, finished, started
from sfumato.api.words_of_diffusers import renamed
from sfumato.core.shift import Shift
from sfumato.editing.registry import METHODS, Method
from sfumato.errors import BadInput
from sfumato.files import printable
from sfumato.images import MAX_PIXELS, LoadedImage, read_image
from sfumato.inversion import Inversion
from sfumato.models.pipelines import from_pipeline
from sfumato.models.tiles import TiledModel
from sfumato.options.params import Params, Stage, options_of
from sfumato.paths import path_text
from sfumato.shifts.text_direction import TextDirection

DEFAULT_METHOD = "edit-friendly"
"""Default method."""


class Model(Loaded):
    """A diffusion model that edits and generates images; the attributes are those of `Loaded`."""

    @classmethod
    def from_pipe(cls, pipe: Any, *, prompt_weights: bool = False, prompt_chunks: int = 1) -> "Model":
        """Create a model that shares the networks of a diffusers pipeline, with its LoRAs and textual inversions.

        The networks are not copied: later calls of `pipe.set_adapters`, `fuse_lora` or `load_textual_inversion` also
        change the model. Later changes of `pipe.scheduler` do not change it.

        Args:
            pipe: a DiffusionPipeline of diffusers, e.g. a StableDiffusionPipeline, StableDiffusionXLPipeline or their
                img2img and inpainting variants; for details see `sfumato.models.pipelines.from_pipeline`.
            prompt_weights: as for `sfumato.load`.
            prompt_chunks: as for `sfumato.load`.

        Raises:
            BadInput: `pipe` is not a pipeline, or not a supported one.
        """
        network = from_pipeline(pipe)
        network.read_prompts(weights=prompt_weights, chunks=prompt_chunks)
        return cls(network)

    def invert_steps(
        self,
        images: Any,
        prompts: str | Sequence[str] = "",
        *,
        maps: Tensor | None = None,
        labels: int | Sequence[Any] | Tensor | None = None,
        tokens: Tensor | None = None,
        method: str = DEFAULT_METHOD,
        seed: int | Sequence[int] = 0,
        batch: int | None = None,
        max_pixels: int = MAX_PIXELS,
        resolution: Resolution = None,
        tiles: bool = False,
        steps: int | None = None,
        eta: float | None = None,
        source_guidance_scale: float | None = None,
        exact: bool | None = None,
        skip: int | None = None,
        guidance_scale: float | None = None,
        **options: Any,
    ) -> Run[Inverted]:
        """Invert images under their source prompts, yielding after every step.

        All arguments are checked before the first step. `invert` has the same arguments and returns the result.

        Args:
            images: a path, bytes, Pillow image or uint8 array [h,w,3], or a list of them, of any sizes.
            prompts: source prompts, which describe the images; one for all or one per image. They may be empty, except
                for methods that require text.
            maps: [n,c,h,w] with the height and width of the latents, for a network with additional input channels
                (inpainting, InstructPix2Pix); n is 1 or the number of images, which must have one size; see
                `sfumato.models.maps`.
            labels: class labels of the images for a class-conditional network, one for all or one per image; see
                `sfumato.models.class_labels`.
            tokens: [n,k,d] for a network with cross-attention and without text encoder; n is 1 or the number of
                images.
            method: name of the method to invert for, see `sfumato.methods`; it determines the inversion and the
                defaults of the edit.
            seed: one for all or one per image; one image with several seeds is inverted several times.
            batch: maximum number of rows per forward pass; by default 2 to 64, depending on the size of the latents.
            max_pixels: width x height of the largest image that is read.
            resolution: size at which the images are edited: "native", about the number of pixels of the model's
                training images; "full", the size of the image; or an integer, the side of a square with about as many
                pixels. Results always have the size of the image: a change that was computed at another size is
                upsampled, and the details of the image are preserved (`sfumato.images.upsampling`). By default "native"
                for images with more than twice the pixels of the training images, otherwise "full".
            tiles: evaluate the network in overlapping tiles of the size of the training images, with resolution "full"
                or an integer (`sfumato.models.tiles`); not supported by methods that read features or attention maps.
            steps: number of steps of the run (num_inference_steps in diffusers). For this and the following options,
                see `sfumato methods METHOD`; not every method has all of them. The defaults are those of the model
                folder or of the method.
            eta: noise of a step, from 0 (DDIM) to 1 (DDPM).
            source_guidance_scale: guidance scale of the source prompt.
            exact: evaluate one timestep at a time, which is slower and makes the reconstruction more exact.
            skip: default of the edits: number of first (noisiest) steps to skip.
            guidance_scale: default of the edits: guidance scale of the target prompt.
            options: other options of the method.

        Returns:
            A run: iterate over it for progress, then read `result`.

        Raises:
            BadInput: an argument is invalid; the message gives the allowed values.
        """
        run = {"steps": steps, "eta": eta, "source_guidance_scale": source_guidance_scale, "exact": exact}
        options = renamed(given(options, **run, skip=skip, guidance_scale=guidance_scale), "invert")
        model = self._tiled(resolution) if tiles else self
        parts = read_extra(self.network, maps, labels, tokens)
        sources = model._sources(images, prompts, parts, method, seed, batch, max_pixels, resolution, options)
        return Run(self.network, inverting(sources))

    invert = finished(invert_steps)

    def plan(
        self,
        images: Any,
        source: str | Sequence[str] = "",
        target: str | Sequence[str] = "",
        *,
        maps: Tensor | None = None,
        labels: int | Sequence[Any] | Tensor | None = None,
        tokens: Tensor | None = None,
        target_maps: Tensor | None = None,
        target_labels: int | Sequence[Any] | Tensor | None = None,
        target_tokens: Tensor | None = None,
        methods: str | Sequence[Named] = DEFAULT_METHOD,
        shifts: Sequence[Shift] = (),
        seed: int | Sequence[int] = 0,
        batch: int | None = None,
        max_pixels: int = MAX_PIXELS,
        resolution: Resolution = None,
        tiles: bool = False,
        steps: int | None = None,
        eta: float | None = None,
        source_guidance_scale: float | None = None,
        exact: bool | None = None,
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
    ) -> Plan:
        """Plan an inversion and an edit: read all files and check all arguments. `plan.run()` runs it.

        Only text encoders are evaluated. The arguments images, maps, labels, tokens, seed, batch, max_pixels,
        resolution, tiles, steps, eta, source_guidance_scale and exact are those of `invert_steps`; arguments that are
        not listed below are those of `Inverted.edit_steps`.

        Args:
            images: as for `invert_steps`.
            source: source prompts, one for all or one per image; may be empty.
            target: target prompts, as for `Inverted.edit_steps`.
            target_maps: `maps` of `Inverted.edit_steps`; by default those of the inversion, as for the next two.
            target_labels: `labels` of `Inverted.edit_steps`.
            target_tokens: `tokens` of `Inverted.edit_steps`.
            methods: name of a method, or a list as for `Inverted.edit_steps`; the first method determines the
                inversion.
            options: other options of the inversion and of the run; if `methods` is a single name, also options of its
                edit.

        Returns:
            A plan, which can be run or pickled.

        Raises:
            BadInput: an argument is invalid; the message gives the allowed values.
        """
        run = {"steps": steps, "eta": eta, "source_guidance_scale": source_guidance_scale, "exact": exact}
        options = renamed(given(options, **run, skip=skip), "plan")
        several = [] if isinstance(methods, str) else as_named(methods)
        first = methods if isinstance(methods, str) else name_of(several[0]) if several else DEFAULT_METHOD
        known = METHODS.find(first).params
        later = {name: options[name] for name in options if several and name not in options_of(known, "invert")}
        inverting_with = {name: value for name, value in options.items() if name not in later}
        model = self._tiled(resolution) if tiles else self
        parts = read_extra(self.network, maps, labels, tokens)
        sources = model._sources(images, source, parts, first, seed, batch, max_pixels, resolution, inverting_with)
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
        of_target: dict[str, Any] = {"maps": target_maps, "labels": target_labels, "tokens": target_tokens}
        planned = plan_edit(sources, target, methods=chosen, options=later, **of_target, **edit)
        request: dict[str, Any] = {"source": source, "target": target, "methods": methods, "seed": seed, "batch": batch}
        request |= {"images": sources.images if len(as_list(images)) > 1 else sources.images[0]}
        request |= {"resolution": resolution, "tiles": tiles}
        extra = {"maps": maps, "labels": labels, "tokens": tokens}
        extra |= {f"target_{name}": value for name, value in of_target.items()}
        request |= {name: part.cpu() if isinstance(part, Tensor) else part for name, part in extra.items()}
        return with_masks(Plan(sources, planned, request | edit | options))

    def _tiled(self, resolution: Resolution) -> "Model":
        """A shallow copy whose network is evaluated in tiles. Raises BadInput for the native resolution."""
        if resolution in (None, "native"):
            raise BadInput("tiles are for images that are edited at more than the native size: give resolution full.")
        tiled = copy.copy(self)
        tiled.network = TiledModel.of(self.network)
        return tiled

    def _sources(
        self,
        images: Any,
        prompts: Any,
        parts: Mapping[str, Tensor],
        method: str,
        seed: Any,
        batch: int | None,
        max_pixels: int,
        resolution: Resolution,
        options: Any,
    ) -> Inverted:
        """Read the images, check all arguments of their inversion, and plan it. Raises BadInput.

        `parts` are the maps, labels and tokens, from `read_extra`.
        """
        chosen = METHODS.find(method)
        check_batch(batch)
        check_resolution(self.network, resolution)
        params = self._params(chosen, options)
        seeds = check_seeds(as_list(seed))
        texts = check_prompts(self.network, as_list(prompts), "source prompt", empty=not chosen.params.needs_text)
        loaded = [each if isinstance(each, LoadedImage) else read_image(each, max_pixels) for each in as_list(images)]
        if not loaded:
            raise BadInput("Give at least one image.")
        loaded = at_resolution(self.network, resolution, loaded)
        count = max(map(len, (seeds, texts, *parts.values()))) if len(loaded) == 1 else len(loaded)
        loaded = loaded * count if len(loaded) == 1 else loaded
        texts, seeds = spread(texts, count, "source prompt"), spread(seeds, count, "seed")
        sizes = [self.network.latent_shape(*padded_size(self.network, each.size))[1:] for each in loaded]
        extra = extra_condition(self.network, parts, count, sizes)
        groups = outlines(self, chosen, params, loaded, texts, seeds, batch, resolution, extra)
        return Inverted(self, chosen, params, groups, {}, batch)

    def _params(self, method: Method, options: Mapping[str, Any]) -> Params:
        stages: tuple[Stage, ...] = ("invert", "edit")
        what = f"method {method.name}"
        return resolve(self.network, method.params, options, stages=stages, section=method.section, what=what)

    def open(
        self,
        path: str | os.PathLike[str],
        images: Any = None,
        *,
        maps: Tensor | None = None,
        labels: int | Sequence[Any] | Tensor | None = None,
        tokens: Tensor | None = None,
        batch: int | None = None,
    ) -> Inverted:
        """Open an inversion that `Inverted.save` wrote.

        Args:
            path: the file.
            images: the source images, for their alpha channel and colour profile; by default the stored sRGB
                pixels, which have neither.
            maps: the maps with which the images were inverted, as for `invert_steps`. The file does not contain them,
                so they cannot be compared: with others the reconstruction differs from the images. The same applies to
                labels and tokens.
            labels: the class labels with which the images were inverted.
            tokens: the tokens with which the images were inverted.
            batch: maximum number of rows per forward pass; by default that of the inversion.

        Raises:
            BadInput: the file is not an inversion, was computed with another model, or `images` are not the inverted
                images; or maps, labels or tokens are missing, not expected or do not fit.
        """
        path = path_text(path, "The file of an inversion must be a path")
        return self.open_loaded(
            Inversion.load(path), path, images, maps=maps, labels=labels, tokens=tokens, batch=batch
        )

    def open_loaded(
        self,
        inversion: Inversion,
        path: str | os.PathLike[str],
        images: Any = None,
        *,
        maps: Tensor | None = None,
        labels: int | Sequence[Any] | Tensor | None = None,
        tokens: Tensor | None = None,
        batch: int | None = None,
    ) -> Inverted:
        """Open an inversion that has been read from a file; the other arguments are those of `open`.

        Args:
            inversion: the content of the file.
            path: the file, for error messages.
        """
        parts = read_extra(self.network, maps, labels, tokens)
        check_batch(batch)
        model = self._tiled("full") if inversion.parameters.get("tiles") else self
        return opened(model, inversion, printable(path), images, batch, parts)

    interpolate_steps = interpolate_steps
    interpolate = finished(interpolate_steps)

    def text_direction(self, source: str | Sequence[str], target: str | Sequence[str]) -> TextDirection:
        """Compute a text direction; see `sfumato.api.finding.compute_text_direction`."""
        return compute_text_direction(self, source, target)

    def plan_generation(
        self,
        prompts: str | Sequence[str] = "",
        *,
        seed: int | Sequence[int] = 0,
        size: int | tuple[int, int] | None = None,
        negative_prompt: str = "",
        maps: Tensor | None = None,
        labels: int | Sequence[Any] | Tensor | None = None,
        tokens: Tensor | None = None,
        methods: str | Sequence[Named] = (),
        shifts: Sequence[Shift] = (),
        batch: int | None = None,
        steps: int | None = None,
        guidance_scale: float | None = None,
        eta: float | None = None,
        **options: Any,
    ) -> Generation:
        """Plan a generation of images from prompts: check all arguments. `plan.run()` runs it.

        Only text encoders are evaluated.

        Args:
            prompts: prompts of the images, one or several.
            seed: one for all or one per image; a single prompt with several seeds gives several images.
            size: (width, height) in pixels, or the side of a square; by default that of the maps, or the model's
                native size.
            negative_prompt: the negative prompt of classifier-free guidance.
            maps: [n,c,h,w] with the height and width of the latents, for a network with additional input channels
                (inpainting, InstructPix2Pix); n is 1 or the number of images; see `sfumato.models.maps`.
            labels: class labels for a class-conditional network, one for all or one per image; see
                `sfumato.models.class_labels`.
            tokens: [n,k,d] for a network with cross-attention and without text encoder; n is 1 or the number of
                images.
            methods: name of a method that supports generated images, or a list of names and pairs (name,
                {option: value}).
            shifts: shifts of the reverse process (`sfumato.core.shift.Shift`), applied after those of the methods.
            batch: maximum number of rows per forward pass; by default 2 to 64, depending on the size of the latents.
            steps: number of steps, 1 to 1000; also as num_inference_steps. By default that of the model.
            guidance_scale: 0 to 100; 1 is no guidance. By default that of the model.
            eta: noise of a step, from 0 (DDIM) to 1 (DDPM). By default that of the model.
            options: only num_inference_steps, an alternative name of steps.

        Returns:
            A plan, which can be run or pickled.

        Raises:
            BadInput: an argument is invalid; the message gives the allowed values.
        """
        options = renamed(given(options, steps=steps, guidance_scale=guidance_scale, eta=eta), "generate")
        request: dict[str, Any] = {"seed": seed, "size": size, "negative_prompt": negative_prompt, "batch": batch}
        request |= {"maps": maps, "labels": labels, "tokens": tokens, "methods": methods, "shifts": shifts}
        planned = plan_generation(self, prompts, options=options, **request)
        request = {name: part.cpu() if isinstance(part, Tensor) else part for name, part in request.items()}
        return Generation(self, planned, {"prompts": prompts, **request, **options})

    generate_steps = started(plan_generation, "generate_steps", Result)
    generate = finished(generate_steps)
