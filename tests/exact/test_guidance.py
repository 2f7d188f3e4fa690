"""Guidance: a weighted sum of predictions, evaluated in one network call without terms of weight zero."""

from dataclasses import replace

import pytest
import torch

from sfumato.core.guidance import Guided, Term, classifier_free
from sfumato.core.rows import NEGATIVE, TARGET, Rows
from sfumato.inversion import invert_edit_friendly
from tests.exact.toy import Convolution, finished, linear_schedule, prompt

X = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
T = 500
NOTHING, STYLE, CONTENT = (prompt(2, value) for value in (0.0, 0.3, 0.9))
WEIGHTS = ((1.5, -2.0), (7.0, 0.25))


class Network(Convolution):
    """Records the rows of every call."""

    def __init__(self):
        super().__init__(linear_schedule())
        self.rows = []

    def predict(self, x, t, cond, taps=None):
        self.rows.append(Rows.of_evaluation(cond, len(x)))
        return super().predict(x, t, cond, taps)


@pytest.fixture
def network():
    return Network()


def three(network, style=WEIGHTS[0], content=WEIGHTS[1]):
    """Two-modality guidance (PARASOL): the content is the condition of the run."""
    return Guided(network, (Term("nothing", NOTHING), Term("style", STYLE, style), Term(TARGET, None, content)))


def column(weights):
    return torch.tensor(weights).reshape(-1, 1, 1, 1)


def alone(condition, t=T):
    """The prediction under one condition."""
    return Network().predict(X, t, condition)


def test_two_modality_guidance_equals_its_formula(network):
    """eps_00 + g_s (eps_s0 - eps_00) + g_y (eps_0y - eps_00), with different weights for every image."""
    e, style, content = alone(NOTHING), alone(STYLE), alone(CONTENT)
    expected = e + column(WEIGHTS[0]) * (style - e) + column(WEIGHTS[1]) * (content - e)
    torch.testing.assert_close(three(network).predict(X, T, CONTENT), expected, rtol=0, atol=2e-5)


def test_instruct_pix2pix_guidance_equals_its_formula(network):
    """eps_00 + s_I (eps_I0 - eps_00) + s_T (eps_IT - eps_I0) (arXiv 2211.09800, eq. 3)."""
    image, text = torch.tensor((1.5, 1.2)), torch.tensor((7.5, 3.0))
    terms = Term("image", STYLE, tuple((image - text).tolist())), Term(TARGET, None, tuple(text.tolist()))
    eps = Guided(network, (Term("nothing", NOTHING), *terms)).predict(X, T, CONTENT)
    e, of_image, of_both = alone(NOTHING), alone(STYLE), alone(CONTENT)
    expected = e + column(image.tolist()) * (of_image - e) + column(text.tolist()) * (of_both - of_image)
    torch.testing.assert_close(eps, expected, rtol=0, atol=2e-5)


def test_all_terms_are_evaluated_in_one_call(network):
    guided = three(network)
    guided.predict(X, T, CONTENT)
    assert network.rows == [Rows(("nothing", "style", TARGET), 2)]
    assert guided.calls(T) == 3


def test_weights_may_depend_on_the_timestep(network):
    guided = three(network, content=lambda t: (t / 100, -t / 50))
    for t in (900, 100):
        expected = three(network, content=(t / 100, -t / 50)).predict(X, t, CONTENT)
        assert torch.equal(guided.predict(X, t, CONTENT), expected)
        assert torch.equal(guided.predict(X, torch.tensor([t, t]), CONTENT), expected)
    assert guided.guidance_scale == (9.99, -19.98), "at the noisy end of the schedule"


@pytest.mark.parametrize(
    ("style", "content", "names"),
    [
        ((0.0, 0.0), (3.0, 2.0), ("nothing", TARGET)),
        ((0.0, 0.5), (3.0, 2.0), ("nothing", "style", TARGET)),
        ((0.25, 0.5), (0.75, 0.5), ("style", TARGET)),
        ((0.25, 0.5), (0.75, 0.25), ("nothing", "style", TARGET)),
        ((0.0, 0.0), (1.0, 1.0), (TARGET,)),
        ((1.0, 1.0), (0.0, 0.0), ("style", TARGET)),
        ((0.0, 0.0), (0.0, 0.0), ("nothing", TARGET)),
    ],
)
def test_terms_of_weight_zero_are_not_evaluated(network, style, content, names):
    """The run's own condition is always evaluated, because taps of shifts may read it."""
    guided = three(network, style, content)
    eps = guided.predict(X, T, CONTENT)
    assert (network.rows, guided.calls(T)) == ([Rows(names, 2)], len(names))
    e = alone(NOTHING)
    expected = e + column(style) * (alone(STYLE) - e) + column(content) * (alone(CONTENT) - e)
    torch.testing.assert_close(eps, expected, rtol=0, atol=2e-5)


def test_evaluated_terms_depend_on_the_timestep(network):
    guided = three(network, style=lambda t: (float(t > 400), 0.0))
    for t in (800, 200):
        guided.predict(X, t, CONTENT)
    assert [rows.names for rows in network.rows] == [("nothing", "style", TARGET), ("nothing", TARGET)]
    assert [guided.calls(t) for t in (800, 200)] == [3, 2]


def test_single_term_equals_the_unguided_network(network):
    guided = classifier_free(network, None, (7.5, 3.0))
    assert torch.equal(guided.predict(X, T, CONTENT), alone(CONTENT))
    assert network.rows == [Rows((TARGET,), 2)]
    assert guided.guidance_scale == (7.5, 3.0)


def test_target_condition_can_be_the_base_term(network):
    guided = Guided(network, (Term(TARGET, None), Term("away", NOTHING, (-0.5, 2.0))))
    expected = alone(CONTENT) + column((-0.5, 2.0)) * (alone(NOTHING) - alone(CONTENT))
    torch.testing.assert_close(guided.predict(X, T, CONTENT), expected, rtol=0, atol=2e-5)
    still = replace(guided, terms=(Term(TARGET, None), Term("away", NOTHING, (0.0, 0.0))))
    assert torch.equal(still.predict(X, T, CONTENT), alone(CONTENT))


def test_known_predictions_are_not_evaluated_again(network):
    guided, whole = three(network), three(Network()).predict(X, T, CONTENT)
    known = {TARGET: alone(CONTENT), "style": alone(STYLE)}
    torch.testing.assert_close(guided.predict(X, T, CONTENT, known=known), whole, rtol=0, atol=2e-5)
    assert network.rows == [Rows(("nothing",), 2)]
    zero = torch.zeros_like(X)
    moved = guided.predict(X, T, CONTENT, known={"nothing": zero, "style": zero, TARGET: X})
    assert torch.equal(moved, column(WEIGHTS[1]) * X)
    assert len(network.rows) == 1, "nothing was left to evaluate"


def test_row_at_scale_one_is_independent_of_other_rows(network):
    """Its noise is bit-identical to the prediction under the prompt, whether or not another row uses e_0."""
    known = {TARGET: alone(CONTENT), NEGATIVE: 300 * alone(NOTHING)}  # with 300, e_0 + (e_1 - e_0) is rounded
    mixed = classifier_free(network, NOTHING, (1.0, 7.5)).predict(X, T, CONTENT, known=known)
    same = classifier_free(network, NOTHING, (1.0, 1.0)).predict(X, T, CONTENT, known=known)
    assert torch.equal(mixed[0], same[0])
    assert torch.equal(mixed[0], known[TARGET][0])
    low, high = known[NEGATIVE], known[TARGET]
    assert torch.equal(mixed[1], (low + 7.5 * (high - low))[1])
    each = torch.tensor([T, T])  # one timestep per row
    assert torch.equal(classifier_free(network, NOTHING, (1.0, 7.5)).predict(X, each, CONTENT, known=known), mixed)


def test_row_with_weights_summing_to_one_is_independent(network):
    known = {"nothing": 300 * alone(NOTHING), "style": alone(STYLE), TARGET: alone(CONTENT)}
    for others in ((0.75, 0.25), (0.0, 5.0), (2.0, 0.0)):  # e_0 cancels for the other row, or does not
        guided = three(network, style=(0.25, others[0]), content=(0.75, others[1]))
        eps = guided.predict(X, T, CONTENT, known=known)
        assert torch.equal(eps[0], (0.25 * known["style"] + 0.75 * known[TARGET])[0])
    assert network.rows == []


def test_selected_rows_keep_weights_and_conditions(network):
    conditions = [prompt(1, value) for value in (0.1, 0.4)]
    style = type(NOTHING).cat(conditions)
    guided = Guided(
        network,
        (
            Term("nothing", NOTHING),
            Term("style", style, WEIGHTS[0]),
            Term(TARGET, None, lambda t: (t / 100, -t / 50)),
        ),
    )
    index = [1, 0, 1]
    chosen, x, own = guided.rows(index), X[index], CONTENT[index]
    torch.testing.assert_close(chosen.predict(x, 300, own), guided.predict(X, 300, CONTENT)[index], rtol=0, atol=2e-5)
    assert chosen.guidance_scale == (-19.98, 9.99, -19.98)
    assert torch.equal(chosen.condition_of("style").tokens, style.tokens[index])
    assert chosen.terms[1].weights == (-2.0, 1.5, -2.0)


def test_timestep_dependent_weights_in_batched_inversions(network):
    guided = three(network, content=lambda t: (t / 100, -t / 50))
    runs = [
        finished(invert_edit_friendly(guided, X, CONTENT, steps=6, seeds=[0, 1], exact=exact))[0]
        for exact in (True, False)
    ]
    torch.testing.assert_close(runs[0].z, runs[1].z, rtol=0, atol=1e-2)


def test_batch_limit_holds_with_timestep_dependent_terms(network):
    guided = three(network, style=lambda t: (float(t < 500),) * 2)
    finished(invert_edit_friendly(guided, X, CONTENT, steps=6, seeds=[0, 1], batch=8))
    assert max(len(rows.names) * rows.images for rows in network.rows) <= 8


def test_missing_condition_raises_a_key_error(network):
    guided = classifier_free(network, NOTHING, (3.0, 3.0))
    for name in ("style", TARGET):  # the guidance does not contain the condition of the run
        with pytest.raises(KeyError, match=name):
            guided.condition_of(name)


def test_conditions_are_found_by_name(network):
    guided = classifier_free(network, NOTHING, (3.0, 3.0))
    assert guided.condition_of(NEGATIVE) is NOTHING


def test_rows_are_found_by_name():
    rows = Rows(("nothing", "style", TARGET), 2)
    assert rows.of("style") == slice(2, 4)
    assert (TARGET in rows, NEGATIVE in rows) == (True, False)
    with pytest.raises(KeyError, match="nothing, style, target"):
        rows.of(NEGATIVE)
