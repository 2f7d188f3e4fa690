import re

import pytest

from sfumato.data.emoji.attribution import attribution, licence_text
from sfumato.data.emoji.sources import NPM, STYLES, WHEELS, choose_styles, packages_for
from sfumato.errors import BadInput

SHAREALIKE = {"openmoji", "openmoji-line", "emojione-v1"}


def names(styles):
    return {style.name for style in styles}


def test_default_is_the_ten_permissive_styles():
    assert len(names(choose_styles(None, sharealike=False, pypi=False))) == 10
    assert all(s.licence in ("MIT", "Apache-2.0", "CC-BY-4.0")
               for s in choose_styles(None, sharealike=False, pypi=False))  # fmt: skip


def test_share_alike_styles_require_the_flag():
    default, with_flag = (choose_styles(None, sharealike=flag, pypi=False) for flag in (False, True))
    assert names(with_flag) - names(default) == SHAREALIKE
    for name in SHAREALIKE:
        assert STYLES[name].tier == "sharealike"
        with pytest.raises(BadInput, match="share-alike"):
            choose_styles([name], sharealike=False, pypi=False)
        assert names(choose_styles([name], sharealike=True, pypi=False)) == {name}


def test_3d_renders_are_not_available():
    assert not any("3d" in name for name in (*STYLES, *NPM, *(p.name for p in NPM.values())))
    with pytest.raises(BadInput, match="fluent-3d"):
        choose_styles(["fluent-3d"], sharealike=True, pypi=False)


def test_pypi_styles_are_those_of_the_wheels():
    assert names(choose_styles(None, sharealike=False, pypi=True)) == {"twemoji"}
    assert names(choose_styles(None, sharealike=True, pypi=True)) == set(WHEELS)
    with pytest.raises(BadInput, match="PyPI"):
        choose_styles(["noto"], sharealike=False, pypi=True)


def test_no_style_and_unknown_styles_are_refused():
    with pytest.raises(BadInput, match="choose from: fluent-color"):
        choose_styles(["impressionism"], sharealike=True, pypi=False)
    with pytest.raises(BadInput, match="No style"):
        choose_styles([], sharealike=True, pypi=False)


def test_packages_are_pinned_and_only_needed_ones_selected():
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", p.version) for p in NPM.values())
    assert packages_for([STYLES["twemoji"]]) == ["twemoji"]
    assert set(packages_for([STYLES["fluent-color"]])) == {"fluent-emoji", "fluent-emoji-flat"}
    assert "emojibase-data" in packages_for([STYLES["streamline"]])


@pytest.mark.parametrize("sharealike", [False, True])
def test_attribution_names_every_holder_and_licence(sharealike):
    styles = choose_styles(None, sharealike=sharealike, pypi=False)
    text = attribution(styles, 128)
    for style in styles:
        assert style.credit.holder in text
        assert style.name in text
        assert f"licences/{style.licence}.txt" in text
    assert ("CC-BY-SA" in text) is sharealike
    assert "Unicode, Inc." in text


@pytest.mark.parametrize(
    ("licence", "words"),
    [
        ("MIT", ["Copyright (c) Microsoft Corporation", "WITHOUT WARRANTY OF ANY KIND"]),
        ("Apache-2.0", ["Version 2.0, January 2004", "9. Accepting Warranty"]),
        ("CC-BY-4.0", ["Attribution 4.0 International", "Section 8 -- Interpretation", "Section 3 -- License"]),
        ("CC-BY-SA-4.0", ["Attribution-ShareAlike 4.0", "Section 8 -- Interpretation"]),
        ("Unicode-3.0", ["UNICODE LICENSE V3", "Unicode, Inc."]),
        ("emojibase-data", ["Miles Johnson"]),
    ],
)
def test_licence_texts_are_complete(licence, words):
    text = licence_text(licence)
    assert all(word in text for word in words)
