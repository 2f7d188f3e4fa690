"""The bundled model: it loads in diffusers, is below the size limit, and edits as its README states."""

import copy
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from safetensors import safe_open

import sfumato
from sfumato.core.guidance import classifier_free
from sfumato.examples import examples
from sfumato.inversion import invert_edit_friendly, replay
from sfumato.metrics import DualEncoder
from sfumato.models.bundled import bundled_path
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.load import load_model

pytestmark = pytest.mark.slow

EXAMPLES = Path(sfumato.__file__).parent / "examples"
LIMIT = 80_000_000


@pytest.fixture(scope="module")
def folder() -> Path:
    return bundled_path("emoji")


@pytest.fixture(scope="module")
def network() -> DiffusionModel:
    return load_model("emoji")


def test_diffusers_loads_and_samples_from_it(folder: Path) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    drawn = pipe("red apple, twemoji", num_inference_steps=4, generator=torch.Generator().manual_seed(0)).images[0]
    assert drawn.size == (128, 128)
    assert np.asarray(drawn).std() > 10


def test_weights_are_half_precision_safetensors_below_the_limit(folder: Path) -> None:
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= LIMIT
    assert not [file for file in files if file.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl")]
    weights = [file for file in files if file.suffix == ".safetensors"]
    assert len(weights) == 4
    for file in weights:
        with safe_open(file, framework="pt") as tensors:
            kinds = {tensors.get_slice(name).get_dtype() for name in tensors.keys()}  # noqa: SIM118
        assert kinds <= {"F16", "I64"}, file


def test_evaluator_does_not_condition_the_unet(folder: Path, network: DiffusionModel) -> None:
    evaluator = DualEncoder.load(folder / "dual_encoder")
    ids = evaluator.tokenizer(
        ["red apple, twemoji"], padding="max_length", max_length=32, return_tensors="pt"
    ).input_ids
    tokens = evaluator.model.text_model(ids).last_hidden_state
    assert not torch.allclose(tokens, network.condition("red apple, twemoji").tokens, atol=1e-2)


def test_evaluator_ranks_the_prompt_of_each_example_first(folder: Path) -> None:
    evaluator = DualEncoder.load(folder / "dual_encoder")
    images = np.stack([np.asarray(Image.open(each.path).convert("RGB")) for each in examples()])
    features = evaluator.image_features(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255)
    similarity = features @ evaluator.text_features([each.source for each in examples()]).T
    assert similarity.argmax(dim=1).tolist() == list(range(len(images)))


def as_epsilon(network: DiffusionModel) -> DiffusionModel:
    """The same model as an eps-network: eps = sqrt(abar) v + sqrt(1 - abar) x_t is computed inside the U-Net."""
    unet, levels = copy.deepcopy(network.unet), network.schedule.alphas_cumprod.float()
    predict_v = unet.forward

    def predict_eps(sample: torch.Tensor, timestep: int | torch.Tensor, **given: object) -> tuple[torch.Tensor]:
        abar = levels[timestep].reshape(-1, 1, 1, 1)
        return (abar.sqrt() * predict_v(sample, timestep, **given)[0] + (1 - abar).sqrt() * sample,)

    unet.forward = predict_eps
    schedule = dataclasses.replace(network.schedule, prediction_type="epsilon")
    return DiffusionModel(unet, network.codec, network.text_encoders, schedule)


KINDS = ("v_prediction", "epsilon")


def run_to_the_end(steps: Iterator) -> object:
    try:
        while True:
            next(steps)
    except StopIteration as stop:
        return stop.value


#: Both kinds of network in both sizes, and two long runs. At 96 x 160, batches err more in 20 steps than in 8 or 50.
RUNS = [
    *((kind, (128, 128), 8, exact) for kind in KINDS for exact in (True, False)),
    *((kind, (96, 160), steps, exact) for kind in KINDS for steps, exact in ((8, True), (20, False))),
    ("v_prediction", (128, 128), 100, False),
    ("epsilon", (128, 128), 50, True),
]


@pytest.mark.parametrize(("kind", "shape", "steps", "exact"), RUNS)
def test_reconstruction_is_exact(
    network: DiffusionModel, kind: str, shape: tuple[int, int], steps: int, exact: bool
) -> None:
    """Maximum latent error at most 1e-6 with `exact`, 1e-5 in batches over timesteps of images of the training size.

    Predicted noise of the eps-network is computed from v, which doubles the rounding error of batches. At other sizes
    the network amplifies rounding errors more; the decoded images are equal to half a grey level.
    """
    model = network if kind == "v_prediction" else as_epsilon(network)
    image = Image.open(EXAMPLES / "fox.png").convert("RGB").resize(shape[::-1])
    pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    x0 = model.encode(pixels)
    source = model.condition(["fox, noto"])
    guided = classifier_free(model, model.condition([""]), (3.5,))
    inversion = run_to_the_end(invert_edit_friendly(guided, x0, source, steps=steps, seeds=[0], exact=exact))
    last = None
    for state in replay(guided, inversion, source):
        last = state.x_prev
    error = float((last - x0).abs().max())
    if exact:
        assert error <= 1e-6, error
    elif shape == (128, 128):
        assert error <= (1e-5 if kind == "v_prediction" else 2e-5), error
    else:
        assert error <= 1e-2, error
        assert 127.5 * float((model.decode(last) - model.decode(x0)).abs().max()) < 0.5


def test_edit_increases_similarity_to_the_prompt() -> None:
    model = sfumato.load("emoji")
    edit = model.invert(EXAMPLES / "heart.png", "red heart, twemoji").edit("blue heart, twemoji")
    metrics = edit.report["metrics"]
    assert metrics["edit_similarity_to_target"][0] > metrics["source_similarity_to_target"][0]
    source = np.asarray(Image.open(EXAMPLES / "heart.png").convert("RGB")).astype(int)
    edited = np.asarray(edit.images[0].convert("RGB")).astype(int)
    red = source[..., 0] - source[..., 1] > 80
    assert (edited[..., 2] - edited[..., 0])[red].mean() > 80, "what was red is now blue"


def test_loading_works_offline(folder: Path) -> None:
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert load_model("emoji").fingerprint() == load_model(folder).fingerprint()
