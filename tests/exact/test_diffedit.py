"""DiffEdit's mask against diffusers' pipeline on the same weights and the same noise."""

import diffusers
import torch
from diffusers.pipelines.deprecated.stable_diffusion_diffedit import pipeline_stable_diffusion_diffedit as diffedit

from sfumato.core.noise import gaussian_batch
from sfumato.core.rows import SOURCE, TARGET, Rows
from sfumato.models.load import load_model
from sfumato.shifts.diffedit import above, disagreement
from tests.exact.toy import linear_schedule, prompt

DRAWS, SEED = 6, 4


def test_mask_equals_diffusers(tiny_folder, monkeypatch):
    """diffusers uses a guidance scale of 5 and sfumato none; the factor cancels in the mask."""
    folder = tiny_folder("sd")
    model = load_model(str(folder))
    x0 = torch.randn(1, *model.latent_shape(*model.native_size), generator=torch.Generator().manual_seed(1))
    source, target = model.condition(["red cat"]), model.condition(["green dog"])

    pipe = diffusers.StableDiffusionDiffEditPipeline.from_pretrained(
        folder, safety_checker=None, inverse_scheduler=None
    )
    pipe.scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.scheduler.set_timesteps(20)
    t = int(pipe.scheduler.timesteps[10])
    noises = [gaussian_batch(x0.shape[1:], [SEED], step=t, tag=f"diffedit-{draw}") for draw in range(DRAWS)]
    monkeypatch.setattr(diffedit, "randn_tensor", lambda *_, **__: torch.cat(noises))
    monkeypatch.setattr(pipe, "prepare_image_latents", lambda image, rows, *_, **__: x0.repeat(rows, 1, 1, 1))
    theirs = pipe.generate_mask(
        image=torch.zeros(1, 3, 32, 32), target_prompt="green dog", source_prompt="red cat",
        num_maps_per_mask=DRAWS, num_inference_steps=20, guidance_scale=5.0, output_type="np",
    )  # fmt: skip

    with model.counting() as count:
        ours = disagreement(model, x0, source, target, t=t, seeds=[SEED], draws=DRAWS)
    assert count.samples == 2 * DRAWS
    assert torch.equal(above(ours, 1.5)[0], torch.as_tensor(theirs).float())
    assert 0 < above(ours, 1.5).mean() < 1


def test_predictions_are_found_by_the_names_of_their_conditions():
    """The network receives a batch in which the rows of both prompts are named, as in guidance."""
    x0, layouts = torch.zeros(1, 4, 8, 8), []

    class Network:
        schedule = linear_schedule()

        def predict(self, x, t, cond, taps=None):
            layouts.append(Rows.of_evaluation(cond, len(x)))
            return cond.tokens.mean(dim=(1, 2))[:, None, None, None].expand_as(x)

    found = disagreement(Network(), x0, prompt(1, 0.25), prompt(1, 1.0), t=500, seeds=[0], draws=3)
    assert layouts == [Rows((SOURCE, TARGET), 3)]
    assert torch.equal(found, torch.full((1, 1, 8, 8), 0.75))


def test_difference_maps_do_not_depend_on_the_batch(tiny_folder):
    model = load_model(str(tiny_folder("sd")))
    x0 = torch.randn(2, *model.latent_shape(32, 64), generator=torch.Generator().manual_seed(2))
    source, target = model.condition(["red cat"] * 2), model.condition(["green dog", "red dog"])
    together = disagreement(model, x0, source, target, t=500, seeds=[1, 2], draws=5, batch=64)
    parts = disagreement(model, x0, source, target, t=500, seeds=[1, 2], draws=5, batch=1)
    alone = disagreement(model, x0[1:], source[1:], target[1:], t=500, seeds=[2], draws=5)
    assert (together - parts).abs().max() <= 1e-5
    assert (together[1:] - alone).abs().max() <= 1e-5
    assert not above(disagreement(model, x0, source, source, t=500, seeds=[1, 2], draws=2)).any()
