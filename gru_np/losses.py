"""What training minimises: the value of each loss and its gradient, together.

Notation: a position i is a sample, or one time step of a sample; x_i or p_i is the last axis of
y_pred there, K its size; w_i is the sample weight (1 if not given), m_i the mask (1 if not given).

    L = Σ_i m_i w_i l_i / Σ_i m_i                       and with it dL/dy_pred, of y_pred's shape

Weights do not enter the divisor, as in Keras. With nothing left by the mask, L = 0 and so is its
gradient. What stands at a masked position, or at one of weight zero, is never looked at.

Sums over positions are taken in float64. y_pred may be complex, so that complex-step
differentiation passes through: comparisons look at the real part only. The gradient has y_pred's
dtype and so has the value. Where a true loss is beyond the range of float32 the value is inf; the
gradient is finite all the same. NaN in, NaN out.

Cross-entropies are in nats: exp(L) is the perplexity, L / ln 2 the bits a symbol.
"""

import operator
import reprlib
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from gru_np import ctc, kernels
from gru_np._aliases import Array
from gru_np._checks import require_count, require_rank, spell
from gru_np._intake import REAL, as_array, as_floats, as_mask, as_weights
from gru_np._logits import Logits
from gru_np._named import Configured, describe, require_known, require_number, resolve
from gru_np._positions import labels_at, spread, to_rows
from gru_np.likelihoods import gaussian, pinball, student_t

EPSILON = 1e-7  # probabilities are clipped to [EPSILON, 1 - EPSILON] before the logarithm


class Loss(Configured):
    """Base of all losses: `loss(y_true, y_pred)` gives the value and its gradient by y_pred.

    Parameters of a call
    --------------------
    y_true : array
        The targets, of the shape each loss states.
    y_pred : (B, K), (B, T, K) or (B,) float or complex
        The predictions. Never modified.
    sample_weight : (B,), (B, T) or number, optional
        w: weight of each sample or position.
    mask : (B, T) or (B,) bool, optional
        m: True where a position counts.
    from_logits : bool, optional
        Overrides the loss' own setting (cross-entropies only).

    Returns of a call
    -----------------
    value : scalar of y_pred's dtype
    dy_pred : array, shape and dtype of y_pred

    Attributes
    ----------
    name : str
        Keras' name, as `get` takes it.
    fused_with : {"softmax", "sigmoid", "linear"} or None
        The activation of a last layer that this loss can take over: give it the logits with
        `from_logits=True` instead, which is faster and loses no digits. A loss of logits takes over
        none ("linear"), but that layer's product.
    per_sequence : bool
        Whether the mean is over whole sequences rather than over positions.

    Examples
    --------
    >>> from gru_np import losses
    >>> loss = losses.get("mse")
    >>> value, dy_pred = loss([[1.0, 2.0]], [[1.5, 2.0]])
    >>> value, dy_pred
    (np.float64(0.125), array([[0.5, 0. ]]))
    """

    name = "loss"
    fused_with: str | None = None
    per_sequence = False
    _targets = "values"
    _ignore_class: int | None = None
    _classes: int | None = None  # that a target of one number can be of
    _outputs = 1  # numbers in y_pred for each target

    def __call__(
        self,
        y_true: Any,
        y_pred: Any,
        sample_weight: Any = None,
        mask: Any = None,
        from_logits: bool | None = None,
    ) -> tuple[Any, Array]:
        """Give the value and its gradient by y_pred."""
        rows = to_rows(
            type(self).__name__,
            y_true,
            y_pred,
            sample_weight,
            mask,
            self._targets,
            self._ignore_class,
            self._outputs,
        )
        dtype = rows.y_pred.dtype
        scale = rows.weight / max(rows.valid, 1.0)
        options = {} if from_logits is None else {"from_logits": from_logits}
        # Differences of huge logits overflow to -inf, whose exp is the right 0; NaN shows itself.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            each, gradient = self._rows(
                rows.y_true, rows.y_pred, scale.astype(dtype.type(0).real.dtype), **options
            )
            value = dtype.type(np.sum(each * scale))
        return value, rows.scatter(gradient)

    def counted(self, y_true: Any, shape: tuple[int, ...], mask: Array | None) -> Array | None:
        """Give the mask that metrics share with this loss, for predictions of this shape."""
        return mask

    def weigh(
        self, y_true: Array, class_weight: Mapping[int, float], shape: tuple[int | None, ...]
    ) -> Array:
        """Give `class_weights` of these targets, for predictions of this shape."""
        one_hot = self._targets == "classes"
        K = shape[-1] if len(shape) > 1 else 1
        if self._targets == "values":
            if self.per_sequence or self._outputs > 1 or K != 1:
                raise ValueError(
                    f"class_weight: targets of {self.name} with outputs of shape {spell(shape)} "
                    "have no class each; use sample_weight"
                )
            K = self._classes
        elif one_hot and (y_true.ndim != len(shape) or y_true.shape[-1] != K):
            raise ValueError(
                f"class_weight: y must have one number a class, shape {spell(shape)}, got "
                f"{spell(y_true.shape)}; integer labels go with sparse_categorical_crossentropy"
            )
        return class_weights(y_true, class_weight, one_hot, K)

    def require_targets(
        self,
        who: str,
        y_true: Array,
        shape: tuple[Any, ...],
        sample_weight: Array | None,
        masked: bool,
    ) -> None:
        """Raise what a call would of these targets, for predictions of this shape and any value.

        `masked`: predictions will come with a mask, so that labels of padding cannot be judged.
        """
        if self._targets == "labels" and not masked:
            labels_at(who, y_true, shape, sample_weight, None, self._ignore_class)
        elif not self.per_sequence:
            n = 0 if self._targets == "labels" else 1
            y_pred = np.full((n, *shape[1:]), 0.5)
            weight = None if sample_weight is None else sample_weight[:n]
            to_rows(who, y_true[:n], y_pred, weight, None, self._targets, None, self._outputs)

    def each(self, t: Array, x: Array) -> Array:
        """Give l (n,) of rows t and x, as `Rows` holds them, in double precision."""
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            return self._rows(t, x, np.ones(len(x), x.real.dtype))[0]

    def _rows(self, t: Array, x: Array, scale: Array) -> tuple[Array, Array]:
        """Give l (n,) in float64 or complex128, and scale · dl/dx (n, K), a new array."""
        raise NotImplementedError(f"{type(self).__name__} must define _rows")


# -------------------------------------------------------------------------------- cross-entropy


class _CrossEntropy(Loss):
    """What the two softmax cross-entropies share."""

    fused_with: str | None = "softmax"

    def __init__(self, from_logits: bool, label_smoothing: float):
        who = type(self).__name__
        self.from_logits = bool(from_logits)
        self.label_smoothing = require_number(who, "label_smoothing", label_smoothing, 0, 1)
        if from_logits:
            # The last layer's output counts as logits even if it went through a softmax, as in
            # Keras; taking that softmax over would change what was asked for.
            self.fused_with = "linear"

    def _smoothed(self, t: Array) -> Array:
        epsilon = self.label_smoothing
        return t if epsilon == 0 else t * (1 - epsilon) + epsilon / t.shape[-1]


class SparseCategoricalCrossentropy(_CrossEntropy):
    """Cross-entropy of K classes, with an integer label for each position.

    With x the logits, y the label and ε the label smoothing:

        p_k = exp(x_k) / Σ_j exp(x_j)
        t_k = (1 - ε) [k = y] + ε / K
        l   = -Σ_k t_k ln p_k
        dl/dx_k = p_k - t_k

    and if y_pred holds probabilities p instead, `CategoricalCrossentropy`'s form of them.

    Parameters
    ----------
    from_logits : bool
        Whether y_pred holds logits x; if not, probabilities p.
    ignore_class : int, optional
        A label to leave out, as if masked: for the loss, its mean over batches, all metrics and
        class weights. It need not be one of 0..K-1.
    label_smoothing : float
        ε in [0, 1].

    Raises
    ------
    ValueError
        If a label is not in 0..K-1, naming it, its position and the valid range; or if the shapes
        do not fit.

    Notes
    -----
    Exact where it matters: with a = argmax x and s = Σ_{k≠a} exp(x_k - x_a), it is
    l = ln(1 + s) + (x_a - x_y), two terms of one sign, and for y = a it is dl/dx_y = -s / (1 + s).
    So both keep their relative accuracy when the model is all but certain and 1 - p_y would be 0.

    y_true has shape (B,), (B, 1), (B, T) or (B, T, 1).

    Source: the softmax is that of arXiv:1406.1078v3, eq. 2. Label smoothing: arXiv:1512.00567,
    section 7, which Keras has for dense targets only; the values equal
    `torch.nn.CrossEntropyLoss`'.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.losses import SparseCategoricalCrossentropy
    >>> loss = SparseCategoricalCrossentropy(from_logits=True)
    >>> value, dy_pred = loss([1, 2], np.zeros((2, 4)))
    >>> float(np.exp(value))  # the perplexity of a guess among four
    4.0
    >>> dy_pred
    array([[ 0.125, -0.375,  0.125,  0.125],
           [ 0.125,  0.125, -0.375,  0.125]])
    """

    name = "sparse_categorical_crossentropy"
    _targets = "labels"

    def __init__(
        self,
        from_logits: bool = False,
        ignore_class: int | None = None,
        label_smoothing: float = 0.0,
    ):
        super().__init__(from_logits, label_smoothing)
        if ignore_class is not None:
            who = type(self).__name__
            ignore_class = require_count(who, "ignore_class", ignore_class, least=-(2**63))
        self.ignore_class = self._ignore_class = ignore_class

    def __call__(
        self,
        y_true: Any,
        y_pred: Any,
        sample_weight: Any = None,
        mask: Any = None,
        from_logits: bool | None = None,
    ) -> tuple[Any, Any]:
        """Give the value and its gradient by y_pred."""
        if isinstance(y_pred, Logits) and from_logits and not self.label_smoothing:
            who = type(self).__name__
            return y_pred.cross_entropy(who, y_true, sample_weight, mask, self.ignore_class)
        return super().__call__(y_true, y_pred, sample_weight, mask, from_logits)

    def counted(self, y_true: Any, shape: tuple[int, ...], mask: Array | None) -> Array | None:
        """Give the mask that metrics share with this loss: the ignored class is left out."""
        if self.ignore_class is None:
            return mask
        y_true = as_array(type(self).__name__, y_true, "labels", wanted="integers")
        real = y_true.reshape(shape[:-1]) != self.ignore_class
        return (
            real if mask is None else real & spread(type(self).__name__, "mask", mask, shape[:-1])
        )

    def _rows(
        self, t: Array, x: Array, scale: Array, from_logits: bool | None = None
    ) -> tuple[Array, Array]:
        n, K = x.shape
        if not (self.from_logits if from_logits is None else from_logits):
            one_hot = np.zeros((n, K), x.real.dtype)
            one_hot[np.arange(n), t] = 1
            return _from_probabilities(self._smoothed(one_hot), x, scale)
        row, epsilon = np.arange(n), self.label_smoothing
        a, x_a, e, s = _softmax_parts(x)
        # l = ln(1 + s) + (1 - ε)(x_a - x_y) + ε mean_k(x_a - x_k)
        wide_x_a = _wide(x_a)
        l = np.log1p(_wide(s)) + (1 - epsilon) * (wide_x_a - x[row, t])  # noqa: E741
        if epsilon:
            l += epsilon * np.mean(wide_x_a[:, None] - x, axis=-1)  # noqa: E741
        # dl/dx_k = p_k - [k = y] + ε [k = y] - ε / K
        share = scale / (1 + s)
        e *= share[:, None]
        e[row, t] = np.where(t == a, -s * share, e[row, t] - scale)
        if epsilon:
            e -= (scale * epsilon / K)[:, None]
            e[row, t] += scale * epsilon
        return l, e


class CategoricalCrossentropy(_CrossEntropy):
    """Cross-entropy of K classes, with K target probabilities for each position.

    With x the logits and ε the label smoothing:

        p_k = exp(x_k) / Σ_j exp(x_j)
        t_k = (1 - ε) y_k + ε / K
        l   = -Σ_k t_k ln p_k
        dl/dx_k = p_k Σ_j t_j - t_k

    and if y_pred holds probabilities p instead:

        q_k = p_k / Σ_j p_j,    c_k = clip(q_k, 1e-7, 1 - 1e-7)
        l   = -Σ_k t_k ln c_k
        g_k = -t_k / c_k where q_k is not clipped, else 0
        dl/dp_k = (g_k - Σ_j g_j q_j) / Σ_j p_j

    Parameters
    ----------
    from_logits : bool
        Whether y_pred holds logits x; if not, probabilities p.
    label_smoothing : float
        ε in [0, 1].

    Notes
    -----
    y_true has the shape of y_pred and need not sum to 1. A class with t_k = 0 may have the logit
    -inf. Source and accuracy: see `SparseCategoricalCrossentropy`; values equal Keras 3's.

    Examples
    --------
    >>> from gru_np.losses import CategoricalCrossentropy
    >>> loss = CategoricalCrossentropy()
    >>> value, dy_pred = loss([[0, 1, 0]], [[0.25, 0.5, 0.25]])
    >>> round(float(value), 6), dy_pred  # ln 2
    (0.693147, array([[ 1., -1.,  1.]]))
    """

    name = "categorical_crossentropy"
    _targets = "classes"

    def __init__(self, from_logits: bool = False, label_smoothing: float = 0.0):
        super().__init__(from_logits, label_smoothing)

    def _rows(
        self, t: Array, x: Array, scale: Array, from_logits: bool | None = None
    ) -> tuple[Array, Array]:
        t = self._smoothed(t)
        if not (self.from_logits if from_logits is None else from_logits):
            return _from_probabilities(t, x, scale)
        row = np.arange(len(x))
        a, x_a, e, s = _softmax_parts(x)
        # l = Σ_k t_k (ln(1 + s) + x_a - x_k)
        gap = _wide(x_a)[:, None] - x
        total = t.sum(axis=-1)
        l = total * np.log1p(_wide(s)) + np.where(t == 0, 0, t * gap).sum(axis=-1)  # noqa: E741
        # dl/dx_k = p_k Σ_j t_j - t_k, at a without the cancellation of p_a = 1 - s / (1 + s)
        share = total / (1 + s)
        d = e * share[:, None] - t
        d[row, a] = (total - t[row, a]) - s * share
        d *= scale[:, None]
        return l, d


def _softmax_parts(x: Array) -> tuple[Array, Array, Array, Array]:
    """Give a = argmax x, x_a, e_k = exp(x_k - x_a) (a new array), and s = Σ_{k≠a} e_k."""
    row = np.arange(len(x))
    a = np.argmax(x.real, axis=-1)
    x_a = x[row, a]
    # Less the maximum, since exp overflows beyond 88 in float32.
    e = x - x_a[:, None]
    np.exp(e, out=e)
    # e_a is 1, which would drown a small s.
    e[row, a] = 0
    s = e.sum(axis=-1)
    e[row, a] = 1
    return a, x_a, e, s


def _from_probabilities(t: Array, p: Array, scale: Array) -> tuple[Array, Array]:
    """Cross-entropy -Σ_k t_k ln p_k of probabilities, normalised and clipped as Keras does."""
    total = p.sum(axis=-1, keepdims=True)
    q = p / total
    c, inside = _clip(q)
    l = -np.sum(t * np.log(_wide(c)), axis=-1)  # noqa: E741
    # l = -Σ_k t_k ln clip(q_k)
    g = np.where(inside, -t / c, 0) * scale[:, None]
    # q = p / Σ_j p_j
    return l, (g - np.sum(g * q, axis=-1, keepdims=True)) / total


def _clip(p: Array) -> tuple[Array, Array]:
    """Clip probabilities, by the real part, and say where they were inside the bounds."""
    low, high = p.real.dtype.type(EPSILON), p.real.dtype.type(1 - EPSILON)
    below, above = p.real < low, p.real > high
    # Neither is true of a NaN, which passes.
    return np.where(below, low, np.where(above, high, p)), ~(below | above)


def _wide(x: Array) -> Array:
    """Give x in double precision, real or complex."""
    return x.astype(np.result_type(x, np.float64), copy=False)


class BinaryCrossentropy(Loss):
    """Cross-entropy of yes-or-no questions, the mean over the K of the last axis.

    With x the logits, y the answers, σ the logistic function and ε the label smoothing:

        t = (1 - ε) y + ε / 2
        l = mean_k( -t ln σ(x) - (1 - t) ln σ(-x) )
        dl/dx = (σ(x) - t) / K

    and if y_pred holds probabilities p instead:

        c = clip(p, 1e-7, 1 - 1e-7)
        l = mean_k( -t ln c - (1 - t) ln(1 - c) )
        dl/dp = (c - t) / (c (1 - c)) / K where p is not clipped, else 0

    Parameters
    ----------
    from_logits : bool
        Whether y_pred holds logits x; if not, probabilities p.
    label_smoothing : float
        ε in [0, 1].

    Notes
    -----
    With u = exp(-|x|) ≤ 1 it is l = x ([x > 0] - t) + ln(1 + u) and σ(x) - t = [x > 0] - t ∓
    u / (1 + u): nothing overflows, and a sure and right answer keeps its small gradient.

    y_true has the shape of y_pred; for K = 1 the last axis may be left out. Values equal Keras 3's
    and, where neither clips, `torch.nn.BCEWithLogitsLoss`'.

    Examples
    --------
    >>> from gru_np.losses import BinaryCrossentropy
    >>> value, dy_pred = BinaryCrossentropy(from_logits=True)([1, 0], [0.0, 0.0])
    >>> round(float(value), 6), dy_pred
    (0.693147, array([-0.25,  0.25]))
    """

    name = "binary_crossentropy"
    _classes = 2
    fused_with: str | None = "sigmoid"

    def __init__(self, from_logits: bool = False, label_smoothing: float = 0.0):
        self.from_logits = bool(from_logits)
        self.label_smoothing = require_number(
            type(self).__name__, "label_smoothing", label_smoothing, 0, 1
        )
        if from_logits:
            self.fused_with = "linear"

    def _rows(
        self, t: Array, x: Array, scale: Array, from_logits: bool | None = None
    ) -> tuple[Array, Array]:
        if self.label_smoothing:
            t = t * (1 - self.label_smoothing) + self.label_smoothing / 2
        scale = (scale / x.shape[-1])[:, None]
        if not (self.from_logits if from_logits is None else from_logits):
            c, inside = _clip(x)
            wide = _wide(c)
            l = -np.mean(t * np.log(wide) + (1 - t) * np.log(1 - wide), axis=-1)  # noqa: E741
            return l, np.where(inside, (c - t) / (c * (1 - c)), 0) * scale
        positive = x.real > 0
        u = np.exp(np.where(positive, -x, x))
        far: Array = positive - t
        # l = mean_k( x ([x > 0] - t) + ln(1 + u) ); a sure and right infinite logit costs nothing
        each = np.where(far == 0, 0, _wide(x) * far) + np.log1p(_wide(u))
        tail = u / (1 + u)
        return each.mean(axis=-1), (far + np.where(positive, -tail, tail)) * scale


# ---------------------------------------------------------------------------------- regression


class _Regression(Loss):
    """A loss of the error e = y_pred - y_true, the mean over the K of the last axis."""

    def _rows(self, t: Array, x: Array, scale: Array) -> tuple[Array, Array]:
        each, slope = self._of_error(x - t)
        return _wide(each).mean(axis=-1), slope * (scale / x.shape[-1])[:, None]

    def _of_error(self, e: Array) -> tuple[Array, Array]:
        """Give the loss of each error and its derivative."""
        raise NotImplementedError(f"{type(self).__name__} must define _of_error")


class MeanSquaredError(_Regression):
    """Mean over the last axis of the squared error.

        l = mean_k( (x_k - y_k)² )
        dl/dx_k = 2 (x_k - y_k) / K

    Notes
    -----
    y_true has the shape of y_pred; for K = 1 the last axis may be left out. Equals Keras' and
    `torch.nn.MSELoss`.

    Examples
    --------
    >>> from gru_np.losses import MeanSquaredError
    >>> MeanSquaredError()([[0.0], [2.0]], [[1.0], [5.0]])
    (np.float64(5.0), array([[1.],
           [3.]]))
    """

    name = "mean_squared_error"

    def _of_error(self, e: Array) -> tuple[Array, Array]:
        return e * e, 2 * e


class MeanAbsoluteError(_Regression):
    """Mean over the last axis of the absolute error.

        l = mean_k( |x_k - y_k| )
        dl/dx_k = sign(x_k - y_k) / K,   0 where they are equal

    Notes
    -----
    Shapes as for `MeanSquaredError`. Equals Keras' and `torch.nn.L1Loss`.

    Examples
    --------
    >>> from gru_np.losses import MeanAbsoluteError
    >>> MeanAbsoluteError()([[0.0], [2.0]], [[1.0], [5.0]])
    (np.float64(2.0), array([[0.5],
           [0.5]]))
    """

    name = "mean_absolute_error"

    def _of_error(self, e: Array) -> tuple[Array, Array]:
        sign = np.sign(e.real)
        return e * sign, sign.astype(e.dtype, copy=False)


class Huber(_Regression):
    """Squared error for small errors, absolute error for large ones: outliers pull less.

    With e = x_k - y_k and δ = `delta`:

        l = mean_k( e² / 2  if |e| ≤ δ,  else δ |e| - δ² / 2 )
        dl/dx_k = clip(e, -δ, δ) / K

    Parameters
    ----------
    delta : float
        δ > 0.

    Notes
    -----
    Shapes as for `MeanSquaredError`. Source: P. J. Huber, Annals of Mathematical Statistics 35
    (1964) 73-101. Equals Keras' and `torch.nn.HuberLoss`.

    Examples
    --------
    >>> from gru_np.losses import Huber
    >>> Huber()([[0.0], [2.0]], [[1.0], [5.0]])
    (np.float64(1.5), array([[0.5],
           [0.5]]))
    """

    name = "huber"

    def __init__(self, delta: float = 1.0):
        self.delta = require_number("Huber", "delta", delta, open_="(")

    def _of_error(self, e: Array) -> tuple[Array, Array]:
        delta, sign = self.delta, np.sign(e.real)
        # Not |e| > δ: a NaN must stay on the side that passes it on.
        small = ~(e.real * sign > delta)
        each = np.where(small, e * e / 2, delta * (e * sign) - delta**2 / 2)
        return each, np.where(small, e, delta * sign)


# ------------------------------------------------------------------------------- distributions


class Pinball(Loss):
    """Loss of quantiles: y_pred holds, for each target, one number for each level.

        l = mean over targets k and levels j of  q_j e  if e > 0,  else (q_j - 1) e,
            e = y_k - x_kj
        dl/dx_kj = -q_j / (K J)  if e > 0,  (1 - q_j) / (K J)  if e < 0,  else 0

    Parameters
    ----------
    quantiles : sequence of float
        The levels q_1 < q_2 < ..., in (0, 1).

    Notes
    -----
    For y_true (..., K) and J levels y_pred is (..., K J), the levels of one target side by side.
    Twice the mean over evenly spaced levels approximates the continuous ranked probability score.
    Source: see `gru_np.likelihoods.pinball`.

    Examples
    --------
    >>> from gru_np.losses import Pinball
    >>> value, dy_pred = Pinball([0.1, 0.5, 0.9])([[2.0]], [[1.0, 2.0, 4.0]])
    >>> round(float(value), 6), dy_pred.round(6)
    (0.1, array([[-0.033333,  0.      ,  0.033333]]))
    """

    name = "pinball"

    def __init__(self, quantiles: Any = (0.1, 0.5, 0.9)):
        levels = [require_number("Pinball", "a quantile", q, 0, 1, "()") for q in quantiles]
        if not levels or levels != sorted(set(levels)):
            raise ValueError(f"Pinball: quantiles must rise, got {levels}")
        self.quantiles = levels
        self._outputs = len(levels)

    def _rows(self, t: Array, x: Array, scale: Array) -> tuple[Array, Array]:
        parts = x.reshape((*t.shape, self._outputs))
        q = np.array(self.quantiles, x.real.dtype)
        each, slope = pinball(t[..., None], parts, q)
        slope = (slope * (scale / x.shape[-1])[:, None, None]).astype(x.dtype, copy=False)
        return _wide(each).mean(axis=(1, 2)), slope.reshape(x.shape)


class _Density(Loss):
    """Negative log-likelihood of a density whose parameters the model gives, side by side."""

    def __init__(self, floor: float = 1e-3):
        self.floor = require_number(type(self).__name__, "floor", floor, 0)

    def _rows(self, t: Array, x: Array, scale: Array) -> tuple[Array, Array]:
        # In double precision: u² overflows beyond 2e19 in float32.
        parts = _wide(x).reshape((*t.shape, self._outputs))
        each, slopes = self._density(_wide(t), *np.moveaxis(parts, -1, 0))
        share = scale.astype(np.float64) / each.shape[-1]
        slope = np.stack(slopes, axis=-1) * share[:, None, None]
        return each.mean(axis=-1), slope.reshape(x.shape).astype(x.dtype, copy=False)

    def _density(self, t: Array, *parameters: Array) -> tuple[Array, tuple[Array, ...]]:
        """Give -ln p(t) and its gradient by each parameter."""
        raise NotImplementedError(f"{type(self).__name__} must define _density")


class GaussianNLL(_Density):
    """Negative log-likelihood of normal distributions, in nats.

    y_pred holds, for each target, μ and a; σ = softplus(a) + floor. The equations stand in
    `gru_np.likelihoods.gaussian`; the loss is the mean over the targets of a position.

    Parameters
    ----------
    floor : float
        Least σ, at least 0.

    Notes
    -----
    For y_true (..., K) y_pred is (..., 2 K): μ_1, a_1, μ_2, a_2, ... A value below zero is no
    mistake: a density may be above 1.

    Examples
    --------
    >>> from gru_np.losses import GaussianNLL
    >>> value, dy_pred = GaussianNLL()([[1.0]], [[1.0, 0.0]])
    >>> round(float(value), 4)
    0.5539
    """

    name = "gaussian_nll"
    _outputs = 2

    def _density(self, t: Array, *parameters: Array) -> tuple[Array, tuple[Array, ...]]:
        return gaussian(t, *parameters, floor=self.floor)  # type: ignore[arg-type, misc]


class StudentTNLL(_Density):
    """Negative log-likelihood of Student's t distributions, in nats: for errors with heavy tails.

    y_pred holds, for each target, μ, a and b; σ = softplus(a) + floor, ν = 2 + softplus(b). The
    equations stand in `gru_np.likelihoods.student_t`; the loss is the mean over the targets of a
    position.

    Parameters
    ----------
    floor : float
        Least σ, at least 0.

    Notes
    -----
    For y_true (..., K) y_pred is (..., 3 K): μ_1, a_1, b_1, μ_2, ...

    Examples
    --------
    >>> from gru_np.losses import StudentTNLL
    >>> value, dy_pred = StudentTNLL()([[1.0]], [[1.0, 0.0, 0.0]])
    >>> round(float(value), 4)
    0.6448
    """

    name = "student_t_nll"
    _outputs = 3

    def _density(self, t: Array, *parameters: Array) -> tuple[Array, tuple[Array, ...]]:
        return student_t(t, *parameters, floor=self.floor)  # type: ignore[arg-type, misc]


# -------------------------------------------------------------------------- unaligned sequences


class CTC(Loss):
    """Connectionist temporal classification: labels in order, without the times they belong to.

        l = -ln p(labels | y_pred),  summed over all alignments; `gru_np.ctc` has the equations
        L = Σ_b w_b l_b / B                                               nats an utterance

    Parameters
    ----------
    blank : int
        The output that stands for "nothing new": 0, as in PyTorch and Keras 3. -1 is the last.
    from_logits : bool
        Whether y_pred holds logits, as in Keras 3; if not, probabilities. A last layer with
        softmax hands its logits over by itself.

    Raises
    ------
    ValueError
        If a label is not below V, or padding stands before a label.

    Warns
    -----
    RuntimeWarning
        If a row has no alignment, having fewer time steps than its labels need (one each, and one
        more between two that are equal). Such a row counts with loss 0 and gradient 0, as with
        PyTorch's `zero_infinity`.

    Notes
    -----
    y_pred is (B, T, V); y_true is (B, L) int, each row padded on the right with negative numbers
    or blanks. The mask (B, T) says which time steps are real; the others are left out, wherever
    they stand. Weights belong to rows, (B,). The mean is over rows, not over time steps; to
    compare, PyTorch's "mean" also divides each row by its number of labels.

    Source: Graves et al. 2006 (ICML). Equals `torch.nn.CTCLoss` with `zero_infinity=True`.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.losses import CTC
    >>> value, dy_pred = CTC()([[1, 2, -1]], np.zeros((1, 3, 3)))
    >>> round(float(np.exp(-value)) * 27, 12)  # of the 27 paths, those that read "1 2"
    5.0
    """

    name = "ctc"
    fused_with: str | None = "softmax"
    per_sequence = True

    def __init__(self, blank: int = 0, from_logits: bool = True):
        self.blank = blank
        self.from_logits = bool(from_logits)

    def __call__(
        self,
        y_true: Any,
        y_pred: Any,
        sample_weight: Any = None,
        mask: Any = None,
        from_logits: bool | None = None,
    ) -> tuple[Any, Array]:
        """Give the value and its gradient by y_pred."""
        y_pred = as_floats("CTC", y_pred, "y_pred")
        require_rank("CTC", "y_pred", y_pred, ("batch", "time", "outputs"))
        B, T, V = y_pred.shape
        blank = operator.index(self.blank)
        blank += V if blank < 0 else 0
        if not 0 <= blank < V:
            raise ValueError(f"CTC: blank must be one of the {V} outputs, got {self.blank}")
        labels, label_lengths = self._labels(y_true, B, V, blank)
        logits = y_pred
        if not (self.from_logits if from_logits is None else from_logits):
            # p = softmax(ln p); ln 0 is replaced by the smallest there is
            inside = y_pred.real >= np.finfo(y_pred.dtype).tiny
            safe = np.where(inside, y_pred, np.finfo(y_pred.dtype).tiny)
            logits = np.log(safe)
        lengths, order = np.full(B, T), None
        if mask is not None:
            mask = as_mask("CTC", mask, (B, T))
            lengths = mask.sum(axis=1)
            if not (mask == (np.arange(T) < lengths[:, None])).all():
                order = np.argsort(~mask, axis=1, kind="stable")[:, :, None]  # real steps first
                logits = np.take_along_axis(logits, order, axis=1)
        each, gradient, feasible = kernels.ctc_loss(logits, labels, lengths, label_lengths, blank)
        if not feasible.all():
            self._warn(feasible, labels, lengths, label_lengths)

        weight = np.ones(B) if sample_weight is None else as_weights("CTC", sample_weight)
        if weight.size not in (1, B):
            raise ValueError(
                f"CTC: sample_weight must have one entry a row, shape ({B},), "
                f"got {spell(weight.shape)}"
            )
        scale = np.broadcast_to(weight.reshape(-1), B) / max(B, 1)
        gradient = gradient * scale.astype(y_pred.real.dtype)[:, None, None]
        if order is not None:
            back = np.zeros_like(gradient)
            np.put_along_axis(back, order, gradient, axis=1)
            gradient = back
        if logits is not y_pred and not (self.from_logits if from_logits is None else from_logits):
            # logits = ln p
            gradient = np.where(inside, gradient / safe, 0)
        return y_pred.dtype.type(np.sum(each * scale)), gradient

    def _labels(self, y_true: Any, B: int, V: int, blank: int) -> tuple[Array, Array]:
        """Give labels (B, L) and how many each row has, or say what is wrong with them."""
        labels = as_array("CTC", y_true, "y_true", REAL)
        require_rank("CTC", "y_true", labels, (B, "labels"))
        if labels.dtype.kind == "f" and not (labels == np.floor(labels)).all():
            raise ValueError("CTC: labels must be integers, padded with -1")
        labels = labels.astype(np.int64)
        real = (labels >= 0) & (labels != blank)
        lengths = real.sum(axis=1)
        if (labels >= V).any():
            row, place = map(int, np.argwhere(labels >= V)[0])
            raise ValueError(
                f"CTC: labels must be below the {V} outputs of y_pred, got "
                f"{labels[row, place]} at position {(row, place)}"
            )
        if (real != (np.arange(labels.shape[1]) < lengths[:, None])).any():
            row = int(np.argwhere(real[:, 1:] & ~real[:, :-1])[0, 0])
            raise ValueError(
                f"CTC: padding (negative, or the blank {blank}) must stand behind all labels, "
                f"got {labels[row].tolist()} in row {row}"
            )
        return labels, lengths

    def _warn(self, feasible: Array, labels: Array, lengths: Array, label_lengths: Array) -> None:
        row = int(np.argmin(feasible))
        needed = int(ctc.least_steps(labels, label_lengths)[row])
        why = (
            f"has {lengths[row]} time steps and needs {needed}"
            if lengths[row] < needed
            else "needs an output of probability zero"
        )
        warnings.warn(
            f"CTC: {np.sum(~feasible)} of {len(feasible)} rows have no alignment (row {row} {why}) "
            "and count as 0; leave them out or give them more time steps",
            RuntimeWarning,
            stacklevel=3,
        )


# ------------------------------------------------------------------------------- class weights


def class_weights(
    y_true: Any,
    class_weight: Mapping[int, float],
    one_hot: bool = False,
    classes: int | None = None,
) -> Array:
    """Give the sample weights that weigh each class as asked.

        w_i = class_weight[y_i],   1 for a class that is not named

    Parameters
    ----------
    y_true : (B,), (B, 1), (B, T) or (B, T, 1); or (..., K) if one_hot
        Labels, whole numbers of any type; or rows whose largest entry is the label.
    class_weight : dict of int to float
        Weight of each class, at least 0.
    one_hot : bool
        Whether the last axis of y_true runs over the classes.
    classes : int, optional
        K, where labels do not tell: the classes are 0..K-1. If not given, any whole number is one.

    Returns
    -------
    weight : (B,) or (B, T) float64
        For `sample_weight`.

    Raises
    ------
    TypeError
        If class_weight is no dict.
    ValueError
        If a key is not a class, a weight is negative or not finite, or a label is not whole.

    Notes
    -----
    Labels that are no class, as those of padding, get the weight 1: whether they may stand where
    they stand is for the loss to say. Keras rounds labels and takes any key.

    Examples
    --------
    >>> from gru_np.losses import class_weights
    >>> class_weights([0, 2, 1, 2], {2: 5.0, 0: 0.5})
    array([0.5, 5. , 1. , 5. ])

    Weights that give each class the same share, from the labels:

    >>> import numpy as np
    >>> labels = [0, 0, 0, 1]
    >>> of_class, counts = np.unique(labels, return_counts=True)
    >>> class_weights(labels, dict(zip(of_class, len(labels) / (len(counts) * counts))))
    array([0.66666667, 0.66666667, 0.66666667, 2.        ])
    """
    y_true = as_array("class_weight", y_true, "y", REAL)
    if not isinstance(class_weight, Mapping):
        advice = "dict(enumerate(weights)) makes one of a list"
        if isinstance(class_weight, str):
            advice = "`gru_np.losses.class_weights` shows how to get balanced ones from labels"
        got = reprlib.repr(class_weight)
        raise TypeError(f"class_weight: it must be a dict of class to weight, got {got}; {advice}")
    if one_hot:
        classes = y_true.shape[-1]
        y_true = y_true.argmax(axis=-1)
    elif y_true.ndim > 1 and y_true.shape[-1] == 1:
        y_true = y_true[..., 0]
    if y_true.dtype.kind == "f":
        soft = (y_true != np.floor(y_true)) & np.isfinite(y_true)
        if soft.any():
            raise ValueError(
                f"class_weight: labels must be whole numbers, got {y_true[soft][0]}; give weights "
                "of soft targets as sample_weight"
            )
    weight = np.ones(y_true.shape)
    for label, value in class_weight.items():
        whole = isinstance(label, int | np.integer | np.bool_) or (
            isinstance(label, float | np.floating) and float(label).is_integer()
        )
        if not whole or (classes is not None and not 0 <= label < classes):
            known = "whole numbers" if classes is None else f"classes, 0..{classes - 1}"
            raise ValueError(f"class_weight: keys must be {known}, got {label!r}")
        of_label = require_number("class_weight", f"the weight of class {label!r}", value)
        weight[y_true == int(label)] = of_label
    return weight


# --------------------------------------------------------------------------------------- by name

LOSSES: dict[str, type[Loss]] = {
    cls.__name__: cls
    for cls in (
        SparseCategoricalCrossentropy,
        CategoricalCrossentropy,
        BinaryCrossentropy,
        MeanSquaredError,
        MeanAbsoluteError,
        Huber,
        Pinball,
        GaussianNLL,
        StudentTNLL,
        CTC,
    )
}
LOSSES |= {cls.name: cls for cls in LOSSES.values()}
LOSSES |= {"mse": MeanSquaredError, "mae": MeanAbsoluteError, "bce": BinaryCrossentropy}


def get(identifier: Any) -> Loss:
    """Give the loss meant by a name, a description (`serialize`) or a Loss.

    Examples
    --------
    >>> from gru_np import losses
    >>> losses.get("sparse_categorical_crossentropy")
    SparseCategoricalCrossentropy()
    >>> losses.get("mean_square_error")
    Traceback (most recent call last):
        ...
    ValueError: unknown loss 'mean_square_error'; did you mean 'mean_squared_error'?
    """
    return resolve("loss", identifier, LOSSES, Loss)


def serialize(loss: Loss) -> dict[str, Any]:
    """Describe a loss, ready for JSON; `get` takes it back.

    Examples
    --------
    >>> from gru_np import losses
    >>> losses.serialize(losses.Huber(delta=2.0))
    {'class_name': 'Huber', 'config': {'delta': 2.0}}
    """
    return describe(require_known("loss", loss, LOSSES))
