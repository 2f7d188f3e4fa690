import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfumato.data.emoji.attributes import AttributeReader, base_of, is_toned, untoned
from sfumato.data.emoji.names import (
    NameResolver,
    cldr_slugs,
    codepoint_key,
    emoji_table,
    fxemoji_names,
    shortcode_slugs,
    slugify,
    unicode_slugs,
)

TABLE = emoji_table()
REAL = [key for key, emoji in TABLE.items() if emoji.group not in ("component", "flags")]
BY_NAME = {emoji.name: key for key, emoji in TABLE.items()}
ICONS = json.loads(gzip.decompress((Path(__file__).parent / "icon_names.json.gz").read_bytes()))


def test_table_contains_unicode_17():
    assert len(REAL) == 3674
    assert sum(not is_toned(key) for key in REAL) == 1644
    assert TABLE["1f34e"].name == "red apple"


@pytest.mark.parametrize("left_out", ["noto", "twemoji"])
def test_resolver_finds_all_icons_without_their_own_table(left_out):
    tables = [
        {name: key for icon, (key, *aliases) in names.items() for name in (icon, *aliases)}
        for package, names in ICONS.items()
        if package != left_out
    ]
    resolve = NameResolver([cldr_slugs(TABLE), *tables, unicode_slugs(TABLE)])
    found = {icon: resolve([icon, *aliases]) for icon, (_, *aliases) in ICONS[left_out].items()}
    assert len(found) == len(REAL)
    assert found == {icon: key for icon, (key, *_) in ICONS[left_out].items()}


def test_resolver_uses_tables_in_order_and_hyphens_last():
    resolve = NameResolver([{"a": "1"}, {"a": "2", "b-c": "3"}])
    assert resolve(["a"]) == "1"
    assert resolve(["zz", "a"]) == "1"
    assert resolve(["bc"]) == "3"
    assert resolve(["zz"]) is None


def test_shortcodes_are_inverted_to_slugs():
    assert shortcode_slugs({"1F34E": ["apple", "red_apple"], "FFFFF": "none"}, TABLE) == {
        "apple": "1f34e",
        "red-apple": "1f34e",
    }


def test_fxemoji_table_names_known_code_points():
    assert fxemoji_names()["acorn"] == "1f330"
    assert sum(key in TABLE for key in fxemoji_names().values()) > 800


@given(st.lists(st.integers(1, 0x1FFFF).filter(lambda c: c != 0xFE0F), min_size=1, max_size=6))
def test_codepoint_key_ignores_case_zeros_and_presentation(points):
    key = "-".join(f"{p:x}" for p in points)
    assert codepoint_key("_".join(f"{p:05X}" for p in points) + "-FE0F") == key
    assert codepoint_key(key) == key


def test_slugify_normalises_punctuation_and_accents():
    assert slugify("woman’s hat & Åbc") == "womans-hat-and-abc"


@given(st.sampled_from(REAL))
def test_base_and_untoned_are_idempotent(key):
    assert untoned(key) in TABLE
    assert not is_toned(untoned(key))
    assert base_of(key) == base_of(untoned(key)) == base_of(base_of(key))


@pytest.mark.parametrize(
    "family",
    [
        ["man judge: dark skin tone", "woman judge", "judge", "judge: light skin tone"],
        ["man", "woman", "person", "woman: red hair", "man: bald", "person: white hair", "woman: curly hair",
         "man: dark skin tone, bald", "person: blond hair", "woman: blond hair", "person: beard", "man: beard"],
        ["red heart", "pink heart", "orange heart", "yellow heart", "green heart", "blue heart",
         "light blue heart", "purple heart", "brown heart", "black heart", "grey heart", "white heart"],
        ["boy", "girl", "child"],
        ["prince", "princess", "person with crown"],
        ["Santa Claus", "Mrs. Claus", "Mx Claus"],
        ["woman dancing", "man dancing"],
        ["person running", "woman running: facing right", "man running"],
        ["handshake", "handshake: light skin tone, dark skin tone"],
        ["people holding hands", "women holding hands", "woman and man holding hands"],
        ["kiss", "kiss: woman, man", "kiss: person, person, light skin tone, dark skin tone"],
        ["red apple", "green apple"],
    ],
    ids=lambda names: names[0],
)  # fmt: skip
def test_a_family_shares_one_base(family):
    assert len({base_of(BY_NAME[name]) for name in family}) == 1


@pytest.mark.parametrize(
    "pair", [("judge", "farmer"), ("red heart", "heart on fire"), ("man", "boy"), ("cat", "cat face")]
)
def test_different_contents_have_different_bases(pair):
    assert len({base_of(BY_NAME[name]) for name in pair}) == 2


def test_family_members_differ_only_in_their_attribute():
    read = AttributeReader(TABLE)
    axes = ("skin_tone", "gender", "hair", "colour")
    for key_name, axis in zip(("tone_key", "gender_key", "hair_key", "colour_key"), axes, strict=True):
        others = [a for a in axes if a != axis]
        if axis == "hair":
            others.remove("colour")
        families: dict[str, set[tuple[str, ...]]] = {}
        for key in REAL:
            attributes = read(key)
            if family := getattr(attributes, key_name):
                assert getattr(attributes, axis) or axis == "skin_tone"
                families.setdefault(family, set()).add(tuple(getattr(attributes, a) for a in others))
        assert families
        assert all(len(values) == 1 for values in families.values())


def test_attributes_of_one_emoji():
    a = AttributeReader(TABLE)(BY_NAME["woman judge: dark skin tone"])
    assert (a.skin_tone, a.gender, a.hair, a.colour) == ("dark", "woman", "", "")
    assert a.untoned == a.tone_key == BY_NAME["woman judge"]
    assert a.gender_key == AttributeReader(TABLE)(BY_NAME["man judge: dark skin tone"]).gender_key
