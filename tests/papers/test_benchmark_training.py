"""The training benchmark: both contenders compute the same loss, and the table contains the measured times."""

import json

import torch

from benchmarks import training


def test_benchmark_writes_the_times_of_all_repeats(tmp_path, capsys):
    out = tmp_path / "training.json"
    assert training.main(["--quick", "--repeats", "2", "--side", "8", "--device", "cpu", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "| plain loop |" in printed
    figures = json.loads(out.read_text())
    assert {name: len(each) for name, each in figures["seconds"].items()} == {"sfumato": 2, "plain loop": 2}


def test_ratios_are_relative_to_the_plain_loop_median():
    rows = training.as_table({"sfumato": [1.0, 2.0, 9.0], "plain loop": [4.0, 4.0, 4.0]}, 8, "bf16").splitlines()
    assert rows[2].split("|")[2:6] == [" 4.0 ", " 2.000 ", " 2.00 ", " bf16 "]
    assert rows[3].split("|")[2:6] == [" 2.0 ", " 4.000 ", " 1.00 ", " fp32 "]


def test_the_plain_loop_computes_the_same_loss():
    recipe = training.settled(training.arguments(["--quick"]))
    task = training.Synthetic(recipe, 8, 4, "cpu")
    batch = task.batch(torch.Generator().manual_seed(0), 2)
    ours = task.phases[0].module(batch)[0]
    noisy = task.scheduler.add_noise(batch["x0"], batch["eps"], batch["t"])
    states = task.text(batch["ids"]).last_hidden_state
    target = task.scheduler.get_velocity(batch["x0"], batch["eps"], batch["t"])
    theirs = torch.nn.functional.mse_loss(task.unet(noisy, batch["t"], encoder_hidden_states=states).sample, target)
    torch.testing.assert_close(ours, theirs)
