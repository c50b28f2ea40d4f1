"""`gru_forward` and `gru_backward` as `gru_np` offers them: arguments checked, then dispatched.

Below this boundary arguments are trusted, by compiled loops that look up no bounds; so everything
that decides where they read and write is settled here. T time, B batch, I input, H hidden.
"""

from typing import Any

import numpy as np

from gru_np import kernels
from gru_np._checks import require_choice, require_rank
from gru_np._intake import DOUBLE, FLOAT, as_floats, as_integers, as_mask
from gru_np.recurrence import ACTIVATIONS

FORWARD, BACKWARD = "gru_forward", "gru_backward"


def gru_forward(
    x: Any,
    h0: Any,
    W_ih: Any,
    W_hh: Any,
    b_ih: Any,
    b_hh: Any,
    reset_after: bool = True,
    lengths: Any = None,
    mask: Any = None,
    activation: str = "tanh",
    recurrent_activation: str = "sigmoid",
    *,
    inference: bool = False,
) -> tuple[Any, Any]:
    """Run a GRU over time, compiled where that pays.

    The equations, shapes and results are those of `gru_np.recurrence.gru_forward`:
    x (T, B, I), h0 (B, H) or None, W_ih (3H, I), W_hh (3H, H), biases (3H,) or None, lengths (B,)
    integers in 0..T in any order, mask (T, B) bool; h (T + 1, B, H) with h[0] = h0.

    Returns
    -------
    h : (T + 1, B, H)
    saved
        For `gru_backward`; with `inference=True` None: nothing is kept, and it is faster.

    Raises
    ------
    ValueError, TypeError
        If shapes, lengths, mask or dtypes do not fit together.

    Notes
    -----
    Compiled, every element of h is one chain of operations in fixed order: its bits are the same
    for any batch size, any chunking of time and any number of threads.

    Source: arXiv:1406.1078v3, eq. 5-8; reset after the product as in cuDNN.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np import gru_forward
    >>> rng = np.random.default_rng(0)
    >>> x, W_ih, W_hh = (rng.standard_normal(s) for s in [(5, 3, 2), (12, 2), (12, 4)])
    >>> h, saved = gru_forward(x, None, W_ih, W_hh, None, None, lengths=[5, 0, 2])
    >>> h.shape, bool((h[3:, 2] == h[2, 2]).all())  # beyond its length a state stands still
    ((6, 3, 4), True)
    >>> gru_forward(x, None, W_ih, W_hh, None, None, inference=True)[1] is None
    True
    """
    plain = lengths is mask is None and (activation, recurrent_activation) == ("tanh", "sigmoid")
    if plain and _in_order(x, h0, W_ih, W_hh, b_ih, b_hh):
        return kernels.gru_forward(
            x, h0, W_ih, W_hh, b_ih, b_hh, bool(reset_after), inference=inference
        )
    x, W_ih, W_hh = as_floats(FORWARD, x), _floats("W_ih", W_ih), _floats("W_hh", W_hh)
    require_rank(FORWARD, "x", x, ("time", "batch", "features"), "x is time first here")
    T, B, I = x.shape  # noqa: E741 - the paper's name for the input size
    require_rank(FORWARD, "W_hh", W_hh, ("3H", "H"))
    H = W_hh.shape[1]
    require_rank(FORWARD, "W_hh", W_hh, (3 * H, H), "rows of the gates r, z, n")
    require_rank(FORWARD, "W_ih", W_ih, (3 * H, I), "rows of the gates r, z, n; x has I features")
    h0, b_ih, b_hh = (
        _optional(name, array, shape)
        for name, array, shape in [
            ("h0", h0, (B, H)), ("b_ih", b_ih, (3 * H,)), ("b_hh", b_hh, (3 * H,)),
        ]
    )  # fmt: skip
    lengths = None if lengths is None else _lengths(lengths, T, B)
    if mask is not None:
        mask = as_mask(FORWARD, mask, (T, B), "a mask is time first here")
    require_choice(FORWARD, "activation", activation, ACTIVATIONS)
    require_choice(FORWARD, "recurrent_activation", recurrent_activation, ACTIVATIONS)
    return kernels.gru_forward(
        x, h0, W_ih, W_hh, b_ih, b_hh,
        bool(reset_after), lengths, mask, activation, recurrent_activation,
        inference=inference,
    )  # fmt: skip


def gru_backward(dh: Any, saved: Any) -> tuple[Any, Any, Any, Any, Any, Any]:
    """Gradient of `gru_forward`: backpropagation through time, compiled if the forward pass was.

    As `gru_np.recurrence.gru_backward`: dh (T + 1, B, H) is the gradient of the loss by every
    state as an output, and dh[0] adds to dh0; dh (T, B, H) is that by h[1:], a layer's outputs.

    Returns
    -------
    dx, dh0, dW_ih, dW_hh, db_ih, db_hh
        Each of the shape of what it is the gradient by; None for an absent bias.

    Raises
    ------
    ValueError, TypeError
        If dh is not of the shape of h or h[1:], or saved is not what `gru_forward` gave.

    Notes
    -----
    Compiled, the gradients have the same bits for any number of threads.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np import gru_backward, gru_forward
    >>> rng = np.random.default_rng(0)
    >>> x, W_ih, W_hh = (rng.standard_normal(s) for s in [(5, 3, 2), (12, 2), (12, 4)])
    >>> h, saved = gru_forward(x, None, W_ih, W_hh, None, None)
    >>> dx, dh0, dW_ih, dW_hh, db_ih, db_hh = gru_backward(np.ones_like(h), saved)
    >>> dx.shape, dW_hh.shape, db_ih is None
    ((5, 3, 2), (12, 4), True)
    """
    if getattr(saved, "h", None) is None:
        got = type(saved).__name__
        raise TypeError(f"{BACKWARD}: saved must be the second result of gru_forward, got {got}")
    h = saved.h
    if not (_is(dh, h.dtype, 3) and dh.shape in (h.shape, h[1:].shape)):
        dh = _floats("dh", dh, BACKWARD)
        if dh.shape != h[1:].shape:
            hint = "one gradient for each state, h[0] included or not"
            require_rank(BACKWARD, "dh", dh, h.shape, hint)
    return kernels.gru_backward(dh, saved)


def _in_order(x: Any, h0: Any, W_ih: Any, W_hh: Any, b_ih: Any, b_hh: Any) -> bool:
    """Whether there is plainly nothing to convert or to complain of.

    A small step takes a few microseconds, several times less than to look closely at arguments.
    """
    dtype = getattr(x, "dtype", None)
    if dtype not in (FLOAT, DOUBLE) or not _is(x, dtype, 3) or not _is(W_hh, dtype, 2):
        return False
    (_, B, I), (rows, H) = x.shape, W_hh.shape  # noqa: E741
    return (
        rows == 3 * H
        and _is(W_ih, dtype, 2)
        and W_ih.shape == (rows, I)
        and (h0 is None or (_is(h0, dtype, 2) and h0.shape == (B, H)))
        and (b_ih is None or (_is(b_ih, dtype, 1) and len(b_ih) == rows))
        and (b_hh is None or (_is(b_hh, dtype, 1) and len(b_hh) == rows))
    )


def _is(a: Any, dtype: Any, rank: int) -> bool:
    return type(a) is np.ndarray and a.dtype is dtype and a.ndim == rank


def _floats(what: str, array: Any, who: str = FORWARD) -> Any:
    return as_floats(who, array, what)


def _optional(what: str, array: Any, shape: tuple[int, ...]) -> Any:
    if array is None:
        return None
    array = _floats(what, array)
    require_rank(FORWARD, what, array, shape, f"{what} may be None")
    return array


def _lengths(lengths: Any, T: int, B: int) -> Any:
    lengths = as_integers(FORWARD, lengths, "lengths")
    require_rank(FORWARD, "lengths", lengths, (B,))
    if B and not (lengths.min() >= 0 and lengths.max() <= T):
        raise ValueError(
            f"{FORWARD}: lengths must be in 0..{T}, the steps of x, got {lengths.min()} to "
            f"{lengths.max()}"
        )
    return lengths
