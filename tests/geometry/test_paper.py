"""`papers/geometry.py` on a tiny random model: it runs, resumes and checks the claims."""

import json
import math
from statistics import stdev

import numpy as np
import pytest
import torch

import sfumato
from papers import geometry
from papers.latent_geometry import attributes, claims, edits, local, scores
from papers.latent_geometry.study import Size, Study
from papers.sure import difference, estimate, trend
from sfumato.api.finding import sample_latents
from sfumato.bench.items import ItemImages
from sfumato.core.noise import gaussian
from sfumato.errors import BadInput

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["sd", "ddpm"])
def measured(request, tiny_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("paper")
    page = out / "page.md"
    page.write_text("above\n<!-- measured: begin -->\n<!-- measured: end -->\nbelow\n")
    words = ["--model", str(tiny_folder(request.param)), "--quick", "--out", str(out / "o"), "--page", str(page)]
    assert geometry.main(words) == 0
    return request.param, out, words


def test_every_claim_is_measured(measured):
    layout, out, _ = measured
    numbers = json.loads((out / "o/numbers.json").read_text())
    assert len(numbers["claims"]) == (17 if layout == "sd" else 15)
    assert all(isinstance(claim["holds"], bool) for claim in numbers["claims"])
    assert numbers["paths"]["pairs"] == 2
    assert len(numbers["paths"]["kinds"]["slerp"]["semantic"]["by_segment"]) == 3
    for each in numbers["change"]["times"]:
        assert len(each["density"]) == len(each["frequency"])
        assert all(0 < share < 1 for share in each["low_share"])
    page = (out / "page.md").read_text()
    assert page.startswith("above")
    assert page.rstrip().endswith("below")
    assert "| claim of the paper | measured | holds |" in page
    for figure in geometry.FIGURES:
        assert (out / "o" / figure).stat().st_size > 1000
        assert (out / f"page-{figure}").is_file()


def test_measurements_are_cached(measured, monkeypatch, capsys):
    """A second run makes no network evaluation; one with another number of samples does."""
    from sfumato.models.diffusion_model import DiffusionModel

    _, out, words = measured
    before = (out / "o/fragment.md").read_text()

    def refuse(*given):
        raise AssertionError("evaluated again")

    with monkeypatch.context() as patch:
        patch.setattr(DiffusionModel, "_forward", refuse)
        assert geometry.main(words) == 0
        with pytest.raises(AssertionError, match="evaluated again"):
            geometry.main([*words, "--samples", "4"])
    assert (out / "o/fragment.md").read_text() == before


def test_cached_parts_depend_only_on_the_settings_they_use(measured):
    _, out, _ = measured
    asked = {
        name: json.loads((out / f"o/parts/{name}.json").read_text())["belongs"]["asked"] for name in ("local", "edits")
    }
    assert {"samples", "n", "times", "steps"} <= set(asked["local"])
    assert not {"gamma", "pairs", "evaluator"} & set(asked["local"])
    assert {"distance", "directions", "evaluator"} <= set(asked["edits"])


def test_outdated_cached_parts_are_measured_again(measured, tmp_path, monkeypatch):
    """Parts as written by an older version, or with fields that no longer exist."""
    _, out, words = measured
    part = out / "o/parts/local.json"
    kept, calls = part.read_text(), []
    belonged = json.loads(kept)["belongs"]
    for belongs in ({"size": {}}, belonged | {"asked": {"no_such_field": 1}}, belonged | {"version": 1}):
        part.write_text(json.dumps({"belongs": belongs, "numbers": {}}))
        with monkeypatch.context() as patch:
            patch.setattr(geometry.local, "measure", lambda study: calls.append(study) or json.loads(kept)["numbers"])
            assert geometry.main(words) == 0
    part.write_text(kept)
    assert len(calls) == 3


def over_time(low, dimension, overlap):
    """Numbers of three samples at T and at 0.25 T, with the same spread over the samples at both times."""

    def at(time, k):
        spread = [0.0, 0.1, 0.2]
        values = {"low_share": low[k], "effective_dimension": dimension[k], "leading_overlap": overlap[k]}
        return {"time": time} | {name: [value + each for each in spread] for name, value in values.items()}

    return [at(1.0, 0), at(0.25, 1)]


def test_claims_hold_or_fail_with_the_numbers():
    times = over_time((0.2, 0.6), (5.0, 3.0), (0.3, 0.5))
    found = claims._of_local({"times": times, "leading_chance": [0.4, 0.5, 0.6]})
    assert [c.holds for c in found] == [False] * 4
    assert all(c.measured.endswith("; n = 3") for c in found)
    assert [c.holds for c in claims._of_timing({"times": times})] == [False]
    assert [c.holds for c in claims._of_change({"times": times})] == [False]
    times = over_time((0.6, 0.2), (3.0, 5.0), (0.5, 0.3))
    assert [c.holds for c in claims._of_local({"times": times, "leading_chance": [0.2, 0.3, 0.3]})] == [True] * 4
    apart = claims._of_local({"times": times, "leading_chance": [-0.5, 0.2, 0.9]})
    assert [c.holds for c in apart] == [True, True, False, True], "twice as much on average, within the error"


def test_images_of_one_prompt_are_one_sample():
    images, pairs = claims.by_prompt(4, 1), claims.by_prompt(4, 2)
    assert (images(6), pairs(4)) == ([0, 1, 2, 3, 0, 1], [0, 2, 0, 2])
    assert list(claims.by_prompt(1, 2)(3)) == [0, 1, 2]
    shares = [0.5, 0.52, 0.54, 0.5, 0.52, 0.54], [0.1, 0.3, 0.5, 0.1, 0.3, 0.5]
    times = [{"time": time, "low_share": values} for time, values in zip((1.0, 0.25), shares, strict=True)]
    alone, grouped = (claims._of_timing({"times": times}, groups)[0] for groups in (range, claims.by_prompt(3, 1)))
    assert alone.holds
    assert not grouped.holds


def test_timing_claim_fails_if_the_maximum_is_in_between():
    """The trend is positive, but the largest value is not at T."""

    def at(time, share):
        return {"time": time, "low_share": [share, share + 0.01, share + 0.02]}

    rising = {"times": [at(1.0, 0.4), at(0.75, 0.3), at(0.25, 0.1)]}
    assert [c.holds for c in claims._of_timing(rising)] == [True]
    between = {"times": [at(1.0, 0.2), at(0.75, 0.5), at(0.5, 0.3), at(0.25, 0.1)]}
    assert "trend +0.2" in claims._of_timing(between)[0].measured
    assert [c.holds for c in claims._of_timing(between)] == [False]


def test_saturation_claim_needs_saturation_without_normalisation():
    own = {"saturated": [0.4, 0.5, 0.45]}

    def evaluated(kept, without):
        kinds = {
            name: [{"length": 4, "saturated": values}] for name, values in (("normalised", kept), ("without", without))
        }
        (claim,) = claims._of_distortion({"plain": own, "kinds": kinds})
        return claim.holds

    assert evaluated([0.42, 0.5, 0.46], [0.7, 0.8, 0.7])
    assert not evaluated([0.42, 0.5, 0.46], [0.2, 0.3, 0.25]), "without it there is less"
    assert not evaluated([0.7, 0.8, 0.7], [0.7, 0.8, 0.7]), "with it there is as much"


def test_differences_within_the_error_are_not_positive():
    assert difference([1.0, 2.0, 3.0], [0.9, 1.9, 2.88]).positive
    assert not difference([1.0, 2.0, 3.0], [0.0, 3.0, 2.9]).positive
    assert not difference([1.0], [0.0]).positive, "one sample says nothing"
    slope = trend([1.0, 0.5, 0.0], [[2.0, 3.0], [1.5, 2.0], [1.0, 1.0]])
    assert (slope.mean, slope.error) == (pytest.approx(1.5), pytest.approx(0.5))
    geodesic = {"lerp": [10.0, 12.0, 11.0], "slerp": [9.0, 11.0, 10.5], "geodesic": [8.0, 10.0, 9.2]}
    paths = {"pairs": 3, "semantic": geodesic, "same_pairs": geodesic, "lerp_segments": [[3.0, 1.0, 1.0, 3.0]] * 3}
    assert [c.holds for c in claims._of_paths(paths)][::2] == [True, True]
    assert "shorter than lerp in 3 and than slerp in 3" in claims._of_paths(paths)[2].measured
    paths["same_pairs"] = geodesic | {"geodesic": [8.0, 13.0, 9.2]}
    assert not claims._of_paths(paths)[2].holds


def test_agreement_has_the_jackknife_error():
    """An image is in several pairs of the agreement; the overlap uses pairs that have no image in common."""
    draw = torch.Generator().manual_seed(0)
    features = {
        f"a-{i}{sign}": torch.nn.functional.normalize(torch.randn(6, 5, generator=draw, dtype=torch.float64), dim=1)
        for i in range(2)
        for sign in "+-"
    }

    def mean(kept):
        found = []
        for i in range(2):
            change = (features[f"a-{i}+"] - features[f"a-{i}-"])[kept]
            found += [torch.cosine_similarity(change[a], change[b], dim=0) for b in range(len(kept)) for a in range(b)]
        return float(torch.stack(found).mean())

    without = [mean([k for k in range(6) if k != left]) for left in range(6)]
    found = estimate(scores.agreement(features, "a", 2))
    assert found.mean == pytest.approx(mean(list(range(6))))
    assert found.error == pytest.approx(5 / math.sqrt(6) * stdev(without))
    bases = torch.linalg.qr(torch.randn(7, 9, 4, generator=draw))[0].mT
    assert local._overlap(bases).shape == (3, 4)


def test_shared_directions_are_equal_for_all_images(tiny_sd_folder, monkeypatch):
    """The shared random directions are the same for all images; global ones are found in other samples."""
    model = sfumato.load(str(tiny_sd_folder), "cpu")
    study = Study(model, ("red cat", "blue dog"), Size.quick(), None)
    x, drawn = study.latents(3, 1.0), []

    def sample(*given, seed, **options):
        drawn.append(seed)
        return sample_latents(*given, seed=seed, **options)

    monkeypatch.setattr("papers.latent_geometry.study.sample_latents", sample)
    found = edits.directions(study, x)
    assert drawn == [3]
    assert torch.equal(found[edits.SHARED][0], found[edits.SHARED][2])
    assert not torch.allclose(found["random"][0], found["random"][2])
    for each in found.values():
        torch.testing.assert_close(each.flatten(2).norm(dim=2), torch.ones(3, 2, dtype=each.dtype))


def test_too_few_samples_are_refused(capsys):
    assert geometry.main(["--samples", "1"]) == 2
    assert "--samples must be at least 3" in capsys.readouterr().err


def test_axes_of_captions_and_of_pairs_are_normalised_mean_differences(tmp_path, monkeypatch):
    drawn = {}

    class Encoder:
        def text_features(self, texts):
            return torch.stack([gaussian((8,), 0, step=sum(text.encode())) for text in texts])

        def image_features(self, images):
            return images[:, :, 0, 0] * 255

    def pixels(row):
        colour = drawn.setdefault((row["name"], row["style"]), np.random.default_rng(len(drawn)).integers(0, 256, 3))
        return np.broadcast_to(colour.astype(np.uint8), (4, 4, 3)).copy()

    named = [(a, b) for pairs in attributes.ATTRIBUTES.values() for a, b in pairs.items()]
    rows = [{"name": name, "style": "noto"} for name in {name for pair in named[:-2] for name in pair}]
    monkeypatch.setattr(attributes, "read_corpus", lambda corpus: rows)
    monkeypatch.setattr(
        attributes, "read_pair", lambda corpus, size, a, b: ItemImages(pixels(a), pixels(b), np.ones((4, 4), bool))
    )
    captions, pairs = attributes.axes(Encoder(), None, 4), attributes.axes(Encoder(), tmp_path, 4)
    assert torch.allclose(captions.norm(dim=1), torch.ones(5, dtype=torch.float64))
    mood = [(a, b) for a, b in attributes.ATTRIBUTES["mood"].items()]
    texts = [(f"{a}, {style}", f"{b}, {style}") for a, b in mood for style in attributes.STYLES]
    mean = sum((Encoder().text_features([a]) - Encoder().text_features([b])).double() for a, b in texts)[0]
    assert torch.allclose(captions[3], mean / mean.norm())
    mean = sum(drawn[a, "noto"].astype(float) - drawn[b, "noto"].astype(float) for a, b in mood)
    assert torch.allclose(pairs[3], torch.from_numpy(mean / np.linalg.norm(mean)))
    rows[:] = [row for row in rows if "grinning" not in row["name"] and "ing face" not in row["name"]]
    with pytest.raises(BadInput, match="no pair of the attribute 'mood'"):
        attributes.axes(Encoder(), tmp_path, 4)
