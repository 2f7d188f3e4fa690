"""Maps of inpainting and InstructPix2Pix networks are what diffusers' pipelines concatenate to the latent."""

import pytest
import torch
from diffusers import DiffusionPipeline
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

from sfumato.core.guidance import Guided, Term
from sfumato.core.loop import recorded, reverse
from sfumato.core.rows import NEGATIVE, TARGET
from sfumato.errors import BadInput
from sfumato.models.load import load_model
from sfumato.models.maps import inpainting_maps, instruct_maps
from tests import tiny

HEIGHT, WIDTH, STEPS = 48, 32, 4


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def uniform(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


PIXELS, MASK = uniform(2, 3, HEIGHT, WIDTH) * 2 - 1, uniform(2, 1, HEIGHT, WIDTH, seed=1)


@pytest.fixture(scope="module")
def inpainting(tmp_path_factory):
    return tiny.tiny_inpainting(tmp_path_factory.mktemp("m") / "inpainting")


@pytest.fixture(scope="module")
def instruct(tmp_path_factory):
    return tiny.tiny_instruct_pix2pix(tmp_path_factory.mktemp("m") / "instruct")


@pytest.fixture
def mode_of_the_posterior(monkeypatch):
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())


def opened(folder):
    """Our model, the pipeline, and a list of the pipeline's evaluations: arguments, keywords, output."""
    pipeline, calls = DiffusionPipeline.from_pretrained(folder, local_files_only=True), []
    pipeline.set_progress_bar_config(disable=True)
    pipeline.unet.register_forward_hook(lambda unet, *call: calls.append(call), with_kwargs=True)
    return load_model(folder, "cpu"), pipeline, calls


@pytest.mark.usefixtures("mode_of_the_posterior")
@torch.no_grad()
def test_inpainting_inputs_and_predictions_match_the_pipeline(inpainting):
    model, pipeline, calls = opened(inpainting)
    x, prompts = noise(2, 4, HEIGHT // 4, WIDTH // 4), ["red apple", "a blue cat"]
    maps = inpainting_maps(model, PIXELS, MASK)
    pipeline(
        prompts,
        image=PIXELS / 2 + 0.5,
        mask_image=MASK.clone(),
        height=HEIGHT,
        width=WIDTH,
        latents=x.clone(),
        strength=1.0,
        num_inference_steps=STEPS,
        output_type="latent",
    )
    (sample, t), keywords, output = calls[0]
    pair = model.condition(["", "", *prompts], maps=maps.repeat(2, 1, 1, 1))
    assert torch.equal(torch.cat([x.repeat(2, 1, 1, 1), pair.maps], dim=1), sample)
    assert torch.equal(pair.tokens, keywords["encoder_hidden_states"])
    assert torch.equal(model.predict(x.repeat(2, 1, 1, 1), int(t), pair), output[0])


@torch.no_grad()
def test_instruct_pix2pix_guidance_matches_the_pipeline_latents(instruct):
    model, pipeline, calls = opened(instruct)
    x, prompts, text, image = noise(2, 4, HEIGHT // 4, WIDTH // 4), ["red apple", "a blue cat"], 6.0, 1.75
    maps = instruct_maps(model, PIXELS)
    expected = pipeline(
        prompts,
        image=PIXELS / 2 + 0.5,
        latents=x.clone(),
        guidance_scale=text,
        image_guidance_scale=image,
        num_inference_steps=STEPS,
        output_type="latent",
    ).images
    (sample, t), keywords, output = calls[0]
    assert torch.equal(torch.cat([x, maps], dim=1), sample[:2])
    assert torch.equal(torch.cat([x, torch.zeros_like(maps)], dim=1), sample[4:])
    condition = model.condition(prompts, maps=maps)
    assert torch.equal(condition.tokens, keywords["encoder_hidden_states"][:2])
    torch.testing.assert_close(model.predict(x, int(t), condition), output[0][:2], atol=1e-6, rtol=0)
    terms = (
        Term(NEGATIVE, model.condition(["", ""], maps=torch.zeros_like(maps))),
        Term("image", model.condition(["", ""], maps=maps), (image - text,) * 2),
        Term(TARGET, None, (text,) * 2),
    )
    steps = model.schedule.timesteps(STEPS)
    *_, last = reverse(Guided(model, terms), x, steps, condition, eta=0.0, noise_maps=recorded(None))
    torch.testing.assert_close(last.x_prev, expected, atol=1e-4, rtol=0)


def test_mask_is_binarised_and_broadcast(inpainting):
    model = load_model(inpainting, "cpu")
    soft = torch.linspace(0, 4, HEIGHT).round().reshape(1, 1, HEIGHT, 1).expand(1, 1, HEIGHT, WIDTH) / 4
    maps = inpainting_maps(model, PIXELS, soft)
    assert torch.equal(maps, inpainting_maps(model, PIXELS, soft >= 0.5))
    assert torch.equal(maps, inpainting_maps(model, PIXELS, soft.repeat(2, 1, 1, 1)))
    assert maps.shape == (2, 5, HEIGHT // 4, WIDTH // 4)
    assert set(maps[:, 0].unique().tolist()) == {0.0, 1.0}
    hidden = PIXELS.where(soft < 0.5, torch.rand(1))
    assert torch.equal(maps, inpainting_maps(model, hidden, soft)), "what is under the mask is not seen"


@pytest.mark.parametrize(
    ("pixels", "mask", "message"),
    [
        (PIXELS[:, :, :-1], MASK[:, :, :-1], "multiples of 8"),
        (PIXELS[0], MASK, r"\[b,3,h,w\]"),
        (PIXELS, MASK[0], r"\[2, 1, 48, 32\]"),
        (PIXELS, MASK[:, :, ::2, ::2], r"\[2, 1, 48, 32\], that of the images, not \[2, 1, 24, 16\]"),
        (PIXELS, MASK.repeat(2, 1, 1, 1), r"\[2, 1, 48, 32\]"),
        (PIXELS, MASK * 255, r"must be in \[0, 1\]"),
        (PIXELS, MASK * float("nan"), r"must be in \[0, 1\]"),
    ],
)
def test_incompatible_masks_and_images_are_rejected(inpainting, pixels, mask, message):
    with pytest.raises(BadInput, match=message):
        inpainting_maps(load_model(inpainting, "cpu"), pixels, mask)


def test_maps_for_another_kind_of_network_are_rejected(inpainting, instruct, tiny_sd_folder, tmp_path):
    with pytest.raises(BadInput, match="not an InstructPix2Pix network: it takes 5 channels"):
        instruct_maps(load_model(inpainting, "cpu"), PIXELS)
    with pytest.raises(BadInput, match="it takes 3 channels in addition to the latent and no prompts"):
        instruct_maps(load_model(tiny.tiny_super_resolution(tmp_path / "m"), "cpu"), PIXELS)
    for folder in (instruct, tiny_sd_folder):
        with pytest.raises(BadInput, match="not an inpainting network"):
            inpainting_maps(load_model(folder, "cpu"), PIXELS, MASK)
    with pytest.raises(BadInput, match="multiples of 8"):
        instruct_maps(load_model(instruct, "cpu"), PIXELS[..., :-4])
