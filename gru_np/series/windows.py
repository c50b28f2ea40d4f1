"""From a series to what a model reads: parts, scaling, windows.

Scaling is fitted on the training part by construction: `Scaling.of` takes the parts, not an array,
and looks at rows before `parts.train` only.
"""

from typing import Any, NamedTuple

import numpy as np

from gru_np._aliases import Array
from gru_np._checks import require_count, require_rank
from gru_np._intake import as_array
from gru_np.series.table import Series


class Parts(NamedTuple):
    """Where a series is cut, in the order of time.

        rows 0 ... train-1 | train ... validation-1 | validation ... test-1
             training      | to stop by             | to judge by

    Examples
    --------
    >>> from gru_np.series import Series, split
    >>> split(Series(range(100)), validation=0.1, test=0.2)
    Parts(train=70, validation=80, test=100)
    """

    train: int
    validation: int
    test: int


def split(series: Series, validation: float = 0.1, test: float = 0.2) -> Parts:
    """Cut a series in time: the last rows to judge by, those before them to stop by.

    Parameters
    ----------
    series : Series
    validation, test : float or int
        Shares of all rows, or numbers of rows.

    Examples
    --------
    >>> from gru_np.series import Series, split
    >>> split(Series(range(48)), validation=6, test=12).train
    30
    """
    N = len(series)
    sizes = []
    for name, size in (("validation", validation), ("test", test)):
        rows = int(size) if isinstance(size, int | np.integer) else round(size * N)
        if rows < 0 or (not isinstance(size, int | np.integer) and not 0 <= size < 1):
            raise ValueError(f"split: {name} must be a share in [0, 1) or rows, got {size}")
        sizes.append(rows)
    train = N - sum(sizes)
    if train < 1:
        raise ValueError(
            f"split: validation and test take {sum(sizes)} of {N} rows and leave none to train on"
        )
    return Parts(train, train + sizes[0], N)


class Scaling:
    """Standardise each column by the mean and deviation of its training rows.

        z = (x - mean) / std,    or of ln x for the columns in `log`

    Made by `Scaling.of`, which sees the training part only.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.series import Scaling, Series, split
    >>> series = Series([1.0, 3.0, 1.0, 3.0, 900.0])
    >>> scaling = Scaling.of(series, split(series, validation=0, test=1))
    >>> scaling.apply(series.values).ravel()
    array([ -1.,   1.,  -1.,   1., 898.])
    """

    def __init__(self, mean: Array, std: Array, log: Array):
        self.mean, self.std, self.log = (np.asarray(a) for a in (mean, std, log))

    @classmethod
    def of(cls, series: Series, parts: Parts, log: Any = ()) -> "Scaling":
        """Fit on the training rows; `log` names columns to take the logarithm of."""
        is_log = np.isin(np.arange(len(series.columns)), series.places(log))
        rows = series.values[: parts.train]
        for column, values in zip(np.array(series.columns)[is_log], rows.T[is_log], strict=True):
            if np.nanmin(values, initial=np.inf) <= 0:
                raise ValueError(
                    f"the logarithm needs values above zero; column {str(column)!r} has "
                    f"{np.nanmin(values):g}"
                )
        rows = _logarithm(rows, is_log)
        known = ~np.isnan(rows)
        for column, count in zip(series.columns, known.sum(axis=0), strict=True):
            if not count:
                raise ValueError(
                    f"column {column!r} has no value in the {parts.train} training rows"
                )
        mean, std = np.nanmean(rows, axis=0), np.nanstd(rows, axis=0)
        # Of a column that hardly moves the deviation is rounding.
        flat = std <= 1e-12 * np.maximum(np.abs(mean), 1e-300)
        return cls(mean, np.where(flat, 1, std), is_log)

    def apply(self, values: Array) -> Array:
        """Give z (..., C) of x."""
        return (_logarithm(values, self.log) - self.mean) / self.std

    def undo(self, z: Array, columns: Any, axis: int = -1) -> Array:
        """Give x of z whose `axis` runs over the columns at these places."""
        if axis != -1:
            return np.moveaxis(self.undo(np.moveaxis(z, axis, -1), columns), -1, axis)
        x = z * self.std[columns] + self.mean[columns]
        log = self.log[columns]
        if log.any():
            x = np.where(log, np.exp(np.where(log, x, 0)), x)
        return x


def _logarithm(x: Array, is_log: Array) -> Array:
    if not is_log.any():
        return x
    # A value that has no logarithm counts as missing.
    positive = np.where(is_log & ~(x > 0), np.nan, x)
    return np.where(is_log, np.log(np.where(is_log, positive, 1)), x)


class Windows(NamedTuple):
    """Inputs, targets and where each came from."""

    x: Array  # (n, L, C)
    y: Array  # (n, H, C)
    index: Array  # type: ignore[assignment]  # (n, 4): first, last row of x, first, last of y


def windows(values: Any, lookback: int, horizon: int, stride: int = 1, gap: int = 0) -> Windows:
    """Cut rows into windows: what was seen, and what came next.

        row   0  1  2  3  4  5  6  7        lookback 4, horizon 2
              x  x  x  x  y  y              window 0: index 0..3 -> 4..5
                 x  x  x  x  y  y           window 1: index 1..4 -> 5..6     stride 1

    Parameters
    ----------
    values : (N,) or (N, C) array or Series
        Scale first, with `Scaling.of`; cut into parts first, so that no window of the training
        part reaches into the others.
    lookback, horizon, stride : int
        L rows in, H rows out, rows from window to window.
    gap : int
        Rows left out between x and y.

    Returns
    -------
    Windows
        x and y are views of the values, not copies; index tells the rows.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.series import windows
    >>> x, y, index = windows(np.arange(8.0), lookback=4, horizon=2)
    >>> x.shape, y[1].ravel(), index[1]
    ((3, 4, 1), array([5., 6.]), array([1, 4, 5, 6]))
    """
    values = values.values if isinstance(values, Series) else as_array("windows", values, "values")
    values = values[:, None] if values.ndim == 1 else values
    require_rank("windows", "values", values, ("rows", "columns"))
    sizes = (("lookback", lookback), ("horizon", horizon), ("stride", stride))
    L, H, step = (require_count("windows", name, size) for name, size in sizes)
    gap = require_count("windows", "gap", gap, least=0)
    need = L + gap + H
    if len(values) < need:
        raise ValueError(
            f"windows: lookback {L} and horizon {H} need {need} rows at least, got {len(values)}"
        )
    view = np.lib.stride_tricks.sliding_window_view(values, need, axis=0)[::step]
    view = view.transpose(0, 2, 1)  # (n, L + gap + H, C)
    first = step * np.arange(len(view))[:, None]
    index = first + np.array([0, L - 1, L + gap, need - 1])
    return Windows(view[:, :L], view[:, L + gap :], index)
