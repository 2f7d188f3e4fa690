"""`sfumato edit --auto`: the settings of an edit chosen by an evaluator."""

from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sfumato.cli.flags import seeds_of
from sfumato.cli.metrics import NETWORKS, add_evaluator, load_evaluator
from sfumato.cli.parser import CommandParser
from sfumato.cli.progress import progress
from sfumato.cli.report import shown
from sfumato.errors import BadInput

if TYPE_CHECKING:
    from sfumato.api import Inverted, Model
    from sfumato.api.auto import Choice
    from sfumato.methods.registry import Method
    from sfumato.metrics import Evaluator


def add_auto(parser: CommandParser, words: Sequence[str]) -> None:
    """`--auto`, and the networks that score edits: the help, which has one screen, lists them where --auto is typed."""
    typed = any(word.partition("=")[0] == "--auto" for word in words)
    text = "choose skip and guidance_scale; N: wanted CLIP of --to" + ("" if typed else "; more: --auto --help")
    parser.add_argument("--auto", nargs="?", const=True, type=float, metavar="N", help=text)
    add_evaluator(parser, listed=typed)


def check_auto(arguments: Namespace, method: "Method", given: Mapping[str, Any]) -> None:
    """Refuse what leaves nothing to choose, or nothing to choose by, before anything is read. Raises BadInput."""
    from sfumato.methods.params import options_of

    if arguments.auto is None:
        named = [f"--{name}" for name in NETWORKS if getattr(arguments, name) is not None]
        if named:
            raise BadInput(
                f"{named[0]} names a network that scores edits for --auto: give --auto too, or leave it out."
            )
        return
    if not arguments.target.strip():
        raise BadInput("--auto chooses by how well the edit fits --to: give it.")
    if arguments.auto is not True and not -1 < arguments.auto < 1:
        raise BadInput(f"--auto takes a similarity between -1 and 1, not {arguments.auto:g}.")
    if len(seeds_of(arguments)) > 1:
        raise BadInput("--auto chooses for one seed at a time: give one --seed.")
    dials = [f"--{name}" for name in ("skip", "guidance_scale") if name in options_of(method.params, "edit")]
    if all(dial[2:] in given for dial in dials):
        remedy = f"leave {' or '.join(dials)} out" if dials else "choose another method"
        raise BadInput(f"--auto has nothing left to choose: {remedy}.")


def check_source(arguments: Namespace, source: str) -> None:
    """Refuse to aim at how well the picture fits a prompt that it does not have. Raises BadInput."""
    if arguments.auto is True and not source.strip():
        raise BadInput(
            "--auto wants the edit to fit --to as well as the picture fits --from, which is empty here: give it, or "
            "the wanted similarity as --auto N."
        )


def load_auto(arguments: Namespace, model: "Model", texts: Sequence[str]) -> "Evaluator | None":
    """The evaluator, which must be able to read the texts; None without --auto. Raises BadInput."""
    if arguments.auto is None:
        return None
    evaluator = load_evaluator(arguments, str(model.network.device))
    evaluator.clip.check_texts(texts)
    return evaluator


def chosen(inverted: "Inverted", arguments: Namespace, evaluator: "Evaluator", edit: Mapping[str, Any]) -> "Choice":
    """What `--auto` finds for the other options of the edit, under a bar."""
    from sfumato.api.auto import choose

    with progress() as show:
        return choose(
            inverted,
            arguments.target,
            adherence=None if arguments.auto is True else arguments.auto,
            evaluator=evaluator,
            callback=lambda done, total: show(done, total, f"setting {done}/{total}"),
            **edit,
        )


def about(choice: "Choice") -> str:
    """What was chosen, wanted and reached, in one sentence."""
    options = ", ".join(f"{name} {shown(value)}" for name, value in choice.trial.options.items())
    reached = "reaches" if choice.reached else "comes nearest to"
    return (
        f"auto: {options} {reached} the wanted adherence {choice.wanted:.2f} with {choice.trial.scores['clip']:.2f}, "
        f"LPIPS {choice.trial.scores['lpips']:.2f}; {choice.tried} settings tried."
    )
