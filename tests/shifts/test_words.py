"""Word maps, their masks, and the local blend that keeps the source outside of them."""

import pytest
import torch

from sfumato.core.condition import Condition
from sfumato.core.guidance import classifier_free
from sfumato.core.rows import NEGATIVE, SOURCE, TARGET
from sfumato.core.shift import Shift
from sfumato.editing.job import Job
from sfumato.inversion import Inversion, replay
from sfumato.methods.prompt_to_prompt import PromptToPromptParams
from sfumato.methods.prompt_to_prompt import shifts as prompt_to_prompt
from sfumato.models.attention import Layers, RecordMaps
from sfumato.models.layout import attention_layers, decoder, grid, word_layers
from sfumato.models.load import load_model
from sfumato.models.taps import FromSource
from sfumato.shifts.alignment import token_weights
from sfumato.shifts.words import WordMaps, word_mask
from tests.explicit import attention_of

STEPS = 5
SIZE = (8, 12)


@pytest.fixture(scope="module")
def sd(tiny_sd_folder):
    return load_model(tiny_sd_folder, "cpu")


def test_the_grid_of_every_attention_layer(layout_folder):
    """Compared with the number of queries of the recorded maps."""
    model = load_model(layout_folder, "cpu")
    size = (4 * model.latent_multiple, 6 * model.latent_multiple)
    record = RecordMaps(Layers())
    model.predict(torch.zeros(1, model.latent_channels, *size), 5, model.condition(""), taps=[record])
    for name, maps in record.maps.items():
        height, width = grid(model.unet, name, size)
        assert height * width == maps.shape[2]
    assert set(record.maps) == set(attention_of(model))
    assert {
        n for n, m in record.maps.items() if m.shape[2] <= 96 and not attention_of(model)[n].is_cross_attention
    } == set(attention_layers(model.unet, size, cross=False, most_queries=96))


def test_decoder_layers_of_stable_diffusion():
    """Layer 4 of 12 and the attention of layers 4 to 11, as the paper counts them."""
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(block_out_channels=(32, 64, 64, 64), norm_num_groups=8, attention_head_dim=8)
    layers = decoder(unet)
    assert len(layers) == 12
    assert layers[4].residual == "up_blocks.1.resnets.1.conv2"
    assert [len(layer.self_attention) for layer in layers] == [0] * 3 + [1] * 9
    assert layers[4].self_attention == ("up_blocks.1.attentions.1.transformer_blocks.0.attn1",)
    which, cells = word_layers(unet, (64, 64))
    assert cells == (16, 16)
    assert set(which.module) == {
        *(f"down_blocks.2.attentions.{n}.transformer_blocks.0.attn2" for n in (0, 1)),
        *(f"up_blocks.1.attentions.{n}.transformer_blocks.0.attn2" for n in (0, 1, 2)),
    }


def test_word_mask_covers_cells_above_the_threshold():
    maps = torch.full((2, 1, 8, 8), 0.2)
    maps[0, 0, 2, 3] = 1.0
    maps[0, 0, 6, 6] = 0.4
    mask = word_mask(maps, (16, 16), 0.5)
    expected = torch.zeros(16, 16)
    expected[2:8, 4:10] = 1
    assert torch.equal(mask[0, 0], expected), "the cell and its neighbours"
    assert not mask[1].any(), "a flat map is nowhere"
    assert word_mask(maps, (16, 16), 0.1)[0, 0, 12:14, 12:14].all()
    nearest = word_mask(maps, (16, 16), 0.1, "nearest")  # whole cells of 2 x 2, as the authors' code
    assert torch.equal(nearest, nearest[..., ::2, ::2].repeat_interleave(2, -1).repeat_interleave(2, -2))
    assert not torch.equal(nearest, word_mask(maps, (16, 16), 0.1))
    assert torch.equal(word_mask(3 * maps + 1, (16, 16), 0.5), mask)


def test_word_maps_contain_the_latest_evaluation(sd):
    """Averaged over heads, for each layer and for one condition only."""
    condition, negative = sd.condition(["red cat", "cat dog"]), sd.condition(["cat", "cat"])
    which, cells = word_layers(sd.unet, SIZE)
    weights = token_weights(condition.prompts, ["cat"], [1.0], condition.tokens.shape[1], 0.0)
    words, record, others = WordMaps(which, weights, cells), RecordMaps(which), WordMaps(which, weights, cells, SOURCE)
    joined = Condition.join({TARGET: condition, NEGATIVE: negative})
    for t in (500, 100):
        x = torch.randn(4, 4, *SIZE, generator=torch.Generator().manual_seed(t))
        sd.predict(x, t, joined, taps=[words, record, others])
        assert set(words.maps) == set(record.maps)
        for name, maps in record.maps.items():
            for row, place in enumerate((2, 1)):
                expected = maps[row, :, :, place].mean(0).reshape(cells)
                torch.testing.assert_close(words.maps[name][row, 0], expected, rtol=0, atol=1e-6)
    assert others.maps == {}, "that condition was not evaluated"


@pytest.fixture
def prepared(sd):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(STEPS + 1, 2, 4, *SIZE, generator=generator)
    prompts = ("red cat", "dog heart")
    timesteps = tuple(sd.schedule.timesteps(STEPS))
    z = torch.randn(x[1:].shape, generator=generator)
    inversion = Inversion("edit-friendly", x, z, timesteps, 1.0, (1.0, 1.0), prompts=prompts)
    guided = classifier_free(sd, sd.condition(["", ""]), (4.0, 4.0))
    return guided, inversion, sd.condition(prompts), sd.condition(["red dog", "cat heart"])


class Summed(Shift):
    """Adds up the words' maps of all layers and steps, in the source and in the target."""

    def __init__(self, blend):
        self.totals = [0.0, 0.0]
        self.words = [WordMaps(each.layers, each.weights, each.grid, each.of) for each in (blend.source, blend.target)]

    def taps(self, state):
        return FromSource(*self.words, state.steps - state.i)

    def noise_map(self, state, z):
        for n, words in enumerate(self.words):
            self.totals[n] = self.totals[n] + sum(words.maps.values())
        return z

    def inside(self, threshold):
        return word_mask(self.totals[0], SIZE, threshold).maximum(word_mask(self.totals[1], SIZE, threshold)).bool()


def test_local_blend_keeps_the_source_outside_the_words(prepared):
    guided, inversion, source, target = prepared
    params = PromptToPromptParams(
        cross_steps=0.0, self_steps=0.0, blend="cat,dog", blend_start=0.4, blend_threshold=0.5
    )
    job = Job(guided, inversion, source, target, target)
    (blend,) = prompt_to_prompt(job, params)
    summed, states = Summed(blend), []
    for state in job.run([summed, blend]):
        states.append(state)
        inside = summed.inside(0.5).expand_as(state.x_prev)
        held = state.x_prev.isclose(inversion.x[state.i + 1], atol=1e-6)
        if state.i >= 2:
            assert 0 < inside.float().mean() < 1
            assert held[~inside].all()
            assert not held[inside].any()
    free = list(replay(guided, inversion, target))
    assert torch.equal(states[1].x_prev, free[1].x_prev), "two of five steps are free"
    (again,) = prompt_to_prompt(job, params)
    assert torch.equal(list(job.run([again]))[-1].x_prev, states[-1].x_prev)


class Look(Shift):
    def __init__(self, tap):
        self.tap = tap

    def taps(self, state):
        return self.tap


def test_reweight_scales_the_attention_of_words(sd, prepared):
    guided, inversion, source, target = prepared
    params = PromptToPromptParams(cross_steps=0.0, self_steps=0.0, reweight="dog=3, heart=0.25")
    job = Job(guided, inversion, source, target, target, skip=4)
    record, plain = RecordMaps(Layers(cross=True)), RecordMaps(Layers(cross=True))

    with sd.counting() as count:
        list(job.run([Look(plain), *prompt_to_prompt(job, params), Look(record)]))
    assert count.calls == 1, "re-weighting needs no source"
    for name in plain.maps:
        expected = plain.maps[name].clone()
        expected[2, ..., 2] *= 3
        expected[3, ..., 2] *= 0.25
        assert torch.equal(record.maps[name], expected)
