"""What stands before compiled loops, which look up no bounds: every array is looked at once.

Shape, dtype and order of what a pass is given and of what a plan is made of. To look costs a
fraction of a microsecond an array; only what does not fit is looked at twice.
T time, B batch, I input, H hidden.
"""

from typing import Any

import numpy as np

from gru_np._aliases import Array, Shape
from gru_np._checks import require_rank
from gru_np._intake import DOUBLE, FLOAT, as_floats, as_integers, as_mask

COMPILED = FLOAT, DOUBLE
FORWARD, BACKWARD = "gru_forward", "gru_backward"


def is_plain(a: Any, dtype: Any, shape: Shape) -> bool:
    """Whether this is an array and nothing else, of a dtype and shape."""
    return type(a) is np.ndarray and (a.dtype is dtype or a.dtype == dtype) and a.shape == shape


def in_order(x: Any, h0: Any, W_ih: Any, W_hh: Any, b_ih: Any, b_hh: Any) -> bool:
    """Whether there is plainly nothing to convert or to complain of.

    A small step takes a few microseconds, several times less than to look closely at arguments.
    """
    dtype = getattr(x, "dtype", None)
    if (
        (dtype is not FLOAT and dtype is not DOUBLE)
        or type(x) is not np.ndarray
        or type(W_hh) is not np.ndarray
        or x.ndim != 3
        or W_hh.ndim != 2
    ):
        return False
    (_, B, I), (rows, H) = x.shape, W_hh.shape  # noqa: E741
    return (
        rows == 3 * H
        and (W_hh.dtype is dtype or W_hh.dtype == dtype)
        and is_plain(W_ih, dtype, (rows, I))
        and (h0 is None or is_plain(h0, dtype, (B, H)))
        and (b_ih is None or is_plain(b_ih, dtype, (rows,)))
        and (b_hh is None or is_plain(b_hh, dtype, (rows,)))
    )


def put_in_order(x: Any, h0: Any, W_ih: Any, W_hh: Any, b_ih: Any, b_hh: Any) -> list[Any]:
    """Give the arguments of `gru_forward` as arrays that fit, of one dtype, or raise."""
    x, W_ih, W_hh, h0, b_ih, b_hh = (
        None if a is None and name in ("h0", "b_ih", "b_hh") else as_floats(FORWARD, a, name)
        for name, a in [
            ("x", x), ("W_ih", W_ih), ("W_hh", W_hh), ("h0", h0), ("b_ih", b_ih), ("b_hh", b_hh),
        ]
    )  # fmt: skip
    require_rank(FORWARD, "x", x, ("time", "batch", "features"), "x is time first here")
    _, B, I = x.shape  # noqa: E741
    require_rank(FORWARD, "W_hh", W_hh, ("3H", "H"))
    H = W_hh.shape[1]
    require_rank(FORWARD, "W_hh", W_hh, (3 * H, H), "rows of the gates r, z, n")
    require_rank(FORWARD, "W_ih", W_ih, (3 * H, I), "rows of the gates r, z, n; x has I features")
    optional = [("h0", h0, (B, H)), ("b_ih", b_ih, (3 * H,)), ("b_hh", b_hh, (3 * H,))]
    for name, array, shape in optional:
        if array is not None:
            require_rank(FORWARD, name, array, shape, f"{name} may be None")
    given = [x, h0, W_ih, W_hh, b_ih, b_hh]
    dtype = np.result_type(*(a for a in given if a is not None))
    return [None if a is None else a.astype(dtype, copy=False) for a in given]


def steps_in_order(lengths: Any, mask: Any, T: int, B: int) -> tuple[Any, Any]:
    """Give lengths (B,) and a mask (T, B) as arrays that fit, or raise."""
    if mask is not None:
        mask = as_mask(FORWARD, mask, (T, B), "a mask is time first here")
    if lengths is not None:
        lengths = indices(FORWARD, "lengths", lengths, (B,))
        if B and not (lengths.min() >= 0 and lengths.max() <= T):
            raise ValueError(
                f"{FORWARD}: lengths must be in 0..{T}, the steps of x, got {lengths.min()} to "
                f"{lengths.max()}"
            )
    return lengths, mask


def require_layer(W_ih: Any, W_hh: Any, b_ih: Any, b_hh: Any, size: int, dtype: Any) -> int:
    """Give H of a layer for inputs of a size, or raise unless its arrays fit."""
    require_rank(FORWARD, "W_hh", W_hh, ("3H", "H"))
    H: int = W_hh.shape[1]
    shapes = [
        ("W_ih", W_ih, (3 * H, size)), ("W_hh", W_hh, (3 * H, H)),
        ("b_ih", b_ih, (3 * H,)), ("b_hh", b_hh, (3 * H,)),
    ]  # fmt: skip
    for name, array, shape in shapes:
        if array is not None or name[0] == "W":
            require_rank(FORWARD, name, array, shape)
            require_real(FORWARD, name, array)
    return H


def require_real(who: str, what: str, array: Any) -> None:
    """Raise unless the array holds real numbers that compiled code can take over."""
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{who}: {what} must hold real numbers, got an array of {array.dtype}")


def gradient_in_order(dh: Any, h: Array) -> Array:
    """Give the gradient by h, or by h[1:] alone, as an array of h's dtype, or raise."""
    later = (len(h) - 1, *h.shape[1:])
    if is_plain(dh, h.dtype, later) or is_plain(dh, h.dtype, h.shape):
        return dh
    dh = as_floats(BACKWARD, dh, "dh")
    if dh.dtype.kind == "c" and h.dtype.kind != "c":
        raise TypeError(f"{BACKWARD}: dh must be real, as h is, got {dh.dtype}; give dh.real")
    if dh.shape != later:
        hint = "one gradient for each state, h[0] included or not"
        require_rank(BACKWARD, "dh", dh, h.shape, hint)
    return dh.astype(h.dtype, copy=False)


def require_inside(who: str, what: str, wrong: int, integers: Array, end: int) -> None:
    """Raise if the integer at place `wrong` is outside of 0..end-1; -1: none is."""
    if wrong >= 0:
        raise ValueError(
            f"{who}: {what} must be in 0..{end - 1}, got {integers[wrong]} at place {wrong}"
        )


def indices(who: str, what: str, a: Any, shape: tuple[Any, ...]) -> Array:
    """Give integers of a shape as indices, or raise; those too large for that become negative."""
    a = as_integers(who, a, what)
    require_rank(who, what, a, shape)
    return a.astype(np.intp, copy=False)
