"""Recipes: parsing, invalid values, and the networks of the shipped recipes."""

import dataclasses
from pathlib import Path

import pytest
import torch
from transformers import CLIPTextModel

from sfumato.errors import BadInput
from sfumato.models.bundled import list_models
from sfumato.networks.load import load_network
from sfumato.shifts.delta_networks import build
from sfumato.style.network import StyleNetwork
from sfumato.style.tokens import ModalityTokens
from sfumato.train.asymmetric_loss import DeltaHLoss
from sfumato.train.autoencoder_network import AutoencoderNetwork, build_autoencoder
from sfumato.train.content import ContentLoss
from sfumato.train.delta_h import DeltaHNetwork
from sfumato.train.denoising import Denoising
from sfumato.train.dual_encoder import DualEncoderLoss
from sfumato.train.dual_encoder_network import DualEncoderNetwork, build_dual_encoder
from sfumato.train.noise import DiffusionLoss, noise_scheduler
from sfumato.train.parasol import ParasolNetwork
from sfumato.train.parasol_loss import ParasolLoss
from sfumato.train.recipe import OptimRecipe, fill, load_recipe
from sfumato.train.reconstruction import AutoencoderLoss
from sfumato.train.seeds import step_generator
from sfumato.train.start import build_task, start
from sfumato.train.style import StyleLoss, StyleRecipe
from sfumato.train.tokenizer import train_tokenizer
from sfumato.train.unet import DiffusionNetwork, build_unet
from tests.tiny import tiny_tokenizer
from tests.train.small import AUTOENCODER, small_recipe, trained

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))
NETWORKS = {
    "delta-h": DeltaHNetwork,
    "autoencoder": AutoencoderNetwork,
    "dual-encoder": DualEncoderNetwork,
    "diffusion": DiffusionNetwork,
    "style": StyleRecipe,
    "content": DualEncoderNetwork,
    "parasol": ParasolNetwork,
}
LOSSES = {
    "delta-h": DeltaHLoss,
    "autoencoder": AutoencoderLoss,
    "dual-encoder": DualEncoderLoss,
    "diffusion": DiffusionLoss,
    "style": StyleLoss,
    "content": ContentLoss,
    "parasol": ParasolLoss,
}


def written(folder, text):
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_shipped_recipes_build_their_networks(path):
    recipe = load_recipe(path)
    shape = fill(NETWORKS[recipe.kind], recipe.network, "network")
    loss = fill(LOSSES[recipe.kind], recipe.loss, "loss")
    size = recipe.data.size
    with torch.device("meta"):
        if recipe.kind == "autoencoder":
            out = build_autoencoder(shape, size)(torch.empty(1, 3, size, size)).sample
            assert out.shape == (1, 3, size, size)
        elif recipe.kind == "style":
            network = StyleNetwork(shape.channels, shape.dimension)
            assert network(torch.empty(2, 3, size, size)).shape == (2, shape.dimension)
        elif recipe.kind == "parasol":
            assert ModalityTokens(128, 128, shape.hidden, 192).of(torch.empty(2, 128), None, 2).shape == (2, 2, 192)
        elif recipe.kind == "delta-h":
            loss.check()
            h = torch.empty(1, 16, 4, 4)
            assert build(shape.kind, (901,), (16, 4, 4), shape.factor)(h, 901).shape == h.shape
        elif recipe.kind == "diffusion":
            unet = build_unet(shape, 4, 16, 192)
            batch = {
                "x0": torch.empty(2, 4, 16, 16),
                "eps": torch.empty(2, 4, 16, 16),
                "tokens": torch.empty(2, 8, 192),
                "words": torch.empty(2, 1, 8),
                "masks": torch.empty(2, 1, 16, 16),
            }
            with torch.device("cpu"):
                module = Denoising(unet, noise_scheduler(loss), loss).to("meta")
            assert module(batch | {"t": torch.empty(2, dtype=torch.long)})[0].shape == ()
        else:
            with torch.device("cpu"):
                tokenizer = train_tokenizer(["a red disc"], 600, shape.context)
            clip = build_dual_encoder(shape, size, tokenizer)
            ids = torch.empty(2, shape.context, dtype=torch.long)
            assert clip.get_image_features(torch.empty(2, 3, size, size)).pooler_output.shape == (2, shape.projection)
            assert clip.text_model.embeddings(ids).shape == (2, shape.context, shape.width)


def test_128_pixel_pipeline_is_small_enough_to_ship():
    """Half precision and 80 MB at most, with the evaluator beside the pipeline."""
    names = ("emoji-128-autoencoder", "emoji-evaluator", "emoji-128-diffusion")
    autoencoder, evaluator, diffusion = (load_recipe(path) for n in names for path in RECIPES if path.stem == n)
    assert {recipe.data.size for recipe in (autoencoder, evaluator, diffusion)} == {128}
    clip, shape = (fill(NETWORKS[r.kind], r.network, "network") for r in (evaluator, diffusion))
    # the text encoder starts from that of the 64 px model
    text = load_network(CLIPTextModel, list_models()[0].folder / "text_encoder")
    with torch.device("meta"):
        vae = build_autoencoder(fill(AutoencoderNetwork, autoencoder.network, "network"), 128)
        dual_encoder = build_dual_encoder(clip, 128, tiny_tokenizer(context=clip.context))
        unet = build_unet(shape, vae.config.latent_channels, 16, text.config.hidden_size)
    missing = (clip.vocabulary - len(tiny_tokenizer(context=clip.context))) * clip.width
    count = sum(p.numel() for net in (vae, dual_encoder, unet, text) for p in net.parameters()) + missing
    assert 50e6 < 2 * count < 79e6, f"{2 * count / 1e6:.1f} MB, and there are tokenizers and a README besides"


def test_own_recipes_exist_for_every_network():
    """Except delta-h and PARASOL, which are trained for an existing model."""
    own = {load_recipe(path).kind for path in RECIPES if path.stem.startswith("own-")}
    assert own == NETWORKS.keys() - {"delta-h", "parasol"}


def test_values_are_converted_to_their_types(tmp_path):
    recipe = load_recipe(
        written(tmp_path, 'kind = "autoencoder"\n[data]\nstyles = ["noto"]\n[optim]\nlr = 1\nbetas = [0, 0.5]\n')
    )
    assert recipe.optim.lr == 1.0
    assert isinstance(recipe.optim.lr, float)
    assert recipe.optim.betas == (0.0, 0.5)
    assert recipe.data.styles == ("noto",)
    assert recipe.run.steps == 100_000


BAD = {
    "unknown table": ("[data2]\nsize = 3", "no setting 'data2'"),
    "unknown key": ("[optim]\nlearning_rate = 1e-3", "no setting 'learning_rate'.*lr"),
    "text for a number": ('[optim]\nbatch = "many"', "optim.batch must be int, not 'many'"),
    "float for an int": ("[run]\nsteps = 1e5", "run.steps must be int"),
    "bool for an int": ("[optim]\nbatch = true", "optim.batch must be int"),
    "number for a table": ("optim = 3", "optim must be OptimRecipe"),
    "text in a list": ('[optim]\nbetas = [0.9, "a"]', r"optim.betas\[1\] must be float"),
    "list of another length": ("[optim]\nbetas = [0.9]", "optim.betas must have 2 entries"),
    "number for a list": ("[data]\nstyles = 3", "data.styles must be a list, not 3"),
    "text for a list": ('[data]\nstyles = "noto"', r"""data.styles must be a list such as \["noto"\], not 'noto'"""),
    "rate for a list": ("[optim]\nbetas = 0.9", r"optim.betas must be a list such as \[0.9\], not 0.9"),
    "zero batch": ("[optim]\nbatch = 0", "optim.batch must be at least 1, not 0"),
    "negative rate": ("[optim]\nlr = -1e-3", "optim.lr must be above 0"),
    "rate that is no number": ("[optim]\nlr = nan", "optim.lr must be above 0 and finite, not nan"),
    "infinite rate": ("[optim]\nlr = inf", "optim.lr must be above 0 and finite"),
    "no clipping": ("[optim]\nclip = 0.0", "optim.clip must be above 0"),
    "negative warm-up": ("[optim]\nwarmup = -1", "optim.warmup must be at least 0"),
    "average of one": ("[optim]\nema = 1.0", "optim.ema must be at least 0 and below 1"),
    "beta of one": ("[optim]\nbetas = [0.9, 1.0]", r"optim.betas\[1\] must be at least 0 and below 1"),
    "one checkpoint": ("[run]\nkeep = 1", "run.keep must be at least 2"),
    "no such precision": ('[run]\nprecision = "fp8"', "auto, fp32, bf16 or fp16"),
    "negative seed": ("seed = -1", r"seed must be between 0 and 1e\+18, not -1"),
    "large seed": (f"seed = {2**65}", r"seed must be between 0 and 1e\+18"),
    "no steps": ("[run]\nsteps = 0", "run.steps must be at least 1"),
    "no TOML": ("[optim", "not valid TOML"),
    "twice": ("seed = 1\nseed = 2", "not valid TOML"),
}


@pytest.mark.parametrize(("text", "sentence"), BAD.values(), ids=BAD.keys())
def test_invalid_recipes_are_refused_with_one_sentence(tmp_path, text, sentence):
    path = written(tmp_path, text if text.startswith("[optim\n") else f'kind = "autoencoder"\n{text}\n')
    with pytest.raises(BadInput, match=sentence) as caught:
        load_recipe(path)
    assert "\n" not in str(caught.value)
    assert "recipe.toml" in str(caught.value)


def test_invalid_recipe_files_are_refused(tmp_path):
    with pytest.raises(BadInput, match=r"cannot read the recipe.*see recipes/"):
        load_recipe(tmp_path / "none.toml")
    with pytest.raises(BadInput, match="cannot read the recipe"):
        load_recipe(tmp_path)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match="not valid TOML"):
        load_recipe(tmp_path / "binary.toml")
    with pytest.raises(BadInput, match="lacks 'kind'"):
        load_recipe(written(tmp_path, "seed = 1"))
    with pytest.raises(BadInput, match="run sfumato train autoencoder"):
        load_recipe(written(tmp_path, 'kind = "autoencoder"'), "diffusion")
    with pytest.raises(
        BadInput, match="no kind of training 'gan'; choose from autoencoder, content, delta-h, diffusion, dual-encoder"
    ):
        start(written(tmp_path, 'kind = "gan"'), tmp_path / "run", device="cpu")


def test_unknown_network_or_loss_settings_are_refused(tmp_path):
    for table, name in (("network", "depth"), ("loss", "lpips")):
        recipe = load_recipe(written(tmp_path, f'kind = "autoencoder"\n[{table}]\n{name} = 1\n'))
        with pytest.raises(BadInput, match=f"{table} has no setting '{name}'"):
            build_task(recipe, tmp_path)


OUT_OF_RANGE = [
    ("autoencoder", "network", "layers", 0, "at least 1"),
    ("autoencoder", "network", "groups", 0, "at least 1"),
    ("autoencoder", "network", "latent_channels", 0, "at least 1"),
    ("autoencoder", "network", "codebook", 0, "at least 1"),
    ("autoencoder", "network", "channels", [], "needs 3 widths"),
    ("autoencoder", "network", "channels", [8, 0, 8], r"channels\[1\] must be at least 1"),
    ("autoencoder", "loss", "discriminator_channels", 0, "at least 8"),
    ("autoencoder", "loss", "discriminator_layers", 0, "at least 1"),
    ("dual-encoder", "network", "width", 0, "at least 64"),
    ("dual-encoder", "network", "width", 96, "multiple of 64"),
    ("dual-encoder", "network", "patch", 0, "at least 1"),
    ("dual-encoder", "network", "patch", 7, "multiple of network.patch = 7"),
    ("dual-encoder", "network", "projection", 0, "at least 1"),
    ("dual-encoder", "network", "image_layers", 0, "at least 1"),
    ("dual-encoder", "network", "text_layers", -1, "at least 1"),
    ("dual-encoder", "network", "vocabulary", 513, "at least 514"),
    ("dual-encoder", "network", "context", 2, "at least 3"),
    ("dual-encoder", "loss", "temperature", 0.0, "above 0"),
    ("dual-encoder", "loss", "temperature", -0.1, "above 0"),
    ("dual-encoder", "loss", "shift", -0.1, "between 0 and 1"),
    ("dual-encoder", "loss", "zoom", 1.0, "at least 0 and below 1"),
    ("diffusion", "network", "heads", [0, 2, 2], r"heads\[0\] must be at least 1"),
    ("diffusion", "network", "channels", [0, 16, 16], r"channels\[0\] must be at least 1"),
    ("diffusion", "network", "layers", 0, "at least 1"),
    ("diffusion", "network", "groups", 0, "at least 1"),
    ("diffusion", "loss", "beta_start", 0.0, "above 0 and below 1"),
]


@pytest.mark.parametrize(("kind", "table", "name", "value", "words"), OUT_OF_RANGE)
def test_values_out_of_range_are_refused_before_reading_data(tmp_path, kind, table, name, value, words):
    places = 'autoencoder = "nowhere"\n' if kind == "diffusion" else ""
    tables = {"network": places, "loss": ""}
    tables[table] += f"{name} = {value}\n"
    text = f'kind = "{kind}"\n[data]\nfolder = "nowhere"\n[network]\n{tables["network"]}[loss]\n{tables["loss"]}'
    with pytest.raises(BadInput, match=words) as caught:
        build_task(load_recipe(written(tmp_path, text)), tmp_path)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"channels": (), "heads": ()}, "at least one width"),
        ({"channels": (16, 20), "heads": (2, 2)}, "multiples of network.groups = 16"),
    ],
)
def test_invalid_unet_shapes_are_refused(change, sentence):
    with pytest.raises(BadInput, match=sentence):
        build_unet(DiffusionNetwork("", "", **change), 4, 16, 32)


def test_folder_without_a_dataset_is_refused(tmp_path):
    with pytest.raises(BadInput, match="is not a dataset"):
        build_task(small_recipe("autoencoder", tmp_path, 1, AUTOENCODER), tmp_path)


def test_learning_rate_schedule():
    optim = OptimRecipe(lr=0.2, warmup=10, decay_start=100)
    assert optim.lr_at(0) == pytest.approx(0.02)
    assert optim.lr_at(4) == pytest.approx(0.1)
    assert all(optim.lr_at(step) == pytest.approx(0.2) for step in (9, 50, 99))
    assert optim.lr_at(399) == pytest.approx(0.1)
    assert OptimRecipe(lr=0.2, warmup=0).lr_at(0) == pytest.approx(0.2)


def test_random_streams_are_distinct_and_reproducible():
    keys = [
        {"seed": s, "step": t, "rank": r, "tag": g, "micro": m}
        for s in (0, 1) for t in (0, 1, 11) for r in (0, 1) for g in ("", "a") for m in (0, 1)
    ]  # fmt: skip
    first = [tuple(torch.randint(2**62, (2,), generator=step_generator(**key)).tolist()) for key in keys]
    assert len(set(first)) == len(keys)
    again = [tuple(torch.randint(2**62, (2,), generator=step_generator(**key)).tolist()) for key in keys]
    assert first == again


def test_recipe_file_trains_on_an_image_folder(image_folder, tmp_path):
    path = written(
        tmp_path,
        f'kind = "autoencoder"\n[data]\nfolder = "{image_folder}"\nsize = 24\n'
        '[network]\nf = 2\nchannels = [8, 8]\ngroups = 4\n[loss]\nadversarial = 0.5\nadversarial_start = 1\n'
        'discriminator_channels = 8\n[optim]\nbatch = 2\n[run]\nsteps = 3\nprecision = "bf16"\n',
    )  # fmt: skip
    run = start(path, tmp_path / "run", "autoencoder", "cpu")
    reports = list(run.steps())
    assert [r.step for r in reports] == [1, 2, 3]
    assert "discriminator/loss" not in reports[0].scalars
    assert {"discriminator/loss", "autoencoder/adaptive_weight"} <= reports[2].scalars.keys()
    assert start(path, tmp_path / "run", "autoencoder", "cpu").step == 3


def test_recipe_may_change_when_resuming(image_folder, tmp_path):
    recipe = small_recipe("autoencoder", image_folder, 1, AUTOENCODER, batch=2)
    trained(recipe, tmp_path)
    changed = dataclasses.replace(
        recipe,
        optim=dataclasses.replace(recipe.optim, lr=1e-4),
        run=dataclasses.replace(recipe.run, steps=2),
        loss={"adversarial": 0.5, "adversarial_start": 0, "discriminator_channels": 8},
    )
    run = trained(changed, tmp_path)
    assert run.step == 2
    assert run.trained.optimizers["autoencoder"].param_groups[0]["lr"] == pytest.approx(changed.optim.lr_at(1))
    assert run.trained.ema["discriminator"].optimization_step == 1
