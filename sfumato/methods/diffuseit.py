"""DiffuseIT: image translation by a text or a target image, with the structure preserved by keys of a ViT.

Kwon and Ye: "Diffusion-based Image Translation using Disentangled Style and Content Representation", ICLR 2023, arXiv
2209.15264. In every step, the mean is changed by the gradient of a weighted sum of losses of the decoded P_t (eq. 5):

    structure    contrastive loss of ViT keys between positions, self-similarity of the keys (section 3.2)
    divergence   negative distance between the ViT class tokens of consecutive steps, at high noise levels (3.3)
    text         similarity of random crops to the target text in the embedding space of CLIP (3.3)
    image        distance to the class token and the pixels of a target image (3.3)
    range        distance of pixels to [-1, 1]

The first step is run several times (resampling, 3.4). Default weights are those of the authors' code, for pixel-space
networks at 256 x 256. The default networks of the losses are the bundled ones, which were trained on emoji only. The
paper uses DINO ViT-B/8 and five CLIP models; this implementation supports one CLIP model.

With classifier-free guidance and a gradient through the network, the losses are computed from the prediction under the
prompt only, without the negative prediction. The paper's network has no text input. Not implemented: weights of the
structure losses that depend on the text loss, sentence templates for the texts, the identity loss. In the authors'
code, the text losses are always computed from the mixture of P_t and x_t that `noise_augmentation` selects for all
networks. Here they are computed from P_t by default, which saves a decoding.

Not implemented either: restarts. The authors' code samples again from fresh noise, without a limit, whenever the
weighted range loss exceeds 0.01 after the first step. Here a run has a path of noise levels that is known before it
begins, from which progress and repeated steps are counted; all images of a batch follow the same path; and the noise of
an exact inversion is recorded and cannot be drawn again. The loop yields every step, so a caller can stop a run and
start it with the next seed: docs/guidance.md, "Restarts", shows how.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sfumato.editing.job import Job
from sfumato.editing.registry import method
from sfumato.options.diffuseit import DiffuseITParams
from sfumato.options.inversions import EVERY

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.shift import Shift
    from sfumato.metrics.text import DualEncoder
    from sfumato.metrics.vision import VisionEncoder
    from sfumato.shifts.energy.prediction import Extract, PredictionEnergy, PredictionLoss
    from sfumato.shifts.energy.text_match import Embed


@method(
    "diffuseit",
    summary="losses of the predicted image (ICLR 2023): structure by ViT keys, appearance by a text or an image",
    params=DiffuseITParams,
    inversion="sdedit",
    accepts=("sdedit", *EVERY),
    section="diffuseit",
    handles=("condition", "prediction"),
)
def shifts(job: Job, params: DiffuseITParams) -> list[Shift]:
    """One gradient step on every prediction, for all losses together."""
    from sfumato.shifts.energy.prediction import PredictionEnergy
    from sfumato.shifts.prediction_guidance import GuidePrediction

    device = job.network.device
    extract = extractor(params.vit.to(device)) if params.uses_vit else None
    losses = [(loss, weight) for loss, weight in losses_of(job, params, extract) if weight]
    if not losses or not params.loss_scale:
        return []

    def energy() -> PredictionEnergy:
        return PredictionEnergy(
            losses,
            job.network.decode,
            extract,
            noise_augmentation=params.noise_augmentation,
            through_network=params.through_network,
            name="the losses of diffuseit",
        )

    return [GuidePrediction(energy, params.loss_scale)]


def losses_of(job: Job, params: DiffuseITParams, extract: Extract | None) -> list[tuple[PredictionLoss, float]]:
    """Return all losses of an edit with their weights; those of a text or a target image only if it is given."""
    from sfumato.shifts.energy.class_token import SemanticDivergence
    from sfumato.shifts.energy.range_loss import RangeLoss
    from sfumato.shifts.energy.structure import KeyContrast, KeySelfSimilarity

    found: list[tuple[PredictionLoss, float]] = [
        (KeyContrast(), params.contrast_weight),
        (KeySelfSimilarity(), params.similarity_weight),
        (SemanticDivergence(params.divergence_above), params.divergence_weight),
        (RangeLoss(), params.range_weight),
    ]
    if params.target is not None:
        found += _losses_of_image(job, params, params.target.to(job.network.device), extract)
    return found + (_losses_of_text(job, params) if params.uses_text else [])


def _losses_of_image(
    job: Job, params: DiffuseITParams, target: Tensor, extract: Extract | None
) -> list[tuple[PredictionLoss, float]]:
    """The losses of a target image, [1,3,h,w]."""
    import torch
    from torch.nn import functional as F

    from sfumato.shifts.energy.class_token import TargetClassToken
    from sfumato.shifts.energy.range_loss import TargetPixels

    size = [side * job.network.factor for side in job.size]
    resized = F.interpolate(target, size, mode="bicubic", antialias=True, align_corners=False).clamp(-1, 1)
    found: list[tuple[PredictionLoss, float]] = [(TargetPixels(resized), params.pixel_weight)]
    if params.class_weight and extract is not None:
        with torch.no_grad():
            found.append((TargetClassToken(extract(target).class_token), params.class_weight))
    return found


def _losses_of_text(job: Job, params: DiffuseITParams) -> list[tuple[PredictionLoss, float]]:
    """The text losses; [] if there is no target text. The features of a missing text of an image are zeros."""
    import torch

    from sfumato.shifts.energy.text_match import ImageEncoder, TextDirectionMatch, TextMatch

    clip = params.clip
    clip.model.to(job.network.device)
    texts = params.texts(list(zip(job.source.prompts, job.target.prompts, strict=True)))
    sources, targets = ([pair[n] for pair in texts] for n in (0, 1))
    if not any(targets):
        return []
    encoder = ImageEncoder(embedder(clip), clip.model.config.vision_config.image_size, params.crops, job.seeds)
    source, target = (
        clip.text_features(each) * torch.tensor([[float(bool(text))] for text in each], device=job.network.device)
        for each in (sources, targets)
    )
    return [
        (TextMatch(encoder, target, source), params.text_weight),
        (TextDirectionMatch(encoder, target, source), params.direction_weight),
    ]


def extractor(vit: VisionEncoder) -> Extract:
    """Return a function that computes keys and class token of a vision transformer."""
    from sfumato.shifts.energy.prediction import Features

    return lambda pixels: Features(*vit.keys_and_class_token(pixels))


def embedder(clip: DualEncoder) -> Embed:
    """Return a function for unit image features of a dual encoder, from pixels in [-1, 1] at its input size."""
    from torch.nn import functional as F

    def embed(pixels: Tensor) -> Tensor:
        mean, std = (
            pixels.new_tensor(values)[:, None, None] for values in (clip.preprocessor.mean, clip.preprocessor.std)
        )
        return F.normalize(clip.embed(((pixels + 1) / 2 - mean) / std).to(pixels.dtype), dim=-1)

    return embed
