"""Families of emoji that differ in one attribute only: skin tone, hair, gender or colour."""

TONES = {
    "1f3fb": "light",
    "1f3fc": "medium-light",
    "1f3fd": "medium",
    "1f3fe": "medium-dark",
    "1f3ff": "dark",
}

HAIR = {"1f9b0": "red", "1f9b1": "curly", "1f9b3": "white", "1f9b2": "bald"}

#: Sequences of two people, used where each person has a skin tone -> the code points of the pair without skin tones.
JOINED = {
    "1faf1-200d-1faf2": "1f91d",
    "1f9d1-200d-1f430-200d-1f9d1": "1f46f",
    "1f468-200d-1f430-200d-1f468": "1f46f-200d-2642",
    "1f469-200d-1f430-200d-1f469": "1f46f-200d-2640",
    "1f9d1-200d-1faef-200d-1f9d1": "1f93c",
    "1f468-200d-1faef-200d-1f468": "1f93c-200d-2642",
    "1f469-200d-1faef-200d-1f469": "1f93c-200d-2640",
    "1f469-200d-1f91d-200d-1f469": "1f46d",
    "1f469-200d-1f91d-200d-1f468": "1f46b",
    "1f468-200d-1f91d-200d-1f468": "1f46c",
    "1f9d1-200d-2764-200d-1f48b-200d-1f9d1": "1f48f",
    "1f9d1-200d-2764-200d-1f9d1": "1f491",
}

#: Emoji with separate code points for man, woman and person.
GENDERED = {
    "child": {"1f466": "man", "1f467": "woman", "1f9d2": "person"},
    "older": {"1f474": "man", "1f475": "woman", "1f9d3": "person"},
    "royal": {"1f934": "man", "1f478": "woman", "1fac5": "person"},
    "pregnant": {"1fac3": "man", "1f930": "woman", "1fac4": "person"},
    "santa": {"1f385": "man", "1f936": "woman", "1f9d1-200d-1f384": "person"},
}

#: Code point of a man or woman -> code point of the person.
NEUTRAL = {
    "1f468": "1f9d1",
    "1f469": "1f9d1",
    "1f466": "1f9d2",
    "1f467": "1f9d2",
    "1f474": "1f9d3",
    "1f475": "1f9d3",
    "1f934": "1fac5",
    "1f478": "1fac5",
    "1fac3": "1fac4",
    "1f930": "1fac4",
}

#: Emoji -> the emoji of which it is a variant in gender or hair, where the code points do not show this.
SAME_BASE = {
    "1f471": "1f9d1",  # blond hair
    "1f9d4": "1f9d1",  # beard
    "1f385": "1f9d1-200d-1f384",  # Santa Claus, Mrs. Claus, Mx Claus
    "1f936": "1f9d1-200d-1f384",
    "1f57a": "1f483",  # man and woman dancing
    "1f46b": "1f9d1-200d-1f91d-200d-1f9d1",  # two people holding hands
    "1f46c": "1f9d1-200d-1f91d-200d-1f9d1",
    "1f46d": "1f9d1-200d-1f91d-200d-1f9d1",
    "1f46a": "1f9d1-200d-1f9d1-200d-1f9d2",  # family
}

#: Emoji that differ only in colour; the first of each family is its base emoji.
COLOUR_FAMILIES = {
    "heart": {
        "2764": "red",
        "1fa77": "pink",
        "1f9e1": "orange",
        "1f49b": "yellow",
        "1f49a": "green",
        "1f499": "blue",
        "1fa75": "light blue",
        "1f49c": "purple",
        "1f90e": "brown",
        "1f5a4": "black",
        "1fa76": "grey",
        "1f90d": "white",
    },
    "circle": {
        "1f534": "red",
        "1f7e0": "orange",
        "1f7e1": "yellow",
        "1f7e2": "green",
        "1f535": "blue",
        "1f7e3": "purple",
        "1f7e4": "brown",
        "26ab": "black",
        "26aa": "white",
    },
    "square": {
        "1f7e5": "red",
        "1f7e7": "orange",
        "1f7e8": "yellow",
        "1f7e9": "green",
        "1f7e6": "blue",
        "1f7ea": "purple",
        "1f7eb": "brown",
        "2b1b": "black",
        "2b1c": "white",
    },
    "book": {"1f4d5": "red", "1f4d7": "green", "1f4d8": "blue", "1f4d9": "orange"},
    "large diamond": {"1f536": "orange", "1f537": "blue"},
    "small diamond": {"1f538": "orange", "1f539": "blue"},
    "apple": {"1f34e": "red", "1f34f": "green"},
    "cat": {"1f408": "orange", "1f408-200d-2b1b": "black"},
    "bird": {"1f426": "blue", "1f426-200d-2b1b": "black"},
    "exclamation mark": {"2757": "red", "2755": "white"},
    "question mark": {"2753": "red", "2754": "white"},
    "medium square": {"25fc": "black", "25fb": "white"},
    "medium-small square": {"25fe": "black", "25fd": "white"},
    "small square": {"25aa": "black", "25ab": "white"},
}
