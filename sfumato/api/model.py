"""A loaded model, with methods to invert, edit, generate and interpolate images and to open saved inversions."""

import os
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from sfumato.api.arguments import check_batch
from sfumato.api.extra import read_extra
from sfumato.api.finding import compute_text_direction
from sfumato.api.interpolating import interpolate_steps
from sfumato.api.inverted import Inverted
from sfumato.api.loaded import Loaded
from sfumato.api.opening import opened
from sfumato.api.planning import plan, plan_generation
from sfumato.api.result import Result
from sfumato.api.run import finished, started
from sfumato.api.source_plan import invert_steps, tiled
from sfumato.files import printable
from sfumato.inversion import Inversion
from sfumato.models.pipelines import from_pipeline
from sfumato.paths import path_text
from sfumato.shifts.text_direction import TextDirection


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

    invert_steps = invert_steps
    invert = finished(invert_steps)

    plan = plan
    plan_generation = plan_generation
    generate_steps = started(plan_generation, "generate_steps", Result)
    generate = finished(generate_steps)

    interpolate_steps = interpolate_steps
    interpolate = finished(interpolate_steps)

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
        model = tiled(self, "full") if inversion.parameters.get("tiles") else self
        return opened(model, inversion, printable(path), images, batch, parts)

    def text_direction(self, source: str | Sequence[str], target: str | Sequence[str]) -> TextDirection:
        """Compute a text direction; see `sfumato.api.finding.compute_text_direction`."""
        return compute_text_direction(self, source, target)
