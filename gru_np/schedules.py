"""Learning rates that change with the step: plain objects, `schedule(step) -> float`.

A step is one update of the weights; the first is number 0. Give a schedule as the learning rate of
an optimiser. Names and equations are Keras 3's where Keras has the same thing.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from gru_np._named import Configured, describe, require_known, require_number, resolve


class Schedule(Configured):
    """Base of all schedules: a subclass defines `__call__(step) -> float`.

    Examples
    --------
    >>> from gru_np.optimizers import Adam
    >>> from gru_np.schedules import ExponentialDecay
    >>> optimizer = Adam(learning_rate=ExponentialDecay(0.01, decay_steps=100, decay_rate=0.5))
    >>> optimizer.learning_rate(200)
    0.0025
    """

    def __call__(self, step: float) -> float:
        """Give the learning rate of this step, counted from 0."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__")

    def _number(self, what: str, value: Any, **bounds: Any) -> float:
        return require_number(type(self).__name__, what, value, **bounds)


class Constant(Schedule):
    """The same rate at every step.

    Parameters
    ----------
    learning_rate : float

    Examples
    --------
    >>> from gru_np.schedules import Constant
    >>> Constant(0.1)(1000)
    0.1
    """

    def __init__(self, learning_rate: float):
        self.learning_rate = self._number("learning_rate", learning_rate)

    def __call__(self, step: float) -> float:
        """Give the learning rate of this step."""
        return self.learning_rate


class PiecewiseConstantDecay(Schedule):
    """Steps down (or up) at given steps.

        η(s) = values[i],  i = number of boundaries b with s > b

    Parameters
    ----------
    boundaries : sequence of int
        b, strictly increasing: the last step that still has the rate before it.
    values : sequence of float
        One more than boundaries.

    Examples
    --------
    >>> from gru_np.schedules import PiecewiseConstantDecay
    >>> schedule = PiecewiseConstantDecay([100, 200], [0.1, 0.01, 0.001])
    >>> schedule(100), schedule(101), schedule(500)
    (0.1, 0.01, 0.001)
    """

    def __init__(self, boundaries: Sequence[int], values: Sequence[float]):
        self.boundaries = [self._number("boundaries", b) for b in boundaries]
        self.values = [self._number("values", value) for value in values]
        if len(self.values) != len(self.boundaries) + 1:
            raise ValueError(
                "PiecewiseConstantDecay: values must be one more than boundaries, "
                f"got {len(self.values)} and {len(self.boundaries)}"
            )
        if any(b >= c for b, c in zip(self.boundaries, self.boundaries[1:], strict=False)):
            raise ValueError(
                f"PiecewiseConstantDecay: boundaries must increase, got {list(boundaries)}"
            )

    def __call__(self, step: float) -> float:
        """Give the learning rate of this step."""
        return self.values[sum(step > b for b in self.boundaries)]


class ExponentialDecay(Schedule):
    """Multiplied by `decay_rate` every `decay_steps` steps.

        η(s) = η₀ d^(s / S),  with s / S rounded down if staircase

    Parameters
    ----------
    initial_learning_rate : float
        η₀.
    decay_steps : float
        S > 0, in steps.
    decay_rate : float
        d ≥ 0.
    staircase : bool
        Keep the rate for S steps, then drop it.

    Examples
    --------
    >>> from gru_np.schedules import ExponentialDecay
    >>> schedule = ExponentialDecay(0.4, decay_steps=10, decay_rate=0.5, staircase=True)
    >>> schedule(9), schedule(10), schedule(25)
    (0.4, 0.2, 0.1)
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        decay_rate: float,
        staircase: bool = False,
    ):
        self.initial_learning_rate = self._number("initial_learning_rate", initial_learning_rate)
        self.decay_steps = self._number("decay_steps", decay_steps, open_="(")
        self.decay_rate = self._number("decay_rate", decay_rate)
        self.staircase = bool(staircase)

    def __call__(self, step: float) -> float:
        """Give the learning rate of this step."""
        periods = step / self.decay_steps
        if self.staircase:
            periods = math.floor(periods)
        return self.initial_learning_rate * self.decay_rate**periods


class CosineDecay(Schedule):
    """Half a cosine from the first rate down to a share of it, after an optional linear warm-up.

    Without warm-up (`warmup_target` None, W = 0), η_w = η₀; with it η_w = `warmup_target`:

        η(s) = η₀ + (η_w - η₀) s / W                                          s < W
        η(s) = η_w ((1 - α) (1 + cos(π min(s - W, S) / S)) / 2 + α)           s ≥ W

    Parameters
    ----------
    initial_learning_rate : float
        η₀.
    decay_steps : float
        S > 0, in steps, counted from the end of the warm-up.
    alpha : float
        α, the share of the rate that is left at the end.
    warmup_target : float, optional
        η_w; None skips the warm-up.
    warmup_steps : float
        W, in steps; counts only with a `warmup_target`.

    Notes
    -----
    Source: arXiv:1608.03983, eq. 5, without restarts.

    Examples
    --------
    >>> from gru_np.schedules import CosineDecay
    >>> schedule = CosineDecay(0.0, decay_steps=100, warmup_target=0.1, warmup_steps=10)
    >>> [round(schedule(step), 6) for step in (0, 5, 10, 60, 110, 1000)]
    [0.0, 0.05, 0.1, 0.05, 0.0, 0.0]
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        alpha: float = 0.0,
        warmup_target: float | None = None,
        warmup_steps: float = 0,
    ):
        self.initial_learning_rate = self._number("initial_learning_rate", initial_learning_rate)
        self.decay_steps = self._number("decay_steps", decay_steps, open_="(")
        self.alpha = self._number("alpha", alpha)
        self.warmup_target = (
            None if warmup_target is None else self._number("warmup_target", warmup_target)
        )
        self.warmup_steps = self._number("warmup_steps", warmup_steps)

    def __call__(self, step: float) -> float:
        """Give the learning rate of this step."""
        peak, warmup = self.initial_learning_rate, 0.0
        if self.warmup_target is not None:
            peak, warmup = self.warmup_target, self.warmup_steps
        if step < warmup:
            return self.initial_learning_rate + (peak - self.initial_learning_rate) * step / warmup
        done = min(step - warmup, self.decay_steps) / self.decay_steps
        cosine = 0.5 * (1 + math.cos(math.pi * done))
        return peak * ((1 - self.alpha) * cosine + self.alpha)


class WarmUp(Schedule):
    """A linear rise before another schedule (or a constant rate) begins.

        η(s) = η₀ + (schedule(0) - η₀) s / W       s < W
        η(s) = schedule(s - W)                     s ≥ W

    Parameters
    ----------
    schedule : Schedule or float
        What follows; its step 0 is where the warm-up ends.
    warmup_steps : float
        W, in steps.
    initial_learning_rate : float
        η₀.

    Notes
    -----
    Around a `CosineDecay` this is Keras' `CosineDecay` with `warmup_target`. The first step has the
    rate η₀: with η₀ = 0 it changes nothing but the optimiser's averages.

    Examples
    --------
    >>> from gru_np.schedules import ExponentialDecay, WarmUp
    >>> schedule = WarmUp(ExponentialDecay(0.4, 10, 0.5), warmup_steps=4)
    >>> [schedule(step) for step in (0, 1, 4, 14)]
    [0.0, 0.1, 0.4, 0.2]
    """

    def __init__(
        self, schedule: Any, warmup_steps: float = 1000, initial_learning_rate: float = 0.0
    ):
        self.schedule = get(schedule)
        self.warmup_steps = self._number("warmup_steps", warmup_steps)
        self.initial_learning_rate = self._number("initial_learning_rate", initial_learning_rate)

    def __call__(self, step: float) -> float:
        """Give the learning rate of this step."""
        if step < self.warmup_steps:
            rise = self.schedule(0) - self.initial_learning_rate
            return self.initial_learning_rate + rise * step / self.warmup_steps
        return self.schedule(step - self.warmup_steps)

    def get_config(self) -> dict[str, Any]:
        """Give the constructor arguments, ready for JSON."""
        return super().get_config() | {"schedule": serialize(self.schedule)}


class InTurn(Schedule):
    """One schedule after another, each counting its steps from 0: a restart, for one.

        η(s) = schedules[i](s - b_i),  i = number of boundaries ≤ s,  b_i the last of them, or 0

    Parameters
    ----------
    schedules : sequence of Schedule or float
        One more than boundaries.
    boundaries : sequence of int
        Strictly increasing, from 1 on: the first step of each schedule but the first.

    Notes
    -----
    PyTorch's `SequentialLR`. Two `CosineDecay` are a warm restart (arXiv:1608.03983, eq. 5).

    Examples
    --------
    >>> from gru_np.schedules import ExponentialDecay, InTurn
    >>> schedule = InTurn([ExponentialDecay(0.4, 1, 0.5), 0.3], boundaries=[2])
    >>> [schedule(step) for step in range(4)]
    [0.4, 0.2, 0.3, 0.3]
    """

    def __init__(self, schedules: Sequence[Any], boundaries: Sequence[int]):
        self.schedules = [get(schedule) for schedule in schedules]
        self.boundaries = [self._number("boundaries", b) for b in boundaries]
        if len(self.schedules) != len(self.boundaries) + 1:
            raise ValueError(
                "InTurn: schedules must be one more than boundaries, "
                f"got {len(self.schedules)} and {len(self.boundaries)}"
            )
        if any(b >= c for b, c in pairwise([0, *self.boundaries])):
            raise ValueError(f"InTurn: boundaries must increase from 1 on, got {list(boundaries)}")

    def __call__(self, step: float) -> float:
        """Give the learning rate of this step."""
        i = sum(step >= b for b in self.boundaries)
        return self.schedules[i](step - [0, *self.boundaries][i])

    def get_config(self) -> dict[str, Any]:
        """Give the constructor arguments, ready for JSON."""
        return super().get_config() | {"schedules": [serialize(s) for s in self.schedules]}


SCHEDULES: dict[str, type[Schedule]] = {
    cls.__name__: cls
    for cls in (Constant, PiecewiseConstantDecay, ExponentialDecay, CosineDecay, WarmUp, InTurn)
}


def get(identifier: Any) -> Schedule:
    """Give the schedule meant by a Schedule, a description (`serialize`) or a number.

    Examples
    --------
    >>> from gru_np import schedules
    >>> schedules.get(0.1)
    Constant(learning_rate=0.1)
    >>> schedules.get({"class_name": "Constant", "config": {"learning_rate": 0.2}})(7)
    0.2
    """
    if isinstance(identifier, str):
        raise TypeError(f"a schedule must be a Schedule or a number, got {identifier!r}")
    if isinstance(identifier, int | float):
        return Constant(identifier)
    return resolve("schedule", identifier, SCHEDULES, Schedule)


def serialize(schedule: Schedule) -> dict[str, Any]:
    """Describe a schedule, ready for JSON; `get` takes it back.

    Examples
    --------
    >>> from gru_np import schedules
    >>> schedules.serialize(schedules.Constant(0.1))
    {'class_name': 'Constant', 'config': {'learning_rate': 0.1}}
    """
    return describe(require_known("schedule", schedule, SCHEDULES))
