"""What training reports: means over all positions seen since the last reset.

Notation: a position i is a sample, or one time step of a sample; v_i the metric's value there; w_i
its sample weight (1 if not given), m_i the mask (1 if not given).

    result = Σ_i m_i w_i v_i / Σ_i m_i w_i          0 before the first position, as in Keras

Both sums are kept in float64 from batch to batch, so batches of any sizes give what one batch
gives, to rounding; and they are all the state there is, so a resumed run goes on with the same
bits. What stands at a masked position, or at one of weight zero, is never looked at.

Unlike a loss, a metric divides by the sum of the weights (Keras does both).
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from gru_np import losses
from gru_np._aliases import Array
from gru_np._checks import require_count
from gru_np._intake import REAL, as_array, as_weights
from gru_np._logits import Counts
from gru_np._named import Configured, describe, require_known, require_number, resolve
from gru_np._positions import Rows, to_rows


class Mean(Configured):
    """A weighted mean, kept as two sums; what every metric is built on.

    Parameters
    ----------
    name : str
        Its name in logs.

    Examples
    --------
    >>> from gru_np.metrics import Mean
    >>> mean = Mean("loss")
    >>> mean.add(1.0, 30)
    >>> mean.add(4.0, 10)
    >>> mean.result()
    1.75
    """

    def __init__(self, name: str = "mean"):
        self.name = name
        self.reset()

    def reset(self) -> None:
        """Forget everything seen."""
        self.total = 0.0
        self.count = 0.0

    def add(self, value: Any, count: Any = 1) -> None:
        """Take in a value that is the mean of so many."""
        if count:  # nothing seen is nothing, be its mean NaN
            self.total += float(value) * float(count)
            self.count += float(count)

    def result(self) -> float:
        """Give the mean so far; 0 if nothing was seen."""
        return self.total / self.count if self.count else 0.0

    def get_state(self) -> dict[str, float]:
        """Give the two sums."""
        return {"total": self.total, "count": self.count}

    def set_state(self, state: Mapping[str, float]) -> None:
        """Take them back."""
        self.total, self.count = float(state["total"]), float(state["count"])


class Metric(Mean):
    """Base of all metrics of targets and predictions.

    Examples
    --------
    >>> from gru_np import metrics
    >>> metric = metrics.get("mae")
    >>> metric.update([[1.0], [2.0]], [[1.5], [2.0]])
    >>> metric.update([[3.0]], [[4.0]])
    >>> metric.name, metric.result()  # (0.5 + 0 + 1) / 3
    ('mae', 0.5)
    """

    _targets = "values"

    def update(
        self,
        y_true: Any,
        y_pred: Any,
        sample_weight: Any = None,
        mask: Any = None,
        loss: Any = None,
    ) -> None:
        """Take in a batch.

        Parameters
        ----------
        y_true, y_pred : array
            As for the loss of the same kind of targets.
        sample_weight : (B,), (B, T) or number, optional
            w.
        mask : (B, T) or (B,) bool, optional
            m: True where a position counts.
        loss : number, optional
            The value of the loss for this batch, of the same weights and mask and without
            penalties, for metrics that are made of it.
        """
        who, kind = type(self).__name__, self._targets
        rows = to_rows(who, y_true, y_pred, sample_weight, mask, kind, kinds=REAL)
        self._take(self._each(rows), rows)

    def take_counts(self, counts: Counts) -> bool:
        """Take in a batch by what its loss has counted, if that is enough to know."""
        return False

    def know(self, loss: losses.Loss | None) -> None:
        """Learn from the model's loss what predictions are, as far as nobody has said."""

    def _take(self, each: Array, rows: Rows) -> None:
        self.total += float(np.sum(each * rows.weight))
        self.count += rows.total_weight

    def _each(self, rows: Rows) -> Array:
        """Give v (n,), the value at each position."""
        raise NotImplementedError(f"{type(self).__name__} must define _each")


def _arrays(who: str, y_true: Any, y_pred: Any) -> tuple[Array, Array]:
    return as_array(who, y_true, "y_true", REAL), as_array(who, y_pred, "y_pred", REAL)


# ------------------------------------------------------------------------------------- accuracy


class SparseCategoricalAccuracy(Metric):
    """How often the largest prediction is the label's.

        v = [argmax_k x_k = y]

    Examples
    --------
    >>> from gru_np.metrics import SparseCategoricalAccuracy
    >>> metric = SparseCategoricalAccuracy()
    >>> metric.update([0, 1], [[0.9, 0.1], [0.8, 0.2]])
    >>> metric.result()
    0.5
    """

    _targets = "labels"

    def __init__(self, name: str = "sparse_categorical_accuracy"):
        super().__init__(name)

    def take_counts(self, counts: Counts) -> bool:
        """Take in a batch by what its loss has counted."""
        if type(self) is not SparseCategoricalAccuracy:
            return False  # a subclass may count otherwise
        self.total += float(np.sum(counts.hits))
        self.count += counts.total_weight
        return True

    def _each(self, rows: Rows) -> Array:
        return rows.y_pred.argmax(axis=-1) == rows.y_true


class CategoricalAccuracy(Metric):
    """How often the largest prediction is where the largest target is.

        v = [argmax_k x_k = argmax_k y_k]

    Examples
    --------
    >>> from gru_np.metrics import CategoricalAccuracy
    >>> metric = CategoricalAccuracy()
    >>> metric.update([[1, 0], [0, 1]], [[0.9, 0.1], [0.8, 0.2]])
    >>> metric.result()
    0.5
    """

    _targets = "classes"

    def __init__(self, name: str = "categorical_accuracy"):
        super().__init__(name)

    def _each(self, rows: Rows) -> Array:
        return rows.y_pred.argmax(axis=-1) == rows.y_true.argmax(axis=-1)


class _Elementwise(Metric):
    """What is counted output by output, so that each output may have a weight of its own."""

    def update(
        self,
        y_true: Any,
        y_pred: Any,
        sample_weight: Any = None,
        mask: Any = None,
        loss: Any = None,
    ) -> None:
        """Take in a batch; see `Metric.update`. Weights may have y_pred's shape, too."""
        if sample_weight is not None:
            who = type(self).__name__
            y_true, y_pred = _arrays(who, y_true, y_pred)
            sample_weight = as_weights(who, sample_weight)
            if y_true.shape == y_pred.shape == sample_weight.shape:
                y_true, y_pred = y_true[..., None], y_pred[..., None]
        super().update(y_true, y_pred, sample_weight, mask, loss)


class Accuracy(_Elementwise):
    """How often predictions equal the targets, the mean over the last axis: Keras' class.

        v = mean_k [ x_k = y_k ]

    Parameters
    ----------
    name : str

    Notes
    -----
    Predictions are compared as they are, so they must be labels, not probabilities. The string
    "accuracy" means another metric: that of the loss, or the one that the shapes tell
    (`AccuracyByShape`); in Keras too.

    Examples
    --------
    >>> from gru_np.metrics import Accuracy
    >>> metric = Accuracy()
    >>> metric.update([1, 2, 3, 4], [0, 2, 3, 4])
    >>> metric.result()
    0.75
    >>> metric.reset()
    >>> metric.update([[1, 2], [3, 4]], [[1, 0], [3, 0]], sample_weight=[[5, 1], [3, 1]])
    >>> metric.result()
    0.8
    """

    def __init__(self, name: str = "accuracy"):
        super().__init__(name)

    def _each(self, rows: Rows) -> Array:
        hits: Array = rows.y_pred == rows.y_true
        return hits.mean(axis=-1)


class BinaryAccuracy(_Elementwise):
    """How often yes-or-no answers are right, the mean over the last axis.

        v = mean_k [ [x_k > threshold] = y_k ]

    Parameters
    ----------
    name : str
    threshold : float, optional
        Above it a prediction is a yes. If not given it is 1/2, and 0 in a model whose loss takes
        its predictions for logits.

    Notes
    -----
    In Keras it is 1/2 for logits too, unless one says otherwise.

    Examples
    --------
    >>> from gru_np.metrics import BinaryAccuracy
    >>> metric = BinaryAccuracy()
    >>> metric.update([1, 0, 1], [0.9, 0.6, 0.7])
    >>> round(metric.result(), 4)
    0.6667
    """

    def __init__(self, name: str = "binary_accuracy", threshold: float | None = None):
        super().__init__(name)
        if threshold is not None:
            threshold = require_number(type(self).__name__, "threshold", threshold, low=-math.inf)
        self.threshold = threshold
        self._of_logits = False

    def know(self, loss: losses.Loss | None) -> None:
        """Learn whether predictions are logits."""
        self._of_logits = bool(getattr(loss, "from_logits", False))

    def _each(self, rows: Rows) -> Array:
        threshold = self.threshold
        if threshold is None:
            threshold = 0.0 if self._of_logits else 0.5
        hits = (rows.y_pred > threshold) == rows.y_true
        return hits.mean(axis=-1)


class AccuracyByShape(BinaryAccuracy):
    """Accuracy of the kind that the shapes of a batch tell: what "accuracy" means, as in Keras.

        y_pred has 1 on its last axis, or is (B,)                      `BinaryAccuracy`
        else y_true lacks y_pred's last axis, or has 1 there           `SparseCategoricalAccuracy`
        else                                                           `CategoricalAccuracy`

    Parameters
    ----------
    name : str
    threshold : float, optional
        As for `BinaryAccuracy`.

    Notes
    -----
    Several yes-or-no answers a position look like classes: ask for "binary_accuracy" by name there.

    Examples
    --------
    >>> from gru_np import metrics
    >>> metric = metrics.get("accuracy")
    >>> metric.update([0, 1], [[0.9, 0.1], [0.8, 0.2]])
    >>> metric.result()
    0.5
    """

    def __init__(self, name: str = "accuracy", threshold: float | None = None):
        super().__init__(name, threshold)

    def update(
        self,
        y_true: Any,
        y_pred: Any,
        sample_weight: Any = None,
        mask: Any = None,
        loss: Any = None,
    ) -> None:
        """Take in a batch; see `Metric.update`."""
        who = type(self).__name__
        y_true, y_pred = _arrays(who, y_true, y_pred)
        t, p = y_true.shape, y_pred.shape
        if len(p) < 2 or p[-1] == 1:
            super().update(y_true, y_pred, sample_weight, mask)
            return
        sparse = len(t) < len(p) or t[-1] == 1
        kind: Metric = SparseCategoricalAccuracy() if sparse else CategoricalAccuracy()
        kind.update(y_true, y_pred, sample_weight, mask)
        self.total += kind.total
        self.count += kind.count


class SparseTopKCategoricalAccuracy(Metric):
    """How often the label is among the k largest predictions.

        v = [ |{j : x_j > x_y}| < k ]           so ties count as hits, as in Keras

    Parameters
    ----------
    k : int
        At least 1.
    name : str

    Examples
    --------
    >>> from gru_np.metrics import SparseTopKCategoricalAccuracy
    >>> metric = SparseTopKCategoricalAccuracy(k=2)
    >>> metric.update([2, 2], [[0.5, 0.3, 0.2], [0.5, 0.2, 0.3]])
    >>> metric.result()
    0.5
    """

    _targets = "labels"

    def __init__(self, k: int = 5, name: str = "sparse_top_k_categorical_accuracy"):
        super().__init__(name)
        self.k = require_count(type(self).__name__, "k", k)

    def _each(self, rows: Rows) -> Array:
        return _in_top_k(rows.y_pred, rows.y_true, self.k)


class TopKCategoricalAccuracy(Metric):
    """How often the largest target is among the k largest predictions.

        v = [ |{j : x_j > x_y}| < k ],  y = argmax_k y_k

    Parameters
    ----------
    k : int
        At least 1.
    name : str

    Examples
    --------
    >>> from gru_np.metrics import TopKCategoricalAccuracy
    >>> metric = TopKCategoricalAccuracy(k=2)
    >>> metric.update([[0, 0, 1], [0, 0, 1]], [[0.5, 0.3, 0.2], [0.5, 0.2, 0.3]])
    >>> metric.result()
    0.5
    """

    _targets = "classes"

    def __init__(self, k: int = 5, name: str = "top_k_categorical_accuracy"):
        super().__init__(name)
        self.k = require_count(type(self).__name__, "k", k)

    def _each(self, rows: Rows) -> Array:
        return _in_top_k(rows.y_pred, rows.y_true.argmax(axis=-1), self.k)


def _in_top_k(x: Array, label: Array, k: int) -> Array:
    """Say for each row whether fewer than k entries beat the label's; NaN there is a miss."""
    of_label = np.take_along_axis(x, label[:, None], axis=-1)
    return (np.count_nonzero(x > of_label, axis=-1) < k) & ~np.isnan(of_label[:, 0])


# ----------------------------------------------------------------------------------- perplexity


class Perplexity(Metric):
    """How many equally likely classes the model wavers between: exp of the mean cross-entropy.

        result = exp( Σ_i m_i w_i l_i / Σ_i m_i w_i ),    l_i = -ln p_{i, y_i} in nats

    Parameters
    ----------
    name : str
    from_logits : bool, optional
        Whether y_pred holds logits; if not, probabilities, clipped as in the loss. If not given,
        the model's loss says it.
    from_loss : bool
        Whether the value of the loss given to `update` is Σ m w l / Σ m of this very
        cross-entropy, so that it need not be computed again; `get` knows.

    Notes
    -----
    y_true holds labels, or one-hot rows of y_pred's shape.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.metrics import Perplexity
    >>> metric = Perplexity()
    >>> metric.update([3, 1], np.full((2, 8), 1 / 8))
    >>> round(metric.result(), 6)
    8.0
    """

    def __init__(
        self,
        name: str = "perplexity",
        from_logits: bool | None = None,
        from_loss: bool = False,
    ):
        super().__init__(name)
        self.from_logits = None if from_logits is None else bool(from_logits)
        self.from_loss = bool(from_loss)
        self._of_logits = bool(from_logits)

    def know(self, loss: losses.Loss | None) -> None:
        """Learn whether predictions are logits."""
        if self.from_logits is None:
            self._of_logits = bool(getattr(loss, "from_logits", False))

    def take_counts(self, counts: Counts) -> bool:
        """Take in a batch by what its loss has counted, if it is this cross-entropy."""
        if not self.from_loss or type(self) is not Perplexity:
            return False
        self.total += counts.loss * counts.valid
        self.count += counts.total_weight
        return True

    def update(
        self,
        y_true: Any,
        y_pred: Any,
        sample_weight: Any = None,
        mask: Any = None,
        loss: Any = None,
    ) -> None:
        """Take in a batch; see `Metric.update`."""
        # Rows of one number a class, unless there is one class only.
        who = type(self).__name__
        y_true, y_pred = _arrays(who, y_true, y_pred)
        one_hot = y_true.shape == y_pred.shape and y_pred.shape[-1:] != (1,)
        targets = "classes" if one_hot else "labels"
        rows = to_rows(who, y_true, y_pred, sample_weight, mask, targets)
        if self.from_loss and loss is not None:
            self.total += float(loss) * rows.valid
            self.count += rows.total_weight
            return
        kind = losses.CategoricalCrossentropy if one_hot else losses.SparseCategoricalCrossentropy
        each = kind(self._of_logits).each(rows.y_true, rows.y_pred)
        self._take(each, rows)

    def result(self) -> float:
        """Give the perplexity so far; 1 if nothing was seen."""
        mean = super().result()
        return math.inf if mean > 709 else math.exp(mean)  # beyond it, exp raises


# ----------------------------------------------------------------------------------- regression


class MeanSquaredError(Metric):
    """Mean squared error.

        v = mean_k( (x_k - y_k)² )

    Examples
    --------
    >>> from gru_np.metrics import MeanSquaredError
    >>> metric = MeanSquaredError()
    >>> metric.update([0.0, 2.0], [1.0, 5.0])
    >>> metric.result()
    5.0
    """

    def __init__(self, name: str = "mean_squared_error"):
        super().__init__(name)

    def _each(self, rows: Rows) -> Array:
        return np.mean(np.square(_error(rows)), axis=-1)


class RootMeanSquaredError(MeanSquaredError):
    """Root of the mean squared error, taken at the end, over all positions.

        result = √( Σ_i m_i w_i mean_k( (x_ik - y_ik)² ) / Σ_i m_i w_i )

    Examples
    --------
    >>> from gru_np.metrics import RootMeanSquaredError
    >>> metric = RootMeanSquaredError()
    >>> metric.update([0.0, 0.0], [1.0, 7.0])
    >>> metric.result()
    5.0
    """

    def __init__(self, name: str = "root_mean_squared_error"):
        super().__init__(name)

    def result(self) -> float:
        """Give the root of the mean so far."""
        return math.sqrt(super().result())


class MeanAbsoluteError(Metric):
    """Mean absolute error.

        v = mean_k( |x_k - y_k| )

    Examples
    --------
    >>> from gru_np.metrics import MeanAbsoluteError
    >>> metric = MeanAbsoluteError()
    >>> metric.update([0.0, 2.0], [1.0, 5.0])
    >>> metric.result()
    2.0
    """

    def __init__(self, name: str = "mean_absolute_error"):
        super().__init__(name)

    def _each(self, rows: Rows) -> Array:
        return np.mean(np.abs(_error(rows)), axis=-1)


def _error(rows: Rows) -> Array:
    return rows.y_pred.astype(np.float64, copy=False) - rows.y_true


# --------------------------------------------------------------------------------------- by name

METRICS: dict[str, type[Metric]] = {
    "Accuracy": Accuracy,
    "AccuracyByShape": AccuracyByShape,
    "accuracy": AccuracyByShape,
    "acc": AccuracyByShape,
    "SparseCategoricalAccuracy": SparseCategoricalAccuracy,
    "sparse_categorical_accuracy": SparseCategoricalAccuracy,
    "CategoricalAccuracy": CategoricalAccuracy,
    "categorical_accuracy": CategoricalAccuracy,
    "BinaryAccuracy": BinaryAccuracy,
    "binary_accuracy": BinaryAccuracy,
    "SparseTopKCategoricalAccuracy": SparseTopKCategoricalAccuracy,
    "sparse_top_k_categorical_accuracy": SparseTopKCategoricalAccuracy,
    "TopKCategoricalAccuracy": TopKCategoricalAccuracy,
    "top_k_categorical_accuracy": TopKCategoricalAccuracy,
    "Perplexity": Perplexity,
    "perplexity": Perplexity,
    "MeanSquaredError": MeanSquaredError,
    "mean_squared_error": MeanSquaredError,
    "mse": MeanSquaredError,
    "RootMeanSquaredError": RootMeanSquaredError,
    "root_mean_squared_error": RootMeanSquaredError,
    "rmse": RootMeanSquaredError,
    "MeanAbsoluteError": MeanAbsoluteError,
    "mean_absolute_error": MeanAbsoluteError,
    "mae": MeanAbsoluteError,
}


def get(identifier: Any, loss: losses.Loss | None = None) -> Metric:
    """Give the metric meant by a name, a description (`serialize`) or a Metric.

    Parameters
    ----------
    identifier : str, dict or Metric
        A metric asked for by name goes by that name in logs: "mae" stays "mae".
    loss : Loss, optional
        What the model minimises. For a categorical loss "accuracy" is of its kind, else the shapes
        tell (see `AccuracyByShape`; the class `Accuracy` is another metric); "perplexity" takes
        over the value of a plain cross-entropy; and whether predictions are logits, each metric
        that was not told knows from here.

    Examples
    --------
    >>> from gru_np import losses, metrics
    >>> metrics.get("accuracy", losses.SparseCategoricalCrossentropy())
    SparseCategoricalAccuracy(name='accuracy')
    >>> metrics.get("acuracy")
    Traceback (most recent call last):
        ...
    ValueError: unknown metric 'acuracy'; did you mean 'accuracy'?
    """
    if isinstance(identifier, str) and identifier == "Accuracy":
        identifier = "accuracy"  # a name; the class of that name is another metric
    metric = resolve("metric", identifier, METRICS, Metric)
    if not isinstance(identifier, str):
        metric.know(loss)
        return metric
    sparse = isinstance(loss, losses.SparseCategoricalCrossentropy)
    categorical = isinstance(loss, losses.CategoricalCrossentropy)
    if isinstance(metric, AccuracyByShape) and (sparse or categorical):
        metric = SparseCategoricalAccuracy() if sparse else CategoricalAccuracy()
    if isinstance(metric, Perplexity):
        metric.from_loss = (sparse or categorical) and (
            getattr(loss, "label_smoothing", 0) == 0 and getattr(loss, "ignore_class", None) is None
        )
    if identifier.islower():
        metric.name = identifier
    metric.know(loss)
    return metric


def names_in_logs(plain: Iterable[Metric], weighted: Iterable[Metric]) -> list[str]:
    """Give each metric the name it goes by in logs; one that is taken gets another, as in Keras.

    Examples
    --------
    >>> from gru_np import metrics
    >>> names_in_logs = metrics.names_in_logs
    >>> mae = metrics.get("mae")
    >>> names_in_logs([mae, mae], [mae, mae])
    ['mae', 'mae_1', 'weighted_mae', 'weighted_mae_1']
    """
    names: list[str] = []
    for metrics, prefix in ((plain, ""), (weighted, "weighted_")):
        for metric in metrics:
            name = metric.name
            if prefix and name in names:
                name = prefix + name
            free, number = name, 0
            while free in names or free == "loss":
                number += 1
                free = f"{name}_{number}"
            names.append(free)
    return names


def serialize(metric: Metric) -> dict[str, Any]:
    """Describe a metric, ready for JSON; `get` takes it back.

    Examples
    --------
    >>> from gru_np import metrics
    >>> metrics.serialize(metrics.SparseTopKCategoricalAccuracy(k=3, name="top_3"))
    {'class_name': 'SparseTopKCategoricalAccuracy', 'config': {'k': 3, 'name': 'top_3'}}
    """
    return describe(require_known("metric", metric, METRICS))
