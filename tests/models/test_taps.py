"""Taps record and replace outputs, remove their hooks, and raise an error if they match no module."""

import pytest
import torch

from sfumato.errors import BadInput
from sfumato.models.attention import Layers, RecordMaps
from sfumato.models.load import load_model
from sfumato.models.taps import Record, Replace


@pytest.fixture
def model(tiny_sd_folder):
    return load_model(tiny_sd_folder, "cpu")


@pytest.fixture
def asked(model):
    x = torch.randn(2, 4, 8, 12, generator=torch.Generator().manual_seed(0))
    return x, 500, model.condition(["red apple", ""])


def hooks(model):
    return sum(len(module._forward_hooks) for module in model.unet.modules())


def test_recording_does_not_change_the_output(model, asked):
    record = Record("up_blocks.*.resnets.*")
    plain = model.predict(*asked)
    assert torch.equal(model.predict(*asked, taps=[record]), plain)
    assert sorted(record.outputs) == [f"up_blocks.{i}.resnets.{j}" for i in (0, 1) for j in (0, 1)]
    assert record.outputs["up_blocks.0.resnets.0"].shape == (2, 16, 4, 6)
    assert hooks(model) == 0


def test_replaced_output_is_used_by_later_modules(model, asked):
    plain = model.predict(*asked)
    assert not torch.equal(model.predict(*asked, taps=[Replace("mid_block", torch.zeros_like)]), plain)
    assert torch.equal(model.predict(*asked, taps=[Replace("mid_block", torch.clone)]), plain)
    assert torch.equal(model.predict(*asked), plain)


def test_taps_of_one_module_apply_in_order(model, asked):
    before, after = Record("mid_block"), Record("mid_block")
    model.predict(*asked, taps=[before, Replace("mid_block", lambda h: h + 1), after])
    assert torch.equal(after.output, before.output + 1)


def test_the_first_of_several_outputs_is_tapped(model, asked):
    block, transformer = Record("down_blocks.0"), Record("up_blocks.1.attentions.0")
    plain = model.predict(*asked, taps=[block, transformer])
    assert block.output.shape == (2, 8, 4, 6)
    assert transformer.output.shape == (2, 8, 8, 12)
    changed = model.predict(*asked, taps=[Replace("down_blocks.0", lambda h: 2 * h)])
    assert not torch.equal(changed, plain)


def test_reading_ends_after_the_last_tapped_module(model, asked):
    """The records equal those of a complete evaluation; later modules do not run."""
    layers = Layers("down_blocks.*.attentions.*.transformer_blocks.*.attn2")

    def taps():
        return Record("down_blocks.0"), Record("mid_block"), Record("mid_block"), RecordMaps(layers)

    complete, read = taps(), taps()
    model.predict(*asked, taps=complete)
    ran = []
    handles = [
        module.register_forward_hook(lambda module, inputs, output, name=name: ran.append(name))
        for name, module in model.unet.named_modules()
    ]
    with model.counting() as count:
        model.read(*asked, read)
    for handle in handles:
        handle.remove()
    assert "mid_block" in ran
    assert not any(name.startswith(("up_blocks", "conv_out")) for name in ran)
    assert count.calls == 1
    for one, other in zip(complete[:3], read[:3], strict=True):
        assert torch.equal(one.output, other.output)
    assert complete[3].maps.keys() == read[3].maps.keys() != set()
    assert all(torch.equal(complete[3].maps[name], read[3].maps[name]) for name in read[3].maps)
    assert hooks(model) == 0


def test_reading_a_module_that_never_runs_is_refused(model, asked):
    model.unet.idle = torch.nn.Identity()
    with pytest.raises(BadInput, match="never runs it directly"):
        model.read(*asked, [Record("mid_block"), Record("idle")])


def test_tapped_scope_covers_several_evaluations(model, asked):
    record = Record("mid_block")
    with model.tapped(record):
        model.predict(*asked)
        first = record.output
        model.predict(asked[0], 3, asked[2])
        assert not torch.equal(record.output, first)
    assert hooks(model) == 0


def test_exceptions_restore_the_model(model, asked):
    plain = model.predict(*asked)
    with pytest.raises(ZeroDivisionError), model.tapped(Replace("mid_block", torch.zeros_like)):
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError):
        model.predict(*asked, taps=[Replace("mid_block", lambda h: h * (1 // 0))])
    with pytest.raises(BadInput):
        model.predict(asked[0][:1], *asked[1:], taps=[Record("mid_block")])
    assert hooks(model) == 0
    assert torch.equal(model.predict(*asked), plain)


def test_closed_generator_restores_the_model(model, asked):
    def steps():
        with model.tapped(Record("mid_block")):
            while True:
                yield model.predict(*asked)

    run = steps()
    next(run)
    assert hooks(model) == 2
    run.close()
    assert hooks(model) == 0


@pytest.mark.parametrize("name", ["middle_block", "down_blocks.7", "attn2", "", "mid_block."])
def test_tap_that_matches_no_module_is_rejected(model, asked, name):
    with pytest.raises(BadInput, match="names no module"):
        model.predict(*asked, taps=[Record("conv_in"), Record(name)])
    assert hooks(model) == 0
    assert model.count.calls == 0


def test_tap_on_a_module_that_never_runs_is_rejected(model, asked):
    with pytest.raises(BadInput, match=r"mid_block\.resnets, but never runs"):
        model.predict(*asked, taps=[Record("mid_block.resnets")])
    assert hooks(model) == 0


def test_a_replacement_of_another_shape_is_refused(model, asked):
    with pytest.raises(BadInput, match="must have the shape"):
        model.predict(*asked, taps=[Replace("mid_block", lambda h: h[:1])])


def test_output_requires_exactly_one_recorded_module(model, asked):
    record = Record("up_blocks.*.resnets.*")
    model.predict(*asked, taps=[record])
    with pytest.raises(BadInput, match="4 modules"):
        _ = record.output
