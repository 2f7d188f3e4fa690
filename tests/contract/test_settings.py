"""The `sfumato.json` of a model folder: entries become defaults, or are refused with the file and the key."""

import json
import os
import shutil
from pathlib import Path

import pytest

import sfumato
from sfumato.api.source_plan import params_of
from sfumato.editing.registry import METHODS
from sfumato.errors import BadInput
from tests.tiny import tiny_image


@pytest.fixture
def folder(tiny_sd_folder, tmp_path):
    """A model folder whose settings can be written."""
    return Path(shutil.copytree(tiny_sd_folder, tmp_path / "mine", copy_function=os.link))


def settle(folder, content):
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "sfumato.json").write_text(text)


WRONG = [
    ("[]", "one JSON object"),
    ("", "JSON"),
    ("[" * 100_000, "JSON"),
    ({"edit": ["steps", 5]}, "'edit' must be a JSON object of options"),
    ({"edit": None}, "'edit' must be a JSON object of options"),
    ({"generate": 3}, "'generate' must be a JSON object of options"),
    ({"summary": ["a", "model"]}, "'summary' must be text"),
    ({"edit": {"steps": "50"}}, "edit: steps must be an integer (between 1 and 1000), not '50'"),
    ({"edit": {"steps": 0}}, "edit: steps must be between 1 and 1000, not 0"),
    ({"edit": {"steps": 2.5}}, "edit: steps must be an integer"),
    ({"edit": {"skip": [1]}}, "edit: skip must be an integer"),
    ({"edit": {"guidance_scale": 10**400}}, "more than 100 digits"),
    ('{"edit": {"guidance_scale": NaN}}', "edit: guidance_scale must be between 0 and 100"),
    ({"edit": {"exact": 1}}, "edit: exact must be True or False"),
    ({"edit": {"eta": 0}}, "edit: eta must be above 0"),
    ({"edit": {"stepps": 5}}, "edit: there is no option 'stepps'; there are steps"),
    ({"generate": {"guidance_scale": True}}, "generate: guidance_scale must be a number"),
    ({"generate": {"skip": 3}}, "generate: there is no option 'skip'"),
    ({"ddim": {"eta": 1.0}}, "ddim: there is no option 'eta'"),
    ({"prompt-to-prompt": {"after": {"ddim": 3}}}, "'after' must be a JSON object of inversions"),
    ({"prompt-to-prompt": {"after": {"dim": {}}}}, "'after' names no inversion 'dim'; there are edit-friendly, ddim"),
    ({"prompt-to-prompt": {"after": {"ddim": {"skip": -1}}}}, "prompt-to-prompt, ddim: skip must be between 0 and 999"),
    ({"ddim": {"after": {"ddim": {}}}}, "'after' names no inversion 'ddim'; there are none here"),
    ({"diffuseit": {"clip_folder": "some/body"}}, "diffuseit: clip_folder is the path of a file"),
    ({"edits": {}}, "no method reads 'edits'; there are generate"),
]


@pytest.mark.parametrize(("content", "words"), WRONG, ids=[words for _, words in WRONG])
def test_invalid_entry_is_refused_with_file_and_key(folder, content, words):
    settle(folder, content)
    with pytest.raises(BadInput) as caught:
        sfumato.load(folder)
    sentence = str(caught.value)
    assert words in sentence
    assert "sfumato.json" in sentence
    assert "mine" in sentence
    assert len(sentence.splitlines()) == 1


def test_valid_entries_become_defaults(folder):
    settle(folder, {"summary": "x", "edit": {"steps": 3, "guidance_scale": 2}, "generate": {"steps": 2}, "ddim": {}})
    model = sfumato.load(folder)
    inverted = model.invert(tiny_image(), "red cat")
    assert (inverted.params.steps, inverted.params.guidance_scale) == (3, 2)
    assert model.generate("red cat").report["parameters"]["steps"] == 2


def test_inversions_have_their_own_defaults(folder):
    own = {"steps": 4, "guidance_scale": 2, "after": {"ddim": {"steps": 3, "guidance_scale": 5}}}
    settle(folder, {"prompt-to-prompt": own})
    model = sfumato.load(folder)
    for inversion, steps, guidance_scale in (("edit-friendly", 4, 2), ("ddim", 3, 5), ("native-ddpm", 100, 9)):
        options = {} if inversion == "edit-friendly" else {"inversion": inversion}
        params = params_of(model.network, METHODS.find("prompt-to-prompt"), options)
        assert (params.steps, params.guidance_scale) == (steps, guidance_scale)
