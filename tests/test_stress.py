"""The short form of every script in tests/stress: long runs are by hand, `--cases N`."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gru_np import kernels

STRESS = Path(__file__).parent / "stress"
SCRIPTS = sorted({path.name for path in STRESS.glob("*.py")} - {"counting.py"})
NEED_KERNELS = {"guard_pages.py"}


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_short_form_finds_nothing(name):
    if name in NEED_KERNELS and (os.name != "posix" or not kernels.available()):
        pytest.skip("it is about compiled kernels and protected pages")
    if os.name != "posix":
        pytest.skip("signals and forks of POSIX")
    done = subprocess.run(
        [sys.executable, str(STRESS / name), "--short"], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # the last line counts what was tried, and how it went
    assert re.match(r"\d+ .*: [\d,]+ ", done.stdout.splitlines()[-1]), done.stdout
