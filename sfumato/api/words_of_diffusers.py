"""Options of diffusers' pipelines in calls of sfumato: another name of an option here, or advice what to use."""

from collections.abc import Mapping
from typing import Any, Literal

from sfumato.errors import BadInput

Call = Literal["invert", "edit", "plan", "generate", "interpolate"]

NAMES = {"num_inference_steps": "steps"}
"""Option of diffusers -> its name here."""

_SKIP = "skip=N, the noisiest steps that are left out: skip = steps (1 - strength)"
_TEXTS = (
    "give texts as prompts, with weights of words by sfumato.load(..., prompt_weights=True), or tokens for a network "
    "without text encoder"
)
_AGAIN = "invert the images, then edit them with"
_TIMES = {
    "": "use steps=N, spaced as by the scheduler of the model",
    "edit": "the steps of an edit are those of the inversion: give steps=N to invert",
}
_SIZE = {
    "": 'use resolution="native", "full" or N: results have the size of the image, whatever the resolution',
    "edit": 'use resolution="native", "full" or N of invert: results have the size of the image',
    "generate": "use size=(width, height)",
    "interpolate": "the frames have the size of the images: scale the images",
}
_STEPPED = {
    "": "use {0}_steps, which yields after every step",
    "plan": "use the run of the plan, plan(...).run(), which yields after every step",
}
_NONE = "there is nothing like it: leave it out"
_OF_SIZE = "the size of the image is used: leave it out"

ADVICE: dict[str, str | dict[str, str]] = {
    "generator": {
        "": "use seed=N, one per image: noise is a function of the seed and not of a generator's state",
        "edit": "use seed=N of invert: an edit takes its noise from the inversion",
        "interpolate": "an interpolation has no random noise: leave it out",
    },
    "strength": {
        "": f"use {_SKIP}",
        "generate": f"a generation begins with noise: {_AGAIN} {_SKIP}",
        "interpolate": "use time=N, the fraction of the run between the images and the latents of the path",
    },
    "num_images_per_prompt": {
        "": "use seed=[0, 1, 2], one result per seed",
        "edit": "use seed=[0, 1, 2] of invert, one result per seed",
        "interpolate": "an interpolation has one result: leave it out",
    },
    "height": _SIZE,
    "width": _SIZE,
    "image": {
        "": "give the images as the first argument",
        "edit": "an edit changes the images that were given to invert",
        "generate": f"a generation has no source image: {_AGAIN} a prompt",
        "interpolate": "give the two images as the first two arguments",
    },
    "prompt": {
        "": "give prompts, as the first argument",
        "invert": "give prompts, as the second argument: they describe the images",
        "plan": "give source and target, the prompts that describe the images and the edits",
        "interpolate": "give prompts, two texts as the third argument",
    },
    "negative_prompt": {"": _NONE, "invert": "an inversion has none: give negative_prompt to edit"},
    **dict.fromkeys(("prompt_2", "negative_prompt_2"), "both text encoders get the same text: leave it out"),
    **dict.fromkeys(
        ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds"), _TEXTS
    ),
    "mask_image": {
        "": "use mask=IMAGE",
        "invert": "use mask=IMAGE of edit",
        "generate": f"{_AGAIN} mask=IMAGE",
        "interpolate": _NONE,
    },
    "padding_mask_crop": "give a cropped image and its mask",
    "latents": {
        "": "use seed=N, which determines the noise",
        "edit": "an edit starts from the latents of the inversion: leave it out",
        "generate": "use seed=N, or an inversion (invert, then edit)",
        "interpolate": "the latents are those of the images: leave it out",
    },
    "timesteps": _TIMES,
    "sigmas": _TIMES,
    "denoising_start": {"": f"use {_SKIP.partition(':')[0]}", "generate": _NONE, "interpolate": _NONE},
    "denoising_end": _NONE,
    "guidance_rescale": "guidance is not rescaled: use a lower guidance_scale",
    "clip_skip": "the layers of the text encoders are those of diffusers without clip_skip: leave it out",
    "output_type": {
        "": "use images (Pillow) or pixels (arrays) of the result",
        "invert": "use images (Pillow) or pixels (arrays) of the result of edit",
        "plan": "use images (Pillow) or pixels (arrays) of the result, plan(...).run().result",
    },
    "return_dict": "calls return one object: leave it out",
    "callback": _STEPPED,
    "callback_steps": _STEPPED,
    "callback_on_step_end": _STEPPED,
    "callback_on_step_end_tensor_inputs": _STEPPED,
    "cross_attention_kwargs": "use sfumato.load(..., lora=(FILE, scale))",
    "image_guidance_scale": "use maps (sfumato.models.maps) with guidance_scale",
    "ip_adapter_image": "there is no IP-Adapter: use the method parasol with style images",
    "ip_adapter_image_embeds": "there is no IP-Adapter: use the method parasol with style images",
    **dict.fromkeys(("original_size", "target_size", "crops_coords_top_left"), _OF_SIZE),
}
"""Option of diffusers -> advice, for every call or by call; that of the other calls has the name ""."""


def renamed(options: Mapping[str, Any], call: Call) -> dict[str, Any]:
    """Replace names of options in diffusers by the names of this package.

    Args:
        options: options of the caller.
        call: the call that got them.

    Raises:
        BadInput: an option is given under both names, or is one that the call does not have.
    """
    for theirs in options:
        if theirs in ADVICE:
            raise BadInput(f"{theirs} is an option of diffusers; here, {advice(theirs, call)}.")
    for theirs, ours in NAMES.items():
        if theirs in options and ours in options:
            raise BadInput(f"{theirs} is another name for {ours}: give one of them.")
    return {NAMES.get(name, name): value for name, value in options.items()}


def advice(word: str, call: Call) -> str:
    """What to use in a call instead of an option of diffusers."""
    found = ADVICE[word]
    return (found if isinstance(found, str) else found.get(call, found[""])).format(call)
