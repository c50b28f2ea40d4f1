"""Tables, CSV files, times: what is read, what is noticed, what is refused in one sentence."""

import datetime
import gzip

import numpy as np
import pytest

from gru_np import cli
from gru_np.series import Series, from_table, read_csv
from gru_np.series.clock import parse_times


def written(tmp_path, text, name="a.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def days(n, start="2024-01-01"):
    return np.datetime64(start) + np.arange(n)


# ------------------------------------------------------------------------------------- bad files

BAD = {
    "no header": ("1,2\n3,4\n5,6\n", "must be a header with the names of the columns"),
    "no header but a date": ("2024-01-01,2,ok\n2024-01-02,3,ok\n", "must be a header .*got values"),
    "no time": ("date,temp\n2024-01-01,1\n,2\n2024-01-03,2\n", "column 'date': row 2 has no time"),
    "text": ("date,temp\n2024-01-01,1\n2024-01-02,abc\n", r"line 3, column 'temp': .*got 'abc'"),
    "one row": ("date,temp\n2024-01-01,1\n", "a single row of data"),
    "header only": ("date,temp\n", "a header and nothing below"),
    "all missing": ("date,temp\n2024-01-01,\n2024-01-02,NA\n", "column 'temp' holds no number"),
    "absent": (
        "date,temps\n2024-01-01,1\n2024-01-02,1\n",
        "no column 'temp'.*did you mean 'temps'",
    ),
    "duplicates": (
        "date,temp\n2024-01-01,1\n2024-01-02,2\n2024-01-02,2\n",
        "1 timestamp occurs twice, the first is 2024-01-02 in rows 2 and 3",
    ),
    "empty": ("", "the file is empty"),
    "names that a terminal obeys": ("a\x1b[2J,\x85b\nx,y\nz,u\n", r"a\\x1b\[2J, b"),
    "separators alone": (";;\n;;\n", "the file is empty"),
    "no date": ("date,temp\n2024-01-01,1\nsoon,2\n", "row 2: 'soon' is not a date"),
    "ragged": ("date,temp\n2024-01-01,1\n2024-01-02,2,7\n", "line 3 has 3 cells, the header has 2"),
    "infinite": ("date,temp\n2024-01-01,inf\n2024-01-02,2\n", "holds an infinity"),
    "binary": (b"\x00\x01\x02\x03date,temp", "this is no text"),
    "broken gzip": (b"\x1f\x8b\x08\x00broken", "gzipped and damaged"),
    "too short": (
        "date,temp\n" + "".join(f"2024-01-0{d},{d}\n" for d in range(1, 6)),
        "too few for a horizon",
    ),
    "unclosed quote": ('date,temp\n2024-01-01,"1\n2024-01-02,2\n', "single row|expected a number"),
}


@pytest.mark.parametrize("case", BAD, ids=list(BAD))
def test_the_command_answers_a_bad_file_with_one_clear_sentence(case, tmp_path, capsys):
    text, message = BAD[case]
    path = written(tmp_path, text)
    status = cli.main(["forecast", str(path), "--target", "temp", "--horizon", "2"])
    captured = capsys.readouterr()
    assert status == 2
    assert captured.err.count("\n") == 1 and captured.err.startswith("gru-np forecast: ")
    with pytest.raises(ValueError, match=message):
        raise ValueError(captured.err)


def test_the_command_says_what_is_wrong_with_its_arguments(tmp_path, capsys):
    for args, message in [
        ([], "give a CSV file or --demo"),
        ([str(tmp_path / "none.csv"), "--target", "x"], "there is no such file"),
        ([str(tmp_path), "--target", "x"], "this is a directory"),
        (["a.csv"], "--target must name the column"),
        (["--demo", "--interval", "1.5"], "--interval must be above 0 and at most 0.9999"),
        (
            ["--demo", "--save", str(tmp_path / "no" / "x")],
            "--save must be in a folder that exists",
        ),
    ]:
        assert cli.main(["forecast", *args]) == 2
        assert message in capsys.readouterr().err


# ------------------------------------------------------------------------------------ good files


def test_separators_decimal_commas_quotes_bom_and_gzip_are_understood(tmp_path):
    plain = "date,temp\n2024-01-01,1.5\n2024-01-02,-2\n"
    forms = [
        plain, plain.replace(",", ";").replace(".", ","), plain.replace(",", "\t"),
        "\ufeff" + plain, plain.replace("\n", "\r\n"), plain.replace("date", '"date"'),
        plain + "\n\n",
    ]  # fmt: skip
    for i, form in enumerate(forms):
        read = read_csv(written(tmp_path, form, f"{i}.csv"))
        assert read.columns == ["temp"] and read["temp"].tolist() == [1.5, -2.0]
    packed = written(tmp_path, gzip.compress(plain.encode()), "b.csv.gz")
    assert read_csv(packed)["temp"].tolist() == [1.5, -2.0]


def test_a_header_of_numbers_is_one_if_a_column_is_asked_for_by_it(tmp_path):
    path = written(tmp_path, "0,1\n2.5,3\n4,5\n")
    assert read_csv(path, ["0"])["0"].tolist() == [2.5, 4.0]


@pytest.mark.parametrize(
    ("texts", "first", "second"),
    [
        (["1949-01", "1949-02"], "1949-01-01", "1949-02-01"),
        (["1700", "1701"], "1700-01-01", "1701-01-01"),
        (["19580329", "19580405"], "1958-03-29", "1958-04-05"),
        (["2016-07-01 00:00:00", "2016-07-01 01:00:00"], "2016-07-01", "2016-07-01T01"),
        (["Jan 1 2000", "Feb 1 2000"], "2000-01-01", "2000-02-01"),
        (["3.1.2004", "4.1.2004"], "2004-01-03", "2004-01-04"),
        (["2004-01-03T10:00:00.250", "2004-01-03T10:00:00.500"], "2004-01-03T10:00:00.250",
         "2004-01-03T10:00:00.500"),
        (["2004-01-03T10:00:00+02:00", "2004-01-03T11:00:00+02:00"], "2004-01-03T08",
         "2004-01-03T09"),
    ],
)  # fmt: skip
def test_dates_are_read_as_they_are_written(texts, first, second):
    assert parse_times(texts).tolist() == [
        np.datetime64(t).astype("M8[us]").item() for t in (first, second)
    ]


def test_day_and_month_in_doubt_are_told_apart_by_the_grid():
    american = [f"{d.month}/{d.day}/2004" for d in days(40, "2004-01-01").tolist()]
    british = [f"{d.day}/{d.month}/2004" for d in days(12, "2004-01-01").tolist()]
    for texts in (american[:12], british):
        assert (np.diff(parse_times(texts)) == np.timedelta64(1, "D")).all()


def test_a_date_and_a_time_of_day_in_two_columns_are_joined(tmp_path):
    text = "Date,Time,T\n3/10/2004,18:00:00,1\n3/10/2004,19:00:00,2\n3/10/2004,20:00:00,3\n"
    assert "step 1 hour" in repr(read_csv(written(tmp_path, text)))
    text = "year,month,day,hour,T\n" + "".join(f"2010,1,1,{h},{h}\n" for h in range(5))
    assert "step 1 hour" in repr(read_csv(written(tmp_path, text)))


def test_rows_that_are_missing_become_unknown_and_are_reported():
    series = Series(np.arange(9.0), ["x"], np.delete(days(10), 4))
    assert len(series) == 10 and np.isnan(series["x"][4])
    assert "1 row is missing" in series.notes[0] and "2024-01-05" in series.notes[0]
    kept = Series(np.arange(9.0), ["x"], np.delete(days(10), 4), gaps="rows")
    assert len(kept) == 9 and "each row counts as one step" in kept.notes[0]


def test_uneven_times_are_rows_and_cannot_be_put_on_a_grid():
    times = days(6).astype("M8[s]") + np.array([0, 7, 100, 20, 5, 900]).astype("m8[s]")
    assert "each row counts as one step" in Series(np.arange(6.0), ["x"], times).notes[0]
    with pytest.raises(ValueError, match="needs times on an even grid"):
        Series(np.arange(6.0), ["x"], times, gaps="insert")


def test_rows_in_falling_order_are_sorted_with_a_note():
    series = Series(np.arange(6.0), ["x"], days(6)[::-1])
    assert series["x"].tolist() == [5, 4, 3, 2, 1, 0] and "sorted" in series.notes[0]


def test_months_years_and_working_days_go_on_as_the_calendar_does():
    ends = np.array(["2023-10-31", "2023-11-30", "2023-12-31", "2024-01-31"])
    assert Series(np.arange(4.0), ["x"], ends).clock.after(2).astype(str).tolist() == [
        "2024-02", "2024-03",
    ]  # fmt: skip
    working = [d for d in days(40) if np.is_busday(d)]
    clock = Series(np.arange(len(working)), ["x"], np.array(working)).clock
    assert clock.business and clock.seasons() == [5]
    assert np.is_busday(clock.after(9)).all()
    years = Series(np.arange(4.0), ["x"], np.array([f"{y}" for y in range(1700, 1704)])).clock
    assert years.step_name == "1 year" and years.spell(years.after(1)[0]) == "1704"


@pytest.mark.parametrize(
    ("step", "name", "seasons"),
    [("30m", "30 minutes", [2, 48, 336]), ("1h", "1 hour", [24, 168]), ("1D", "1 day", [7, 365]),
     ("7D", "1 week", [52]), ("10s", "10 seconds", [360, 8640, 60480])],
)  # fmt: skip
def test_steps_have_names_and_the_calendar_suggests_seasons(step, name, seasons):
    delta = np.timedelta64(int(step[:-1]), step[-1])
    times = np.datetime64("2024-01-01T00:00:00") + delta * np.arange(5)
    clock = Series(np.arange(5.0), ["x"], times).clock
    assert clock.step_name == name and clock.seasons() == seasons


# ------------------------------------------------------------------------------ tables of others


class Column:
    """What a column of pandas or polars looks like from outside."""

    def __init__(self, values):
        self.values = values

    def to_numpy(self):
        return np.array(self.values)


class Frame:
    """What a data frame looks like from outside."""

    def __init__(self, columns, index=None):
        self.columns, self.cells, self.index = list(columns), columns, index

    def __getitem__(self, name):
        return Column(self.cells[name])


def test_data_frames_of_any_library_are_read_by_their_columns():
    frame = Frame({"ds": days(4), "a": [1, 2, 3, 4], "name": list("wxyz"), "b": [0.5, 1, 2, 3]})
    series = from_table(frame)
    assert series.columns == ["a", "b"] and series.clock.step_name == "1 day"
    indexed = Frame({"a": [1, 2, 3, 4]}, index=Column(days(4)))
    assert from_table(indexed).clock.step_name == "1 day"
    assert from_table(Frame({"a": [1, 2]}, index=Column([0, 1]))).clock.unit == "row"


def test_dicts_structured_arrays_arrays_and_masked_arrays_are_tables_too():
    table = {"when": [datetime.date(2024, 1, d) for d in (1, 2, 3)], "x": [1, None, 3]}
    assert np.isnan(from_table(table, ["x"], time="when")["x"][1])
    rows = np.array([(1, 2.0), (2, 3.0)], [("t", int), ("x", float)])
    assert from_table(rows, ["x"], time="t")["x"].tolist() == [2, 3]
    assert from_table(np.zeros((4, 2))).columns == ["0", "1"]
    masked = np.ma.MaskedArray([1.0, 2.0], [False, True])
    assert np.isnan(Series(masked).values[1, 0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Series([]), "a row at least"),
        (lambda: Series(["a", "b"]), "must be numbers"),
        (lambda: Series(np.zeros((2, 2, 2))), "must have shape"),
        (lambda: Series(np.zeros((2, 2)), ["x"]), "name each of the 2 columns"),
        (lambda: Series(np.zeros((2, 2)), ["x", "x"]), "'x' twice"),
        (lambda: Series([1.0, 2.0], time=[1, 2, 3]), "one entry a row"),
        (lambda: Series([1.0, 2.0], gaps="fill"), "gaps must be one of"),
        (lambda: Series([1.0, 2.0])["y"], "no column 'y'"),
        (lambda: from_table({"a": ["x", "y"]}), "no column holds numbers"),
        (lambda: from_table({"a": [1, 2]}, ["A"]), "did you mean 'a'"),
    ],
)
def test_tables_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_pandas_and_polars_frames_are_read_if_they_are_installed():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"x": [1.0, 2.0, 3.0]}, index=pandas.date_range("2024", periods=3))
    assert from_table(frame).clock.step_name == "1 day"
    assert from_table(frame["x"]).columns == ["x"]
