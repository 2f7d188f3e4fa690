"""Preparation of the training of delta-h: inverted images, their unedited predictions, and the interval of the edit.

    t_edit    smallest t with  LPIPS(x_0, P_t) >= 0.33 cos(E_T(source), E_T(target))      arXiv 2210.10960, section 3.4
    t_boost   smallest t with  LPIPS(x_0, x_t) >= 1.2

where LPIPS is averaged over the images. P_t and x_t are those of the unedited process from the inverted x_T, and x_0 is
the result of this process, which excludes the error of the inversion. All are decoded before they are compared. The
thresholds 0.33 and 1.2 are for LPIPS with its learned weights. For other perceptual distances the thresholds are the
fractions 0.285 and 0.85 of the largest value of each curve: the means of 0.33 / max and 1.2 / max over the curves that
the authors published for their five data sets.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor

from sfumato.core.batching import rows_per_call
from sfumato.core.condition import Condition
from sfumato.core.guidance import Guided, Term
from sfumato.core.loop import reverse
from sfumato.core.rows import TARGET
from sfumato.files import write_tensors
from sfumato.inversion.ddim import invert_ddim
from sfumato.metrics.perceptual import PerceptualDistance
from sfumato.metrics.text import DualEncoder
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.partial_files import remove_partial
from sfumato.train.binding import weights_fingerprint
from sfumato.train.processes import is_first, my_turn, wait_for

EDIT, BOOST = 0.33, 1.2
"""The paper's thresholds of LPIPS with learned weights."""
EDIT_SHARE, BOOST_SHARE = 0.285, 0.85
"""The same thresholds as fractions of the largest value of a curve, for other perceptual distances."""
#: Images per file of the cache.
_SHARD = 16


@dataclass(frozen=True, eq=False)
class Prepared:
    """Inverted images and the unedited reverse process that starts from their x_T, without guidance.

    Attributes:
        x_T: latents of DDIM inversion, float64 [n,c,h,w].
        predictions: P_t of every step, [steps,n,c,h,w].
        features: unit features of the decoded P_t under the dual encoder, [steps,n,d].
        edit_curve: LPIPS(x_0, P_t), [steps,n]; x_0 is the result of the process.
        boost_curve: LPIPS(x_0, x_t), [steps,n].
    """

    x_T: Float[Tensor, "n c h w"]
    predictions: Float[Tensor, "steps n c h w"]
    features: Float[Tensor, "steps n d"]
    edit_curve: Float[Tensor, "steps n"]
    boost_curve: Float[Tensor, "steps n"]

    def on(self, device: torch.device | str) -> "Prepared":
        """Copy all tensors to a device."""
        return Prepared(**{each.name: getattr(self, each.name).to(device) for each in fields(self)})


def prepared(
    model: DiffusionModel,
    clip: DualEncoder,
    perceptual: PerceptualDistance,
    pixels: Float[Tensor, "n 3 h w"],
    captions: Sequence[str],
    steps: int,
    cache: Path,
) -> Prepared:
    """Invert images and run the unedited process. Files in `cache` are reused, and shared by all processes of a run.

    Args:
        model: the diffusion model.
        clip: the dual encoder of the loss.
        perceptual: the network of LPIPS.
        pixels: the images in [-1,1].
        captions: their captions; empty ones for a model without text input.
        steps: number of steps of the run.
        cache: folder for the files; created if missing.
    """
    networks = [model.fingerprint(), weights_fingerprint(clip.model.state_dict().items())]
    networks.append(weights_fingerprint(perceptual.state_dict().items()))
    cache.mkdir(parents=True, exist_ok=True)
    if is_first():
        remove_partial(cache)
    paths, largest = [], min(_SHARD, rows_per_call(*model.latent_shape(*pixels.shape[-2:])))
    for k, first in enumerate(range(0, len(pixels), _SHARD)):
        images, texts = pixels[first : first + _SHARD], captions[first : first + _SHARD]
        digest = hashlib.sha256(
            f"{networks} {perceptual.learned} {steps} {list(texts)}".encode() + images.contiguous().numpy().tobytes()
        )
        paths.append(cache / f"inverted-{digest.hexdigest()[:16]}.safetensors")
        if my_turn(k) and not paths[-1].exists():
            condition, rows = (
                model.condition(texts, size=(images.shape[-2], images.shape[-1])),
                torch.arange(len(images)),
            )
            parts = [
                _run(model, clip, perceptual, images[some], condition[some], steps) for some in rows.split(largest)
            ]
            write_tensors(paths[-1], joined(parts))
    for path in paths:
        wait_for(path)
    return Prepared(**joined([load_file(path) for path in paths]))


def joined(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Concatenate the images of several parts: the first dimension of x_T, the second of everything else."""
    return {name: torch.cat([part[name] for part in parts], dim=0 if name == "x_T" else 1) for name in parts[0]}


@torch.no_grad()
def _run(
    model: DiffusionModel,
    clip: DualEncoder,
    perceptual: PerceptualDistance,
    pixels: Tensor,
    condition: Condition,
    steps: int,
) -> dict[str, Tensor]:
    """The fields of `Prepared` for some images, on the CPU."""
    plain = Guided(model, (Term(TARGET, None),))
    *_, inverted = invert_ddim(plain, model.encode(pixels), condition, steps=steps)
    x_T, timesteps = inverted.x_t, model.schedule.timesteps(steps)
    run = list(reverse(plain, x_T, timesteps, condition, eta=0.0, noise_maps=lambda state: None))
    result = model.decode(run[-1].x_prev)
    predictions = [state.x0_prediction.float() for state in run]
    decoded = [model.decode(prediction) for prediction in predictions]
    found = {
        "predictions": predictions,
        "features": [image_features(clip, each) for each in decoded],
        "edit_curve": [perceptual(result, each) for each in decoded],
        "boost_curve": [perceptual(result, model.decode(state.x_t)) for state in run],
    }
    return {"x_T": x_T.cpu()} | {name: torch.stack(values).cpu() for name, values in found.items()}


def image_features(clip: DualEncoder, decoded: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
    """Unit features, float32, of decoded images, nominally in [-1,1]; differentiable, and not clipped."""
    features = clip.embed(clip.preprocessor((decoded + 1) / 2))
    return torch.nn.functional.normalize(features.float(), dim=-1)


def interval(found: Prepared, timesteps: Sequence[int], cosine: float, *, learned: bool) -> tuple[int, int]:
    """t_edit and t_boost; see this module's docstring.

    Args:
        found: the curves.
        timesteps: timesteps of the run, in descending order.
        cosine: cosine of the features of the source and target texts.
        learned: whether the curves are LPIPS with learned weights.

    Returns:
        (t_edit, t_boost), timesteps of the run; the largest timestep if a curve stays below its threshold.
    """
    edit, boost = found.edit_curve.mean(dim=1), found.boost_curve.mean(dim=1)
    limits = (EDIT, BOOST) if learned else (EDIT_SHARE * float(edit.max()), BOOST_SHARE * float(boost.max()))
    return smallest(edit, timesteps, limits[0] * cosine), smallest(boost, timesteps, limits[1])


def smallest(curve: Float[Tensor, " steps"], timesteps: Sequence[int], threshold: float) -> int:
    """The smallest timestep at which a curve reaches a threshold; the largest timestep if it never does."""
    reached = [t for t, value in zip(timesteps, curve.tolist(), strict=True) if value >= threshold]
    return min(reached, default=timesteps[0])
