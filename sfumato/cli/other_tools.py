"""Flags of other tools (diffusers, A1111, ComfyUI, InvokeAI), and their equivalents in sfumato."""

from collections.abc import Container

_IMAGE, _SKIP = (
    "IMAGE, the first argument",
    "--skip N, the noisiest steps that are left out: skip = steps (1 - strength)",
)
_ETA = "--eta, where 0 is DDIM and 1 is DDPM"
FLAGS: dict[str, tuple[str, ...]] = {
    "--prompt": ("--to", "TEXT, the first argument"),
    "--init-image": (_IMAGE,),
    "--image": (_IMAGE,),
    "--num-inference-steps": ("--steps",),
    "--sampling-steps": ("--steps",),
    "--cfg": ("--guidance",),
    "--cfg-scale": ("--guidance",),
    "--guidance-scale": ("--guidance",),
    "--strength": (_SKIP,),
    "--denoising-strength": (_SKIP,),
    "--sampler": (_ETA,),
    "--scheduler": (_ETA,),
    "--height": ("--size WxH", "--resolution"),
    "--width": ("--size WxH", "--resolution"),
    "--mask-image": ("--mask",),
    "--mask-blur": ("--mask with grey edges: grey is edited in part",),
    "--mask-invert": ("--mask with black and white exchanged",),
    "--inpaint": ("--mask",),
    "--num-images": ("--seeds",),
    "--num-images-per-prompt": ("--seeds",),
    "--batch-size": ("--seeds",),
    "--output": ("--out",),
    "--checkpoint": ("--model",),
    "--ckpt": ("--model",),
}
"""Flag of another tool -> suggestions; the first one whose first word is a flag of the command is used."""


def instead_of(flag: str, known: Container[str]) -> str:
    """End of an error message such as "; use --steps"; "" if the flag is unknown or the command has no equivalent.

    Args:
        flag: the flag on the command line.
        known: the flags of the command, and the names of its arguments.
    """
    uses = FLAGS.get(flag.partition("=")[0].replace("_", "-"), ())
    return next((f"; use {use}" for use in uses if use.split()[0].rstrip(",") in known), "")
