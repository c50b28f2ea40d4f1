"""The times of the rows of a series: an even grid, or rows that each count as one step.

A grid is kept as its beginning, its step and its number of rows; steps are microseconds, months
(datetime64[M], since months differ in length) or plain integers.
"""

import datetime
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from gru_np._aliases import Array
from gru_np._checks import require_choice, spell
from gru_np._intake import as_array

SECOND = 1_000_000  # in microseconds, the unit of all times but months
LATEST = 2**61  # of integers as times: their differences have 64 bits
LARGEST_GAP = 2_000_000  # rows that gaps="insert" may add to a short series
EPOCHS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
MINUTE, HOUR, DAY, WEEK = 60 * SECOND, 3600 * SECOND, 86_400 * SECOND, 604_800 * SECOND

# Tried in this order on a whole column; the two with day and month in doubt decide by the grid.
FORMATS = (
    "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d", "%Y-%m", "%Y/%m/%d %H:%M:%S",
    "%Y/%m/%d %H:%M", "%Y/%m/%d", "%Y%m%d%H", "%Y%m%d", "%Y-%m-%d %H",
    "%Y %m %d %H:%M", "%Y %m %d %H", "%Y %m %d", "%Y %m", "%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M",
    "%d.%m.%Y", "%d/%m/%Y %H:%M:%S", "%m/%d/%Y %H:%M:%S", "%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M",
    "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%b %d %Y", "%d %b %Y", "%d-%b-%Y", "%b %Y", "%b-%Y", "%Y",
)  # fmt: skip


class Clock:
    """When each row was, and when the next ones will be.

    Attributes
    ----------
    rows : int
        N.
    unit : {"us", "M", "row"}
        Of the step: microseconds, months, or the rows of a table without times.
    step : int
        Units from row to row.
    business : bool
        Whether the rows are working days, each one step.
    even : bool
        Whether the rows lie on the grid; else each row counts as one step whenever it was.

    Examples
    --------
    >>> from gru_np.series.clock import Clock
    >>> clock, rows = Clock.of(["2024-01", "2024-02", "2024-04"], 3, "insert", [])
    >>> clock
    step 1 month; 2024-01 to 2024-04
    >>> rows, clock.after(2)
    (array([0, 1, 3]), array(['2024-05', '2024-06'], dtype='datetime64[M]'))
    """

    def __init__(self, times: Array, unit: str, step: int, even: bool, business: bool = False):
        self._times = times
        self.unit, self.step, self.even, self.business = unit, step, even, business

    @property
    def rows(self) -> int:
        """Count the rows."""
        return len(self._times)

    def times(self) -> Array:
        """Give the time of each row, (N,) datetime64 or int."""
        return self._times

    def rows_between(self, start: int, stop: int) -> "Clock":
        """Give the clock of a stretch of rows."""
        return Clock(self._times[start:stop], self.unit, self.step, self.even, self.business)

    def after(self, n: int) -> Array:
        """Give the times of the n rows after the last."""
        last, ahead = self._times[-1], np.arange(1, n + 1)
        if self.business:
            return np.busday_offset(last.astype("M8[D]"), ahead, roll="forward")
        if self.unit == "row":
            return last + self.step * ahead
        return last + (self.step * ahead).astype(f"m8[{self.unit}]")

    def spell(self, time: Any) -> str:
        """Write a time as short as it can be."""
        if self.unit == "row":
            return str(int(time))
        if self.unit == "M":
            return str(time.astype("M8[Y]" if self.step % 12 == 0 else "M8[M]"))
        if self.step % DAY == 0 and time == time.astype("M8[D]"):
            return str(time.astype("M8[D]"))
        minutes = self.step % MINUTE == 0 and time == time.astype("M8[m]")
        seconds = time == time.astype("M8[s]")
        return str(time.astype("M8[m]" if minutes else "M8[s]" if seconds else "M8[us]")).replace(
            "T", " "
        )

    @property
    def step_name(self) -> str:
        """Write the step in words: "1 day"."""
        if self.business:
            return "1 working day"
        if self.unit == "row":
            return _count(self.step, "row") if self.step == 1 else str(self.step)
        if self.unit == "M":
            return _count(self.step // 12, "year") if self.step % 12 == 0 else _count(
                self.step, "month"
            )  # fmt: skip
        for size, name in (
            (WEEK, "week"),
            (DAY, "day"),
            (HOUR, "hour"),
            (MINUTE, "minute"),
            (SECOND, "second"),
            (1000, "millisecond"),
        ):
            if self.step % size == 0:
                return _count(self.step // size, name)
        return _count(self.step, "microsecond")

    def __repr__(self) -> str:
        first, last = (self.spell(time) for time in self._times[[0, -1]])
        even = "" if self.even or self.business else " (uneven: each row is one step)"
        return f"step {self.step_name}{even}; {first} to {last}"

    def seasons(self) -> list[int]:
        """Give the periods that the calendar suggests, in rows."""
        if self.unit == "row":
            return []
        if self.business:
            return [5]
        if self.unit == "M":
            periods = [12]
            return [p // self.step for p in periods if p % self.step == 0 and p > self.step]
        if self.step == WEEK:
            return [52]
        whole = (n for n in (HOUR, DAY, WEEK) if n % self.step == 0 and n > self.step)
        periods = [n // self.step for n in whole]
        return [*periods, 365] if self.step == DAY else periods

    def calendar(self, times: Array) -> tuple[Array, list[str]]:
        """Give sine and cosine of the time of day, week and year: (n, F) and their names.

        Only those the step can tell apart: no time of day for daily rows.
        """
        angles: list[tuple[str, Array]] = []
        if self.unit == "row" or (self.unit == "M" and self.step % 12 == 0):
            return np.zeros((len(times), 0)), []
        ticks = times.astype("M8[us]").astype(np.int64)
        year = times.astype("M8[Y]")
        in_year = (times.astype("M8[us]") - year.astype("M8[us]")).astype(np.int64)
        if self.unit == "us" and self.step < DAY and not self.business:
            angles.append(("day", ticks % DAY / DAY))
        if self.unit == "us" and self.step < WEEK:
            angles.append(("week", ticks % WEEK / WEEK))
        angles.append(("year", in_year / (365.2425 * DAY)))
        features, names = [], []
        for name, angle in angles:
            for harmonic in (1, 2) if name == "day" else (1,):
                phase = 2 * np.pi * harmonic * angle
                features += [np.sin(phase), np.cos(phase)]
                suffix = "" if harmonic == 1 else f" / {harmonic}"
                names += [f"sin {name}{suffix}", f"cos {name}{suffix}"]
        return np.stack(features, axis=1), names

    def to_config(self) -> dict[str, Any]:
        """Describe the step, ready for JSON."""
        return {"unit": self.unit, "step": self.step, "business": self.business}

    @classmethod
    def of(cls, time: Any, rows: int, gaps: str, notes: list[str]) -> tuple["Clock", Array]:
        """Make the clock of given times, and the place of each given row on it."""
        require_choice("Series", "gaps", gaps, ["auto", "insert", "rows"])
        if time is None:
            return cls(np.arange(rows), "row", 1, True), np.arange(rows)
        times = as_times(time)
        if _has_zone(time) and (times != times.astype("M8[D]")).any():
            notes.append("the times have a zone and are read as UTC")
        unit = _epoch_unit(times)
        if unit is not None:
            notes.append(f"the times are {EPOCHS[unit]} since 1970, in UTC")
            times = times.astype(f"M8[{unit}]").astype("M8[us]")
        if times.shape != (rows,):
            raise ValueError(f"Series: time must have one entry a row, {rows}, got {times.shape}")
        order = np.argsort(times, kind="stable")
        if not (order == np.arange(rows)).all():
            notes.append("the rows were not in the order of time and have been sorted")
        times = times[order]
        _require_distinct(times, order)
        if rows == 1:
            unit = "row" if times.dtype.kind in "iu" else "us"
            return cls(times, unit, 1 if unit == "row" else DAY, True), np.zeros(1, int)

        unit, ticks = _ticks(times)
        difference = np.diff(ticks)
        values, counts = np.unique(difference, return_counts=True)
        step = int(values[counts.argmax()])
        on_grid, position = not ((ticks - ticks[0]) % step).any(), (ticks - ticks[0]) // step
        added = int(position[-1]) + 1 - rows
        skips = unit != "row" and step == DAY and bool(added)
        if skips and np.is_busday(times.astype("M8[D]")).all():
            clock = cls(times, "us", DAY, False, business=True)
            absent = np.busday_count(times[0].astype("M8[D]"), times[-1].astype("M8[D]"))
            skipped = int(absent) + 1 - rows
            if gaps != "insert" and skipped <= rows // 5:
                notes.append(
                    "the rows are working days, each one step"
                    + (f"; {skipped} holidays are simply left out" if skipped else "")
                )
                return clock, _inverse(order)
        if on_grid and gaps == "insert" and added > max(LARGEST_GAP, 4 * rows):
            raise ValueError(
                f"Series: gaps='insert' would put {added:,} rows between {rows:,}, up to "
                f"{_spelled(times[-1])}; correct the times, or say gaps='rows'"
            )
        if on_grid and (gaps == "insert" or (gaps == "auto" and added <= rows / 5)):
            whole = cls._grid(times[0], ticks[0], unit, step, int(position[-1]) + 1)
            if added:
                absent = np.setdiff1d(np.arange(whole.rows), position)
                noun = "row is" if added == 1 else "rows are"
                counts_as = "counts" if added == 1 else "count"
                notes.append(
                    f"{added:,} {noun} missing from the even grid of {whole.step_name} "
                    f"(first: {whole.spell(whole.times()[absent[0]])}) and {counts_as} as unknown"
                )
            return whole, position[_inverse(order)]
        if gaps == "insert":
            raise ValueError(
                f"Series: gaps='insert' needs times on an even grid; the steps are from "
                f"{_span(values.min(), unit)} to {_span(values.max(), unit)}; say gaps='rows'"
            )
        clock = cls(times, unit, step, not added and on_grid)
        if not clock.even:
            share = counts.max() / counts.sum()
            notes.append(
                f"times are uneven: {share:.0%} of the steps are {clock.step_name}, the longest is "
                f"{_span(values.max(), unit)}; each row counts as one step"
            )
        return clock, _inverse(order)

    @classmethod
    def _grid(cls, first: Any, tick: Any, unit: str, step: int, rows: int) -> "Clock":
        if unit == "row":
            return cls(first + step * np.arange(rows), unit, step, True)
        if unit == "M":
            return cls((tick + step * np.arange(rows)).astype("M8[M]"), unit, step, True)
        return cls(first + (step * np.arange(rows)).astype("m8[us]"), unit, step, True)


def _ticks(times: Array) -> tuple[str, Array]:
    """Give times as integers, and their unit: months if each has the same day of the month."""
    if times.dtype.kind in "iu":
        return "row", times.astype(np.int64)
    days = times.astype("M8[D]")
    for shifted in (times, days + np.timedelta64(1, "D")):  # the same day, or always the last
        months = shifted.astype("M8[M]")
        offset = shifted.astype("M8[us]") - months.astype("M8[us]")
        if (offset == offset[0]).all() and (shifted is times or offset[0] == np.timedelta64(0)):
            months = times.astype("M8[M]").astype(np.int64)
            if (np.diff(months) > 0).all():
                return "M", months
    return "us", times.astype("M8[us]").astype(np.int64)


def _inverse(order: Array) -> Array:
    """Give the place that each row has after sorting."""
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return place


def _require_distinct(times: Array, order: Array) -> None:
    same = np.flatnonzero(times[1:] == times[:-1])
    if same.size:
        first, second = sorted(int(order[i]) + 1 for i in (same[0], same[0] + 1))
        unit = "row" if times.dtype.kind in "iu" else "us"
        shown = Clock(times, unit, DAY if unit == "us" else 1, True).spell(times[same[0]])
        many = "1 timestamp occurs" if len(same) == 1 else f"{len(same):,} timestamps occur"
        if _end_of_summer_time(times[same]):
            raise ValueError(
                f"{shown} occurs in rows {first} and {second}, as when daylight saving time ends; "
                "give the times in UTC, or with their offset from it, as in "
                f"{shown}+02:00"
            )
        raise ValueError(
            f"{many} twice, the first is {shown} in rows {first} and {second}; a series needs one "
            "row for each time (is this several series in one table?)"
        )


def _end_of_summer_time(times: Array) -> bool:
    """Answer whether times that occur twice are hours of the night to a Sunday, an hour each."""
    if times.dtype.kind != "M":
        return False
    hours = (times - times.astype("M8[D]")).astype("m8[h]").astype(int)
    days = np.unique(times.astype("M8[D]"))
    sundays = (days.astype(int) + 4) % 7 == 0  # 1970-01-01 was a Thursday
    an_hour = all(np.ptp(times[times.astype("M8[D]") == day]) < HOUR for day in days)
    return bool(sundays.all() and (hours <= 3).all() and len(days) <= 200 and an_hour)


def _spelled(time: Any) -> str:
    return str(time.astype("M8[D]") if time.dtype.kind == "M" else time)


def _count(n: int, word: str) -> str:
    return f"{n} {word}" if n == 1 else f"{n} {word}s"


def _span(ticks: Any, unit: str) -> str:
    return Clock(np.zeros(1, int), unit, max(int(ticks), 1), True).step_name


# --------------------------------------------------------------------------------- reading times


def as_times(time: Any) -> Array:
    """Give times as datetime64[s] or integers, from whatever says when.

    Examples
    --------
    >>> from gru_np.series.clock import as_times
    >>> as_times(["3/13/2004", "3/14/2004"])
    array(['2004-03-13T00:00:00.000000', '2004-03-14T00:00:00.000000'],
          dtype='datetime64[us]')
    """
    who, what = "Series", "time"
    if hasattr(time, "to_timestamp"):  # a PeriodIndex
        time = time.to_timestamp()
    elif str(getattr(time, "dtype", "")).startswith("period"):
        time = time.dt.to_timestamp()
    convert = getattr(time, "to_numpy", None)
    array = convert() if convert is not None else time
    if isinstance(array, list | tuple):
        array = np.array([*array, None], object)[:-1]
    elif not isinstance(array, np.ndarray):
        array = as_array(who, array, what, "iuMUO", "dates or integers")
    if array.ndim != 1:
        raise ValueError(f"{who}: {what} must have shape (rows,), got {spell(array.shape)}")
    if array.dtype.kind == "O" and array.size:
        array = _of_objects(array)
    if array.dtype.kind == "M":
        if np.isnat(array).any():
            row = int(np.isnat(array).argmax()) + 1
            raise ValueError(f"{who}: row {row} has no time")
        years = array.astype("M8[Y]").astype(np.int64) + 1970
        if years.size and not 1 <= int(years.min()) <= int(years.max()) <= 9999:
            raise ValueError(
                f"{who}: {what} must be in the years 1 to 9999, got {years.min()} to {years.max()}"
            )
        return array.astype("M8[us]")
    if array.dtype.kind == "f" and array.size and np.isfinite(array).all():
        # As time.time() gives it; a float of another size says no time.
        micro = np.round(np.clip(array, -1e12, 1e12).astype(np.float64) * SECOND)
        if _epoch_unit(micro.astype(np.int64)) == "us":
            return micro.astype(np.int64)
    if array.dtype.kind in "iu":
        if array.size:
            whole_numbers([array.min(), array.max()])
        return array.astype(np.int64)
    if array.dtype.kind in "UT":
        return parse_times([str(text) for text in array])
    raise ValueError(f"{who}: {what} must be dates or integers, got an array of {array.dtype}")


def whole_numbers(times: Iterable[Any]) -> Array:
    """Give integers, or texts that are, as int64 of which any two can be subtracted, or raise."""
    found = [int(time) for time in times]
    if max(map(abs, found), default=0) > LATEST:
        raise ValueError("Series: time must be within 2**61 of zero, got more")
    return np.array(found, np.int64)


def _of_objects(array: Array) -> Array:
    """Turn dates, texts or integers into an array of these; dates with a zone become UTC."""
    for row, value in enumerate(array, start=1):
        if value is None or type(value).__name__ in ("NaTType", "NAType"):
            raise ValueError(f"Series: row {row} has no time")
    for kind in (str, datetime.date, np.datetime64, int | np.integer, float):
        if all(isinstance(v, kind) and not isinstance(v, bool) for v in array):
            break
    else:
        kinds = sorted({type(v).__name__ for v in array})
        raise ValueError(
            f"Series: time must be dates or integers, all of one kind, got {', '.join(kinds)}"
        )
    if kind is str:
        return array.astype(str)
    if kind is not datetime.date:
        return np.array(array.tolist()) if kind is float else whole_numbers(array)
    zones = [getattr(value, "tzinfo", None) is not None for value in array]
    if any(zones):
        if not all(zones):
            row = zones.index(not zones[0]) + 1
            raise ValueError(
                f"Series: all times must have a zone, or none, and row {row} differs from row 1"
            )
        return _without_zone(array)
    return array.astype("M8[us]")


def _has_zone(time: Any) -> bool:
    """Answer whether times are dates with a zone."""
    first = time[0] if isinstance(time, list | tuple | np.ndarray) and len(time) else None
    zone = getattr(time, "tz", None) or getattr(first, "tzinfo", None)
    return zone is not None


def _without_zone(times: Any) -> Array:
    """Give times with a zone as UTC; midnights of days as these days."""
    if all(time.time() == datetime.time() for time in times):
        days = [time.replace(tzinfo=None) for time in times]
        if len(set(days)) == len(days):
            return np.array(days, "M8[us]")
    return np.array(
        [time.astimezone(datetime.UTC).replace(tzinfo=None) for time in times], "M8[us]"
    )


def _epoch_unit(times: Array) -> str | None:
    """Give the unit in which integers count the time since 1970, if all lie in 1990 to 2100."""
    if times.dtype.kind not in "iu" or not times.size:
        return None
    low, high = int(times.min()), int(times.max())
    for power, unit in zip((0, 3, 6, 9), EPOCHS, strict=True):
        if 631_152_000 * 10**power <= low and high <= 4_102_444_800 * 10**power:
            return unit
    return None


def looks_like_epoch(values: Any) -> bool:
    """Answer whether a column that is not named so counts time since 1970, on an even grid.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.series.clock import looks_like_epoch
    >>> looks_like_epoch(1_700_000_000_000 + 60_000 * np.arange(5)), looks_like_epoch(np.arange(5))
    (True, False)
    """
    values = np.asarray(values)
    if values.ndim != 1 or len(values) < 3 or _epoch_unit(values) is None:
        return False
    steps = np.diff(values.astype(np.int64))
    return bool(steps.min() > 1 and not (steps % steps.min()).any())


def column_times(names: Sequence[str], columns: Sequence[Any]) -> Array:
    """Give the times in one column, or in several that are joined: a date and a time of day."""
    if len(columns) > 1:
        pairs = zip(*(map(str, column) for column in columns), strict=True)
        return parse_times([" ".join(parts) for parts in pairs])
    values = columns[0]
    is_integer = isinstance(values, np.ndarray) and values.dtype.kind in "iu"
    if is_integer and values.size:
        low, high = int(values.min()), int(values.max())
        in_years = names[0].strip().lower() == "year" and low > 0 and high < 10_000
        in_days = low >= 18_000_101 and high <= 29_991_231
        if in_years or in_days:
            return parse_times([str(value) for value in values])
    if _has_zone(values):
        return np.asarray(values)  # still with their zone, of which a note is made
    return as_times(values)


def parse_times(texts: Sequence[str]) -> Array:
    """Read dates and times written as text, all in the same way.

    Raises
    ------
    ValueError
        Naming the first row that is no date, or that is not written as the others are.

    Examples
    --------
    >>> from gru_np.series.clock import parse_times
    >>> parse_times(["19580329", "19580405"])
    array(['1958-03-29T00:00:00.000000', '1958-04-05T00:00:00.000000'],
          dtype='datetime64[us]')
    """
    stripped = [text.strip() for text in texts]
    if "" in stripped:
        raise ValueError(f"row {stripped.index('') + 1} has no time")
    if all(text.isdecimal() and (len(text) < 4 or 8 < len(text) < 20) for text in stripped):
        return whole_numbers(stripped)
    readings, best, failed_at = [], "", 0
    for layout in FORMATS:
        times, failed = _read_all(stripped, layout)
        if times is not None:
            readings.append(times)
        elif failed > failed_at:
            best, failed_at = layout, failed
        if readings and "/" not in layout:
            break
    if not readings:
        iso = _read_iso(stripped)
        if iso is not None:
            return iso
        row = failed_at + 1
        like = f" as the rows before it are ({best})" if best else ""
        raise ValueError(
            f"row {row}: {texts[failed_at]!r} is not a date written{like or ' plainly'}"
        )
    # 3/4/2004 is March or April: the right reading is the one with fewer kinds of steps.
    return min(readings, key=lambda times: len(np.unique(np.diff(times))))


def _read_all(texts: Sequence[str], layout: str) -> tuple[Array | None, int]:
    """Read every text by one layout: the times, or None and the first that does not fit."""
    times = []
    for row, text in enumerate(texts):
        try:
            # strptime would take "2016-7" for July as well as "20167"; the lengths tell them apart.
            if layout.startswith("%Y%m") and len(text) != (10 if layout.endswith("%H") else 8):
                return None, row
            times.append(datetime.datetime.strptime(text, layout))
        except ValueError:
            return None, row
    return np.array(times, "M8[us]"), len(texts)


def _read_iso(texts: Sequence[str]) -> Array | None:
    """Read ISO 8601 with T, fractions of a second or a zone, which becomes UTC."""
    times = []
    for text in texts:
        try:
            times.append(datetime.datetime.fromisoformat(text))
        except ValueError:
            return None
    return _of_objects(np.array([*times, None], object)[:-1])
