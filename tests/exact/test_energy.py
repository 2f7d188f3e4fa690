"""Energies: exact gradients, one pass for all energies, and reuse of its predictions in the step."""

import pytest
import torch
from torch.nn import functional as F

from sfumato.core.energy import Energy
from sfumato.core.guidance import Guided, Term, classifier_free
from sfumato.core.loop import reverse
from sfumato.core.rows import NEGATIVE, TARGET, Rows
from sfumato.core.shift import Shift
from sfumato.errors import NonFinite
from sfumato.models.attention import Layers, RecordMaps
from sfumato.models.load import load_model
from sfumato.models.taps import Record, Replace
from tests.exact.toy import linear_schedule, prompt

X = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
STRONG, WEAK = prompt(2, 0.9), prompt(2, 0.2)


class Cubic:
    """eps = k x^3, where k is the mean of the tokens; calls taps with x^2."""

    def __init__(self):
        self.schedule, self.calls = linear_schedule(), []

    def predict(self, x, t, cond, taps=None):
        self.calls.append(Rows.of_evaluation(cond, len(x)))
        for tap in taps or ():
            tap("square", x.square(), self.calls[-1])
        return self.factor(cond) * x**3

    def factor(self, cond):
        return cond.tokens.double().mean(dim=(1, 2)).reshape(-1, 1, 1, 1)


class Mixing(Cubic):
    """Outputs depend on neighbouring pixels: eps = a * sin(b * x + k + t); taps record and replace sin(...)."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first, self.last = (torch.randn(4, 4, 3, 3, generator=generator).double() for _ in range(2))

    def predict(self, x, t, cond, taps=None):
        self.calls.append(Rows.of_evaluation(cond, len(x)))
        h = torch.sin(F.conv2d(x, self.first, padding=1) + self.factor(cond) + t / 1000)
        for tap in taps or ():
            changed = tap("sine", h, self.calls[-1])
            h = h if changed is None else changed
        return F.conv2d(h, self.last, padding=1)


class Follow(Shift):
    """Declares an energy, keeps its gradient, and moves x_t by a multiple of it."""

    def __init__(self, value, *, amount=0.0, steps=None, **options):
        self.of, self.amount, self.steps, self.options = value, amount, steps, options
        self.gradients = []

    def energy(self, state):
        if self.steps is not None and state.i not in self.steps:
            return None
        return Energy(self.of, **self.options)

    def latent(self, state, x):
        if self.steps is not None and state.i not in self.steps:
            return x
        self.gradients.append(state.gradient(self))
        return x - self.amount * self.gradients[-1] if self.amount else x


def total(values):
    return values.sum(dim=(1, 2, 3))


def guided(network, scale=3.0):
    return classifier_free(network, WEAK, (scale, scale))


def run(network, shifts, *, steps=1, x=X, condition=STRONG):
    timesteps = network.schedule.timesteps(steps)
    return list(reverse(network, x, timesteps, condition, eta=0.0, noise_maps=lambda state: None, shifts=shifts))


def test_gradients_equal_closed_forms():
    """Of the prediction under either condition, of x_t itself, and of what a tap reads."""
    read = Record("square", TARGET)
    shifts = {
        "0.9^2 6 x^5": Follow(lambda x, eps: total(eps**2)),
        "0.2 3 x^2": Follow(lambda x, eps: total(eps), under=NEGATIVE),
        "2 x": Follow(lambda x, eps: total(x**2)),
        "4 x^3": Follow(lambda x, eps: total(read.output**2), taps=(read,)),
    }
    run(guided(Cubic()), list(shifts.values()))
    found = {name: shift.gradients[0] for name, shift in shifts.items()}
    strong, weak = (Cubic().factor(each) for each in (STRONG, WEAK))
    expected = {
        "0.9^2 6 x^5": strong**2 * 6 * X**5,
        "0.2 3 x^2": weak * 3 * X**2,
        "2 x": 2 * X,
        "4 x^3": 4 * X**3,
    }
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-12, atol=1e-12)


def energies():
    """Four energies of a network that mixes pixels, each with a shift of its own; the last reads features."""
    read = Record("sine", TARGET)
    return [
        Follow(lambda x, eps: total(eps**2)),
        Follow(lambda x, eps: total(eps.cos() * x)),
        Follow(lambda x, eps: total(eps**3), under=NEGATIVE),
        Follow(lambda x, eps: total(read.output**2 * eps[:, :1]), taps=(read,)),
    ]


def test_gradients_equal_finite_differences():
    shifts = energies()
    run(guided(Mixing()), shifts)
    generator = torch.Generator().manual_seed(2)
    for shift in shifts:
        condition = WEAK if shift.options.get("under") == NEGATIVE else STRONG
        taps = shift.options.get("taps", ())

        def value(x, shift=shift, condition=condition, taps=taps):
            t = linear_schedule().timesteps(1)[0]
            return shift.of(x, Mixing().predict(x, t, condition, taps))

        for _ in range(3):
            v = torch.randn(X.shape, generator=generator, dtype=torch.float64)
            slope = (value(X + 1e-5 * v) - value(X - 1e-5 * v)) / 2e-5
            torch.testing.assert_close(total(shift.gradients[0] * v), slope, rtol=1e-3, atol=0)


def test_several_energies_share_one_pass():
    together, network = energies(), Mixing()
    run(guided(network), together)
    assert network.calls == [Rows((TARGET, NEGATIVE), 2)], "one pass for all, whose predictions are those of the step"
    for n, shift in enumerate(together):
        alone = energies()[n]
        run(guided(Mixing()), [alone])
        torch.testing.assert_close(shift.gradients[0], alone.gradients[0], rtol=1e-10, atol=1e-12)


class Float16(Mixing):
    """A network that computes in float16."""

    def predict(self, x, t, cond, taps=None):
        self.first, self.last = self.first.half(), self.last.half()
        return super().predict(x.half(), t, cond, taps).float()

    def factor(self, cond):
        return super().factor(cond).half()


def test_small_float16_gradients_do_not_underflow(monkeypatch):
    """The energy is 2e-10 of the sum of squares: its gradients are below 6e-8, the smallest number of float16."""

    def small(x, eps):
        return 2e-10 * total(eps**2)

    def gradients(network, x):
        shifts = [Follow(small), Follow(lambda x, eps: 2 * small(x, eps))]
        alone = [Follow(small)]
        run(guided(network), shifts, x=x)
        run(guided(network), alone, x=x)
        return [each.gradients[0] for each in (*shifts, *alone)]

    wide = gradients(Mixing(), X)
    for half, exact in zip(gradients(Float16(), X.float()), wide, strict=True):
        assert F.cosine_similarity(half.double().flatten(), exact.flatten(), dim=0) > 0.99
        assert half.norm().item() == pytest.approx(exact.norm().item(), rel=0.05)
    monkeypatch.setattr("sfumato.core.energy.SCALE", 1.0)
    assert not any(each.any() for each in gradients(Float16(), X.float()))
    assert all(torch.equal(*each) for each in zip(wide, gradients(Mixing(), X), strict=True)), "no digit changes"


def test_overflowing_scaled_gradients_equal_the_unscaled_ones(monkeypatch):
    large = []
    for scale in (2.0**10, 1.0):
        monkeypatch.setattr("sfumato.core.energy.SCALE", scale)
        shifts = [Follow(lambda x, eps: 100 * total(eps)), Follow(lambda x, eps: total(eps))]
        run(guided(Float16()), shifts, x=X.float())
        large.append([each.gradients[0] for each in shifts])
    assert all(torch.equal(*each) and torch.isfinite(each[0]).all() for each in zip(*large, strict=True))


def test_images_of_a_batch_are_independent():
    together = energies()
    run(guided(Mixing()), together)
    for n, shift in enumerate(together):
        alone = energies()[n]
        run(guided(Mixing()).rows([1]), [alone], x=X[1:], condition=STRONG[1])
        torch.testing.assert_close(shift.gradients[0][1:], alone.gradients[0], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("under", "rows"),
    [
        ((TARGET,), [(TARGET,), (NEGATIVE,)]),
        ((NEGATIVE,), [(NEGATIVE,), (TARGET,)]),
        ((TARGET, NEGATIVE), [(TARGET, NEGATIVE)]),
    ],
)
def test_predictions_of_the_pass_are_reused(under, rows):
    """A guided step with energies evaluates no more rows than one without."""
    network, shifts = Mixing(), [Follow(lambda x, eps: total(eps**2), under=name) for name in under]
    (state,), (plain,) = run(guided(network), shifts), run(guided(Mixing()), [])
    assert network.calls == [Rows(names, 2) for names in rows]
    torch.testing.assert_close(state.eps, plain.eps, rtol=1e-12, atol=1e-12)
    assert not state.eps.requires_grad


def test_unguided_step_with_energies_is_one_evaluation():
    for network in (Mixing(), classifier_free(Mixing(), None, (1.0, 1.0)), guided(Mixing(), scale=1.0)):
        counted = network.network if isinstance(network, Guided) else network
        (state,) = run(network, energies()[:2])
        assert counted.calls == [Rows((TARGET,), 2)]
        assert torch.equal(state.eps, Mixing().predict(X, state.t, STRONG))
        assert not state.eps.requires_grad


def test_moved_latent_is_evaluated_again():
    network, shift = Mixing(), Follow(lambda x, eps: total(eps**2), amount=0.1)
    (state,) = run(guided(network), [shift])
    assert network.calls == [Rows((TARGET,), 2), Rows((NEGATIVE, TARGET), 2)]
    assert torch.equal(state.x_t, X - 0.1 * shift.gradients[0])
    assert torch.equal(state.eps, guided(Mixing()).predict(state.x_t, state.t, STRONG))


def test_gradients_are_taken_before_any_shift_moves_the_latent():
    first, second = (Follow(lambda x, eps: total(x**2), amount=0.1) for _ in range(2))
    (state,) = run(guided(Cubic()), [first, second])
    assert torch.equal(first.gradients[0], 2 * X)
    assert torch.equal(second.gradients[0], 2 * X)
    torch.testing.assert_close(state.x_t, X - 0.4 * X)


def test_gradients_are_taken_at_the_latent_moved_before_them():
    """Its prediction is reused as that of a latent that no shift moves."""

    class Double(Shift):
        def before_gradients(self, state, x):
            return 2 * x

    network, shift = Cubic(), Follow(lambda x, eps: total(x**3))
    (state,) = run(guided(network), [shift, Double()])
    assert torch.equal(state.x_t, 2 * X)
    torch.testing.assert_close(shift.gradients[0], 3 * (2 * X) ** 2)
    assert network.calls == [Rows((TARGET,), 2), Rows((NEGATIVE,), 2)]


def test_energies_use_the_shifted_condition():
    class Weak(Shift):
        def condition(self, state, condition):
            return WEAK

    shift = Follow(lambda x, eps: total(eps))
    run(guided(Cubic()), [Weak(), shift])
    torch.testing.assert_close(shift.gradients[0], Cubic().factor(WEAK) * 3 * X**2, rtol=1e-12, atol=1e-12)


def test_step_taps_run_after_the_energy_taps():
    class Halve(Shift):
        def taps(self, state):
            return Replace("sine", lambda h: h / 2)

    read = Record("sine")
    shift = Follow(lambda x, eps: total(eps**2) + total(read.output), taps=(read,))
    plain = Follow(lambda x, eps: total(eps**2) / 4 + total(own.output), taps=(own := Record("sine"),))
    (state,), (whole,) = run(guided(Mixing()), [Halve(), shift]), run(guided(Mixing()), [plain])
    torch.testing.assert_close(shift.gradients[0], plain.gradients[0], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(state.eps, whole.eps / 2, rtol=1e-12, atol=1e-12)


def test_energy_can_be_limited_to_some_steps():
    network, shift = Mixing(), Follow(lambda x, eps: total(eps**2), steps=(1, 3))
    run(guided(network), [shift], steps=4)
    assert len(shift.gradients) == 2
    assert [len(rows.names) for rows in network.calls] == [2, 1, 1, 2, 1, 1]


def test_energies_of_several_guidance_terms():
    """Three terms: energies under two of them, the third is evaluated by itself."""
    style = prompt(2, 0.5)
    terms = (Term("nothing", WEAK), Term("style", style, (2.0, 2.0)), Term(TARGET, None, (5.0, 5.0)))
    network = Cubic()
    shifts = [Follow(lambda x, eps: total(eps), under=name) for name in ("style", "nothing")]
    (state,) = run(Guided(network, terms), shifts)
    assert network.calls == [Rows(("style", "nothing"), 2), Rows((TARGET,), 2)]
    for shift, condition in zip(shifts, (style, WEAK), strict=True):
        factor = network.factor(condition)
        torch.testing.assert_close(shift.gradients[0], factor * 3 * X**2, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(state.eps, Guided(Cubic(), terms).predict(X, state.t, STRONG), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("others", [0, 2])
def test_non_finite_gradient_is_refused_with_its_name(others):
    broken = Follow(lambda x, eps: total((x - X).abs().sqrt()), name="structure guidance")
    shifts = [*energies()[:others], broken]
    with pytest.raises(NonFinite, match=r"Step 1 of 1 \(timestep \d+\): the gradient of structure guidance"):
        run(guided(Mixing()), shifts)


def test_non_finite_gradient_is_refused_with_the_name_of_the_part():
    def broken(x, eps):
        return total((x - X).abs().sqrt())

    parts = [("smooth", lambda x, eps: total(x**2)), ('sharp of "fox"', broken), ("other", broken)]
    whole = Follow(lambda x, eps: sum(part(x, eps) for _, part in parts), name="guidance", parts=parts)
    for others in (0, 2):
        with pytest.raises(NonFinite, match=r'timestep \d+\): the gradient of guidance \(sharp of "fox"\) contains'):
            run(guided(Mixing()), [*energies()[:others], whole])


def test_no_autograd_graph_is_kept():
    for state in run(guided(Mixing()), energies(), steps=2):
        assert torch.is_grad_enabled()
        assert not any(each.requires_grad for each in (state.x_t, state.eps, state.mean, state.x_prev))
        assert all(not gradient.requires_grad for gradient in state.gradients.values())


class Half(Cubic):
    """Predicts in half precision."""

    def predict(self, x, t, cond, taps=None):
        return super().predict(x, t, cond, taps).bfloat16()


def test_bfloat16_predictions_equal_the_run_without_energies():
    shifts = [Follow(lambda x, eps: total(eps), under=name) for name in (NEGATIVE, TARGET)]
    (state,), (plain,) = (run(guided(Half()), each, x=X.float()) for each in (shifts, []))
    assert torch.equal(state.eps, plain.eps)


@pytest.mark.parametrize("layout", ["sd", "sdxl"])
def test_shared_pass_equals_separate_passes_on_diffusers_networks(tiny_folder, layout):
    """Attention maps, features and predictions of a tiny diffusers network in its own precision."""
    model = load_model(tiny_folder(layout), "cpu")
    x = torch.randn(2, 4, 8, 12, generator=torch.Generator().manual_seed(0))
    negative, target = model.condition(["", "tree"]), model.condition(["red cat", "blue dog"])
    maps, features = RecordMaps(Layers(cross=True), TARGET), Record("mid_block", TARGET)

    def of_maps(record):
        return sum(each.square().sum(dim=(1, 2, 3)) for each in record.maps.values())

    asked = [
        (lambda x, eps: of_maps(maps), (maps,), TARGET),
        (lambda x, eps: total(features.output**2), (features,), TARGET),
        (lambda x, eps: total(eps**2) + total(x), (), NEGATIVE),
        (lambda x, eps: total(eps), (), TARGET),
    ]
    shifts = [Follow(value, taps=taps, under=under) for value, taps, under in asked]
    with model.counting() as count:
        (state,) = run(classifier_free(model, negative, (4.0, 4.0)), shifts, x=x, condition=target)
    assert (count.calls, count.samples) == (1, 4)
    for shift, (value, taps, under) in zip(shifts, asked, strict=True):
        variable = x.clone().requires_grad_()
        eps = model.predict(variable, state.t, target if under == TARGET else negative, taps)
        (gradient,) = torch.autograd.grad(value(variable, eps).sum(), variable)
        largest = gradient.abs().amax(dim=(1, 2, 3), keepdim=True)
        assert ((shift.gradients[0] - gradient).abs() <= 1e-5 * largest).all()
        assert (largest > 0).all()
