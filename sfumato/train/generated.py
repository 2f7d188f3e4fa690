"""Images generated from captions, and captions truncated for an evaluator, for the reports on a trained model."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sfumato.core.guidance import classifier_free
from sfumato.core.loop import fresh_noise, reverse
from sfumato.core.noise import gaussian_batch
from sfumato.metrics import DualEncoder
from sfumato.models.diffusion_model import DiffusionModel


@torch.no_grad()
def generate(model: DiffusionModel, captions: Sequence[str], size: int, guidance_scale: float, steps: int) -> Tensor:
    """Generate one image per caption, with seed i for image i: float [n,3,size,size] in [0,1] on the CPU."""
    timesteps, shape = model.schedule.timesteps(steps), model.latent_shape(size, size)
    images = []
    for first in range(0, len(captions), 25):
        texts = list(captions[first : first + 25])
        seeds = list(range(first, first + len(texts)))
        guided = classifier_free(model, model.condition([""] * len(texts)), (guidance_scale,) * len(texts))
        x = gaussian_batch(shape, seeds, step=len(model.schedule), tag="report", device=model.device)
        for state in reverse(guided, x, timesteps, model.condition(texts), eta=0.0, noise_maps=fresh_noise(seeds)):
            x = state.x_prev
        images.append((model.decode(x).clamp(-1, 1).cpu() + 1) / 2)
    return torch.cat(images)


def readable(evaluator: DualEncoder, caption: str) -> str:
    """Drop the last words of a caption that do not fit into the text encoder; training truncates captions too."""
    words = caption.split(" ")
    while len(words) > 1 and len(evaluator.tokenizer(" ".join(words)).input_ids) > evaluator.tokenizer.model_max_length:
        words.pop()
    return " ".join(words)
