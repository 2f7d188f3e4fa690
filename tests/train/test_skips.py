"""Skip dropout: the dropped samples equal a U-Net without skip connections, and the others are unchanged."""

import dataclasses

import pytest
import torch
from diffusers import UNet2DConditionModel

from sfumato.errors import BadInput
from sfumato.train.diffusion import DiffusionTask
from sfumato.train.seeds import step_generator
from sfumato.train.skips import MOST_SIGNAL, draw_dropped, skips_dropped
from tests.train.test_grounding import recipe  # noqa: F401 (a fixture)
from tests.train.test_held_out import corpus  # noqa: F401 (a fixture)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(16, 16, 32), attention_head_dim=2,
        layers_per_block=1, down_block_types=("CrossAttnDownBlock2D",) * 3, up_block_types=("CrossAttnUpBlock2D",) * 3,
        cross_attention_dim=8, norm_num_groups=4,
    ).eval()  # fmt: skip


def without_skips(unet, x, t, tokens):
    """The forward pass of diffusers without skip connections."""
    temb = unet.time_embedding(unet.time_proj(t.expand(len(x))))
    h = unet.conv_in(x)
    skips = [h]
    for block in unet.down_blocks:
        h, own = block(h, temb, encoder_hidden_states=tokens)
        skips += own
    h = unet.mid_block(h, temb, encoder_hidden_states=tokens)
    for block in unet.up_blocks:
        own = tuple(torch.zeros_like(skips.pop()) for _ in block.resnets)[::-1]
        h = block(h, res_hidden_states_tuple=own, temb=temb, encoder_hidden_states=tokens)
    return unet.conv_out(unet.conv_act(unet.conv_norm_out(h)))


@torch.no_grad()
def test_dropped_samples_have_no_skip_connections(unet):
    x, t, tokens = torch.randn(3, 4, 8, 8), torch.tensor(300), torch.randn(3, 5, 8)
    plain = unet(x, t, encoder_hidden_states=tokens).sample
    with skips_dropped(unet, torch.tensor([True, False, True])):
        found = unet(x, t, encoder_hidden_states=tokens).sample
    wanted = without_skips(unet, x, t, tokens)
    torch.testing.assert_close(found[[0, 2]], wanted[[0, 2]])
    torch.testing.assert_close(found[1], plain[1])
    assert (found[0] - plain[0]).abs().max() > 1e-3
    assert torch.equal(unet(x, t, encoder_hidden_states=tokens).sample, plain), "the hooks are removed"


def test_skips_are_dropped_with_the_given_probability_where_the_noise_is_large():
    abar = torch.linspace(0, 1, 10_001)
    dropped = draw_dropped(abar, 0.25, torch.Generator().manual_seed(0))
    assert not dropped[abar >= MOST_SIGNAL].any()
    assert dropped[abar < MOST_SIGNAL].float().mean() == pytest.approx(0.25, abs=0.05)


@pytest.mark.parametrize("loss", [{"skip_dropout": 0.5}, {"skip_dropout": 0.5, "grounding": 0.1}])
def test_training_drops_skips(recipe, loss, tmp_path):  # noqa: F811
    task = DiffusionTask(dataclasses.replace(recipe, loss=loss), tmp_path)
    batch = task.batch(step_generator(0, 0, 0), 400)
    assert 0.4 < batch["dropped"][batch["t"] > 500].float().mean() < 0.6
    module = task.phases[0].module.eval()
    with torch.no_grad():
        own, every, none = (
            module(batch | {"dropped": dropped})[1]["mse"].item()
            for dropped in (batch["dropped"], torch.ones(400) > 0, torch.zeros(400) > 0)
        )
    assert len({own, every, none}) == 3


def test_compiled_networks_are_refused(recipe, tmp_path):  # noqa: F811
    run = dataclasses.replace(recipe.run, compile=True)
    with pytest.raises(BadInput, match=r"loss\.skip_dropout attaches hooks .* run\.compile cannot be used"):
        DiffusionTask(dataclasses.replace(recipe, loss={"skip_dropout": 0.1}, run=run), tmp_path)
