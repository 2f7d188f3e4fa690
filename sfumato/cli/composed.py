"""The methods of a command line: their options, and their parameters with the defaults of the model."""

from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from sfumato.cli.defaults import LocalModel, local_model
from sfumato.cli.flags import given_options
from sfumato.cli.inputs import is_inversion
from sfumato.cli.method_flags import edit_options, run_of
from sfumato.cli.option_checks import check_options, chosen_params
from sfumato.errors import BadInput

if TYPE_CHECKING:
    from sfumato.editing.registry import Method
    from sfumato.options.params import Params


@dataclass(frozen=True)
class Composed:
    """The methods of a command line, with their options.

    Attributes:
        methods: the methods, in order.
        run: options of the inversion and of the sampling run; for a single method, all of its options.
        own: if there are several methods, the edit options of each, by the name of the method.
        params: the parameters of every method, in order.
        complete: whether `params` are those of the edit. If the defaults of the options are not known before the model
            or the inversion is loaded, `params` are those of `chosen_params`, for checks of the given options only.
    """

    methods: "tuple[Method, ...]"
    run: Mapping[str, Any]
    own: Mapping[str, Mapping[str, Any]]
    params: "tuple[Params, ...]"
    complete: bool

    @property
    def first(self) -> "Method":
        """The first method, which determines the inversion."""
        return self.methods[0]

    def named(self) -> "list[tuple[str, Mapping[str, Any] | Params]]":
        """Names with complete parameters, or with options of the edit, as `Inverted.edit_steps` takes them."""
        from sfumato.options.params import SHARED, options_of

        if self.complete:
            return [(method.name, params) for method, params in zip(self.methods, self.params, strict=True)]
        if len(self.methods) > 1:
            return [(method.name, self.own[method.name]) for method in self.methods]
        edits = options_of(self.first.params, "edit")
        return [(self.first.name, {n: v for n, v in self.run.items() if n in edits and n not in SHARED})]

    def planned(self) -> dict[str, Any]:
        """The methods and their options, as `Model.plan` takes them."""
        if self.complete:
            return {"methods": self.named()}
        return {"methods": self.named() if len(self.methods) > 1 else self.first.name, **self.run}

    def shared(self) -> dict[str, Any]:
        """Given options with one value for all methods."""
        from sfumato.options.params import SHARED

        return {name: value for name, value in self.run.items() if name in SHARED}

    def check(self) -> None:
        """Check the options and their files, before a model is loaded. Raises BadInput."""
        for params in self.params:
            check_options(params)

    @property
    def keeps_prompt(self) -> bool:
        """Whether the edit needs no target prompt, as in `sfumato.api.composition.Composition`."""
        return any(params.keeps_prompt for params in self.params)

    @property
    def files(self) -> list[str]:
        """The files that options of the methods name. Raises BadInput for options that cannot be read."""
        return [path for params in self.params for path in params.files]

    def check_words(self, sources: Sequence[str], targets: Sequence[str]) -> None:
        """Check that the prompts contain the words of the options; see `sfumato.options.prompt_words`.

        Raises:
            BadInput: a prompt lacks a word.
        """
        from sfumato.options.prompt_words import check_named

        under_source = any(method.under_source for method in self.methods)
        for method, params in zip(self.methods, self.params, strict=True):
            read = targets if method.reads_target(params, under_source) else sources
            check_named(params.named_words, sources, read)

    def check_negative(self, negative_prompt: str) -> None:
        """Check that a negative prompt has an effect, if the parameters are complete.

        Raises:
            BadInput: the negative prompt is not empty and has no effect.
        """
        from sfumato.api.prompts import check_used, uses_negative

        scale = getattr(self.params[0], "guidance_scale", None)
        if self.complete and scale is not None:
            check_used(negative_prompt, partial(uses_negative, self.params), [scale])

    def check_unnamed(self, given: bool) -> None:
        """Check, for an inversion that is read from a file, that the command line has no options of the inversion.

        Args:
            given: whether the source prompt or a seed is given.

        Raises:
            BadInput: one of them, or an option of the methods for the inversion, is given.
        """
        from sfumato.options.params import options_of

        fixed = [name for name in options_of(self.first.params, "invert") if name in self.run]
        if fixed or given:
            raise BadInput(
                "--from, --seed and the other options of the inversion are stored in its file and cannot be changed: "
                "leave them out, or give the image."
            )


def composed(arguments: Namespace, names: Sequence[str]) -> Composed:
    """The methods with these names, and the options that the command line gives them.

    Raises:
        BadInput: there is no such method, or a default of the model is invalid.
    """
    from sfumato.editing.registry import METHODS
    from sfumato.options.params import options_of

    methods = tuple(METHODS.find(name) for name in names)
    several = len(methods) > 1
    run = given_options(arguments, run_of(methods[0]) if several else options_of(methods[0].params))
    own = edit_options(arguments, methods) if several else {}
    given = [_known(run, method) | own.get(method.name, {}) for method in methods]
    saved = any(map(is_inversion, arguments.images))
    model = None if saved else local_model(arguments.model, arguments.config)
    if model is None:
        params = [chosen_params(method.params, each) for method, each in zip(methods, given, strict=True)]
    else:
        params = _complete(methods, given, model)
    return Composed(methods, run, own, tuple(params), complete=model is not None)


def _known(run: Mapping[str, Any], method: "Method") -> dict[str, Any]:
    """The options of the run that a method has."""
    from sfumato.options.params import options_of

    return {name: value for name, value in run.items() if name in options_of(method.params)}


def _complete(methods: "Sequence[Method]", given: Sequence[Mapping[str, Any]], model: LocalModel) -> "list[Params]":
    """The parameters of every method, with the same defaults as in `sfumato.api.composing.compose`."""
    from sfumato.options.defaults import completed, of_inversion, of_run

    found: list[Params] = []
    for method, own in zip(methods, given, strict=True):
        model.check(method.params, method.section)
        fixed: dict[str, Any] = {}
        if found:
            fixed = of_inversion(method.params, found[0], methods[0].inversion_of(found[0]))
            fixed |= of_run(method.params, found[0])
        found.append(completed(method.params, method.section, {**own, **fixed}, model))
    return found
