"""`--export-only` without a checkpoint is refused before the recipe is read."""

from argparse import Namespace

import pytest

from sfumato.cli.train import run
from sfumato.errors import BadInput
from tests.train.toy import run_of


def arguments(folder):
    return Namespace(
        kind="autoencoder", recipe=folder / "none.toml", out=folder, minutes=None, device="cpu", export_only=True,
        json=False,
    )  # fmt: skip


def test_folder_without_a_checkpoint_is_refused_first(tmp_path):
    with pytest.raises(BadInput, match="contains no checkpoint to export: train first"):
        run(arguments(tmp_path))
    assert not list(tmp_path.iterdir())
    list(run_of(tmp_path, 1).steps())
    with pytest.raises(BadInput, match="cannot read the recipe"):
        run(arguments(tmp_path))
