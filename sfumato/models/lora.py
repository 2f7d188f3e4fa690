"""Fuse LoRAs into the weights of a model (Hu et al., arXiv 2106.09685, eq. 3).

    W <- W + s (alpha / r) U D,      D: [r, in], U: [out, r]

A fused model has the speed and the layers of the model without LoRA, so all taps work; the fingerprint is that of the
fused weights. diffusers' `fuse_lora` does the same but requires peft. To change scales between edits without reloading
the model, use a diffusers pipeline with active LoRAs (`sfumato.models.pipelines`).
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from sfumato.errors import BadInput
from sfumato.files import printable
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.lora_files import Change, Lora, flattened
from sfumato.models.original_names import original_name

_BLOCKS = ("down_blocks", "mid_block", "up_blocks")
_ORIGINAL_BLOCKS = ("input_blocks", "middle_block", "output_blocks")
_TEXT = {".q_proj": ".to_q", ".k_proj": ".to_k", ".v_proj": ".to_v", ".out_proj": ".to_out"}


@torch.no_grad()
def fuse(model: DiffusionModel, lora: Lora) -> None:
    """Add a LoRA to the weights of the U-Net and the text encoders. Later LoRAs add to earlier ones.

    Raises:
        BadInput: the LoRA belongs to another model (a layer does not exist in this model or has another shape), or it
            changes a layer twice. The model is then unchanged.
    """
    layers = dict(_layers(model))
    name = printable(lora.path)
    fitting: list[tuple[nn.Module, Change]] = []
    for change in lora.changes:
        layer = layers.get(flattened(change.layer))
        if layer is None:
            raise BadInput(
                f"{name} is a LoRA for another kind of model: it changes the layer {change.layer!r:.100}, which "
                f"{model.name or 'this model'} does not have."
            )
        weight = layer.weight
        theirs = [len(change.up), change.down.flatten(1).shape[1]]
        if theirs != [len(weight), weight.flatten(1).shape[1]]:
            raise BadInput(
                f"{name} is a LoRA for another kind of model: its layer {change.layer!r:.100} is "
                f"{theirs[0]} x {theirs[1]}, that of {model.name or 'this model'} "
                f"{len(weight)} x {weight.flatten(1).shape[1]}."
            )
        fitting.append((layer, change))
    for layer, change in _once(fitting, name).items():
        layer.weight.copy_(layer.weight.float() + lora.scale * _product(change, layer.weight))


def _once(fitting: Sequence[tuple[nn.Module, Change]], file: str) -> dict[nn.Module, Change]:
    """Select one change for every layer. Raises BadInput for a file that changes a layer twice.

    Some SDXL files contain every change twice, under the diffusers name and under the original name of the layer. As in
    diffusers, the change under the original name is then ignored. If a layer is changed under its original name only,
    while others have diffusers names, diffusers would silently ignore the change; this function raises BadInput.
    """
    once: dict[nn.Module, Change] = {}
    for layer, change in fitting:
        other = once.setdefault(layer, change)
        if other is change or (_original(change) and not _original(other)):
            continue
        if not _original(other) or _original(change):
            raise BadInput(
                f"{file} is damaged: it changes a layer twice, as {other.layer!r:.100} and as {change.layer!r:.100}; "
                "download it again."
            )
        once[layer] = change
    if any(each in change.layer for change in once.values() for each in _BLOCKS):
        for change in filter(_original, once.values()):
            raise BadInput(
                f"{file} mixes the names of diffusers and of the original U-Net: it changes the layer "
                f"{change.layer!r:.100} under its original name only; save it with one kind of names."
            )
    return once


def _original(change: Change) -> bool:
    """Whether a change has the original name of a layer in the blocks of the U-Net."""
    return any(each in change.layer for each in _ORIGINAL_BLOCKS)


def _product(change: Change, weight: Tensor) -> Tensor:
    """(alpha / r) U D in the shape of the weight, float32."""
    down, up = (matrix.flatten(1).to(weight.device) for matrix in (change.down, change.up))
    return (change.factor * (up @ down)).reshape(weight.shape)


def _layers(model: DiffusionModel) -> Iterator[tuple[str, nn.Module]]:
    """The layers that a LoRA may change, under all their names in LoRA files, flattened."""
    for name, layer in _linear(model.unet):
        for each in {name, original_name(model.unet, name)}:
            yield flattened(f"unet.{each}"), layer
            yield flattened(f"unet.{each.removesuffix('.0')}"), layer  # "to_out" for "to_out.0"
    for part, encoder in zip(("text_encoder", "text_encoder_2"), model.text_encoders, strict=False):
        for name, layer in _linear(encoder.encoder):
            short = name.removeprefix("text_model.")
            other = next((short.replace(ours, theirs) for ours, theirs in _TEXT.items() if ours in short), short)
            for each in {short, other}:
                yield flattened(f"{part}.{each}"), layer
                yield flattened(f"{part}.text_model.{each}"), layer


def _linear(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            yield name, layer
