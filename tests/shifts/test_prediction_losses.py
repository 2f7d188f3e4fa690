"""Losses of the decoded prediction: gradients against finite differences, values against direct implementations."""

from dataclasses import replace
from itertools import permutations

import pytest
import torch
from torch.nn import functional as F

from sfumato.core.condition import Condition
from sfumato.core.guidance import Guided, Term
from sfumato.core.noise import stream
from sfumato.core.rows import TARGET
from sfumato.core.state import StepState
from sfumato.core.step import predict_x0, sigma
from sfumato.errors import BadInput
from sfumato.metrics import VisionEncoder, structure_distance
from sfumato.shifts.energy.class_token import SemanticDivergence, TargetClassToken
from sfumato.shifts.energy.crops import ANGLE, _transforms, random_crops
from sfumato.shifts.energy.prediction import DecodedPrediction, Features, PredictionEnergy
from sfumato.shifts.energy.range_loss import RangeLoss, TargetPixels
from sfumato.shifts.energy.structure import (
    TEMPERATURE,
    KeyContrast,
    KeySelfSimilarity,
    key_contrast,
    self_similarity,
)
from sfumato.shifts.energy.text_match import ImageEncoder, TextDirectionMatch, TextMatch
from tests.exact.toy import linear_schedule
from tests.metrics import encoders

GENERATOR = torch.Generator().manual_seed(5)


def normal(*shape):
    return torch.randn(shape, generator=GENERATOR, dtype=torch.float64)


X, SOURCE, TARGET_IMAGE = normal(2, 4, 8, 8), normal(2, 4, 8, 8), normal(1, 3, 16, 16).tanh()
DECODER, FIRST, LAST = normal(4, 3, 2, 2) / 2, normal(4, 4, 3, 3), normal(4, 4, 3, 3) / 3
TEXTS = F.normalize(normal(2, 8), dim=-1), F.normalize(normal(2, 8), dim=-1)
SEEDS = (3, 4)


def decode(latents):
    """An autoencoder that doubles the resolution; values may leave [-1, 1]."""
    return 1.2 * F.conv_transpose2d(latents.double(), DECODER, stride=2).tanh()


def predict(x):
    """A denoising network that mixes pixels."""
    return F.conv2d(torch.sin(F.conv2d(x, FIRST, padding=1)), LAST, padding=1)


class Predicting:
    schedule = linear_schedule()

    def predict(self, x, t, cond, taps=None):
        return predict(x)


def state(x=X, t=600, source=SOURCE, **changes):
    schedule = linear_schedule()
    levels = {"t": t, "t_prev": t - 100, "abar": schedule.abar(t), "abar_prev": schedule.abar(t - 100)}
    levels["sigma"] = sigma(levels["abar"], levels["abar_prev"], 1.0)
    guided = Guided(Predicting(), (Term(TARGET, None),))
    given = {"condition": Condition(rows=len(x)), "source": {-1: source}}
    return StepState(i=0, steps=4, network=guided, x_t=x, **levels | given | changes)


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vit")
    encoders.save("vit", folder)
    return VisionEncoder(folder).double()


@pytest.fixture(scope="module")
def extract(vit):
    return lambda pixels: Features(*vit.keys_and_class_token(pixels))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    with encoders.tiny.seeded(1):
        clip = encoders.clip().double().eval()

    def embed(pixels):
        return F.normalize(clip.get_image_features(pixels).pooler_output, dim=-1)

    return ImageEncoder(embed, 16, 3, SEEDS)


def losses(extract, encoder):
    target, source = TEXTS
    with torch.no_grad():
        token = extract(TARGET_IMAGE).class_token
    return {
        "contrast": KeyContrast(),
        "similarity": KeySelfSimilarity(),
        "divergence": SemanticDivergence(above=500),
        "class": TargetClassToken(token),
        "range": RangeLoss(),
        "pixels": TargetPixels(TARGET_IMAGE),
        "text": TextMatch(encoder, target, source),
        "direction": TextDirectionMatch(encoder, target, source),
    }


NAMES = ["contrast", "similarity", "divergence", "class", "range", "pixels", "text", "direction"]


def total(values):
    return values.flatten(1).sum(dim=1)


@pytest.mark.parametrize("through", [True, False])
@pytest.mark.parametrize("noised", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_gradients_equal_finite_differences(extract, encoder, name, noised, through):
    """With the noise as a function of x_t or constant, with or without noise augmentation."""
    fixed = predict(X)

    def value(x):
        parts = [(losses(extract, encoder)[name], 3.0)]
        energy = PredictionEnergy(parts, decode, extract, noise_augmentation=noised, through_network=through)
        return energy.measure(state()).value(x, predict(x) if through or x.requires_grad else fixed)

    x = X.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(value(x).sum(), x)
    assert gradient.abs().amax(dim=(1, 2, 3)).min() > 0
    for _ in range(2):
        v = normal(*X.shape)
        slope = (value(X + 1e-5 * v) - value(X - 1e-5 * v)) / 2e-5
        torch.testing.assert_close(total(gradient * v), slope, rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("noised", [False, True])
def test_of_prediction_equals_the_gradient_with_constant_noise(extract, encoder, noised):
    parts = [(loss, 1.0) for loss in losses(extract, encoder).values()]
    made = [PredictionEnergy(parts, decode, extract, noise_augmentation=noised, through_network=False) for _ in "ab"]
    x = X.clone().requires_grad_()
    (expected,) = torch.autograd.grad(made[0].measure(state()).value(x, predict(x)).sum(), x)
    P = predict_x0(X, predict(X), state().abar)
    torch.testing.assert_close(made[1].of_prediction(state(), P), expected, rtol=1e-9, atol=1e-12)


def test_key_contrast_equals_the_direct_sum():
    keys, reference, tau = normal(2, 5, 7), normal(2, 5, 7), 0.3
    for b in range(2):
        each = []
        for i in range(5):
            cosines = torch.stack([F.cosine_similarity(keys[b, i], reference[b, j], dim=0) for j in range(5)])
            each.append(-torch.log(torch.exp(cosines[i] / tau) / torch.exp(cosines / tau).sum()))
        torch.testing.assert_close(key_contrast(keys, reference, tau)[b], torch.stack(each).mean())


def test_self_similarity_loss_equals_the_structure_distance(vit, extract):
    a, b = (decode(each).clamp(-1, 1) for each in (X, SOURCE))
    image, source = (DecodedPrediction(x, x, lambda x: x, extract, 0) for x in (a, b))
    expected = structure_distance(vit, (a + 1) / 2, (b + 1) / 2)
    torch.testing.assert_close(KeySelfSimilarity().against(source)(image), expected)
    i, j = 3, 7
    keys = image.features.keys
    torch.testing.assert_close(self_similarity(keys)[:, i, j], F.cosine_similarity(keys[:, i], keys[:, j], dim=1))


def test_losses_of_equal_images_are_zero(extract):
    image = DecodedPrediction(SOURCE, SOURCE, decode, extract, 600)
    target = TargetClassToken(image.features.class_token)
    for loss in (KeySelfSimilarity(), target, SemanticDivergence(0), TargetPixels(image.pixels)):
        assert loss.against(image)(image).abs().max() < 1e-20, type(loss).__name__


def test_contrast_is_least_for_equal_keys_among_all_their_orders():
    """In every order the negatives are the same, so that the loss increases by the mean of (1 - cos) / tau."""
    keys = normal(6, 16)
    equal, *others = permutations(range(6))
    shuffled = keys[torch.tensor(others)]
    least = key_contrast(keys[None], keys[None, list(equal)])
    increase = key_contrast(keys.expand(len(others), -1, -1), shuffled) - least
    assert increase.min() > 0
    torch.testing.assert_close(increase, (1 - F.cosine_similarity(keys, shuffled, dim=-1)).mean(dim=1) / TEMPERATURE)


def test_divergence_is_from_the_previous_step_and_ends(extract):
    images = [DecodedPrediction(each, each, decode, extract, t) for each, t in ((X, 900), (SOURCE, 501), (X, 500))]
    loss = SemanticDivergence(above=500).against(DecodedPrediction(0 * X, 0 * X, decode, extract, 900))
    tokens = [extract(decode(each)).class_token for each in (0 * X, X, SOURCE)]
    found = [loss(image) for image in images]
    for value, now, before in zip(found, tokens[1:], tokens, strict=False):
        torch.testing.assert_close(value, -(now - before).square().mean(dim=1))
    assert found[2].abs().max() == 0


def test_divergence_of_repeated_evaluations_and_steps(extract):
    """A refinement evaluates a step several times; a step that a path repeats counts as another step."""
    at = {"first": (X, 900, 0), "again": (2 * X, 900, 0), "next": (SOURCE, 700, 0), "repeated": (X, 700, 1)}
    start = DecodedPrediction(0 * X, 0 * X, decode, extract, 900)
    loss = SemanticDivergence(above=500).against(start)
    found = {name: loss(DecodedPrediction(x, x, decode, extract, t, visit)) for name, (x, t, visit) in at.items()}
    for name, x, before in (("again", 2 * X, 0 * X), ("next", SOURCE, 2 * X), ("repeated", X, SOURCE)):
        now, then = (extract(decode(each)).class_token for each in (x, before))
        torch.testing.assert_close(found[name], -(now - then).square().mean(dim=1))


def test_divergence_has_zero_gradient_after_its_end(extract):
    energy = PredictionEnergy([(SemanticDivergence(above=900), 1.0)], decode, extract, through_network=False)
    assert energy.of_prediction(state(), X).abs().max() == 0


def test_range_loss_is_the_mean_square_outside():
    pixels = torch.tensor([[-2.0, -1.0, 0.5, 1.0, 1.5]]).reshape(1, 1, 1, 5).expand(1, 3, 1, 5)
    image = DecodedPrediction(pixels, pixels, lambda x: x, None, 0)
    assert RangeLoss().against(image)(image).item() == pytest.approx((1.0**2 + 0.5**2) / 5)


@pytest.mark.parametrize(("t", "visit"), [(600, 0), (600, 2), (100, 0)])
def test_text_losses_are_means_over_crops_of_the_step(encoder, t, visit):
    target, source = TEXTS
    image, before = (DecodedPrediction(each, each, decode, None, t, visit) for each in (X, SOURCE))
    found = TextMatch(encoder, target, source).against(before)(image)
    directional = TextDirectionMatch(encoder, target, source).against(before)(image)
    for b in range(2):
        E_source = encoder.embed(decode(SOURCE[b : b + 1]))[0]
        v = F.normalize(target[b] - 0.4 * source[b] + 0.2 * E_source, dim=0)
        crops = encoder.embed(random_crops(decode(X[b : b + 1]), 3, SEEDS[b : b + 1], t, visit))
        torch.testing.assert_close(found[b], -(crops @ v).mean())
        cosines = [F.cosine_similarity(crop - E_source, target[b] - source[b], dim=0) for crop in crops]
        torch.testing.assert_close(directional[b], 1 - torch.stack(cosines).mean())


def test_text_losses_share_the_features_of_images_and_crops(encoder):
    """One pass for the source, and one per step for the crops; the gradient is that of the separate losses."""
    sizes = []

    def embed(pixels):
        sizes.append(len(pixels))
        return encoder.embed(pixels)

    def gradient(*kinds, weight):
        counted = ImageEncoder(embed, encoder.side, encoder.count, encoder.seeds)
        energy = PredictionEnergy([(kind(counted, *TEXTS), weight) for kind in kinds], decode, through_network=False)
        return energy.of_prediction(state(), X)

    both = gradient(TextMatch, TextDirectionMatch, weight=2.0)
    assert sizes == [2, 2 * encoder.count]
    apart = gradient(TextMatch, weight=2.0) + gradient(TextDirectionMatch, weight=2.0)
    torch.testing.assert_close(both, apart, rtol=1e-9, atol=1e-12)


def test_image_without_target_text_has_zero_text_loss(encoder):
    (target, source), known = TEXTS, torch.tensor([[1.0], [0.0]])
    pixels = X.clone().requires_grad_()
    image, before = (DecodedPrediction(each, each, decode, None, 600) for each in (pixels, SOURCE))
    found = TextMatch(encoder, target * known, source).against(before)(image)
    torch.testing.assert_close(found[0], TextMatch(encoder, target, source).against(before)(image)[0])
    (gradient,) = torch.autograd.grad(found.sum(), pixels)
    assert found[1] == 0
    assert gradient[1].abs().max() == 0 < gradient[0].abs().max()


def test_crops_depend_on_seed_step_and_visit():
    pixels = decode(X)
    together, alone = random_crops(pixels, 3, SEEDS, 600), random_crops(pixels[1:], 3, SEEDS[1:], 600)
    torch.testing.assert_close(together[3:], alone)
    assert not torch.allclose(alone, random_crops(pixels[1:], 3, SEEDS[1:], 500))
    assert not torch.allclose(alone, random_crops(pixels[1:], 3, SEEDS[1:], 600, visit=1))
    assert not torch.allclose(alone, random_crops(pixels[1:], 3, (5,), 600))


def test_crop_transforms_are_in_the_stated_ranges():
    theta = _transforms(torch.rand(500, 6, generator=stream(0, 0, 0), dtype=torch.float64))
    A, shift = theta[:, :, :2], theta[:, :, 2]
    mirrored = torch.det(A) < 0
    assert 0.4 < mirrored.double().mean() < 0.6
    area = torch.det(A).abs()
    assert 0.72 < area.min() < 0.82
    assert area.max() <= 1
    lengths = A.norm(dim=1)
    assert (shift.abs() <= 1 - lengths + 1e-12).all()
    turned = torch.atan2(A[:, 1, 0], A[:, 0, 0]) + mirrored * torch.pi
    assert torch.rad2deg(torch.atan2(turned.sin(), turned.cos())).abs().max() <= ANGLE


def test_a_loss_without_a_source_is_refused(extract):
    energy = PredictionEnergy([(KeyContrast(), 1.0)], decode, extract)
    with pytest.raises(BadInput, match="invert an image first"):
        energy.measure(replace(state(), source={}))
