"""What every test shares: the table of tolerances, seeded random numbers, hypothesis' profile."""

import importlib.util
import os
import sys
import zlib

os.environ.setdefault("MPLBACKEND", "Agg")  # pictures are drawn where there is no display
if importlib.util.find_spec("torch") is not None:  # Keras' gradients are taken with its autograd
    os.environ.setdefault("KERAS_BACKEND", "torch")

import numpy as np
import pytest
from hypothesis import settings

# GRU_NP_TEST_WITHOUT=numba,tqdm runs the suite as if these packages were not installed. This comes
# before anything imports gru_np: an import of a name that stands for None in sys.modules fails.
for absent in filter(None, os.environ.get("GRU_NP_TEST_WITHOUT", "").split(",")):
    sys.modules[absent] = None

# How far two answers may lie apart, by kind of comparison and precision. The margin over what was
# measured is a factor of at least 5 (float32) and 500 (float64): rounding differs a little between
# machines, a bug is never that small. A kind without a float32 entry is checked in float64 instead.
TOLERANCES = {
    # kind             float64  float32
    "complex step": (1e-13, None),  # analytic gradient against complex step, relative L2
    "central": (1e-7, None),  # analytic gradient against central differences, relative L2
    "naive": (1e-12, 1e-5),  # NumPy against the scalar loops of tests/naive.py
    "kernel": (1e-12, 1e-5),  # compiled kernel against NumPy
    "precision": (None, 1e-5),  # a float32 run against the same run in float64
    "foreign": (1e-12, 1e-5),  # against PyTorch, Keras, ONNX Runtime
    "rounding": (1e-12, 1e-5),  # the same sums in another order: split, permuted, padded
    "exact": (0.0, 0.0),  # the same bits
}
RELATIVE_L2 = {"complex step", "central"}  # the others: max|difference| / max|expected|


def assert_close(actual, expected, kind):
    """Compare two arrays, or two tuples or dicts of arrays, within the tolerance of `kind`.

    The error is relative to the whole array, so an expected array of zeros must be met exactly.
    NaN and infinity are never close to anything, except under "exact", where they must be met too.
    """
    if isinstance(expected, dict):
        assert actual.keys() == expected.keys()
        actual, expected = list(actual.values()), [expected[name] for name in actual]
    if isinstance(expected, (tuple, list)):
        assert len(actual) == len(expected)
        for one_actual, one_expected in zip(actual, expected, strict=True):
            assert_close(one_actual, one_expected, kind)
        return
    if expected is None:
        assert actual is None
        return
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"shape {actual.shape}, expected {expected.shape}"
    if kind == "exact":
        np.testing.assert_array_equal(actual, expected, strict=True)
        return
    single = {np.dtype(np.float32), np.dtype(np.complex64)} & {actual.dtype, expected.dtype}
    tolerance = TOLERANCES[kind][1 if single else 0]
    assert tolerance is not None, f"{kind!r} is not for {actual.dtype}"
    if not actual.size:
        return
    size = np.linalg.norm if kind in RELATIVE_L2 else np.max
    difference = np.abs(actual.astype(np.result_type(actual, 1.0)) - expected)
    error, scale = size(difference.ravel()), size(np.abs(expected).ravel())
    if not error <= tolerance * scale:
        where = np.unravel_index(np.argmax(difference), difference.shape)
        pytest.fail(
            f"{kind}: error {error:.3g} of {scale:.3g}, that is {error / max(scale, 1e-300):.3g}; "
            f"allowed {tolerance:g}. Worst at {tuple(map(int, where))}: "
            f"{actual[where]!r}, expected {expected[where]!r}"
        )


@pytest.fixture
def rng(request):
    """Random numbers seeded from the test's own name: the same in every run."""
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


@pytest.fixture(autouse=True)
def no_picture_is_left_open():
    """Close what a test or an example drew; nothing is imported for it."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


settings.register_profile("local", deadline=None, max_examples=50, print_blob=True)
settings.register_profile("ci", deadline=None, max_examples=50, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")
