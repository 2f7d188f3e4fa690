"""`generate` with networks that take maps, class labels or tokens."""

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

from sfumato.api.finding import search_directions
from sfumato.api.model import Model
from sfumato.editing.generate import first_latent
from sfumato.errors import BadInput
from sfumato.models.load import load_model
from sfumato.models.maps import inpainting_maps, instruct_maps
from tests import tiny

HEIGHT, WIDTH, STEPS = 48, 32, 4
PROMPTS = ["red apple", "a blue cat"]


def uniform(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


PIXELS, MASK = uniform(2, 3, HEIGHT, WIDTH) * 2 - 1, uniform(2, 1, HEIGHT, WIDTH, seed=1)
FOLDERS = {
    "inpainting": tiny.tiny_inpainting,
    "instruct": tiny.tiny_instruct_pix2pix,
    "classes": lambda folder: tiny.tiny_ddpm(folder, num_class_embeds=11),
    "tokens": lambda folder: tiny.tiny_class_latent(folder, cross_attention=True, num_class_embeds=None),
    "super-resolution": tiny.tiny_super_resolution,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("m")
    return lambda name: root / name if (root / name).exists() else FOLDERS[name](root / name)


@pytest.fixture(scope="module")
def model(folder):
    return lambda name: Model(load_model(folder(name), "cpu"))


@pytest.fixture
def pipeline(folder):
    def opened(name):
        pipeline = DiffusionPipeline.from_pretrained(folder(name), local_files_only=True)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    return opened


def as_pixels(latents, network):
    pixels = (network.decode(latents) / 2 + 0.5).clamp(0, 1) * 255
    return pixels.permute(0, 2, 3, 1).numpy()


@torch.no_grad()
def test_inpainting_maps_reproduce_the_pipeline_image(model, pipeline, monkeypatch):
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())
    ours = model("inpainting")
    maps = inpainting_maps(ours.network, PIXELS, MASK)
    options = {"maps": maps, "negative_prompt": "green", "steps": STEPS, "guidance_scale": 5.0}
    result = ours.generate(PROMPTS, seed=[3, 4], **options)
    latents = pipeline("inpainting")(
        PROMPTS,
        negative_prompt=["green", "green"],
        image=PIXELS / 2 + 0.5,
        mask_image=MASK.clone(),
        height=HEIGHT,
        width=WIDTH,
        latents=first_latent(ours.network, (4, HEIGHT // 4, WIDTH // 4), [3, 4]),
        strength=1.0,
        guidance_scale=5.0,
        num_inference_steps=STEPS,
        output_type="latent",
    ).images
    expected = as_pixels(latents, ours.network)
    assert expected.std() > 5
    assert np.abs(np.stack(result.pixels) - expected).max() < 0.51
    one, other = result.recipes
    assert (one["size"], len(one["maps"])) == ([WIDTH, HEIGHT], 64)
    assert one["maps"] != other["maps"]
    alone = ours.generate(PROMPTS[1], seed=4, **options | {"maps": maps[1:]})
    assert np.abs(alone.pixels[0].astype(int) - result.pixels[1]).max() <= 1


@torch.no_grad()
def test_instruct_maps_reproduce_the_pipeline_image(model, pipeline):
    ours = model("instruct")
    maps = instruct_maps(ours.network, PIXELS[:1])
    result = ours.generate("red apple", seed=[3, 4], maps=maps, steps=STEPS, guidance_scale=6.0)
    latents = pipeline("instruct")(
        ["red apple", "red apple"],
        image=PIXELS[:1].repeat(2, 1, 1, 1) / 2 + 0.5,
        latents=first_latent(ours.network, (4, HEIGHT // 4, WIDTH // 4), [3, 4]),
        guidance_scale=6.0,
        image_guidance_scale=1.0,
        num_inference_steps=STEPS,
        output_type="latent",
    ).images
    assert np.abs(np.stack(result.pixels) - as_pixels(latents, ours.network)).max() < 0.51


@torch.no_grad()
def test_super_resolution_reproduces_the_pipeline_image(model, pipeline, monkeypatch):
    """The pipeline decodes latents without scaling_factor."""
    ours, small = model("super-resolution"), uniform(1, 3, 12, 8) * 2 - 1
    start = first_latent(ours.network, (3, 12, 8), [5])
    module = "diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion_superresolution"
    monkeypatch.setattr(f"{module}.randn_tensor", lambda *shape, **how: start)
    expected = pipeline("super-resolution")(small, num_inference_steps=STEPS, eta=0.0, output_type="np").images
    result = ours.generate(seed=5, maps=small, steps=STEPS)
    assert expected.shape == (1, HEIGHT, WIDTH, 3)
    assert np.abs(result.pixels[0] - 255 * expected[0]).max() < 0.51


def test_one_label_for_all_images_or_one_each(model):
    ours = model("classes")
    two = ours.generate(labels=[3, 4], seed=7, steps=STEPS, batch=2)  # one row in each call
    assert [recipe["label"] for recipe in two.recipes] == [3, 4]
    assert not np.array_equal(*two.pixels)
    for label, pixels in zip([3, 4], two.pixels, strict=True):
        alone = ours.generate(labels=label, seed=7, steps=STEPS).pixels[0].astype(int)
        assert np.abs(alone - pixels).max() <= 1
    one = ours.generate(labels=3, seed=[7, 8], steps=STEPS)
    assert [recipe["label"] for recipe in one.recipes] == [3, 3]
    with pytest.raises(BadInput, match="one label for all 3 images or one for each, not 2"):
        ours.generate(labels=[3, 4], seed=[1, 2, 3], steps=STEPS)


def test_tokens_for_a_network_without_text_encoder(model):
    ours = model("tokens")
    tokens = uniform(2, 3, tiny.WIDTH)
    two = ours.generate(tokens=tokens, seed=7, steps=STEPS)
    assert not np.array_equal(*two.pixels)
    assert len(ours.generate(tokens=tokens[:1], seed=[7, 8], steps=STEPS).pixels) == 2


TAKES = {
    "inpainting": "takes 5 channels concatenated to the latent's 4 .mask and masked_image_latents of an inpainting",
    "instruct": "takes 4 channels concatenated to the latent's 4 .image_latents of InstructPix2Pix",
    "classes": r"takes class labels, integers \[rows\] from 0 to 10",
    "super-resolution": "takes 3 channels concatenated to the latent's 3, which",
    "tokens": r"takes tokens for its cross-attention, \[rows,n,16\]",
}


@pytest.mark.parametrize("name", TAKES)
def test_calls_without_required_inputs_are_rejected_before_evaluation(model, name):
    ours, image = model(name), tiny.tiny_image()
    before = ours.network.count.calls
    prompt = "red" if ours.network.takes_text else ""
    for call in (
        lambda: ours.generate_steps(prompt),
        lambda: ours.invert_steps(image, prompt),
        lambda: ours.invert_steps(image, prompt, method="ddim"),
        lambda: ours.plan(image, prompt, prompt),
    ):
        with pytest.raises(BadInput, match=r"(give labels, |give maps=|give tokens=)"):
            call()
    plain = "the plain model .*--mask" if ours.network.map_channels and ours.network.takes_text else "a model that does"
    message = f"{TAKES[name]}.*%s does not provide: load {plain}"
    with pytest.raises(BadInput, match=message % "interpolate"):
        ours.interpolate_steps(image, image)
    for time in (1.0, 0.5):
        with pytest.raises(BadInput, match=message % "search_directions"):
            search_directions(ours, samples=2, n=1, time=time, steps=4)
    assert ours.network.count.calls == before


def test_invalid_maps_are_rejected_before_evaluation(model):
    ours = model("inpainting")
    maps, before = torch.zeros(2, 5, 12, 8), ours.network.count.calls
    for given, message in (
        ({"maps": maps, "size": 32}, "height and width of the latents, 8 x 8, not 12 x 8"),
        ({"maps": maps, "seed": [1, 2, 3]}, "one map for all 3 images or one for each, not 2"),
        ({"maps": maps[:, :4]}, r"must have the shape \[rows,5,h,w\], not \[2, 4, 12, 8\]"),
        ({"maps": maps[..., :7]}, "multiples of 8"),
        ({"maps": maps[0]}, r"\[rows,5,h,w\], not \[5, 12, 8\]"),
        ({"maps": [1]}, r"\[rows,5,h,w\], not a list"),
        ({"maps": maps, "labels": 3}, "takes no class labels"),
        ({"maps": maps, "tokens": maps[0]}, "takes no tokens except those of its prompts"),
    ):
        with pytest.raises(BadInput, match=message):
            ours.generate_steps("red", **given)
    with pytest.raises(BadInput, match="takes no channels in addition to the latent's: leave maps out"):
        model("classes").generate_steps(labels=3, maps=maps)
    assert ours.network.count.calls == before
