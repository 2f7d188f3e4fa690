"""Flags of the model; its files and the prompts are checked before torch is imported."""

from argparse import SUPPRESS, Namespace
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sfumato.cli.defaults import DefaultModel, default_model
from sfumato.cli.parser import CommandParser, integer
from sfumato.cli.progress import progress
from sfumato.errors import BadInput
from sfumato.files import printable

if TYPE_CHECKING:
    from sfumato.api import Model


@dataclass(frozen=True)
class Texts:
    """Prompts of one kind on the command line.

    Attributes:
        name: name of one of them in messages, with its flag, such as "target prompt (--to)".
        prompts: the prompts.
        empty: whether they may be empty.
    """

    name: str
    prompts: Sequence[str]
    empty: bool = True


#: Options of the model that the help of the commands omits; `sfumato models --help` lists them.
MODEL_OPTIONS: dict[str, dict[str, Any]] = {
    "--lora": {"action": "append", "default": [], "metavar": "FILE[:SCALE]"},
    "--textual-inversion": {"action": "append", "default": [], "metavar": "FILE[:WORD]"},
    "--prompt-weights": {"action": "store_true"},
    "--prompt-chunks": {"type": integer(1, 20), "default": 1, "metavar": "N"},
    "--offload": {"action": "store_true"},
}


def add_model(parser: CommandParser, default: str | None = None) -> None:
    """Add the model, its device and its precision, and the options that `sfumato models --help` explains.

    Args:
        parser: parser of the command.
        default: the model without --model; None for the user's default model, or else the bundled one.
    """
    add_model_name(parser, "folder, file or hub id; more: `sfumato models --help`", default)
    for flag, settings in MODEL_OPTIONS.items():
        parser.add_argument(flag, **settings, help=SUPPRESS)
    parser.add_argument("--config", metavar="FOLDER", help=SUPPRESS)
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto (default), cpu, cuda, cuda:1, mps")
    parser.add_argument("--dtype", default="auto", metavar="NAME", help=SUPPRESS)


def add_model_name(parser: CommandParser, text: str, default: str | None = None) -> None:
    """Add the name of a model, with its default in the help."""
    model = DefaultModel(default, "bundled") if default else default_model()
    origin = "" if model.origin == "bundled" else f" ({model.origin})"
    help = f"{text}; default {model.name}{origin}".replace("%", "%%")
    parser.add_argument("--model", default=model.name, metavar="NAME", help=help)


def load_model(arguments: Namespace, *texts: Texts) -> "Model":
    """Load the model that the flags of `add_model` select, after its files and the prompts of the command are checked.

    Args:
        arguments: parsed arguments.
        texts: the prompts.

    Raises:
        BadInput: there is no such model, file, device or precision, or the model or a prompt cannot be used.
    """
    check_early(arguments, *texts)
    options = {flag.removeprefix("--").replace("-", "_") for flag in MODEL_OPTIONS}
    with progress() as show:
        show(0, None, f"loading {printable(arguments.model)}")
        import sfumato
        from sfumato.cli.quiet import quiet_libraries

        quiet_libraries()
        return sfumato.load(
            arguments.model,
            arguments.device,
            arguments.dtype,
            config=arguments.config,
            **{name: getattr(arguments, name) for name in options},
        )


def model_files(arguments: Namespace) -> list[str]:
    """The files of the model that the flags of `add_model` select, which a command must not overwrite.

    These are a model in one file or the weights of the components of a folder, LoRAs and textual inversions. A missing
    model is reported by `load_model`.

    Raises:
        BadInput: there is no such LoRA or textual inversion.
    """
    from sfumato.models.added_files import place_and_scale, place_and_word
    from sfumato.models.names import place_of

    files = [place_and_scale(each)[0] for each in arguments.lora]
    files += [place_and_word(each)[0] for each in arguments.textual_inversion]
    with suppress(BadInput):
        place = place_of(arguments.model)
        files += [] if place is None else place.glob("*/*.safetensors") if place.is_dir() else [place]
    return list(map(str, files))


def plain_texts(arguments: Namespace, prompts: Sequence[str]) -> list[str]:
    """The prompts without their weights, if --prompt-weights is given. Raises BadInput for a weight out of range."""
    from sfumato.models.prompt_weights import parse

    return [parse(prompt).text for prompt in prompts] if arguments.prompt_weights else list(prompts)


def check_early(arguments: Namespace, *texts: Texts) -> None:
    """Check the files of the model, the device and the prompts as far as possible without importing torch.

    Raises:
        BadInput: as `load_model`.
    """
    from sfumato.api.prompts import check_texts
    from sfumato.devices import check_device_name, check_offload
    from sfumato.models.added_contents import embedding_word, lora_parts
    from sfumato.models.added_files import place_and_scale, place_and_word
    from sfumato.models.model_files import check_model
    from sfumato.models.names import check_precision
    from sfumato.models.prompt_weights import parse

    check_precision(arguments.dtype)
    check_device_name(arguments.device)
    if arguments.offload:
        check_offload(arguments.device)
    for lora in arguments.lora:
        lora_parts(place_and_scale(lora)[0])
    for inversion in arguments.textual_inversion:
        embedding_word(*place_and_word(inversion))
    takes_text = check_model(arguments.model, arguments.config)
    for each in texts:
        check_texts(each.prompts, each.name, empty=each.empty, takes_text=takes_text, model=arguments.model)
        for prompt in each.prompts if arguments.prompt_weights else ():
            parse(prompt)
