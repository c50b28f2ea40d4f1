"""Optimisers: golden trajectories of Keras and PyTorch, scalar loops, clipping, state, refusals."""

import json
import math

import numpy as np
import pytest
from conftest import assert_close
from golden_training import as_arrays, case_id, golden, maker, require
from hypothesis import given
from hypothesis import strategies as st

from gru_np import kernels, optimizers
from gru_np.optimizers import SGD, Adam, RMSprop
from gru_np.schedules import CosineDecay, ExponentialDecay

STORED = golden()["optimizers"]
SETTINGS = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9}),
    ("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("RMSprop", {"momentum": 0.5, "centered": True}),
    ("RMSprop", {"epsilon_placement": "torch", "clipvalue": 0.5}),
    ("Adam", {"clipnorm": 0.5}),
    ("Adam", {"amsgrad": True, "global_clipnorm": 0.5}),
    ("AdamW", {"epsilon_placement": "torch", "no_decay": ["/b"]}),
]


def make(name, config):
    return optimizers.get({"class_name": name, "config": config})


def problem(rng, dtype="float64", steps=6):
    """Give two parameters of different shapes and their gradients for some steps."""
    shapes = {"gru/W": (3, 2), "gru/b": (4,)}
    params = {name: rng.normal(size=shape).astype(dtype) for name, shape in shapes.items()}
    grads = [
        {name: rng.normal(size=shape).astype(dtype) for name, shape in shapes.items()}
        for _ in range(steps)
    ]
    return params, grads


def copy(arrays):
    return {name: array.copy() for name, array in arrays.items()}


# ---------------------------------------------------------------------------------------- values


@pytest.mark.parametrize("case", STORED["cases"], ids=case_id)
def test_trajectories_equal_the_stored_ones(case):
    params = as_arrays(STORED["params"])
    optimizer, trail = optimizers.get(case["ours"]), []
    for grads in STORED["grads"]:
        optimizer.apply(params, as_arrays(grads))
        trail.append(copy(params))
    assert_close(trail[0], as_arrays(case["trail"][0]), "foreign")
    assert_close(trail[-1], as_arrays(case["trail"][1]), "foreign")


@pytest.mark.parametrize("case", STORED["cases"], ids=case_id)
def test_stored_trajectories_are_what_the_libraries_compute(case):
    require(case["library"])
    answer = maker().optimizer_answer(case, STORED["params"], STORED["grads"])
    for computed, stored in zip(answer, case["trail"], strict=True):
        assert_close(computed, as_arrays(stored), "foreign")


def test_stored_trajectories_differ_between_the_places_of_epsilon(rng):
    answers = []
    for placement in ("keras", "torch"):
        params, grads = problem(np.random.default_rng(0))
        optimizer = optimizers.Adam(epsilon=1e-2, epsilon_placement=placement)
        for g in grads:
            optimizer.apply(params, g)
        answers.append(params["gru/W"])
    assert np.abs(answers[0] - answers[1]).max() > 1e-6


def test_adam_is_the_scalar_loop_of_its_equation(rng):
    params, grads = problem(rng)
    start, optimizer = copy(params), optimizers.Adam(0.01, beta_1=0.7, beta_2=0.8, epsilon=1e-3)
    for g in grads:
        optimizer.apply(params, g)
    for name, p in start.items():
        for i in np.ndindex(p.shape):
            value, m, v = p[i], 0.0, 0.0
            for t, g in enumerate(grads, start=1):
                m = 0.7 * m + (1 - 0.7) * g[name][i]
                v = 0.8 * v + (1 - 0.8) * g[name][i] ** 2
                alpha = 0.01 * math.sqrt(1 - 0.8**t) / (1 - 0.7**t)
                value -= alpha * m / (math.sqrt(v) + 1e-3)
            p[i] = value
    assert_close(params, start, "naive")


@pytest.mark.parametrize(("name", "config"), SETTINGS)
def test_every_optimiser_finds_the_bottom_of_a_bowl(name, config):
    params = {"x": np.array([3.0, -2.0])}
    optimizer = make(name, config | {"learning_rate": 0.05, "weight_decay": None or 0.0})
    for _ in range(500):
        optimizer.apply(params, {"x": params["x"] * [1.0, 4.0]})
    assert np.abs(params["x"]).max() < 0.1


@pytest.mark.parametrize(("name", "config"), SETTINGS)
def test_float32_stays_float32_and_near_float64(rng, name, config):
    params, grads = problem(rng, "float32")
    wide, optimizer, wide_optimizer = {}, make(name, config), make(name, config)
    wide = {k: v.astype(float) for k, v in params.items()}
    for g in grads:
        optimizer.apply(params, g)
        wide_optimizer.apply(wide, {k: v.astype(float) for k, v in g.items()})
    assert {p.dtype for p in params.values()} == {np.dtype("float32")}
    assert {s.dtype for s in optimizer.state.values()} <= {np.dtype("float32")}
    for key, p in params.items():
        assert_close(p, wide[key].astype("float32"), "precision")


@pytest.mark.parametrize(("name", "config"), SETTINGS)
def test_updates_are_in_place_and_gradients_stay_as_they_are(rng, name, config):
    params, grads = problem(rng, steps=1)
    arrays = dict(params)
    grads[0]["gru/W"] *= 100  # so that clipping has something to do
    before = copy(grads[0])
    for g in grads[0].values():
        g.flags.writeable = False
    make(name, config).apply(params, grads[0])
    assert all(params[key] is arrays[key] for key in params)
    assert_close(grads[0], before, "exact")


def test_parameters_without_a_gradient_stay(rng):
    params, grads = problem(rng)
    before = copy(params)
    optimizers.AdamW(0.1).apply(params, {"gru/b": grads[0]["gru/b"]})
    assert_close(params["gru/W"], before["gru/W"], "exact")
    assert not np.array_equal(params["gru/b"], before["gru/b"])


def test_strided_parameters_are_updated(rng):
    params, grads = problem(rng, steps=2)
    strided = {name: np.repeat(p, 2, axis=-1)[..., ::2] for name, p in params.items()}
    one, other = optimizers.RMSprop(0.1, centered=True), optimizers.RMSprop(0.1, centered=True)
    for g in grads:
        one.apply(params, g)
        other.apply(strided, g)
    assert_close(strided, params, "exact")


# -------------------------------------------------------------------------------------- clipping


def clipped(grads, **clip):
    """Give what an optimiser with this clipping uses as the gradient."""
    params = {name: np.zeros_like(g) for name, g in grads.items()}
    optimizers.SGD(1.0, **clip).apply(params, grads)
    return {name: -p for name, p in params.items()}


@given(seed=st.integers(0, 2**32), bound=st.floats(1e-3, 1e3))
def test_clipping_keeps_bounds_and_direction(seed, bound):
    _, (grads,) = problem(np.random.default_rng(seed), steps=1)
    for name, g in clipped(grads, clipnorm=bound).items():
        norm = np.linalg.norm(grads[name])
        assert_close(g, grads[name] * min(1, bound / norm), "rounding")
    together = np.linalg.norm([np.linalg.norm(g) for g in grads.values()])
    for name, g in clipped(grads, global_clipnorm=bound).items():
        assert_close(g, grads[name] * min(1, bound / together), "rounding")
    for name, g in clipped(grads, clipvalue=bound).items():
        assert_close(g, np.clip(grads[name], -bound, bound), "exact")


def test_small_gradients_are_left_as_they_are_to_the_bit(rng):
    _, (grads,) = problem(rng, steps=1)
    for clip in ("clipnorm", "clipvalue", "global_clipnorm"):
        assert_close(clipped(grads, **{clip: 100.0}), grads, "exact")


def test_zero_gradients_are_clipped_to_zero():
    grads = {"w": np.zeros(3)}
    for clip in ("clipnorm", "clipvalue", "global_clipnorm"):
        assert_close(np.abs(clipped(grads, **{clip: 1.0})["w"]), np.zeros(3), "exact")


@pytest.mark.parametrize(("size", "dtype"), [(1e30, "float32"), (1e300, "float64")])
@pytest.mark.parametrize("clip", ["clipnorm", "global_clipnorm"])
def test_norms_do_not_overflow(size, dtype, clip):
    grads = {"w": np.array([3 * size, 4 * size], dtype)}
    assert_close(clipped(grads, **{clip: 1.0})["w"], np.array([0.6, 0.8], dtype), "rounding")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("clip", ["clipnorm", "global_clipnorm"])
def test_a_gradient_that_is_not_finite_is_not_hidden_by_clipping(bad, clip):
    assert np.isnan(clipped({"w": np.array([1.0, bad])}, **{clip: 1.0})["w"]).all()


def test_large_arrays_are_summed_whole(rng):
    g = rng.normal(size=(300, 701))  # more than one block of the norm
    assert_close(np.linalg.norm(clipped({"w": g}, clipnorm=2.0)["w"]), 2.0, "rounding")


# ---------------------------------------------------------------------------------- weight decay


@pytest.mark.parametrize("name", ["SGD", "RMSprop", "Adam", "AdamW"])
def test_weight_decay_is_decoupled_and_passes_by_what_is_excluded(rng, name):
    params, _ = problem(rng)
    before, zero = copy(params), {key: np.zeros_like(p) for key, p in params.items()}
    optimizer = make(name, {"learning_rate": 0.1, "weight_decay": 0.5})
    optimizer.exclude_from_weight_decay(["/b"])
    optimizer.apply(params, zero)
    assert_close(params["gru/W"], before["gru/W"] * (1 - 0.1 * 0.5), "rounding")
    assert_close(params["gru/b"], before["gru/b"], "exact")


# ---------------------------------------------------------------------- learning rate, state, name


def test_the_rate_may_be_set_while_training(rng):
    params = {"w": np.zeros(1)}
    optimizer = optimizers.SGD(1.0)
    optimizer.apply(params, {"w": np.ones(1)})
    optimizer.learning_rate = 0.25
    optimizer.apply(params, {"w": np.ones(1)})
    assert params["w"] == -1.25
    assert optimizer.learning_rate == optimizer.learning_rate_now() == 0.25
    assert optimizer.get_config()["learning_rate"] == 0.25


def test_a_schedule_counts_the_steps_from_zero():
    params = {"w": np.zeros(1)}
    for schedule in (ExponentialDecay(1.0, 1, 0.5), lambda step: 0.5**step):
        optimizer, params["w"][:] = optimizers.SGD(schedule), 0
        for _ in range(3):
            optimizer.apply(params, {"w": np.ones(1)})
        assert params["w"] == -1.75
        assert optimizer.learning_rate is schedule
        assert optimizer.learning_rate_now() == 0.125


@pytest.mark.parametrize(("name", "config"), SETTINGS)
@pytest.mark.parametrize("rate", [0.01, ExponentialDecay(0.1, 3, 0.5)])
def test_a_resumed_run_has_the_same_bits(rng, name, config, rate):
    params, grads = problem(rng, "float32", steps=8)
    resumed = copy(params)
    optimizer = make(name, config | {"learning_rate": rate})
    for g in grads:
        optimizer.apply(params, g)
    optimizer = make(name, config | {"learning_rate": rate})
    for g in grads:
        described = json.loads(json.dumps(optimizers.serialize(optimizer)))
        state, iterations = copy(optimizer.state), optimizer.iterations
        for array in state.values():
            array.flags.writeable = False  # as a file may give them
        optimizer = optimizers.get(described)
        optimizer.state, optimizer.iterations = state, iterations
        optimizer.apply(resumed, g)
    assert_close(resumed, params, "exact")
    assert all(key.split("/", 1)[1] in params for key in optimizer.state)


def test_state_of_another_model_is_refused(rng):
    params, grads = problem(rng)
    optimizer = optimizers.Adam()
    optimizer.state = {"m/gru/W": np.zeros((2, 2))}
    with pytest.raises(ValueError, match=r"'m/gru/W' must have shape \(3, 2\), got \(2, 2\)"):
        optimizer.apply(params, grads[0])


@pytest.mark.parametrize("name", sorted(optimizers.OPTIMIZERS))
def test_every_name_comes_back_from_its_description(name):
    optimizer = optimizers.get(name)
    again = optimizers.get(optimizers.serialize(optimizer))
    assert type(again) is type(optimizer)
    assert again.get_config() == optimizer.get_config()
    assert optimizers.get(optimizer) is optimizer
    assert optimizers.get(type(optimizer)).get_config() == optimizer.get_config()


def test_defaults_are_those_of_keras():
    assert optimizers.SGD().learning_rate == 0.01
    assert optimizers.RMSprop().rho == 0.9
    adam = optimizers.Adam()
    assert (adam.learning_rate, adam.beta_1, adam.beta_2, adam.epsilon) == (0.001, 0.9, 0.999, 1e-7)
    assert optimizers.AdamW().weight_decay == 0.004


def test_schedules_come_back_in_the_description():
    optimizer = optimizers.Adam(CosineDecay(0.1, 100), clipnorm=1.0, no_decay=["/b"])
    described = json.loads(json.dumps(optimizers.serialize(optimizer)))
    again = optimizers.get(described)
    assert repr(again) == repr(optimizer)
    assert again.learning_rate(50) == optimizer.learning_rate(50)


def test_a_schedule_of_ones_own_cannot_be_written_to_a_file():
    with pytest.raises(TypeError, match="only a schedule of gru_np's own"):
        optimizers.SGD(lambda step: 0.1).get_config()


# -------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("rate", [np.nan, np.inf, -0.1])
def test_a_rate_that_is_not_finite_and_positive_is_refused(rate):
    with pytest.raises(ValueError, match="learning_rate must be finite and at least 0, got"):
        optimizers.Adam(learning_rate=rate)
    optimizer = optimizers.SGD()
    with pytest.raises(ValueError, match="SGD: learning_rate must be finite"):
        optimizer.learning_rate = rate
    params = {"w": np.ones(1)}
    optimizer.learning_rate = lambda step: rate if step == 1 else 0.1
    optimizer.apply(params, {"w": np.ones(1)})
    with pytest.raises(ValueError, match="the learning rate of step 1 must be finite"):
        optimizer.apply(params, {"w": np.ones(1)})
    assert params["w"] == 0.9  # nothing was changed


@pytest.mark.parametrize(
    ("name", "config", "words"),
    [
        ("SGD", {"momentum": 1.5}, r"momentum must be in \[0, 1\], got 1.5"),
        ("RMSprop", {"rho": 1.0}, r"rho must be in \[0, 1\), got 1.0"),
        ("Adam", {"beta_2": 1.0}, r"beta_2 must be in \[0, 1\)"),
        ("Adam", {"epsilon": -1e-7}, "epsilon must be finite and at least 0"),
        (
            "Adam",
            {"epsilon_placement": "here"},
            r"'epsilon_placement'\] must be one of 'keras', 'torch', got 'here'",
        ),
        ("AdamW", {"weight_decay": -0.1}, "weight_decay must be finite and at least 0"),
        ("Adam", {"clipnorm": 0}, "clipnorm must be finite and above 0"),
        ("Adam", {"clipvalue": 1.0, "clipnorm": 1.0}, "one kind .*, got clipnorm and clipvalue"),
        ("Adam", {"lr": 0.1}, "settings must be among learning_rate, .*, got 'lr'"),
    ],
)
def test_impossible_settings_are_refused(name, config, words):
    with pytest.raises(ValueError, match=words):
        make(name, config)


def test_wrong_types_are_refused():
    with pytest.raises(TypeError, match="learning_rate must be a number, got 'fast'"):
        optimizers.Adam("fast")
    with pytest.raises(TypeError, match="weight_decay must be a number, got None"):
        optimizers.AdamW(weight_decay=None)
    with pytest.raises(TypeError, match="no_decay must be a list of words"):
        optimizers.Adam(no_decay="/b")


def test_gradients_that_fit_no_parameter_are_refused(rng):
    params, _ = problem(rng)
    with pytest.raises(ValueError, match="there is no parameter 'gru/x' to update"):
        optimizers.SGD().apply(params, {"gru/x": np.zeros(2)})
    with pytest.raises(ValueError, match=r"gradient of 'gru/W' must have shape \(3, 2\), got"):
        optimizers.SGD().apply(params, {"gru/W": np.zeros((2, 3))})


@pytest.mark.parametrize("clip", ["none", "clipvalue", "clipnorm", "global_clipnorm"])
@pytest.mark.parametrize(
    ("cls", "settings"),
    [
        (optimizers.SGD, {"momentum": 0.9}), (optimizers.RMSprop, {}),
        (optimizers.RMSprop, {"centered": True, "momentum": 0.9}), (optimizers.Adam, {}),
        (optimizers.Adam, {"amsgrad": True, "weight_decay": 0.1}),
    ],
)  # fmt: skip
def test_a_parameter_without_axes_is_updated_as_one_with_one(cls, settings, clip):
    settings = settings | ({} if clip == "none" else {clip: 0.1})
    point, row = {"w": np.array(2.0)}, {"w": np.array([2.0])}
    of_point, of_row = cls(**settings), cls(**settings)
    for g in (0.5, -1.0, 0.25):
        of_point.apply(point, {"w": np.array(g)})
        of_row.apply(row, {"w": np.array([g])})
    assert point["w"].shape == () and point["w"] == row["w"][0] != 2.0
    assert all(array.shape == () for array in of_point.state.values())


def test_both_biases_of_a_gru_are_clipped_as_one_variable():
    """As Keras, whose bias is one array of two rows."""
    params = {name: np.zeros(1) for name in ("gru/b_ih", "gru/b_hh", "gru_1/b_ih", "a/b", "a/W")}
    grads = {"gru/b_ih": 3.0, "gru/b_hh": 4.0, "gru_1/b_ih": 3.0, "a/b": 0.5, "a/W": 4.0}
    for optimizer in (optimizers.SGD(1.0, clipnorm=1.0), optimizers.SGD(1.0, clipnorm=1.0)):
        optimizer.apply(params, {name: np.array([g]) for name, g in grads.items()})
    steps = {name: round(float(-p[0]) / 2, 12) for name, p in params.items()}
    assert steps == {"gru/b_ih": 0.6, "gru/b_hh": 0.8, "gru_1/b_ih": 1.0, "a/b": 0.5, "a/W": 1.0}


COMPILED = pytest.mark.parametrize("compiled", [True, False])


@pytest.fixture
def as_asked(compiled):
    """Update in compiled code, or in NumPy."""
    token = kernels._in_numpy.set(not compiled)
    yield
    kernels._in_numpy.reset(token)


@COMPILED
@pytest.mark.parametrize("optimizer", [SGD, RMSprop, Adam], ids=lambda o: o.__name__)
def test_a_read_only_parameter_is_refused_whenever_it_became_so(optimizer, compiled, as_asked):
    params = {"w": np.arange(5.0), "b": np.arange(3.0)}
    grads = {name: np.ones_like(p) for name, p in params.items()}
    optimizer = optimizer(0.1)
    optimizer.apply(params, grads)
    params["b"].flags.writeable = False
    before = {name: p.copy() for name, p in params.items()}
    with pytest.raises(ValueError, match="the parameter 'b' must be writable, got a read-only"):
        optimizer.apply(params, grads)
    assert_close(params, before, "exact")


@COMPILED
def test_a_masked_array_is_refused_and_one_without_masked_entries_taken(compiled, as_asked):
    w, g = np.arange(5.0), np.ones(5)
    with pytest.raises(ValueError, match="the gradient of 'w' must have no masked entries"):
        Adam(0.1).apply({"w": w.copy()}, {"w": np.ma.array(g, mask=[0, 1, 0, 0, 0])})
    with pytest.raises(TypeError, match="'w' must be a plain array, got a masked one"):
        Adam(0.1).apply({"w": np.ma.array(w)}, {"w": g})
    plain, masked = {"w": w.copy()}, {"w": w.copy()}
    Adam(0.1).apply(plain, {"w": g})
    Adam(0.1).apply(masked, {"w": np.ma.array(g)})
    assert_close(masked, plain, "exact")


@COMPILED
def test_a_complex_gradient_of_a_real_parameter_is_refused(compiled, as_asked):
    with pytest.raises(TypeError, match=r"the gradient of 'w' must be real, .* got complex128"):
        Adam(0.1).apply({"w": np.arange(5.0)}, {"w": np.ones(5) + 1j})
