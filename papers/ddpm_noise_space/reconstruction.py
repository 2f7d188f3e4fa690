"""Error of x_0 after a replay under the source prompt: sfumato, and the algorithm of the authors' code."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn

from papers.ddpm_noise_space import official
from sfumato.api import Model
from sfumato.core.schedule import PredictionType
from sfumato.core.step import per_row, to_epsilon
from sfumato.images import pad_to_grid, read_image, to_tensor
from sfumato.models.diffusion_model import DiffusionModel

PREDICTIONS: tuple[PredictionType, ...] = ("epsilon", "v_prediction")


@contextmanager
def predicting(network: DiffusionModel, kind: PredictionType) -> Iterator[DiffusionModel]:
    """The network with its output converted to the prediction type `kind`, in the dtype of the output.

    The output is not changed if the network already predicts `kind`.
    """
    native = network.schedule.prediction_type

    def convert(module: nn.Module, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        x, t = inputs[0][:, : network.latent_channels], torch.as_tensor(inputs[1])
        rows = t.reshape(-1).expand(len(x)).tolist()
        abar = per_row([network.schedule.abar(each) for each in rows], x)
        eps = to_epsilon(output[0], x, abar, native)
        converted = eps if kind == "epsilon" else (eps - (1 - abar).sqrt() * x) / abar.sqrt()
        return (converted.to(output[0].dtype),)

    other = DiffusionModel(
        network.unet,
        network.codec,
        network.text_encoders,
        replace(network.schedule, prediction_type=kind),
        name=network.name,
        settings=network.settings,
    )
    hook = None if kind == native else network.unet.register_forward_hook(convert)
    try:
        yield other
    finally:
        if hook is not None:
            hook.remove()


def two_shapes(model: Model, image: Any) -> list[Image.Image]:
    """The image at the model's native size, and as a landscape: 3/4 of the height and 5/4 of the width."""
    height, width = model.network.native_size
    grid = model.network.multiple
    landscape = (max(grid, width * 5 // 4 // grid * grid), max(grid, height * 3 // 4 // grid * grid))
    pil_image = Image.fromarray(read_image(image).rgb)
    return [pil_image.resize(size, Image.Resampling.LANCZOS) for size in ((width, height), landscape)]


def measure(
    model: Model,
    image: Any,
    prompt: str,
    *,
    steps: Sequence[int],
    source_guidance_scale: float,
    callback: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Errors for each prediction type, shape and number of steps; `callback` receives a description of the next one."""
    rows = []
    for kind in PREDICTIONS:
        with predicting(model.network, kind) as network:
            for pil_image in two_shapes(model, image):
                for n in steps:
                    callback(f"reconstruction: {kind}, {pil_image.width} x {pil_image.height}, {n} steps")
                    errors = _errors(Model(network), pil_image, prompt, n, source_guidance_scale)
                    shape = {"prediction": kind, "width": pil_image.width, "height": pil_image.height, "steps": n}
                    rows.append(shape | errors)
    return rows


def draw(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Plot the largest error against the number of steps."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    for axes, kind in zip(figure.subplots(1, 2, sharey=True), PREDICTIONS, strict=True):
        for key, colour, label in (
            ("exact_max", "tab:blue", "exact"),
            ("default_max", "tab:purple", "batched over timesteps (default)"),
            ("official_max", "tab:red", "authors' code (last noise map is zero)"),
        ):
            for shape, line in ((True, "o-"), (False, "s--")):
                some = [row for row in rows if row["prediction"] == kind and (row["width"] == row["height"]) == shape]
                values = [max(row[key], 1e-9) for row in some]
                axes.plot(
                    [row["steps"] for row in some], values, line, color=colour, ms=4, label=label if shape else None
                )
        axes.axhline(1e-6, color="tab:blue", lw=0.6, ls=":")
        axes.axhline(1e-5, color="tab:purple", lw=0.6, ls=":")
        axes.set(yscale="log", xlabel="steps", xticks=sorted({row["steps"] for row in rows}), title=kind)
        axes.legend(fontsize=7)
    figure.supylabel("largest error of $x_0$", fontsize=10)
    figure.suptitle("Reconstruction (solid: square, dashed: landscape; dotted: target bounds)", fontsize=10)
    figure.savefig(path, dpi=110)


def _errors(model: Model, pil_image: Image.Image, prompt: str, steps: int, guidance_scale: float) -> dict[str, float]:
    errors = {}
    for name, exact in (("default", False), ("exact", True)):
        inverted = model.invert(
            pil_image, prompt, steps=steps, eta=1.0, source_guidance_scale=guidance_scale, exact=exact
        )
        errors[f"{name}_max"] = inverted.reconstruct().report["reconstruction_latent_max_error"]
    error = official_error(model.network, pil_image, prompt, steps, guidance_scale)
    return errors | {"official_rms": float(error.square().mean().sqrt()), "official_max": float(error.abs().max())}


@torch.no_grad()
def official_error(
    network: DiffusionModel, pil_image: Image.Image, prompt: str, steps: int, guidance_scale: float
) -> Tensor:
    """x_0 replayed by the authors' algorithm minus x_0 as encoded, float64 [1,c,h,w]."""
    pixels, _ = pad_to_grid(to_tensor(read_image(pil_image)), network.multiple)
    x0 = network.encode(pixels.to(network.device))
    size = tuple(pixels.shape[-2:])
    guidance = official.Guidance(
        network, network.condition(prompt, size=size), network.condition("", size=size), guidance_scale
    )
    *_, last = official.replay(guidance, official.invert(guidance, x0, steps=steps))
    return last.double() - x0.double()
