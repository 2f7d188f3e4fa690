"""Small networks and conditions with known outputs, for numerical tests."""

import torch

from sfumato.core import step as steps_of
from sfumato.core.condition import Condition
from sfumato.core.schedule import Schedule


def stable_diffusion_schedule(prediction_type="epsilon", **changes) -> Schedule:
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    settings = {"final_alpha_cumprod": float((1 - betas)[0]), "steps_offset": 1}
    return Schedule(torch.cumprod(1 - betas, 0), prediction_type=prediction_type, **settings | changes)


def linear_schedule(**changes) -> Schedule:
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    return Schedule(torch.cumprod(1 - betas, 0), **changes)


class Convolution:
    """A small random convolutional network of x, t and the condition; counts its evaluations.

    It is added to the best denoiser of N(0, I), which keeps the reverse process as stable as with a trained network:
    with guidance, a random network alone amplifies rounding errors a hundred thousand times.
    """

    def __init__(self, schedule, channels=4, seed=0, share=0.1):
        generator = torch.Generator().manual_seed(seed)
        self.schedule, self.share = schedule, share
        self.first = torch.randn(16, channels, 3, 3, generator=generator) / 6
        self.last = torch.randn(channels, 16, 3, 3, generator=generator) / 6
        self.calls, self.samples, self.shapes = 0, 0, []

    def predict(self, x, t, cond, taps=None):
        self.calls, self.samples = self.calls + 1, self.samples + len(x)
        self.shapes.append(tuple(x.shape))
        t = torch.as_tensor(t).reshape(-1, 1, 1, 1).expand(len(x), 1, 1, 1)
        x = x.float()
        h = torch.nn.functional.conv2d(x, self.first, padding=1)
        h = torch.sin(h + 0.003 * t + cond.tokens.mean(dim=(1, 2)).reshape(-1, 1, 1, 1))
        levels = steps_of.per_row([self.schedule.abar(int(v)) for v in t.flatten()], x)
        best = {"epsilon": (1 - levels).sqrt() * x, "v_prediction": 0 * x, "sample": levels.sqrt() * x}
        output = best[self.schedule.prediction_type].float()
        output = output + self.share * torch.nn.functional.conv2d(h, self.last, padding=1)
        return steps_of.to_epsilon(output, x, levels, self.schedule.prediction_type).to(x.dtype)


class Constant:
    """A network that predicts the same noise for every input."""

    def __init__(self, schedule, eps):
        self.schedule, self.eps = schedule, eps

    def predict(self, x, t, cond, taps=None):
        return self.eps.to(x.dtype).expand_as(x)


def prompt(rows=1, value=0.5) -> Condition:
    return Condition(tokens=torch.full((rows, 3, 2), value))


def finished(generator):
    """The return value of a generator, and the list of what it yielded."""
    states = []
    while True:
        try:
            states.append(next(generator))
        except StopIteration as end:
            return end.value, states
