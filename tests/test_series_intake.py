"""What series take in: frames of every kind of column, times of every kind, numbers as written."""

import datetime
import decimal
import gzip
import os
import re
import time
from fractions import Fraction

import numpy as np
import pytest
from conftest import assert_close

from gru_np import series
from gru_np.cli import main
from gru_np.series import Series, from_table, read_csv

HOUR, DAY = datetime.timedelta(hours=1), datetime.timedelta(days=1)
SUMMER, WINTER = (datetime.timezone(n * HOUR) for n in (2, 1))
# Wall clock 01:00, 02:00, 02:00, 03:00: daylight saving time ends in Berlin.
LAST_SUNDAY = [
    datetime.datetime(2024, 10, 27, hour, tzinfo=zone)
    for hour, zone in ((1, SUMMER), (2, SUMMER), (2, WINTER), (3, WINTER))
]


class Index:
    """As much of a pandas index as is asked for."""

    def __init__(self, values, name=None, nlevels=1):
        self.values, self.name, self.nlevels = values, name, nlevels

    def to_numpy(self):
        if isinstance(self.values[0], int):
            return np.array(self.values)
        return np.array([*self.values, None], object)[:-1]


class Frame(dict):
    """A dict of columns with an index."""

    def __init__(self, index, **columns):
        super().__init__({k: np.array([*v, None], object)[:-1] for k, v in columns.items()})
        self.index = index


# ------------------------------------------------------------------------------------------ times


def test_times_with_a_zone_are_utc_and_daylight_saving_time_ends_without_a_gap():
    """Once the index was dropped in silence: no calendar, no season, gaps unseen."""
    expected = np.arange("2024-10-26T23", "2024-10-27T03", dtype="M8[h]").astype("M8[us]")
    for data in (
        from_table(Frame(Index(LAST_SUNDAY), a=[1, 2, 3, 4])),
        from_table({"when": LAST_SUNDAY, "a": [1, 2, 3, 4]}, time="when"),
        from_table({"when": np.array(LAST_SUNDAY), "a": [1, 2, 3, 4]}),
        Series([1, 2, 3, 4], ["a"], LAST_SUNDAY),
        Series([1, 2, 3, 4], ["a"], [when.isoformat() for when in LAST_SUNDAY]),
    ):
        assert data.clock.times().tolist() == expected.tolist()
        assert data.clock.step_name == "1 hour"
        assert data.columns == ["a"]
    assert from_table(Frame(Index(LAST_SUNDAY), a=[1, 2, 3, 4])).notes == [
        "the times have a zone and are read as UTC"
    ]


def test_midnights_of_a_zone_are_days():
    """In UTC they would be 22:00 and 23:00, on no even grid."""
    start = datetime.datetime(2024, 10, 25)
    zones = (SUMMER, SUMMER, SUMMER, WINTER, WINTER)
    days = [(start + i * DAY).replace(tzinfo=zone) for i, zone in enumerate(zones)]
    data = from_table(Frame(Index(days), a=range(5)))
    assert repr(data.clock) == "step 1 day; 2024-10-25 to 2024-10-29"
    assert data.notes == []


def test_an_hour_that_occurs_twice_is_named_for_what_it_is(tmp_path):
    """Not "several series?": an answer that helps."""
    path = tmp_path / "a.csv"
    walls = [f"{when:%Y-%m-%d %H:%M}" for when in LAST_SUNDAY]
    path.write_text("date,a\n" + "".join(f"{wall},{i}\n" for i, wall in enumerate(walls)))
    with pytest.raises(ValueError, match=r"rows 2 and 3, as when daylight saving time ends; give"):
        read_csv(path)


@pytest.mark.parametrize(
    ("unit", "ticks"), [("seconds", 1), ("milliseconds", 10**3), ("microseconds", 10**6),
                        ("nanoseconds", 10**9)],
)  # fmt: skip
@pytest.mark.parametrize("name", ["ts", "timestamp", "Time_ms", "anything"])
def test_integers_that_count_since_1970_are_times(tmp_path, unit, ticks, name):
    """1704067200 s is 2024-01-01, whoever counts in what; once they became a column."""
    whole = (1_704_067_200 + 3600 * np.arange(5)) * ticks
    path = tmp_path / "a.csv"
    path.write_text(f"a,{name}\n" + "".join(f"{i},{t}\n" for i, t in enumerate(whole)))
    for data in (read_csv(path), from_table({"a": np.arange(5.0), name: whole}),
                 Series(np.arange(5.0), ["a"], whole),
                 from_table(Frame(Index(whole.tolist(), name), a=range(5)))):  # fmt: skip
        assert repr(data.clock) == "step 1 hour; 2024-01-01 00:00 to 2024-01-01 04:00"
        assert data.notes == [f"the times are {unit} since 1970, in UTC"]
        assert data.columns == ["a"]


def test_other_integers_are_no_times():
    rising = np.array([2_500_000_000, 2_543_111_003, 2_590_270_899])  # people on earth
    data = from_table({"people": rising, "a": [1, 2, 3]})
    assert data.columns == ["people", "a"]
    assert data.clock.unit == "row"
    assert Series([1, 2, 3], time=[10, 20, 30]).clock.step_name == "10"


BAD_TIMES = {
    "a hole": ([None, 1, 2], "row 1 has no time"),
    "no time": (np.array(["2024-01-01", "NaT", "2024-01-03"], "M8[D]"), "row 2 has no time"),
    "a zone missing": (
        [LAST_SUNDAY[0], datetime.datetime(2024, 10, 27), LAST_SUNDAY[3]], "row 2 differs"
    ),
    "a zone missing in text": (["2024-01-01T00:00+01:00", "2024-01-02", "2024-01-03"], "row 2 dif"),
    "kinds": (["2024-01-01", 2, 3], "all of one kind, got int, str"),
    "bools": ([True, False, True], "got bool"),
    "floats": ([0.0, 0.5, 1.0], "got an array of float64"),
    "a year beyond": (np.array(["300000-01-01"] * 3, "M8[s]"), "years 1 to 9999"),
    "too large": ([2**63, 1, 2], r"2\*\*61"),
    "as large": (np.array([2**62, 1, 2]), r"2\*\*61"),
    "durations": (np.array([1, 2, 3], "m8[h]"), "got an array of timedelta64"),
    "a column": (np.zeros((3, 1), int), r"shape \(rows,\), got \(3, 1\)"),
    "a word": ("2024-01-01", r"shape \(rows,\)"),
    "too few": ([1, 2], "one entry a row, 3"),
    "twice": (["2024-10-29", "2024-10-29", "2024-10-30"], "several series in one table"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_TIMES)
def test_bad_times_get_one_sentence(name):
    times, sentence = BAD_TIMES[name]
    with pytest.raises(ValueError, match=sentence) as caught:
        Series([1, 2, 3], time=times)
    assert "\n" not in str(caught.value)


def test_a_date_far_away_makes_no_rows_by_the_million(tmp_path, capsys):
    """9999-12-31 stands for "open"; gaps="insert" took 31 GiB for it."""
    path = tmp_path / "a.csv"
    path.write_text("date,a\n2024-01-01 00:00,1\n2024-01-01 01:00,2\n9999-12-31 00:00,3\n")
    with pytest.raises(ValueError, match=r"69,916,150 rows between 3, up to 9999-12-31"):
        read_csv(path, gaps="insert")
    assert main(["forecast", str(path), "--target", "a", "--gaps", "insert"]) == 2
    assert "say gaps='rows'" in capsys.readouterr().err
    assert len(read_csv(path)) == 3


# ---------------------------------------------------------------------------------------- columns


class NAType:
    """As pandas.NA: no number, and no truth."""

    def __bool__(self):
        raise TypeError("boolean value of NA is ambiguous")


NA = NAType()


def test_columns_of_objects_that_are_numbers_are_taken_exactly():
    """Nullable, Decimal and bool columns were dropped without a word."""
    data = from_table({
        "integers": np.array([1, NA, 3], object),
        "bools": np.array([True, NA, False], object),
        "money": [decimal.Decimal("2.25"), None, decimal.Decimal("0.1")],
        "parts": [Fraction(1, 3), 2, 0.5],
        "truth": np.array([True, False, True]),
    })  # fmt: skip
    nan = np.nan
    expected = [[1, 1, 2.25, 1 / 3, 1], [nan, nan, nan, 2, 0], [3, 0, 0.1, 0.5, 1]]
    assert_close(data.values, np.array(expected), "exact")
    assert data.columns == ["integers", "bools", "money", "parts", "truth"]


def test_what_is_left_out_is_named():
    table = {
        "a": [1.0, 2.0, 3.0], "note": ["x", "y", "z"], "mixed": np.array([1, "x", 2], object),
        "complex": [1j, 2, 3], "when else": np.array([5, 6, 7], "m8[s]"), "none": [None] * 3,
    }  # fmt: skip
    data = from_table(table)
    assert data.columns == ["a"]
    left = "left out, since they hold no numbers: note, mixed, complex, when else, none"
    assert data.notes == [left]
    with pytest.raises(ValueError, match="column 'mixed' must be numbers, got an object of type s"):
        from_table(table, ["mixed"])
    with pytest.raises(ValueError, match="column 'note' must be numbers"):
        from_table(table, "note")


def test_integers_that_float64_rounds_are_noted():
    big = [2**53 + 1, 2, 3]
    for data in (Series(big, ["id"]), from_table({"id": big}), from_table({"id": np.array(big)})):
        assert data.notes == ["id: integers beyond 2**53 are rounded to float64"]


def test_an_index_that_is_no_time_is_noted_and_one_of_several_levels_refused():
    assert from_table(Frame(Index(range(4, 7)), a=[1, 2, 3])).notes == []  # part of a frame
    assert from_table(Frame(Index([5, 9, 1]), a=[1, 2, 3])).notes == [
        "the index holds no times and is left out"
    ]
    assert from_table(Frame(Index(["x", "y", "z"], "city"), a=[1, 2, 3])).notes == [
        "the index 'city' holds no times and is left out"
    ]
    data = from_table(Frame(Index(["2024-01-01", "2024-01-02", "2024-01-03"]), a=[1, 2, 3]))
    assert data.clock.step_name == "1 day"
    assert from_table(Frame(Index([2001, 2002, 2003], "year"), a=[1, 2, 3])).clock.unit == "M"
    with pytest.raises(ValueError, match=r"one level, got 2 \(several series\?\)"):
        from_table(Frame(Index([1, 2, 3], nlevels=2), a=[1, 2, 3]))


def test_columns_of_one_name_or_of_other_lengths_are_refused():
    with pytest.raises(ValueError, match="two columns '1'; rename one"):
        from_table({1: [1, 2], "1": [3, 4]})
    with pytest.raises(ValueError, match=r"one length, got 3 rows of 'a' and \(2, 1\) of 'b'"):
        from_table({"a": [1, 2, 3], "b": [1, 2]})


def test_a_string_is_one_name_and_not_a_list_of_letters(tmp_path):
    table = {"ab": [1.0, 2.0, 3.0], "a": [4.0, 5.0, 6.0], "b": [7.0, 8.0, -2.0]}
    assert from_table(table, "ab").columns == ["ab"]
    data = from_table(table)
    assert data.places("ab") == [0]
    path = tmp_path / "a.csv"
    path.write_text("ab,a,b\n1,4,7\n2,-20,8\n3,2,0\n")
    assert read_csv(path, "ab").columns == ["ab"]
    # "-20" once made "-", "2" and "0" missing
    assert_close(read_csv(path, missing="-20")["a"], np.array([4, np.nan, 2]), "exact")
    assert_close(read_csv(path, missing=-20)["a"], np.array([4, np.nan, 2]), "exact")
    assert series.Forecaster("ab", past="b", known="a").columns == ["ab", "b", "a"]
    for wrong in (lambda: from_table(table, [None]), lambda: data.places([["a"]]),
                  lambda: read_csv(path, [b"ab"])):  # fmt: skip
        with pytest.raises(TypeError, match="columns must be names"):
            wrong()


def test_frames_of_pandas_lose_nothing():
    pd = pytest.importorskip("pandas", reason="needs pandas")
    hours = pd.date_range("2024-10-26 20:00", periods=12, freq="h", tz="Europe/Berlin")
    rows = pd.DataFrame({"a": np.arange(12.0)}, index=hours)
    for data in (
        from_table(rows),
        from_table(rows["a"]),
        Series(rows),
        Series(rows["a"], ["a"]),
        from_table(rows.reset_index()),
        Series(rows["a"].to_numpy(), ["a"], hours),
    ):
        assert repr(data.clock) == "step 1 hour; 2024-10-26 18:00 to 2024-10-27 05:00"
        assert data.columns == ["a"]
    months = pd.period_range("2024-01", periods=5, freq="M")
    by_month = pd.DataFrame({"a": range(5)}, index=months)
    for data in (from_table(by_month), from_table(by_month.reset_index()), Series(by_month),
                 Series(range(5), ["a"], months)):  # fmt: skip
        assert repr(data.clock) == "step 1 month; 2024-01 to 2024-05"
    columns = pd.DataFrame({
        "i": pd.array([1, None, 3], "Int64"), "f": pd.array([1.5, None, 3], "Float64"),
        "b": pd.array([True, None, False], "boolean"), "c": pd.Categorical([3, 4, 5]),
        "s": pd.arrays.SparseArray([0.0, 1.0, 0.0]), "text": list("abc"),
        "kind": pd.Categorical(list("xyz")),
    })  # fmt: skip
    data = from_table(columns)
    nan = np.nan
    expected = [[1, 1.5, 1, 3, 0], [nan, nan, nan, 4, 1], [3, 3, 0, 5, 0]]
    assert_close(data.values, np.array(expected), "exact")
    assert data.notes[0] == "left out, since they hold no numbers: text, kind"
    with pytest.raises(ValueError, match="two columns 'a'"):
        from_table(pd.DataFrame([[1, 2], [3, 4]], columns=["a", "a"]))
    with pytest.raises(ValueError, match="one level, got 2"):
        from_table(rows.set_index(hours.day, append=True))


# ---------------------------------------------------------------------------------- CSV: numbers


def write(tmp_path, text):
    path = tmp_path / "a.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


NUMBERS = {
    "t;a\n1;1.175,50\n2;12": 1175.5,
    "t;a\n1;1.175.000\n2;12": 1175000,
    "t;a;b\n1;1.175;1,5\n2;2.350;2": 1175,  # the other column is German
    "t;a;b\n1;1.175;1.5\n2;2.350;2": 1.175,  # and here it is not
    "t;a\n1;1.175\n2;0.350": 1.175,  # nobody writes a group after a zero
    't,a\n1,"2,165.03"\n2,12': 2165.03,
    't,a\n1,"2,165,000"\n2,12': 2165000,
    't,a\n1,"-2,165"\n2,"3,100.5"': -2165,
    't,a\n1,"1,5"\n2,"12,25"': 1.5,
    "t,a\n1,1.175\n2,1.200": 1.175,  # commas part the columns: no doubt
    "t\ta\n1\t+1.175,5\n2\t12": 1175.5,
    "t|a\n1|1e3\n2|12": 1000,
}


@pytest.mark.parametrize("text", NUMBERS)
def test_a_column_is_read_in_the_one_way_that_all_of_its_numbers_allow(tmp_path, text):
    assert read_csv(write(tmp_path, text))["a"][0] == NUMBERS[text]


@pytest.mark.parametrize(
    ("text", "read", "decimal_", "thousands"),
    [("t;a\n1;1.175\n2;12", 1.175, ",", "."), ('t,a\n1,"2,165"\n2,12', 2165, ".", ","),
     ("t;a\n1;2,165\n2;12", 2.165, ",", "."), ("t\ta\n1\t1.175\n2\t12", 1.175, ",", ".")],
)  # fmt: skip
def test_a_column_that_can_be_read_in_two_ways_is_warned_of(
    tmp_path, text, read, decimal_, thousands
):
    path = write(tmp_path, text)
    with pytest.warns(UserWarning, match="column 'a' can be read in two ways") as caught:
        assert read_csv(path)["a"][0] == read
    assert len(caught) == 1 and "\n" not in str(caught[0].message)
    mark = "," if "," in text.splitlines()[1][2:].strip('"') else "."
    as_decimal, as_thousands = {",": (2.165, 2165), ".": (1.175, 1175)}[mark]
    assert read_csv(path, decimal=mark)["a"][0] == as_decimal  # and no warning
    assert read_csv(path, thousands=mark)["a"][0] == as_thousands


def test_marks_that_are_said_are_the_ones_that_hold(tmp_path):
    swiss = write(tmp_path, "t;a\n1;1'175.5\n2;12")
    with pytest.raises(ValueError, match=r"line 2, column 'a': expected a number, got \"1'175.5\""):
        read_csv(swiss, "a")
    assert read_csv(swiss, thousands="'")["a"][0] == 1175.5
    french = write(tmp_path, "t;a\n1;1\u202f175,5\n2;12")
    assert read_csv(french, thousands=" ")["a"][0] == 1175.5
    german = write(tmp_path, "t;a\n1;1.5\n2;12")
    with pytest.raises(ValueError, match=r"a number like 2\.165,03 is understood"):
        read_csv(german, "a", decimal=",")
    for settings, sentence in (({"decimal": ";"}, "decimal must be"), ({"thousands": "x"}, "must be"
                               ), ({"decimal": ".", "thousands": "."}, "must differ")):  # fmt: skip
        with pytest.raises(ValueError, match=sentence):
            read_csv(german, **settings)


def test_the_command_has_the_marks_as_options_and_warns_on_standard_error(tmp_path, capsys):
    rows = "".join(f"{i};{1000 + i}\n".replace(f";{1000 + i}", f";1.{i:03}") for i in range(60))
    path = str(write(tmp_path, "t;a\n" + rows))
    options = ["forecast", path, "--target", "a", "--horizon", "2", "--units", "2", "--epochs", "1"]
    assert main(options) == 0
    out, err = capsys.readouterr()
    assert "can be read in two ways, and 1.000 was read as 1" in err and err.count("\n") == 1
    assert "two ways" not in out
    assert main([*options, "--thousands", "."]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert re.search(r"\b10[56]\d\.\d", out.split("interval\n")[1])


# ------------------------------------------------------------------------------------ CSV: files


FILES = {
    b"": "the file is empty",
    b"\n\n": "the file is empty",
    b"a,b\n": "a header and nothing below it",
    b"a,b\n1,2\n": "a single row of data",
    b"1,2\n3,4\n": "must be a header",
    b"a,b\n1,2,\n3,4,\n": "line 2 has 3 cells, the header has 2",
    "a,b\n1,2\n3,4\n".encode("utf-16-le"): "this is no text",
    b"\xff\xfea\0,\0b": "damaged|nothing below it",
    b"\xff\xfea": "marked as UTF-16 and damaged",
    b"\x1f\x8b\x08damaged": "gzipped and damaged",
    gzip.compress(b"a,b\n1,2\n3,4\n")[:-9] + b"123456789": "gzipped and damaged",
    b'a,b\n"' + b"x" * 200_000 + b'",2\n': "field larger than field limit",
    b"date,a\n\xc2\xb2,1\n3,2\n": "row 1: '\u00b2' is not a date",
    b"a,a\n1,2\n3,4\n": "two columns 'a'; rename one",
    b"a,b\n1,inf\n2,3\n": "column 'b' holds an infinity",
}


@pytest.mark.parametrize("data", FILES, ids=lambda data: repr(data)[:30])
def test_a_file_that_is_no_table_gets_one_sentence(tmp_path, data):
    path = write(tmp_path, data)
    with pytest.raises(ValueError, match=FILES[data]) as caught:
        read_csv(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_and_ends_of_lines(tmp_path, encoding, end):
    text = end.join(['"größe;1";b', "1;2", "", "3;4", ""])
    data = read_csv(write(tmp_path, text.encode(encoding)))
    assert data.columns == ["größe;1", "b"]
    assert data.values.tolist() == [[1, 2], [3, 4]]


def test_a_header_of_many_columns_takes_no_quadratic_time(tmp_path):
    """400,000 columns took over 30 s: every layout of a date was tried on every name."""
    n = 60_000
    names = [f"c{i}" for i in range(n)]
    head, rows = ",".join(names), "\n".join(",".join([str(i)] * n) for i in (1, 2))
    began = time.process_time()
    data = read_csv(write(tmp_path, f"{head}\n{rows}\n"))
    assert data.places(names) == list(range(n))
    assert len(repr(data)) < 300
    with pytest.raises(ValueError, match=f"and {n - 12:,} more"):
        read_csv(tmp_path / "a.csv", "nothing like it")
    with pytest.raises(ValueError, match="two columns 'c7'"):
        read_csv(
            write(tmp_path, f"{head},c7\n" + "\n".join(",".join(["1"] * (n + 1)) for _ in "ab"))
        )
    assert time.process_time() - began < 30  # some two; quadratic, it takes minutes


def test_no_device_and_no_silent_pipe_is_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="a pipe that nobody writes to"):
        read_csv(tmp_path / "pipe")
    with pytest.raises(ValueError, match="expected a regular file"):
        read_csv("/dev/zero")
    assert main(["forecast", "/dev/zero", "--target", "a"]) == 2
    assert main(["forecast", str(tmp_path / "pipe"), "--target", "a"]) == 2


# ---------------------------------------------------------------------------------------- options


BOUNDS = (
    "--horizon 0", "--horizon 1000000000", "--season 0", "--season 99999999999", "--lookback 1",
    "--lookback 1000000000", "--units 0", "--units 1000000000", "--layers 0", "--layers 1000000",
    "--dropout 1", "--dropout nan", "--epochs 0", "--epochs 99999999999", "--test 0", "--test 1",
    "--test nan", "--stride 0", "--stride 1000000000000", "--refit-every 0", "--interval 0",
    "--interval 1", "--interval nan", "--seed -1", "--save nowhere/a", "--output nowhere/a",
    "--plot nowhere/a",
)  # fmt: skip


@pytest.mark.parametrize("option", BOUNDS)
def test_every_option_of_forecast_has_bounds(option, capsys):
    assert main(["forecast", "--demo", *option.split()]) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence.startswith(f"gru-np forecast: {option.split()[0]} must be ")


# ------------------------------------------------------------------------------------------ sweep


@pytest.fixture(scope="module")
def forecaster():
    return series.Forecaster("x", horizon=2, units=3, epochs=1).fit(series.mackey_glass(80))


class Looks:
    """Has a length and items without end, and is no array."""

    def __len__(self):
        return 3

    def __getitem__(self, i):
        return self


ODD = [
    None, True, 3, -1, 2.5, 1j, "", "abc", b"ab", [], (), {}, set(), [None], [[]], [[1], [1, 2]],
    ["a"], [b"a"], [True], [1j], [np.nan], [np.inf], [[0.5]], range(3), object(), Looks(),
    np.zeros(0), np.zeros((0, 6)), np.zeros((2, 0)), np.zeros((2, 6)), np.zeros((2, 2, 6)),
    np.array(None), np.array("a"), np.array(["a", None], object), np.datetime64("2024-01-01"),
    np.array(["2024-01-01"], "M8[D]"), np.ma.masked_array([0.5, 1.0], [True, False]),
    np.ones(3, "S1"), np.ones(3, [("a", int)]), np.array([10**30], object), np.full(3, np.inf),
    np.ones((2, 6), ">f4"), np.ones((2, 6), np.float16), np.ones(3, np.longdouble), lambda: 0,
    {"a": [1, 2], "b": "x"}, {"a": 1}, {"a": Looks()}, memoryview(b"abc"), iter([0.5]),
]  # fmt: skip
TWO = np.ones((4, 2))


@pytest.mark.parametrize("name", [
    "Series", "time", "names", "from_table", "columns", "of a dict", "windows", "mae", "crps",
    "levels", "season", "carry", "naive", "origins", "push", "predict", "Forecaster", "quantiles",
    "fit", "missing",
])  # fmt: skip
def test_whatever_is_given_is_taken_or_refused_in_one_sentence(name, forecaster, tmp_path):
    data, scores = series.mackey_glass(90), series.scores
    path = write(tmp_path, "a,b\n1,2\n3,4\n")
    taker = {
        "Series": Series,
        "time": lambda x: Series([1, 2, 3], time=x),
        "names": lambda x: Series(TWO, x),
        "from_table": from_table,
        "columns": lambda x: from_table({"a": [1, 2]}, x),
        "of a dict": lambda x: from_table({"a": x}),
        "windows": lambda x: series.windows(x, 2, 1),
        "mae": lambda x: scores.mae([1.0, 2.0], x),
        "crps": lambda x: scores.crps(x, np.ones((3, 19))),
        "levels": lambda x: scores.quantile_weights([0.1, 0.9], x),
        "season": series.find_season,
        "carry": series.naive.carry,
        "naive": lambda x: series.naive_forecasts(x, [0], 2),
        "origins": lambda x: series.naive_forecasts(TWO, x, 2),
        "push": lambda x: forecaster.stream(data).push(x),
        "predict": lambda x: forecaster.predict(data, x),
        "Forecaster": series.Forecaster,
        "quantiles": lambda x: series.Forecaster("a", quantiles=x),
        "fit": lambda x: series.Forecaster("x").fit(x),
        "missing": lambda x: read_csv(path, missing=x),
    }[name]
    for odd in ODD:
        try:
            taker(odd)
        except (ValueError, TypeError) as error:
            sentence = str(error)
            known = ": " in sentence or sentence.startswith(("there is no column", "expected a g"))
            assert known and "\n" not in sentence, (odd, sentence)


def test_scores_of_two_shapes_are_refused():
    """NumPy makes (3, 3) of (3,) and (3, 1), and a mean of it."""
    y = np.array([1.0, 2.0, 4.0])
    for score in (series.scores.mae, series.scores.rmse, series.scores.smape):
        with pytest.raises(ValueError, match=r"x must have the shape of y, \(3,\), got \(3, 1\)"):
            score(y, y[:, None])
    assert series.scores.mae([1, 2, 4], [1, 2, 1]) == 1.0


def test_settings_of_a_forecaster_have_bounds():
    for name, wrong in (("dropout", 1.5), ("learning_rate", np.nan), ("learning_rate", 0),
                        ("seed", -1), ("quantiles", [0.1, 1.0]), ("horizon", 0)):  # fmt: skip
        with pytest.raises(ValueError, match=f"Forecaster: {name} must be"):
            series.Forecaster("a", **{name: wrong})
