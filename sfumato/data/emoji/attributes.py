"""Edit attributes of an emoji, derived from its code points: skin tone, gender, hair, colour.

A `*_key` identifies a family of emoji: two images of one style with the same key and different values of that attribute
form a pair that differs only in this attribute.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from sfumato.data.emoji.families import (
    COLOUR_FAMILIES,
    GENDERED,
    HAIR,
    JOINED,
    NEUTRAL,
    SAME_BASE,
    TONES,
)

_PERSON = {"1f468": "man", "1f469": "woman", "1f9d1": "person"}
_PEOPLE = {"1f466", "1f467", "1f468", "1f469", "1f9d1", "1f9d2"}
_SIGN = {"2640": "woman", "2642": "man"}
_FACING_RIGHT = "-200d-27a1"
_COLOUR_OF = {key: (family, colour) for family, d in COLOUR_FAMILIES.items() for key, colour in d.items()}
_GENDER_OF = {key: (family, gender) for family, d in GENDERED.items() for key, gender in d.items()}
_FAMILY_HEAD = {key: next(iter(d)) for d in COLOUR_FAMILIES.values() for key in d}


@dataclass(frozen=True)
class EditAttributes:
    """Values and family keys of the edit attributes of an emoji.

    Values and keys of an attribute that the emoji does not have are empty strings.
    """

    untoned: str
    base: str
    skin_tone: str
    gender: str
    hair: str
    colour: str
    tone_key: str
    gender_key: str
    hair_key: str
    colour_key: str


def is_toned(codepoints: str) -> bool:
    """Whether the emoji has a skin tone."""
    return any(token in TONES for token in codepoints.split("-"))


def untoned(codepoints: str) -> str:
    """Code points of the emoji without skin tones; sequences of two people become the pair without tones (`JOINED`)."""
    plain = "-".join(token for token in codepoints.split("-") if token not in TONES)
    return JOINED.get(plain, plain)


def base_of(codepoints: str) -> str:
    """Code points of the emoji without skin tone, gender, hair, colour and direction; the splits are by these."""
    plain = untoned(codepoints).removesuffix(_FACING_RIGHT)
    tokens = [NEUTRAL.get(token, token) for token in plain.split("-")]
    neutral = "-".join(tokens).replace("-200d-2640", "").replace("-200d-2642", "")
    parts = neutral.split("-200d-")
    if parts[0] == "1f9d1" and parts[1:] and parts[1] in HAIR:
        return parts[0]
    neutral = JOINED.get(neutral, neutral)
    neutral = SAME_BASE.get(neutral, neutral)
    return _FAMILY_HEAD.get(neutral, neutral)


class AttributeReader:
    """Derive `EditAttributes` from code points.

    Args:
        known: code points of all emoji. An emoji has a skin tone or gender key only if a variant of it exists.
    """

    def __init__(self, known: Iterable[str]) -> None:
        self._known = set(known)
        self._tonable = {untoned(key) for key in self._known if is_toned(key)}

    def __call__(self, codepoints: str) -> EditAttributes:
        """Attributes of the emoji with this `codepoint_key`."""
        plain = untoned(codepoints)
        tone = "+".join(TONES[token] for token in codepoints.split("-") if token in TONES)
        gender, family = self._gender(plain)
        hair, hair_family = _hair(gender, family)
        colour_key, colour = _COLOUR_OF.get(plain, ("", ""))
        return EditAttributes(
            untoned=plain,
            base=base_of(codepoints),
            skin_tone=tone,
            gender=gender,
            hair=hair,
            colour=colour,
            tone_key=plain if plain in self._tonable else "",
            gender_key=f"{family}/{tone}" if family else "",
            hair_key=f"{hair_family}/{tone}" if hair_family else "",
            colour_key=colour_key,
        )

    def _gender(self, plain: str) -> tuple[str, str]:
        """Gender, and key of the family that differs only in gender; or two empty strings."""
        tokens = plain.split("-")
        for sign, gender in _SIGN.items():
            if sign in tokens[1:]:
                at = tokens.index(sign, 1)
                return gender, "-".join(tokens[: at - 1] + tokens[at + 1 :])
        if plain in _GENDER_OF:
            family, gender = _GENDER_OF[plain]
            return gender, family
        if tokens[0] in _PERSON and sum(token in _PEOPLE for token in tokens) == 1:
            return _PERSON[tokens[0]], "-".join(["person", *tokens[1:]])
        has_sibling = any(f"{plain}-200d-{sign}" in self._known for sign in _SIGN)
        return ("person", plain) if has_sibling else ("", "")


def _hair(gender: str, family: str) -> tuple[str, str]:
    styles = {"person": "default", "1f471": "blond", "1f9d4": "beard"}
    styles |= {f"person-200d-{token}": hair for token, hair in HAIR.items()}
    return (styles[family], f"hair/{gender}") if family in styles else ("", "")
