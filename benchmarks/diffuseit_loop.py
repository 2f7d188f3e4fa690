"""Reimplementation of the loop of DiffuseIT's public code (cyclomon/DiffuseIT), see `benchmarks/loops.py`.

Every step evaluates the network twice at the same x_t, on one row: without gradients for the mean of the step, and with
gradients for the losses. In every evaluation of the losses,

    contrast, self-similarity    each pass the source image through the ViT again, and then the prediction
    divergence                   passes the prediction of the step before and the prediction, at high noise levels
    text                         passes the crops of the prediction through CLIP, in one batch

so that the ViT is evaluated six times, three of them with gradients. The first step is run ten times. The losses are
computed from the mixture of P_t and x_t (`--use_noise_aug_all`, as in the authors' command), that of the range from
P_t. The authors' network generates pixels; with latents, both are decoded, once for all losses.

Omitted are the restarts of the chain, whose number depends on the image, the changes of the contrast weight, sentence
templates, and all but one of the five CLIP models. The authors' network has no prompt; here it is conditioned on the
target prompt, without guidance. As in sfumato, the networks of the losses are loaded for every edit.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks.loops import Loop, Scene
from sfumato.core.guidance import classifier_free
from sfumato.core.noise import gaussian_batch
from sfumato.core.step import add_noise_between, diffuse, mean, predict_x0, sigma, step
from sfumato.editing.job import Job
from sfumato.inversion import Inversion
from sfumato.methods.diffuseit import extractor, losses_of
from sfumato.options.diffuseit import DiffuseITParams
from sfumato.shifts.energy.class_token import SemanticDivergence
from sfumato.shifts.energy.prediction import DecodedPrediction, Loss, PredictionLoss
from sfumato.shifts.energy.structure import KeyContrast, KeySelfSimilarity

RESAMPLED = 10
"""Number of times that the first step is run."""


@torch.no_grad()
def noised(scene: Scene, x0: Tensor) -> Inversion:
    """The latent at which the edit starts, x[0], and x_0, x[-1]; the levels between them are not needed."""
    timesteps = scene.network.schedule.timesteps(scene.steps)[scene.skip :]
    noise = _noise(scene, x0, len(scene.network.schedule), "sdedit")
    start = diffuse(x0, noise, scene.network.schedule.abar(timesteps[0])).to(x0.dtype)
    return Inversion("sdedit", torch.stack([start, x0]), None, tuple(timesteps), 1.0, (1.0,), (scene.seed,))


@torch.no_grad()
def translate(scene: Scene, inversion: Inversion) -> Tensor:
    """Sample with eta = 1; every mean is changed by s_t^2 times the gradient of the losses."""
    schedule, losses, x = scene.network.schedule, Losses(scene, inversion), inversion.x[0]
    first = inversion.timesteps[0]
    for t, t_prev, visit in visits(scene, inversion):
        abar, abar_prev = schedule.abar(t), schedule.abar(t_prev)
        if visit:
            back = _noise(scene, x, first, f"back up {visit}")
            x = add_noise_between(x, back, abar_prev, abar).to(x.dtype)
        eps, deviation = scene.network.predict(x, t, scene.target), sigma(abar, abar_prev, 1.0)
        mu = mean(x, eps, eps, abar, abar_prev, deviation) - deviation**2 * losses.gradient(x, t, visit)
        z = _noise(scene, x, t, f"reverse {visit}" if visit else "sdedit") if deviation else None
        x = step(mu, z, deviation).to(x.dtype)
    return x


def visits(scene: Scene, inversion: Inversion) -> Iterator[tuple[int, int, int]]:
    """t, t_prev and the number of earlier runs of every step."""
    timesteps = inversion.timesteps
    for n, (t, t_prev) in enumerate(zip(timesteps, scene.network.schedule.previous(timesteps), strict=True)):
        for visit in range(1 if n else RESAMPLED):
            yield t, t_prev, visit


class Losses:
    """The losses of one edit with the forward passes of the authors' code.

    Args:
        scene: the settings of the edit.
        inversion: the source; only its x_0 is used.
    """

    def __init__(self, scene: Scene, inversion: Inversion) -> None:
        self.scene, params = scene, DiffuseITParams(noise_augmentation=True)
        guided = classifier_free(scene.network, None, (1.0,))
        job = Job(guided, inversion, scene.source, scene.target, scene.target)
        self.extract = extractor(params.vit.to(scene.network.device))
        self.terms = [(loss, weight) for loss, weight in losses_of(job, params, self.extract) if weight]
        self.source = self.previous = scene.network.decode(inversion.x[-1])
        self.once = {id(loss): loss.against(self._image(self.source)) for loss, _ in self.terms if not _again(loss)}

    def gradient(self, x: Tensor, t: int, visit: int) -> Tensor:
        """The gradient of the sum of all losses with respect to x_t, through the network."""
        abar = self.scene.network.schedule.abar(t)
        x, s = x.detach().requires_grad_(), math.sqrt(1 - abar)
        with torch.enable_grad():
            P = predict_x0(x, self.scene.network.predict(x, t, self.scene.target), abar)
            pixels, seen = (self.scene.network.decode(each) for each in (P, s * P + (1 - s) * x))
            parts = [w * self._of_step(loss, t)(self._image(pixels, seen, t, visit)) for loss, w in self.terms]
            (gradient,) = torch.autograd.grad(torch.stack(parts).sum(), x)
        self.previous = seen.detach()
        return gradient

    def _of_step(self, loss: PredictionLoss, t: int) -> Loss:
        """The loss at timestep t; that of a ViT passes its reference image through the ViT."""
        if not _again(loss):
            return self.once[id(loss)]
        if isinstance(loss, SemanticDivergence) and t <= loss.above:
            return lambda image: image.pixels.new_zeros(1)
        with torch.no_grad():
            return loss.against(self._image(self.previous if isinstance(loss, SemanticDivergence) else self.source))

    def _image(self, pixels: Tensor, seen: Tensor | None = None, t: int = 0, visit: int = 0) -> DecodedPrediction:
        """An image whose features no other loss shares; `seen` is the input of the pretrained networks."""
        return DecodedPrediction(pixels, pixels if seen is None else seen, lambda x: x, self.extract, t, visit)


def _again(loss: PredictionLoss) -> bool:
    """Whether the loss passes its reference image through the ViT in every step."""
    return isinstance(loss, KeyContrast | KeySelfSimilarity | SemanticDivergence)


def _noise(scene: Scene, like: Tensor, t: int, tag: str) -> Tensor:
    return gaussian_batch(like.shape[1:], [scene.seed], step=t, tag=tag, device=like.device)


DIFFUSEIT = Loop(noised, translate)
