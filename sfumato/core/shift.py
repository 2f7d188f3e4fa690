"""The seven handles of the reverse process, and the base class of the shifts that move them.

A published method is an inversion and a list of shifts. A shift overrides the hooks of the handles that it moves; all
other hooks are the identity. Shifts are applied in the order of the list: each one receives the value that the previous
one returned.
"""

from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from sfumato.core.energy import Energy
from sfumato.core.guidance import Guided
from sfumato.core.state import StepMean, StepNoise, StepState

WORDS = "the words of the prompt"
"""What shifts read that find words among the tokens of the condition, by the positions of the run's own prompts."""
PLACES = "the positions of the source"
"""What shifts read that take something from its place in the source; several shifts may move it."""


class Shift:
    """Base class of shifts, which changes nothing; subclass it and override hooks.

    Hooks are called once per step in the order in which they are defined here, under `torch.no_grad`; a shift that
    needs a gradient declares an energy, and `refine` is called again after every move that it makes. With
    `prediction_taps` there is a second predicted noise, for which `noise` is called again. `state` contains everything
    that the step has computed so far.

    Attributes:
        holds: whether the shift keeps a part of the source by its noise map; an edit applies such shifts after all
            others, which would move that part otherwise.
    """

    holds: ClassVar[bool] = False

    def for_run(self) -> "Shift":
        """Return the shift to use in one run; called when the run begins.

        A shift that stores values between steps returns a fresh copy of itself, so that several runs with the same
        list of shifts, consecutive or concurrent, are independent.
        """
        return self

    def within(self, inside: Float[Tensor, "#b 1 h w"]) -> "Shift":
        """Return the shift to use in an edit that is restricted to a mask; called before the run begins.

        Outside the mask the latents follow the source in any case (`sfumato.shifts.mask.HoldOutside`), so that only
        shifts that measure something in the source need this.

        Args:
            inside: 1 where the edit applies, 0 where the source is kept, at the resolution of the latents.
        """
        return self

    def replaces(self, i: int, steps: int) -> tuple[str, ...]:
        """Names of the quantities that the shift overwrites at step i of a run of `steps` steps.

        If two shifts replace the same quantity in the same step, the loop raises BadInput before the run begins.
        """
        return ()

    def reads(self, i: int, steps: int) -> tuple[str, ...]:
        """Names of the quantities that the shift relies on at step i, such as `WORDS`.

        If another shift replaces one of them in the same step, the loop raises BadInput before the run begins.
        """
        return ()

    def condition(self, state: StepState, condition: Any) -> Any:
        """c: the condition of the network, one row per image."""
        return condition

    def guidance(self, state: StepState, guided: Guided) -> Guided:
        """eps: the weighted sum of predictions that the step evaluates, such as that of two modalities (PARASOL)."""
        return guided

    def taps(self, state: StepState) -> Any:
        """h, f_l and A: a tap that reads or replaces features or attention maps of the network, or None."""
        return None

    def energy(self, state: StepState) -> Energy | None:
        """An energy, or None; the hooks below get its gradient with respect to x_t from `state.gradient(self)`."""
        return None

    def refine(self, state: StepState, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """x_t: a gradient step that is repeated within a step of the run, before `latent`.

        All energies are evaluated again at the new x_t, and the hook is called again, until every shift returns the
        tensor that it was given. `state` has the values and gradients of the energies and the number of refinements so
        far; a shift must stop after a bounded number of them.
        """
        return x

    def latent(self, state: StepState, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """x_t: before the prediction."""
        return x

    def noise(self, state: StepState, eps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """eps: the predicted noise, after guidance; moves P_t and D_t."""
        return eps

    def prediction_taps(self, state: StepNoise) -> Any:
        """h, f_l and A in a second evaluation, whose noise is used for P_t but not for D_t (Asyrp): a tap, or None.

        If `taps` returns a `sfumato.models.encoder_half.EncoderHalf`, the second evaluation can reuse the encoder half
        of the first.
        """
        return None

    def prediction(self, state: StepNoise, prediction: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """P_t: the prediction of x_0; D_t does not change."""
        return prediction

    def noise_map(self, state: StepMean, z: Float[Tensor, "b c h w"] | None) -> Float[Tensor, "b c h w"] | None:
        """z_t: the noise map, which the step multiplies by `noise_scale(state.sigma)` and adds; None adds nothing."""
        return z
