"""Notes before a run (sizes far from the native size, prompt syntax of other tools), and progress of long steps."""

import time

import pytest

from sfumato.api.notes import prompt_note, size_note
from sfumato.cli import progress
from sfumato.models.load import load_model
from tests.tiny import tiny_image

PLAIN = (
    "a cat (sitting) on a mat",
    "red heart: a symbol (see page 12:30)",
    "C++ logo, 3D render",
    "well-known, state-of-the-art -- really",
    "a sign that says [EXIT]",
    "A CAT AND A DOG",
    "a cat and a dog, break of day",
    "50% blue | 50% red",
    "price < 3 and > 2",
    "a+b, x + y, a cat + a dog",
    "A+ grade, 18+ sign, AB- blood, S23+ phone",
    "Disney+ logo, a disney+ logo, Canal+, an LGBTQ+ flag",
    "Notepad++ window, notepad++, g++",
    "pre- and post-war, two- or three-legged, black- and white",
    'he said "hi" - and a "hello" sign, a "why"- look',
    'a 5"x7"+ print',
    "a sign that says [exit], the word [open], a sign reading [closed]",
    "a typo [sic], a photo [1920], [Unsplash]",
    "a cat.and a dog (both), the end. And more (or less)",
    "a blend (mixed) of red and blue, swap (meet)",
    "",
)
SYNTAX = {
    "a (fluffy:1.3) cat": "(fluffy:1.3)",
    "(a very fluffy cat : 0.8), oil": "(a very fluffy cat : 0.8)",
    "a ((red)) hat": "((red))",
    "a {{red}} hat": "{{red}}",
    "a fluffy++ cat": "fluffy++",
    "a cat, blurry--": "blurry--",
    "(a red hat)1.4 on a cat": ")1.4",
    "(red hat)+ on a cat": ")+",
    "a [cat:dog:0.4] outside": "[cat:dog:0.4]",
    "a [dog:12] outside": "[dog:12]",
    "a [cat|dog] outside": "[cat|dog]",
    "a {red|blue} hat": "{red|blue}",
    "a __colour__ hat": "__colour__",
    "a cat <lora:ink:0.7>": "<lora:ink:0.7>",
    "a cat <hypernet:old:1>": "<hypernet:old:1>",
    "embedding:badhands, a cat": "embedding:badhands",
    "a cat BREAK a dog": "BREAK",
    "a cat AND a dog": "AND",
    "a cat --ar 16:9 --v 5": "--ar",
    "cat::2 dog": "::2",
    r"(cat \(blue\):1.3), sky": r"(cat \(blue\):1.3)",
    r"(cat \(blue\):2), sky": r"(cat \(blue\):2)",
    "a (red:1.) cat": "(red:1.)",
    "((a cat:1.2) on a mat:1.1)": "(a cat:1.2)",
    "(a cat (blue):1.3)": "):1.3)",
    "blue+ hat": "blue+",
    "a hat, fluffy+, red": "fluffy+",
    'a "blue hat"+ on a cat': '"blue hat"+',
    'a "blue hat"--': '"blue hat"--',
    'a "blue hat"1.3': '"blue hat"1.3',
    "a [blue] hat": "[blue]",
    "a [very blue, old] hat": "[very blue, old]",
    '("a cat", "a dog").and()': ").and(",
    '("blue sphere", "red cube").blend(0.25,0.75)': ").blend(",
    "a cat.swap(dog) on a mat": "cat.swap(",
    '("cat").swap("dog")': ").swap(",
}


@pytest.mark.parametrize("prompt", PLAIN)
def test_plain_punctuation_gives_no_note(prompt):
    assert prompt_note(prompt) == ""


@pytest.mark.parametrize("prompt", SYNTAX)
def test_syntax_of_other_tools_is_quoted_in_a_note(prompt):
    note = prompt_note(prompt)
    assert f'"{SYNTAX[prompt]}" (' in note
    assert note.count(". ") == 0, "one sentence"


def test_prompt_weights_limit_notes_to_unsupported_syntax():
    for prompt in ("a (cat:1.4)", r"a (cat \(blue\):2)", "a (red:1.) cat"):
        assert prompt_note(prompt, weighted=True) == ""
    note = prompt_note("a ((cat)) [cat|dog]", weighted=True)
    assert '"((cat))" (weights: write (word:1.4))' in note
    assert '"[cat|dog]" (alternatives' in note
    assert '"[blue]" (weights: write (word:1.4))' in prompt_note("a [blue] hat", weighted=True)


def test_each_kind_of_syntax_is_reported_once():
    note = prompt_note("(red:1.2) (blue:0.8) hat <lora:ink:0.7>")
    assert note.count("--reweight") == 1
    assert "--lora FILE" in note
    assert "--prompt-weights" in note


@pytest.mark.parametrize(
    ("size", "told"),
    [((32, 32), ""), ((64, 64), ""), ((32, 120), ""), ((16, 16), ""), ((66, 64), "repeats"), ((15, 16), "blurs"),
     ((2016, 1512), "2,977 times"), ((8, 100), ""), ((4, 250), "blurs"),
     ((1000, 1), "blurs")],
)  # fmt: skip
def test_sizes_beyond_half_or_twice_the_native_get_notes(tiny_sd_folder, size, told):
    network = load_model(tiny_sd_folder, "cpu")
    note = size_note(network, "cat.png", size)
    assert network.native_size == (32, 32)
    assert bool(note) == bool(told)
    assert told in note
    assert not note or (f"cat.png is {size[0]} x {size[1]} pixels" in note and "32 x 32" in note)


def test_commands_print_notes_and_add_them_to_json(sfumato, folder, tiny_sd_folder):
    tiny_image(96, 90).save(folder / "large.png")
    model = ("--model", tiny_sd_folder, "--steps", 2)
    prompts = ("--from", "red (apple:1.2)", "--to", "green apple")
    run = sfumato("edit", "large.png", *prompts, *model, "--skip", 0, "--json", "-o", "out.png")
    assert run.code == 0, run.err
    assert [line.partition(": ")[2] for line in run.err.splitlines()] == run.json["notes"]
    assert "large.png is 96 x 90 pixels" in run.json["notes"][0]
    assert '"(apple:1.2)"' in run.json["notes"][1]
    film = ("large.png", "large.png", "--from", "a [cat|dog]", "dog", "--frames", 2)
    for words, remedy in (
        (("generate", "a [cat|dog]", "--size", "96x88", *model, "-o", "new.png"), "leave --size out"),
        (("interpolate", *film, *model, "-o", "film"), "scale both images"),
        (("invert", "large.png", "--from", "a [cat|dog]", *model, "-o", "large.safetensors"), "--resolution sets"),
    ):
        run = sfumato(*words)
        assert run.code == 0, run.err
        assert ["96 x " in line for line in run.err.splitlines()] == [True, False]
        assert remedy in run.err
        assert ("--resolution" in run.err) == (words[0] == "invert")
        assert '"[cat|dog]"' in run.err
    assert sfumato("edit", "photo.png", *prompts[:1], "red apple", *prompts[2:], *model, "-o", "out.png").err == ""


def test_a_long_step_is_reported_again(monkeypatch, capsys):
    monkeypatch.setattr(progress, "_SILENT", 0.5)
    with progress.progress() as show:
        show(0, None, "preparing")
        time.sleep(2.6)
        show(1, 4, "edit 1/4, about 8 s left")
        time.sleep(1.6)
    time.sleep(1.2)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "preparing"
    assert lines[-1] == " 25 %  edit 1/4, about 8 s left"
    assert 2 <= len(lines) <= 4


def test_remaining_time_is_estimated_from_finished_steps(monkeypatch):
    from sfumato.cli import work

    monkeypatch.setattr(work.time, "monotonic", lambda: 130.0)
    assert work._left(1, 4, 100.0) == ", about 1 min 30 s left"
    assert work._left(3, 4, 100.0) == ", about 10 s left"
    assert work._left(4, 4, 100.0) == ""
    assert work._left(9, 10, 100.0) == ""


def test_loading_of_the_model_is_reported(sfumato, tiny_sd_folder, monkeypatch):
    lines = []
    monkeypatch.setattr(progress._Lines, "__call__", lambda self, done, total, text: lines.append(text))
    words = ("--from", "red", "--to", "green", "-o", "out.png", "--steps", 2, "--model", tiny_sd_folder)
    assert sfumato("edit", "photo.png", *words).code == 0
    assert lines[0] == f"loading {tiny_sd_folder}"
    assert lines[-1].startswith("edit ")
