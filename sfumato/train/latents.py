"""The latent space of a diffusion model: cached latents of a dataset, and their normalisation."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, VQModel
from safetensors.torch import load_file
from torch import Tensor

from sfumato.errors import BadInput
from sfumato.files import write_tensors
from sfumato.partial_files import remove_partial
from sfumato.train.binding import weights_fingerprint
from sfumato.train.dataset import TrainingData
from sfumato.train.processes import is_first, my_turn, wait_for

#: Images per shard (file) of cached latents.
_SHARD = 1024
#: Smallest standard deviation of a latent channel that can be normalised; below it the channel is constant.
SMALLEST = 1e-6
#: Name of the latents' statistics in `bound_to` of a checkpoint (`sfumato.train.binding`).
SCALE = "latent scale"


@torch.no_grad()
def encode_images(autoencoder: AutoencoderKL | VQModel, images: np.ndarray, batch: int | None = None) -> Tensor:
    """Encode images to unscaled latents: the mode of the posterior for KL, unquantised latents for VQ.

    Args:
        autoencoder: the frozen autoencoder.
        images: uint8 [n,3,h,w].
        batch: batch size of the encoder; by default 64 on a GPU and 4 on a CPU, whose caches are small.

    Returns:
        Float [n,c,h/f,w/f] on the CPU.
    """
    device = next(autoencoder.parameters()).device
    batch = batch or (4 if device.type == "cpu" else 64)
    latents = []
    for start in range(0, len(images), batch):
        pixels = torch.from_numpy(images[start : start + batch]).to(device).float() / 127.5 - 1
        pixels = pixels.to(memory_format=torch.channels_last)
        code = autoencoder.encode(pixels)
        latents.append((code.latent_dist.mode() if hasattr(code, "latent_dist") else code.latents).cpu())
    return torch.cat(latents)


def encoder_fingerprint(autoencoder: AutoencoderKL | VQModel) -> str:
    """SHA-256 (hexadecimal) of the encoder's weights. The decoder may change without changing the latents."""
    weights = autoencoder.state_dict().items()
    return weights_fingerprint(pair for pair in weights if pair[0].startswith(("encoder.", "quant_conv.")))


def cached_latents(autoencoder: AutoencoderKL | VQModel, data: TrainingData, cache: Path) -> Tensor:
    """Encode all images of `data`, and cache the latents in the folder `cache` in shards of `_SHARD` images.

    The name of a shard is a hash of the encoder's weights and of its images, so an interrupted run resumes with the
    next shard. Several processes share the work: process r encodes the shards k with k mod (number of processes) = r.

    Args:
        autoencoder: the frozen autoencoder.
        data: the images.
        cache: folder of the shards; created if missing.

    Returns:
        Unscaled latents, float [n,c,h/f,w/f].
    """
    encoder, paths = encoder_fingerprint(autoencoder), []
    cache.mkdir(parents=True, exist_ok=True)
    if is_first():
        remove_partial(cache)
    for k, first in enumerate(range(0, len(data), _SHARD)):
        images = data.pixels(range(first, min(first + _SHARD, len(data))))
        digest = hashlib.sha256(encoder.encode())
        digest.update(f"{images.shape}".encode() + np.ascontiguousarray(images).tobytes())
        paths.append(cache / f"latents-{digest.hexdigest()[:16]}.safetensors")
        if my_turn(k) and not paths[-1].exists():
            write_tensors(paths[-1], {"latents": encode_images(autoencoder, images)})
    for path in paths:
        wait_for(path)
    return torch.cat([load_file(path)["latents"] for path in paths])


def scale_written(mean: Tensor, std: Tensor) -> str:
    """Encode mean and standard deviation per channel as JSON for a checkpoint; exact for float32 values."""
    return json.dumps([std.tolist(), mean.tolist()])


def kept_statistics(
    latents: Tensor, cache: Path, encoder: str, before: Mapping[str, str] | None
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation per channel with which a run normalises its latents.

    A run that resumes with other images must not change the latent space in which its U-Net is trained. The statistics
    are therefore read from the newest checkpoint or, before the first checkpoint and for checkpoints of older versions,
    from a file in `cache`. They are computed from `latents` only if neither contains those of this encoder.

    Args:
        latents: latents of the current images, float [n,c,h,w].
        cache: cache folder of the run.
        encoder: `encoder_fingerprint` of the autoencoder.
        before: `bound_to` of the newest checkpoint; None for a new run. Older versions cached the statistics without
            the fingerprint of the encoder; those are assumed to belong to this encoder.

    Returns:
        (mean, standard deviation), float [c] each.
    """
    if before and before.get("encoder") == encoder and SCALE in before:
        std, mean = (torch.tensor(values) for values in json.loads(before[SCALE]))
        return mean, std
    path = cache / f"latent-statistics-{encoder[:16]}.safetensors"
    if is_first() and not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        old = cache / "latent-statistics.safetensors"
        if before is not None and old.exists() and not any(cache.glob("latent-statistics-*.safetensors")):
            write_tensors(path, load_file(old))
        else:
            write_tensors(path, {"mean": latents.mean((0, 2, 3)), "std": latents.std((0, 2, 3))})
    wait_for(path)
    kept = load_file(path)
    return kept["mean"], kept["std"]


def normalise_latent_space(
    autoencoder: AutoencoderKL | VQModel, latents: Tensor, statistics: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """Normalise latents to zero mean and unit standard deviation per channel, and change the autoencoder to match.

    Latent diffusion divides by one standard deviation. Here the mean of each channel is subtracted too: the latents of
    images on white have a mean far from zero, but sampling starts at t = T from noise with mean zero.

    For a KL autoencoder the affine map is folded into its 1x1 convolutions `quant_conv` and `post_quant_conv`, so the
    scaling factor is 1 and Stable Diffusion pipelines load the result. The codebook of a VQ autoencoder cannot be
    shifted in this way; its latents are only multiplied by the scaling factor 1/std of the paper.

    Args:
        autoencoder: changed in place; its reconstructions stay the same.
        latents: latents of the training images, float [n,c,h,w].
        statistics: mean and standard deviation per channel, [c] each; by default those of `latents`. For a VQ
            autoencoder the standard deviation over all channels is computed from them.

    Returns:
        The normalised latents, float [n,c,h,w].

    Raises:
        BadInput: a channel is constant, or a KL autoencoder has no `quant_conv` and `post_quant_conv`.
    """
    mean, std = statistics or (latents.mean((0, 2, 3)), latents.std((0, 2, 3)))
    if not (std > SMALLEST).all():
        raise BadInput(
            f"channel {int(std.argmin())} of the autoencoder's latents is constant (standard deviation "
            f"{float(std.min()):.1e}): train the autoencoder longer, or give it fewer network.latent_channels."
        )
    if isinstance(autoencoder, VQModel):
        # Law of total variance: mean of the variances plus variance of the means, over the channels.
        deviation = (std.square() + (mean - mean.mean()).square()).mean().sqrt()
        autoencoder.register_to_config(scaling_factor=float(1 / deviation))
        return latents * autoencoder.config.scaling_factor
    if autoencoder.quant_conv is None or autoencoder.post_quant_conv is None:
        raise BadInput("the autoencoder has no quant_conv and post_quant_conv; use one that sfumato trained.")
    _fold(autoencoder, *(statistic.to(autoencoder.quant_conv.weight) for statistic in (mean, std)))
    autoencoder.register_to_config(scaling_factor=1.0)
    return (latents - mean[:, None, None]) / std[:, None, None]


def _fold(autoencoder: AutoencoderKL, mean: Tensor, std: Tensor) -> None:
    """Make the autoencoder encode to (z - mean) / std and decode from it.

    `quant_conv` outputs the means and the log-variances of the posterior: the log-variances change by -2 log std.
    `post_quant_conv` computes W (std z + mean) + b = (W std) z + (b + W mean).
    """
    with torch.no_grad():
        channels = len(mean)
        into, out = autoencoder.quant_conv, autoencoder.post_quant_conv
        into.weight[:channels] /= std[:, None, None, None]
        into.bias[:channels] = (into.bias[:channels] - mean) / std
        into.bias[channels:] -= 2 * std.log()
        out.bias += (out.weight * mean[None, :, None, None]).sum((1, 2, 3))
        out.weight *= std[None, :, None, None]
