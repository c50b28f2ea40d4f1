"""The kinds of options, and files that the command line reads and writes."""

import argparse
import gzip
import os
import threading

import pytest

from gru_np import _files, _options, cli, text
from gru_np._options import OptionError, Parser


def parse(kind, value):
    parser = Parser(prog="prog")
    parser.add_argument("--option", type=kind)
    return parser.parse([f"--option={value}"]).option


@pytest.mark.parametrize(
    ("kind", "value", "sentence"),
    [
        (_options.integer(1, 1000), "0", "--option must be at least 1, got 0"),
        (_options.integer(1, 1000), "1001", "--option must be at most 1,000, got 1001"),
        (_options.integer(1, 1000), "2.5", "--option must be an integer, got 2.5"),
        (_options.integer(1, 1000), "", "--option must be an integer, got ''"),
        (_options.integer(1, 1000), "9" * 5000, "--option must be an integer, got 999"),
        (_options.number(0), "nan", "--option must be at least 0 and finite, got nan"),
        (_options.number(0), "inf", "--option must be at least 0 and finite, got inf"),
        (_options.number(0), "1e999", "--option must be at least 0 and finite, got 1e999"),
        (_options.share, "1", "--option must be above 0 and below 1, got 1"),
        (_options.rate, "1", "--option must be at least 0 and below 1, got 1"),
        (_options.rate, "日", "--option must be a number, got '日'"),
    ],
)
def test_a_number_out_of_bounds_is_one_sentence(kind, value, sentence):
    with pytest.raises(OptionError) as error:
        parse(kind, value)
    assert str(error.value).startswith(f"prog: {sentence}") and len(str(error.value)) < 200


def test_bounds_belong_to_what_they_bound():
    assert parse(_options.integer(1, 1000), "1000") == 1000 and parse(_options.rate, "0") == 0
    assert parse(_options.number(0, 1, "("), "1") == 1.0


def test_two_dashes_are_no_traceback():
    parser = Parser(prog="prog")
    parser.add_argument("--option")
    with pytest.raises(OptionError, match="an option's value must not be --"):
        parser.parse(["--option=--"])


def test_a_place_to_write_to_is_looked_at_before_the_work(tmp_path):
    assert _options.output(str(tmp_path / "new")) == str(tmp_path / "new")
    (tmp_path / "file").touch()
    assert _options.output(str(tmp_path / "file"))
    bad = {
        "": "must name a file",
        "x" * 5000: "must be a path",
        "a\0b": "must be a path",
        f"{tmp_path}/file/": "got the folder",
        str(tmp_path): "got the folder",
        f"{tmp_path}/no/file": "in a folder that exists",
        os.devnull: "must name a regular file",
    }
    for path, sentence in bad.items():
        with pytest.raises(argparse.ArgumentTypeError, match=sentence):
            _options.output(path)


KINDS = {
    "count": _options.integer(1, 9), "rate": (_options.rate, None), "flag": (False, True),
    "word": ("a", "b"),
}  # fmt: skip
RIGHT = {"count": 3, "rate": 0.5, "flag": True, "word": "a"}


def test_settings_of_a_run_are_the_known_ones_of_their_kinds():
    extra = RIGHT | {"run": "os.system", "checkpoint": "/etc/passwd"}
    assert _options.take_run("f", extra, KINDS) == RIGHT
    assert _options.take_run("f", RIGHT | {"rate": None}, KINDS)["rate"] is None


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    "value", [10, 0, -1, 1.5, float("nan"), float("inf"), "c", [], {}, "3", [3], 10**30, True]
)
def test_settings_of_a_run_of_another_kind_are_refused(name, value):
    if (name, value) == ("flag", True) or (name, value) == ("rate", 0):
        return  # these are of the kind
    with pytest.raises(ValueError, match=f"^f: the run's setting {name} has no meaning"):
        _options.take_run("f", RIGHT | {name: value}, KINDS)


@pytest.mark.parametrize("run", [None, [], "run", 3])
def test_settings_that_are_none_are_refused(run):
    with pytest.raises(ValueError, match="no settings of a run"):
        _options.take_run("f", run, KINDS)


# ------------------------------------------------------------------------------------ files


posix = pytest.mark.skipif(os.name == "nt", reason="pipes and devices of POSIX")


@posix
def test_a_pipe_that_nobody_writes_to_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for read in (text.read_text, text.load_vectors):
        with pytest.raises(ValueError, match="a pipe that nobody writes to"):
            read(tmp_path / "pipe")


@posix
def test_a_pipe_is_read_to_its_end(tmp_path):
    """As of a shell's `<(zcat book.gz)`: the writer is there and takes its time."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    keep = os.open(path, os.O_RDWR)

    def write():
        for _ in range(50):
            os.write(keep, b"word 0.5 1.5\n" * 1000)
        os.close(keep)

    writer = threading.Thread(target=write)
    writer.start()
    assert len(_files.read_input(path)) == 13 * 50_000
    writer.join()


@posix
@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/dev/urandom"])
def test_a_device_is_no_text(path):
    with pytest.raises(ValueError, match="expected a regular file, found a character device"):
        text.read_text(path)
    with pytest.raises(ValueError, match="expected a regular file, found a character device"):
        text.load_vectors(path)


def test_a_file_beyond_the_limit_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "huge"
    with open(path, "wb") as file:
        file.truncate(2**42)  # a hole: it takes no room
    with pytest.raises(ValueError, match="expected at most 2,147,483,648 bytes, found 4,398,"):
        text.read_text(path)
    with pytest.raises(ValueError, match="expected at most 10 bytes"):
        _files.read_input(__file__, 10)


@posix
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="no /proc")
def test_a_file_of_the_system_without_a_size_is_read():
    assert b"Name:" in _files.read_input("/proc/self/status")
    with pytest.raises(ValueError, match="found more"):
        _files.read_input("/proc/self/status", 10)


def test_packed_vectors_are_read_and_closed(tmp_path):
    path = tmp_path / "v.gz"
    path.write_bytes(gzip.compress(b"the 1 2\ncat 3 4\n"))
    assert text.load_vectors(path).weights.tolist() == [[1, 2], [3, 4]]


FORECAST = ["forecast", "data.csv", "--target", "x"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*FORECAST, "--output", "data.csv"], "got data.csv, which is read"),
        ([*FORECAST, "--save", "./data.csv"], "got ./data.csv, which is read"),
        (["forecast", "data.csv", "--model", "m", "--output", "m"], "got m, which is read"),
        ([*FORECAST, "--save", "a", "--output", "a"], "got a, twice"),
        (["train", "--text", "b.txt", "data.csv", "--checkpoint", "data.csv"], "which is read"),
        (["train", "--text", "data.csv", "--log", "link.csv"], "got link.csv, which is read"),
        (["train", "--vectors", "data.csv", "--best", "data.csv"], "which is read"),
        (["train", "--checkpoint", "c", "--best", "c"], "got c, twice"),
        (["train", "--log", "gru-np.safetensors"], "got gru-np.safetensors, twice"),
        (["transcribe", "a.png", "--plot", "a.png"], "which is read"),
        (["export", "model.py", "model.py"], "which is read"),
        (["convert", "model.keras", "model.keras"], "which is read"),
        (["gates", "a.png", "--text", "a", "--out", "a.png"], "which is read"),
        ([*FORECAST, "--plot", "a.foo"], "--plot must end in .png"),
        ([*FORECAST, "--plot", "picture"], "--plot must end in .png"),
        (["transcribe", "--demo", "--plot", "a.txt"], "--plot must end in .png"),
        (["gates", "m", "--text", "a", "--out", "a.safetensors"], "--out must end in .png"),
    ],
)
def test_no_command_writes_over_its_other_files(arguments, message, tmp_path, monkeypatch, capsys):
    # A forecast written over its data, or a model over its text, is a loss nobody asked for.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.csv").write_text("time,x\n2024-01-01,1\n")
    (tmp_path / "link.csv").symlink_to("data.csv")
    assert cli.main(arguments) == 2
    assert message in capsys.readouterr().err
    assert (tmp_path / "data.csv").read_text() == "time,x\n2024-01-01,1\n"


@pytest.mark.parametrize("resume", [[], ["--resume"]])
def test_a_checkpoint_that_is_read_to_go_on_is_one_file_of_the_command(resume, tmp_path):
    options = ["train", "--checkpoint", str(tmp_path / "c"), "--best", str(tmp_path / "b"), *resume]
    assert cli.build_parser().parse(options).resume is bool(resume)
