"""The elementary functions of the kernels against exact arithmetic, and packed products."""

import numpy as np
import pytest

pytest.importorskip("numba", reason="the compiled kernels need numba", exc_type=ImportError)

from benchmarks.activation_error import FUNCTIONS, evaluator, measure_float32, measure_float64
from gru_np.kernels import matmul, vector
from gru_np.kernels._jit import entry

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@pytest.fixture(scope="module")
def sampled():
    """Worst errors over every 9973rd float32."""
    return measure_float32(stride=9973)


def test_float32_errors_are_as_small_as_promised(sampled):
    assert sampled["tanh"]["absolute"] <= 1e-7
    assert sampled["sigmoid"]["absolute"] <= 1e-7
    assert sampled["tanh"]["ulp"] <= 4
    assert sampled["exp"]["ulp"] <= 4
    assert sampled["log"]["ulp"] <= 4


def test_nan_symmetry_and_bounds_hold_in_float32(sampled):
    for name in FUNCTIONS:
        assert sampled[name]["nan"], name
    assert sampled["tanh"]["odd"]
    assert sampled["tanh"]["bounded"] and sampled["sigmoid"]["bounded"]


def test_float64_errors_are_as_small_as_promised():
    pytest.importorskip("mpmath")
    found = measure_float64(2000)
    assert found["tanh"]["absolute"] <= 4
    assert found["sigmoid"]["absolute"] <= 4
    assert found["exp"]["ulp"] <= 4
    assert found["log"]["ulp"] <= 4


@entry
def _exps_of_negative(x, y):
    for i in range(0, len(x), vector.lanes(x)):
        vector.store(y, i, vector.exp_of_negative(vector.load(x, i)))


@DTYPES
def test_exp_of_negative_is_exact_to_4_ulp_zero_below_and_keeps_nan(dtype):
    x = -np.random.default_rng(0).uniform(0, 87, 1600).astype(dtype)
    x[:4] = 0, -200, -np.inf, np.nan
    y = np.full_like(x, 7)
    _exps_of_negative(x, y)
    expected = np.exp(x.astype(np.longdouble))
    np.testing.assert_allclose(y[4:], expected[4:], rtol=4 * np.finfo(dtype).eps)
    assert y[0] == 1 and y[1] <= np.exp(-200.0) * 1.001 and y[2] == 0 and np.isnan(y[3])


@DTYPES
def test_special_values_come_out_as_in_numpy(dtype):
    special = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, -1e-40, 100.0, -100.0, -800.0, 1.0, 800.0]
    x = np.zeros(16, dtype)
    x[: len(special)] = special
    run = evaluator()
    for which, name in enumerate(FUNCTIONS):
        y = np.full_like(x, 7)
        run(which, x, y)
        with np.errstate(all="ignore"):
            expected = 0.5 * np.tanh(0.5 * x) + 0.5 if name == "sigmoid" else getattr(np, name)(x)
        size = 4 * np.finfo(dtype).eps
        np.testing.assert_allclose(y, expected, rtol=size, atol=size if which < 2 else 0)
        if name == "tanh":
            np.testing.assert_array_equal(np.signbit(y), np.signbit(x))


@entry
def multiply(a, b, bias, c, packed, rows, depth, columns):
    """c = bias + a b^T through packed panels."""
    L = vector.lanes(a)
    blocks = (columns + L - 1) // L
    matmul.pack_transposed(b, 0, depth, 1, columns, depth, packed, 0)
    matmul.product(
        matmul.address(a, 0), depth, packed, 0, bias, 0, 0, c, 0, blocks * L,
        rows, blocks, depth, 0, blocks,
    )  # fmt: skip


def padded(columns, dtype):
    lanes = vector.REGISTER_BYTES // np.dtype(dtype).itemsize
    return -(-columns // lanes) * lanes


def product_of(a, b, bias):
    (rows, depth), columns, width = a.shape, len(b), padded(len(b), a.dtype)
    start, c = np.zeros(width, a.dtype), np.full((rows, width), np.nan, a.dtype)
    start[:columns] = bias
    packed = np.full(width * depth, np.nan, a.dtype)
    arrays = (v.reshape(-1) for v in (a, b, start, c, packed))
    multiply(*arrays, rows, depth, columns)
    assert not c[:, columns:].any()
    return c[:, :columns]


SHAPES = [
    (1, 5, 3), (2, 300, 70), (3, 7, 100), (5, 64, 33), (7, 513, 9), (4, 1, 200), (1, 40, 96),
    (1, 40, 112), (1, 260, 16), (6, 8, 8), (2, 9, 48), (9, 0, 5), (13, 21, 130),
]  # fmt: skip


@DTYPES
@pytest.mark.parametrize("rows, depth, columns", SHAPES)
def test_packed_product_equals_numpy(rows, depth, columns, dtype, rng):
    a, b = rng.standard_normal((rows, depth)), rng.standard_normal((columns, depth))
    bias = rng.standard_normal(columns)
    actual = product_of(a.astype(dtype), b.astype(dtype), bias.astype(dtype))
    expected = a @ b.T + bias
    tolerance = 1e-12 if dtype is np.float64 else 1e-5
    assert np.abs(actual - expected).max() <= tolerance * np.abs(expected).max()


@DTYPES
def test_a_row_of_a_product_has_the_same_bits_in_any_company(dtype, rng):
    a, b = (
        rng.standard_normal((13, 300)).astype(dtype),
        rng.standard_normal((130, 300)).astype(dtype),
    )
    bias = rng.standard_normal(130).astype(dtype)
    whole = product_of(a, b, bias)
    for first, last in [(0, 1), (3, 5), (5, 8), (2, 6), (1, 10)]:
        part = product_of(np.ascontiguousarray(a[first:last]), b, bias)
        np.testing.assert_array_equal(part, whole[first:last])
