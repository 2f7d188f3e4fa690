"""SDEdit against diffusers' img2img on the same weights and the same noise."""

import diffusers
import pytest
import torch
from diffusers.pipelines.stable_diffusion import pipeline_stable_diffusion_img2img as img2img

from sfumato.core.guidance import classifier_free
from sfumato.core.noise import gaussian_batch
from sfumato.inversion import invert_sdedit, replay
from sfumato.models.load import load_model
from tests.exact.toy import finished


@pytest.mark.parametrize(("steps", "skip"), [(10, 5), (7, 1)])
def test_edit_equals_diffusers_img2img(tiny_folder, monkeypatch, steps, skip):
    folder = tiny_folder("sd")
    model = load_model(str(folder))
    height, width = model.native_size
    shape = model.latent_shape(height, width)
    x0 = torch.randn(1, *shape, generator=torch.Generator().manual_seed(1))
    guided = classifier_free(model, model.condition([""]), (4.0,))
    inversion, _ = finished(invert_sdedit(guided, x0, steps=steps, seeds=[9]))
    ours = list(replay(guided, inversion, model.condition(["red cat"]), skip=skip))[-1].x_prev

    pipe = diffusers.StableDiffusionImg2ImgPipeline.from_pretrained(folder, safety_checker=None)
    pipe.scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    e = gaussian_batch(shape, [9], step=len(model.schedule), tag="sdedit")
    monkeypatch.setattr(img2img, "randn_tensor", lambda *_, **__: e)
    theirs = pipe(
        "red cat", image=x0, strength=(steps - skip) / steps + 1e-6, num_inference_steps=steps,
        guidance_scale=4.0, output_type="latent",
    ).images  # fmt: skip
    assert (ours - theirs).abs().max() <= 1e-5


def test_inversion_evaluates_nothing_and_has_normal_noise_maps(tiny_folder):
    model = load_model(str(tiny_folder("sd")))
    x0 = torch.zeros(2, *model.latent_shape(*model.native_size))
    guided = classifier_free(model, model.condition(["", ""]), (1.0, 1.0))
    with model.counting() as count:
        inversion, states = finished(invert_sdedit(guided, x0, steps=50, eta=1.0, seeds=[0, 1]))
    assert count.calls == 0
    assert states == []
    z = inversion.z[inversion.z.flatten(1).abs().amax(dim=1) > 0]
    assert abs(float(z.var()) - 1) < 0.05
    assert not torch.equal(inversion.x[0, 0], inversion.x[0, 1])
