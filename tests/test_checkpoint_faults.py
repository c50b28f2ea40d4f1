"""Saving checkpoints: whatever interrupts it, the old file or the new one is there, whole."""

import errno
import os
import random
import signal
import socket
import stat
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from gru_np import _replace, checkpoint
from gru_np.checkpoint import CheckpointError

pytestmark = pytest.mark.skipif(os.name == "nt", reason="locks and signals of POSIX")

OLD, NEW = {"which": "old"}, {"which": "new"}
ARRAYS = {"W": np.arange(1000.0), "b": np.arange(5, dtype=np.float32)}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "model.safetensors"
    checkpoint.save(path, OLD, ARRAYS)
    return path


def which(path):
    config, arrays = checkpoint.load(path)
    assert arrays["W"][-1] == 999
    return config["which"]


def leftovers(path):
    return sorted(set(os.listdir(path.parent)) - {path.name})


def descriptors():
    return os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else None


# ------------------------------------------------------------------- a fault at each step


def failing(function, fault, at_call):
    """The function, raising at one call; a short write comes before the second."""
    calls = 0

    def wrapped(*arguments, **keywords):
        nonlocal calls
        calls += 1
        if calls == at_call:
            raise fault
        if function is REAL["write"]:
            file, block = arguments
            return function(file, block[: max(1, len(block) // 2)])
        return function(*arguments, **keywords)

    return wrapped


REAL = {name: getattr(os, name) for name in ["open", "write", "fsync", "replace", "scandir"]}
REAL |= {name: getattr(os, name) for name in ["stat", "chmod", "fstat", "urandom", "access"]}

# step: (function of os, which of its calls, what must be there afterwards)
STEPS = {
    "stat of the target": ("stat", 2, "old"),  # the first is isdir of the folder
    "open of the folder": ("open", 1, "old"),
    "open of the temporary file": ("open", 2, "old"),
    "first write": ("write", 1, "old"),
    "write after a short write": ("write", 2, "old"),
    "last write": ("write", 25, "old"),
    "permissions": ("chmod", 1, "old"),
    "flush": ("fsync", 1, "old"),
    "rename": ("replace", 1, "old"),
    "flush of the folder": ("fsync", 2, "new"),
}
FAULTS = [
    OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    OSError(errno.EIO, os.strerror(errno.EIO)),
    OSError(errno.EACCES, os.strerror(errno.EACCES)),
    OSError(errno.EINTR, os.strerror(errno.EINTR)),
    KeyboardInterrupt(),
    MemoryError(),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
@pytest.mark.parametrize("step", STEPS)
def test_a_fault_surfaces_and_leaves_one_whole_file(path, monkeypatch, step, fault):
    name, at_call, remains = STEPS[step]
    path.chmod(0o640)
    before = descriptors()
    with monkeypatch.context() as patch:
        patch.setattr(os, name, failing(REAL[name], fault, at_call))
        patch.setattr(os, "write", failing(REAL["write"], fault, at_call if name == "write" else 0))
        with pytest.raises(type(fault)) as caught:
            checkpoint.save(path, NEW, ARRAYS)
    assert which(path) == remains
    assert leftovers(path) == []
    assert descriptors() == before
    if isinstance(fault, OSError):
        assert caught.value.errno == fault.errno
        assert caught.value.filename == str(path)
        assert os.strerror(fault.errno) in str(caught.value)
        assert ("unchanged" in str(caught.value)) == (remains == "old")
    checkpoint.save(path, NEW, ARRAYS)
    assert which(path) == "new"


@pytest.mark.parametrize("fault", FAULTS[:4], ids=lambda fault: type(fault).__name__)
def test_what_cannot_be_swept_does_not_stop_a_save(path, monkeypatch, fault):
    monkeypatch.setattr(os, "scandir", failing(REAL["scandir"], fault, 1))
    checkpoint.save(path, NEW, ARRAYS)
    assert which(path) == "new"


def test_a_file_system_that_cannot_flush_folders_will_do(path, monkeypatch):
    fault = OSError(errno.EINVAL, "Invalid argument")
    monkeypatch.setattr(os, "fsync", failing(REAL["fsync"], fault, 2))
    checkpoint.save(path, NEW, ARRAYS)
    assert which(path) == "new"


def test_the_steps_come_in_the_order_that_survives_a_power_failure(path, monkeypatch):
    steps = []

    def recorded(name):
        def call(*arguments, **keywords):
            steps.append(name)
            return REAL[name](*arguments, **keywords)

        return call

    for name in ("write", "fsync", "replace"):
        monkeypatch.setattr(os, name, recorded(name))
    checkpoint.save(path, NEW, ARRAYS)
    assert steps == ["write"] * 3 + ["fsync", "replace", "fsync"]


@pytest.mark.skipif(not os.access("/dev/full", os.W_OK), reason="no full device here")
def test_a_full_disk_is_one_sentence(path, monkeypatch):
    full = os.open("/dev/full", os.O_WRONLY)
    monkeypatch.setattr(os, "write", lambda _, block: REAL["write"](full, block))
    with pytest.raises(OSError, match=r"cannot be saved: No space left .* before is unchanged"):
        checkpoint.save(path, NEW, ARRAYS)
    os.close(full)
    assert which(path) == "old" and leftovers(path) == []


# ------------------------------------------------------------------------- where it cannot be


def test_a_missing_folder_is_one_sentence(tmp_path):
    path = tmp_path / "no" / "folder" / "model.safetensors"
    with pytest.raises(FileNotFoundError, match="cannot be saved: there is no folder") as caught:
        checkpoint.save(path, NEW, ARRAYS)
    assert str(path.parent) in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_only_a_regular_file_is_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # names of sockets must be short
    os.mkdir("folder")
    os.mkfifo("fifo")
    kinds = {"folder": "a directory", "fifo": "a FIFO", "socket": "a socket"}
    kinds |= {"/dev/null": "a character device", ".": "a directory"}
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        for path, kind in kinds.items():
            with pytest.raises(CheckpointError, match=f"regular file to replace, found {kind}"):
                checkpoint.save(path, NEW, ARRAYS)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    os.symlink("loop", "loop")
    with pytest.raises(OSError, match="Too many levels"):
        checkpoint.save("loop", NEW, ARRAYS)
    assert sorted(os.listdir()) == ["fifo", "folder", "loop", "socket"]


def test_a_write_protected_file_is_not_replaced(path, monkeypatch):
    path.chmod(0o444)
    if os.geteuid() == 0:  # root may write everything
        monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PermissionError, match=r"file is write-protected; .* before is unchanged"):
        checkpoint.save(path, NEW, ARRAYS)
    assert which(path) == "old" and leftovers(path) == []


def test_a_new_content_is_closed_to_others_until_it_is_complete(path, monkeypatch):
    path.chmod(0o644)
    modes = []

    def write(file, block):
        modes.append(stat.S_IMODE(os.fstat(file).st_mode))
        return REAL["write"](file, block)

    monkeypatch.setattr(os, "write", write)
    checkpoint.save(path, NEW, ARRAYS)
    assert set(modes) == {0o600}
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


# -------------------------------------------------------------------------- temporary files


def temporary(path, text="1234-0123456789abcdef"):
    return path.parent / f".gru_np-{text}.tmp"


def test_temporary_files_of_the_dead_are_swept(path):
    temporary(path).write_bytes(b"half a checkpoint")
    assert _replace._TEMPORARY.fullmatch(temporary(path).name)
    checkpoint.save(path, NEW, ARRAYS)
    assert leftovers(path) == []


def test_temporary_files_of_the_living_stay(path):
    program = """
        import fcntl, sys, time
        file = open(sys.argv[1], "w")
        fcntl.flock(file, fcntl.LOCK_EX)
        print("locked", flush=True)
        time.sleep(60)
    """
    # Another checkpoint of the same folder, and a process number that is nobody's.
    mine = temporary(path, "999999999-0123456789abcdef")
    writer = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), str(mine)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with writer:
        assert writer.stdout.readline() == "locked\n"
        checkpoint.save(path, NEW, ARRAYS)
        assert leftovers(path) == [mine.name]
        writer.kill()
    checkpoint.save(path, NEW, ARRAYS)
    assert leftovers(path) == []


def test_a_save_under_way_is_not_swept(path, monkeypatch):
    def sweep_and_write(file, block):
        _replace._sweep(str(path.parent))
        return REAL["write"](file, block)

    monkeypatch.setattr(os, "write", sweep_and_write)
    checkpoint.save(path, NEW, ARRAYS)
    assert which(path) == "new"


def test_only_our_temporary_files_are_swept(path):
    others = [".gru_np.tmp", ".gru_np-1-xyz.tmp", "x.gru_np-1-0123456789abcdef.tmp", "a.tmp"]
    for name in others:
        (path.parent / name).write_bytes(b"")
    secret = path.parent / "secret"
    secret.write_bytes(b"")
    temporary(path, "1-1111111111111111").mkdir()
    temporary(path, "2-2222222222222222").symlink_to(secret)
    os.mkfifo(temporary(path, "3-3333333333333333"))
    before = leftovers(path)
    checkpoint.save(path, NEW, ARRAYS)
    assert leftovers(path) == before


def test_without_locks_age_decides(path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(_replace.fcntl, "flock", flock)
    young, old = temporary(path, "1-1111111111111111"), temporary(path, "2-2222222222222222")
    for file in (young, old):
        file.write_bytes(b"")
    two_hours_ago = time.time() - 7200
    os.utime(old, (two_hours_ago, two_hours_ago))
    checkpoint.save(path, NEW, ARRAYS)
    assert which(path) == "new" and leftovers(path) == [young.name]


def test_a_temporary_file_swept_before_it_was_locked_is_made_again(path, monkeypatch):
    made = []

    def open_and_lose(name, flags, mode=0o777):
        file = REAL["open"](name, flags, mode)
        if flags & os.O_CREAT:
            made.append(name)
            if len(made) < 3:
                os.unlink(name)  # as another process does that found it unlocked
        return file

    monkeypatch.setattr(os, "open", open_and_lose)
    before = descriptors()
    checkpoint.save(path, NEW, ARRAYS)
    assert len(set(made)) == 3
    assert which(path) == "new" and leftovers(path) == []
    assert descriptors() == before


def test_without_fcntl_saving_and_sweeping_still_work(path, monkeypatch):
    """As on Windows, where this module does not exist."""
    monkeypatch.setattr(_replace, "fcntl", None)
    monkeypatch.delattr(os, "O_DIRECTORY", raising=False)
    temporary(path).write_bytes(b"")
    checkpoint.save(path, NEW, ARRAYS)
    assert which(path) == "new" and leftovers(path) == []


# ------------------------------------------------------------------------- kill and contention

WRITER = """
    import sys
    import numpy as np
    from gru_np import checkpoint

    path, name = sys.argv[1:]
    W = np.arange(250_000.0)
    print("ready", flush=True)
    for count in range(1_000_000):
        checkpoint.save(path, {"which": name, "count": count}, {"W": W + count, "v": W})
"""


def start_writer(path, name="writer"):
    writer = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITER), str(path), name],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert writer.stdout.readline() == "ready\n"
    return writer


def load_whole(path):
    """Load, and check that config and arrays are of one and the same save."""
    config, arrays = checkpoint.load(path)
    assert arrays["W"][0] == config["count"] and arrays["W"][-1] == 249_999 + config["count"]
    return config


def test_twenty_kills_leave_whole_checkpoints_and_nothing_stale_after_the_next_save(tmp_path):
    path = tmp_path / "model.safetensors"
    dice = random.Random(3)
    checkpoint.save(path, {"count": 0}, {"W": np.arange(250_000.0)})
    stale = 0
    for _ in range(20):
        with start_writer(path) as writer:
            time.sleep(dice.uniform(0, 0.1))
            writer.send_signal(signal.SIGKILL)
        load_whole(path)
        stale += len(leftovers(path))
        checkpoint.save(path, {"count": 0}, {"W": np.arange(250_000.0)})
        load_whole(path)
        assert leftovers(path) == []
    assert stale > 0  # or this test has not tested the sweep


def test_readers_and_two_writers_see_whole_files_only(tmp_path):
    path = tmp_path / "model.safetensors"
    checkpoint.save(path, {"count": 0}, {"W": np.arange(250_000.0)})
    seen = set()
    with start_writer(path, "one") as one, start_writer(path, "two") as two:
        end = time.monotonic() + 30
        for _ in range(150):
            config = load_whole(path)
            seen.add((config.get("which"), config["count"]))
        while {name for name, _ in seen} < {"one", "two"} and time.monotonic() < end:
            config = load_whole(path)
            seen.add((config.get("which"), config["count"]))
        assert one.poll() is None and two.poll() is None  # neither met an error
        one.kill()
        two.kill()
    assert {"one", "two"} <= {name for name, _ in seen}
    assert len(seen) > 10


# ------------------------------------------------------------------ what belongs to the old file


def test_a_rename_that_was_done_and_reported_as_failed_is_told_as_what_it_is(path, monkeypatch):
    """As of a network file system whose answer was lost: the sentence says which file is there."""

    def replace(source, target):
        REAL["replace"](source, target)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OSError, match="the new file is in place, but might not outlast"):
        checkpoint.save(path, NEW, ARRAYS)
    assert which(path) == "new" and leftovers(path) == []


def test_a_rename_that_failed_where_nothing_was_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "replace", failing(REAL["replace"], OSError(errno.EIO, "error"), 1))
    with pytest.raises(OSError, match="no file is there"):
        checkpoint.save(tmp_path / "new", NEW, ARRAYS)
    assert os.listdir(tmp_path) == []


def test_a_rename_whose_outcome_cannot_be_seen_is_told_as_unknown(path, monkeypatch):
    error = OSError(errno.EIO, "error")

    def replace(source, target):
        monkeypatch.setattr(os, "stat", failing(REAL["stat"], error, 1))
        raise error

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OSError, match="it is not known whether the old or the new file"):
        checkpoint.save(path, NEW, ARRAYS)


def test_a_path_that_ends_like_a_folders_is_refused(path):
    with pytest.raises(OSError, match="the path is that of a folder"):
        checkpoint.save(f"{path}/", NEW, ARRAYS)
    with pytest.raises(OSError, match="the path is that of a folder"):
        checkpoint.save(f"{path.parent}/new/", NEW, ARRAYS)
    assert which(path) == "old" and leftovers(path) == []


@pytest.mark.skipif(not hasattr(os, "setxattr"), reason="no extended attributes")
def test_extended_attributes_are_kept(path):
    try:
        os.setxattr(path, "user.origin", b"a laboratory")
    except OSError:
        pytest.skip("a file system without extended attributes")
    checkpoint.save(path, NEW, ARRAYS)
    assert which(path) == "new" and os.getxattr(path, "user.origin") == b"a laboratory"


def test_root_leaves_a_file_to_its_owner(path, monkeypatch):
    """Who is not root cannot give files away: then the calls are looked at alone."""
    calls = []
    owner = 12345
    if os.geteuid() == 0:
        os.chown(path, owner, owner + 1)
        path.chmod(0o640)
        checkpoint.save(path, NEW, ARRAYS)
        status = path.stat()
        assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (owner, owner + 1, 0o640)

    def chown(file, uid, gid):
        calls.append((uid, gid))
        raise PermissionError(errno.EPERM, "not allowed")

    monkeypatch.setattr(os, "chown", chown)
    old = os.stat_result((stat.S_IFREG | 0o600, 1, 1, 1, owner, owner + 1, 0, 0, 0, 0))
    _replace._take_after(old, str(path), str(path), path.parent.stat())
    assert calls == [(owner, owner + 1), (-1, owner + 1)]  # the whole, then as much as is allowed
