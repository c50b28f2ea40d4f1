"""The sentences that answer bad input: who; what was expected, what arrived; what to do."""

import difflib
from collections.abc import Iterable
from typing import Any

import numpy as np

from gru_np._aliases import Array, Shape


def spell(shape: Iterable[Any]) -> str:
    """Write a shape as in the documentation: (batch, time, 8)."""
    names = [str(size) for size in shape]
    return f"({', '.join(names)},)" if len(names) == 1 else f"({', '.join(names)})"


def require_rank(who: str, what: str, x: Array, axes: tuple[Any, ...], advice: str = "") -> None:
    """Raise unless x has these axes; an int is a size that must match, a str names a free one."""
    shape = x.shape
    if len(shape) == len(axes):
        for axis, size in zip(axes, shape, strict=True):
            if axis != size and not isinstance(axis, str):
                break
        else:
            return
    raise ValueError(
        f"{who}: {what} must have shape {spell(axes)}, got {spell(shape)}"
        + (f"; {advice}" if advice else "")
    )


def require_features(who: str, x: Array, size: int) -> None:
    """Raise unless the last axis of x has this size."""
    if x.ndim == 0 or x.shape[-1] != size:
        raise ValueError(
            f"{who}: x must have shape (..., {size}), got {spell(x.shape)}; "
            f"this layer was built for {size} features on the last axis"
        )


def require_last(who: str, shape: Shape) -> int:
    """Give the size of the last axis of an input shape, which must be known, or raise."""
    if len(shape) < 2 or shape[-1] is None:
        raise ValueError(
            f"{who}: the input's last axis must have a known size, got {spell(shape)}; "
            "an Embedding in front turns token ids into vectors"
        )
    return shape[-1]


def require_sequence(who: str, shape: Shape) -> None:
    """Raise unless an input shape is that of sequences, (batch, time, features)."""
    if len(shape) != 3:
        raise ValueError(
            f"{who}: the input must have shape (batch, time, features), got {spell(shape)}; "
            + (
                "a recurrent layer in front must have return_sequences=True, an array of one "
                "time step needs a time axis, x[:, None, :]"
                if len(shape) == 2
                else "join or leave out the axes between time and features"
            )
        )


def require_choice(who: str, what: str, value: Any, choices: Iterable[str]) -> None:
    """Raise unless value is one of the choices; a near miss is suggested."""
    choices = list(choices)
    if value not in choices:
        near = difflib.get_close_matches(str(value), choices, n=1)
        raise ValueError(
            f"{who}: {what} must be one of {', '.join(map(repr, choices))}, got {value!r}"
            + (f"; did you mean {near[0]!r}?" if near else "")
        )


def require_count(who: str, what: str, value: Any, least: int = 1) -> int:
    """Give the value as an int of at least this size, or raise."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{who}: {what} must be an integer, got {value!r}")
    if value < least:
        raise ValueError(f"{who}: {what} must be at least {least}, got {value}")
    return int(value)


def require_rate(who: str, what: str, value: Any) -> float:
    """Give the probability as a float in [0, 1], or raise."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise TypeError(f"{who}: {what} must be a number, got {value!r}")
    if not 0 <= value <= 1:
        raise ValueError(f"{who}: {what} must be in [0, 1], got {value}")
    return float(value)
