"""Weight decay groups, and restoring Adam's state to the right parameters from every stored format."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from sfumato.errors import BadInput
from sfumato.train.checkpoint import newest_checkpoint
from sfumato.train.clip_loss import MAX_LOGIT_SCALE, Contrast
from sfumato.train.dual_encoder_network import DualEncoderNetwork, build_dual_encoder
from sfumato.train.loop import Run
from sfumato.train.optimizer import decay_groups, flatten, names_of, unflatten
from tests.tiny import tiny_tokenizer
from tests.train.toy import ToyTask, toy_recipe


def small_network():
    network = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3), nn.Conv2d(3, 3, 1), nn.Linear(3, 3))
    network.register_parameter("scale", nn.Parameter(torch.tensor(1.0)))
    network[3].weight.requires_grad_(False)
    return network


def test_only_matrices_and_kernels_have_weight_decay():
    network = small_network()
    decaying, others = decay_groups(network, 0.1)
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    assert {id(p) for p in decaying["params"]} == {id(network[0].weight), id(network[2].weight)}
    trained = {id(p) for p in network.parameters() if p.requires_grad}
    assert {id(p) for p in others["params"]} == trained - {id(p) for p in decaying["params"]}
    (all_of_them,) = decay_groups(network, 0.0)
    assert {id(p) for p in all_of_them["params"]} == trained


def stepped(decay):
    network = small_network()
    adam = torch.optim.AdamW(decay_groups(network, decay), lr=0.1)
    for number, parameter in enumerate(p for p in network.parameters() if p.requires_grad):
        parameter.grad = torch.full_like(parameter, 1.0 + number)
    adam.step()
    return network, adam


def state_by_name(network, adam):
    return {name: adam.state[p]["exp_avg"] for name, p in network.named_parameters() if p in adam.state}


def numbered(adam):
    """The state in the older format, by parameter number."""
    return {f"{i:05d}.{k}": v for i, entry in adam.state_dict()["state"].items() for k, v in entry.items()}


@pytest.mark.parametrize("write", ["named", "numbered by group", "numbered by module"])
def test_state_is_restored_to_the_right_parameters(write):
    before, old = stepped(0.0 if write == "numbered by module" else 0.1)
    flat = flatten(old, before) if write == "named" else numbered(old)
    network = small_network()
    adam = torch.optim.AdamW(decay_groups(network, 0.2), lr=0.3)
    adam.load_state_dict(unflatten(flat, adam, network))
    for name, value in state_by_name(before, old).items():
        assert torch.equal(state_by_name(network, adam)[name], value), name
    assert [group["weight_decay"] for group in adam.param_groups] == [0.2, 0.0], "the recipe's, not the state's"


def test_state_is_restored_for_channels_last_kernels():
    kernels = []
    for layout in (torch.contiguous_format, torch.channels_last):
        network = nn.Conv2d(5, 7, 3).to(memory_format=layout)
        network.weight.data.copy_(torch.arange(315.0).reshape(7, 5, 3, 3))
        state = {"weight:exp_avg": torch.arange(315.0).reshape(7, 5, 3, 3).roll(7, 1), "weight:step": torch.tensor(9.0)}
        state["weight:exp_avg_sq"] = state["weight:exp_avg"] + 1
        adam = torch.optim.AdamW(network.parameters(), lr=0.1, fused=True)
        adam.load_state_dict(unflatten(state, adam, network))
        network.weight.grad = torch.ones_like(network.weight)
        adam.step()
        kernels.append(network.weight.detach())
    assert torch.equal(kernels[0], kernels[1])


def test_state_of_other_parameters_is_refused():
    network, adam = stepped(0.1)
    flat = flatten(adam, network)
    assert set(names_of(adam, network)) == {key.split(":")[0] for key in flat}
    for wrong in (
        flat | {"0.weight:exp_avg": torch.zeros(4)},
        flat | {"elsewhere:exp_avg": torch.zeros(3)},
        numbered(adam) | {"00001.exp_avg": torch.zeros(5)},
        numbered(adam) | {"00099.exp_avg": torch.zeros(3)},
    ):
        with pytest.raises(ValueError, match="parameter"):
            unflatten(wrong, adam, network)


def test_run_with_a_numbered_state_is_resumed(tmp_path):
    list(Run(ToyTask(), toy_recipe(3), tmp_path / "one", "cpu").steps())
    list(Run(ToyTask(), toy_recipe(6), tmp_path / "whole", "cpu").steps())
    file = newest_checkpoint(tmp_path / "one" / "checkpoints") / "first.optimizer.safetensors"
    by_name = load_file(file)
    order = [name for name, _ in ToyTask().phases[0].module.named_parameters()]
    save_file({f"{order.index(k.split(':')[0]):05d}.{k.split(':')[1]}": v for k, v in by_name.items()}, file)
    list(Run(ToyTask(), toy_recipe(6), tmp_path / "one", "cpu").steps())
    weights = [
        load_file(newest_checkpoint(tmp_path / name / "checkpoints") / "first.safetensors") for name in ("one", "whole")
    ]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    save_file({"00000.exp_avg": torch.zeros(7)}, newest_checkpoint(tmp_path / "one" / "checkpoints") / file.name)
    with pytest.raises(BadInput, match="does not match the networks of the recipe"):
        Run(ToyTask(), toy_recipe(6), tmp_path / "one", "cpu")


def test_temperature_has_no_decay_and_is_limited():
    shape = DualEncoderNetwork(width=64, image_layers=1, text_layers=1, patch=8, projection=16, context=6)
    clip = build_dual_encoder(shape, 16, tiny_tokenizer())
    decaying, others = decay_groups(clip, 0.1)
    assert any(p is clip.logit_scale for p in others["params"])
    assert all(p is not clip.logit_scale for p in decaying["params"])
    ids = torch.randint(3, 60, (4, 6), generator=torch.Generator().manual_seed(0))
    ids[:, -1] = clip.config.text_config.eos_token_id
    batch = {"pixels": torch.zeros(4, 3, 16, 16), "ids": ids, "mask": torch.ones_like(ids)}
    for start, scale in ((9.0, 100.0), (MAX_LOGIT_SCALE - 1, 100 / torch.e)):
        clip.logit_scale.data.fill_(start)
        loss, scalars = Contrast(clip)(batch)
        assert scalars["scale"].item() == pytest.approx(scale, rel=1e-5)
        assert loss.isfinite()
