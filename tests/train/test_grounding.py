"""The grounding loss: its closed form, the tokens and masks of objects, and its effect in training."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, kl_divergence

from sfumato.errors import BadInput
from sfumato.train.autoencoder import AutoencoderTask
from sfumato.train.diffusion import DiffusionTask
from sfumato.train.grounding import grounding_loss
from sfumato.train.recipe import DataRecipe, OptimRecipe, Recipe, RunRecipe
from sfumato.train.seeds import step_generator
from tests.train.small import trained
from tests.train.test_held_out import corpus  # noqa: F401 (a fixture)

pytestmark = pytest.mark.slow

SIDE = 8
TEXT = {"width": 64, "layers": 1, "vocabulary": 700, "context": 48}


@pytest.fixture(scope="module")
def recipe(corpus, tmp_path_factory):  # noqa: F811
    folder = tmp_path_factory.mktemp("grounding")
    data = DataRecipe(folder=str(corpus), size=32, scenes=24, scene_share=0.5)
    AutoencoderTask(Recipe("autoencoder", data=data, network={"channels": (8, 8, 8), "groups": 4, "f": 4})).export(
        folder / "autoencoder"
    )
    network = {"channels": (16, 16), "heads": (2, 2), "groups": 4}
    network |= {"autoencoder": str(folder / "autoencoder"), "text": TEXT}
    run = RunRecipe(steps=40, checkpoint_every=100, sample_every=100, precision="fp32")
    optim = OptimRecipe(batch=16, lr=5e-3, warmup=5)
    return Recipe("diffusion", data=data, network=network, loss={"grounding": 1.0}, optim=optim, run=run)


@pytest.fixture(scope="module")
def task(recipe, tmp_path_factory):
    return DiffusionTask(recipe, tmp_path_factory.mktemp("task"))


def random_maps(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_loss_is_the_divergence_of_the_mask_from_the_map():
    """Two objects in two images, two heads, layers of 4 x 4 and 2 x 2; the third object is not grounded."""
    maps = {"fine": random_maps(2, 2, 16, 5), "coarse": random_maps(2, 2, 4, 5, seed=1)}
    words = torch.zeros(2, 2, 5, dtype=torch.float64)
    words[0, 0, 1] = 1
    words[0, 1, 2:4] = 0.5
    words[1, 0, 3] = 1
    masks = random_maps(2, 2, 4, 4, seed=2).round()
    masks[1, 1] = 0
    weights = torch.tensor([0.5, 2.0], dtype=torch.float64)
    wanted = 0.0
    for name, side in (("fine", 4), ("coarse", 2)):
        mean, found = maps[name].mean(1), []
        for b, k in ((0, 0), (0, 1), (1, 0)):
            covered = masks[b, k].reshape(side, 4 // side, side, 4 // side).mean((1, 3)).flatten()
            seen = sum(mean[b, :, n] * words[b, k, n] for n in range(5))
            found.append(weights[b] * kl_divergence(Categorical(covered), Categorical(seen)))
        wanted = wanted + torch.stack(found).mean() / 2
    torch.testing.assert_close(grounding_loss(maps, words, masks, weights), wanted, rtol=1e-4, atol=1e-6)


def test_loss_is_zero_for_the_mask_itself_and_without_objects():
    masks = random_maps(1, 1, 4, 4).round()
    maps = torch.zeros(1, 2, 16, 3, dtype=torch.float64)
    maps[0, :, :, 1] = masks[0, 0].flatten() / 3
    words = torch.tensor([[[0.0, 1.0, 0.0]]], dtype=torch.float64)
    weights = torch.ones(1, dtype=torch.float64)
    assert grounding_loss({"a": maps}, words, masks, weights).item() == pytest.approx(0, abs=1e-9)
    assert grounding_loss({"a": 1 - maps}, words, masks, weights) > 0.1
    assert grounding_loss({"a": 1 - maps}, 0 * words, masks, weights) == 0


def test_weights_belong_to_the_tokens_of_the_words(task):
    grounded, scenes = task.grounded, task.data
    rows = torch.arange(len(scenes))
    captions, words = grounded.draw(rows, step_generator(0, 0, 0))
    ids, _ = task.tokens(captions)
    batch = grounded.targets(rows, ids, words)
    assert max(map(len, words)) > 1
    for caption, own, some, weights in zip(captions, ids, words, batch["words"], strict=True):
        assert caption.startswith(some[0])
        found = [task.tokenizer.decode(own[each > 0]).replace(" ", "") for each in weights[: len(some)]]
        assert found == [word.lower().replace(" ", "") for word in some]
        assert torch.equal(weights.sum(-1) > 0, torch.arange(grounded.most) < len(some))
    dropped = grounded.targets(rows[:1], task.tokens([""])[0], [[]])
    assert not dropped["words"].any()
    assert not dropped["masks"].any()


def test_masks_are_those_of_the_objects(task):
    scenes, alone = task.data, len(task.data.single_images)
    for i in range(scenes.count):
        masks = np.stack([each.mask for each in scenes.scene(i).objects])
        assert np.array_equal(scenes.masks(alone + i), masks)
        shares = masks.reshape(len(masks), SIDE, 4, SIDE, 4).mean((2, 4))
        assert np.allclose(task.grounded.masks[alone + i, : len(masks)], shares)
    drawn = scenes.single_images.images[0].min(axis=0) < 250  # not white
    assert (drawn == scenes.masks(0)[0]).mean() > 0.95


def test_training_lowers_the_loss(recipe, tmp_path):
    """Against the same training without its weight."""
    reached = {}
    for weight in (0.0, 1.0):
        own = dataclasses.replace(recipe, loss={"grounding": max(weight, 1e-9)})
        run = trained(own, tmp_path / str(weight))
        task = run.task
        with torch.no_grad():
            reached[weight] = task.phases[0].module(task.batch(step_generator(9, 0, 0), 64))[1]["grounding"].item()
    assert reached[1.0] < 0.85 * reached[0.0]


def test_batch_without_grounding_has_no_masks(recipe, tmp_path):
    task = DiffusionTask(dataclasses.replace(recipe, loss={}), tmp_path)
    assert task.grounded is None
    assert {"words", "masks"}.isdisjoint(task.batch(step_generator(0, 0, 0), 4))


def test_recipes_without_masks_or_with_compilation_are_refused(recipe, image_folder, tmp_path):
    alone = dataclasses.replace(recipe, data=DataRecipe(folder=str(image_folder), size=32))
    with pytest.raises(BadInput, match=r"needs the masks of scenes: set data\.scenes"):
        DiffusionTask(alone, tmp_path / "a")
    compiled = dataclasses.replace(recipe, run=dataclasses.replace(recipe.run, compile=True))
    with pytest.raises(BadInput, match=r"loss\.grounding attaches hooks .* run\.compile cannot be used"):
        DiffusionTask(compiled, tmp_path / "b")
