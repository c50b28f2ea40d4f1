"""Initialisers: moments within five standard errors, bounds, orthogonality, seeds, descriptions."""

import json
import math

import numpy as np
import pytest
from conftest import assert_close

from gru_np import GRU, Sequential, initializers

I, H = 40, 60  # noqa: E741 - the paper's name for the input size
SHAPE = (I, 3 * H)
N = I * 3 * H
FAN_AVG = (I + 3 * H) / 2
RANDOM = {
    # name: (standard deviation, largest absolute value)
    "glorot_uniform": (math.sqrt(1 / FAN_AVG), math.sqrt(3 / FAN_AVG)),
    "glorot_normal": (math.sqrt(1 / FAN_AVG), 2 * math.sqrt(1 / FAN_AVG) / 0.8796256610342398),
    "he_uniform": (math.sqrt(2 / I), math.sqrt(6 / I)),
    "he_normal": (math.sqrt(2 / I), 2 * math.sqrt(2 / I) / 0.8796256610342398),
    "lecun_uniform": (math.sqrt(1 / I), math.sqrt(3 / I)),
    "lecun_normal": (math.sqrt(1 / I), 2 * math.sqrt(1 / I) / 0.8796256610342398),
    "variance_scaling": (math.sqrt(1 / I), 2 * math.sqrt(1 / I) / 0.8796256610342398),
    "uniform": (0.1 / math.sqrt(12), 0.05),
    "random_uniform": (0.1 / math.sqrt(12), 0.05),
    "normal": (0.05, math.inf),
    "random_normal": (0.05, math.inf),
    "truncated_normal": (0.05 * 0.8796256610342398, 0.1),
}


@pytest.mark.parametrize("name", sorted(RANDOM))
def test_mean_variance_and_bounds_are_as_promised(rng, name):
    stddev, bound = RANDOM[name]
    x = initializers.get(name)(SHAPE, rng, "float64")
    assert abs(x.mean()) <= 5 * stddev / math.sqrt(N)
    # The standard error of a variance, from the fourth moment of the sample itself.
    error = math.sqrt((np.mean(x**4) - np.mean(x**2) ** 2) / N)
    assert abs(np.mean(x**2) - stddev**2) <= 5 * error
    assert np.abs(x).max() <= bound
    if bound < math.inf:
        assert np.abs(x).max() >= 0.95 * bound  # the whole range is used


@pytest.mark.parametrize("distribution", ["uniform", "truncated_normal", "untruncated_normal"])
@pytest.mark.parametrize(("mode", "n"), [("fan_in", I), ("fan_out", 3 * H), ("fan_avg", FAN_AVG)])
def test_variance_scaling_gives_the_variance_it_names(rng, distribution, mode, n):
    x = initializers.VarianceScaling(2.5, mode, distribution)(SHAPE, rng, "float64")
    error = math.sqrt((np.mean(x**4) - np.mean(x**2) ** 2) / N)
    assert abs(np.mean(x**2) - 2.5 / n) <= 5 * error


def test_mean_and_spread_may_be_chosen(rng):
    x = initializers.RandomNormal(mean=3.0, stddev=0.5)(SHAPE, rng, "float64")
    assert abs(x.mean() - 3) <= 5 * 0.5 / math.sqrt(N)
    x = initializers.RandomUniform(minval=2.0, maxval=3.0)(SHAPE, rng, "float64")
    assert x.min() >= 2
    assert x.max() < 3


@pytest.mark.parametrize("shape", [(H, 3 * H), (3 * H, H), (H, H), (1, 5), (5, 1), (2, 3, 4)])
@pytest.mark.parametrize("gain", [1.0, 0.5])
def test_orthogonal_matrices_are_orthogonal_as_a_whole(rng, shape, gain):
    q = initializers.Orthogonal(gain=gain)(shape, rng, "float64")
    assert q.shape == shape
    q = q.reshape(-1, shape[-1])
    gram = q @ q.T if q.shape[0] <= q.shape[1] else q.T @ q
    assert_close(gram, gain**2 * np.eye(min(q.shape)), "rounding")


def test_orthogonal_matrices_are_drawn_without_a_preferred_sign(rng):
    draws = [initializers.orthogonal((3, 5), rng, "float64") for _ in range(400)]
    # Each entry has mean 0; without the choice of signs the first would lean to one side.
    error = np.std(draws, axis=0) / math.sqrt(len(draws))
    assert (np.abs(np.mean(draws, axis=0)) <= 5 * error).all()
    determinants = [np.linalg.det(initializers.orthogonal((3, 3), rng)) for _ in range(400)]
    assert abs(np.mean(np.array(determinants) > 0) - 0.5) <= 5 * 0.5 / math.sqrt(400)


def test_constants():
    assert_close(initializers.zeros((2, 3)), np.zeros((2, 3), "float32"), "exact")
    assert_close(initializers.ones((2, 3)), np.ones((2, 3), "float32"), "exact")
    half = initializers.Constant(0.5)((2, 3), dtype="float64")
    assert_close(half, np.full((2, 3), 0.5), "exact")
    assert_close(
        initializers.Identity(gain=2.0)((2, 3), dtype="float64"), 2 * np.eye(2, 3), "exact"
    )


@pytest.mark.parametrize("name", sorted(initializers.PLAIN))
def test_same_seed_same_weights_in_every_precision(name):
    draw = initializers.get(name)
    one, again = (draw((4, 12), np.random.default_rng(7), "float64") for _ in range(2))
    single = draw((4, 12), np.random.default_rng(7), np.dtype("float32"))
    assert_close(one, again, "exact")
    assert single.dtype == "float32"
    assert_close(single, one.astype("float32"), "exact")
    assert single.flags.writeable
    if name in RANDOM or name == "orthogonal":
        assert not np.array_equal(one, draw((4, 12), np.random.default_rng(8), "float64"))
        assert not np.array_equal(draw((4, 12)), draw((4, 12)))  # no seed at all


def test_a_seed_of_its_own_wins(rng):
    draw = initializers.GlorotUniform(seed=3)
    one, two = draw((4, 12), rng), draw((4, 12), rng)
    assert_close(one, two, "exact")


@pytest.mark.parametrize("name", sorted(set(RANDOM) | {"zeros", "ones", "constant"}))
@pytest.mark.parametrize("shape", [(), (5,), (0, 3), (2, 3, 4)])
def test_any_shape_will_do(rng, name, shape):
    assert initializers.get(name)(shape, rng, "float64").shape == shape


@pytest.mark.parametrize("name", sorted(initializers.INITIALIZERS))
def test_every_name_comes_back_from_its_description(name):
    draw = initializers.get(name)
    again = initializers.get(json.loads(json.dumps(initializers.serialize(draw))))
    assert type(again) is type(draw)
    assert again.get_config() == draw.get_config()
    x, y = (d((4, 6), np.random.default_rng(0), "float64") for d in (draw, again))
    assert_close(x, y, "exact")
    assert initializers.serialize(name) == name
    assert initializers.get(draw) is draw


def test_settings_come_back():
    draw = initializers.VarianceScaling(2.0, "fan_out", "uniform", seed=5)
    again = initializers.get(initializers.serialize(draw))
    assert repr(again) == repr(draw)
    assert_close(again((3, 4)), draw((3, 4)), "exact")


def test_a_model_with_settings_of_its_own_is_saved(rng, tmp_path):
    kernel = initializers.RandomNormal(stddev=0.1)
    layer = GRU(4, kernel_initializer=kernel, recurrent_initializer=initializers.Orthogonal(0.5))
    model = Sequential([layer], seed=0)
    model.build((None, 5, 2))
    W_hh = layer.params["W_hh"]
    assert_close(W_hh.T @ W_hh, 0.25 * np.eye(4, dtype="float32"), "rounding")
    model.save(tmp_path / "model.safetensors")
    loaded = Sequential.load(tmp_path / "model.safetensors")
    assert loaded.layers[0].get_config() == layer.get_config()
    again = Sequential.from_config(loaded.get_config())
    again.build((None, 5, 2))
    assert_close(again.params, model.params, "exact")


def test_a_function_will_do_but_cannot_be_saved():
    def draw(shape, rng, dtype):
        return np.zeros(shape, dtype)

    assert initializers.get(draw) is draw
    with pytest.raises(TypeError, match=r"only an? initializer of gru_np's own"):
        initializers.serialize(draw)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: initializers.orthogonal((3,)), r"at least two axes, got \(3,\)"),
        (lambda: initializers.identity((3,)), r"that of a matrix, got \(3,\)"),
        (lambda: initializers.get("glorot_unifrom"), "did you mean 'glorot_uniform'"),
        (lambda: initializers.VarianceScaling(0), "scale must be finite and above 0"),
        (lambda: initializers.VarianceScaling(mode="fan"), "mode must be one of"),
        (lambda: initializers.RandomUniform(1.0, 0.0), "maxval must be finite and at least 1"),
        (lambda: initializers.RandomNormal(stddev=math.nan), "stddev must be finite"),
    ],
)
def test_impossible_settings_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
