"""Reading a series from a CSV file, with one clear sentence for everything that may be wrong."""

import codecs
import csv
import gzip
import io
import os
import re
import warnings
import zlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from gru_np._aliases import Array
from gru_np._files import LARGEST, read_input
from gru_np.series.clock import column_times, looks_like_epoch, parse_times, whole_numbers
from gru_np.series.numerals import POINT, THOUSANDS, Notation, is_marked, notations, possible
from gru_np.series.table import Series, as_names, is_time_name, left_out, require_column, shortened

__all__ = ["THOUSANDS", "read_csv"]

MISSING = frozenset(
    ("", "na", "n/a", "nan", "null", "none", "-", "--", "?", ".", "#n/a", "missing")
)


def read_csv(
    path: str | os.PathLike[str],
    columns: str | Sequence[str] | None = None,
    time: str | Sequence[str] | None = None,
    gaps: str = "auto",
    missing: Any = (),
    decimal: str | None = None,
    thousands: str | None = None,
) -> Series:
    r"""Read a CSV file with a header: a column of times, and columns of numbers.

    Parameters
    ----------
    path : str or path
        UTF-8, or UTF-16 with its mark, plain or gzipped; separated by commas, semicolons, tabs or
        bars, whichever the header has most of.
    columns : str or sequence of str, optional
        The columns to read; only these must hold numbers. All that do if not given.
    time : str or sequence of str, optional
        The column of times, or several to be joined. If not given: the first one named like a time
        ("date", "time", "month", "year", ...), else the first one whose entries are dates; without
        any, rows count as steps 0, 1, 2, ...
    gaps : {"auto", "insert", "rows"}
        As for `Series`.
    missing : value or sequence, optional
        What stands for a missing value beside the usual ("", "NA", "NaN", "null", "-", "?", ...):
        -200, say.
    decimal : {".", ","}, optional
        What begins the decimals. Found if not given: each column is read in one way, 2,165.03 with
        a decimal point and 2.165,03 with a decimal comma; where all of its numbers allow both, as
        1.175 does, the other columns of the file decide.
    thousands : {",", ".", " ", "'"}, optional
        What may part the thousands; the comma, or the point if the decimal mark is a comma.

    Returns
    -------
    Series

    Raises
    ------
    ValueError
        One sentence that names the file and, where there is one, the line.

    Warns
    -----
    UserWarning
        If the numbers of a column could be thousands as well as decimals, and nothing in the file
        says which.

    Notes
    -----
    pandas reads 1.175 as 1.175 and leaves 2,165.03 as text unless `thousands=` is given.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from gru_np import series
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "a.csv")
    ...     _ = path.write_text("day,level,note\n2024-05-01,3.5,cold\n2024-05-02,NA,\n")
    ...     series.read_csv(path)["level"]
    array([3.5, nan])
    """
    name = os.fspath(path)
    try:
        return _read(path, columns, time, gaps, missing, notations(decimal, thousands))
    except ValueError as error:
        message = str(error).removeprefix("Series: ")
        raise ValueError(message if message.startswith(name) else f"{name}: {message}") from None


def _read(
    path: Any, columns: Any, time: Any, gaps: str, missing: Any, choices: list[Notation]
) -> Series:
    header, lines, numbers, delimiter = _split(_text(path))
    header = [cell.strip() for cell in header]
    chosen = as_names("read_csv", "columns", columns)
    # Of the first cells only: every layout of a date is tried, and a header may be long.
    some = header[:50]
    data = [c for c in some if any(n.is_number(c) for n in choices) or _is_date(c)]
    if not set(chosen) & set(header) and len(data) >= len(some) / 2:
        raise ValueError(
            "the first line must be a header with the names of the columns, got values "
            f"({shortened(header, 4)}); add one"
        )
    known = set(header)
    for column in chosen:
        if column not in known:
            require_column(column, header, "this file")
    if not lines:
        raise ValueError("there is a header and nothing below it")
    if len(lines) == 1:
        raise ValueError("there is a single row of data; a series needs many")
    for cells, number in zip(lines, numbers, strict=True):
        if len(cells) != len(header):
            raise ValueError(f"line {number} has {len(cells)} cells, the header has {len(header)}")
    table = {key: [cells[i] for cells in lines] for i, key in enumerate(header)}
    parts = as_names("read_csv", "time", time)
    if len(table) < len(header):
        used = {*chosen, *parts} if chosen else known
        for key, count in Counter(header).items():
            if count > 1 and key in used:
                raise ValueError(f"the header has two columns {key!r}; rename one")
    for part in parts:
        if part not in known:
            require_column(part, header, "this file")
    if not parts:
        parts = _find_times(table)
    try:
        times = column_times(parts, [_integers(table[part]) for part in parts]) if parts else None
    except ValueError as error:
        raise ValueError(f"column {' + '.join(parts)!r}: {error}") from None

    stands = as_names("read_csv", "missing", missing)
    absent = MISSING | {value.strip().lower() for value in stands}
    notes = []
    if columns is None:
        rest = [key for key in header if key not in parts]
        chosen = [key for key in rest if _holds_numbers(table[key], absent, choices)]
        if not chosen:
            raise ValueError(f"no column holds numbers; there are {shortened(header)}")
        taken = set(chosen)
        notes = left_out([key for key in rest if key not in taken])
    present = {key: [c for c in table[key] if c.strip().lower() not in absent] for key in chosen}
    ways = _notations(present, table, absent, choices, delimiter, os.fspath(path))
    values = [_parse(key, table[key], numbers, absent, ways[key]) for key in chosen]
    array = np.stack(values, axis=1)
    for value in stands:  # -200 is written -200.0, too
        for notation in choices:
            if notation.is_number(value):
                array[array == notation.number(value)] = np.nan
                break
    series = Series(array, chosen, times, gaps)
    series.notes[:0] = notes
    return series


def _text(path: Any) -> str:
    """Give the text of a file, gzipped or not."""
    data = read_input(path)
    if data[:2] == b"\x1f\x8b":
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
                data = file.read(LARGEST + 1)
        except (OSError, EOFError, zlib.error):
            raise ValueError("the file is gzipped and damaged") from None
        if len(data) > LARGEST:
            raise ValueError(f"expected at most {LARGEST:,} bytes when unzipped, found more")
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return data.decode("utf-16")
        except UnicodeDecodeError:
            raise ValueError("the file is marked as UTF-16 and damaged") from None
    if b"\x00" in data[:4096]:
        raise ValueError("this is no text; a CSV file is expected")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")  # numbers are the same in both


def _split(text: str) -> tuple[list[str], list[list[str]], list[int], str]:
    """Give header, rows, their line numbers, and what separates the columns."""
    first = next((line for line in io.StringIO(text, newline=None) if line.strip()), None)
    if first is None:
        raise ValueError("the file is empty")
    unquoted = re.sub(r'"[^"]*"', "", first)
    delimiter = max(",;\t|", key=unquoted.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    rows, numbers = [], []
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                rows.append(cells)
                numbers.append(reader.line_num)
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}") from None
    if not rows:
        raise ValueError("the file is empty: its lines hold separators alone")
    return rows[0], rows[1:], numbers[1:], delimiter


def _notations(
    present: dict[str, list[str]], table: dict[str, list[str]], absent: frozenset[str],
    choices: list[Notation], delimiter: str, name: str,
) -> dict[str, Notation]:  # fmt: skip
    """Say how the numbers of each column are written; warn where that is a guess."""
    found = {}
    unsure = []
    for key, cells in present.items():
        ways = possible(cells, choices)
        # Where a comma separates the columns, nobody takes 1.175 for a thousand.
        plain = delimiter == "," and not any("," in cell for cell in cells)
        if len(ways) > 1 and not plain:
            unsure.append(key)
        found[key] = (ways or choices)[0]
    if not unsure:
        return found
    settled = set()
    for column in table.values():
        cells = [cell for cell in column if cell.strip().lower() not in absent]
        ways = possible(cells, choices)
        if len(ways) == 1 and any(map(is_marked, cells)):
            settled.add(ways[0])
    for key in unsure:
        if len(settled) == 1:
            (found[key],) = settled
            continue
        with_comma = next((cell for cell in present[key] if "," in cell), None)
        if delimiter == ";" and with_comma:
            found[key] = choices[-1]
        shown = with_comma or next(cell for cell in present[key] if "." in cell)
        mark = "," if "," in shown else "."
        warnings.warn(
            f"{name}: the numbers of column {key!r} can be read in two ways, and {shown.strip()} "
            f"was read as {found[key].number(shown):.12g}; say decimal={mark!r} or "
            f"thousands={mark!r} (--decimal, --thousands) to have one of the two",
            UserWarning,
            stacklevel=4,
        )
    return found


def _find_times(table: dict[str, list[str]]) -> list[str]:
    """Find the column of times by name, else by its first entries; several if they are split."""
    named = [key for key in table if is_time_name(key)]
    lower = {key.strip().lower(): key for key in table}
    if {"year", "month"} <= lower.keys():
        return [lower[part] for part in ("year", "month", "day", "hour") if part in lower]
    if [key.lower() for key in named[:2]] == ["date", "time"]:
        return named[:2]
    if named:
        return named[:1]
    for key, cells in table.items():
        if POINT.is_number(cells[0]) or not _is_date(cells[0]):
            continue
        try:
            parse_times(cells[:20])
        except ValueError:
            continue
        return [key]
    for key, cells in table.items():
        if cells[0].strip().isdecimal() and looks_like_epoch(_integers(cells)):
            return [key]
    return []


def _integers(cells: list[str]) -> Any:
    """Give a column of whole numbers as such: years, counters, seconds since 1970."""
    whole = all(re.fullmatch(r"-?[0-9]{1,19}", cell.strip()) for cell in cells)
    return whole_numbers(cells) if whole else cells


def _is_date(cell: str) -> bool:
    # Every layout of a date has digits, and none is long.
    if not any(c.isdecimal() for c in cell) or len(cell) > 60:
        return False
    try:
        return parse_times([cell]).dtype.kind == "M"
    except ValueError:
        return False


def _holds_numbers(cells: list[str], absent: frozenset[str], choices: list[Notation]) -> bool:
    present = [cell for cell in cells if cell.strip().lower() not in absent]
    return bool(present) and any(one.reads(present) for one in choices)


def _parse(
    key: str, cells: list[str], numbers: list[int], absent: frozenset[str], notation: Notation
) -> Array:
    """Give a column as float64, NaN where it is missing."""
    values = np.full(len(cells), np.nan)
    count = 0
    for row, cell in enumerate(cells):
        if cell.strip().lower() in absent:
            continue
        count += 1
        try:
            values[row] = notation.number(cell)
        except ValueError:
            raise ValueError(
                f"line {numbers[row]}, column {key!r}: expected a number, got {cell.strip()!r}"
                + (
                    f"; a number like 2{notation.thousands}165{notation.decimal}03 is understood, "
                    "others by decimal= and thousands= (--decimal, --thousands)"
                    if any(c.isdecimal() for c in cell)
                    else ""
                )
            ) from None
    if not count:
        raise ValueError(f"column {key!r} holds no number at all: every value is missing")
    return values
