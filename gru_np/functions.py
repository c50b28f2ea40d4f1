"""`gru_forward` and `gru_backward` as `gru_np` offers them: arguments checked, then dispatched.

Arrays are looked at where both ways part, in `gru_np.kernels`. T time, B batch, I input, H hidden.
"""

from typing import Any

from gru_np import kernels
from gru_np._checks import require_choice
from gru_np.recurrence import ACTIVATIONS


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
    integers in 0..T in any order, mask (T, B) bool; h (T + 1, B, H) with h[0] = h0. Everything is
    computed in the common dtype of all arrays.

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
    if (activation, recurrent_activation) != ("tanh", "sigmoid"):
        require_choice("gru_forward", "activation", activation, ACTIVATIONS)
        require_choice("gru_forward", "recurrent_activation", recurrent_activation, ACTIVATIONS)
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
    return kernels.gru_backward(dh, saved)
