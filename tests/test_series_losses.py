"""Quantiles and densities: values, gradients, special functions, what a file remembers."""

import mpmath
import numpy as np
import pytest
from conftest import assert_close

from gru_np import Dense, Sequential, check_gradients, likelihoods, losses
from gru_np.layers import Reshape, SegmentGRU

B, T, K = 3, 5, 4
CASES = [losses.Pinball([0.1, 0.45, 0.9]), losses.GaussianNLL(), losses.StudentTNLL(0.01)]
IDS = [case.name for case in CASES]


def draw(rng, loss):
    return rng.normal(size=(B, T, K)), 2 * rng.normal(size=(B, T, K * loss._outputs))


@pytest.mark.parametrize("loss", CASES, ids=IDS)
def test_gradient_agrees_with_complex_step(rng, loss):
    y_true, y_pred = draw(rng, loss)
    extras = {"mask": rng.random((B, T)) < 0.7, "sample_weight": rng.uniform(0.5, 2, (B, T))}
    _, gradient = loss(y_true, y_pred, **extras)
    numeric = np.empty_like(y_pred)
    for i in np.ndindex(y_pred.shape):
        stepped = y_pred.astype(complex)
        stepped[i] += 1e-30j
        numeric[i] = loss(y_true, stepped, **extras)[0].imag / 1e-30
    assert_close(gradient, numeric, "complex step")


@pytest.mark.parametrize("loss", CASES, ids=IDS)
def test_float32_agrees_with_float64_and_keeps_its_dtype(rng, loss):
    y_true, y_pred = draw(rng, loss)
    y_pred = y_pred.astype(np.float32)
    y_pred.flags.writeable = False
    value, gradient = loss(y_true, y_pred)
    assert value.dtype == gradient.dtype == np.float32
    wide_value, wide_gradient = loss(y_true.astype(np.float32), y_pred.astype(np.float64))
    assert_close(value, wide_value, "precision")
    assert_close(gradient, wide_gradient, "precision")


@pytest.mark.parametrize("loss", CASES, ids=IDS)
def test_what_a_weight_of_zero_hides_is_never_looked_at(rng, loss):
    y_true, y_pred = draw(rng, loss)
    weight = np.ones((B, T))
    weight[1, 2:] = 0
    clean = loss(y_true, y_pred, sample_weight=weight)
    y_true[1, 2:] = np.nan
    for a, b in zip(clean, loss(y_true, y_pred, sample_weight=weight), strict=True):
        assert_close(b, a, "exact")


@pytest.mark.parametrize("loss", CASES, ids=IDS)
def test_where_nothing_counts_the_loss_is_zero_and_so_is_its_gradient(rng, loss):
    # As of every other loss, and in Keras: a sum over nothing. A batch may be all padding.
    y_true, y_pred = draw(rng, loss)
    for nothing in ({"sample_weight": np.zeros(B)}, {"mask": np.zeros((B, T), bool)}):
        value, gradient = loss(y_true, y_pred, **nothing)
        assert value == 0
        assert gradient.shape == y_pred.shape and not gradient.any()


@pytest.mark.parametrize("loss", CASES, ids=IDS)
def test_extreme_outputs_give_finite_gradients(loss):
    for size in (1e-30, 1e4, 1e15):
        y_pred = np.full((2, 2 * loss._outputs), size, np.float32)
        for sign in (1, -1):
            value, gradient = loss(np.full((2, 2), 3.0), sign * y_pred)
            assert np.isfinite(value) and np.isfinite(gradient).all()


@pytest.mark.parametrize("loss", CASES, ids=IDS)
def test_shapes_that_do_not_fit_are_refused_with_both_shapes(loss):
    with pytest.raises(ValueError, match=r"numbers for each target, targets are \(2, 3\)"):
        loss(np.zeros((2, 3)), np.zeros((2, 3 * loss._outputs + 1)))


@pytest.mark.parametrize("loss", CASES, ids=IDS)
def test_a_description_gives_the_same_loss_again(loss):
    again = losses.get(losses.serialize(loss))
    assert repr(again) == repr(loss) and again._outputs == loss._outputs


@pytest.mark.parametrize("levels", [[], [0.5, 0.5], [0.9, 0.1], [0.0, 0.5], [0.5, 1.0]])
def test_levels_that_do_not_rise_inside_0_and_1_are_refused(levels):
    with pytest.raises(ValueError, match="quantile"):
        losses.Pinball(levels)


def test_the_mean_pinball_loss_is_least_at_the_quantile(rng):
    y = rng.normal(size=2001)
    loss = losses.Pinball([0.2, 0.8])
    places = np.quantile(y, [0.2, 0.8])
    best = loss(y[:, None], np.tile(places, (len(y), 1)))[0]
    for move in ([0.05, 0], [-0.05, 0], [0, 0.05], [0, -0.05]):
        assert loss(y[:, None], np.tile(places + move, (len(y), 1)))[0] > best


def test_student_t_becomes_gaussian_with_many_degrees_of_freedom():
    y, mu, a = (np.array([v]) for v in (0.7, 0.2, -0.3))
    normal = likelihoods.gaussian(y, mu, a)[0]
    assert abs(likelihoods.student_t(y, mu, a, np.array([1e9]))[0] - normal).item() < 1e-6


@pytest.mark.parametrize("z", [0.5, 1.0, 1.5, 2.0, 7.3, 60.0, 1e5])
def test_gamma_functions_agree_with_mpmath(z):
    value = likelihoods.log_gamma(np.array([z])).item()
    exact = float(mpmath.loggamma(z))
    assert abs(value - exact) <= 1e-14 * max(1, abs(exact)) * 2
    assert abs(likelihoods.digamma(np.array([z])).item() - float(mpmath.digamma(z))) < 5e-15 * 20


@pytest.mark.parametrize("nu", [2.0, 2.4, 5.0, 33.0, 400.0])
@pytest.mark.parametrize("q", [0.01, 0.3, 0.5, 0.9, 0.999])
def test_quantiles_of_student_t_have_the_right_probability(q, nu):
    t = likelihoods.student_t_quantiles([q], nu).item()
    tail = mpmath.betainc(nu / 2, 0.5, 0, nu / (nu + t * t), regularized=True) / 2
    assert abs(float(1 - tail if t > 0 else tail) - q) < 1e-10


def test_gradients_of_segments_and_of_a_change_of_shape_agree_with_complex_step(rng):
    layer = SegmentGRU(8, 4, 6, dropout=0.3, seed=0)
    check_gradients(layer, rng.standard_normal((3, 12, 5))).raise_if_bad()
    model = Sequential([Dense(6, seed=0), Reshape((-1, 2, 3))], dtype="float64", seed=0)
    model.compile(losses.Pinball([0.1, 0.5, 0.9]), "adam")
    x, y = rng.standard_normal((3, 5, 2)), rng.standard_normal((3, 5, 2))
    check_gradients(model, x, y).raise_if_bad()


def test_a_model_of_segments_is_saved_and_loaded_to_the_bit(rng, tmp_path):
    model = Sequential([SegmentGRU(8, 4, 6, dropout=0.3)], seed=0)
    x = rng.standard_normal((3, 12, 5)).astype(np.float32)
    y = model.predict(x)
    model.save(tmp_path / "segments.safetensors")
    again = Sequential.load(tmp_path / "segments.safetensors")
    assert again.layers[0].get_config() == model.layers[0].get_config()
    assert_close(again.predict(x), y, "exact")


def test_reshape_keeps_the_order_and_says_what_does_not_fit(rng):
    x = rng.standard_normal((3, 5, 6))
    layer = Reshape((-1, 2, 3))
    assert_close(layer(x), x.reshape(3, 5, 2, 3), "exact")
    assert layer.output_shape((None, 5, 6)) == (None, 5, 2, 3)
    assert layer.output_shape((None, None, 6)) == (None, None, 2, 3)
    with pytest.raises(ValueError, match="as many numbers"):
        Reshape((4,))(x)
    with pytest.raises(ValueError, match="-1 at most"):
        Reshape((-1, -1))
