"""A table of series on an even grid of time: from arrays, data frames and CSV files.

Notation: N rows (time steps), C columns. NaN is a missing value; nothing is ever filled in here.
"""

import datetime
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from gru_np._aliases import Array
from gru_np._checks import spell
from gru_np._intake import REAL, as_array
from gru_np.series.clock import Clock, column_times, looks_like_epoch, parse_times


class Series:
    """Columns of numbers over time, one row a step.

    Parameters
    ----------
    values : (N,) or (N, C) array
        Numbers; NaN (or None, or a masked entry) is missing.
    columns : sequence of str, optional
        Names; those of a data frame, "value", or "0", "1", ... if not given.
    time : (N,) array, optional
        datetime64, `datetime`s, dates as text, or integers, in rising order; those of a data
        frame's index, or steps 0, 1, 2, ... if not given. Times with a zone are read as UTC, and
        integers like those of seconds, milli-, micro- or nanoseconds since 1970 as such.
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
        What had to be noticed, a sentence each: jumps, missing values, reordering, what was left
        out.

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
        self.notes: list[str] = []
        if time is None:
            time = _index_times(getattr(values, "index", None), self.notes)
        if columns is None:
            columns = _table_columns(values)
        array = _numbers(values)
        names = _names(columns, array.shape[1])
        beyond = np.abs(np.nan_to_num(array, nan=0.0, posinf=0.0, neginf=0.0)).max(axis=0) >= 2**53
        rounded = _has_integers(values)
        for name, is_beyond in zip(names, beyond, strict=True):
            if is_beyond and rounded:
                self.notes.append(f"{name}: integers beyond 2**53 are rounded to float64")
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
            f"Series({len(self):,} rows x {len(self.columns)} {word}: {shortened(self.columns)}; "
            f"{self.clock})"
        )

    def places(self, columns: str | Iterable[str]) -> list[int]:
        """Give the positions of columns by name, or say which there are."""
        place = {name: i for i, name in enumerate(self.columns)}
        names = as_names("Series", "columns", columns)
        for name in names:
            if name not in place:
                require_column(name, self.columns)
        return [place[name] for name in names]

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
        f"there is no column {name!r} in {where}; the columns are {shortened(columns)}"
        + (f"; did you mean {lower[near[0]]!r}?" if near else "")
    )


def as_names(who: str, what: str, names: Any) -> list[str]:
    """Give names as a list of str; a str, or a number, is one name and not several."""
    if names is None:
        return []
    several = hasattr(type(names), "__iter__") and getattr(names, "ndim", 1) > 0
    if isinstance(names, str | bytes | int | float) or not several:
        names = [names]
    found = list(names)
    for name in found:
        if not isinstance(name, str | int | float | np.integer | np.floating | tuple):
            shown = " ".join(repr(name).split())[:60]
            raise TypeError(f"{who}: {what} must be names, got {shown}")
    return [str(name) for name in found]


def shortened(names: Sequence[str], most: int = 12) -> str:
    """Join names, and say how many more there are; what a terminal would obey is escaped."""
    more = f", and {len(names) - most:,} more" if len(names) > most else ""
    shown = ", ".join(names[:most])
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in shown) + more


def left_out(names: Sequence[str]) -> list[str]:
    """Give the note about columns that hold no numbers, if there are any."""
    return [f"left out, since they hold no numbers: {shortened(names)}"] if names else []


def from_table(
    table: Any,
    columns: str | Sequence[str] | None = None,
    time: str | Sequence[str] | None = None,
    gaps: str = "auto",
) -> Series:
    """Make a Series of a data frame, a dict of columns, a structured array or a plain array.

    Parameters
    ----------
    table : pandas or polars DataFrame or Series, dict, structured array, or array
        Anything with `columns` and `table[name]`, or that NumPy can read. Nothing of pandas or
        polars is imported.
    columns : str or sequence of str, optional
        The columns to take; all that hold numbers if not given, and a note names the others.
        Nullable, Decimal and bool columns, and those of Python objects, hold numbers if all of
        their entries are numbers or missing.
    time : str or sequence of str, optional
        The column of times (several are joined: date and time of day). If not given: a pandas
        index of dates, else the first column named like a time, or of datetime64. An index that
        is left out is noted, one of several levels refused.
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
        name = getattr(table, "name", None)
        single = [str(name)] if isinstance(name, str) and np.ndim(_plain(table)) == 1 else None
        return Series(table, columns or single, None, gaps)

    texts = [str(name) for name in names]
    key = dict(zip(texts, names, strict=True))
    chosen, parts = as_names("from_table", "columns", columns), as_names("from_table", "time", time)
    for wanted in (*chosen, *parts):
        if wanted not in key:
            require_column(wanted, texts)
    if columns is not None and not chosen:
        raise ValueError("from_table: columns must name one at least, got none")
    if len(key) < len(texts):
        used = {*chosen, *parts} if chosen else set(texts)
        for name, count in Counter(texts).items():
            if count > 1 and name in used:
                raise ValueError(f"from_table: the table has two columns {name!r}; rename one")

    def column(text: str) -> Any:
        return _plain(table[key[text]])

    notes: list[str] = []
    if parts:
        times = column_times(parts, [column(part) for part in parts])
    else:
        times = _index_times(getattr(table, "index", None), notes)
        if times is None:
            found = _find_time(texts, column)
            if found is not None:
                parts, times = [found], column_times([found], [column(found)])
    if columns is None:
        rest = [text for text in texts if text not in parts]
        chosen = [text for text in rest if _holds_numbers(column(text))]
        if not chosen:
            raise ValueError(f"from_table: no column holds numbers; there are {shortened(texts)}")
        taken = set(chosen)
        notes += left_out([text for text in rest if text not in taken])
    arrays = [_numbers(column(name), f"column {name!r}") for name in chosen]
    for name, array in zip(chosen, arrays, strict=True):
        if array.shape != (len(arrays[0]), 1):
            raise ValueError(
                f"from_table: columns must be of one length, got {len(arrays[0])} rows of "
                f"{chosen[0]!r} and {spell(array.shape)} of {name!r}"
            )
    rounded = [name for name in chosen if _has_integers(column(name))]
    series = Series(np.concatenate(arrays, axis=1), chosen, times, gaps)
    notes += [
        f"{name}: integers beyond 2**53 are rounded to float64"
        for name in rounded
        if np.nanmax(np.abs(series[name]), initial=0) >= 2**53
    ]
    series.notes[:0] = notes
    return series


TIME_NAMES = frozenset(
    ("date", "datetime", "time", "timestamp", "ts", "ds", "month", "year", "day", "week", "epoch",
     "unix", "unixtime", "unixtimestamp", "epochtime")
)  # fmt: skip
TIME_UNITS = ("utc", "ms", "us", "ns", "s")  # at the end of such a name, after a mark


def is_time_name(name: str) -> bool:
    """Answer whether a column is called like a time.

    Examples
    --------
    >>> from gru_np.series.table import is_time_name
    >>> is_time_name("Timestamp_ms"), is_time_name("times")
    (True, False)
    """
    words = name.strip().lower().replace("_", " ").replace("-", " ").replace("(", " ")
    parts = words.replace(")", " ").split()
    if len(parts) > 1 and parts[-1] in TIME_UNITS:
        parts = parts[:-1]
    return "".join(parts) in TIME_NAMES


def _find_time(names: Sequence[str], column: Any) -> str | None:
    """Find the column of times: by its type, by its name, or by what it holds."""
    found = {}
    for name in names:
        values = column(name)
        # What only looks like a sequence NumPy would ask for items without end.
        is_array = isinstance(values, list | tuple) or hasattr(type(values), "__array__")
        try:
            found[name] = np.asarray(values) if is_array else np.zeros(0)
        except ValueError:  # ragged
            found[name] = np.zeros(0)
    for name, values in found.items():
        if values.dtype.kind == "M" or (values.dtype.kind == "O" and _is_of_times(values)):
            return name
    named = next((name for name in names if is_time_name(name)), None)
    return named or next((name for name, v in found.items() if looks_like_epoch(v)), None)


def _is_of_times(values: Array) -> bool:
    """Answer whether an array of objects is of dates, perhaps with a zone."""
    return bool(values.size) and all(isinstance(v, datetime.date) for v in values.ravel())


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
    """Turn a column of any library into something NumPy knows; periods become their beginnings."""
    if isinstance(column, np.ndarray | list | tuple):
        return column
    if str(getattr(column, "dtype", "")).startswith("period"):
        column = getattr(column, "dt", column).to_timestamp()
    convert = getattr(column, "to_numpy", None)
    return convert() if convert is not None else column


def _index_times(index: Any, notes: list[str]) -> Any:
    """Give the times of a pandas index, if it is one of times; note what is left out."""
    if index is None or callable(index) or not hasattr(index, "to_numpy"):
        return None
    levels = getattr(index, "nlevels", 1)
    if levels > 1:
        raise ValueError(
            f"from_table: the index must have one level, got {levels} (several series?); choose "
            "one series, or make columns of the levels with reset_index()"
        )
    values = np.asarray(_plain(index))
    name = getattr(index, "name", None)
    if values.dtype.kind == "M" or (values.dtype.kind == "O" and _is_of_times(values)):
        return values
    if isinstance(name, str) and is_time_name(name):
        return column_times([name], [values])
    if looks_like_epoch(values):
        return values
    if values.dtype.kind in "OUT" and values.size and all(isinstance(v, str) for v in values):
        try:
            times = parse_times(list(values))
        except ValueError:
            times = np.zeros(0)
        if times.dtype.kind == "M":
            return times
    if values.dtype.kind in "iu" and (np.diff(values) == 1).all():
        return None  # it counts the rows
    called = "the index" if name is None else f"the index {name!r}"
    notes.append(f"{called} holds no times and is left out")
    return None


def _names(columns: Sequence[str] | None, C: int) -> list[str]:
    if columns is None:
        return ["value"] if C == 1 else [str(i) for i in range(C)]
    names = as_names("Series", "columns", columns)
    if len(names) != C:
        raise ValueError(
            f"Series: columns must name each of the {C} columns, got {len(names)} names"
        )
    if len(set(names)) != C:
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"Series: column names must differ, got {twice!r} twice")
    return names


def _holds_numbers(column: Any) -> bool:
    """Answer whether a column is of numbers, or of objects that all are, or are missing."""
    try:
        return bool(np.isfinite(_numbers(column)).any())
    except (ValueError, TypeError):
        return False


def _has_integers(values: Any) -> bool:
    """Answer whether some of the values are integers, which float64 may round."""
    array = np.asarray(_plain(values))
    if array.dtype.kind == "O":
        return any(isinstance(v, int) and abs(v) > 2**53 for v in array.ravel())
    return array.dtype.kind in "iu"


def _is_missing(value: Any) -> bool:
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def _numbers(values: Any, what: str = "values") -> Array:
    """Give values as (N, C) float64, NaN where they are missing."""
    if isinstance(values, np.ma.MaskedArray):
        values = np.ma.filled(values.astype(np.float64), np.nan)
    values = _plain(values)
    if isinstance(values, list | tuple):  # None stands for missing
        is_flat = not any(isinstance(v, list | tuple) or np.ndim(v) for v in values)
        if is_flat and any(map(_is_missing, values)):
            values = np.array([*values, None], object)[:-1]
        elif any(isinstance(v, list | tuple) and any(map(_is_missing, v)) for v in values):
            values = [[np.nan if _is_missing(x) else x for x in v] for v in values]
    if isinstance(values, np.ndarray) and values.dtype.kind == "O" and values.ndim:
        values = values.copy()
        for place, value in np.ndenumerate(values):
            if _is_missing(value):
                values[place] = np.nan
    try:
        array = as_array("Series", values, what, REAL)
    except TypeError as error:  # text among the numbers
        raise ValueError(str(error)) from None
    if array.ndim not in (1, 2):
        raise ValueError(
            f"Series: {what} must have shape (rows,) or (rows, columns), got {spell(array.shape)}"
        )
    if not array.shape[0]:
        raise ValueError(f"Series: {what} must have a row at least, got none")
    if not array.size:
        raise ValueError(f"Series: {what} must have a column at least, got none")
    array = array.astype(np.float64)
    return array[:, None] if array.ndim == 1 else array
