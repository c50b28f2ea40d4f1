"""The GRU over time in NumPy: the loop around `gru_np.equations`, forward and back.

Notation: T time, B batch, I input, H hidden. Rows of the weights are r, z, n.

    a_ih[t] = W_ih x[t] + b_ih       one product over many steps at once, ahead of the loop
    a_hh[t] = W_hh h[t] + b_hh       one product a step (two if the reset comes before)
    h[t+1]  = step(a_ih[t], a_hh[t], h[t])

Going back, the loop stops at the pre-activations; each weight gradient is then one product over
many steps, added up. Any float or complex dtype. Arguments are trusted here: `gru_np.kernels`,
where the compiled twins are called too, looks at them.

Backpropagation through time: arXiv:1406.1078v3 and 1412.3555 give the forward equations; the
gradient is ours, checked by complex step to 1e-13 (`gru_np.gradcheck`).
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from gru_np import equations
from gru_np._aliases import Array

# name: (the function of the pre-activation, its derivative as a function of the value)
ACTIVATIONS = {
    "tanh": (equations.tanh, equations.tanh_derivative),
    "sigmoid": (equations.sigmoid, equations.sigmoid_derivative),
    "relu": (equations.relu, equations.relu_derivative),
    "linear": (equations.linear, equations.linear_derivative),
    "hard_sigmoid": (equations.hard_sigmoid, equations.hard_sigmoid_derivative),
}


# An interrupt waits until a product is over, so a product is of so many operations at most: a tenth
# of a second. None is so small that it would be slower for that.
OPERATIONS = 1e9


class Saved(NamedTuple):
    """What `gru_forward` leaves for `gru_backward` (and for `gru_np.gates` to look at)."""

    x: Array  # (T, B, I), masked steps zeroed
    h: Array  # (T + 1, B, H)
    r: Array  # (T, B, H)
    z: Array
    n: Array
    a_hn: Array  # (T, B, H)
    valid: Array | None  # (T, B) bool, or None: every step counts
    drop: Array | None  # (3, B, H) recurrent dropout masks of r, z, n, or None
    W_ih: Array
    W_hh: Array
    b_ih: Array | None
    b_hh: Array | None
    reset_after: bool
    activation: str
    recurrent_activation: str


def valid_steps(T: int, B: int, lengths: Any = None, mask: Any = None) -> Array | None:
    """Which steps count, as bool (T, B), from lengths (B,) and a mask (T, B); None if all do."""
    valid = None if mask is None else np.asarray(mask, bool)
    if lengths is not None:
        within = np.arange(T)[:, None] < np.asarray(lengths)
        valid = within if valid is None else valid & within
    return None if valid is None or valid.all() else valid


def spans(T: int, operations: float) -> Iterator[slice]:
    """Cut time in as few spans as may be multiplied at once, at so many operations a step.

    There is at least one, be it empty.
    """
    at_once = max(1, int(OPERATIONS / max(operations, 1)))
    return (slice(t, min(t + at_once, T)) for t in range(0, max(T, 1), at_once))


def gates(a: Array) -> list[Array]:
    """Split into views of the three gates r, z, n of a (..., 3H) array."""
    return np.split(a, 3, axis=-1)


def product(h: Array, W: Array, drop: Array | None) -> Array:
    """Multiply h by the rows of W; with dropout each gate sees h through a mask of its own."""
    if drop is None:
        return h @ W.T
    blocks = zip(drop, np.split(W, len(drop)), strict=True)
    return np.concatenate([(h * m) @ W_g.T for m, W_g in blocks], axis=-1)


def product_backward(da: Array, W: Array, drop: Array | None) -> Array:
    """Gradient of `product` by h."""
    # a = product(h, W, drop)
    if drop is None:
        return da @ W
    das = np.split(da, len(drop), axis=-1)
    blocks = zip(das, np.split(W, len(drop)), drop, strict=True)
    return np.add.reduce([(da_g @ W_g) * m for da_g, W_g, m in blocks])


def projected(x: Array, W_ih: Array, b_ih: Array) -> Iterator[tuple[int, Array]]:
    """Give t and a_ih[t] (B, 3H) for every step, computed for many steps ahead."""
    T, B, I = x.shape  # noqa: E741
    for span in spans(T, 2.0 * B * W_ih.size):
        # a_ih = W_ih x + b_ih
        steps = span.stop - span.start
        a_ih = x[span].reshape(steps * B, I) @ W_ih.T + b_ih
        yield from enumerate(a_ih.reshape(steps, B, len(W_ih)), span.start)


def gru_forward(
    x: Array,
    h0: Array | None,
    W_ih: Array,
    W_hh: Array,
    b_ih: Array | None,
    b_hh: Array | None,
    reset_after: bool = True,
    lengths: Any = None,
    mask: Any = None,
    activation: str = "tanh",
    recurrent_activation: str = "sigmoid",
    drop: Array | None = None,
) -> tuple[Array, Saved]:
    """Run a GRU over a batch of sequences.

    The equations are `gru_np.equations`', with a_ih = W_ih x + b_ih and a_hh = W_hh h + b_hh.

    Parameters
    ----------
    x : (T, B, I) float or complex
        Input, time first. Never modified.
    h0 : (B, H) or None
        Initial state; None is zeros.
    W_ih : (3H, I)
        Input-to-hidden weights, rows W_ir, W_iz, W_in.
    W_hh : (3H, H)
        Hidden-to-hidden weights, rows W_hr, W_hz, W_hn.
    b_ih, b_hh : (3H,) or None
        Biases; None is no bias.
    reset_after : bool
        Apply the reset gate after the product with W_hn (cuDNN, PyTorch, Keras' default) or to
        the state before it (Cho 2014, ONNX' default).
    lengths : (B,) int, optional
        Steps of each sequence that count, each in 0..T, in any order.
    mask : (T, B) bool, optional
        True where a step counts. A step that does not copies the state, h[t+1] = h[t], and its
        x is never used, be it NaN.
    activation, recurrent_activation : str
        φ and σ: "tanh", "sigmoid", "relu", "linear" or "hard_sigmoid".
    drop : (3, B, H), optional
        Recurrent dropout: what the state is multiplied by on its way into the products of r, z
        and n, the same at every step (arXiv:1512.05287). The path z ⊙ h is left alone.

    Returns
    -------
    h : (T + 1, B, H)
        All states; h[0] is the initial one and h[t + 1] the one after x[t]. Contiguous.
    saved : Saved
        What `gru_backward` needs.

    Notes
    -----
    Source: arXiv:1406.1078v3, eq. 5-8, with a bias on each side; reset-after as in cuDNN.
    Cost: 6 T B H (I + H) floating-point operations for the products.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np import recurrence
    >>> rng = np.random.default_rng(0)
    >>> x, W_ih, W_hh = (rng.standard_normal(s) for s in [(5, 3, 2), (12, 2), (12, 4)])
    >>> h, saved = recurrence.gru_forward(x, None, W_ih, W_hh, None, None)
    >>> h.shape  # T + 1 = 6 states of B = 3 rows and H = 4 units
    (6, 3, 4)
    """
    (sigma, _), (phi, _) = ACTIVATIONS[recurrent_activation], ACTIVATIONS[activation]
    T, B, _ = x.shape
    H = W_hh.shape[1]
    given = [a for a in (x, h0, W_ih, W_hh, b_ih, b_hh) if a is not None]
    dtype = np.result_type(*given)
    valid = valid_steps(T, B, lengths, mask)
    if valid is not None:
        x = np.where(valid[:, :, None], x, 0)
    zero = np.zeros(3 * H, dtype)
    b_hr_hz, b_hn = np.split(zero if b_hh is None else b_hh, [2 * H])
    W_hr_hz, W_hn = np.split(W_hh, [2 * H])
    drop_r_z, drop_n = (None, None) if drop is None else (drop[:2], drop[2:])

    h = np.empty((T + 1, B, H), dtype)
    h[0] = 0 if h0 is None else h0
    r, z, n, a_hn = (np.empty((T, B, H), dtype) for _ in range(4))

    for t, a in projected(x, W_ih, zero if b_ih is None else b_ih):
        a_ir, a_iz, a_in = gates(a)
        if reset_after:
            a_hh = product(h[t], W_hh, drop)
            a_hr, a_hz = np.split(a_hh[:, : 2 * H] + b_hr_hz, 2, axis=-1)
            a_hn[t] = a_hh[:, 2 * H :] + b_hn
            h_next, r[t], z[t], n[t] = equations.gru_step(
                a_ir, a_iz, a_in, a_hr, a_hz, a_hn[t], h[t], sigma, phi
            )
        else:
            a_hr, a_hz = np.split(product(h[t], W_hr_hz, drop_r_z) + b_hr_hz, 2, axis=-1)
            r[t], z[t], rh = equations.gru_gates(a_ir, a_iz, a_hr, a_hz, h[t], sigma)
            a_hn[t] = product(rh, W_hn, drop_n) + b_hn
            h_next, n[t] = equations.gru_candidate(a_in, a_hn[t], z[t], h[t], phi)
        h[t + 1] = h_next if valid is None else np.where(valid[t, :, None], h_next, h[t])

    saved = Saved(
        x, h, r, z, n, a_hn, valid, drop, W_ih, W_hh, b_ih, b_hh,
        reset_after, activation, recurrent_activation,
    )  # fmt: skip
    return h, saved


def gru_backward(
    dh: Array, saved: Saved
) -> tuple[Array, Array, Array, Array, Array | None, Array | None]:
    """Gradient of `gru_forward`: backpropagation through time.

    Parameters
    ----------
    dh : (T + 1, B, H), or (T, B, H)
        Gradient of the loss by every state as an output; dh[0] adds to dh0. Of only T, by h[1:].
        Never modified.
    saved : Saved
        From `gru_forward`.

    Returns
    -------
    dx : (T, B, I)
        Zero at masked steps.
    dh0 : (B, H)
    dW_ih : (3H, I)
    dW_hh : (3H, H)
    db_ih, db_hh : (3H,) or None
        None where the bias was None.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np import recurrence
    >>> rng = np.random.default_rng(0)
    >>> x, W_ih, W_hh = (rng.standard_normal(s) for s in [(5, 3, 2), (12, 2), (12, 4)])
    >>> h, saved = recurrence.gru_forward(x, None, W_ih, W_hh, None, None)
    >>> dx, dh0, dW_ih, dW_hh, db_ih, db_hh = recurrence.gru_backward(np.ones_like(h), saved)
    >>> dx.shape, dW_hh.shape, db_ih is None
    ((5, 3, 2), (12, 4), True)
    """
    return weight_gradients(*through_time(dh, saved), saved)


def through_time(dh: Array, saved: Saved) -> tuple[Array, Array, Array]:
    """First half of `gru_backward`, the loop: the gradient by every state and pre-activation.

    Parameters
    ----------
    dh : (T + 1, B, H), or (T, B, H)
        Gradient of the loss by every state as an output, or by h[1:] alone. Never modified.
    saved : Saved
        From `gru_forward`.

    Returns
    -------
    dh_total : (T + 1, B, H)
        Gradient by every state, as an output and through all that follows from it; [0] is dh0.
    da_ih, da_hh : (T, B, 3H)
        Gradients by the pre-activations of both sides; one array if the reset comes before.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np import recurrence
    >>> rng = np.random.default_rng(0)
    >>> x, W_ih, W_hh = (rng.standard_normal(s) for s in [(5, 3, 2), (12, 2), (12, 4)])
    >>> h, saved = recurrence.gru_forward(x, None, W_ih, W_hh, None, None)
    >>> dh_total, da_ih, da_hh = recurrence.through_time(np.ones_like(h), saved)
    >>> dh_total.shape, da_ih.shape
    ((6, 3, 4), (5, 3, 12))
    """
    x, h, r, z, n, a_hn, valid, drop, _, W_hh, _, _, reset_after, *names = saved
    (_, phi_derivative), (_, sigma_derivative) = (ACTIVATIONS[name] for name in names)
    T, B, _ = x.shape
    H = W_hh.shape[1]
    if len(dh) == T:
        dh = np.concatenate([np.zeros_like(h[:1]), dh])
    W_hr_hz, W_hn = np.split(W_hh, [2 * H])
    drop_r_z, drop_n = (None, None) if drop is None else (drop[:2], drop[2:])
    da_ih = np.empty((T, B, 3 * H), h.dtype)
    # Both sides share da_r and da_z; after the product, da_hn = da_in ⊙ r is another array.
    da_hh = np.empty_like(da_ih) if reset_after else da_ih
    dh_total = np.empty(dh.shape, h.dtype)
    dh_next = dh[T]
    dh_total[T] = dh_next

    for t in reversed(range(T)):
        # h[t + 1] = h_next if valid is None else np.where(valid[t, :, None], h_next, h[t])
        dh_copied = 0 if valid is None else np.where(valid[t, :, None], 0, dh_next)
        dh_next = dh_next if valid is None else np.where(valid[t, :, None], dh_next, 0)
        if reset_after:
            dh_t, da_r, da_z, da_in, da_hn = equations.gru_step_backward(
                dh_next, h[t], r[t], z[t], n[t], a_hn[t], sigma_derivative, phi_derivative
            )
            np.concatenate([da_r, da_z, da_in], axis=-1, out=da_ih[t])
            np.concatenate([da_r, da_z, da_hn], axis=-1, out=da_hh[t])
            # a_hh = product(h[t], W_hh, drop)
            dh_t = dh_t + product_backward(da_hh[t], W_hh, drop)
        else:
            dh_t, dz, da_n = equations.gru_candidate_backward(
                dh_next, h[t], z[t], n[t], phi_derivative
            )
            # a_hn[t] = product(rh, W_hn, drop_n) + b_hn
            drh = product_backward(da_n, W_hn, drop_n)
            dh_rh, da_r, da_z = equations.gru_gates_backward(
                drh, dz, h[t], r[t], z[t], sigma_derivative
            )
            np.concatenate([da_r, da_z, da_n], axis=-1, out=da_ih[t])
            # a_hr, a_hz = np.split(product(h[t], W_hr_hz, drop_r_z) + b_hr_hz, 2, axis=-1)
            dh_t = dh_t + dh_rh + product_backward(da_ih[t, :, : 2 * H], W_hr_hz, drop_r_z)
        dh_next = dh[t] + dh_t + dh_copied
        dh_total[t] = dh_next
    return dh_total, da_ih, da_hh


def weight_gradients(
    dh_total: Array, da_ih: Array, da_hh: Array, saved: Saved
) -> tuple[Array, Array, Array, Array, Array | None, Array | None]:
    """Second half of `gru_backward`: products over many steps at once, added up."""
    x, h, r, *_ = saved
    T, B, _ = x.shape
    dx, total = np.empty(x.shape, h.dtype), None
    for span in spans(T, 4.0 * B * (saved.W_ih.size + saved.W_hh.size)):
        states = h[span.start : span.stop + 1]
        of_span = _products(da_ih[span], da_hh[span], x[span], states, r[span], saved)
        dx[span], *dweights = of_span
        if total is None:
            total = dweights
        else:
            total = [b if b is None else a + b for a, b in zip(total, dweights, strict=True)]
    assert total is not None
    return dx, dh_total[0].copy(), *total


def _products(
    da_ih: Array, da_hh: Array, x: Array, h: Array, r: Array, saved: Saved
) -> tuple[Array, Array, Array, Array | None, Array | None]:
    """Give dx of some steps and what they add to the gradients by the weights."""
    *_, drop, W_ih, W_hh, b_ih, b_hh, reset_after, _, _ = saved
    T, B, I = x.shape  # noqa: E741
    H = W_hh.shape[1]
    rows_ih, rows_hh = da_ih.reshape(T * B, 3 * H), da_hh.reshape(T * B, 3 * H)
    # a_ih = W_ih x + b_ih
    dx = (rows_ih @ W_ih).reshape(T, B, I)
    dW_ih = rows_ih.T @ x.reshape(T * B, I)
    db_ih = None if b_ih is None else rows_ih.sum(axis=0)
    # a_hh = W_hh h + b_hh; reset before, the n rows of W_hh saw r ⊙ h instead of h
    into_n = h[:-1] if reset_after else r * h[:-1]
    fed = [h[:-1], h[:-1], into_n]
    if drop is not None:
        fed = [fed_g * m for fed_g, m in zip(fed, drop, strict=True)]
    dW_hh = np.concatenate(
        [da_g.T @ fed_g.reshape(T * B, H) for da_g, fed_g in zip(gates(rows_hh), fed, strict=True)]
    )
    db_hh = None if b_hh is None else rows_hh.sum(axis=0)
    return dx, dW_ih, dW_hh, db_ih, db_hh
