"""Is anything lost when `gru-np train` is interrupted? Interrupt it, and look.

A run is stopped at drawn moments by a drawn signal, Ctrl-C, SIGTERM, SIGHUP or SIGKILL, and
resumed, until it comes to its end; then the next run begins. After each signal the checkpoint must
load, and at the end of each run the weights must be those, to the bit, of a run that nobody
interrupted, with nothing else left in the folder.

    python tests/stress/interruptions.py                  # short, some ten seconds
    python tests/stress/interruptions.py --cases 400
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from gru_np import Sequential

SHORT = 10
ROOT = Path(__file__).resolve().parents[2]
SIGNALS = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP", "SIGKILL")]
SMALL = ["--units", "8", "--embedding", "4", "--batch-size", "4", "--length", "16",
         "--epochs", "6", "--samples", "0"]  # fmt: skip


def start(book, path, *extra):
    command = [sys.executable, "-m", "gru_np", "train", "--text", book, "--checkpoint", path]
    return subprocess.Popen(
        [*map(str, command), *SMALL, *extra], cwd=ROOT, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True, env={**os.environ, "GRU_NP_KERNELS": "0"},
    )  # fmt: skip


def finish(process):
    error = process.communicate(timeout=300)[1]
    return process.returncode, error


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help=f"{SHORT} signals")
    parser.add_argument("--cases", type=int, default=SHORT, help=f"signals ({SHORT})")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    draw = random.Random(args.seed)
    sent, faults, runs = 0, [], 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        book, whole = folder / "book.txt", folder / "whole.st"
        book.write_text("the cat sat on the mat. the dog ate the cat's hat.\n" * 240)
        status, error = finish(start(book, whole))
        assert status == 0, error
        expected = Sequential.load(whole).get_weights()
        while sent < args.cases:
            place = folder / f"run{runs}"
            place.mkdir()
            path, status = place / "m.st", None
            while status != 0:
                process = start(book, path, *(["--resume"] if path.exists() else []))
                while not path.exists() and process.poll() is None:
                    time.sleep(0.005)
                if sent < args.cases:
                    time.sleep(draw.uniform(0.0, 1.2))
                    number = draw.choice(SIGNALS)
                    process.send_signal(number)
                    sent += 1
                status, error = finish(process)
                # by Python's own handler, before training began or after it ended; or by ours
                if status not in (0, 130, 128 + number, -number):
                    faults.append(f"signal {number}: status {status}, {error[-300:]}")
                    break
                Sequential.load(path)
            runs += 1
            found = Sequential.load(path).get_weights()
            if not all(map(np.array_equal, found, expected)):
                faults.append(f"run {runs}: other weights")
            if os.listdir(place) != ["m.st"]:
                faults.append(f"run {runs}: left {os.listdir(place)}")
    for fault in faults:
        print(fault)
    print(f"{sent} signals in {runs} runs: {len(faults)} losses")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
