"""The mathematics of the GRU, written once: each step, and its gradient beside it.

Notation: B batch, H hidden. `σ` is the recurrent activation (sigmoid), `φ` the activation (tanh),
`⊙` the elementwise product, `dv` the gradient of the loss by `v`. An `a` with two letters is a
pre-activation: `a_ir` comes from the input through W_ir, `a_hr` from the hidden state through W_hr.

    reset after the product (default)         reset before the product
    r  = σ(a_ir + a_hr)                       r  = σ(a_ir + a_hr)
    z  = σ(a_iz + a_hz)                       z  = σ(a_iz + a_hz)
    n  = φ(a_in + r ⊙ a_hn)                   n  = φ(a_in + a_hn)
    h' = (1 - z) ⊙ n + z ⊙ h                  h' = (1 - z) ⊙ n + z ⊙ h

    a_h· = W_h· h + b_h·                      a_hr, a_hz likewise;  a_hn = W_hn (r ⊙ h) + b_hn

Everything here is elementwise; matrix products belong to `gru_np.recurrence`, which runs these
functions on NumPy arrays of float32, float64 or complex numbers. `gru_np.kernels` compiles the very
same functions on SIMD vectors. So nothing here branches, takes an absolute value or a maximum of a
number that may be complex, and nothing checks its arguments: callers do.

Sources: arXiv:1406.1078v3, eq. 5-8 (reset before the product; its z keeps the old state, as here);
arXiv:1412.3555, eq. 4-8 (the same with z and 1 - z exchanged); reset after the product is the form
of cuDNN, PyTorch and Keras, which needs one matrix product a step where the other needs two.
"""

from typing import Any

import numpy as np

# ------------------------------------------------------------------------------ activations
# Each derivative is a function of the activation's own value y, which is what a forward pass saves.


def sigmoid(a: Any) -> Any:
    """Logistic function, σ(a) = 1 / (1 + exp(-a)), as (1 + tanh(a/2)) / 2.

    The half-tanh form has no exp that overflows (beyond 88 in float32), needs no branch on the
    sign, and is analytic, so complex-step differentiation passes through it.
    """
    return 0.5 * np.tanh(0.5 * a) + 0.5


def sigmoid_derivative(y: Any) -> Any:
    """σ'(a) from y = σ(a)."""
    return y * (1 - y)


def tanh(a: Any) -> Any:
    """Hyperbolic tangent."""
    return np.tanh(a)


def tanh_derivative(y: Any) -> Any:
    """tanh'(a) from y = tanh(a)."""
    return 1 - y * y


def relu(a: Any) -> Any:
    """max(a, 0); a complex number is judged by its real part."""
    # Not a * (a > 0), which is NaN at -infinity; and NaN itself must stay.
    return np.where(a.real <= 0, 0, a).astype(a.dtype, copy=False)


def relu_derivative(y: Any) -> Any:
    """1 where y > 0, else 0 (also at the kink)."""
    return (y.real > 0).astype(y.dtype)


def linear(a: Any) -> Any:
    """Return a: no activation."""
    return a


def linear_derivative(y: Any) -> Any:
    """1 everywhere."""
    return np.ones_like(y)


def hard_sigmoid(a: Any) -> Any:
    """clip(a / 6 + 1/2, 0, 1), as Keras 3; a complex number is clipped by its real part."""
    y = a / 6 + 0.5
    return np.where(y.real <= 0, 0, np.where(y.real >= 1, 1, y)).astype(y.dtype, copy=False)


def hard_sigmoid_derivative(y: Any) -> Any:
    """1/6 where 0 < y < 1, else 0."""
    return ((y.real > 0) & (y.real < 1)).astype(y.dtype) / 6


# ----------------------------------------------------------------- reset after the product


def gru_step(
    a_ir: Any, a_iz: Any, a_in: Any, a_hr: Any, a_hz: Any, a_hn: Any, h: Any, sigma: Any, phi: Any
) -> Any:
    """One step, reset after the product: the next state, and what the gradient needs.

    r  = σ(a_ir + a_hr)
    z  = σ(a_iz + a_hz)
    n  = φ(a_in + r ⊙ a_hn)
    h' = (1 - z) ⊙ n + z ⊙ h

    Every argument but the two functions is (B, H); so are the results h', r, z, n.
    """
    r = sigma(a_ir + a_hr)
    z = sigma(a_iz + a_hz)
    n = phi(a_in + r * a_hn)
    # Not n + z (h - n): in this form z = 1 copies h exactly, and |h'| never exceeds max(|h|, 1).
    h_next = (1 - z) * n + z * h
    return h_next, r, z, n


def gru_step_backward(
    dh_next: Any,
    h: Any,
    r: Any,
    z: Any,
    n: Any,
    a_hn: Any,
    sigma_derivative: Any,
    phi_derivative: Any,
) -> Any:
    """Gradient of `gru_step`: from dh' to the state (its direct path only) and the pre-activations.

    The a_ir and a_hr of a gate enter as a sum, so they share one gradient, da_r; likewise da_z.
    The path through a_h· = W_h· h + b_h· is the caller's product. All are (B, H).
    """
    # h_next = (1 - z) * n + z * h
    dn = dh_next * (1 - z)
    dz = dh_next * (h - n)
    dh = dh_next * z
    # n = phi(a_in + r * a_hn)
    da_in = dn * phi_derivative(n)
    da_hn = da_in * r
    dr = da_in * a_hn
    # z = sigma(a_iz + a_hz)
    da_z = dz * sigma_derivative(z)
    # r = sigma(a_ir + a_hr)
    da_r = dr * sigma_derivative(r)
    return dh, da_r, da_z, da_in, da_hn


# ---------------------------------------------------------------- reset before the product
# Two functions each way, because the product a_hn = W_hn (r ⊙ h) + b_hn stands between them.


def gru_gates(a_ir: Any, a_iz: Any, a_hr: Any, a_hz: Any, h: Any, sigma: Any) -> Any:
    """First half of a step, reset before the product: both gates and the reset state.

    r  = σ(a_ir + a_hr)
    z  = σ(a_iz + a_hz)
    rh = r ⊙ h                               then the caller's  a_hn = W_hn rh + b_hn
    """
    r = sigma(a_ir + a_hr)
    z = sigma(a_iz + a_hz)
    rh = r * h
    return r, z, rh


def gru_candidate(a_in: Any, a_hn: Any, z: Any, h: Any, phi: Any) -> Any:
    """Second half of a step, reset before the product: the next state and the new gate.

    n  = φ(a_in + a_hn)
    h' = (1 - z) ⊙ n + z ⊙ h
    """
    n = phi(a_in + a_hn)
    h_next = (1 - z) * n + z * h
    return h_next, n


def gru_candidate_backward(dh_next: Any, h: Any, z: Any, n: Any, phi_derivative: Any) -> Any:
    """Gradient of `gru_candidate`: from dh' to the state (direct path), z and a_in + a_hn.

    Then the caller's product, d(rh) = da_n W_hn, and `gru_gates_backward`.
    """
    # h_next = (1 - z) * n + z * h
    dn = dh_next * (1 - z)
    dz = dh_next * (h - n)
    dh = dh_next * z
    # n = phi(a_in + a_hn)
    da_n = dn * phi_derivative(n)
    return dh, dz, da_n


def gru_gates_backward(drh: Any, dz: Any, h: Any, r: Any, z: Any, sigma_derivative: Any) -> Any:
    """Gradient of `gru_gates`: from d(rh) and dz to the state (through rh only) and both gates."""
    # rh = r * h
    dr = drh * h
    dh = drh * r
    # z = sigma(a_iz + a_hz)
    da_z = dz * sigma_derivative(z)
    # r = sigma(a_ir + a_hr)
    da_r = dr * sigma_derivative(r)
    return dh, da_r, da_z
