"""Measurements of PARASOL: rank correlations, and claims that follow the numbers."""

import re

import numpy as np
import pytest

from papers.parasol import PARTS
from papers.styled import ablations, claims
from papers.styled.cells import PARASOL
from papers.styled.control import correlations, rank_correlation
from papers.styled.study import METRICS, joined
from sfumato.errors import BadInput


def test_rank_correlations():
    assert rank_correlation(np.array([1.0, 2.0, 30.0, 31.0])) == pytest.approx(1)
    assert rank_correlation(np.array([4.0, 3.0, 2.5, -1.0])) == pytest.approx(-1)
    assert rank_correlation(np.array([2.0, 2.0, 2.0])) == 0
    # Spearman's formula 1 - 6 sum d^2 / (n (n^2 - 1)) without ties
    assert rank_correlation(np.array([3.0, 1.0, 2.0, 5.0])) == pytest.approx(1 - 6 * (4 + 1 + 1 + 0) / (4 * 15))
    # ties share their mean rank: ranks 0, 1.5, 1.5 against 0, 1, 2
    assert rank_correlation(np.array([1.0, 2.0, 2.0])) == pytest.approx(np.corrcoef([0, 1, 2], [0, 1.5, 1.5])[0, 1])


def test_every_cell_has_its_own_correlation():
    table = [{"m": [1.0, 5.0]}, {"m": [2.0, 4.0]}, {"m": [3.0, 3.0]}]
    assert correlations(table) == {"m": pytest.approx([1.0, -1.0])}
    assert joined([{"m": [1.0]}, {"m": [2.0, 3.0]}]) == {"m": [1.0, 2.0, 3.0]}


def row(level, **other):
    return (
        {name: [level, level + 0.01, level - 0.01, level] for name in METRICS}
        | {name: [value + 0.01 * n for n in range(4)] for name, value in other.items()}
        | {"emoji": [*"abcd"]}
    )


@pytest.mark.parametrize("good", [True, False])
def test_claims_of_the_comparison_follow_the_numbers(good):
    ours = row(0.2 if good else 0.9, style_mse=0.1 if good else 0.9)
    numbers = {
        "unchanged": row(0.5, style_mse=0.8),
        "SDEdit, style in the caption": row(0.4),
        PARASOL: ours,
        claims.COLOURED: ours | {"chamfer": [0.05 if good else 2.0] * 4},
        "some: DiffuseIT": row(0.0),
    }
    assert [claim.holds for claim in claims._of_cells(numbers)] == [good] * 3


def test_an_emoji_in_several_styles_is_one_sample():
    """The style error falls for all four drawings of one emoji and is unchanged for those of the other."""
    nearer = [0.5] * 4 + [1.0] * 4
    numbers = {
        name: {metric: [1.0] * 8 for metric in METRICS} | {"emoji": [str(n) for n in range(8)]}
        for name in ("unchanged", "colour matching", PARASOL, claims.COLOURED)
    }
    numbers[PARASOL]["style_mse"] = nearer
    assert claims._of_cells(numbers)[1].holds
    numbers[PARASOL]["emoji"] = [*"aaaabbbb"]
    assert not claims._of_cells(numbers)[1].holds
    table = {metric: [-each for each in nearer] for metric in METRICS}
    control = {"correlations": dict.fromkeys(("style_scale", "content_scale", "lam"), table), "emoji": [*"aaaabbbb"]}
    assert not any(claim.holds for claim in claims._of_control(control))


@pytest.mark.parametrize("sign", [-1, 1])
def test_claims_of_control_follow_the_correlations(sign):
    values = [sign * each for each in (0.9, 0.8, 1.0, 0.7)]
    table = dict.fromkeys(METRICS, values)
    correlations = {"style_scale": table, "content_scale": table, "lam": table}
    found = claims._of_control({"correlations": correlations, "emoji": [*"abcd"]})
    assert [claim.holds for claim in found] == [sign < 0] * 3
    assert claims._from_noise({"correlations": table, "emoji": [*"abcd"]}).holds == (sign < 0)


def test_claims_of_encoders_and_uses():
    about = {"probe: style from style": 0.8, "probe: style from content": 0.5, "probe: group from style": 0.3}
    about |= {"probe: group from content": 0.5, "probe: group, largest class": 0.2, "right style first": 0.8}
    assert all(claim.holds for claim in claims._of_encoders(about))
    assert [c.holds for c in claims._of_encoders(about | {"probe: style from content": 0.9})] == [True, False]
    uses = {"interpolation": [0.9, 0.8], "text": [0.24, 0.25], "emoji": ["a", "b"]}
    uses["diversity"] = {
        "lpips": [0.3, 0.31],
        "lpips between contents": [0.6, 0.5],
        "own content": [0.9, 0.8],
        "other content": [0.2, 0.1],
        "emoji": ["a", "b"],
    }
    assert all(claim.holds for claim in claims._of_uses(uses))
    uses["diversity"]["own content"] = [0.2, 0.1]
    assert [claim.holds for claim in claims._of_uses(uses)] == [True, True, False]


@pytest.mark.parametrize("worse", [True, False])
def test_claims_of_the_ablations_follow_the_numbers(worse):
    numbers = {ablations.ALL: row(0.5), "without L_s": row(0.5, style_mse=0.9 if worse else 0.1)}
    (found,) = ablations.claims(numbers)
    assert (found.holds, "without L_s" in found.claim) == (worse, True)
    numbers |= {"without L_y": row(0.5, content_mse=0.9), "without M": row(0.5), "before the training": row(0.1)}
    assert [claim.holds for claim in ablations.claims(numbers)] == [worse, True, False]


def test_distance_beyond_the_true_drawing_is_paired_by_cell():
    cells = {"unchanged": row(0.5, sifid=3.0), PARASOL: row(0.5, sifid=5.0)}
    sentence = claims.over_true_drawing(cells, row(0.5, sifid=1.0))
    found = re.fullmatch(
        r"`sifid` minus that of the true drawing: unchanged \+2 ± (.*), PARASOL \+4 ± (.*)\.", sentence
    )
    assert [float(each) for each in found.groups()] == pytest.approx([0, 0], abs=1e-9)


def test_ablations_need_a_file_with_all_parts():
    ablations.check_names([])
    ablations.check_names(["without M", ablations.ALL])
    with pytest.raises(BadInput, match='--ablation "all parts=FILE"'):
        ablations.check_names(["without M"])


def test_parts_refer_to_existing_sizes():
    from papers.styled.study import Size

    assert all(hasattr(Size(), size) for _, _, sizes in PARTS.values() for size in sizes)
