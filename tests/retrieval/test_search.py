"""Search equals a full computation in numpy, with filters, weights, and exact and approximate indices."""

import re

import numpy as np
import pytest

from sfumato.errors import BadInput
from sfumato.retrieval.columns import VECTORS
from sfumato.retrieval.database import build_ann
from sfumato.retrieval.files import ImageFile, image_files
from sfumato.retrieval.index import ImageIndex
from sfumato.retrieval.query import Query, QueryPart
from sfumato.retrieval.search import search
from sfumato.retrieval.triplets import read_images
from tests.retrieval.conftest import indexed


def wanted_order(index, query, where=lambda row: True):
    rows = [row for row in index.table.to_arrow().to_pylist() if where(row)]
    scores = [
        sum(w * np.dot(row[VECTORS[name]], query.vectors[name]) for name, w in query.weights.items()) for row in rows
    ]
    order = np.argsort([-score for score in scores], kind="stable")
    return [rows[i]["path"] for i in order], sorted(scores, reverse=True)


@pytest.fixture
def query(index, describers, images):
    files = image_files(images)
    found = {
        "content": QueryPart(images=[files[3]]).vector(describers, "content"),
        "style": QueryPart(images=files[5:7]).vector(describers, "style"),
    }
    return Query.of(found, {"content": 3, "style": 1})


@pytest.mark.parametrize("weights", [{"style": 0}, {"content": 0}, {"content": 3}, {}])
@pytest.mark.parametrize("count", [1, 7, 100])
def test_exact_search_matches_the_full_computation(index, query, weights, count):
    query = Query.of(query.vectors, weights)
    paths, scores = wanted_order(index, query)
    found = search(index, query, count)
    assert [hit.row["path"] for hit in found] == paths[:count]
    np.testing.assert_allclose([hit.score for hit in found], scores[:count], atol=1e-5)
    assert all(hit.score == pytest.approx(sum(query.weights[m] * hit.cosines[m] for m in hit.cosines)) for hit in found)


def test_filters_are_applied_before_the_search(index, query):
    paths, _ = wanted_order(index, query, lambda row: row["folder"] == "two")
    assert [hit.row["path"] for hit in search(index, query, 5, where="folder = 'two'")] == paths[:5]
    with pytest.raises(BadInput, match=r"No image of .* satisfies the condition"):
        search(index, query, where="folder = 'three'")
    for wrong in ("nosuch = 'two'", "folder ="):
        with pytest.raises(BadInput, match=r"cannot be evaluated .*columns are path, .*folder"):
            search(index, query, where=wrong)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ("folder = 'two' path = 'x'", 'AND, OR or the end must follow, not "path"'),
        ("folder = 'two' ORDER BY path", 'AND, OR or the end must follow, not "ORDER"'),
        ("folder = 'two' LIMIT 1", 'not "LIMIT"'),
        ("folder = 'two'; DROP TABLE images", 'not ";"'),
        ("folder = 'two', bytes > 0", "not supported SQL"),
        ("(folder = 'two' path = 'x')", 'not "path"'),
        ("folder = 'two' AND (bytes > 0", "a parenthesis is not closed"),
        ("-- folder = 'two'", "Expected: an expression"),
        ("folder = 'two' /* twice", "in a multi-line comment"),
    ],
)
def test_condition_that_is_not_one_expression_is_refused(index, query, where, reason, exact):
    """LanceDB evaluates the first complete expression and ignores what follows."""
    with pytest.raises(BadInput, match=re.escape(f'The condition "{where}" cannot be evaluated')) as refused:
        search(index, query, where=where, exact=exact)
    assert reason in str(refused.value)
    assert "columns are path" in str(refused.value)
    assert "\n" not in str(refused.value)
    with pytest.raises(BadInput, match="cannot be evaluated"):
        read_images(index, where)


def test_complete_conditions_are_evaluated(index, query):
    (first,) = index.table.search().where("folder = 'two'").limit(1).select(["path"]).to_arrow()["path"].to_pylist()
    for where, holds in (
        ("folder = 'two' -- and nothing else", lambda row: row["folder"] == "two"),
        ("folder = 'two' /* or one */", lambda row: row["folder"] == "two"),
        (f"folder = 'one'\n OR (path = '{first}')", lambda row: row["folder"] == "one" or row["path"] == first),
        ("folder <> 'a); -- b'", lambda row: True),
        ("folder IN ('one', 'two') AND NOT folder = 'one'", lambda row: row["folder"] == "two"),
    ):
        paths, _ = wanted_order(index, query, holds)
        assert [hit.row["path"] for hit in search(index, query, 100, where=where)] == paths, where
        assert read_images(index, where).paths == sorted(paths)


def test_image_is_its_own_best_match(index, describers, images):
    for file in image_files(images)[:5]:
        for modality in ("content", "style"):
            vector = QueryPart(images=[file]).vector(describers, modality)
            best = search(index, Query.of({modality: vector}, {}), 1)[0]
            assert best.score == pytest.approx(1, abs=1e-4)
            assert best.row["path"] == str(file.path)


def test_texts_and_images_are_averaged(describers, images):
    file = image_files(images)[0]
    both = QueryPart(images=[file], texts=["flat"]).vector(describers, "style")
    mean = QueryPart(images=[file]).vector(describers, "style") + QueryPart(texts=["flat"]).vector(describers, "style")
    np.testing.assert_allclose(both, mean / np.linalg.norm(mean), atol=1e-6)
    assert QueryPart().vector(describers, "content") is None
    assert QueryPart(texts=["red apple"]).vector(describers, "content").shape == (10,)
    with pytest.raises(BadInput, match="text is empty"):
        QueryPart(texts=[" "]).vector(describers, "content")


def test_invalid_weights_are_rejected(query):
    for weights, sentence in (
        ({"content": 0, "style": 0}, "are all 0"),
        ({"content": -1}, "at least 0"),
        ({"style": float("nan")}, "at least 0"),
    ):
        with pytest.raises(BadInput, match=sentence):
            Query.of(query.vectors, weights)
    with pytest.raises(BadInput, match="nothing to search for"):
        Query.of({}, {})
    with pytest.raises(BadInput, match=r"a weight of the style, but no style to search for: give .* style words"):
        Query.of({"content": query.vectors["content"]}, {"style": 1})


def test_an_empty_index_and_a_count_of_zero_are_refused(tmp_path, describers, images, query, index):
    empty = ImageIndex.create(str(tmp_path / "empty"), describers, image_files(images))
    with pytest.raises(BadInput, match="is empty: run `sfumato index`"):
        search(empty, query)
    with pytest.raises(BadInput, match="at least 1, not 0"):
        search(index, query, 0)
    with pytest.raises(BadInput, match="have 12 numbers, not 3"):
        search(index, Query.of({"style": np.ones(3, np.float32)}, {}))


def test_approximate_search_with_all_lists_is_exact(tmp_path, describers, images, query, monkeypatch):
    """Rows that were added after the approximate index was built are found too."""
    files = image_files(images)
    index = ImageIndex.create(str(tmp_path / "index"), describers, files[:20])
    draw = np.random.default_rng(0)

    def rows(first, count):
        vectors = {
            name: draw.standard_normal((count, d)).astype(np.float32) for name, d in (("content", 10), ("style", 12))
        }
        vectors = {name: each / np.linalg.norm(each, axis=1, keepdims=True) for name, each in vectors.items()}
        return [{"path": str(i), "folder": "one"} for i in range(first, first + count)], vectors

    index.add(*rows(0, 600))
    for column in VECTORS.values():
        build_ann(index.table, column)
    index.add(*rows(600, 100))
    for weights in ({}, {"style": 0}, {"content": 0}):
        chosen = Query.of(query.vectors, weights)
        exact = search(index, chosen, 10, exact=True)
        found = search(index, chosen, 10, exact=False, probes=1000)
        if len(chosen.modalities) == 1:
            assert [hit.row["path"] for hit in found] == [hit.row["path"] for hit in exact]
        assert found[0].score == pytest.approx(exact[0].score, abs=1e-6)
    monkeypatch.setattr("sfumato.retrieval.index.ANN_ROWS", 100)
    index.finish()
    assert {column for each in index.table.list_indices() for column in each.columns} == set(VECTORS.values())


def test_approximate_search_with_a_condition_finds_enough_images(tmp_path, describers, images, query):
    """The list that is nearest to the query has only a few of the images that satisfy the condition."""
    index = ImageIndex.create(str(tmp_path / "index"), describers, image_files(images))
    draw, count = np.random.default_rng(0), 640
    vectors = {
        name: draw.standard_normal((count, d)).astype(np.float32) for name, d in (("content", 10), ("style", 12))
    }
    vectors = {name: each / np.linalg.norm(each, axis=1, keepdims=True) for name, each in vectors.items()}
    index.add([{"path": str(i), "folder": "rare" if i % 40 == 0 else "one"} for i in range(count)], vectors)
    from lancedb.index import IvfSq  # takes two seconds

    for column in VECTORS.values():
        index.table.create_index(column, config=IvfSq(distance_type="cosine", num_partitions=16))
    for weights in ({}, {"style": 0}):
        chosen = Query.of(query.vectors, weights)
        exact = search(index, chosen, 10, where="folder = 'rare'", exact=True)
        found = search(index, chosen, 10, where="folder = 'rare'", exact=False, probes=1)
        assert [hit.row["path"] for hit in found] == [hit.row["path"] for hit in exact]


def test_missing_query_file_is_rejected(tmp_path, describers):
    with pytest.raises(BadInput, match="nosuch"):
        QueryPart(images=[ImageFile(tmp_path / "nosuch.png")]).vector(describers, "content")


def test_index_can_be_opened_by_file_uri(index, describers, images):
    same = ImageIndex.open(f"file://{index.uri}")
    assert len(same) == len(index)
    again, state = indexed(f"file://{index.uri}", describers, images)
    assert state.added == 0
    assert again.about == index.about
