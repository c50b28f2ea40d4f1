"""The checker is checked: it accepts what is right and rejects every bug planted in it."""

import numpy as np
import pytest
from conftest import TOLERANCES
from problems import GRADIENTS, B, H, I, draw, holes

from gru_np import (
    GRU,
    Bidirectional,
    Dense,
    Dropout,
    Embedding,
    GRUCell,
    LayerNormalization,
    Sequential,
    check_gradients,
    gradcheck,
    kernels,
    lessons,
    losses,
    recurrence,
)
from gru_np.gradcheck import GradientError, check_function
from gru_np.lessons import BUGS, EIGHT

T = 5
METHODS = pytest.mark.parametrize("method", ["complex", "central", "taylor"])

# ------------------------------------------------------------------------------- planted bugs


def check_planted(bug, method, form, rng, full=None):
    return check_function(*lessons.problem(bug, form, rng), method, full=full)


def planted(bugs):
    cases = [(name, form) for name, bug in bugs.items() for form in bug.forms]
    ids = [f"{name}-{form}".replace(" ", "_") for name, form in cases]
    return pytest.mark.parametrize("name, form", cases, ids=ids)


@METHODS
@pytest.mark.parametrize("form", ["after", "before"])
def test_the_code_without_a_bug_is_accepted(method, form, rng):
    check_planted(None, method, form, rng).raise_if_bad()


@METHODS
@planted(BUGS)
def test_each_planted_bug_is_rejected(name, form, method, rng):
    # Central differences of every entry would take half a minute: random directions.
    report = check_planted(name, method, form, rng, full=method == "complex")
    assert not report.ok
    # Not by a hair: a wrong term is of the size of the gradient, and its remainder falls like ε.
    assert report.worst.error > (0.9 if method == "taylor" else 1e-3)
    with pytest.raises(GradientError):
        report.raise_if_bad()


@planted(EIGHT)
def test_each_of_the_eight_bugs_is_found_by_random_directions(name, form, rng):
    report = check_planted(name, "complex", form, rng, full=False)
    assert not report.full and not report.ok


def test_a_bug_is_shown_in_the_gate_it_sits_in(rng):
    report = check_planted("b_hn forgotten in dr", "complex", "after", rng)
    wrong = {(row.name, row.gate) for row in report.rows if not row.ok}
    # da_r is wrong, so its rows are; what flows on to earlier states is wrong everywhere.
    assert {("W_ih", "r"), ("W_hh", "r"), ("b_ih", "r"), ("b_hh", "r")} <= wrong
    report = check_planted("h for r h in dW_hn", "complex", "before", rng)
    assert [(row.name, row.gate) for row in report.rows if not row.ok] == [("W_hh", "n")]
    assert report.worst.index[0] >= 2 * H


def test_complex_step_sees_an_error_of_one_part_in_ten_to_the_twelve(rng):
    def backward(dh, saved):
        gradients = dict(zip(GRADIENTS, recurrence.gru_backward(dh, saved), strict=True))
        gradients["W_hh"] = gradients["W_hh"] * (1 + 1e-12)
        return gradients

    report = check_function(lambda p: recurrence.gru_forward(**p), backward, draw(rng, T))
    assert {row.name for row in report.rows if not row.ok} == {"W_hh"}


# ------------------------------------------------------------------------ layers, losses, models


def batch(rng, features=I, dtype=np.float64):
    return rng.standard_normal((B, T, features)).astype(dtype)


def sequence_mask(rng):
    return holes(rng, T, B).T


GRU_SETTINGS = {
    "last": {},
    "sequence": {"return_sequences": True},
    "last-and-state": {"return_state": True},
    "sequence-and-state": {"return_sequences": True, "return_state": True},
    "no-bias": {"use_bias": False, "return_sequences": True},
    "backwards": {"go_backwards": True, "return_sequences": True, "return_state": True},
    "dropout": {"dropout": 0.3, "recurrent_dropout": 0.3, "return_sequences": True},
    "stateful": {"stateful": True},
    "hard": {"recurrent_activation": "hard_sigmoid", "activation": "relu"},
}


@pytest.mark.parametrize(
    "method, masked",
    [("complex", False), ("complex", True), ("central", True), ("taylor", True)],
    ids=["complex-all", "complex-masked", "central-masked", "taylor-masked"],
)
@pytest.mark.parametrize("reset_after", [True, False], ids=["after", "before"])
@pytest.mark.parametrize("settings", GRU_SETTINGS)
def test_gru_layers_are_right_in_every_setting(settings, reset_after, method, masked, rng):
    layer = GRU(H, reset_after=reset_after, seed=0, **GRU_SETTINGS[settings])
    mask = sequence_mask(rng) if masked else None
    report = check_gradients(layer, batch(rng), method=method, mask=mask)
    report.raise_if_bad()
    assert report.full == (method != "taylor")
    assert {"x", "initial_state", *layer_names(layer)} == {row.name for row in report.rows}


def layer_names(layer):
    return ["W_ih", "W_hh", *(["b_ih", "b_hh"] if layer.use_bias else [])]


@METHODS
@pytest.mark.parametrize(
    "layer",
    [
        GRUCell(H, seed=0),
        GRUCell(H, reset_after=False, dropout=0.3, recurrent_dropout=0.3, seed=0),
        Dense(H, seed=0),
        Dense(H, activation="softmax", seed=0),
        Dense(H, activation="sigmoid", use_bias=False, seed=0),
        Dense(H, activation="relu", seed=0),
        Dropout(0.4),
        LayerNormalization(),
        LayerNormalization(center=False, scale=False),
    ],
    ids=repr,
)
def test_layers_are_right(layer, method, rng):
    x = rng.standard_normal((B, 5)) if isinstance(layer, GRUCell) else batch(rng, features=5)
    check_gradients(layer, x, method=method).raise_if_bad()


@pytest.mark.parametrize("masked", [False, True], ids=["all", "masked"])
@pytest.mark.parametrize(
    "merge_mode, method",
    [*((mode, "complex") for mode in ["concat", "sum", "ave", None]),
     *(("mul", method) for method in ["complex", "central", "taylor"])],
)  # fmt: skip
def test_both_directions_are_right(merge_mode, masked, method, rng):
    layer = Bidirectional(GRU(3, return_sequences=True, return_state=True), merge_mode, seed=0)
    mask = sequence_mask(rng) if masked else None
    report = check_gradients(layer, batch(rng), method=method, mask=mask)
    report.raise_if_bad()
    assert {"backward/W_hh", "x", "backward/initial_state"} <= {row.name for row in report.rows}


@METHODS
def test_embedding_has_no_gradient_by_its_integer_input(method, rng):
    ids = rng.integers(0, 7, (B, T))
    report = check_gradients(Embedding(7, 3, mask_zero=True, seed=0), ids, method=method)
    report.raise_if_bad()
    assert [row.name for row in report.rows] == ["W"]


def ids_and_labels(rng):
    return rng.integers(0, 7, (B, T)), rng.integers(0, 6, B)


def text_model(dtype="float32"):
    layers = [
        Embedding(7, 3, mask_zero=True, dropout=0.2),
        Bidirectional(GRU(2, return_sequences=True, dropout=0.2)),
        Dropout(0.3),
        LayerNormalization(),
        GRU(3, reset_after=False),
        Dense(6, activation="softmax"),
    ]
    model = Sequential(layers, dtype=dtype, seed=0)
    model.compile("sparse_categorical_crossentropy", "adam")
    return model


@METHODS
def test_a_model_is_right_from_loss_to_initial_states(method, rng):
    report = check_gradients(text_model(), *ids_and_labels(rng), method=method)
    report.raise_if_bad()
    names = {row.name for row in report.rows}
    assert {"embedding/W", "gru/b_hh", "dense/b", "bidirectional/backward/initial_state"} <= names
    assert "x" not in names


@METHODS
def test_a_model_of_numbers_is_right_down_to_its_input(method, rng):
    model = Sequential([GRU(4, return_sequences=True), Dense(2)], seed=0)
    model.compile("mse", "adam")
    x, y = batch(rng), rng.standard_normal((B, T, 2))
    report = check_gradients(model, x, y, method)
    report.raise_if_bad()
    assert "x" in {row.name for row in report.rows}


@METHODS
@pytest.mark.parametrize(
    "name",
    [
        "sparse_categorical_crossentropy",
        "categorical_crossentropy",
        "binary_crossentropy",
        "mse",
        "mae",
    ],
)
@pytest.mark.parametrize("masked", [False, True], ids=["all", "masked"])
def test_losses_are_right(name, masked, method, rng):
    y_pred = rng.uniform(0.1, 0.9, (B, T, H))
    y_pred /= y_pred.sum(axis=-1, keepdims=True)
    y_true = {
        "sparse_categorical_crossentropy": rng.integers(0, H, (B, T)),
        "categorical_crossentropy": rng.dirichlet(np.ones(H), (B, T)),
        "binary_crossentropy": rng.integers(0, 2, (B, T, H)).astype(float),
    }.get(name, rng.standard_normal((B, T, H)))
    mask = sequence_mask(rng) if masked else None
    check_gradients(losses.get(name), y_pred, y_true, method, mask=mask).raise_if_bad()


def test_losses_of_logits_are_right(rng):
    logits, labels = rng.standard_normal((B, T, H)), rng.integers(0, H, (B, T))
    loss = losses.SparseCategoricalCrossentropy(from_logits=True)
    check_gradients(loss, logits, labels).raise_if_bad()


def test_a_wrong_backward_in_a_layer_of_a_model_is_found_there(rng):
    class Careless(Dense):
        def backward(self, dy, saved):
            dx, gradients = super().backward(dy, saved)
            return dx, gradients | {"b": gradients["b"] * 1.01}

    model = Sequential([GRU(4), Careless(2)], seed=0)
    model.compile("mse", "adam")
    report = check_gradients(model, batch(rng), rng.standard_normal((B, 2)))
    assert [row.name for row in report.rows if not row.ok] == ["careless/b"]


def test_the_callers_objects_are_left_alone(rng):
    model, (x, y) = text_model(), ids_and_labels(rng)
    model.predict(x)
    model.layers[1].trainable = False
    before, kept = {n: p.copy() for n, p in model.params.items()}, x.copy()
    check_gradients(model, x, y).raise_if_bad()
    assert {p.dtype for p in model.params.values()} == {np.dtype(np.float32)}
    assert all(np.array_equal(p, before[n]) for n, p in model.params.items())
    assert np.array_equal(x, kept) and not model.layers[1].trainable
    assert model.optimizer.iterations == 0

    layer = GRU(H, stateful=True)
    check_gradients(layer, batch(rng)).raise_if_bad()
    assert not layer.built and layer.state is None


def test_a_frozen_layer_is_checked_as_well(rng):
    model = text_model()
    model.layers[0].trainable = False
    report = check_gradients(model, *ids_and_labels(rng))
    assert "embedding/W" in {row.name for row in report.rows}


def test_what_masked_steps_hold_does_not_matter(rng):
    x, mask = batch(rng), sequence_mask(rng)
    x[~mask] = np.nan
    check_gradients(GRU(H, seed=0), x, mask=mask).raise_if_bad()


def test_the_same_seed_gives_the_same_report(rng):
    x = batch(rng)
    layer = GRU(H, dropout=0.5, seed=0)
    assert repr(check_gradients(layer, x)) == repr(check_gradients(layer, x))
    assert repr(check_gradients(layer, x, seed=1)) != repr(check_gradients(layer, x))


# ------------------------------------------------------------------------------------ the report


def cube(arrays):
    return arrays["p"] ** 3, arrays["p"]


def cube_backward(dy, p):
    return {"p": 3 * dy * p**2}


P = np.array([[0.5, -2.0, 1.5], [0.3, 0.7, -1.1]])


def test_report_names_the_worst_entry_and_both_values():
    def backward(dy, p):
        gradient = 3 * dy * p**2
        gradient[1, 2] += 0.25
        return {"p": gradient}

    report = check_function(cube, backward, {"p": P})
    assert not report.ok
    assert report.worst.index == (1, 2)
    assert report.worst.analytic == pytest.approx(report.worst.numerical + 0.25, rel=1e-12)
    with pytest.raises(GradientError) as raised:
        report.raise_if_bad()
    text = str(raised.value)
    for part in ["p:", "(1, 2)", repr(report.worst.analytic), repr(report.worst.numerical)]:
        assert part in text
    assert "1e-30" in text and "float64" in text and "1e-13" in text
    assert "WRONG" in repr(report) and "1 of 1 blocks WRONG" in repr(report)


def test_report_of_right_gradients_raises_nothing_and_says_so():
    report = check_function(cube, cube_backward, {"p": P})
    report.raise_if_bad()
    assert report.ok and "all right" in repr(report) and "WRONG" not in repr(report)


def test_float32_models_are_checked_in_float64_and_the_report_says_so(rng):
    report = check_gradients(text_model("float32"), *ids_and_labels(rng))
    assert report.dtype == "float32" and any("float32" in note for note in report.notes)
    report = check_gradients(text_model("float64"), *ids_and_labels(rng))
    assert report.dtype == "float64" and not any("float32" in note for note in report.notes)


def test_random_directions_are_taken_for_many_numbers_and_the_report_says_so(rng):
    report = check_gradients(GRU(32, seed=0), batch(rng))
    report.raise_if_bad()
    assert not report.full and any("random directions" in note for note in report.notes)
    assert "random directions" in repr(report)
    assert check_gradients(GRU(H, seed=0), batch(rng)).full


def test_constant_parameters_get_random_numbers_and_the_report_says_so(rng, monkeypatch):
    # the bug is planted in what NumPy's forward saves
    monkeypatch.setattr(kernels, "_switched_off", True)

    # With b_hn = 0, a gradient that forgets it would pass.
    class Forgetful(GRU):
        def backward(self, dy, saved):
            a_hn = saved.saved.a_hn - self.params["b_hh"][2 * H :]
            return super().backward(dy, saved._replace(saved=saved.saved._replace(a_hn=a_hn)))

    report = check_gradients(Forgetful(H, seed=0), batch(rng))
    assert not report.ok
    assert any("b_hh" in note for note in report.notes)


def test_one_time_step_is_remarked_on(rng):
    report = check_gradients(GRU(H, seed=0), batch(rng)[:, :1])
    assert any("one time step" in note for note in report.notes)


def test_tolerances_are_those_of_the_table_and_cannot_be_passed():
    assert gradcheck.TOLERANCES["complex"] == TOLERANCES["complex step"][0]
    assert gradcheck.TOLERANCES["central"] == TOLERANCES["central"][0]
    for function in (check_gradients, check_function):
        with pytest.raises(TypeError):
            function(GRU(H), P, tolerance=1)


# -------------------------------------------------------------- what is zero, missing or misshapen


@METHODS
def test_a_gradient_that_is_exactly_zero_is_right(method):
    def forward(arrays):
        return arrays["p"] ** 2 + 0 * arrays["q"], arrays["p"]

    def backward(dy, p):
        return {"p": 2 * dy * p, "q": np.zeros_like(p)}

    check_function(forward, backward, {"p": P, "q": 2 * P}, method).raise_if_bad()


@METHODS
@pytest.mark.parametrize("size", [1.0, 1e-6])
def test_a_gradient_that_should_be_zero_and_is_not_is_wrong(method, size):
    def forward(arrays):
        return arrays["p"] ** 2 + 0 * arrays["q"], arrays["p"]

    def backward(dy, p):
        return {"p": 2 * dy * p, "q": np.full_like(p, size)}

    report = check_function(forward, backward, {"p": P, "q": 2 * P}, method)
    assert [row.name for row in report.rows if not row.ok] == ["q"]


@METHODS
def test_a_zero_where_there_is_a_gradient_is_wrong(method):
    report = check_function(cube, lambda dy, p: {"p": np.zeros_like(p)}, {"p": P}, method)
    assert not report.ok


@METHODS
def test_a_gradient_that_cancels_to_zero_but_for_rounding_is_right(method, rng):
    # A constant added to all logits changes no probability: its gradient is a sum that cancels.
    W = rng.standard_normal((4, 3))

    def forward(arrays):
        a = arrays["logits"] @ W + arrays["shift"]
        e = np.exp(a - a.real.max(axis=-1, keepdims=True))
        y = e / e.sum(axis=-1, keepdims=True)
        return y, y

    def backward(dy, y):
        da = y * (dy - (dy * y).sum(axis=-1, keepdims=True))
        return {"logits": da @ W.T, "shift": da.sum(axis=-1, keepdims=True)}

    arrays = {"logits": rng.standard_normal((5, 4)), "shift": rng.standard_normal((5, 1))}
    report = check_function(forward, backward, arrays, method)
    report.raise_if_bad()
    if method == "complex":
        assert "rounding" in report.rows[1].note


@METHODS
def test_a_function_that_is_linear_has_no_remainder_and_is_right(method, rng):
    W = rng.standard_normal((3, 5))
    arrays = {"p": P}
    right = check_function(
        lambda a: (a["p"] @ W, None), lambda dy, _: {"p": dy @ W.T}, arrays, method
    )
    right.raise_if_bad()
    wrong = check_function(
        lambda a: (a["p"] @ W, None), lambda dy, _: {"p": dy @ W[::-1].T}, arrays, method
    )
    assert not wrong.ok


@METHODS
@pytest.mark.parametrize(
    "gradient, note",
    [
        (None, "no gradient"),
        (np.ones((3, 2)), r"shape (3, 2)"),
        (np.full((2, 3), np.nan), "NaN"),
    ],
    ids=["missing", "transposed", "nan"],
)
def test_a_gradient_that_is_missing_misshapen_or_nan_is_a_wrong_row(method, gradient, note):
    report = check_function(cube, lambda dy, p: {"p": gradient}, {"p": P}, method)
    assert not report.ok and note in report.worst.note
    assert note in repr(report)
    with pytest.raises(GradientError):
        report.raise_if_bad()


# -------------------------------------------------------------------------- what no check can use


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e200, 1e-310], ids=str)
def test_input_that_looks_uninitialised_is_refused_with_advice(value, rng):
    x = batch(rng)
    x[1, 2, 0] = value
    with pytest.raises(ValueError, match=r"x must hold finite numbers.*uninitialised memory"):
        check_gradients(GRU(H), x)
    layer = Dense(3, seed=0)
    layer(batch(rng))
    layer.params["W"][0, 0] = value
    with pytest.raises(ValueError, match="W must hold finite numbers"):
        check_gradients(layer, batch(rng))


def test_float32_arrays_are_refused_by_check_function():
    with pytest.raises(TypeError, match="p must be float64, got float32"):
        check_function(cube, cube_backward, {"p": P.astype(np.float32)})


def test_what_is_random_between_two_evaluations_is_refused(rng):
    class Restless(Dropout):
        def forward(self, x, mask=None, training=False, rng=None):
            return super().forward(x, mask, training, np.random.default_rng())

    with pytest.raises(ValueError, match="two equal evaluations"):
        check_gradients(Restless(0.5), batch(rng))


@pytest.mark.parametrize("part", [np.abs, np.real, lambda p: np.asarray(p, dtype=np.float64)])
def test_a_forward_pass_that_drops_imaginary_parts_is_refused_with_advice(part):
    with pytest.raises(ValueError, match=r'complex numbers.*method="central"'):
        check_function(lambda a: (part(a["p"]), a["p"]), lambda dy, p: {"p": dy}, {"p": P})


def test_an_unknown_method_is_refused(rng):
    with pytest.raises(ValueError, match="did you mean 'complex'"):
        check_gradients(GRU(H), batch(rng), method="complx")


def test_a_model_needs_a_loss_and_a_target(rng):
    model = Sequential([GRU(4)])
    with pytest.raises(ValueError, match="must be compiled first"):
        check_gradients(model, batch(rng), np.zeros((B, 4)))
    model.compile("mse", "adam")
    with pytest.raises(ValueError, match="needs y"):
        check_gradients(model, batch(rng))
    with pytest.raises(ValueError, match="needs y"):
        check_gradients(losses.get("mse"), P)
    with pytest.raises(TypeError, match="Sequential, a Layer or a Loss, got function"):
        check_gradients(test_a_model_needs_a_loss_and_a_target, P)


# ------------------------------------------------------------------------- the three ways to check


def test_complex_step_needs_no_choice_of_step_and_differences_do():
    def f(p):
        return np.exp(np.sin(p[0]) * p[1])

    p, d = np.array([0.7, 1.3]), np.array([1.0, -0.5])
    g = np.array([np.cos(p[0]) * p[1], np.sin(p[0])]) * f(p)
    exact = float(g @ d)

    def errors(method, steps):
        found = [gradcheck.directional_derivative(f, p, d, method, step) for step in steps]
        return np.abs(np.array(found) - exact) / abs(exact)

    assert errors("complex", 10.0 ** -np.arange(8, 300, 20)).max() < 1e-15
    steps = 10.0 ** -np.arange(1, 14)
    central, forward = errors("central", steps), errors("forward", steps)
    # The V: curvature on the left, cancellation on the right, the best in between.
    assert 3 <= central.argmin() <= 6 and central.min() > 1e-13
    assert 6 <= forward.argmin() <= 9 and forward.min() > 1e-10
    assert central[0] > 1e-4 and central[-1] > 1e-5


@pytest.mark.parametrize("reset_after", [True, False])
def test_a_right_gradient_of_many_units_is_called_right(reset_after, rng):
    # with weights of one size for any number of units, as `gru-np gradcheck --units 300` draws them
    model = Sequential(
        [Embedding(7, 3), GRU(300, return_sequences=True, reset_after=reset_after), Dense(5)],
        dtype="float64",
        seed=0,
    )
    model.compile("mse", "adam")
    model.build((None, None))
    for array in model.params.values():
        array[...] = rng.standard_normal(array.shape) / 2
    report = check_gradients(model, rng.integers(0, 7, (3, 5)), rng.standard_normal((3, 5, 5)))
    assert report.ok, report
    # the bound follows the length of the sums, not what was found
    assert report.tolerance == gradcheck.TOLERANCES["complex"] * 300 / gradcheck.SUM


def test_a_wrong_gradient_of_many_units_is_called_wrong(rng):
    W = rng.standard_normal((7, 300))
    forward = lambda arrays: (arrays["x"] @ arrays["W"].T, arrays)  # noqa: E731
    backward = lambda dy, saved: {  # noqa: E731
        "W": dy.T @ saved["x"] * (1 + 1e-11),
        "x": dy @ saved["W"],
    }
    arrays = {"W": W, "x": rng.standard_normal((4, 300))}
    report = gradcheck.check_function(forward, backward, arrays)
    assert [(row.name, row.ok) for row in report.rows] == [("W", False), ("x", True)]
