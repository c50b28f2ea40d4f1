"""What is shown on a console never decides how a run ends, and loses no character."""

import ast
import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gru_np
from gru_np import Dense, Sequential, _console
from gru_np.callbacks import EarlyStopping, ModelCheckpoint, Progress


class Broken(io.StringIO):
    """A stream that refuses."""

    encoding = "utf-8"

    def __init__(self, error, terminal=False):
        super().__init__()
        self.error, self.terminal = error, terminal

    def write(self, text):
        raise self.error

    def isatty(self):
        return self.terminal


def closed():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    stream.close()
    return stream


CONSOLES = {
    "none": lambda: None,
    "closed": closed,
    "reader gone": lambda: Broken(BrokenPipeError(errno.EPIPE, "Broken pipe")),
    "disk full": lambda: Broken(OSError(errno.ENOSPC, "No space left on device")),
    "terminal gone": lambda: Broken(OSError(errno.EIO, "Input/output error"), terminal=True),
    "no stream at all": lambda: object(),
    "ascii": lambda: io.TextIOWrapper(io.BytesIO(), encoding="ascii"),
    "cp1252": lambda: io.TextIOWrapper(io.BytesIO(), encoding="cp1252"),
}


@pytest.mark.parametrize("verbose", ["auto", 1, 2])
@pytest.mark.parametrize("console", CONSOLES)
def test_training_and_judging_need_no_console(console, verbose, monkeypatch, tmp_path):
    model = Sequential([Dense(1)], seed=0, name="модель")  # no console of ours but UTF-8 writes it
    model.compile("mse", "sgd")
    x, y = np.ones((6, 2)), np.ones((6, 1))
    monkeypatch.setattr(sys, "stdout", CONSOLES[console]())
    monkeypatch.setattr(sys, "stderr", CONSOLES[console]())
    saves = ModelCheckpoint(tmp_path / "m.safetensors", verbose=1)
    stops = EarlyStopping("loss", verbose=1, min_delta=1e9)
    history = model.fit(x, y, epochs=3, verbose=verbose, callbacks=[saves, stops])
    assert history.epoch == [0, 1]
    model.evaluate(x, y, verbose=1)
    model.summary()
    assert Sequential.load(tmp_path / "m.safetensors").optimizer.iterations == 2


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_what_a_console_cannot_write_is_written_as_python_would(encoding, monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    _console.say("naïve 日 \udc80")
    written = raw.getvalue().decode(encoding)
    expected = {
        "ascii": "na\\xefve \\u65e5 \\udc80\n",
        "cp1252": "naïve \\u65e5 \\udc80\n",
        "utf-8": "naïve 日 \\udc80\n",
    }
    assert written.replace("\r\n", "\n") == expected[encoding]


@pytest.mark.parametrize("console", ["none", "closed", "reader gone", "disk full"])
def test_what_a_command_was_run_for_must_arrive(console, monkeypatch):
    monkeypatch.setattr(sys, "stdout", CONSOLES[console]())
    with pytest.raises(OSError):
        _console.deliver("the answer")


def test_lines_are_written_above_the_moving_one():
    pytest.importorskip("tqdm")
    terminal = io.StringIO()
    line = _console.MovingLine("Epoch 1/1", 10, terminal)
    line.move_to(3)
    _console.show("saved\n", terminal)
    line.close()
    shown = terminal.getvalue()
    assert "Epoch 1/1" in shown[: shown.index("saved")]
    between = shown[: shown.index("saved")].rsplit("\r", 1)
    assert between[1] == ""  # the line was taken away, and the cursor is at its beginning
    assert "Epoch 1/1" in shown[shown.index("saved") :]
    assert not _console._moving


def test_nothing_else_writes_to_the_console():
    """Only `_console` knows sys.stdout and sys.stderr; others may pass them on to it."""
    allowed = {("callbacks/progress.py", "stdout"), ("model.py", "stderr")}
    found = set()
    for path in Path(gru_np.__file__).parent.rglob("*.py"):
        name = path.relative_to(Path(gru_np.__file__).parent).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in ("stdout", "stderr"):
                found.add((name, node.attr))
    assert {one for one in found if one[0] != "_console.py"} <= allowed


def test_compiling_is_no_part_of_an_epochs_speed(monkeypatch):
    """1000 tokens in 2 s, of which 1.5 s went to compiling kernels, are 2000 tokens a second."""
    from gru_np import kernels
    from gru_np.callbacks import progress

    clock, compiled = iter([10.0, 12.0, 12.0]), iter([3.0, 4.5, 4.5])
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(kernels, "compiling_seconds", lambda: next(compiled))
    stream = io.StringIO()
    line = Progress("tokens", bar=False, stream=stream)
    line.params = {"epochs": 1}
    line.on_epoch_begin(0, {})
    line.count = 1000
    line.on_epoch_end(0, {"loss": 1.0})
    expected = "Epoch 1/1 - 2.0s (1.5s compiling) - 2.0k tokens/s - loss: 1.0000\n"
    assert stream.getvalue() == expected


def test_the_time_of_compiling_is_counted():
    pytest.importorskip("numba")
    import numba

    from gru_np import kernels
    from gru_np.kernels import _jit  # noqa: F401 - with it the clock runs

    before = kernels.compiling_seconds()
    assert numba.njit(lambda x: x + 1)(1) == 2
    assert 0 < kernels.compiling_seconds() - before < 60


def run(command, **options):
    environment = {**os.environ, "GRU_NP_KERNELS": "0", "PYTHONIOENCODING": "ascii"}
    return subprocess.run(
        command, shell=True, text=True, capture_output=True, timeout=120, env=environment, **options
    )


@pytest.mark.skipif(os.name == "nt", reason="a shell of POSIX")
@pytest.mark.parametrize(
    ("where", "status"), [(">&-", 0), ("| head -n 1", 0), ("2>&- >&- <&-", 0), ("> /dev/full", 0)]
)
def test_a_training_run_outlives_its_console_and_leaves_its_model(where, status, tmp_path):
    if "full" in where and not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    (tmp_path / "book.txt").write_text("der süße 日 Hase\n" * 300, encoding="utf-8")
    small = "--units 8 --embedding 4 --batch-size 4 --length 16 --epochs 2 --samples 3"
    train = f"{sys.executable} -m gru_np train --text {tmp_path}/book.txt {small}"
    done = run(f"set -o pipefail; {train} --checkpoint {tmp_path}/m.st {where}", executable=BASH)
    assert (done.returncode, done.stderr) == (status, "")
    assert Sequential.load(tmp_path / "m.st").history.epoch == [0, 1]
    generate = f"{sys.executable} -m gru_np generate {tmp_path}/m.st --length 3000"
    done = run(f"set -o pipefail; {generate} 2> /dev/null {where}", executable=BASH)
    # What was asked for and could not be written is an error, but for a reader who has enough.
    assert done.returncode == (0 if "head" in where else 1)
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


BASH = "/bin/bash" if os.path.exists("/bin/bash") else None
