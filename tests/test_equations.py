"""The elementwise mathematics: activations, derivatives, and one step against scalar loops."""

import naive
import numpy as np
import pytest
from conftest import assert_close
from hypothesis import given
from hypothesis import strategies as st

from gru_np import equations
from gru_np.gradcheck import directional_derivative
from gru_np.recurrence import ACTIVATIONS

B, H = 3, 4
SMOOTH = ["tanh", "sigmoid", "linear"]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_equal_their_scalar_formulas(name):
    a = np.linspace(-30, 30, 601)
    expected = np.array([naive.ACTIVATIONS[name](float(v)) for v in a])
    assert_close(ACTIVATIONS[name][0](a), expected, "naive")


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
def test_activations_and_derivatives_keep_dtype_and_shape(name, dtype, rng):
    function, derivative = ACTIVATIONS[name]
    y = function(rng.standard_normal((B, H)).astype(dtype))
    assert y.dtype == derivative(y).dtype == dtype
    assert y.shape == derivative(y).shape == (B, H)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_derivatives_from_the_value_equal_complex_step(name, rng):
    function, derivative = ACTIVATIONS[name]
    a = 3 * rng.standard_normal(50)  # no entry hits a kink
    numerical = function(a + 1e-30j).imag / 1e-30
    assert_close(derivative(function(a)), numerical, "complex step")


@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_activations_are_analytic(name, rng):
    # Along i the derivative is i times the one along 1; only analytic functions have that.
    function, derivative = ACTIVATIONS[name]
    a = rng.standard_normal(20) + 0.5j * rng.standard_normal(20)
    step = 1e-5
    along_i = (function(a + 1j * step) - function(a - 1j * step)) / (2j * step)
    assert_close(along_i, derivative(function(a)), "central")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sigmoid_neither_overflows_nor_leaves_its_range(dtype):
    a = np.array([-np.inf, -1e30, -800, -90, 0, 90, 800, 1e30, np.inf], dtype)
    y = equations.sigmoid(a)
    assert np.array_equal(y, np.array([0, 0, 0, 0, 0.5, 1, 1, 1, 1], dtype))


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "relu", "linear", "hard_sigmoid"])
def test_nan_is_not_swallowed(name):
    assert np.isnan(ACTIVATIONS[name][0](np.array([np.nan]))).all()


def test_sigmoid_keeps_absolute_accuracy_everywhere():
    mpmath = pytest.importorskip("mpmath")
    a = np.linspace(-40, 40, 801)
    with mpmath.workdps(50):
        exact = np.array([float(1 / (1 + mpmath.exp(-mpmath.mpf(v)))) for v in a])
    assert np.abs(equations.sigmoid(a) - exact).max() <= 2.3e-16  # 2 units in the last place of 1


def naive_step(a, h, sigma, phi):
    """The first block of equations.py for one number; a is a_ir, a_iz, a_in, a_hr, a_hz, a_hn."""
    a_ir, a_iz, a_in, a_hr, a_hz, a_hn = a
    # r = σ(a_ir + a_hr)
    r = sigma(a_ir + a_hr)
    # z = σ(a_iz + a_hz)
    z = sigma(a_iz + a_hz)
    # n = φ(a_in + r ⊙ a_hn)
    n = phi(a_in + r * a_hn)
    # h' = (1 - z) ⊙ n + z ⊙ h
    return (1 - z) * n + z * h, r, z, n


@pytest.mark.parametrize("recurrent_activation", ["sigmoid", "hard_sigmoid"])
@pytest.mark.parametrize("activation", ["tanh", "relu", "linear"])
def test_step_equals_the_equation_block_number_by_number(activation, recurrent_activation, rng):
    a, h = rng.standard_normal((6, B, H)), rng.standard_normal((B, H))
    sigma, phi = ACTIVATIONS[recurrent_activation][0], ACTIVATIONS[activation][0]
    actual = equations.gru_step(*a, h, sigma, phi)
    expected = np.empty((4, B, H))
    for b in range(B):
        for i in range(H):
            expected[:, b, i] = naive_step(
                [float(v) for v in a[:, b, i]],
                float(h[b, i]),
                naive.ACTIVATIONS[recurrent_activation],
                naive.ACTIVATIONS[activation],
            )
    assert_close(actual, tuple(expected), "naive")


def test_both_halves_of_the_reset_before_step_equal_the_equation_block(rng):
    (a_ir, a_iz, a_in, a_hr, a_hz, a_hn), h = (
        rng.standard_normal((6, B, H)),
        rng.standard_normal((B, H)),
    )
    r, z, rh = equations.gru_gates(a_ir, a_iz, a_hr, a_hz, h, equations.sigmoid)
    h_next, n = equations.gru_candidate(a_in, a_hn, z, h, equations.tanh)
    for b in range(B):
        for i in range(H):
            # n = φ(a_in + a_hn): the step reset after, with a_hn inside a_in and nothing beside r
            a = [a_ir[b, i], a_iz[b, i], a_in[b, i] + a_hn[b, i], a_hr[b, i], a_hz[b, i], 0.0]
            expected = naive_step(list(map(float, a)), float(h[b, i]), *_scalar("sigmoid", "tanh"))
            actual = [v[b, i] for v in (h_next, r, z, n)]
            assert_close(np.array(actual), np.array(expected), "naive")
    assert_close(rh, r * h, "exact")


def _scalar(*names):
    return [naive.ACTIVATIONS[name] for name in names]


@pytest.mark.parametrize("recurrent_activation", ["sigmoid", "hard_sigmoid", "linear"])
@pytest.mark.parametrize("activation", ["tanh", "relu", "linear"])
def test_gradient_of_the_step_equals_complex_step(activation, recurrent_activation, rng):
    arrays, c = rng.standard_normal((7, B, H)), rng.standard_normal((B, H))
    sigma, sigma_derivative = ACTIVATIONS[recurrent_activation]
    phi, phi_derivative = ACTIVATIONS[activation]
    h, a_hn = arrays[6], arrays[5]
    _, r, z, n = equations.gru_step(*arrays, sigma, phi)
    dh, da_r, da_z, da_in, da_hn = equations.gru_step_backward(
        c, h, r, z, n, a_hn, sigma_derivative, phi_derivative
    )
    gradients = [da_r, da_z, da_in, da_r, da_z, da_hn, dh]
    for k, gradient in enumerate(gradients):
        assert_close(gradient, _elementwise(arrays, c, k, sigma, phi), "complex step")


def _elementwise(arrays, c, k, sigma, phi):
    """c ⊙ dh'/d(argument k), all entries at once: the step mixes no two of them."""
    moved = arrays.astype(complex)
    moved[k] += 1e-30j
    return c * equations.gru_step(*moved, sigma, phi)[0].imag / 1e-30


def test_gradients_of_both_halves_of_the_reset_before_step_equal_complex_step(rng):
    gate_arrays, c = rng.standard_normal((5, B, H)), rng.standard_normal((3, B, H))
    h = gate_arrays[4]

    def gates(k, d):
        moved = gate_arrays.astype(complex)
        moved[k] = d
        _, z, rh = equations.gru_gates(*moved, equations.sigmoid)
        return (c[1] * z + c[2] * rh).sum()

    r, z, _ = equations.gru_gates(*gate_arrays, equations.sigmoid)
    dh, da_r, da_z = equations.gru_gates_backward(c[2], c[1], h, r, z, equations.sigmoid_derivative)
    for k, gradient in enumerate([da_r, da_z, da_r, da_z, dh]):
        d = rng.standard_normal((B, H))
        numerical = directional_derivative(lambda p, k=k: gates(k, p), gate_arrays[k], d)
        assert_close(np.sum(gradient * d), np.array(numerical), "complex step")

    candidate_arrays = rng.standard_normal((4, B, H))
    z, h = candidate_arrays[2:]

    def candidate(k, d):
        moved = candidate_arrays.astype(complex)
        moved[k] = d
        return (c[0] * equations.gru_candidate(*moved, equations.tanh)[0]).sum()

    _, n = equations.gru_candidate(*candidate_arrays, equations.tanh)
    dh, dz, da_n = equations.gru_candidate_backward(c[0], h, z, n, equations.tanh_derivative)
    for k, gradient in enumerate([da_n, da_n, dz, dh]):
        d = rng.standard_normal((B, H))
        numerical = directional_derivative(lambda p, k=k: candidate(k, p), candidate_arrays[k], d)
        assert_close(np.sum(gradient * d), np.array(numerical), "complex step")


@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([0.1, 1.0, 30.0, 1e4]))
def test_state_never_exceeds_one_and_its_own_past(seed, scale):
    rng = np.random.default_rng(seed)
    for dtype in (np.float32, np.float64):
        a = (scale * rng.standard_normal((6, B, H))).astype(dtype)
        h = (3 * rng.standard_normal((B, H))).astype(dtype)
        h_next = equations.gru_step(*a, h, equations.sigmoid, equations.tanh)[0]
        # (1 - z) n + z h is rounded three times
        bound = np.maximum(np.abs(h), 1) * (1 + 3 * np.finfo(dtype).eps)
        assert (np.abs(h_next) <= bound).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_z_of_one_copies_the_state_exactly(dtype, rng):
    a, h = rng.standard_normal((6, B, H)).astype(dtype), rng.standard_normal((B, H)).astype(dtype)
    a[1] = 1e3  # a_iz: z = 1
    assert_close(equations.gru_step(*a, h, equations.sigmoid, equations.tanh)[0], h, "exact")
    z = np.ones((B, H), dtype)
    assert_close(equations.gru_candidate(a[2], a[5], z, h, equations.tanh)[0], h, "exact")
