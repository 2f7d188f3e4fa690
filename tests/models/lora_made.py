"""LoRA files for tests: random matrices for the layers of a tiny pipeline, named as by kohya, peft or diffusers."""

import torch
from safetensors.torch import save_file
from torch import nn

RANK = 2
LAYERS = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "conv1", "conv_in", "proj_in", "time_emb_proj")
TEXT = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")


def matrices(network, endings, generator):
    """Yield (name, down, up) for the Linear and Conv2d layers whose names end with one of `endings`."""
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Linear | nn.Conv2d) and name.endswith(endings):
            kernel = layer.weight.shape[2:]
            down = torch.randn(RANK, layer.weight.shape[1], *kernel, generator=generator)
            up = torch.randn(len(layer.weight), RANK, *(1 for _ in kernel), generator=generator) * 0.1
            yield name, down, up


def parts_of(pipe):
    parts = {"unet": (pipe.unet, LAYERS), "text_encoder": (pipe.text_encoder, TEXT)}
    second = getattr(pipe, "text_encoder_2", None)
    return parts if second is None else parts | {"text_encoder_2": (second, TEXT)}


def write_lora(pipe, path, style, *, parts=None, alpha=1.5, seed=0, names=lambda unet, name: name, metadata=None):
    """Write a LoRA for a pipeline; `style` is "kohya", "peft" or "diffusers" (the older names of diffusers)."""
    generator, weights = torch.Generator().manual_seed(seed), {}
    short = {"unet": "lora_unet", "text_encoder": "lora_te1" if hasattr(pipe, "text_encoder_2") else "lora_te"}
    short["text_encoder_2"] = "lora_te2"
    for part, (network, endings) in parts_of(pipe).items():
        if parts is not None and part not in parts:
            continue
        for name, down, up in matrices(network, endings, generator):
            if style == "kohya":
                full = names(network, name) if part == "unet" else f"text_model.{name.removeprefix('text_model.')}"
                key = f"{short[part]}_{full.replace('.', '_')}"
                weights |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up}
                weights[f"{key}.alpha"] = torch.tensor(alpha)
            elif style == "peft":
                weights |= {f"{part}.{name}.lora_A.weight": down, f"{part}.{name}.lora_B.weight": up}
            else:
                inside = ".lora" if part == "unet" else ".lora_linear_layer"
                weights |= {f"{part}.{name}{inside}.down.weight": down, f"{part}.{name}{inside}.up.weight": up}
    save_file(weights, path, metadata)
    return path
