"""The tables of a model's README, from the results of `report`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

#: Subfolder of each trained model in a pipeline folder -> its name in the table.
_MODELS = {"vae": "autoencoder", "dual_encoder": "dual encoder", ".": "U-Net"}
_KINDS = {"everything": "all styles", "trained": "the U-Net's styles and groups"}


def card(figures: Mapping[str, Any]) -> str:
    """Markdown tables of a report: how each network was trained, and the measurements on each split.

    Args:
        figures: the JSON object that `sfumato.train.report` writes.
    """
    return "\n".join([*_table(list(_training(figures["parts"]))), "", *_table(list(_measured(figures)))])


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    head, *body = rows
    return [_line(head), _line(["---"] * len(head)), *map(_line, body)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _training(parts: Mapping[str, Any]) -> Iterator[list[str]]:
    yield ["part", "parameters", "MB", "samples", "images", "minutes", "device"]
    for place, name in _MODELS.items():
        if place not in parts:  # a pipeline without dual_encoder/, measured with another evaluator
            continue
        size, about = parts["unet" if place == "." else place], parts[place]["training"]
        yield [name, *_size(size), *(_trained(about) if about else ["not recorded"] * 4)]
    yield ["complete folder", *_size(parts["."]), *[""] * 4]


def _size(part: Mapping[str, Any]) -> list[str]:
    return [f"{part['parameters']:,}", f"{part['megabytes']:.1f}"]


def _trained(about: Mapping[str, Any]) -> list[str]:
    """Samples, images, minutes and device of a run, and of the run whose weights it started from."""
    before = about.get("start")
    samples, seconds, device = f"{about['samples']:,}", about["seconds"], about["device"]
    if before:
        samples, seconds = f"{samples} after {before['samples']:,}", seconds + before["seconds"]
    return [samples, f"{about['pictures']:,}", f"{seconds / 60:.0f}", device]


def _measured(figures: Mapping[str, Any]) -> Iterator[list[str]]:
    splits = [name for name in ("train", "cells", "test") if name in figures]
    yield ["", *splits]
    for kind, words in _KINDS.items():
        found = [figures[split].get(kind, {}) for split in splits]
        yield [f"images, {words}", *(str(each.get("images", "")) for each in found)]
        yield [f"autoencoder PSNR, {words}", *(_number(each.get("psnr"), ".1f", " dB") for each in found)]
        yield [f"autoencoder SSIM, {words}", *(_number(each.get("ssim"), ".3f") for each in found)]
        yield [f"R-precision of real images, {words}", *(_precision(each.get("r_precision")) for each in found)]
    found = [figures[split].get("trained", {}) for split in splits]
    yield ["R-precision of generated images", *(_precision(each.get("generated r_precision")) for each in found)]
    yield ["Frechet distance of generated to real", *(_number(each.get("frechet"), ".3f") for each in found)]
    yield ["seconds per generated image", *(_number(each.get("seconds per image"), ".2f") for each in found)]


def _number(value: float | None, form: str, unit: str = "") -> str:
    return "" if value is None else f"{value:{form}}{unit}"


def _precision(value: Mapping[str, Any] | None) -> str:
    """Format an R-precision, such as "56 %", or "44 % of 89" with fewer than 100 candidates."""
    if not value:
        return ""
    among = "" if value["candidates"] == 100 else f" of {value['candidates']}"
    digits = 1 if 0 < value["at 1"] < 0.01 else 0
    return f"{100 * value['at 1']:.{digits}f} %{among}"
