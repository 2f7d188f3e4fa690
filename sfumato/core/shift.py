"""The base class of shifts: callbacks that change quantities of the reverse process.

Seven quantities of a step, called handles, can be changed: the condition, the latent x_t, the features and the
attention maps of the network, the predicted noise, the prediction of x_0 and the noise map. A published method consists
of an inversion and a list of shifts. A shift overrides the hooks of the handles that it changes; all other hooks return
their input. Shifts are applied in the order of the list: each one receives the value that the previous one returned.
"""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from sfumato.core.condition import Condition
from sfumato.core.energy import Energy
from sfumato.core.guidance import Guided
from sfumato.core.state import NetworkTap, StepMean, StepNoise, StepState, check_finite
from sfumato.errors import BadInput

WORDS = "the words of the prompt"
"""Name, for `reads` and `replaces`, of the positions of the prompt's words among the tokens of the condition."""
PLACES = "the positions of the source"
"""Name, for `reads` and `replaces`, of the positions of the source image; several shifts may replace it."""


class Shift:
    """Base class of shifts. Its hooks change nothing; subclasses override the hooks that they need.

    The hooks are called once per step, in the order in which they are defined here, under `torch.no_grad`. A shift that
    needs a gradient returns an energy from `energy`; `energy` and `refine` are called again after every change that
    `refine` makes. If `prediction_taps` returns a tap, a second noise is predicted, and `noise` is called again for it.
    `state` contains all quantities that the step has computed so far.

    Attributes:
        keeps_source: whether the shift sets noise maps such that a part of the image follows the source. An edit
            applies such shifts after all others, so that the others do not change that part.
    """

    keeps_source: ClassVar[bool] = False

    def for_run(self) -> "Shift":
        """Return the shift to use in one run; called when the run begins.

        A shift that stores values between steps returns a fresh copy of itself, so that several runs with the same
        list of shifts, consecutive or concurrent, are independent.
        """
        return self

    def with_mask(self, inside: Float[Tensor, "#b 1 h w"]) -> "Shift":
        """Return the shift to use in an edit that is restricted to a mask; called before the run begins.

        Outside the mask the latents follow the source in any case (`sfumato.shifts.mask.KeepOutsideMask`). Only shifts
        that compute statistics of the source, such as its main colour, need to override this method.

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

    def condition(self, state: StepState, condition: Condition) -> Condition:
        """Change the condition c of the network, which has one row per image."""
        return condition

    def guidance(self, state: StepState, guided: Guided) -> Guided:
        """Change the guidance: the weighted sum of predictions that gives eps, such as PARASOL's two modalities."""
        return guided

    def taps(self, state: StepState) -> NetworkTap | None:
        """Return a tap that reads or replaces features or attention maps (h, f_l, A) of the network, or None."""
        return None

    def before_gradients(self, state: StepState, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Change x_t by a move that needs no gradient of an energy, such as a translation.

        The energies are evaluated at the returned x_t, so that their gradients belong to the latent that the step uses.
        """
        return x

    def energy(self, state: StepState) -> Energy | None:
        """Return an energy, or None. The hooks below read its gradient with respect to x_t: `state.gradient(self)`."""
        return None

    def refine(self, state: StepState, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Change x_t by a gradient step that is repeated within one step of the run, before `latent`.

        If a shift returns a new x_t, all energies are evaluated again there and the hook is called again, until every
        shift returns the tensor that it was given. `state` contains the values and gradients of the energies and the
        number of refinements so far; a shift must limit that number.
        """
        return x

    def latent(self, state: StepState, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Change x_t by gradients of energies before the noise is predicted; see `before_gradients` for other moves."""
        return x

    def noise(self, state: StepState, eps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Change the predicted noise eps after guidance; both P_t and D_t are computed from it."""
        return eps

    def prediction_taps(self, state: StepNoise) -> NetworkTap | None:
        """Return a tap for a second evaluation, whose noise is used for P_t but not for D_t (Asyrp), or None.

        If `taps` returns a `sfumato.models.encoder_half.EncoderHalf`, the second evaluation can reuse the encoder half
        of the first.
        """
        return None

    def prediction(self, state: StepNoise, prediction: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Change the prediction P_t of x_0; D_t stays unchanged."""
        return prediction

    def noise_map(self, state: StepMean, z: Float[Tensor, "b c h w"] | None) -> Float[Tensor, "b c h w"] | None:
        """Change the noise map z_t. The step adds `noise_scale(state.sigma)` z_t to the mean; nothing if None."""
        return z


def checked(
    state: StepState, shift: Shift, hook: str, given: Float[Tensor, "b c h w"] | None, value: object
) -> Float[Tensor, "b c h w"]:
    """Check the value that a hook of a shift returned.

    Args:
        state: the step.
        shift: the shift; messages contain its attribute `name`, or the name of its class.
        hook: name of the hook.
        given: the value that the hook received.
        value: the value that it returned.

    Raises:
        BadInput: the value is not a tensor of the shape of the latents.
        NonFinite: the hook changed the value, and in the dtype of the latents it contains NaN or infinity.
    """
    like = state.x_t
    if isinstance(value, Tensor) and value.shape == like.shape:
        if value is not given:
            name = f"the result of the hook {hook} of {getattr(shift, 'name', type(shift).__name__)}"
            check_finite(value.to(like.dtype), name, state.i, state.steps, state.t)
        return value
    found = f"one of the shape {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
    raise BadInput(
        f"{type(shift).__name__}.{hook} must return a tensor of the shape {list(like.shape)} of the latents, "
        f"not {found}."
    )
