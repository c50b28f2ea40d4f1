"""Losses: golden values, complex step, 50-digit arithmetic, extreme logits, masks and weights."""

import mpmath
import numpy as np
import pytest
from conftest import assert_close
from golden_training import case_id, golden, maker, require
from hypothesis import given, settings
from hypothesis import strategies as st

from gru_np import losses

B, T, K = 3, 5, 4
NAMES = ["sparse_categorical_crossentropy", "categorical_crossentropy", "binary_crossentropy"]
NAMES += ["mse", "mae", "huber"]
LOGITS = {"from_logits": True}
SMOOTH = {"label_smoothing": 0.2}
SETTINGS = [
    *((name, config) for name in NAMES[:3] for config in ({}, LOGITS, SMOOTH, LOGITS | SMOOTH)),
    *((name, {}) for name in NAMES[3:]),
    ("huber", {"delta": 0.3}),
]


def make(name, config):
    return losses.get({"class_name": name, "config": config})


def draw(rng, name, config, shape=(B, T, K)):
    """Give targets and predictions that suit the loss."""
    y_pred = rng.normal(size=shape) * 2
    if "crossentropy" in name and "from_logits" not in config:
        y_pred = rng.uniform(0.05, 0.95, shape)
    if name.startswith("sparse"):
        return rng.integers(0, shape[-1], shape[:-1]), y_pred
    if name.startswith("categorical"):
        return rng.dirichlet(np.ones(shape[-1]), shape[:-1]), y_pred
    if name.startswith("binary"):
        return rng.uniform(size=shape), y_pred
    return rng.normal(size=shape) * 2, y_pred


# ---------------------------------------------------------------------------------------- values


@pytest.mark.parametrize("case", golden()["losses"], ids=case_id)
def test_value_and_gradient_equal_the_stored_ones(case):
    extras = {name: case[name] for name in ("sample_weight", "mask") if name in case}
    value, gradient = losses.get(case["ours"])(case["y_true"], case["y_pred"], **extras)
    assert_close(value, case["value"], "foreign")
    assert_close(gradient, case["gradient"], "foreign")


@pytest.mark.parametrize("case", golden()["losses"], ids=case_id)
def test_stored_numbers_are_what_the_libraries_compute(case):
    require(case["library"])
    answer = maker().loss_answer(case)
    assert_close(answer["value"], case["value"], "foreign")
    assert_close(answer["gradient"], case["gradient"], "foreign")


def exact(x):
    return mpmath.mpf(float(x))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 200.0])
@pytest.mark.parametrize("epsilon", [0.0, 0.2])
def test_softmax_crossentropy_keeps_its_relative_accuracy(rng, scale, epsilon):
    mpmath.mp.dps = 50 if scale < 200 else 400  # 1 - p is 1e-200
    x, y = rng.normal(size=(6, K)) * scale, rng.integers(0, K, 6)
    y[0] = x[0].argmax()  # all but certain at a large scale
    loss = losses.SparseCategoricalCrossentropy(from_logits=True, label_smoothing=epsilon)
    for row, label in zip(x, y, strict=True):
        total = sum(mpmath.exp(exact(v)) for v in row)
        target = [exact(1 - epsilon) * (k == label) + exact(epsilon) / K for k in range(K)]
        expected = sum(t * (mpmath.log(total) - exact(v)) for t, v in zip(target, row, strict=True))
        slope = [mpmath.exp(exact(v)) / total - t for t, v in zip(target, row, strict=True)]
        for kind, y_true in [(loss, [label]), (dense(loss), [np.eye(K)[label]])]:
            value, gradient = kind(y_true, row[None])
            assert abs(exact(value) - expected) <= 1e-13 * abs(expected)
            error = mpmath.norm([exact(g) - s for g, s in zip(gradient[0], slope, strict=True)])
            assert error <= 1e-13 * mpmath.norm(slope)


def dense(loss):
    return losses.CategoricalCrossentropy(loss.from_logits, loss.label_smoothing)


@pytest.mark.parametrize("x", [-700.0, -40.0, -1.0, 0.0, 1e-9, 2.0, 40.0, 700.0])
@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_sigmoid_crossentropy_keeps_its_relative_accuracy(x, t):
    mpmath.mp.dps = 350  # 1 - σ(700) is 1e-304
    sigma = 1 / (1 + mpmath.exp(-exact(x)))
    expected = -exact(t) * mpmath.log(sigma) - (1 - exact(t)) * mpmath.log(1 - sigma)
    value, gradient = losses.BinaryCrossentropy(from_logits=True)([[t]], [[x]])
    assert abs(exact(value) - expected) <= 1e-13 * expected
    assert abs(exact(gradient.item()) - (sigma - exact(t))) <= 1e-13 * abs(sigma - exact(t))


@pytest.mark.parametrize(("name", "config"), SETTINGS)
def test_gradient_agrees_with_complex_step(rng, name, config):
    loss = make(name, config)
    y_true, y_pred = draw(rng, name, config)
    extras = {"mask": rng.random((B, T)) < 0.7, "sample_weight": rng.uniform(0.5, 2, (B, T))}
    _, gradient = loss(y_true, y_pred, **extras)
    numeric = np.empty_like(y_pred)
    for i in np.ndindex(y_pred.shape):
        stepped = y_pred.astype(complex)
        stepped[i] += 1e-30j
        numeric[i] = loss(y_true, stepped, **extras)[0].imag / 1e-30
    assert_close(gradient, numeric, "complex step")


@pytest.mark.parametrize(("name", "config"), SETTINGS)
def test_complex_predictions_give_the_real_answer_and_an_analytic_gradient(rng, name, config):
    y_true, y_pred = draw(rng, name, config)
    loss = make(name, config)
    value, gradient = loss(y_true, y_pred)
    complex_value, complex_gradient = loss(y_true, y_pred.astype(complex))
    assert complex_value.dtype == complex_gradient.dtype == complex
    assert_close(complex_value, value + 0j, "naive")
    assert_close(complex_gradient, gradient + 0j, "naive")


@pytest.mark.parametrize(("name", "config"), SETTINGS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_value_and_gradient_keep_the_dtype_and_inputs_stay_as_they_are(rng, name, config, dtype):
    y_true, y_pred = draw(rng, name, config)
    y_pred = y_pred.astype(dtype)
    y_pred.flags.writeable = False
    y_true.flags.writeable = False
    value, gradient = make(name, config)(y_true, y_pred)
    assert value.dtype == gradient.dtype == dtype
    assert gradient.shape == y_pred.shape
    wide_value, wide_gradient = make(name, config)(y_true, y_pred.astype("float64"))
    if dtype == "float32":
        assert_close(value, wide_value, "precision")
        assert_close(gradient, wide_gradient, "precision")


# ------------------------------------------------------------------------------------- extremes


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("logit", [0.0, 1e4, -1e4, 3e38, -3e38, -np.inf])
@pytest.mark.parametrize("label", [0, 1])
def test_extreme_logits_give_finite_gradients(dtype, logit, label):
    x = np.array([[1.0, 2.0, -1.0, logit]], dtype)  # the label's own logit is an ordinary one
    for loss, y_true in [
        (losses.SparseCategoricalCrossentropy(from_logits=True), [label]),
        (losses.CategoricalCrossentropy(from_logits=True), [np.eye(4)[label]]),
    ]:
        value, gradient = loss(y_true, x)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()
        assert_close(gradient.sum() + 1, np.array(1.0, dtype), "rounding")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_two_extremes_together_give_a_finite_gradient(dtype):
    x = np.array([[3e38, -3e38, 0.0]], dtype)
    value, gradient = losses.SparseCategoricalCrossentropy(from_logits=True)([1], x)
    assert_close(gradient, np.array([[1.0, -1.0, 0.0]], dtype), "exact")
    # 6e38 is beyond float32: infinity is its nearest number.
    assert value == (np.inf if dtype == "float32" else 6e38)
    # A mean over positions is taken in float64, so it may be back in range.
    both = np.concatenate([x, np.zeros((2, 3), dtype)])
    value, _ = losses.SparseCategoricalCrossentropy(from_logits=True)([1, 0, 0], both)
    assert value == pytest.approx(2e38)


@pytest.mark.parametrize("x", [1e4, 3e38, np.inf])
def test_sure_and_right_binary_answers_cost_nothing(x):
    for dtype in ("float32", "float64"):
        logits = np.array([[x, -x]], dtype)
        value, gradient = losses.BinaryCrossentropy(from_logits=True)([[1, 0]], logits)
        assert value == 0
        assert_close(gradient, np.zeros((1, 2), dtype), "exact")
        value, gradient = losses.BinaryCrossentropy(from_logits=True)([[0, 1]], logits)
        assert value == np.array(x, dtype)
        assert_close(gradient, np.array([[0.5, -0.5]], dtype), "exact")


def test_a_single_class_costs_nothing():
    value, gradient = losses.SparseCategoricalCrossentropy(from_logits=True)([0, 0], [[5.0], [-3]])
    assert value == 0
    assert_close(gradient, np.zeros((2, 1)), "exact")


def test_a_hundred_thousand_classes(rng):
    x = rng.normal(size=(2, 100_000)).astype("float32")
    value, gradient = losses.SparseCategoricalCrossentropy(from_logits=True)([3, 99_999], x)
    expected, wide = losses.SparseCategoricalCrossentropy(from_logits=True)(
        [3, 99_999], x.astype(float)
    )
    assert abs(value - expected) <= 1e-6 * expected
    assert_close(gradient, wide, "precision")


@pytest.mark.parametrize(("name", "config"), SETTINGS)
def test_nan_is_never_hidden(rng, name, config):
    y_true, y_pred = draw(rng, name, config)
    y_pred[1, 2, 3] = np.nan
    if name.startswith("sparse"):
        y_true[1, 2] = 3
    value, gradient = make(name, config)(y_true, y_pred)
    assert np.isnan(value)
    assert np.isnan(gradient[1, 2]).any()


@pytest.mark.parametrize("name", NAMES[:2])
def test_logits_that_are_all_minus_infinity_are_not_a_number(name):
    y_true = [0] if name.startswith("sparse") else [[1.0, 0.0]]
    value, _ = make(name, LOGITS)(y_true, [[-np.inf, -np.inf]])
    assert np.isnan(value)


def test_probabilities_of_zero_and_one_are_clipped():
    value, gradient = losses.CategoricalCrossentropy()([[1.0, 0.0]], [[0.0, 1.0]])
    assert_close(value, -np.log(1e-7), "naive")
    assert_close(gradient, np.zeros((1, 2)), "exact")
    value, gradient = losses.BinaryCrossentropy()([1.0, 0.0], [0.0, 1.0])
    assert value == pytest.approx(-np.log(1e-7), rel=1e-8)
    assert_close(gradient, np.zeros(2), "exact")


# ------------------------------------------------------------------------------ mask and weights


@pytest.mark.parametrize(("name", "config"), SETTINGS)
@settings(max_examples=12)
@given(data=st.data())
def test_masked_positions_change_nothing(name, config, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    y_true, y_pred = draw(rng, name, config)
    mask = rng.random((B, T)) < data.draw(st.floats(0, 1))
    weight = rng.uniform(0.5, 2, (B, T))
    value, gradient = make(name, config)(y_true, y_pred, weight, mask)
    y_true, y_pred = y_true.copy(), y_pred.copy()
    y_pred[~mask] = data.draw(st.sampled_from([np.nan, np.inf, 1e300]))
    y_true[~mask] = -1 if name.startswith("sparse") else np.nan
    weight[~mask] = np.nan
    same_value, same_gradient = make(name, config)(y_true, y_pred, weight, mask)
    assert_close(same_value, value, "exact")
    assert_close(same_gradient, gradient, "exact")
    assert not gradient[~mask].any()


@pytest.mark.parametrize(("name", "config"), SETTINGS)
@settings(max_examples=12)
@given(seed=st.integers(0, 2**32), padding=st.integers(1, 4))
def test_padding_changes_nothing(name, config, seed, padding):
    rng = np.random.default_rng(seed)
    y_true, y_pred = draw(rng, name, config)
    mask = rng.random((B, T)) < 0.7
    value, gradient = make(name, config)(y_true, y_pred, mask=mask)

    def pad(a):
        return np.pad(a, [(0, 0), (0, padding)] + [(0, 0)] * (a.ndim - 2))

    padded_value, padded = make(name, config)(pad(y_true), pad(y_pred), mask=pad(mask))
    assert_close(padded_value, value, "exact")
    assert_close(padded, pad(gradient), "exact")


@pytest.mark.parametrize(("name", "config"), SETTINGS)
@settings(max_examples=12)
@given(seed=st.integers(0, 2**32), factor=st.floats(1e-3, 1e3))
def test_order_does_not_matter_and_weights_scale(name, config, seed, factor):
    rng = np.random.default_rng(seed)
    y_true, y_pred = draw(rng, name, config)
    weight = rng.uniform(0.5, 2, (B, T))
    value, gradient = make(name, config)(y_true, y_pred, weight)
    order = rng.permutation(B)
    permuted_value, permuted = make(name, config)(y_true[order], y_pred[order], weight[order])
    assert_close(permuted_value, value, "rounding")
    assert_close(permuted, gradient[order], "rounding")
    scaled_value, scaled = make(name, config)(y_true, y_pred, weight * factor)
    assert_close(scaled_value, value * factor, "rounding")
    assert_close(scaled, gradient * factor, "rounding")


@pytest.mark.parametrize(("name", "config"), SETTINGS)
def test_mask_and_weights_are_what_the_equation_says(rng, name, config):
    y_true, y_pred = draw(rng, name, config)
    loss = make(name, config)
    mask, weight = rng.random((B, T)) < 0.6, rng.uniform(0.5, 2, (B, T))
    value, gradient = loss(y_true, y_pred, weight, mask)
    expected, slope = 0.0, np.zeros_like(y_pred)
    for b, t in np.ndindex(B, T):
        if mask[b, t]:
            one, of_one = loss(y_true[b : b + 1, t], y_pred[b : b + 1, t])
            expected += weight[b, t] * one / mask.sum()
            slope[b, t] = weight[b, t] * of_one[0] / mask.sum()
    assert_close(value, expected, "naive")
    assert_close(gradient, slope, "naive")


@pytest.mark.parametrize(("name", "config"), SETTINGS)
def test_nothing_left_by_the_mask_is_zero_loss_and_zero_gradient(rng, name, config):
    y_true, y_pred = draw(rng, name, config)
    value, gradient = make(name, config)(y_true, y_pred, mask=np.zeros((B, T), bool))
    assert value == 0
    assert_close(gradient, np.zeros_like(y_pred), "exact")


@pytest.mark.parametrize(("name", "config"), SETTINGS)
def test_an_empty_batch_is_zero_loss(rng, name, config):
    y_true, y_pred = draw(rng, name, config, (0, T, K))
    value, gradient = make(name, config)(y_true, y_pred)
    assert value == 0
    assert gradient.shape == (0, T, K)


@pytest.mark.parametrize(("name", "config"), SETTINGS)
def test_weights_of_samples_reach_every_time_step(rng, name, config):
    y_true, y_pred = draw(rng, name, config)
    weight, loss = rng.uniform(0.5, 2, B), make(name, config)
    whole = np.repeat(weight[:, None], T, axis=1)
    for spelled in (weight, weight[:, None], weight[:, None, None], whole, whole[..., None]):
        assert_close(loss(y_true, y_pred, spelled), loss(y_true, y_pred, whole), "exact")
    assert_close(loss(y_true, y_pred, 0.5)[0], 0.5 * loss(y_true, y_pred)[0], "rounding")


def test_weight_zero_leaves_a_position_out_but_counts_it():
    loss = losses.SparseCategoricalCrossentropy(from_logits=True)
    value, gradient = loss([0, -1], [[0.0, 0.0], [np.nan, np.inf]], sample_weight=[1.0, 0.0])
    assert_close(value, np.log(2) / 2, "naive")
    assert_close(gradient, np.array([[-0.25, 0.25], [0, 0]]), "naive")


def test_ignored_class_is_as_if_masked(rng):
    y_true, y_pred = draw(rng, NAMES[0], LOGITS)
    ignoring = losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=2)
    plain = losses.SparseCategoricalCrossentropy(from_logits=True)
    expected = plain(y_true, y_pred, mask=y_true != 2)
    assert_close(ignoring(y_true, y_pred), expected, "exact")
    beyond = np.where(y_true == 2, -100, y_true)
    ignoring = losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-100)
    assert_close(ignoring(beyond, y_pred), expected, "exact")


# ---------------------------------------------------------------------------- shapes and refusals


def test_labels_may_carry_an_axis_of_one_and_be_floats(rng):
    y_true, y_pred = draw(rng, NAMES[0], LOGITS)
    loss = losses.SparseCategoricalCrossentropy(from_logits=True)
    expected = loss(y_true, y_pred)
    for spelled in (y_true[..., None], y_true.astype("float32"), y_true.astype("uint8"),
                    y_true.tolist()):  # fmt: skip
        assert_close(loss(spelled, y_pred), expected, "exact")


@pytest.mark.parametrize("name", NAMES[2:])
def test_an_axis_of_one_may_be_left_out(rng, name):
    y_true, y_pred = rng.uniform(size=(2, B))
    loss = losses.get(name)
    value, gradient = loss(y_true, y_pred)
    assert gradient.shape == (B,)
    for t, p in [(y_true[:, None], y_pred), (y_true, y_pred[:, None]), (y_true[:, None],) * 2]:
        if t is not p:
            assert_close(loss(t, p)[0], value, "exact")
    weighted, _ = loss(y_true, y_pred, sample_weight=[1.0, 0.0, 0.0])
    assert_close(weighted, loss(y_true[:1], y_pred[:1])[0] / B, "rounding")


def test_unsigned_targets_do_not_wrap_around():
    value, _ = losses.MeanSquaredError()(np.array([5], "uint8"), np.array([3], "uint8"))
    assert value == 4


@pytest.mark.parametrize("label", [4, -1, 1.5, np.nan, 2**40])
def test_a_label_out_of_range_is_named_with_its_position(rng, label):
    y_true, y_pred = draw(rng, NAMES[0], LOGITS)
    y_true = y_true.astype(float)
    y_true[1, 2] = label
    with pytest.raises(ValueError, match=r"valid range 0\.\.3, got .* at position \(1, 2\)"):
        losses.get(NAMES[0])(y_true, y_pred)
    with pytest.raises(ValueError, match=r"valid range 0\.\.3, got .* at position 2;"):
        losses.get(NAMES[0])(y_true[1], y_pred[1])


@pytest.mark.parametrize(
    ("name", "y_true", "y_pred", "words"),
    [
        ("mse", (3, 2), (3, 4), r"shape of y_pred, \(3, 4\), got \(3, 2\)"),
        ("mse", (3,), (3, 4), r"\(3, 4\), got \(3,\)"),
        ("mse", (), (), "at least one axis"),
        ("bce", (3, 5), (3, 5, 2), r"\(3, 5, 2\), got \(3, 5\)"),
        (NAMES[0], (3, 4), (3, 4), r"shape \(3,\) .* got \(3, 4\); .* categorical_crossentropy"),
        (NAMES[0], (2,), (3, 4), r"shape \(3,\) for y_pred \(3, 4\), got \(2,\)"),
        (NAMES[1], (3,), (3, 4), r"got \(3,\); integer labels go with sparse"),
        (NAMES[1], (3, 1), (3, 4), r"got \(3, 1\); integer labels go with sparse"),
    ],
)
def test_wrong_shapes_are_named(name, y_true, y_pred, words):
    with pytest.raises(ValueError, match=words):
        losses.get(name)(np.zeros(y_true), np.zeros(y_pred))


@pytest.mark.parametrize("what", ["sample_weight", "mask"])
def test_wrong_shapes_of_weights_and_masks_are_named(what):
    x = np.zeros((B, T, K))
    with pytest.raises(ValueError, match=rf"{what} must have shape \(3, 5\) or \(3,\), got \(5,\)"):
        losses.get("mse")(x, x, **{what: np.ones(T)})
    with pytest.raises(ValueError, match=rf"{what} must have shape \(3, 5\) or .* got \(3, 5, 4\)"):
        losses.get("mse")(x, x, **{what: np.ones((B, T, K))})


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match=r"label_smoothing must be in \[0, 1\], got 1.5"):
        losses.CategoricalCrossentropy(label_smoothing=1.5)
    with pytest.raises(ValueError, match="delta must be finite and above 0, got 0"):
        losses.Huber(delta=0)
    with pytest.raises(TypeError, match="y_pred must be numbers"):
        losses.get("mse")([0.0], ["a"])
    with pytest.raises(TypeError, match="labels must be integers"):
        losses.get(NAMES[0])(["a"], [[0.5, 0.5]])


# --------------------------------------------------------------------------- by name; from_logits


@pytest.mark.parametrize("name", NAMES[:3])
def test_a_call_may_say_that_these_are_logits(rng, name):
    y_true, y_pred = draw(rng, name, LOGITS)
    expected = make(name, LOGITS)(y_true, y_pred)
    assert_close(losses.get(name)(y_true, y_pred, from_logits=True), expected, "exact")
    assert losses.get(name).fused_with in ("softmax", "sigmoid")
    # What is said to be logits stays so: a softmax before it is not taken over.
    assert make(name, LOGITS).fused_with == "linear"


def test_fused_and_unfused_agree(rng):
    y_true, x = draw(rng, NAMES[0], LOGITS)
    p = np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)
    fused, d_logits = losses.get(NAMES[0])(y_true, x, from_logits=True)
    unfused, dp = losses.get(NAMES[0])(y_true, p)
    assert_close(unfused, fused, "rounding")
    assert_close(p * (dp - (dp * p).sum(axis=-1, keepdims=True)), d_logits, "rounding")


@pytest.mark.parametrize("name", sorted(losses.LOSSES))
def test_every_name_comes_back_from_its_description(name):
    loss = losses.get(name)
    again = losses.get(losses.serialize(loss))
    assert type(again) is type(loss)
    assert again.get_config() == loss.get_config()
    assert losses.get(loss) is loss


def test_settings_come_back_and_show(rng):
    loss = losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=0, label_smoothing=0.1
    )
    again = losses.get(losses.serialize(loss))
    assert repr(again) == repr(loss)
    assert repr(loss).endswith("(from_logits=True, ignore_class=0, label_smoothing=0.1)")
    y_true, y_pred = draw(rng, NAMES[0], LOGITS)
    assert_close(again(y_true, y_pred), loss(y_true, y_pred), "exact")


@pytest.mark.parametrize("identifier", [None, 3, {"class_name": "Huber"}, lambda a, b: 0])
def test_what_is_no_loss_is_refused(identifier):
    with pytest.raises(TypeError, match="loss must be a name or an object"):
        losses.get(identifier)


def test_descriptions_name_only_known_classes_and_settings():
    with pytest.raises(ValueError, match=r"unknown loss 'os\.system'"):
        losses.get({"class_name": "os.system", "config": {}})
    with pytest.raises(ValueError, match="settings must be among delta, got 'command'"):
        losses.get({"class_name": "Huber", "config": {"command": "ls"}})

    class Mine(losses.Huber):
        pass

    with pytest.raises(TypeError, match="only a loss of gru_np's own"):
        losses.serialize(Mine())


def test_class_weights_become_sample_weights(rng):
    labels = rng.integers(0, K, (B, T))
    expected = np.where(labels == 1, 3.0, np.where(labels == 2, 0.0, 1.0))
    weights = {1: 3.0, 2: 0}
    assert_close(losses.class_weights(labels, weights), expected, "exact")
    assert_close(losses.class_weights(labels[..., None], weights), expected, "exact")
    assert_close(losses.class_weights(np.eye(K)[labels], weights, one_hot=True), expected, "exact")
    with pytest.raises(ValueError, match="the weight of class 1 must be finite and at least 0"):
        losses.class_weights(labels, {1: np.nan})
