"""Flags of other tools (diffusers, A1111, ComfyUI, InvokeAI), and the flags that do the same here."""

from collections.abc import Container

FLAGS = {
    "--prompt": "--to",
    "--init-image": "IMAGE, the first argument",
    "--image": "IMAGE, the first argument",
    "--num-inference-steps": "--steps",
    "--sampling-steps": "--steps",
    "--cfg": "--guidance",
    "--cfg-scale": "--guidance",
    "--guidance-scale": "--guidance",
    "--strength": "--skip N, the noisiest steps that are left out: skip = steps (1 - strength)",
    "--denoising-strength": "--skip N, the noisiest steps that are left out: skip = steps (1 - strength)",
    "--sampler": "--eta, where 0 is DDIM and 1 is DDPM",
    "--scheduler": "--eta, where 0 is DDIM and 1 is DDPM",
    "--height": "--resolution",
    "--width": "--resolution",
    "--mask-image": "--mask",
    "--mask-blur": "--mask with grey edges: grey is edited in part",
    "--mask-invert": "--mask with black and white exchanged",
    "--inpaint": "--mask",
    "--num-images": "--seeds",
    "--num-images-per-prompt": "--seeds",
    "--batch-size": "--seeds",
    "--output": "--out",
    "--checkpoint": "--model",
    "--ckpt": "--model",
}
"""Flag of another tool -> what to use; the first word is a flag here, or an argument."""


def other_word(flag: str, known: Container[str]) -> str:
    """Such as "; use --steps" for a flag of another tool; "" for any other, or where the command has no such flag."""
    use = FLAGS.get(flag.partition("=")[0].replace("_", "-"), "")
    first = use.partition(" ")[0].rstrip(",")
    return f"; use {use}" if first and (not first.startswith("--") or first in known) else ""
