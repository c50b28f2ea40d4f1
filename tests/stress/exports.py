"""Names, words and settings that try to become code in a file we write: they stay what they are.

Each model is exported with a hostile text as its name, as the name of a layer, and in everything
that travels with it; the file is then run. It must repeat the model's predictions, hold the texts
as data, and leave no trace of having run them.
"""

import importlib.util
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

os.environ.setdefault("GRU_NP_KERNELS", "0")

import numpy as np
from counting import V, main, require

from gru_np import GRU, Dense, Embedding, Sequential, interop

STRINGS = (
    '"""; {call}; """',
    "'''; {call}; '''",
    '"; {call}; "',
    "'); {call}; ('",
    '\\"""\n{call}\n',
    "\n{call}\n",
    "\r{call}\r",
    "\x0c{call}",
    "\u2028{call}\u2029",
    "DATA = None\n{call}",
    "DESCRIPTION {call} VERSION",
    "{{{call}}}",
    "%({call})s",
    "f'{{{call}}}'",
    "\\N{{{call}}}",
    "\\x22; {call}; \\x22",
    "# -*- coding: rot13 -*-\n{call}",
    "</script><script>{call}</script>",
    "\u202e{call}\u200b",
    "../../{call}",
)


def run(cases: int, rng: np.random.Generator, counts: Counter) -> None:
    """Put each text everywhere a person's text can go, in one form of export after another."""
    with tempfile.TemporaryDirectory() as name:
        planted = Path(name, "planted")
        call = f"open({str(planted)!r}, 'w')"
        for case in range(cases):
            hostile = STRINGS[case % len(STRINGS)].format(call=call)
            if case >= len(STRINGS):  # two of them, cut anywhere
                other = str(rng.choice(STRINGS)).format(call=call)
                hostile = hostile[: rng.integers(len(hostile))] + other[rng.integers(len(other)) :]
            _python(Path(name, f"model{case}.py"), _model(hostile), hostile, counts)
            _carried(Path(name, f"model{case}.safetensors"), _model(hostile), hostile, counts)
            require(not planted.exists(), f"{hostile!r} was run")


def _model(hostile: str) -> Sequential:
    model = Sequential([Embedding(V, 3), GRU(4, name="g"), Dense(2)], seed=0, name=hostile)
    model.build((None, None))
    model.extras = {"words": [hostile], hostile: {"deep": hostile}}
    return model


def _python(path: Path, model: Sequential, hostile: str, counts: Counter) -> None:
    """Export as Python, run its own test, import it, compare words and predictions."""
    interop.export_standalone(model, path)
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True)
    require(done.returncode == 0, f"{hostile!r}: the exported file fails: {done.stderr[-300:]}")
    spec = importlib.util.spec_from_file_location("exported", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    require(model.extras == module.EXTRAS, f"{hostile!r} is another text in the exported file")
    x = np.array([[1, 2, 0], [3, 5, 8]])
    require(np.allclose(module.predict(x), model.predict(x), atol=1e-6), f"{hostile!r}: predict")
    counts["Python files"] += 1


def _carried(path: Path, model: Sequential, hostile: str, counts: Counter) -> None:
    """Save and load: the texts come back as they were."""
    model.save(path)
    loaded = Sequential.load(path)
    require(loaded.name == hostile, f"{hostile!r} came back as the name {loaded.name!r}")
    require(loaded.extras == model.extras, f"{hostile!r} came back otherwise in extras")
    counts["checkpoints"] += 1


if __name__ == "__main__":
    main("exports", __doc__, run, short=len(STRINGS), long=500)
