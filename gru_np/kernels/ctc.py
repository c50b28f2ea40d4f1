"""CTC compiled: probabilities themselves, rescaled at every step, instead of their logarithms.

The equations are `gru_np.ctc`'s. There, each of the 2 T S sums costs three exponentials and a
logarithm; here it costs two additions and a multiplication, all in float64. α_t and β_t are divided
by their own sums at every step, so what matters is never small; what is smaller than `TINY` of the
sum is dropped. Dropping can be wrong, so each row carries a proof that it was not:

With α and β scaled to sum 1, Σ_s α_t(s) β_t(s) = n_t is p(l|x) over the product of the two scales.
All that was dropped of α or β at step t is then at most TINY S / n_t of p(l|x). An alignment lost
on both sides weighs at most TINY² / p(l|x). With n_t and p(l|x) above the bounds below, all
losses together are below 1e-16 of p(l|x). A row that fails the test is "not certain", and is done
again in logarithms.

Blanks and labels are kept apart: α of the blank before label i is `blanks[i]`, α of label i is
`letters[i + 1]`, with letters[0] = 0, so that every neighbour has a plain index.
"""

import math

import numpy as np

from gru_np import ctc
from gru_np.kernels._jit import entry, inner
from gru_np.kernels._settings import num_threads
from gru_np.kernels.fused import plain
from gru_np.kernels.threads import run

TINY = 1e-290  # of the sum at its step, still far from the numbers that are slow, below 2e-308
LEAST_N = 1e-250
LEAST_LOG_P = -1200.0
# A sum of products of numbers above TINY and outputs is this large, or a product may be too small.
LEAST_SUM = 1e-16
INT64 = np.dtype(np.int64)
# Logits that are worth a thread.
LEAST_SHARE = 20_000


def ctc_loss(logits, labels, logit_lengths, label_lengths, blank=0):
    """`gru_np.ctc.ctc_loss`, compiled; real dtypes only. Agrees to 1e-12 of the largest element."""
    B = len(logits)
    # a read-only array would be compiled for anew
    logits, labels = plain(logits, logits.dtype), plain(labels, INT64)
    loss, dlogits = np.zeros(B, np.float64), np.zeros_like(logits)
    feasible, certain = np.zeros(B, bool), np.zeros(B, bool)
    needed = ctc.least_steps(labels, label_lengths)
    lengths = (plain(n, INT64) for n in (logit_lengths, label_lengths, needed))
    arrays = logits, labels, *lengths, loss, dlogits, feasible, certain

    def share(i):
        _rows(*(array[i * B // parts : (i + 1) * B // parts] for array in arrays), blank)

    parts = max(min(num_threads(), B, logits.size // LEAST_SHARE), 1)
    run(share, parts)
    if not certain.all():
        again = ~certain
        loss[again], dlogits[again], feasible[again] = ctc.ctc_loss(
            logits[again], labels[again], logit_lengths[again], label_lengths[again], blank
        )
    return loss.astype(logits.dtype), dlogits, feasible


@entry
def _rows(
    logits, labels, logit_lengths, label_lengths, needed, loss, dlogits, feasible, certain, blank
):
    B, T, V = logits.shape
    L = labels.shape[1]
    y = np.empty((T, V))
    of_labels = np.empty((T, L))  # y_t of each label of the row
    blanks = np.zeros((T, L + 1))
    letters = np.zeros((T, L + 1))
    skip = np.zeros(L + 1)  # 1 if label i may follow label i - 1 without a blank
    for b in range(B):
        steps, n = logit_lengths[b], label_lengths[b]
        certain[b] = True
        feasible[b] = steps >= needed[b]
        if steps == 0 or not feasible[b]:
            continue
        row = labels[b, :n]
        for i in range(1, n):
            skip[i] = row[i] != row[i - 1]
        skip[n] = 0.0
        _softmax(logits[b, :steps], y)
        for t in range(steps):
            for i in range(n):
                of_labels[t, i] = y[t, row[i]]
        log_p, ok = _forward(y, of_labels, skip, steps, n, blank, blanks, letters)
        ok = ok and log_p >= LEAST_LOG_P
        if ok:
            ok = _backward(y, of_labels, skip, steps, n, blank, row, blanks, letters)
        if ok:
            loss[b] = -log_p
            for t in range(steps):
                for k in range(V):
                    dlogits[b, t, k] = y[t, k]
        certain[b] = ok


@inner
def _softmax(u, y):
    T, V = u.shape
    for t in range(T):
        largest = u[t, 0]
        for k in range(1, V):
            largest = max(largest, u[t, k])
        total = 0.0
        for k in range(V):
            y[t, k] = math.exp(np.float64(u[t, k]) - largest)
            total += y[t, k]
        for k in range(V):
            y[t, k] /= total


@inner
def _forward(y, of_labels, skip, T, n, blank, blanks, letters):
    """Fill α (eq. 6), each step scaled to sum 1; give ln p (eq. 8) and whether it is certain."""
    log_p = 0.0
    for t in range(T):
        at, letter_at, out = blanks[t], letters[t], of_labels[t]
        y_blank = y[t, blank]
        if t == 0:
            at[: n + 1] = 0.0
            letter_at[: n + 1] = 0.0
            at[0] = y_blank
            if n:
                letter_at[1] = out[0]
        else:
            before, letter_before = blanks[t - 1], letters[t - 1]
            at[0] = before[0] * y_blank
            for i in range(n):
                at[i + 1] = (before[i + 1] + letter_before[i + 1]) * y_blank
            for i in range(n):
                letter_at[i + 1] = (
                    letter_before[i + 1] + before[i] + skip[i] * letter_before[i]
                ) * out[i]
        total = at[0]
        for i in range(1, n + 1):
            total += at[i] + letter_at[i]
        if not total >= LEAST_SUM:  # NaN too
            return log_p, False
        scale = 1.0 / total
        for i in range(n + 1):
            of_blank, of_letter = at[i] * scale, letter_at[i] * scale
            at[i] = of_blank if of_blank > TINY else 0.0
            letter_at[i] = of_letter if of_letter > TINY else 0.0
        log_p += math.log(total)
    ends = blanks[T - 1, n] + letters[T - 1, n]  # letters[0] is 0, so n = 0 is right too
    if not ends > 0.0:
        return log_p, False
    return log_p + math.log(ends), True


@inner
def _backward(y, of_labels, skip, T, n, blank, row, blanks, letters):
    """Go through β (eq. 10, without its own y_t) and turn y into y - γ (eq. 16)."""
    # letter[i + 1] is β of label i; one more at the end stays 0
    now, letter = np.zeros(n + 1), np.zeros(n + 2)
    new, letter_new = np.zeros(n + 1), np.zeros(n + 2)
    now[n] = 1.0
    if n:
        letter[n] = 1.0
    for t in range(T - 1, -1, -1):
        at, letter_at, out = blanks[t], letters[t], of_labels[t]
        common = at[0] * now[0]
        for i in range(1, n + 1):
            common += at[i] * now[i] + letter_at[i] * letter[i]
        if not common >= LEAST_N:
            return False
        scale = 1.0 / common
        grad = y[t]
        y_blank = grad[blank]
        gamma = 0.0
        for i in range(n + 1):
            gamma += at[i] * now[i]
        grad[blank] -= gamma * scale
        for i in range(n):
            grad[row[i]] -= letter_at[i + 1] * letter[i + 1] * scale
        if t == 0:
            break
        for i in range(n + 1):
            now[i] *= y_blank
        for i in range(n):
            letter[i + 1] *= out[i]
        total = 0.0
        for i in range(n + 1):
            new[i] = now[i] + letter[i + 1]
        for i in range(n):
            letter_new[i + 1] = letter[i + 1] + now[i + 1] + skip[i + 1] * letter[i + 2]
        for i in range(n + 1):
            total += new[i] + letter_new[i]
        if not total >= LEAST_SUM:
            return False
        scale = 1.0 / total
        for i in range(n + 1):
            of_blank, of_letter = new[i] * scale, letter_new[i] * scale
            now[i] = of_blank if of_blank > TINY else 0.0
            letter[i] = of_letter if of_letter > TINY else 0.0
    return True
