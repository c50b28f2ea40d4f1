"""Connectionist temporal classification: the loss of unaligned labels, and its gradient.

Notation: B batch, T time, V outputs (the blank among them), L labels, S = 2 L + 1. `y` is softmax
of the logits `u`. `l'` is the labelling with a blank before, between and after its labels; a state
s is a place in l'. An alignment is one state for each time step, never going back, and skipping a
blank only between two labels that differ.

    α_t(s)  probability of y_1..y_t over all alignments of the first t steps that end in s
    β_t(s)  the same of y_t..y_T over all alignments of the rest that begin in s

    α_t(s) = y_t(l'_s) [α_{t-1}(s) + α_{t-1}(s-1) + α_{t-1}(s-2) if s may be reached by a skip]
    β_t(s) = y_t(l'_s) [β_{t+1}(s) + β_{t+1}(s+1) + β_{t+1}(s+2) if s+2 may]
    p(l|x) = α_T(S) + α_T(S-1) = Σ_s α_t(s) β_t(s) / y_t(l'_s)   for every t
    loss   = -ln p(l|x)                                           nats an utterance
    ∂loss/∂u_t(k) = y_t(k) - Σ_{s: l'_s = k} α_t(s) β_t(s) / (y_t(k) p(l|x))

Everything is a logarithm here, so nothing underflows. Any float or complex dtype. Arguments are
trusted: `gru_np.kernels.ctc_loss`, which runs this or a compiled twin, looks at them by `in_order`.

Source: Graves, Fernández, Gomez, Schmidhuber 2006, Connectionist Temporal Classification (ICML),
eq. 6 (α), 8 (p), 10 (β), 14 (p at any t) and 16 (the gradient by the unnormalised outputs).
"""

from typing import Any

import numpy as np

from gru_np._aliases import Array
from gru_np._checks import require_count, require_rank
from gru_np._intake import as_floats, as_integers

# The logarithm of a probability of zero. Finite, so that no difference of two is NaN; its sum over
# any number of time steps still fits a float.
NEVER = -1e30


def log_softmax(u: Array) -> Array:
    """Logarithm of softmax over the last axis, the maximum taken off first against overflow."""
    u = u - u.real.max(axis=-1, keepdims=True)
    return u - np.log(np.exp(u).sum(axis=-1, keepdims=True))


def log_sum(*terms: Array) -> Array:
    """Logarithm of Σ exp(terms), elementwise."""
    largest = np.maximum.reduce([term.real for term in terms])
    return largest + np.log(sum(np.exp(term - largest) for term in terms))


def count_labels(labels: Array, blank: int = 0) -> Array:
    """Count the labels of each row (B, L): the entries that are neither negative nor the blank."""
    return ((labels >= 0) & (labels != blank)).sum(axis=1)


def least_steps(labels: Array, label_lengths: Array) -> Array:
    """Count the time steps each row needs: one a label, one more between two that are equal."""
    pairs = np.arange(1, labels.shape[1]) < label_lengths[:, None]
    repeats = (labels[:, 1:] == labels[:, :-1]) & pairs
    return np.asarray(label_lengths + repeats.sum(axis=1))


def in_order(
    logits: Any, labels: Any, logit_lengths: Any, label_lengths: Any, blank: int
) -> tuple[Array, Array, Array, Array, int]:
    """Give the arguments of `ctc_loss` as arrays that fit, or raise."""
    who = "ctc_loss"
    logits = as_floats(who, logits, "logits")
    require_rank(who, "logits", logits, ("batch", "time", "outputs"))
    B, T, V = logits.shape
    labels, logit_lengths, label_lengths = (
        as_integers(who, array, name)
        for name, array in [
            ("labels", labels), ("logit_lengths", logit_lengths), ("label_lengths", label_lengths),
        ]
    )  # fmt: skip
    require_rank(who, "labels", labels, (B, "labels"))
    bounds = [
        ("logit_lengths", logit_lengths, T),
        ("label_lengths", label_lengths, labels.shape[1]),
    ]
    for name, lengths, most in bounds:
        require_rank(who, name, lengths, (B,))
        if B and not (lengths.min() >= 0 and lengths.max() <= most):
            raise ValueError(
                f"{who}: {name} must be in 0..{most}, got {lengths.min()} to {lengths.max()}"
            )
    blank = require_count(who, "blank", blank, 0)
    real = np.arange(labels.shape[1]) < label_lengths[:, None]
    wrong = real & ((labels < 0) | (labels >= V) | (labels == blank))
    if wrong.any() or blank >= V:
        raise ValueError(
            f"{who}: labels and blank must be in 0..{V - 1}, and no label the blank, got "
            + (f"label {labels[wrong][0]} and " if wrong.any() else "")
            + f"blank {blank}"
        )
    return (
        logits,
        *(a.astype(np.intp, copy=False) for a in (labels, logit_lengths, label_lengths)),
        blank,
    )


def extend(labels: Array, label_lengths: Array, blank: int) -> tuple[Array, Array]:
    """Give l', (B, S), and whether each of its states may be reached by skipping a blank."""
    B, L = labels.shape
    real = np.arange(L) < label_lengths[:, None]
    extended = np.full((B, 2 * L + 1), blank)
    extended[:, 1::2] = np.where(real, labels, blank)
    skip = np.zeros(extended.shape, bool)
    skip[:, 2:] = (extended[:, 2:] != blank) & (extended[:, 2:] != extended[:, :-2])
    return extended, skip


def _later(a: Array, by: int) -> Array:
    """a(s - by) at each s; what comes from before the first state is NEVER."""
    moved = np.full_like(a, NEVER)
    moved[:, by:] = a[:, : max(a.shape[1] - by, 0)]
    return moved


def _earlier(a: Array, by: int) -> Array:
    """a(s + by) at each s; what comes from behind the last state is NEVER."""
    return _later(a[:, ::-1], by)[:, ::-1]


def ctc_loss(
    logits: Array,
    labels: Array,
    logit_lengths: Array,
    label_lengths: Array,
    blank: int = 0,
) -> tuple[Array, Array, Array]:
    """CTC loss of each row of a batch, and its gradient by the logits.

    Parameters
    ----------
    logits : (B, T, V) float or complex
        Unnormalised scores u; what lies at or beyond a row's length is never used, be it NaN.
    labels : (B, L) int
        Labels of each row from the left, in 0..V-1 and never the blank; what lies behind them is
        not read.
    logit_lengths, label_lengths : (B,) int
        Time steps and labels of each row, in 0..T and 0..L.
    blank : int
        Output that stands for "nothing new".

    Returns
    -------
    loss : (B,)
        -ln p(labels | logits) in nats; 0 where no alignment exists.
    dlogits : (B, T, V)
        Gradient of loss[b] by logits[b]; 0 beyond the row's length and where no alignment exists.
    feasible : (B,) bool
        Whether an alignment exists: as many time steps as labels, one more for each two equal
        labels in a row, and no needed output of probability zero.

    Notes
    -----
    The work is done in float64 or complex128 and rounded to the dtype of the logits at the end.
    Source: Graves et al. 2006; see the module for the equations. NaN logits give a NaN loss.

    Examples
    --------
    Three steps, two labels "1" and "2", uniform outputs: 5 of the 27 paths read "1 2", namely
    1 2 2, 1 1 2, 1 - 2, - 1 2 and 1 2 -.

    >>> import numpy as np
    >>> from gru_np.ctc import ctc_loss
    >>> loss, dlogits, feasible = ctc_loss(
    ...     np.zeros((1, 3, 3)), np.array([[1, 2]]), np.array([3]), np.array([2])
    ... )
    >>> bool(np.isclose(np.exp(-loss[0]), 5 / 27)), dlogits.shape, feasible.tolist()
    (True, (1, 3, 3), [True])
    """
    B, T, _ = logits.shape
    dtype = np.result_type(logits, np.float64)
    steps = np.arange(T) < logit_lengths[:, None]  # (B, T)
    log_y = log_softmax(np.where(steps[:, :, None], logits, 0).astype(dtype))
    log_y = np.where(log_y.real < NEVER, NEVER, log_y)  # ln 0
    extended, skip = extend(labels, label_lengths, blank)
    S = extended.shape[1]
    log_y_l = np.take_along_axis(log_y, extended[:, None, :], axis=2)  # (B, T, S): ln y_t(l'_s)
    first, last = np.arange(S) < 2, 2 * label_lengths[:, None]  # 0 based, so S - 1 = 2 L
    at_end = (np.arange(S) == last) | (np.arange(S) == last - 1)

    # eq. 6: an alignment begins with the first blank or the first label
    log_alpha = np.full((B, T, S), NEVER, dtype)
    for t in range(T):
        a = log_alpha[:, t - 1]
        reached = (
            np.where(first, 0.0, NEVER).astype(dtype)
            if t == 0
            else log_sum(a, _later(a, 1), np.where(skip, _later(a, 2), NEVER))
        )
        log_alpha[:, t] = log_y_l[:, t] + reached

    # eq. 10: it ends, at each row's own last step, with the last label or the last blank
    log_beta = np.full((B, T, S), NEVER, dtype)
    ending = np.where(at_end, 0.0, NEVER).astype(dtype)
    skipped = np.zeros_like(skip)  # s + 2 may be reached by a skip
    skipped[:, :-2] = skip[:, 2:]
    b = np.full((B, S), NEVER, dtype)
    for t in reversed(range(T)):
        leaving = log_sum(b, _earlier(b, 1), np.where(skipped, _earlier(b, 2), NEVER))
        leaving = np.where(t == logit_lengths[:, None] - 1, ending, leaving)
        b = log_beta[:, t] = log_y_l[:, t] + leaving

    # eq. 8; a row without time steps can only read as no labels
    rows = np.arange(B)
    log_p = np.where(label_lengths == 0, 0.0, NEVER).astype(dtype)
    if T:
        at_last = log_alpha[rows, np.maximum(logit_lengths, 1) - 1]
        some = log_sum(*np.moveaxis(np.where(at_end, at_last, NEVER), 1, 0))
        log_p = np.where(logit_lengths > 0, some, log_p)
    enough = logit_lengths >= least_steps(labels, label_lengths)
    feasible = enough & ~(log_p.real < NEVER / 2)  # NaN is no verdict: it must come through

    # eq. 16
    counts = steps & feasible[:, None]
    log_p_safe = np.where(feasible, log_p, 0)[:, None, None]
    exponent = np.where(counts[:, :, None], log_alpha + log_beta - log_y_l - log_p_safe, NEVER)
    dlogits = np.where(counts[:, :, None], np.exp(log_y), 0)
    where = (rows[:, None, None], np.arange(T)[None, :, None], extended[:, None, :])
    np.subtract.at(dlogits, where, np.exp(exponent))
    loss = np.where(feasible, 0 - log_p, 0)
    return loss.astype(logits.dtype), dlogits.astype(logits.dtype), feasible
