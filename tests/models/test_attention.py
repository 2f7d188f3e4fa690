"""Recorded and replaced attention maps against an explicit attention processor; hooks are removed afterwards."""

import pytest
import torch
from diffusers.models.attention_processor import Attention, SlicedAttnProcessor
from torch.nn import functional as F

from sfumato.errors import BadInput
from sfumato.models.attention import Layers, RecordMaps, ReplaceMaps
from sfumato.models.load import load_model
from sfumato.models.taps import Record, Replace, tapped
from tests.explicit import Explicit, attention_of, explicit
from tests.graphs import tensors_with_graph
from tests.tiny import tiny_sd

EVERY = ReplaceMaps(Layers(), lambda name, maps: maps.clone())


@pytest.fixture
def model(layout_folder):
    """A new model of each layout."""
    return load_model(layout_folder, "cpu")


@pytest.fixture
def sd(tiny_sd_folder):
    return load_model(tiny_sd_folder, "cpu")


def asked(model, rows=2):
    channels, grid = model.latent_channels, 2 * model.latent_multiple
    x = torch.randn(rows, channels, 2 * grid, 3 * grid, generator=torch.Generator().manual_seed(0))
    prompts = ["red apple", "", "green dog"][:rows] if model.takes_text else [""] * rows
    return x, 500, model.condition(prompts)


def state(model):
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.unet.modules()]
    return hooks, {name: id(layer.processor) for name, layer in attention_of(model).items()}


def softened(name, maps):
    """Other maps whose rows still sum to 1, different for every layer."""
    return (0.7 * maps + 0.3 * maps.roll(len(name) % 3 + 1, dims=-1)).flip(1)


def test_recorded_maps_match_the_explicit_processor(model):
    record = RecordMaps(Layers())
    given = asked(model)
    plain = model.predict(*given, taps=[record])
    with explicit(model, lambda name, maps: maps) as maps:
        output = model.predict(*given)
    assert set(record.maps) == set(maps) == set(attention_of(model))
    for name in maps:
        assert torch.allclose(record.maps[name], maps[name], atol=1e-6)
        assert torch.allclose(record.maps[name].sum(-1), torch.ones(()), atol=1e-5)
    assert torch.allclose(plain, output, atol=1e-5)


def test_replaced_maps_match_the_explicit_processor(model):
    given = asked(model)
    plain = model.predict(*given)
    ours = model.predict(*given, taps=[ReplaceMaps(Layers(), softened)])
    with explicit(model, softened):
        theirs = model.predict(*given)
    assert (ours - plain).abs().max() > 1e-3
    assert torch.allclose(ours, theirs, atol=1e-6 * float(1 + ours.abs().max()) + 1e-6)


def test_recording_and_identity_replacement_are_bit_identical(model):
    given, before = asked(model), state(model)
    plain = model.predict(*given)
    for tap in (RecordMaps(Layers()), EVERY):
        assert torch.equal(model.predict(*given, taps=[tap]), plain)
        assert state(model) == before


@pytest.mark.parametrize("mask", [True, False])
def test_layer_with_all_options_enabled(mask):
    """Group norm, 4-d input, residual, rescaling, upcasting, a masked context and its norm."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = Attention(8, cross_attention_dim=6, heads=2, dim_head=4, norm_num_groups=2, residual_connection=True,
                          rescale_output_factor=1.7, upcast_attention=True, upcast_softmax=True, bias=True,
                          cross_attention_norm="layer_norm")  # fmt: skip
        x, context = torch.randn(3, 8, 4, 2), torch.randn(3, 5, 6)
    network = torch.nn.ModuleDict({"layer": layer})
    bias = torch.zeros(3, 1, 5)
    bias[1, :, 3:] = -1e4
    given = {"encoder_hidden_states": context, "attention_mask": bias if mask else None}
    network.forward = lambda: layer(x, **given)
    record, change = RecordMaps(Layers()), ReplaceMaps(Layers(), softened)
    with torch.no_grad():
        plain = network()
        with tapped(network, [record]):
            assert torch.equal(network(), plain)
        with tapped(network, [change]):
            ours = network()
        seen = {}
        layer.processor = Explicit("layer", seen, softened)
        theirs = network()
    assert torch.allclose(record.maps["layer"], seen["layer"], atol=1e-7)
    assert bool((record.maps["layer"][1, ..., 3:] == 0).all()) == mask
    assert torch.allclose(ours, theirs, atol=1e-6)
    assert (ours - plain).abs().max() > 1e-2


def test_layers_are_selected_by_name_kind_and_size(sd):
    given = asked(sd)
    names = set(attention_of(sd))
    cross = {name for name in names if name.endswith("attn2")}
    chosen = {
        Layers(): names,
        Layers(cross=True): cross,
        Layers(cross=False): names - cross,
        Layers("**.attn2"): cross,
        Layers("up_blocks.**"): {name for name in names if name.startswith("up_blocks")},
        Layers("mid_block.attentions.0.transformer_blocks.*.attn1"): {
            "mid_block.attentions.0.transformer_blocks.0.attn1"
        },
        Layers(cross=True, most_queries=24): {name for name in cross if name.startswith("mid_block")},
    }
    for which, expected in chosen.items():
        record = RecordMaps(which)
        sd.predict(*given, taps=[record])
        assert set(record.maps) == expected
    assert record.maps["mid_block.attentions.0.transformer_blocks.0.attn2"].shape == (2, 2, 24, 77)


def test_taps_apply_in_order_and_use_replaced_queries(sd):
    given = asked(sd)
    before, after, which = RecordMaps(Layers(cross=True)), RecordMaps(Layers(cross=True)), Layers(cross=True)
    sd.predict(*given, taps=[before, ReplaceMaps(which, lambda name, maps: 2 * maps), after])
    assert all(torch.equal(after.maps[name], 2 * before.maps[name]) for name in before.maps)
    uniform = RecordMaps(which)
    sd.predict(*given, taps=[uniform, Replace("**.attn2.to_q", torch.zeros_like)])
    assert all(torch.allclose(maps, torch.tensor(1 / 77)) for maps in uniform.maps.values())


def test_gradient_through_maps_matches_central_differences(sd):
    """pix2pix-zero and self-guidance differentiate a function of the maps; central differences in float64."""
    sd.unet.double()
    x, t, condition = asked(sd)
    x = x.double()
    record = RecordMaps(Layers(cross=True))

    def energy(x):
        with torch.enable_grad():
            sd.predict(x, t, condition, taps=[record])
            return sum((maps[..., 1] ** 2).sum() for maps in record.maps.values())

    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    variable = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(energy(variable), variable)
    with torch.no_grad():
        slope = (energy(x + 1e-5 * direction) - energy(x - 1e-5 * direction)) / 2e-5
    assert abs(float(slope)) > 1e-5
    assert torch.isclose((gradient * direction).sum(), slope.double(), rtol=1e-5)


def test_hooks_are_removed_after_errors_and_closed_generators(sd):
    given, before = asked(sd), state(sd)
    plain = sd.predict(*given)
    with pytest.raises(ZeroDivisionError):
        sd.predict(*given, taps=[ReplaceMaps(Layers(), lambda name, maps: maps * (1 // 0))])
    assert state(sd) == before

    def steps():
        with sd.tapped(EVERY, Record("mid_block")):
            while True:
                yield sd.predict(*given)

    run = steps()
    next(run)
    assert state(sd) != before
    assert state(sd)[1] == before[1], "even meanwhile every layer has its own processor"
    run.close()
    assert state(sd) == before
    assert torch.equal(sd.predict(*given), plain)


@pytest.mark.parametrize(
    ("which", "message"),
    [
        (Layers("middle_block.**"), "names no module"),
        (Layers("mid_block.attentions.0"), "names no module"),
        (Layers("**.attn2", cross=False), "no self-attention"),
        (Layers("**.attn1", cross=True), "no cross-attention"),
    ],
)
def test_tap_without_matching_layer_is_rejected_before_evaluation(sd, which, message):
    before = state(sd)
    with pytest.raises(BadInput, match=message):
        sd.predict(*asked(sd), taps=[RecordMaps(Layers()), RecordMaps(which)])
    assert state(sd) == before
    assert sd.count.calls == 0


def test_query_limit_without_matching_layer_is_rejected(sd):
    with pytest.raises(BadInput, match="more than 23 queries"):
        sd.predict(*asked(sd), taps=[RecordMaps(Layers(most_queries=23))])


def test_a_layer_that_never_runs_is_refused(sd):
    sd.unet.mid_block.spare = Attention(8, heads=2, dim_head=4)
    with pytest.raises(BadInput, match=r"mid_block\.spare, but never runs"):
        sd.predict(*asked(sd), taps=[RecordMaps(Layers())])


@pytest.mark.parametrize(("cross", "kind"), [(True, "cross-"), (False, "self-"), (None, "")])
def test_a_model_without_attention_is_refused(tmp_path, cross, kind):
    blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    model = load_model(str(tiny_sd(tmp_path / "sd", mid_block_type="UNetMidBlock2D", **blocks)), "cpu")
    with pytest.raises(BadInput, match=f"^This model has no {kind}attention layers, whose maps are needed: use"):
        model.predict(*asked(model), taps=[RecordMaps(Layers(cross=cross))])
    assert model.count.calls == 0


def test_maps_of_another_shape_are_refused(sd):
    with pytest.raises(BadInput, match="must have the shape"):
        sd.predict(*asked(sd), taps=[ReplaceMaps(Layers(), lambda name, maps: maps[:1])])


def test_unsupported_attention_processors_are_rejected(sd):
    sd.unet.mid_block.attentions[0].transformer_blocks[0].attn1.processor = SlicedAttnProcessor(1)
    with pytest.raises(BadInput, match="SlicedAttnProcessor"):
        sd.predict(*asked(sd), taps=[RecordMaps(Layers())])
    assert sd.count.calls == 0


def test_half_precision_maps(sd):
    sd.to(dtype="bf16")
    given = asked(sd)
    plain, record = sd.predict(*given), RecordMaps(Layers())
    assert torch.equal(sd.predict(*given, taps=[record, EVERY]), plain)
    moved = sd.predict(*given, taps=[ReplaceMaps(Layers(), softened)])
    assert torch.isfinite(moved).all()
    assert all(maps.dtype == torch.bfloat16 for maps in record.maps.values())
    assert not torch.equal(moved, plain)
    assert F.mse_loss(moved, plain) < 1


def test_gradients_are_equal_with_gradient_checkpointing(sd):
    """Checkpointing computes blocks again in the backward pass, when the taps are detached."""
    x, t, condition = asked(sd, 1)

    def gradient():
        moved, record = x.clone().requires_grad_(), RecordMaps(Layers())
        eps = sd.predict(moved, t, condition, taps=[record])
        energy = sum(maps.square().sum() for maps in record.maps.values()) + eps.square().sum()
        return torch.autograd.grad(energy, moved)[0]

    plain = gradient()
    sd.unet.enable_gradient_checkpointing()
    torch.testing.assert_close(gradient(), plain)


def test_the_graph_of_recorded_maps_is_freed(sd):
    """Softmax saves its output: a hook that keeps this tensor with its graph would make a cycle that is never freed."""
    x, t, condition = asked(sd, 1)

    def differentiate():
        moved, record = x.clone().requires_grad_(), RecordMaps(Layers())
        eps = sd.predict(moved, t, condition, taps=[record])
        energy = sum(maps.square().sum() for maps in record.maps.values()) + eps.sum()
        torch.autograd.grad(energy, moved, retain_graph=True)  # without it, the backward pass breaks the cycle

    before = tensors_with_graph()
    differentiate()
    assert tensors_with_graph() == before
