"""PARASOL: tokens, file and guidance."""

import dataclasses

import pytest
import torch

from sfumato.core.guidance import Guided, Term
from sfumato.core.loop import reverse
from sfumato.core.rows import TARGET
from sfumato.errors import BadInput
from sfumato.models.taps import FromSource, Record
from sfumato.models.with_source import WithSource
from sfumato.shifts.two_modalities import TwoModalities
from sfumato.style.tokens import ModalityTokens, Parasol
from tests import tiny
from tests.style.small import CONTENT, STYLE, random_tokens, unit
from tests.tiny import fused


def test_tokens_are_stacked_and_dropped_independently():
    tokens, a, c = random_tokens(8), unit(4, STYLE), unit(4, CONTENT)
    keep_style, keep_content = torch.tensor([1, 1, 0, 0]).bool(), torch.tensor([1, 0, 1, 0]).bool()
    found = tokens(a, c, keep_style, keep_content)
    hidden, mapped = a * STYLE**0.5, c * CONTENT**0.5
    for layer in tokens.style:
        hidden = layer(hidden) if isinstance(layer, torch.nn.Linear) else hidden.clamp(min=0)
    for layer in tokens.content:
        mapped = layer(mapped) if isinstance(layer, torch.nn.Linear) else mapped.clamp(min=0)
    for row in range(4):
        style, content = found[row, :2].flatten(), found[row, 2:].flatten()
        torch.testing.assert_close(style, hidden[row] if keep_style[row] else tokens.null_style.flatten())
        torch.testing.assert_close(content, mapped[row] if keep_content[row] else tokens.null_content.flatten())
    torch.testing.assert_close(tokens.of(a, None, 4), tokens(a, c, keep_style | True, keep_content & False))
    torch.testing.assert_close(tokens.of(None, c[:1], 3)[:, 2:].flatten(1), mapped[:1].expand(3, -1))


def test_hidden_width_0_gives_linear_maps(tmp_path):
    with tiny.seeded(0):
        tokens = ModalityTokens(STYLE, CONTENT, 0, 8, 2, 3).requires_grad_(False)
    a, b = unit(2, STYLE)
    Parasol(tokens, "a", "b", "c").save(path := tmp_path / "parasol.safetensors")
    read = Parasol.load(path).tokens
    torch.testing.assert_close(read.of_style((a + b)[None]) + read.of_style(0 * a[None]),
                               read.of_style(a[None]) + read.of_style(b[None]))  # fmt: skip


def test_tokens_of_captions_are_added():
    """c_y is the mean of embeddings weighted by the softmax of the similarities; m_s is added at every position."""
    with tiny.seeded(0):
        tokens = ModalityTokens(STYLE, CONTENT, 16, 8, 3, 3, captions=5).requires_grad_(False)
    a, c = unit(2, STYLE), unit(2, CONTENT)
    keys, _, values = tokens.content
    p = (CONTENT**0.5 * c @ keys.weight.T).softmax(1)
    mean = torch.einsum("bi,fi->bf", p, values.weight).unflatten(1, (3, 8))
    torch.testing.assert_close(tokens.of(None, c, 2), mean + tokens.null_style)
    torch.testing.assert_close(tokens.of(a, c, 2), mean + tokens.of_style(a))
    torch.testing.assert_close(tokens.of(a, None, 2), tokens.null_content + tokens.of_style(a))
    with pytest.raises(ValueError, match="3 tokens of the style cannot be added to 4"):
        ModalityTokens(STYLE, CONTENT, 16, 8, 3, 4, captions=5)


@pytest.mark.parametrize(
    "damage",
    [{"captions": -1}, {"captions": 4}, {"captions": 1.0}, {"content_tokens": 4}, {"hidden": 0}, {"hidden": -1}],
)
def test_file_with_another_number_of_captions_is_refused(damage, tmp_path):
    tokens = ModalityTokens(STYLE, CONTENT, 16, 8, 3, 3, captions=5)
    path = tmp_path / "parasol.safetensors"
    Parasol(tokens, "a", "b", "c").save(path)
    assert Parasol.load(path).tokens.captions == 5
    header, tensors = Parasol.FORMAT.read(path, lambda header, tensors: (header, tensors))
    Parasol.FORMAT.write(path, dict(header) | damage, tensors)
    with pytest.raises(BadInput, match="not a PARASOL file, or is damaged"):
        Parasol.load(path)


def test_saved_tokens_are_loaded_and_checked(saved, model, describers, tmp_path):
    again, tokens = Parasol.load(saved), random_tokens(model.token_width, unet=model.unet)
    assert all(torch.equal(value, tokens.state_dict()[name]) for name, value in again.tokens.state_dict().items())
    assert list(again.tokens.changes.layers.items()) == list(tokens.changes.layers.items())
    again.check_model(model)
    again.check_describers(describers)
    with pytest.raises(BadInput, match="another style encoder"):
        dataclasses.replace(again, style_encoder="0" * 64).check_describers(describers)
    with pytest.raises(BadInput, match="trained for another model"):
        dataclasses.replace(again, model="0" * 64).check_model(model)
    fewer = dict(list(again.tokens.changes.layers.items())[1:])
    with pytest.raises(BadInput, match="its layers are not those of the model"):
        dataclasses.replace(again, tokens=ModalityTokens(12, 10, 16, model.token_width, 2, 3, fewer)).check_model(model)
    with pytest.raises(BadInput, match="style descriptors have another size"):
        dataclasses.replace(again, tokens=ModalityTokens(13, 10, 16, 8)).check_describers(describers)
    broken = dataclasses.replace(again, model="two words")
    broken.save(tmp_path / "broken.safetensors")
    with pytest.raises(BadInput, match="not a PARASOL file, or is damaged"):
        Parasol.load(tmp_path / "broken.safetensors")


def shift_of(model, describers, **changes):
    given = dict(style=unit(1, STYLE), content=unit(1, CONTENT, 1), style_scale=3.0, content_scale=2.0, own_steps=0)
    return TwoModalities(random_tokens(model.token_width, unet=model.unet), model, describers, **(given | changes))


def run(model, shift, x, source=None, steps=3):
    plain = Guided(model, (Term(TARGET, None),))
    condition = model.condition(["red cat"] * len(x))
    timesteps = model.schedule.timesteps(steps)
    return list(
        reverse(plain, x, timesteps, condition, eta=0.0, noise_maps=lambda s: None, shifts=[shift], source=source)
    )


def predicted(model, x, t, shift, *descriptors):
    """The noise under tokens of a style and a content, of a network whose weights are changed."""
    tokens = shift.tokens.of(*descriptors, len(x))
    with fused(model.unet, shift.tokens.changes.by_name):
        return model.predict(x, t, dataclasses.replace(model.condition([""] * len(x)), tokens=tokens, prompts=()))


def test_noise_is_the_sum_of_three_predictions(model, describers):
    shift = shift_of(model, describers)
    x = torch.randn(2, model.latent_channels, 8, 8, generator=torch.Generator().manual_seed(0))
    with model.counting() as count:
        steps = run(model, shift, x)
    assert (count.calls, count.samples) == (3, 3 * 3 * 2)
    for step in steps:
        null, style, content = (
            predicted(model, step.x_t, step.t, shift, a, c)
            for a, c in ((None, None), (shift.style, None), (None, shift.content))
        )
        torch.testing.assert_close(step.eps, null + 3 * (style - null) + 2 * (content - null), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("style_scale", "calls"), [(3.0, 3), (2.0, 2)])
def test_style_term_with_content(style_scale, calls, model, describers):
    """eps_00 + g_s (eps_sy - eps_0y) + g_y (eps_0y - eps_00); with equal scales eps_0y cancels and is not evaluated."""
    shift = shift_of(model, describers, style_scale=style_scale, with_content=True)
    x = torch.randn(2, model.latent_channels, 8, 8, generator=torch.Generator().manual_seed(0))
    with model.counting() as count:
        steps = run(model, shift, x)
    assert count.samples == 3 * calls * 2
    for step in steps:
        null, content, both = (
            predicted(model, step.x_t, step.t, shift, *each)
            for each in ((None, None), (None, shift.content), (shift.style, shift.content))
        )
        wanted = null + style_scale * (both - content) + 2 * (content - null)
        torch.testing.assert_close(step.eps, wanted, rtol=1e-4, atol=1e-4)


def test_first_steps_use_the_style_of_the_source(model, describers):
    x0 = torch.randn(2, model.latent_channels, 8, 8, generator=torch.Generator().manual_seed(2))
    shift = shift_of(model, describers, content=None, own_steps=2)
    steps = run(model, shift, x0, {-1: x0}, steps=4)
    pixels = (model.decode(x0).clamp(-1, 1) + 1) / 2
    own = {name: describers.of(name).image_features(pixels) for name in ("style", "content")}
    for step in steps:
        a = own["style"] if step.i < 2 else shift.style
        null, style, content = (
            predicted(model, step.x_t, step.t, shift, *each)
            for each in ((None, None), (a, None), (None, own["content"]))
        )
        torch.testing.assert_close(step.eps, null + 3 * (style - null) + 2 * (content - null), rtol=1e-4, atol=1e-4)
    assert not shift._own, "a run leaves something in the shift of the caller"


def test_source_descriptors_use_the_centre_square(model, describers):
    x0 = torch.randn(1, model.latent_channels, 8, 12, generator=torch.Generator().manual_seed(2))
    shift = shift_of(model, describers, style=None, content=None).for_run()
    *_, last = run(model, shift, x0, {-1: x0}, steps=2)
    pixels = (model.decode(x0).clamp(-1, 1) + 1) / 2
    side, width = pixels.shape[-2:]
    square = pixels[..., (width - side) // 2 : (width + side) // 2]
    own = [describers.of(name).image_features(square) for name in ("style", "content")]
    null, style, content = (
        predicted(model, last.x_t, last.t, shift, *each) for each in ((None, None), (own[0], None), (None, own[1]))
    )
    torch.testing.assert_close(last.eps, null + 3 * (style - null) + 2 * (content - null), rtol=1e-4, atol=1e-4)


def test_scale_of_zero_evaluates_fewer_rows(model, describers):
    x = torch.randn(1, model.latent_channels, 8, 8, generator=torch.Generator().manual_seed(0))
    with model.counting() as count:
        run(model, shift_of(model, describers, style_scale=0.0), x)
    assert count.samples == 2 * 3


def test_two_parasol_shifts_are_refused(model, describers):
    shift = shift_of(model, describers)
    plain, x = Guided(model, (Term(TARGET, None),)), torch.zeros(1, model.latent_channels, 8, 8)
    with pytest.raises(BadInput, match="both replace the guidance"):
        next(
            reverse(
                plain,
                x,
                [500, 0],
                model.condition([""]),
                eta=0.0,
                noise_maps=lambda s: None,
                shifts=[shift, shift_of(model, describers)],
            )
        )


def test_source_is_evaluated_without_the_changes(model, describers):
    """A tap that reads the source sees the features of the unchanged network; the target those of the changed one."""
    x = torch.randn(1, model.latent_channels, 8, 8, generator=torch.Generator().manual_seed(0))
    shift, t = shift_of(model, describers), 500
    source, target = Record("mid_block"), Record("mid_block")
    network = WithSource(model, {t: x}, model.condition(["red cat"]))
    condition = shift._conditioned(model.condition(["red cat"]), None, shift.content)
    network.predict(x, t, condition, [FromSource(source, target)])
    torch.testing.assert_close(source.output, model.bottleneck(x, t, model.condition(["red cat"])))
    plain = dataclasses.replace(condition, weight_changes={})
    with fused(model.unet, shift.tokens.changes.by_name):
        torch.testing.assert_close(target.output, model.bottleneck(x, t, plain), rtol=1e-4, atol=1e-5)
    assert (target.output - model.bottleneck(x, t, plain)).abs().max() > 1e-3
