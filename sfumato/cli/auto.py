"""`sfumato edit --auto`: automatic choice of the settings of an edit with an evaluator."""

from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sfumato.cli.flags import flag_of
from sfumato.cli.given import typed_flags
from sfumato.cli.metrics import NETWORKS, add_evaluator, check_model_evaluator
from sfumato.cli.parser import CommandParser
from sfumato.cli.progress import progress
from sfumato.cli.report import shown
from sfumato.errors import BadInput

if TYPE_CHECKING:
    from sfumato.api import Inverted, Model
    from sfumato.api.auto import Choice
    from sfumato.editing.registry import Method
    from sfumato.metrics import Evaluator


def add_auto(parser: CommandParser, words: Sequence[str]) -> None:
    """Add `--auto` and the evaluator's networks; for brevity, the help lists these only if --auto is also given."""
    typed = "--auto" in typed_flags(words)
    text = "choose skip and guidance; N: target CLIP similarity" + ("" if typed else "; see --auto --help")
    parser.add_argument("--auto", nargs="?", const=True, type=float, metavar="N", help=text)
    add_evaluator(parser, listed=typed)


def check_auto(arguments: Namespace, method: "Method", given: Mapping[str, Any], count: int) -> None:
    """Raise BadInput if, for `count` results, the options leave no setting to choose or no criterion for the choice."""
    from sfumato.options.params import options_of

    if arguments.auto is None:
        named = [f"--{name}" for name in NETWORKS if getattr(arguments, name) is not None]
        if named:
            raise BadInput(
                f"{named[0]} names a network that scores edits for --auto: give --auto too, or leave it out."
            )
        return
    if not "".join(arguments.targets).strip():
        raise BadInput("--auto needs a target prompt: give --to.")
    if arguments.auto is not True and not -1 < arguments.auto < 1:
        raise BadInput(f"--auto takes a CLIP similarity between -1 and 1, not {arguments.auto:g}.")
    if count > 1:
        raise BadInput("--auto works on a single edit: give one image, one --to and one --seed.")
    chosen = [name for name in ("skip", "guidance_scale") if name in options_of(method.params, "edit")]
    if all(name in given for name in chosen):
        remedy = f"leave {' or '.join(map(flag_of, chosen))} out" if chosen else "choose another method"
        raise BadInput(f"--auto has no setting to choose: {remedy}.")


def check_scoring(arguments: Namespace, source: str) -> None:
    """Check, without torch, the source prompt and the evaluator that --auto scores edits with; nothing without --auto.

    Raises:
        BadInput: --auto has no value and the source prompt, which determines it, is empty; or as
            `check_model_evaluator`.
    """
    if arguments.auto is None:
        return
    if arguments.auto is True and not source.strip():
        raise BadInput(
            "The default target of --auto is the CLIP similarity of the source image to --from, but --from is empty: "
            "give --from, or the target as --auto N."
        )
    check_model_evaluator(arguments)


def load_auto(arguments: Namespace, model: "Model", texts: Sequence[str]) -> "Evaluator | None":
    """The evaluator, or None without --auto. Raises BadInput, also for texts that its text encoder cannot read."""
    if arguments.auto is None:
        return None
    from sfumato.api.evaluators import evaluator_of

    evaluator = evaluator_of(model, arguments.clip, arguments.structure, arguments.lpips)
    evaluator.clip.check_texts(model.plain(texts))
    return evaluator


def chosen(inverted: "Inverted", arguments: Namespace, evaluator: "Evaluator", edit: Mapping[str, Any]) -> "Choice":
    """Find the settings for an edit with the other given options; shows progress."""
    from sfumato.api.auto import choose

    with progress() as show:
        return choose(
            inverted,
            arguments.targets[0],
            adherence=None if arguments.auto is True else arguments.auto,
            evaluator=evaluator,
            callback=lambda done, total: show(done, total, f"setting {done}/{total}"),
            **edit,
        )


def about(choice: "Choice") -> str:
    """Chosen settings, target similarity and reached similarity, in one sentence."""
    options = ", ".join(f"{name} {shown(value)}" for name, value in choice.trial.options.items())
    scores = (
        f"CLIP similarity {choice.trial.scores['clip']:.2f}, LPIPS to the source {choice.trial.scores['lpips']:.2f}"
    )
    if choice.reached:
        return f"auto: {options}: {scores}, which reaches {choice.wanted:.2f}; {choice.tried} settings tried."
    return (
        f"auto: none of {choice.tried} settings reaches the CLIP similarity {choice.wanted:.2f}; the nearest is "
        f"{options}: {scores}."
    )
