"""A table of series on an even grid of time: from arrays, data frames and CSV files.

Notation: N rows (time steps), C columns. NaN is a missing value; nothing is ever filled in here.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from gru_np._aliases import Array
from gru_np._checks import spell
from gru_np.series.clock import Clock, column_times


class Series:
    """Columns of numbers over time, one row a step.

    Parameters
    ----------
    values : (N,) or (N, C) array
        Numbers; NaN (or a masked entry) is missing.
    columns : sequence of str, optional
        Names; "value", or "0", "1", ... if not given.
    time : (N,) array, optional
        datetime64, `datetime`s, dates as text, or integers, in rising order; steps 0, 1, 2, ... if
        not given.
    gaps : {"auto", "insert", "rows"}
        What a jump in time means: "insert" puts rows of missing values where the grid has none,
        "rows" counts each row as one step. "auto" inserts if that adds a fifth of the rows at most.

    Attributes
    ----------
    values : (N, C) float64
    columns : list of str
    clock : Clock
        The times of the rows, and how they go on.
    notes : list of str
        What had to be noticed, a sentence each: jumps, missing values, reordering.

    Raises
    ------
    ValueError
        For text among the numbers, infinities, duplicate times, names that do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.series import Series
    >>> days = np.array(["2024-01-01", "2024-01-02", "2024-01-04", "2024-01-05", "2024-01-06"])
    >>> series = Series([1.0, 2.0, 4.0, 5.0, 6.0], ["level"], days)
    >>> series
    Series(6 rows x 1 column: level; step 1 day; 2024-01-01 to 2024-01-06)
    >>> series["level"]
    array([ 1.,  2., nan,  4.,  5.,  6.])
    >>> series.notes
    ['1 row is missing from the even grid of 1 day (first: 2024-01-03) and counts as unknown', \
'level: 1 of 6 values is missing']
    """

    def __init__(
        self,
        values: Any,
        columns: Sequence[str] | None = None,
        time: Any = None,
        gaps: str = "auto",
    ):
        array = _numbers(values)
        names = _names(columns, array.shape[1])
        self.notes: list[str] = []
        self.clock, rows = Clock.of(time, len(array), gaps, self.notes)
        self.values = np.full((self.clock.rows, array.shape[1]), np.nan)
        self.values[rows] = array
        self.columns = names
        infinite = np.isinf(self.values).any(axis=0)
        if infinite.any():
            raise ValueError(
                f"Series: column {names[int(infinite.argmax())]!r} holds an infinity; "
                "a missing value is NaN"
            )
        missing = np.isnan(self.values).sum(axis=0)
        n = len(self.values)
        for name, count in zip(names, missing, strict=True):
            if count:
                verb = "is" if count == 1 else "are"
                self.notes.append(f"{name}: {count:,} of {n:,} values {verb} missing")

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, column: str) -> Array:
        """Give one column, (N,)."""
        return self.values[:, self.places([column])[0]]

    def __repr__(self) -> str:
        word = "column" if len(self.columns) == 1 else "columns"
        return (
            f"Series({len(self):,} rows x {len(self.columns)} {word}: {', '.join(self.columns)}; "
            f"{self.clock})"
        )

    def places(self, columns: Iterable[str]) -> list[int]:
        """Give the positions of columns by name, or say which there are."""
        for name in columns:
            require_column(name, self.columns)
        return [self.columns.index(name) for name in columns]

    def rows(self, start: int, stop: int) -> "Series":
        """Give the rows start <= row < stop, as a Series."""
        part = object.__new__(Series)
        part.values, part.columns, part.notes = self.values[start:stop], self.columns, []
        part.clock = self.clock.rows_between(start, stop)
        return part


def require_column(name: str, columns: Sequence[str], where: str = "the table") -> None:
    """Raise unless there is a column of this name; a near miss is suggested."""
    import difflib

    if name in columns:
        return
    lower = {column.lower(): column for column in columns}
    near = difflib.get_close_matches(name.lower(), lower, n=1)
    raise ValueError(
        f"there is no column {name!r} in {where}; the columns are {', '.join(columns)}"
        + (f"; did you mean {lower[near[0]]!r}?" if near else "")
    )


def from_table(
    table: Any,
    columns: Sequence[str] | None = None,
    time: str | Sequence[str] | None = None,
    gaps: str = "auto",
) -> Series:
    """Make a Series of a data frame, a dict of columns, a structured array or a plain array.

    Parameters
    ----------
    table : pandas or polars DataFrame or Series, dict, structured array, or array
        Anything with `columns` and `table[name]`, or that NumPy can read. Nothing of pandas or
        polars is imported.
    columns : sequence of str, optional
        The columns to take; all that hold numbers if not given.
    time : str or sequence of str, optional
        The column of times (several are joined: date and time of day). If not given: a pandas
        index of dates, else the first column named like a time, or of datetime64.
    gaps : {"auto", "insert", "rows"}
        As for `Series`.

    Examples
    --------
    >>> from gru_np import series
    >>> table = {"month": ["2024-01", "2024-02", "2024-03"], "sales": [3, 5, 4]}
    >>> series.from_table(table, ["sales"])
    Series(3 rows x 1 column: sales; step 1 month; 2024-01 to 2024-03)
    """
    if isinstance(table, Series):
        return Series(
            table.values[:, table.places(columns or table.columns)],
            columns or table.columns,
            table.clock.times(),
            gaps,
        )
    names = _table_columns(table)
    if names is None:
        index = getattr(table, "index", None)
        name = getattr(table, "name", None)
        single = [str(name)] if isinstance(name, str) and np.ndim(_plain(table)) == 1 else None
        return Series(_plain(table), columns or single, _index_times(index), gaps)

    texts = [str(name) for name in names]
    for wanted in columns or ():
        require_column(wanted, texts)

    def column(text: str) -> Any:
        return _plain(table[names[texts.index(text)]])

    times = None
    if time is not None:
        parts = [time] if isinstance(time, str) else list(time)
        for part in parts:
            require_column(part, texts)
        times = column_times(parts, [column(part) for part in parts])
    else:
        times, parts = _index_times(getattr(table, "index", None)), []
        if times is None:
            found = _find_time(texts, column)
            if found is not None:
                parts, times = [found], column_times([found], [column(found)])
    chosen = list(columns or ())
    if columns is None:
        chosen = [t for t in texts if t not in parts and np.asarray(column(t)).dtype.kind in "iufb"]
        if not chosen:
            raise ValueError(f"from_table: no column holds numbers; there are {', '.join(texts)}")
    arrays = [_numbers(column(name), f"column {name!r}")[:, 0] for name in chosen]
    return Series(np.stack(arrays, axis=1), chosen, times, gaps)


TIME_NAMES = ("date", "datetime", "time", "timestamp", "ds", "month", "year", "day", "week")


def is_time_name(name: str) -> bool:
    """Answer whether a column is called like a time."""
    return name.strip().lower().replace("_", "") in TIME_NAMES


def _find_time(names: Sequence[str], column: Any) -> str | None:
    """Find the column of times: by its type, or by its name."""
    for name in names:
        if np.asarray(column(name)).dtype.kind == "M":
            return name
    return next((name for name in names if is_time_name(name)), None)


def _table_columns(table: Any) -> list[Any] | None:
    """Give the column names of whatever has some."""
    if isinstance(table, dict):
        return list(table)
    dtype = getattr(table, "dtype", None)
    if getattr(dtype, "names", None):
        return list(dtype.names)  # type: ignore[union-attr]
    columns = getattr(table, "columns", None)
    return None if columns is None or callable(columns) else list(columns)


def _plain(column: Any) -> Any:
    """Turn a column of any library into something NumPy knows."""
    if isinstance(column, np.ndarray | list | tuple):
        return column
    convert = getattr(column, "to_numpy", None)
    return convert() if convert is not None else np.asarray(column)


def _index_times(index: Any) -> Any:
    """Give the times of a pandas index, if it is one of times."""
    if index is None or callable(index):
        return None
    convert = getattr(index, "to_timestamp", None)  # a PeriodIndex
    values = np.asarray(_plain(convert() if convert is not None else index))
    return values if values.dtype.kind == "M" else None


def _names(columns: Sequence[str] | None, C: int) -> list[str]:
    if columns is None:
        return ["value"] if C == 1 else [str(i) for i in range(C)]
    names = [columns] if isinstance(columns, str) else [str(name) for name in columns]
    if len(names) != C:
        raise ValueError(
            f"Series: columns must name each of the {C} columns, got {len(names)} names"
        )
    if len(set(names)) != C:
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"Series: column names must differ, got {twice!r} twice")
    return names


def _numbers(values: Any, who: str = "values") -> Array:
    """Give values as (N, C) float64, NaN where they are missing."""
    if isinstance(values, np.ma.MaskedArray):
        values = np.ma.filled(values.astype(np.float64), np.nan)
    array = np.asarray(_plain(values))
    if array.dtype.kind == "O":  # None stands for missing in a list or an object column
        try:
            array = np.array(
                [np.nan if v is None else v for v in array.ravel()], np.float64
            ).reshape(array.shape)
        except (TypeError, ValueError):
            bad = next(v for v in array.ravel() if not isinstance(v, int | float | None))
            raise ValueError(f"Series: {who} must be numbers, got {bad!r}") from None
    if array.dtype.kind not in "iufb":
        raise ValueError(f"Series: {who} must be numbers, got an array of {array.dtype}")
    if array.ndim not in (1, 2):
        raise ValueError(
            f"Series: {who} must have shape (rows,) or (rows, columns), got {spell(array.shape)}"
        )
    if not array.shape[0]:
        raise ValueError(f"Series: {who} must have a row at least, got none")
    array = array.astype(np.float64)
    return array[:, None] if array.ndim == 1 else array
