"""Common code of all parts: generated samples, their latents at a timestep, and images decoded from edited latents."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sfumato.api import Model
from sfumato.api.finding import sample_latents
from sfumato.api.group import at_once, decoded, guided
from sfumato.core.condition import Condition
from sfumato.core.loop import reverse
from sfumato.editing.generate import GenerateParams
from sfumato.geometry import BottleneckMap, normalised
from sfumato.geometry.basis import largest_rank
from sfumato.metrics import Evaluator

FACES = (
    *("woman", "girl", "boy", "man: medium skin tone", "woman: dark skin tone", "grinning face", "crying face"),
    *("angry face", "smiling face with sunglasses", "neutral face", "cat face", "dog face", "fox", "panda"),
    *("bear", "tiger face"),
)
STYLES = ("noto", "twemoji", "fluent-flat", "emojitwo")


@dataclass(frozen=True)
class Size:
    """The size of the measurement; the paper uses 50 images and 30 segments.

    Attributes:
        samples: number of generated images.
        steps: number of steps of every run.
        n: number of directions of a basis.
        times: fractions of the run that remain where bases are computed; 1 is t = T.
        pairs: number of pairs of latents for paths.
        segments: number of segments of a path.
        animations: number of pairs whose paths are also decoded to images.
        geodesics: number of pairs for which a geodesic is also computed.
        rank: dimension of the tangent spaces of paths and of shooting.
        directions: number of directions along which every image is edited.
        gamma: length of an edit before the normalisation, and of shooting.
        distance: distance by which edits of every kind move the latent.
        step: length of the step over which the rotation of tangent spaces is measured.
        shots: number of steps of geodesic shooting.
        guidance_scale: guidance scale of the runs.
    """

    samples: int = 50
    steps: int = 25
    n: int = 50
    times: tuple[float, ...] = (1.0, 0.75, 0.5, 0.25)
    pairs: int = 50
    segments: int = 30
    animations: int = 5
    geodesics: int = 15
    rank: int = 20
    directions: int = 5
    gamma: float = 10.0
    distance: float = 3.0
    step: float = 1.0
    shots: int = 6
    guidance_scale: float = 3.0

    @classmethod
    def quick(cls) -> "Size":
        """The smallest size that runs every part."""
        return cls(3, 4, 6, (1.0, 0.5), 2, 3, 1, 1, 4, 2, 2.0, 1.0, 0.5, 2, 2.0)


@dataclass(frozen=True, eq=False)
class Study:
    """A model, the prompts of its samples, the size of the measurement and the evaluator.

    `corpus` is the emoji corpus whose true pairs define the attributes; None: captions define them.
    """

    model: Model
    prompts: tuple[str, ...]
    size: Size
    evaluator: Evaluator
    corpus: Path | None = None

    @property
    def params(self) -> GenerateParams:
        """The sampling parameters of every run."""
        guidance_scale = self.size.guidance_scale if self.model.network.takes_text else 1.0
        return GenerateParams(steps=self.size.steps, guidance_scale=guidance_scale)

    def step(self, time: float) -> int:
        """Index of the step at which the fraction `time` of the run remains."""
        return min(round((1 - time) * self.size.steps), self.size.steps - 1)

    def timestep(self, time: float) -> int:
        """Timestep t at which the fraction `time` of the run remains."""
        return self.model.network.schedule.timesteps(self.size.steps)[self.step(time)]

    @property
    def latent(self) -> tuple[int, int, int]:
        """Shape of one latent, at the model's native size."""
        return self.model.network.latent_shape(*self.model.network.native_size)

    def texts(self, rows: Sequence[int]) -> list[str]:
        """Prompts of these samples."""
        return [self.prompts[row % len(self.prompts)] for row in rows]

    def latents(self, count: int, time: float, seed: int = 0) -> Tensor:
        """x_t of the first samples, [count,c,h,w]; other samples of the same prompts from the seed `seed` on."""
        network, texts = self.model.network, self.texts(range(count))
        return torch.cat(list(sample_latents(network, texts, self.latent, self.params, self.step(time), seed=seed)))

    def condition(self, rows: Sequence[int]) -> Condition:
        """The prompt conditions of these samples."""
        return self.model.network.condition(self.texts(rows), size=self.model.network.native_size)

    def map(self, rows: Sequence[int], time: float, count: int) -> tuple[BottleneckMap, int]:
        """f for these samples, and `count` limited to the number of directions that the bottleneck has."""
        f = BottleneckMap(self.model.network, self.timestep(time), self.condition(rows))
        return f, min(count, largest_rank(f, torch.empty(1, *self.latent, device="meta")))

    def guidance(self, rows: Sequence[int]) -> Any:
        """The network with guidance for these samples."""
        network = self.model.network
        return guided(network, [self.params.guidance_scale] * len(rows), network.native_size)

    @torch.no_grad()
    def moved(
        self, x: Tensor, v: Tensor, gamma: float, rows: Sequence[int], time: float, *, normalise: bool = True
    ) -> Tensor:
        """x_t + gamma v, with or without the normalisation of the prediction of x_0."""
        edited = x + gamma * v.to(x)
        if not normalise:
            return edited
        guidance, condition, t = self.guidance(rows), self.condition(rows), self.timestep(time)
        abar = self.model.network.schedule.abar(t)
        return normalised(lambda each: guidance.predict(each, t, condition), x, edited, abar)

    def generate(self, x: Tensor, rows: Sequence[int], time: float) -> Tensor:
        """Decoded images after the rest of the run from x_t, float [b,3,h,w] in about [-1,1], not clipped."""
        network = self.model.network
        timesteps = network.schedule.timesteps(self.size.steps)[self.step(time) :]
        largest, parts = at_once(self.latent, None), []
        for first in range(0, len(x), largest):
            some = list(rows[first : first + largest])
            run = reverse(
                self.guidance(some),
                x[first : first + largest],
                timesteps,
                self.condition(some),
                eta=0.0,
                noise_maps=lambda state: None,
            )
            *_, last = run
            height, width = network.native_size
            parts.append(decoded(network, last.x_prev, (width, height)))
        return torch.cat(parts)


def faces(model: Model) -> tuple[str, ...]:
    """Prompts of faces of people and animals in the styles of the bundled model; "" for a model without text."""
    if not model.network.takes_text:
        return ("",)
    styles = islice(cycle(STYLES), len(FACES))
    return tuple(f"{name}, {style}" for name, style in zip(FACES, styles, strict=True))
