"""Benchmark rounds that alternate between contenders, with stubs instead of networks."""

from types import SimpleNamespace

import pytest

from benchmarks.report import table
from benchmarks.rounds import Outcome, rounds, warm_up


def contender(log, name, interrupt_after=99):
    def invert():
        log.append(name)
        if len(log) > interrupt_after:
            raise KeyboardInterrupt

    return SimpleNamespace(invert=invert, edit=lambda: None)


def test_contenders_alternate():
    log, outcomes = [], {"a": Outcome(), "b": Outcome()}
    assert rounds({name: contender(log, name) for name in outcomes}, outcomes, 2, "cpu") == 2
    assert log == ["a", "b", "a", "b"]
    assert all(len(outcome.edit_seconds) == len(outcome.cpu_seconds) == 2 for outcome in outcomes.values())


def test_ctrl_c_keeps_the_complete_rounds():
    log, outcomes = [], {"a": Outcome(), "b": Outcome()}
    assert rounds({name: contender(log, name, 5) for name in outcomes}, outcomes, 4, "cpu") == 2
    assert all(len(outcome.invert_seconds) == len(outcome.edit_seconds) == 2 for outcome in outcomes.values())


def test_ctrl_c_before_the_first_round_is_raised():
    outcomes = {"a": Outcome(), "b": Outcome()}
    with pytest.raises(KeyboardInterrupt):
        rounds({name: contender([], name, 0) for name in outcomes}, outcomes, 4, "cpu")


def test_failing_contender_is_reported_and_left_out():
    def refuse():
        raise RuntimeError("Sizes must be multiples of 32.\nMore.")

    outcomes = {"a": Outcome(), "b": Outcome()}
    ready = warm_up({"a": refuse, "b": lambda: "b"}, outcomes, lambda made, outcome: None)
    assert list(ready) == ["b"]
    assert (outcomes["a"].problem, outcomes["b"].problem) == ("Sizes must be multiples of 32.", "")
    assert not outcomes["a"].timed


def test_table_pads_short_rows():
    assert table(["x", "y"], {"a": ["1", "2"], "b": ["no"]}).splitlines() == [
        "| | x | y |",
        "| --- | ---: | ---: |",
        "| a | 1 | 2 |",
        "| b | no |  |",
    ]
