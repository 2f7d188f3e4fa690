"""How methods are found: each is one file, ours or another package's, and a broken one harms nobody else."""

import pytest

import sfumato.methods
from sfumato.errors import BadInput
from sfumato.methods import registry
from sfumato.methods.edit_friendly import EditFriendlyParams, edit, invert
from sfumato.methods.registry import HANDLES, get_method, methods, unloaded
from tests.strangers import METHOD


def test_a_method_is_one_file(strangers, monkeypatch, tmp_path):
    """`strangers` gives the registry back afterwards."""
    (tmp_path / "dropped_in.py").write_text(METHOD.format(name="dropped-in", before="", after="", handles=("latent",)))
    (tmp_path / "helper_of_methods.py").write_text("VALUE = 1")
    monkeypatch.setattr(sfumato.methods, "__path__", [*sfumato.methods.__path__, str(tmp_path)])
    assert get_method("dropped-in").handles == ("latent",)
    assert list(methods()) == sorted(methods())


def test_another_package_is_loaded_once(strangers):
    strangers("lender", "borrowed", handles=("attention", "noise"))
    assert get_method("borrowed").handles == ("attention", "noise")
    assert methods()["borrowed"] is methods()["borrowed"]
    assert unloaded() == []


BROKEN = {
    "ModuleNotFoundError: No module named 'nosuch'": {"before": "import nosuch"},
    "SyntaxError": {"before": "def ("},
    "SystemExit: 3": {"before": "raise SystemExit(3)"},
    "ZeroDivisionError: division by zero": {"after": "1 / 0"},
    "BadInput: There are two methods called 'broken'": {
        "before": METHOD.format(name="broken", before="", after="", handles=())
    },
    "BadInput: The method 'broken' moves 'colour', which is none of": {"handles": ("colour",)},
}


@pytest.mark.parametrize("reason", BROKEN)
def test_a_package_that_fails_is_named_and_harms_nobody_else(strangers, reason):
    strangers("careless", "broken", **BROKEN[reason])
    strangers("lender", "borrowed")
    known = methods()
    assert {"borrowed", "edit-friendly", "ddim"} <= set(known)
    assert "broken" not in known
    (failure,) = unloaded()
    assert (failure.name, failure.package) == ("broken", "careless")
    assert reason in failure.reason
    with pytest.raises(BadInput, match="'broken' of the package careless cannot be loaded") as caught:
        get_method("broken")
    assert "\n" not in str(caught.value)
    with pytest.raises(BadInput, match="choose one of"):
        get_method("nosuch")


def test_a_name_is_taken_once():
    with pytest.raises(BadInput, match="two methods called 'ddim'"):
        registry.method("ddim", summary="again", params=EditFriendlyParams, invert=invert)(edit)


def test_every_method_says_what_it_moves(method):
    assert set(method.handles) <= set(HANDLES)
