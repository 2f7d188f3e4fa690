"""Bad input to the Python API is refused before any network evaluation."""

import pytest
from PIL import Image

import sfumato
from sfumato.errors import BadInput
from tests.contract.images import IMAGE, OTHER
from tests.tiny import tiny_inpainting, tiny_sd

LONG = "red cat " * 60

BAD_INVERT = [
    ({"images": []}, "at least one image"),
    ({"images": "nowhere.png"}, "nowhere.png"),
    ({"prompts": 3}, "must be text"),
    ({"prompts": LONG}, "tokens"),
    ({"prompts": ["a", "b", "c"], "images": [IMAGE, OTHER]}, "source prompt"),
    ({"seed": "one"}, "seed must be an integer"),
    ({"seed": [-1]}, "seed must be an integer of at least 0, not -1"),
    ({"seed": [1, 2, 3], "images": [IMAGE, OTHER]}, "seed"),
    ({"method": "magic"}, "edit-friendly"),
    ({"method": ["ddim"]}, r"name of a method must be text, not \['ddim'\]"),
    ({"batch": 0}, "batch"),
    ({"steps": 1000}, "between 1 and 999"),
    ({"eta": 0}, "above 0 and at most 1"),
    ({"eta": 1.01}, "above 0 and at most 1"),
    ({"skip": 100}, "between 0 and 99"),
    ({"source_guidance_scale": -1}, "between 0 and 100"),
]


@pytest.mark.parametrize(("changes", "message"), BAD_INVERT)
def test_bad_inversions_are_refused_before_any_evaluation(sd, changes, message):
    calls = sd.network.count.calls
    with pytest.raises(BadInput, match=message):
        sd.invert_steps(**{"images": IMAGE, "prompts": "red cat", **changes})
    assert sd.network.count.calls == calls


BAD_EDIT = [
    ({"prompts": "  "}, "empty"),
    ({"prompts": [None]}, "must be text"),
    ({"prompts": None}, "target prompt must be text, not None"),
    ({"prompts": None, "methods": ["colour"]}, "target prompt must be text, not None"),
    ({"prompts": []}, "list of target prompts is empty"),
    ({"mask": []}, "list of masks is empty"),
    ({"guidance_scale": ()}, "list of guidance scales is empty"),
    ({"prompts": LONG}, "tokens"),
    ({"prompts": ["a"] * 3}, "target prompt"),
    ({"guidance_scale": "strong"}, "guidance_scale must be a number"),
    ({"guidance_scale": [1, 2, 3]}, "guidance_scale"),
    ({"guidance_scale": [1, 101]}, "between 0 and 100"),
    ({"skip": 8}, "between 0 and 7"),
    ({"skip": -1}, "skip"),
    ({"steps": 4}, "steps: the number of steps was fixed at inversion; leave steps out, or invert the image again"),
    ({"mask": Image.new("L", (8, 8), 255)}, "8 x 8"),
    ({"mask": [Image.new("L", (32, 32), 255), Image.new("L", (40, 24), 0)]}, "black everywhere"),
    ({"mask_words": ["cat"]}, r"mask_words must be text, words separated by commas, .* not \['cat'\]"),
    ({"mask_words": 3}, "mask_words must be text"),
    ({"negative_prompt": LONG}, "tokens"),
    ({"negative_prompt": "tree", "guidance_scale": [1, 1]}, "has no effect at guidance scale 1"),
]


@pytest.mark.parametrize(("changes", "message"), BAD_EDIT)
def test_bad_edits_are_refused_before_any_evaluation(sd, inverted, changes, message):
    calls = sd.network.count.calls
    with pytest.raises(BadInput, match=message):
        inverted.edit_steps(**{"prompts": "green dog", **changes})
    assert sd.network.count.calls == calls


def test_prompt_none_is_refused_for_a_single_image(sd):
    inverted = sd.invert(IMAGE, "red cat", steps=2)
    calls = sd.network.count.calls
    for work in (inverted.edit, lambda prompts: sd.plan(IMAGE, "red cat", prompts)):
        with pytest.raises(BadInput, match="target prompt must be text, not None"):
            work(None)
    assert sd.network.count.calls == calls


@pytest.mark.parametrize("name", ["prompts", "mask", "guidance_scale"])
def test_empty_lists_are_refused_for_a_single_image(sd, name):
    inverted = sd.invert(IMAGE, "red cat", steps=2)
    with pytest.raises(BadInput, match=r"list of .* is empty: give at least one"):
        inverted.edit_steps(**{"prompts": "green dog", name: []})


BAD_GENERATE = [
    ({"prompts": ""}, "empty"),
    ({"prompts": ["a", "b"], "seed": [1, 2, 3]}, "prompt"),
    ({"prompts": LONG}, "tokens"),
    ({"negative_prompt": LONG}, "tokens"),
    ({"negative_prompt": "tree", "guidance_scale": 1}, "has no effect at guidance scale 1"),
    ({"size": (33, 32)}, "multiples of 8"),
    ({"size": 0}, "multiples of 8"),
    ({"size": "big"}, "size"),
    ({"eta": 2}, "between 0 and 1"),
    ({"skip": 3}, "no option 'skip'"),
    ({"steps": 0}, "between 1 and 1000"),
]


@pytest.mark.parametrize(("changes", "message"), BAD_GENERATE)
def test_bad_generations_are_refused_before_any_evaluation(sd, changes, message):
    calls = sd.network.count.calls
    with pytest.raises(BadInput, match=message):
        sd.generate_steps(**{"prompts": "red cat", **changes})
    assert sd.network.count.calls == calls


def test_negative_prompt_without_effect_is_refused(sd, inverted):
    inverted.edit_steps("green dog", negative_prompt="tree", guidance_scale=[1, 3])
    options = {"methods": "pix2pix-zero", "guidance_scale": 1.0, "negative_prompt": "tree"}
    sd.plan(IMAGE, "red cat", "red dog", compat="official", **options)
    with pytest.raises(BadInput, match="has no effect"):
        sd.plan(IMAGE, "red cat", "red dog", **options)
    with pytest.raises(BadInput, match="has no effect"):
        sd.plan(IMAGE, "red cat", methods="colour", negative_prompt="tree", guidance_scale=1.0)


def test_prompt_of_spaces_equals_no_prompt(sd):
    inverted = sd.invert(IMAGE, "red cat", method="shift", steps=4)
    spaces, none = (inverted.edit(prompt, right=2) for prompt in ("  ", ""))
    assert spaces.report["parameters"]["prompts"] == ["red cat"]
    assert (spaces.pixels[0] == none.pixels[0]).all()


def test_prompts_and_scales_without_text_encoder_are_refused(models):
    ddpm = models("ddpm")
    with pytest.raises(BadInput, match="no text input"):
        ddpm.invert_steps(IMAGE, "red cat")
    with pytest.raises(BadInput, match="source_guidance_scale must be 1"):
        ddpm.invert_steps(IMAGE, source_guidance_scale=2.0)
    with pytest.raises(BadInput, match="guidance_scale must be 1"):
        ddpm.invert(IMAGE, steps=3).edit(guidance_scale=2.0)


def test_inpainting_networks_are_refused(tmp_path):
    model = sfumato.load(str(tiny_inpainting(tmp_path / "inpainting")))
    for call in (
        lambda: model.invert_steps(IMAGE, "red cat"),
        lambda: model.plan(IMAGE, "red cat", "red dog"),
        lambda: model.generate_steps("red cat"),
    ):
        with pytest.raises(BadInput, match="takes 5 channels"):
            call()
    assert model.network.count.calls == 0


@pytest.fixture(scope="module")
def without_attention(tmp_path_factory):
    """A text-to-image model whose U-Net has no attention."""
    blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    return sfumato.load(
        str(tiny_sd(tmp_path_factory.mktemp("without") / "sd", mid_block_type="UNetMidBlock2D", **blocks))
    )


@pytest.mark.parametrize(
    "options",
    [
        {"methods": [("self-guidance", {"move": "cat: 0.2, 0"})]},
        {"methods": [("objects", {"objects": "cat"})]},
        {"methods": [("attend-and-excite", {"objects": "cat"})]},
        {"methods": [("prompt-to-prompt", {"self_steps": 0.0})]},
        {"methods": ["pix2pix-zero"]},
        {"mask_words": "cat"},
    ],
    ids=lambda options: str(next(iter(options.values()))),
)
def test_a_model_without_cross_attention_is_refused_by_what_reads_it(without_attention, options):
    with pytest.raises(BadInput, match=r"^This model has no cross-attention layers, whose maps are"):
        without_attention.plan(IMAGE, "red cat", "blue cat", steps=4, **options)
    assert without_attention.network.count.calls == 0
