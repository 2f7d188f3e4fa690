"""Flags of other tools (diffusers, A1111, ComfyUI, InvokeAI), and their equivalents in sfumato."""

from collections.abc import Iterable

_SKIP = "--skip N, the noisiest steps that are left out: skip = steps (1 - strength)"
_SOURCE = "--from, the description of the source image"
_TARGET, _TEXT = "--to, the description of the edited image", "TEXT, the first argument"
_SIZE = ("--size WxH", "--resolution: results have the size of the image")
_ETA = "--eta (1 is DDPM, 0 is DDIM, in an edit with --method ddim); there are no other samplers"


def _each(names: str, *uses: str) -> dict[str, tuple[str, ...]]:
    """The same suggestions for several flags."""
    return dict.fromkeys((f"--{name}" for name in names.split()), uses)


#: Flags whose equivalents only commands that change an image have.
_OF_EDIT = {
    **_each("init-image init-img image input-image", "IMAGE, the first argument"),
    **_each("strength denoise denoising-strength denoise-strength", _SKIP),
    **_each("source-prompt src-prompt source", _SOURCE),
    **_each("mask-image inpaint", "--mask"),
    **_each("mask-blur", "--mask with grey edges: grey is edited in part"),
    **_each("mask-invert invert-mask", "--mask with black and white exchanged"),
    **_each("mask-prompt", "--mask-words"),
}
FLAGS: dict[str, tuple[str, ...]] = {
    **_OF_EDIT,
    **_each("prompt text target-prompt tgt-prompt edit-prompt target instruction", _TARGET, _TEXT),
    **_each("negative neg negative-prompts", "--negative-prompt"),
    **_each("num-inference-steps sampling-steps ddim-steps num-steps", "--steps"),
    **_each("cfg cfg-scale guidance-scale", "--guidance"),
    **_each("sampler sampler-name scheduler ddim plms", _ETA),
    **_each("height width H W", *_SIZE),
    **_each("size", _SIZE[1]),
    **_each("num-images num-images-per-prompt num-outputs batch-size batch-count n-iter n-samples", "--seeds"),
    **_each("output", "--out"),
    **_each("output-dir outdir", "--out-dir", "--out"),
    **_each("checkpoint ckpt model-id model-path", "--model"),
    **_each("half fp16 float16 precision", "--dtype fp16"),
    **_each("bf16 bfloat16", "--dtype bf16"),
    **_each("no-half fp32 float32", "--dtype fp32, which is the default"),
    **_each("gpu cuda", "--device cuda"),
    **_each("cpu", "--device cpu"),
    **_each("medvram lowvram cpu-offload enable-model-cpu-offload sequential-cpu-offload", "--offload"),
    **_each("lora-scale lora-weight", "--lora FILE:SCALE"),
    **_each("embedding embeddings", "--textual-inversion"),
}
"""Flag of another tool -> suggestions; the first one whose first word is a flag of the command is used."""
NONE = {
    **_each("clip-skip", "prompts are encoded as in diffusers without clip skip"),
    **_each("vae vae-path", "the autoencoder is that of the model"),
    **_each("cfg-rescale guidance-rescale", "guidance is not rescaled"),
    **_each("refiner controlnet ip-adapter hypernetwork upscale hires hires-fix tiling", "leave it out"),
    **_each("xformers attention-slicing enable-attention-slicing", "the attention of torch needs no setting"),
}
"""Flag of another tool without an equivalent -> reason."""


def instead_of(flag: str, known: Iterable[str]) -> str:
    """End of an error message such as "; use --steps"; "" if the flag is unknown or the command has no equivalent.

    Args:
        flag: the flag on the command line.
        known: the flags of the command, and the names of its arguments.
    """
    name, flags = flag.partition("=")[0].replace("_", "-"), set(known)
    if name in NONE and "--model" in flags:
        return f", which has no equivalent here: {NONE[name][0]}"
    uses = FLAGS.get(name, ())
    if found := next((use for use in uses if _first_word(use) in flags), ""):
        return f"; use {found}"
    if name in _OF_EDIT and "--model" in flags:
        return f"; to change an image, use `sfumato edit` with {uses[0]}"
    return ""


def _first_word(use: str) -> str:
    return use.split()[0].rstrip(",:")
