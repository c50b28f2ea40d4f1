"""Compiled kernels on disk: code, so only from safe places and whole; never the end of a call."""

import os
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from gru_np import kernels

pytest.importorskip("numba", reason="the compiled kernels need numba", exc_type=ImportError)

from gru_np.kernels import _cache

ROOT = Path(kernels.__file__).parents[2]
CACHE = """
    import numpy as np
    from gru_np.kernels import recurrence as kernel
    packed = np.full(3 * 16 * 6, np.nan, "f4")
    w, b = np.ones((6, 2), "f4"), np.ones(0, "f4")
    kernel.pack_forward(w, w, b, b, 2, 2, True, packed)
    print(sum(kernel.pack_forward.stats.cache_hits.values()), int(np.nansum(packed)))
"""
ANEW, FOUND = ["0", "24"], ["1", "24"]
posix = pytest.mark.skipif(os.name != "posix", reason="modes of files mean something on POSIX only")


def run(code, cwd=ROOT, **environment):
    """Run code in a fresh interpreter; what it printed, and what it said on stderr."""
    settings = {**os.environ, "PYTHONPATH": str(cwd), "GRU_NP_CACHE": "1", **environment}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=cwd, env=settings, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.split(), done.stderr


def copy_of_package(folder):
    """Copy what the kernels need to a folder, without compiled files."""
    for path in (ROOT / "gru_np").rglob("*.py"):
        target = folder / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    return folder


@pytest.fixture
def places(tmp_path):
    """Environment in which the cache is one folder, and the user's own another; both are new."""
    given, home = tmp_path / "given", tmp_path / "home"
    return given, home, {"NUMBA_CACHE_DIR": str(given), "XDG_CACHE_HOME": str(home)}


def kept(folder):
    """The one file of `CACHE` that is kept below a folder."""
    (file,) = folder.glob("gru_np-*/recurrence.pack_forward.*.kernel")
    return file


def test_a_change_in_any_source_compiles_again_and_leaves_nothing_stale(tmp_path, places):
    package = copy_of_package(tmp_path / "package")
    given, _, environment = places
    assert run(CACHE, package, **environment) == (ANEW, "")
    assert run(CACHE, package, **environment) == (FOUND, "")
    for name in ("equations.py", "kernels/matmul.py"):
        source = package / "gru_np" / name
        source.write_text(source.read_text(encoding="utf-8") + "\n# changed\n", encoding="utf-8")
        assert run(CACHE, package, **environment)[0] == ANEW
        kept(given)


def test_a_changed_equation_is_seen(tmp_path, places):
    package = copy_of_package(tmp_path / "package")
    code = """
    import numpy as np
    from gru_np import kernels
    rng = np.random.default_rng(0)
    x, W_ih, W_hh = (rng.standard_normal(s).astype("f4") for s in [(6, 8, 2), (12, 2), (12, 4)])
    print(kernels.gru_forward(x, None, W_ih, W_hh, None, None)[0][1:].any())
    """
    assert run(code, package, **places[2])[0] == ["True"]
    source = package / "gru_np" / "equations.py"
    text = source.read_text(encoding="utf-8")
    line = "h_next = (1 - z) * n + z * h"
    assert text.count("    " + line) >= 2
    source.write_text(text.replace("    " + line, "    h_next = 0 * (n + z * h)"), encoding="utf-8")
    assert run(code, package, **places[2])[0] == ["False"]


def test_a_damaged_file_is_compiled_anew_and_replaced(places):
    given, _, environment = places
    run(CACHE, **environment)
    file = kept(given)
    for cut in (-1, 40):
        file.write_bytes(file.read_bytes()[:cut])
        assert run(CACHE, **environment) == (ANEW, "")
    assert run(CACHE, **environment) == (FOUND, "")


def test_a_file_is_read_whole_and_under_its_own_name_only(tmp_path):
    file, key = tmp_path / "a.kernel", b"name and signature"
    _cache._write(file, key, b"compiled code")
    whole = file.read_bytes()
    assert _cache._read(file, key) == b"compiled code"
    assert _cache._read(file, b"another kernel") is None
    flipped = [
        whole[:i] + bytes([byte ^ 1 << i % 8]) + whole[i + 1 :] for i, byte in enumerate(whole)
    ]
    for damaged in [*flipped, *(whole[:i] for i in range(len(whole))), whole + b"\0"]:
        file.write_bytes(damaged)
        assert _cache._read(file, key) is None


def test_a_file_that_cannot_be_read_or_replaced_ends_no_call(places):
    given, _, environment = places
    run(CACHE, **environment)
    file = kept(given)
    file.unlink()
    file.mkdir()
    out, said = run(CACHE, **environment)
    assert out == ANEW
    assert said.count("\n") == 1 and "compiled kernels cannot be kept in" in said


@posix
def test_a_file_that_others_could_write_is_not_run(places):
    given, _, environment = places
    run(CACHE, **environment)
    kept(given).chmod(0o666)
    assert run(CACHE, **environment)[0] == ANEW
    assert stat.S_IMODE(kept(given).stat().st_mode) & 0o022 == 0
    assert run(CACHE, **environment)[0] == FOUND


@posix
@pytest.mark.parametrize("mode", [0o777, 0o775])
def test_a_folder_that_others_can_write_is_not_used(mode, places):
    given, home, environment = places
    run(CACHE, **environment)
    folder = kept(given).parent
    folder.chmod(mode)
    out, said = run(CACHE, **environment)
    assert out == ANEW
    assert said.count("\n") == 1 and f"others can write to {folder}" in said
    # the user's own folder stands in, and is nobody else's
    assert stat.S_IMODE(kept(home).parent.stat().st_mode) == 0o700
    assert run(CACHE, **environment)[0] == FOUND


@posix
def test_a_folder_that_others_can_replace_is_not_used(places):
    given, home, environment = places
    given.mkdir()
    given.chmod(0o777)
    out, said = run(CACHE, **environment)
    assert out == ANEW and f"others can write to {given}" in said
    kept(home)
    given.chmod(0o1777)  # as /tmp: nobody can move what is another's
    assert run(CACHE, **environment) == (FOUND, "")


@posix
def test_without_a_place_for_the_cache_kernels_still_compile_and_say_so_once(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    nowhere = {"NUMBA_CACHE_DIR": str(file / "a"), "XDG_CACHE_HOME": str(file / "b")}
    out, said = run(CACHE, **nowhere)
    assert out == ANEW
    assert said.count("set NUMBA_CACHE_DIR to a folder that nobody but you can write to") == 1
    # pythonw and services have no stderr
    assert run("import sys; sys.stderr = None\n" + textwrap.dedent(CACHE), **nowhere)[0] == ANEW
    assert run(CACHE, **nowhere, GRU_NP_CACHE="0") == (ANEW, "")


@posix
def test_a_full_disk_under_the_cache_ends_no_call(places):
    given, _, environment = places
    full = """
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    """
    out, said = run(textwrap.dedent(full) + textwrap.dedent(CACHE), **environment)
    assert out == ANEW and said.count("compiled kernels cannot be kept in") == 1
    assert not list(given.glob("gru_np-*/*"))  # no piece of a file is left


def test_what_lies_in_a_folder_of_somebody_elses_is_found_by_who_may_only_read_it(places):
    _, home, environment = places
    run(CACHE, **environment)
    code = "import os; os.access = lambda *args: False\n" + textwrap.dedent(CACHE)
    assert run(code, **environment) == (FOUND, "")
    assert not list(home.glob("gru_np-*/*"))


def test_with_numba_told_to_compile_nothing_numpy_runs():
    code = """
    import numpy as np
    from gru_np import kernels
    x, W_ih, W_hh = (np.ones(s, "f4") for s in [(6, 8, 2), (12, 2), (12, 4)])
    h, saved = kernels.gru_forward(x, None, W_ih, W_hh, None, None)
    print(kernels.available(), kernels.warmup(), type(saved).__module__, h.shape)
    """
    expected = ["False", "False", "gru_np.recurrence", "(7,", "8,", "4)"]
    assert run(code, NUMBA_DISABLE_JIT="1")[0] == expected
    assert run(code, NUMBA_DISABLE_JIT="0")[0][0] == "True"
    before = "import numba; numba.config.DISABLE_JIT = 1\n" + textwrap.dedent(code)
    assert run(before)[0] == expected


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("seconds", [0.02, 0.2])
def test_a_child_forked_while_kernels_are_loaded_does_not_hang(seconds):
    code = f"""
    import os, signal, threading, time, warnings
    import numpy as np
    from gru_np import kernels
    warnings.simplefilter("ignore", DeprecationWarning)  # of fork beside threads
    x, W_ih, W_hh = (np.ones(s, "f4") for s in [(6, 8, 2), (12, 2), (12, 4)])
    work = lambda: kernels.gru_forward(x, None, W_ih, W_hh, None, None)
    thread = threading.Thread(target=work)
    thread.start()
    time.sleep({seconds})
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        work()
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    thread.join()
    """
    assert run(code)[0] == ["0"]
