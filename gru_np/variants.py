"""The GRU over time with what the plain loop does without: zoneout and layer normalisation.

Notation as in `gru_np.recurrence`: T time, B batch, I input, H hidden; the steps themselves are
`gru_np.equations`'. What is added:

    zoneout (arXiv:1606.01305)       h[t+1] = h[t] + m ⊙ (h' - h[t])
        m = 0 with probability p and else 1 in training, 1 - p in use: the mean of both

    layer normalisation (arXiv:1607.06450, in the form of the haste library)
        a_ih = norm(W_ih x) ⊙ γ_ih + b_ih
        a_hh = norm(W_hh h) ⊙ γ_hh + b_hh      norm: mean 0, variance 1 over all 3H

Layer normalisation needs the reset after the product, where a_hh is one product.
"""

from typing import Any, NamedTuple

import numpy as np

from gru_np import equations
from gru_np._aliases import Array
from gru_np.recurrence import ACTIVATIONS, gates, product, product_backward, spans, valid_steps

EPSILON = 1e-5  # added to the variance, as haste


class Saved(NamedTuple):
    """What `gru_forward` leaves for `gru_backward`."""

    x: Array  # (T, B, I), masked steps zeroed
    h: Array  # (T + 1, B, H)
    r: Array  # (T, B, H)
    z: Array
    n: Array
    a_hn: Array  # (T, B, H)
    valid: Array | None  # (T, B) bool, or None: every step counts
    drop: Array | None  # (3, B, H) recurrent dropout masks, or None
    keep: Any  # (T, B, H) or a number: the m of zoneout; 1 is none
    normed: tuple[Array, Array] | None  # norm(W_ih x), norm(W_hh h), each (T, B, 3H)
    inverse: tuple[Array, Array] | None  # one over their standard deviations, each (T, B, 1)
    weights: tuple[Any, ...]  # W_ih, W_hh, b_ih, b_hh, gamma_ih, gamma_hh
    reset_after: bool
    activation: str
    recurrent_activation: str


def norm(a: Array) -> tuple[Array, Array]:
    """Give a with mean 0 and variance 1 over its last axis, and one over its standard deviation."""
    centred = a - a.mean(axis=-1, keepdims=True)
    inverse = 1 / np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + EPSILON)
    return centred * inverse, inverse


def norm_backward(da_hat: Array, a_hat: Array, inverse: Array) -> Array:
    """Gradient of `norm`: mean and variance both depend on every element."""
    # a_hat = (a - mean(a)) * inverse
    along = (da_hat * a_hat).mean(axis=-1, keepdims=True)
    return inverse * (da_hat - da_hat.mean(axis=-1, keepdims=True) - a_hat * along)


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
    *,
    keep: Any = 1.0,
    gammas: tuple[Array, Array] | None = None,
) -> tuple[Array, Saved]:
    """Run a GRU with zoneout, layer normalisation or both over a batch of sequences.

    Parameters
    ----------
    x, h0, W_ih, W_hh, b_ih, b_hh, reset_after, lengths, mask, activation, recurrent_activation, \
drop
        As for `gru_np.recurrence.gru_forward`.
    keep : float or (T, B, H)
        m of zoneout: how much of the new state is taken. 1 is the plain GRU.
    gammas : pair of (3H,), optional
        γ_ih and γ_hh of layer normalisation.

    Returns
    -------
    h : (T + 1, B, H)
    saved : Saved

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np import recurrence, variants
    >>> rng = np.random.default_rng(0)
    >>> x, W_ih, W_hh = (rng.standard_normal(s) for s in [(5, 3, 2), (12, 2), (12, 4)])
    >>> plain, _ = recurrence.gru_forward(x, None, W_ih, W_hh, None, None)
    >>> same, _ = variants.gru_forward(x, None, W_ih, W_hh, None, None, keep=1.0)
    >>> np.allclose(same, plain, rtol=0, atol=1e-15)
    True
    """
    (sigma, _), (phi, _) = ACTIVATIONS[recurrent_activation], ACTIVATIONS[activation]
    T, B, _ = x.shape
    H = W_hh.shape[1]
    weights = (W_ih, W_hh, b_ih, b_hh, *(gammas or (None, None)))
    dtype = np.result_type(*[a for a in (x, h0, *weights) if a is not None])
    valid = valid_steps(T, B, lengths, mask)
    if valid is not None:
        x = np.where(valid[:, :, None], x, 0)
    zero = np.zeros(3 * H, dtype)
    b_ih, b_hh = (zero if b is None else b for b in (b_ih, b_hh))
    drop_r_z, drop_n = (None, None) if drop is None else (drop[:2], drop[2:])
    m = np.broadcast_to(np.asarray(keep, dtype), (T, B, H))

    a_ih = np.empty((T, B, 3 * H), dtype)
    for span in spans(T, 2.0 * B * W_ih.size):
        a_ih[span] = x[span] @ W_ih.T
    normed = inverse = None
    if gammas is not None:
        hat_ih, inverse_ih = norm(a_ih)
        a_ih = hat_ih * gammas[0]
        normed = hat_ih, np.empty((T, B, 3 * H), dtype)
        inverse = inverse_ih, np.empty((T, B, 1), dtype)
    a_ih = a_ih + b_ih
    h = np.empty((T + 1, B, H), dtype)
    h[0] = 0 if h0 is None else h0
    r, z, n, a_hn = (np.empty((T, B, H), dtype) for _ in range(4))

    for t in range(T):
        a_ir, a_iz, a_in = gates(a_ih[t])
        if reset_after:
            a_hh = product(h[t], W_hh, drop)
            if gammas is not None and normed is not None and inverse is not None:
                normed[1][t], inverse[1][t] = norm(a_hh)
                a_hh = normed[1][t] * gammas[1]
            a_hr, a_hz, a_hn[t] = gates(a_hh + b_hh)
            h_next, r[t], z[t], n[t] = equations.gru_step(
                a_ir, a_iz, a_in, a_hr, a_hz, a_hn[t], h[t], sigma, phi
            )
        else:
            a_hr, a_hz = np.split(product(h[t], W_hh[: 2 * H], drop_r_z) + b_hh[: 2 * H], 2, -1)
            r[t], z[t], rh = equations.gru_gates(a_ir, a_iz, a_hr, a_hz, h[t], sigma)
            a_hn[t] = product(rh, W_hh[2 * H :], drop_n) + b_hh[2 * H :]
            h_next, n[t] = equations.gru_candidate(a_in, a_hn[t], z[t], h[t], phi)
        h_next = h[t] + m[t] * (h_next - h[t])
        h[t + 1] = h_next if valid is None else np.where(valid[t, :, None], h_next, h[t])

    saved = Saved(
        x, h, r, z, n, a_hn, valid, drop, m, normed, inverse, weights,
        reset_after, activation, recurrent_activation,
    )  # fmt: skip
    return h, saved


def gru_backward(dh: Array, saved: Saved) -> tuple[Array | None, ...]:
    """Gradient of `gru_forward`: backpropagation through time.

    Parameters
    ----------
    dh : (T + 1, B, H)
        Gradient of the loss by every state as an output; dh[0] adds to dh0.
    saved : Saved
        From `gru_forward`.

    Returns
    -------
    dx, dh0, dW_ih, dW_hh, db_ih, db_hh, dgamma_ih, dgamma_hh
        None where the argument was None.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np import variants
    >>> rng = np.random.default_rng(0)
    >>> x, W_ih, W_hh = (rng.standard_normal(s) for s in [(5, 3, 2), (12, 2), (12, 4)])
    >>> gammas = (np.ones(12), np.ones(12))
    >>> h, saved = variants.gru_forward(x, None, W_ih, W_hh, None, None, gammas=gammas)
    >>> dx, dh0, *dweights = variants.gru_backward(np.ones_like(h), saved)
    >>> [None if d is None else d.shape for d in dweights]
    [(12, 2), (12, 4), None, None, (12,), (12,)]
    """
    x, h, r, z, n, a_hn, valid, drop, m, normed, inverse, weights, reset_after, *names = saved
    W_ih, W_hh, b_ih, b_hh, gamma_ih, gamma_hh = weights
    (_, phi_derivative), (_, sigma_derivative) = (ACTIVATIONS[name] for name in names)
    T, B, H = r.shape
    drop_r_z, drop_n = (None, None) if drop is None else (drop[:2], drop[2:])
    da_ih = np.empty((T, B, 3 * H), h.dtype)
    da_hh = np.empty_like(da_ih)
    dproduct = da_hh if normed is None else np.empty_like(da_ih)  # by W_hh h, before its norm
    dh_next = dh[T]

    for t in reversed(range(T)):
        # h[t + 1] = h_next if valid is None else np.where(valid[t, :, None], h_next, h[t])
        dh_copied = 0 if valid is None else np.where(valid[t, :, None], 0, dh_next)
        dh_next = dh_next if valid is None else np.where(valid[t, :, None], dh_next, 0)
        # h_next = h[t] + m[t] * (h_next - h[t])
        dh_kept = (1 - m[t]) * dh_next
        dh_next = m[t] * dh_next
        if reset_after:
            dh_t, da_r, da_z, da_in, da_hn = equations.gru_step_backward(
                dh_next, h[t], r[t], z[t], n[t], a_hn[t], sigma_derivative, phi_derivative
            )
            np.concatenate([da_r, da_z, da_in], axis=-1, out=da_ih[t])
            np.concatenate([da_r, da_z, da_hn], axis=-1, out=da_hh[t])
            # normed, inverse = norm(product(h[t], W_hh, drop));  a_hh = normed * gamma_hh + b_hh
            if normed is not None and inverse is not None:
                dproduct[t] = norm_backward(da_hh[t] * gamma_hh, normed[1][t], inverse[1][t])
            dh_t = dh_t + product_backward(dproduct[t], W_hh, drop)
        else:
            dh_t, dz, da_n = equations.gru_candidate_backward(
                dh_next, h[t], z[t], n[t], phi_derivative
            )
            # a_hn[t] = product(rh, W_hn, drop_n) + b_hn
            drh = product_backward(da_n, W_hh[2 * H :], drop_n)
            dh_rh, da_r, da_z = equations.gru_gates_backward(
                drh, dz, h[t], r[t], z[t], sigma_derivative
            )
            np.concatenate([da_r, da_z, da_n], axis=-1, out=da_ih[t])
            da_hh[t] = da_ih[t]
            # a_hr, a_hz = product(h[t], W_hr_hz, drop_r_z) + b_hr_hz
            dh_rz = product_backward(da_ih[t, :, : 2 * H], W_hh[: 2 * H], drop_r_z)
            dh_t = dh_t + dh_rh + dh_rz
        dh_next = dh[t] + dh_t + dh_copied + dh_kept

    dgamma_ih = dgamma_hh = None
    dprojected = da_ih
    # a_ih = norm(x @ W_ih.T) * gamma_ih + b_ih
    if normed is not None and inverse is not None:
        dgamma_ih, dgamma_hh = (
            (da * a_hat).sum(axis=(0, 1)) for da, a_hat in zip((da_ih, da_hh), normed, strict=True)
        )
        dprojected = norm_backward(da_ih * gamma_ih, normed[0], inverse[0])
    dx = np.empty(x.shape, h.dtype)
    dW_ih, dW_hh = np.zeros(W_ih.shape, h.dtype), np.zeros(W_hh.shape, h.dtype)
    for span in spans(T, 4.0 * B * (W_ih.size + W_hh.size)):
        dx[span] = dprojected[span] @ W_ih
        dW_ih += np.tensordot(dprojected[span], x[span], ((0, 1), (0, 1)))
        # a_hh = W_hh h; reset before, the n rows of W_hh saw r ⊙ h instead of h
        before = h[:-1][span]
        fed = [before, before, before if reset_after else r[span] * before]
        if drop is not None:
            fed = [fed_g * drop_g for fed_g, drop_g in zip(fed, drop, strict=True)]
        for dW_g, da_g, fed_g in zip(np.split(dW_hh, 3), gates(dproduct[span]), fed, strict=True):
            dW_g += np.tensordot(da_g, fed_g, ((0, 1), (0, 1)))
    db_ih, db_hh = (
        None if b is None else da.sum(axis=(0, 1)) for b, da in ((b_ih, da_ih), (b_hh, da_hh))
    )
    return dx, np.array(dh_next), dW_ih, dW_hh, db_ih, db_hh, dgamma_ih, dgamma_hh
