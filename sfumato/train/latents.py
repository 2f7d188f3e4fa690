"""The frozen latent space that a diffusion model is trained in: its scale, and the cached latents of a data set."""

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

#: Pictures whose latents go into one file.
_SHARD = 1024
#: A latent channel that varies less carries nothing, and cannot be brought to unit deviation.
SMALLEST = 1e-6
#: The name under which a run's checkpoints keep the scale of the latents (`sfumato.train.binding`).
SCALE = "latent scale"


@torch.no_grad()
def encode_images(autoencoder: AutoencoderKL | VQModel, images: np.ndarray, batch: int | None = None) -> Tensor:
    """Latents (the posterior's mode for KL, unquantised for VQ) of uint8 pictures [n,3,h,w], before any scaling.

    `batch` pictures go through the encoder together: by default 64, and 4 on a CPU, whose caches hold no more.
    """
    device = next(autoencoder.parameters()).device
    batch = batch or (4 if device.type == "cpu" else 64)
    latents = []
    for start in range(0, len(images), batch):
        pixels = torch.from_numpy(images[start : start + batch]).to(device).float() / 127.5 - 1
        pixels = pixels.to(memory_format=torch.channels_last)
        code = autoencoder.encode(pixels)
        latents.append((code.latents if isinstance(autoencoder, VQModel) else code.latent_dist.mode()).cpu())
    return torch.cat(latents)


def encoder_fingerprint(autoencoder: AutoencoderKL | VQModel) -> str:
    """SHA-256, in hexadecimal, of the weights that make latents of pictures; the decoder is free to learn on."""
    weights = autoencoder.state_dict().items()
    return weights_fingerprint(pair for pair in weights if pair[0].startswith(("encoder.", "quant_conv.")))


def cached_latents(autoencoder: AutoencoderKL | VQModel, data: TrainingData, cache: Path) -> Tensor:
    """`encode_images` of all pictures, kept in the folder `cache` in files of `_SHARD` pictures each.

    A file is named by the encoder's weights and its pictures, so that a run that was stopped here goes on with the
    next file. Several processes encode in turns: the k-th file is the work of the k-th process.
    """
    encoder, paths = encoder_fingerprint(autoencoder), []
    if is_first():
        cache.mkdir(parents=True, exist_ok=True)
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
    """Mean and deviation per channel as a run's checkpoints keep them; JSON gives the same float32 numbers back."""
    return json.dumps([std.tolist(), mean.tolist()])


def kept_statistics(
    latents: Tensor, cache: Path, encoder: str, before: Mapping[str, str] | None
) -> tuple[Tensor, Tensor]:
    """Mean and deviation per channel of the first latents that a run saw of an encoder.

    A run that goes on with other pictures must not move the space that its U-Net has learned: they are those of its
    checkpoints, or, before the first one and for checkpoints of before they were kept there, of the folder `cache`.
    Another encoder has another space: its statistics are computed afresh.

    Args:
        latents: of the pictures at hand, float [n,c,h,w].
        cache: a folder of the run.
        encoder: its `encoder_fingerprint`.
        before: what the run's newest checkpoint is bound to, None where there is none. If it is of before the
            statistics were kept by encoder, they are this one's.
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
    """Give the latents zero mean and unit deviation per channel, and return them so scaled.

    Latent diffusion divides by one standard deviation. Here the mean goes as well, channel by channel: pictures on
    white have latents far from zero, which the noise at t = T, of mean zero, would never reach. For a KL autoencoder
    the affine map is folded into its 1x1 convolutions `quant_conv` and `post_quant_conv`, so that the scaling factor
    is 1 and every Stable Diffusion pipeline opens the result; a VQ codebook cannot be moved so, and gets the scaling
    factor 1/std of the paper.

    Args:
        autoencoder: it is changed in place; decoding what it now encodes gives the pictures it gave before.
        latents: float [n,c,h,w] of the training pictures.
        statistics: mean and deviation per channel, [c] each; those of `latents` by default. A VQ autoencoder takes
            the deviation over all channels together, which follows from them.

    Raises:
        BadInput: a channel is the same everywhere, or the KL autoencoder has no 1x1 convolutions.
    """
    mean, std = statistics or (latents.mean((0, 2, 3)), latents.std((0, 2, 3)))
    if not (std > SMALLEST).all():
        raise BadInput(
            f"channel {int(std.argmin())} of the autoencoder's latents is the same everywhere (deviation "
            f"{float(std.min()):.1e}): train the autoencoder longer, or give it fewer network.latent_channels."
        )
    if isinstance(autoencoder, VQModel):
        deviation = (std.square() + (mean - mean.mean()).square()).mean().sqrt()
        autoencoder.register_to_config(scaling_factor=float(1 / deviation))
        return latents * autoencoder.config.scaling_factor
    if autoencoder.quant_conv is None or autoencoder.post_quant_conv is None:
        raise BadInput("the autoencoder has no quant_conv and post_quant_conv; use one that sfumato trained.")
    _fold(autoencoder, *(statistic.to(autoencoder.quant_conv.weight) for statistic in (mean, std)))
    autoencoder.register_to_config(scaling_factor=1.0)
    return (latents - mean[:, None, None]) / std[:, None, None]


def _fold(autoencoder: AutoencoderKL, mean: Tensor, std: Tensor) -> None:
    """Encode to (z - mean) / std, and decode from it. The log-variance moves by -2 log std."""
    with torch.no_grad():
        channels = len(mean)
        into, out = autoencoder.quant_conv, autoencoder.post_quant_conv
        into.weight[:channels] /= std[:, None, None, None]
        into.bias[:channels] = (into.bias[:channels] - mean) / std
        into.bias[channels:] -= 2 * std.log()
        out.bias += (out.weight * mean[None, :, None, None]).sum((1, 2, 3))
        out.weight *= std[None, :, None, None]
