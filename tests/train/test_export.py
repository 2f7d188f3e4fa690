"""An export takes the place of the old model whole, or leaves it."""

import pytest

from sfumato.train.export import replacing


def old_model(folder):
    folder.mkdir()
    (folder / "weights").write_text("old")
    return folder


def test_the_new_folder_takes_the_place_of_the_old(tmp_path):
    folder = old_model(tmp_path / "model")
    with replacing(folder) as beside:
        (beside / "weights").write_text("new")
        assert (folder / "weights").read_text() == "old"
    assert (folder / "weights").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_after_an_error_the_old_model_is_as_it_was(tmp_path):
    folder = old_model(tmp_path / "model")
    with pytest.raises(ZeroDivisionError), replacing(folder):
        1 / 0  # noqa: B018
    assert (folder / "weights").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_kill_between_the_renamings_costs_nothing(tmp_path):
    folder = old_model(tmp_path / "model")
    folder.rename(tmp_path / ".model.replaced")
    with pytest.raises(ZeroDivisionError), replacing(folder):
        1 / 0  # noqa: B018
    assert (folder / "weights").read_text() == "old"


def test_a_failed_renaming_puts_the_old_model_back(tmp_path):
    folder = old_model(tmp_path / "model")
    with pytest.raises(FileNotFoundError), replacing(folder) as beside:
        beside.rename(tmp_path / "elsewhere")
    assert (folder / "weights").read_text() == "old"
