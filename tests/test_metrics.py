"""Metrics: Keras' stored results, streaming, masks and weights, choice by loss and shape, state."""

import json
import math

import numpy as np
import pytest
from conftest import assert_close
from golden_training import case_id, golden, maker, require
from hypothesis import given, settings
from hypothesis import strategies as st

from gru_np import losses, metrics, saving

B, T, K = 7, 5, 4
CASES = golden()["metrics"]
NAMES = sorted(name for name in metrics.METRICS if name.islower())


def draw(rng, name, shape=(B, T, K)):
    """Give targets and predictions that suit the metric."""
    y_pred = np.round(rng.dirichlet(np.ones(shape[-1]), shape[:-1]), 2)  # with ties
    if name in ("acc", "accuracy", "perplexity") or "sparse" in name:
        return rng.integers(0, shape[-1], shape[:-1]), y_pred
    if "categorical" in name:
        return np.eye(shape[-1])[rng.integers(0, shape[-1], shape[:-1])], y_pred
    if "binary" in name:
        return rng.integers(0, 2, shape), y_pred
    return rng.normal(size=shape), y_pred


def measure(name, *batch, **extras):
    metric = metrics.get(name)
    metric.update(*batch, **extras)
    return metric.result()


# ---------------------------------------------------------------------------------------- values


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_results_equal_the_stored_ones(case):
    metric = metrics.get(case["ours"])
    weights = case["sample_weight"] or [None, None]
    for y_true, y_pred, weight in zip(case["y_true"], case["y_pred"], weights, strict=True):
        metric.update(y_true, y_pred, sample_weight=weight)
    assert_close(metric.result(), case["result"], "foreign")


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_stored_results_are_what_keras_computes(case):
    require("keras")
    assert_close(maker().metric_answer(case), case["result"], "foreign")


def test_ties_in_the_top_k_count_as_hits():
    y_pred = [[0.3, 0.3, 0.3, 0.1]]
    for label, k, hit in [(2, 1, 1), (0, 1, 1), (3, 3, 0), (3, 4, 1), (3, 9, 1)]:
        metric = metrics.SparseTopKCategoricalAccuracy(k=k)
        metric.update([label], y_pred)
        assert metric.result() == hit


def test_a_prediction_that_is_not_a_number_is_no_hit():
    assert measure("sparse_top_k_categorical_accuracy", [1], [[0.5, np.nan]]) == 0


# ------------------------------------------------------------------------------------ properties


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=12)
@given(seed=st.integers(0, 2**32), cut=st.integers(0, B))
def test_batches_give_what_one_batch_gives(name, seed, cut):
    rng = np.random.default_rng(seed)
    y_true, y_pred = draw(rng, name)
    weight, mask = rng.uniform(0.5, 2, (B, T)), rng.random((B, T)) < 0.7
    metric = metrics.get(name)
    for part in (slice(cut), slice(cut, None)):
        metric.update(y_true[part], y_pred[part], weight[part], mask[part])
    whole = measure(name, y_true, y_pred, sample_weight=weight, mask=mask)
    assert_close(metric.result(), whole, "rounding")


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=12)
@given(seed=st.integers(0, 2**32))
def test_masked_positions_change_nothing(name, seed):
    rng = np.random.default_rng(seed)
    y_true, y_pred = draw(rng, name)
    mask, weight = rng.random((B, T)) < 0.5, rng.uniform(0.5, 2, (B, T))
    result = measure(name, y_true, y_pred, mask=mask)
    weighted = measure(name, y_true, y_pred, sample_weight=weight, mask=mask)
    y_pred[~mask] = np.nan
    y_true[~mask] = -1
    assert measure(name, y_true, y_pred, mask=mask) == result
    weight[~mask] = np.nan
    assert measure(name, y_true, y_pred, sample_weight=weight, mask=mask) == weighted
    zero = np.where(mask, 1.0, 0.0)  # weight zero is as good as masked
    assert measure(name, y_true, y_pred, sample_weight=zero) == result


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=12)
@given(seed=st.integers(0, 2**32), factor=st.floats(1e-3, 1e3))
def test_only_the_proportions_of_weights_matter(name, seed, factor):
    rng = np.random.default_rng(seed)
    y_true, y_pred = draw(rng, name)
    weight = rng.uniform(0.5, 2, (B, T))
    result = measure(name, y_true, y_pred, sample_weight=weight)
    assert_close(measure(name, y_true, y_pred, sample_weight=weight * factor), result, "rounding")
    order = rng.permutation(B)
    permuted = measure(name, y_true[order], y_pred[order], sample_weight=weight[order])
    assert_close(permuted, result, "rounding")


@pytest.mark.parametrize("name", NAMES)
def test_state_comes_back_to_the_bit(rng, name):
    y_true, y_pred = draw(rng, name)
    metric, resumed = metrics.get(name), metrics.get(name)
    metric.update(y_true[:3], y_pred[:3])
    resumed.set_state(json.loads(json.dumps(metric.get_state())))
    for one in (metric, resumed):
        one.update(y_true[3:], y_pred[3:])
    assert resumed.result() == metric.result()
    assert type(metric.result()) is float
    metric.reset()
    assert metric.get_state() == metrics.get(name).get_state()


@pytest.mark.parametrize("name", NAMES)
def test_nothing_seen_is_zero_and_a_perplexity_of_one(rng, name):
    y_true, y_pred = draw(rng, name)
    expected = 1.0 if name == "perplexity" else 0.0
    assert metrics.get(name).result() == expected
    assert measure(name, y_true, y_pred, mask=np.zeros((B, T), bool)) == expected


@pytest.mark.parametrize("name", NAMES)
def test_wrong_shapes_are_named(rng, name):
    y_true, y_pred = draw(rng, name)
    with pytest.raises(ValueError, match=r"y_true must .* got"):
        measure(name, y_true[:, :3], y_pred)
    with pytest.raises(ValueError, match=r"mask must have shape \(7, 5\) or \(7,\), got \(5,\)"):
        measure(name, y_true, y_pred, mask=np.ones(T, bool))


# ------------------------------------------------------------------------------------ perplexity


@pytest.mark.parametrize("one_hot", [False, True])
def test_perplexity_is_exp_of_the_mean_crossentropy(rng, one_hot):
    labels, y_pred = draw(rng, "perplexity")
    y_pred = np.clip(y_pred, 0.01, 1)
    y_true = np.eye(K)[labels] if one_hot else labels
    mask = rng.random((B, T)) < 0.7
    p = y_pred / y_pred.sum(axis=-1, keepdims=True)
    of_label = np.take_along_axis(p, labels[..., None], axis=-1)[..., 0]
    expected = math.exp(-np.log(of_label)[mask].mean())
    assert_close(measure("perplexity", y_true, y_pred, mask=mask), expected, "naive")
    from_logits = metrics.Perplexity(from_logits=True)
    from_logits.update(y_true, np.log(p) + 3, mask=mask)
    assert_close(from_logits.result(), expected, "naive")


@pytest.mark.parametrize("weighted", [False, True])
def test_perplexity_takes_over_the_value_of_the_loss(rng, weighted):
    y_true, y_pred = draw(rng, "perplexity")
    loss = losses.SparseCategoricalCrossentropy()
    metric = metrics.get("perplexity", loss)
    assert metric.from_loss
    weight = rng.uniform(0.5, 2, (B, T)) if weighted else None
    mask = rng.random((B, T)) < 0.7
    for part in (slice(3), slice(3, None)):
        of_part = None if weight is None else weight[part]
        value, _ = loss(y_true[part], y_pred[part], of_part, mask[part])
        metric.update(y_true[part], y_pred[part], of_part, mask[part], loss=value)
    expected = measure("perplexity", y_true, y_pred, sample_weight=weight, mask=mask)
    assert_close(metric.result(), expected, "rounding")


@pytest.mark.parametrize(
    "loss",
    [
        None,
        losses.MeanSquaredError(),
        losses.SparseCategoricalCrossentropy(label_smoothing=0.1),
        losses.SparseCategoricalCrossentropy(ignore_class=0),
    ],
)
def test_perplexity_takes_no_other_loss_for_a_crossentropy(loss):
    assert not metrics.get("perplexity", loss).from_loss


def test_perplexity_beyond_all_numbers_is_infinite_and_nan_stays_nan():
    metric = metrics.Perplexity(from_logits=True)
    metric.update([0], [[-1e4, 0.0]])
    assert metric.result() == math.inf
    metric.update([0], [[np.nan, 0.0]])
    assert math.isnan(metric.result())


# ------------------------------------------------------------------------- choice by loss and shape


@pytest.mark.parametrize(
    ("y_true", "y_pred", "kind"),
    [
        ((B,), (B,), "binary_accuracy"),
        ((B,), (B, 1), "binary_accuracy"),
        ((B, 1), (B, 1), "binary_accuracy"),
        ((B, T), (B, T, 1), "binary_accuracy"),
        ((B,), (B, K), "sparse_categorical_accuracy"),
        ((B, 1), (B, K), "sparse_categorical_accuracy"),
        ((B, T), (B, T, K), "sparse_categorical_accuracy"),
        ((B, K), (B, K), "categorical_accuracy"),
        ((B, T, K), (B, T, K), "categorical_accuracy"),
    ],
)
def test_accuracy_is_of_the_kind_that_the_shapes_tell(rng, y_true, y_pred, kind):
    t, p = rng.integers(0, 2, y_true), rng.random(y_pred)
    assert measure("accuracy", t, p) == measure(kind, t, p)


def test_accuracy_is_of_the_kind_of_a_categorical_loss():
    sparse = metrics.get("accuracy", losses.get("sparse_categorical_crossentropy"))
    assert isinstance(sparse, metrics.SparseCategoricalAccuracy)
    dense = metrics.get("acc", losses.get("categorical_crossentropy"))
    assert isinstance(dense, metrics.CategoricalAccuracy)
    assert (sparse.name, dense.name) == ("accuracy", "acc")
    assert isinstance(metrics.get("accuracy", losses.get("mse")), metrics.AccuracyByShape)


# --------------------------------------------------------------------------------------- by name


@pytest.mark.parametrize("name", sorted(metrics.METRICS))
def test_every_name_comes_back_from_its_description(name):
    metric = metrics.get(name, losses.SparseCategoricalCrossentropy())
    again = metrics.get(json.loads(json.dumps(metrics.serialize(metric))), None)
    assert type(again) is type(metric)
    assert again.get_config() == metric.get_config()
    assert again.name == metric.name
    assert metrics.get(metric) is metric
    if name.islower():
        assert metric.name == name


def test_what_is_no_metric_is_refused():
    with pytest.raises(ValueError, match="unknown metric 'acuracy'; did you mean 'accuracy'"):
        metrics.get("acuracy")
    with pytest.raises(TypeError, match="metric must be a name or an object"):
        metrics.get(None)
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        metrics.TopKCategoricalAccuracy(k=0)


def test_mean_is_weighted_by_counts_and_skips_nothing_seen():
    mean = metrics.Mean("loss")
    mean.add(np.float32(2.0), 3)
    mean.add(np.nan, 0)
    mean.add(6.0)
    assert mean.result() == 3.0


# ------------------------------------------------- what Keras counts output by output


def test_the_class_accuracy_is_equality_and_the_name_is_of_the_loss():
    """Values: Keras 3.15, metrics.Accuracy and compile(metrics=["Accuracy"])."""
    metric = metrics.Accuracy()
    metric.update([[1], [2], [3], [4]], [[0], [2], [3], [4]])
    assert metric.result() == 0.75
    metric.reset()
    metric.update([[1], [2], [3], [4]], [[0], [2], [3], [4]], sample_weight=[1, 1, 0, 0])
    assert metric.result() == 0.5
    metric.reset()
    metric.update([1, 2, 3], [[1], [2], [4]])
    assert metric.result() == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="Accuracy: y_true must have the shape of y_pred"):
        metric.update([0, 1], [[0.9, 0.1], [0.8, 0.2]])
    for name in ("accuracy", "acc", "Accuracy"):
        assert type(metrics.get(name)) is metrics.AccuracyByShape
        sparse = metrics.get(name, losses.get("sparse_categorical_crossentropy"))
        assert type(sparse) is metrics.SparseCategoricalAccuracy
    for identifier in (metrics.Accuracy, metrics.serialize(metrics.Accuracy())):
        assert type(metrics.get(identifier)) is metrics.Accuracy
    described = metrics.serialize(metrics.AccuracyByShape())
    assert type(metrics.get(described)) is metrics.AccuracyByShape


@pytest.mark.parametrize(
    ("weight", "right"),
    [
        ([1, 3], 0.5833333), ([[1], [3]], 0.5833333), ([[1, 2, 3], [4, 5, 6]], 0.4761905),
    ],
)  # fmt: skip
def test_each_output_may_have_a_weight_of_its_own(weight, right):
    """Values: Keras 3.15, BinaryAccuracy and Accuracy with these weights."""
    y_true, y_pred = np.array([[1, 0, 1], [0, 1, 1]]), np.array([[0.9, 0.8, 0.3], [0.2, 0.6, 0.1]])
    metric, equal = metrics.BinaryAccuracy(), metrics.Accuracy()
    metric.update(y_true, y_pred, sample_weight=weight)
    equal.update(y_true, y_pred > 0.5, sample_weight=weight)
    assert metric.result() == equal.result() == pytest.approx(right)


def test_weights_of_outputs_over_time_and_a_mask(rng):
    y_true, y_pred, weight = (
        rng.integers(0, 2, (2, 4, 3)),
        rng.random((2, 4, 3)),
        rng.random((2, 4, 3)),
    )
    mask = rng.random((2, 4)) > 0.4
    metric = metrics.BinaryAccuracy()
    metric.update(y_true, y_pred, sample_weight=weight, mask=mask)
    hits = (y_pred > 0.5) == y_true
    right = (hits * weight)[mask].sum() / weight[mask].sum()
    assert metric.result() == pytest.approx(right)
    # one accuracy a position is one, so a weight for each class has no place: Keras fails too
    with pytest.raises(ValueError, match="CategoricalAccuracy: sample_weight must have shape"):
        metrics.CategoricalAccuracy().update(y_true, y_pred, sample_weight=weight)


def test_older_files_mean_by_accuracy_what_the_shapes_tell():
    """As files were written when the class Accuracy was what AccuracyByShape is now."""
    old = {"class_name": "Accuracy", "config": {"name": "accuracy"}}
    mae = metrics.serialize(metrics.MeanAbsoluteError())
    found = [metrics.get(one) for one in saving._metrics({"metrics": [old, mae]})]
    assert [type(m) for m in found] == [metrics.AccuracyByShape, metrics.MeanAbsoluteError]
    now = saving._metrics({"metrics": [old, mae], "weighted_metrics": []})
    assert type(metrics.get(now[0])) is metrics.Accuracy
