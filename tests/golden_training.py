"""What Keras and PyTorch computed, stored in tests/golden, and how to compute it again."""

import importlib.util
import json
import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parent / "golden"


@cache
def golden():
    """Read tests/golden/training.json."""
    return json.loads((FOLDER / "training.json").read_text())


@cache
def maker():
    """Import tests/golden/make_training.py."""
    spec = importlib.util.spec_from_file_location("make_training", FOLDER / "make_training.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def require(library):
    """Skip the test unless the library that computed the stored numbers is installed."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    for name in {"torch", library}:
        pytest.importorskip(name, reason=f"recomputes stored numbers with {name}")


def case_id(case):
    """Name a case in test reports."""
    config = case["ours"]["config"]
    settings = ",".join(k if isinstance(v, dict) else f"{k}={v}" for k, v in config.items())
    extras = "".join(f"-{name}" for name in ("sample_weight", "mask") if case.get(name) is not None)
    return f"{case.get('library', 'keras')}-{case['ours']['class_name']}({settings}){extras}"


def as_arrays(tree):
    """Turn a dict of nested lists into one of arrays."""
    return {name: np.array(value) for name, value in tree.items()}
