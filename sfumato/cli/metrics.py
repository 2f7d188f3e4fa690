"""`sfumato metrics`: the list of metrics, or the metrics of an edit."""

import math
from argparse import SUPPRESS, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sfumato.cli.inputs import add_mask, add_max_pixels, check_mask_flags
from sfumato.cli.outputs import remark
from sfumato.cli.parser import CommandParser
from sfumato.cli.report import print_json, print_table, shown
from sfumato.errors import BadInput
from sfumato.files import printable

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.images import LoadedImage
    from sfumato.metrics import Evaluator
    from sfumato.style import StyleEncoder

#: Networks of the evaluator -> help text.
NETWORKS = {
    "clip": "CLIP, folder or hub id; default: {default}",
    "structure": "DINO or another ViT; default: the image encoder of --clip",
    "lpips": "VGG, AlexNet, SqueezeNet or a ViT; default: image encoder of --clip",
}


def describe(parser: CommandParser, words: Sequence[str]) -> None:
    """Add the images, the prompts, and the networks of the evaluator."""
    parser.usage = "sfumato metrics [SOURCE EDIT] [options]"
    parser.add_argument(
        "source", nargs="?", metavar="SOURCE", help="source image; without images, the metrics are listed"
    )
    parser.add_argument("edit", nargs="?", metavar="EDIT", help="edited image, of the same size")
    parser.add_argument("--target", metavar="IMAGE", help="ground-truth edited image, if there is one")
    parser.add_argument("--style", metavar="IMAGE", help="image in the wanted style, of any size")
    parser.add_argument("--style-encoder", metavar="FILE", help="style encoder; default: the bundled one, if any")
    add_mask(parser, "mask image: white where an edit is intended")
    parser.add_argument("--from", dest="given", metavar="TEXT", help="prompt describing the source image; needs --to")
    parser.add_argument("--to", dest="wanted", metavar="TEXT", help="prompt describing the edited image")
    add_evaluator(parser, default="the bundled one, for emoji only")
    add_max_pixels(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.example(
        "sfumato metrics", 'sfumato metrics heart.png out.png --from "red heart, twemoji" --to "blue heart, twemoji"'
    )


def add_evaluator(
    parser: CommandParser, *, default: str = "that of the model; required for a model without one", listed: bool = True
) -> None:
    """Add the networks of the evaluator: local folders, or hub ids, which are the only downloads.

    Args:
        parser: parser of the command.
        default: the dual encoder that is used without `--clip`, for the help.
        listed: whether the help lists these flags.
    """
    for name, text in NETWORKS.items():
        parser.add_argument(f"--{name}", metavar="FOLDER", help=text.format(default=default) if listed else SUPPRESS)


def check_evaluator(arguments: Namespace) -> None:
    """Check the files of the networks that the flags of `add_evaluator` select, without torch. Raises BadInput."""
    from sfumato.networks.image_networks import check_clip, check_perceptual, check_vision

    for name, check in (("clip", check_clip), ("structure", check_vision), ("lpips", check_perceptual)):
        if (given := getattr(arguments, name)) is not None:
            check(given)


def check_model_evaluator(arguments: Namespace) -> None:
    """Check, without torch, the evaluator for the edits of a model: that of --clip, or else that of the model.

    Raises:
        BadInput: as `check_evaluator`; or there is no such model, or it has no dual encoder and --clip is not given.
    """
    from sfumato.api.dual_encoder_folder import dual_encoder_folder
    from sfumato.models.names import place_of

    check_evaluator(arguments)
    if arguments.clip is None:
        dual_encoder_folder(place_of(arguments.model), printable(arguments.model))


def load_evaluator(arguments: Namespace) -> "Evaluator":
    """Load the networks that the flags of `add_evaluator` select. Raises BadInput."""
    from sfumato.metrics import Evaluator

    return Evaluator.load(arguments.clip, arguments.structure, arguments.lpips)


def shown_score(value: float) -> str:
    """A metric for a table: four digits, "-" for NaN."""
    return "-" if math.isnan(value) else shown(value)


def run(arguments: Namespace) -> None:
    """List the metrics, or print the metrics of an edit."""
    inputs = (arguments.source, arguments.target, arguments.mask, arguments.style, arguments.given, arguments.wanted)
    if arguments.edit is not None:
        _measure(arguments)
    elif any(each is not None for each in inputs):
        raise BadInput(
            "give SOURCE and EDIT, the images before and after the edit, or no arguments to list the metrics."
        )
    else:
        _list(arguments.json)


def _list(as_json: bool) -> None:
    from sfumato.cli.quiet import quiet_libraries

    quiet_libraries()  # before the first of them is imported
    from sfumato.metrics import METRICS

    known, failures = METRICS.values(), METRICS.unloaded
    if as_json:
        metrics = [{name: getattr(m, name) for name in ("name", "better", "unit", "needs", "help")} for m in known]
        print_json({"metrics": metrics, "unloaded": [vars(failure) for failure in failures]})
    else:
        rows = [[m.name, m.unit, m.better, ", ".join(m.needs), m.help] for m in known]
        print_table([["metric", "unit", "better", "needs", ""], *rows])
    for failure in failures:
        remark(str(failure))


def _measure(arguments: Namespace) -> None:
    """Read and check the inputs, compute the metrics and print them."""
    from sfumato.cli.quiet import quiet_libraries
    from sfumato.images import read_image

    if arguments.given is not None and arguments.wanted is None:
        raise BadInput("--from needs --to, the prompt describing the edited image: give both.")
    if arguments.style_encoder is not None and arguments.style is None:
        raise BadInput("--style-encoder needs --style, the image in the wanted style: give both.")
    texts = {"--from": arguments.given, "--to": arguments.wanted}
    for flag, text in texts.items():
        if text is not None and not text.strip():
            raise BadInput(f"{flag} is empty: give a prompt describing the image, or leave it out.")
    check_mask_flags(arguments)
    check_evaluator(arguments)
    if arguments.style_encoder is not None:
        from sfumato.style.files import check_style_encoder

        check_style_encoder(arguments.style_encoder)
    limit = arguments.max_pixels
    source, edit = read_image(arguments.source, limit), read_image(arguments.edit, limit)
    target = None if arguments.target is None else read_image(arguments.target, limit)
    for image in (source, edit, target):
        if image is not None:
            _check_size(image, source)
    mask = _mask(arguments, source)
    style = None if arguments.style is None else [_unit(read_image(arguments.style, limit))[0]]
    quiet_libraries()
    evaluator = replace(load_evaluator(arguments), style=_style_encoder(arguments.style_encoder, style is not None))
    _check_words(evaluator, texts)
    found = evaluator(
        _unit(source),
        _unit(edit),
        target=None if target is None else _unit(target),
        mask=mask,
        source_texts=None if arguments.given is None else [arguments.given],
        target_texts=None if arguments.wanted is None else [arguments.wanted],
        style=style,
    )
    scores = {name: values.item() for name, values in found.items()}
    print_json(_as_json(arguments, scores)) if arguments.json else _print(scores)


def _style_encoder(path: str | None, wanted: bool) -> "StyleEncoder | None":
    """The encoder at `path`, or the bundled one if `wanted`; otherwise None. Raises BadInput."""
    from sfumato.style.describers import SHIPPED
    from sfumato.style.encoder import load_style_encoder

    if path is None and not (wanted and SHIPPED["style"].is_dir()):
        return None
    return load_style_encoder(path or SHIPPED["style"])


def _check_words(evaluator: "Evaluator", texts: Mapping[str, str | None]) -> None:
    """Raise BadInput for prompts that consist of special tokens only."""
    from sfumato.models.text import TextEncoder

    text_encoder = TextEncoder(evaluator.clip.tokenizer, evaluator.clip.model.text_model)
    for flag, text in texts.items():
        if text is not None and not text_encoder.read(text).words:
            raise BadInput(f'{flag} "{text}" has no words for the text encoder of --clip: give a prompt with words.')


def _check_size(image: "LoadedImage", source: "LoadedImage") -> None:
    if image.size != source.size:
        raise BadInput(
            f"{image.name} is {image.size[0]} x {image.size[1]} pixels and {source.name} {source.size[0]} x "
            f"{source.size[1]}: give images of the same size."
        )
    if image.note:
        remark(f"{image.name}: {image.note}.")


def _mask(arguments: Namespace, source: "LoadedImage") -> "Tensor | None":
    """The mask, float32 [1,h,w] in [0,1], or None. Raises BadInput for a mask that cannot be used."""
    path, limit = arguments.mask, arguments.max_pixels
    if path is None:
        return None
    import torch

    from sfumato.images import read_mask, transparent_parts

    given = transparent_parts(path, limit) if arguments.mask_transparent else path
    found = read_mask(given, source.size, limit, as_is=arguments.mask_as_is)
    if found.note:
        remark(f"mask {found.name}: {found.note}.")
    mask = torch.from_numpy(found.weights)[None]
    if mask.amin() == mask.amax():
        remark(_uniform(path, mask.amax().item()))
    return mask


def _uniform(path: str, weight: float) -> str:
    """The remark about a mask with the same weight at all pixels."""
    if 0 < weight < 1:
        return f"{path} is uniformly grey: metrics inside and outside it are over the same pixels, with equal weights."
    return f"{path} is all {'white' if weight else 'black'}: metrics of an area without pixels have no value."


def _unit(image: "LoadedImage") -> "Tensor":
    """The image as a tensor [1,3,h,w] in [0,1]."""
    from sfumato.images import to_tensor

    return (to_tensor(image) + 1) / 2


def _as_json(arguments: Namespace, scores: dict[str, float]) -> dict[str, Any]:
    from sfumato.metrics import METRICS

    given = ("source", "edit", "target", "style", "mask", "clip", "structure", "lpips", "style_encoder")
    return {
        **{name: getattr(arguments, name) for name in given},
        "from": arguments.given,
        "to": arguments.wanted,
        "metrics": scores,
        "better": {name: METRICS[name].better for name in scores},
    }


def _print(scores: dict[str, float]) -> None:
    from sfumato.metrics import METRICS

    rows = [["metric", "value", "", "better", ""]]
    for name, value in scores.items():
        metric = METRICS[name]
        rows.append([name, shown_score(value), metric.unit, metric.better, metric.help])
    print_table(rows)
