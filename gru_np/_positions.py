"""Targets, predictions, weights and mask, brought to rows: what losses and metrics average over.

A position is what has one loss: a sample, or one time step of a sample. The last axis of `y_pred`
is what the loss looks at there: its classes or its values. Masked positions, and those of weight
zero, are left out altogether, so whatever stands there (NaN, a label of -1) changes nothing.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from gru_np._aliases import Array
from gru_np._checks import spell
from gru_np._intake import NUMBERS, REAL, as_array, as_weights

FEW = 32  # numbers that Python looks through sooner than NumPy


class Rows(NamedTuple):
    """One row for each of the n positions that count; F is the size of the last axis."""

    y_true: Array  # (n, F), or (n,) integer labels
    y_pred: Array  # (n, F)
    weight: Array  # (n,) float64
    valid: float  # unmasked positions, those of weight zero included
    total_weight: float  # sum of the weights over the same positions
    kept: Array | None  # bool, the shape of the positions; None: all
    shape: tuple[int, ...]  # of y_pred

    def scatter(self, rows: Array) -> Array:
        """Put rows (n, F) back where they came from, zeros elsewhere."""
        if self.kept is None:
            return rows.reshape(self.shape)
        out = np.zeros((*self.kept.shape, rows.shape[-1]), rows.dtype)
        out[self.kept] = rows
        return out.reshape(self.shape)


def to_rows(
    who: str,
    y_true: Any,
    y_pred: Any,
    sample_weight: Any = None,
    mask: Any = None,
    targets: str = "values",
    ignore_class: int | None = None,
    outputs: int = 1,
    kinds: str = NUMBERS,
) -> Rows:
    """Check the shapes and gather the positions that count.

    `targets` says what y_true holds: "labels" (one integer a position), "classes" (one number a
    class, as one-hot rows) or "values" (likewise; then y_pred (B,) is taken as (B, 1)). Of values,
    each may be predicted by several `outputs`, side by side on the last axis of y_pred. `kinds` of
    numbers, as `as_array` takes them, y_pred may be of; y_true and weights are real.
    """
    y_pred = as_array(who, y_pred, "y_pred", kinds)
    what, wanted = ("labels", "integers") if targets == "labels" else ("y_true", "numbers")
    y_true = as_array(who, y_true, what, REAL, wanted)
    if y_pred.dtype.kind in "iub":
        y_pred = y_pred.astype(np.float64)
    shape = y_pred.shape
    if not shape:
        raise ValueError(f"{who}: y_pred must have at least one axis, got a single number")
    if targets == "values" and y_pred.ndim == 1:
        y_pred = y_pred[:, None]
        y_true = y_true[:, None] if y_true.ndim == 1 else y_true
    positions, F = y_pred.shape[:-1], y_pred.shape[-1]

    if targets == "labels":
        y_true, at = labels_at(who, y_true, shape, sample_weight, mask, ignore_class)
    else:
        D = F // outputs
        if D == 1 and y_true.shape == positions:
            y_true = y_true[..., None]
        if outputs > 1 and (F % outputs or y_true.shape != (*positions, D)):
            raise ValueError(
                f"{who}: y_pred must have {outputs} numbers for each target, targets are "
                f"{spell(y_true.shape)}, got {spell(shape)}"
            )
        if outputs == 1 and y_true.shape != y_pred.shape:
            advice = "; integer labels go with sparse_categorical_crossentropy"
            is_label = targets == "classes" and y_true.shape in (positions, (*positions, 1))
            raise ValueError(
                f"{who}: y_true must have the shape of y_pred, {spell(shape)}, "
                f"got {spell(y_true.shape)}" + (advice if is_label else "")
            )
        at = _counted(who, y_true, positions, sample_weight, mask, ignore_class)
        y_true = y_true.astype(y_pred.real.dtype, copy=False)

    weight, kept = at.weight, at.kept
    if kept is None:
        y_pred = y_pred.reshape(-1, F)
        y_true = y_true.reshape(-1) if targets == "labels" else y_true.reshape(-1, D)
        weight = np.ones(len(y_pred)) if weight is None else weight.reshape(-1)
    else:
        y_pred, y_true = y_pred[kept], y_true[kept]
        weight = np.ones(len(y_pred)) if weight is None else weight[kept]
    return Rows(y_true, y_pred, weight, at.valid, at.total_weight, kept, shape)


class Counted(NamedTuple):
    """Which positions count, and how much."""

    weight: Array | None  # float64, the shape of the positions; None: 1
    valid: float
    total_weight: float
    kept: Array | None


def labels_at(
    who: str,
    y_true: Array,
    shape: tuple[int, ...],
    sample_weight: Any,
    mask: Any,
    ignore_class: int | None,
) -> tuple[Array, Counted]:
    """Give the labels, one integer a position of predictions of this shape, and what counts."""
    positions = shape[:-1]
    if y_true.ndim == len(shape) and y_true.shape[-1] == 1:
        y_true = y_true[..., 0]
    if y_true.shape != positions:
        advice = "; rows of one number a class go with categorical_crossentropy"
        raise ValueError(
            f"{who}: y_true must hold one label a position, shape {spell(positions)} for y_pred"
            f" {spell(shape)}, got {spell(y_true.shape)}"
            + (advice if y_true.shape == shape else "")
        )
    at = _counted(who, y_true, positions, sample_weight, mask, ignore_class)
    return _labels(who, y_true, shape[-1], at.kept), at


def _counted(
    who: str,
    y_true: Array,
    positions: tuple[int, ...],
    sample_weight: Any,
    mask: Any,
    ignore_class: int | None,
) -> Counted:
    """Spread weights and mask over the positions and see what they leave."""
    valid, weight = None, None
    if mask is not None:
        valid = spread(who, "mask", as_array(who, mask, "mask").astype(bool, copy=False), positions)
    if ignore_class is not None:
        of_class = y_true != ignore_class
        valid = of_class if valid is None else valid & of_class
    if sample_weight is not None:
        sample_weight = as_weights(who, sample_weight)
        weight = spread(who, "sample_weight", sample_weight, positions)
    count = float(math.prod(positions) if valid is None else np.count_nonzero(valid))
    total_weight = count
    kept = valid
    if weight is not None:
        total_weight = float(np.sum(weight) if valid is None else np.sum(weight[valid]))
        kept = weight != 0 if valid is None else valid & (weight != 0)
    if kept is not None and kept.all():
        kept = None
    return Counted(weight, count, total_weight, kept)


def spread(who: str, what: str, a: Array, positions: tuple[int, ...]) -> Array:
    """Spread weights or a mask over the positions: (B,) reaches every time step of (B, T)."""
    given = a.shape
    if a.ndim == len(positions) + 1 and a.shape[-1] == 1:
        a = a[..., 0]
    if a.ndim <= len(positions):
        a = a.reshape(a.shape + (1,) * (len(positions) - a.ndim))
        sizes: tuple[int, ...] = a.shape
        if all(size in (1, whole) for size, whole in zip(sizes, positions, strict=True)):
            return np.broadcast_to(a, positions)
    raise ValueError(
        f"{who}: {what} must have shape {spell(positions)}"
        + (f" or {spell(positions[:1])}" if len(positions) > 1 else "")
        + f", got {spell(given)}"
    )


def is_within(integers: Array, end: int) -> bool:
    """Whether all integers are in 0..end-1."""
    if integers.size <= FEW:
        few = integers.ravel().tolist()
        return not few or (min(few) >= 0 and max(few) < end)
    if not integers.dtype.isnative:
        integers = integers.astype(integers.dtype.newbyteorder("="))
    # seen as unsigned, a negative number is a huge one
    unsigned = integers.view(f"u{integers.itemsize}")
    return int(np.maximum.reduce(unsigned, axis=None)) < end


def _labels(who: str, y_true: Array, classes: int, kept: Array | None) -> Array:
    """Give the labels as integers, or name the first that is not one of the classes."""
    if y_true.dtype.kind not in "iubf":
        raise TypeError(f"{who}: labels must be integers, got an array of {y_true.dtype}")
    if kept is None and y_true.dtype.kind in "iu" and is_within(y_true, classes):
        return y_true.astype(np.intp, copy=False)
    wrong = ~((y_true >= 0) & (y_true < classes))
    if y_true.dtype.kind == "f":
        wrong |= y_true != np.floor(y_true)
    if kept is not None:
        wrong = wrong & kept
    if wrong.any():
        where = tuple(map(int, np.argwhere(wrong)[0]))
        position = where[0] if len(where) == 1 else where
        raise ValueError(
            f"{who}: labels must be integers in the valid range 0..{classes - 1}, "
            f"got {y_true[where]} at position {position}; y_pred has {classes} classes"
        )
    if kept is not None:
        y_true = np.where(kept, y_true, 0)  # a NaN that is masked has no integer
    return y_true.astype(np.intp, copy=False)
