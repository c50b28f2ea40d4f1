"""The GRU in scalar loops, copied line by line from the equations at the head of equations.py.

Plain Python floats or complex numbers in nested lists: no arrays, no broadcasting, no order of rows
or axes that could be wrong in the same way as in the library. Slow and obvious on purpose.
"""

import cmath
import math


def _sigmoid(a):
    # The textbook form, not the library's (1 + tanh(a/2)) / 2. exp overflows beyond a = -709.
    return 1 / (1 + cmath.exp(-a)) if isinstance(a, complex) else 1 / (1 + math.exp(-a))


def _tanh(a):
    return cmath.tanh(a) if isinstance(a, complex) else math.tanh(a)


def _relu(a):
    return a if a.real > 0 else 0.0


def _linear(a):
    return a


def _hard_sigmoid(a):
    y = a / 6 + 1 / 2
    return 0.0 if y.real < 0 else 1.0 if y.real > 1 else y


ACTIVATIONS = {
    "sigmoid": _sigmoid,
    "tanh": _tanh,
    "relu": _relu,
    "linear": _linear,
    "hard_sigmoid": _hard_sigmoid,
}


def _affine(W, v, b):
    """W v + b, where b may be None."""
    rows = range(len(W))
    return [sum(W[i][j] * v[j] for j in range(len(v))) + (b[i] if b else 0.0) for i in rows]


def gru_step(x, h, W_ih, W_hh, b_ih, b_hh, reset_after, sigma, phi):
    """One step of one row of the batch: x (I,), h (H,) -> h' (H,)."""
    H = len(h)
    a_i = _affine(W_ih, x, b_ih)
    a_ir, a_iz, a_in = a_i[:H], a_i[H : 2 * H], a_i[2 * H :]
    W_hr, W_hz, W_hn = W_hh[:H], W_hh[H : 2 * H], W_hh[2 * H :]
    b_hr, b_hz, b_hn = (b_hh[:H], b_hh[H : 2 * H], b_hh[2 * H :]) if b_hh else (None,) * 3
    # a_h· = W_h· h + b_h·
    a_hr = _affine(W_hr, h, b_hr)
    a_hz = _affine(W_hz, h, b_hz)
    # r = σ(a_ir + a_hr)
    r = [sigma(a_ir[i] + a_hr[i]) for i in range(H)]
    # z = σ(a_iz + a_hz)
    z = [sigma(a_iz[i] + a_hz[i]) for i in range(H)]
    if reset_after:
        a_hn = _affine(W_hn, h, b_hn)
        # n = φ(a_in + r ⊙ a_hn)
        n = [phi(a_in[i] + r[i] * a_hn[i]) for i in range(H)]
    else:
        # a_hn = W_hn (r ⊙ h) + b_hn
        a_hn = _affine(W_hn, [r[i] * h[i] for i in range(H)], b_hn)
        # n = φ(a_in + a_hn)
        n = [phi(a_in[i] + a_hn[i]) for i in range(H)]
    # h' = (1 - z) ⊙ n + z ⊙ h
    return [(1 - z[i]) * n[i] + z[i] * h[i] for i in range(H)]


def gru_forward(
    x,
    h0,
    W_ih,
    W_hh,
    b_ih,
    b_hh,
    reset_after=True,
    lengths=None,
    mask=None,
    activation="tanh",
    recurrent_activation="sigmoid",
):
    """All states, T + 1 lists of B lists of H numbers; arguments as the library's, as lists."""
    T, H = len(x), len(W_hh[0])
    B = len(x[0]) if T else len(h0)
    sigma, phi = ACTIVATIONS[recurrent_activation], ACTIVATIONS[activation]
    h = [[list(h0[b]) if h0 else [0.0] * H for b in range(B)]]
    for t in range(T):
        h.append([])
        for b in range(B):
            if (lengths is None or t < lengths[b]) and (mask is None or mask[t][b]):
                step = gru_step(x[t][b], h[t][b], W_ih, W_hh, b_ih, b_hh, reset_after, sigma, phi)
            else:
                step = h[t][b]  # a step that does not count copies the state
            h[t + 1].append(step)
    return h
