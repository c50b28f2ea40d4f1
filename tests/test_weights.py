"""Sample weights, class weights, masks and ignored classes: each reaches what it is meant for.

Weights reach the loss and `weighted_metrics`, class weights those of training alone; padding and an
ignored class count for nothing. Right values are Keras 3's where the two agree (literal, computed
with `keras.Model.fit`), else those of a sum by hand over what counts.
"""

import math
import tracemalloc

import numpy as np
import pytest
from conftest import assert_close
from hypothesis import given, settings
from hypothesis import strategies as st

from gru_np import GRU, Dense, Embedding, Sequential, checkpoint, losses, metrics
from gru_np.callbacks import ModelCheckpoint
from gru_np.layers import Masking, Reshape, dense
from gru_np.optimizers import SGD
from gru_np.regularizers import L2

CLASS_WEIGHT = {0: 1, 1: 30, 2: 0.1}


def classifier(weighted=(), loss="sparse_categorical_crossentropy"):
    """The model, ten rows and labels of the runs in Keras; its weights do not change."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(10, 3)).astype(np.float32), rng.integers(0, 3, 10)
    W = rng.normal(size=(3, 3)).astype(np.float32)
    model = Sequential([Dense(3, activation="softmax", use_bias=False)])
    model.build((None, 3))
    model.set_weights([W.T])
    model.compile(loss, SGD(0.0), ["accuracy"], weighted_metrics=weighted)
    return model, x, y, rng


# ------------------------------------------------------------------------- as Keras has them


def test_class_weights_reach_neither_validation_nor_metrics_and_logs_are_named_as_in_keras():
    model, x, y, rng = classifier(["accuracy"])
    history = model.fit(
        x, y, 4, verbose=0, validation_split=0.4, class_weight=CLASS_WEIGHT, shuffle=False
    ).history
    expected = {
        "loss": 7.646093845367432,
        "accuracy": 0.3333333432674408,
        "weighted_accuracy": 0.006369426846504211,
        "val_loss": 0.8361049890518188,
        "val_accuracy": 0.5,
        "val_weighted_accuracy": 0.5,
    }
    assert list(history) == list(expected)
    for name, value in expected.items():
        assert_close(np.float32(history[name]), np.float32([value]), "foreign")
    weight = rng.uniform(0, 2, 10).astype(np.float32)
    found = model.evaluate(x, y, 4, sample_weight=weight, return_dict=True)
    keras = {"loss": 1.1449637413024902, "accuracy": 0.4, "weighted_accuracy": 0.39931949973106384}
    assert list(found) == list(keras)
    for name, value in keras.items():
        assert_close(np.float32(found[name]), np.float32(value), "foreign")


def test_the_last_rows_by_split_as_validation_data_and_by_evaluate_are_the_same():
    model, x, y, rng = classifier(["mae"], losses.CategoricalCrossentropy())
    y, weight = np.eye(3)[y], rng.uniform(0, 2, 10)
    options = {"verbose": 0, "class_weight": CLASS_WEIGHT, "sample_weight": weight}
    split = model.fit(x, y, validation_split=0.4, **options).history
    last = (x[6:], y[6:], weight[6:])
    options["sample_weight"] = weight[:6]
    given_ = model.fit(x[:6], y[:6], validation_data=last, **options).history
    alone = model.evaluate(*last[:2], sample_weight=last[2], return_dict=True)
    assert split == given_
    assert {k: v[0] for k, v in split.items() if k.startswith("val_")} == {
        f"val_{name}": value for name, value in alone.items()
    }


def test_names_that_are_taken_get_another():
    model, x, y, _ = classifier(["mae", "mae"], losses.MeanSquaredError())
    model.compile(
        "mse", "sgd", ["mae", metrics.MeanAbsoluteError("mae")], weighted_metrics=["mae", "mse"]
    )
    logs = model.evaluate(x, np.eye(3)[y], return_dict=True)
    assert list(logs) == ["loss", "mae", "mae_1", "weighted_mae", "mse"]
    one = metrics.MeanAbsoluteError()
    with pytest.raises(ValueError, match="an object of its own"):
        model.compile("mse", "sgd", [one], weighted_metrics=[one])


def test_weighted_metrics_come_back_from_a_file_and_older_files_have_none(tmp_path):
    model, x, y, _ = classifier([metrics.SparseTopKCategoricalAccuracy(2, "top"), "accuracy"])
    keep = ModelCheckpoint(tmp_path / "m.safetensors")
    options = {"verbose": 0, "class_weight": CLASS_WEIGHT, "callbacks": [keep]}
    model.fit(x, y, **options)
    again = Sequential.load(tmp_path / "m.safetensors")
    assert [m.get_config() for m in again.weighted_metrics] == [
        m.get_config() for m in model.weighted_metrics
    ]
    weight = np.linspace(0, 1, 10)
    assert again.evaluate(x, y, sample_weight=weight) == model.evaluate(x, y, sample_weight=weight)
    resumed, *_ = classifier([metrics.SparseTopKCategoricalAccuracy(2, "top"), "accuracy"])
    resumed.fit(x, y, epochs=2, resume=tmp_path / "m.safetensors", **options)
    assert resumed.history.epoch == [0, 1]

    config, arrays = checkpoint.load(tmp_path / "m.safetensors")
    del config["training"]["weighted_metrics"], config["training"]["trackers"][2:]
    checkpoint.save(tmp_path / "old.safetensors", config, arrays)
    old = Sequential.load(tmp_path / "old.safetensors")
    assert len(old.metrics) == 1
    assert old.weighted_metrics == []


# ---------------------------------------------------------------------------- what counts


@pytest.mark.parametrize("ignored", [0, -1, -100])
@pytest.mark.parametrize("class_weight", [None, {1: 3.0, 4: 0.5}])
def test_an_ignored_class_counts_for_no_metric_no_mean_and_no_class_weight(
    rng, ignored, class_weight
):
    # of a model that says one class only, by hand: over the positions that count
    B, T, K = 6, 5, 5
    x = rng.normal(size=(B, T, 2))
    y = rng.integers(1, K, (B, T))
    out = rng.random((B, T)) < 0.45
    out[0] = True
    y[out] = ignored
    model = Sequential([Dense(K)], dtype="float64", seed=1)
    loss = losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=ignored)
    kinds = ["accuracy", "perplexity", metrics.SparseTopKCategoricalAccuracy(2, "top_2")]
    model.compile(loss, SGD(0.0), kinds, weighted_metrics=[metrics.Perplexity("w")])
    logits = model(x)
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    nats = -np.log(np.take_along_axis(p, np.where(out, 0, y)[..., None], -1)[..., 0])
    weight = np.vectorize((class_weight or {}).get)(y, 1.0).astype(float)
    top = np.argsort(-p, -1)
    expected = {
        "loss": (weight * nats)[~out].mean(),
        "accuracy": (top[..., 0] == y)[~out].mean(),
        "perplexity": math.exp(nats[~out].mean()),
        "top_2": ((top[..., :2] == y[..., None]).any(-1))[~out].mean(),
        "w": math.exp(np.average(nats[~out], weights=weight[~out])),
    }
    for batch_size in (B, 1, 4):
        history = model.fit(
            x, y, batch_size, verbose=0, class_weight=class_weight, shuffle=False,
            validation_data=(x, y),
        ).history  # fmt: skip
        for name, value in expected.items():
            assert_close(history[name][0], value, "rounding")
        assert_close(history["val_loss"][0], nats[~out].mean(), "rounding")
        assert_close(history["val_accuracy"][0], expected["accuracy"], "rounding")


def test_where_everything_is_ignored_nothing_counts():
    model = Sequential([Dense(3)], seed=0)
    model.compile(losses.SparseCategoricalCrossentropy(True, ignore_class=0), "sgd", ["accuracy"])
    x, zeros = np.ones((4, 2)), np.zeros(4, int)
    assert model.train_on_batch(x, zeros) == [0.0, 0.0]
    assert model.evaluate(x, zeros) == [0.0, 0.0]


@pytest.mark.parametrize("shape", [(), (1,)])
def test_accuracy_knows_that_predictions_are_logits(shape):
    # Keras cuts logits at 1/2 and gives 1/2 here; right, for predictions of yes and no, is 1.
    x, y = np.array([[0.3], [-0.3]]), np.array([1, 0]).reshape(-1, *shape)
    model = Sequential([Dense(1, use_bias=False)])
    model.build((None, 1))
    model.set_weights([np.ones((1, 1))])
    loss = losses.BinaryCrossentropy(from_logits=True)
    kinds = ["accuracy", "binary_accuracy", metrics.BinaryAccuracy("own")]
    model.compile(loss, "sgd", kinds, weighted_metrics=[metrics.BinaryAccuracy("at", 0.5)])
    logs = model.evaluate(x, y, return_dict=True)
    assert [logs[k] for k in ("accuracy", "binary_accuracy", "own", "at")] == [1, 1, 1, 0.5]
    model.compile("binary_crossentropy", "sgd", kinds)
    assert model.evaluate(x, y)[1:] == [0.5, 0.5, 0.5]


def test_a_perplexity_of_ones_own_knows_that_predictions_are_logits(rng):
    model = Sequential([Dense(4)], dtype="float64", seed=0)
    x, y = rng.normal(size=(5, 3)), rng.integers(0, 4, 5)
    loss = losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(loss, "sgd", ["perplexity", metrics.Perplexity("own")])
    _, named, own = model.evaluate(x, y)
    assert_close(own, named, "rounding")


def test_a_penalty_is_part_of_the_loss_and_not_of_a_perplexity(rng):
    model = Sequential([Dense(4, kernel_regularizer=L2(0.1))], dtype="float64", seed=0)
    x, y = rng.normal(size=(5, 3)), rng.integers(0, 4, 5)
    loss = losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(loss, "sgd", ["perplexity"])
    value, perplexity = model.evaluate(x, y)
    plain, _ = loss(y, model(x))
    assert_close(perplexity, math.exp(plain), "rounding")
    assert value > plain


# ---------------------------------------------------------------------------- class weights


def weights_of(y, loss, units, class_weight, **options):
    model = Sequential([Dense(units)], seed=0)
    model.compile(loss, "sgd")
    x = np.ones((*np.shape(y)[:1], 2)) if np.ndim(y) < 3 else np.ones((*np.shape(y)[:2], 2))
    return model.train_on_batch(x, y, class_weight=class_weight, **options), model, x


@pytest.mark.parametrize(
    ("y", "loss", "units"),
    [
        (np.array([0, 1, 1]), "sparse_categorical_crossentropy", 2),
        (np.array([[0.0], [1.0], [1.0]]), "sparse_categorical_crossentropy", 2),
        (np.eye(2)[[0, 1, 1]], "categorical_crossentropy", 2),
        (np.array([False, True, True]), "binary_crossentropy", 1),
        (np.array([[0.0], [1.0], [1.0]], np.float32), "binary_crossentropy", 1),
        (np.array([[0], [1], [1]], np.uint8), "mse", 1),
    ],
)
def test_labels_of_every_form_have_class_weights(y, loss, units):
    weighed, _, _ = weights_of(y, loss, units, {1: 5.0})
    same, _, _ = weights_of(y, loss, units, None, sample_weight=[1.0, 5.0, 5.0])
    assert weighed == same


@pytest.mark.parametrize("keys", [{True: 5.0}, {1.0: 5.0}, {np.int64(1): 5}, {np.float32(1): 5}])
def test_keys_that_are_whole_numbers_are_classes(keys):
    weighed, _, _ = weights_of(np.array([0, 1, 1]), "sparse_categorical_crossentropy", 2, keys)
    same, _, _ = weights_of(np.array([0, 1, 1]), "sparse_categorical_crossentropy", 2, {1: 5.0})
    assert weighed == same


@pytest.mark.parametrize("key", [-1, 3, "a", "1", 0.5, 10**12, math.nan, None, 10**400, 1j])
@pytest.mark.parametrize("loss", ["sparse_categorical_crossentropy", "categorical_crossentropy"])
def test_a_key_that_is_no_class_is_refused_at_the_start(key, loss):
    model, x, y, _ = classifier(loss=loss)
    before = model.get_weights()
    y = np.eye(3)[y] if loss.startswith("cat") else y
    with pytest.raises(ValueError, match=r"class_weight: keys must be classes, 0\.\.2, got"):
        model.fit(x, y, class_weight={0: 1.0, key: 2.0}, verbose=0)
    assert_close(model.get_weights(), before, "exact")


@pytest.mark.parametrize(
    ("class_weight", "error", "message"),
    [
        ([1.0, 2.0], TypeError, r"must be a dict of class to weight, got \[1.0, 2.0\]; dict\("),
        ("balanced", TypeError, "dict of class to weight, got 'balanced'; .*class_weights.* shows"),
        ({0: -1.0}, ValueError, "weight of class 0 must be finite and at least 0, got -1"),
        ({0: "2"}, TypeError, "weight of class 0 must be a number, got '2'"),
    ],
)
def test_class_weights_that_are_none_get_one_sentence(class_weight, error, message):
    model, x, y, _ = classifier()
    with pytest.raises(error, match=message):
        model.fit(x, y, class_weight=class_weight, verbose=0)


@pytest.mark.parametrize(
    ("y", "loss", "units", "message"),
    [
        (np.ones((3, 4)), "binary_crossentropy", 4, "have no class each; use sample_weight"),
        (np.full(3, 0.3), "binary_crossentropy", 1, "labels must be whole numbers, got 0.3"),
        (np.ones(3, int), "categorical_crossentropy", 4, "one number a class, shape .*integer"),
        (np.eye(3, dtype=int), "sparse_categorical_crossentropy", 3, "rows of one number a class"),
    ],
)
def test_targets_without_a_class_get_one_sentence(y, loss, units, message):
    with pytest.raises(ValueError, match=message):
        weights_of(y, loss, units, {1: 2.0})


def test_a_huge_label_is_refused_and_allocates_nothing():
    model, x, y, _ = classifier()
    y[4] = 2**31
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"valid range 0\.\.2, got 2147483648 at position 4"):
        model.fit(x, y, class_weight=CLASS_WEIGHT, shuffle=False, verbose=0)
    assert tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()


def test_balanced_weights_of_the_documentation_give_each_class_one_share():
    labels = np.array([0, 2, 2, 2, 5])
    of_class, counts = np.unique(labels, return_counts=True)
    balanced = dict(zip(of_class, 5 / (3 * counts), strict=True))
    weight = losses.class_weights(labels, balanced)
    assert_close([weight[labels == k].sum() for k in (0, 2, 5)], np.full(3, 5 / 3), "rounding")


# ------------------------------------------------------------------ all of them, drawn at random


def sequence_model(kind, penalty):
    """A model of sequences, its loss, and whether targets are labels, one-hot rows or answers."""
    options = {"kernel_regularizer": L2(0.03)} if penalty else {}
    front = [Embedding(6, 3, mask_zero=True)] if kind != "masking" else [Masking(0.0)]
    if kind == "answers":
        layers = [*front, GRU(3, return_sequences=True), Dense(1, **options)]
        loss = losses.BinaryCrossentropy(from_logits=True)
    elif kind == "one-hot":
        layers = [*front, GRU(3, return_sequences=True), Dense(4, activation="softmax", **options)]
        loss = losses.CategoricalCrossentropy()
    elif kind == "last":
        layers = [*front, GRU(3), Dense(4, activation="softmax", **options)]
        loss = losses.SparseCategoricalCrossentropy(ignore_class=3)
    else:
        layers = [*front, GRU(3, return_sequences=True), Dense(4, **options)]
        loss = losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
    return Sequential(layers, dtype="float64", seed=3), loss


@given(
    kind=st.sampled_from(["labels", "masking", "one-hot", "answers", "last"]),
    seed=st.integers(0, 2**16),
    n=st.integers(2, 7),
    batch_size=st.integers(1, 8),
    weights=st.sampled_from([None, "rows", "steps"]),
    class_weight=st.sampled_from([None, {0: 3.0}, {1: 0.25, 0: 0.0}]),
    penalty=st.booleans(),
)
@settings(max_examples=40)
def test_split_data_and_evaluate_agree_and_batches_of_any_size_give_the_same_means(
    kind, seed, n, batch_size, weights, class_weight, penalty
):
    rng = np.random.default_rng(seed)
    T = 4
    x = rng.integers(0, 6, (n, T))
    if kind == "masking":
        x = x[..., None] * rng.normal(size=2)
    y = rng.integers(0, 4, n if kind == "last" else (n, T))
    if kind in ("labels", "masking"):
        y[rng.random(y.shape) < 0.3] = -1
    if kind == "one-hot":
        y = np.eye(4)[y]
    if kind == "answers":
        y = y % 2
    shape = (n, T) if weights == "steps" and kind != "last" else (n,)
    weight = rng.integers(0, 3, shape) * 0.5 if weights else None
    if weight is not None:
        weight[-1] = 1.5  # validation data must have something that counts
    if kind in ("labels", "masking", "last"):
        y[-1] = 2
    model, loss = sequence_model(kind, penalty)
    kinds = ["accuracy", "mae"] if kind == "answers" else ["accuracy", "perplexity"]
    model.compile(loss, SGD(0.0), kinds, weighted_metrics=kinds)

    def history(size, **options):
        found = model.fit(x, y, size, verbose=0, sample_weight=weight, **options).history
        return {name: value for name, [value] in found.items()}

    whole = history(n, class_weight=class_weight)
    assert_close(history(batch_size, class_weight=class_weight), whole, "rounding")

    cut = n // 2
    split = history(batch_size, class_weight=class_weight, validation_split=(n - cut - 0.5) / n)
    train, last = (
        (x[part], y[part], None if weight is None else weight[part])
        for part in (slice(cut), slice(cut, None))
    )
    by_data = model.fit(
        *train[:2], batch_size, verbose=0, sample_weight=train[2], class_weight=class_weight,
        validation_data=last if weight is not None else last[:2],
    ).history  # fmt: skip
    alone = model.evaluate(*last[:2], sample_weight=last[2], return_dict=True)
    assert_close({k: v for k, [v] in by_data.items()}, split, "rounding")
    held_out = {k.removeprefix("val_"): v for k, v in split.items() if k.startswith("val_")}
    assert_close(held_out, alone, "rounding")

    weighed = model.evaluate(x, y, sample_weight=weight, return_dict=True)
    if kind != "last":
        in_pieces = model.evaluate(x, y, sample_weight=weight, return_dict=True, tbptt=3)
        assert_close(in_pieces, weighed, "rounding")
    if class_weight is None:
        assert_close(whole, weighed, "rounding")

    # Metrics are as if there were no weights at all.
    plain = model.evaluate(x, y, return_dict=True)
    for name in kinds:
        assert_close(whole[name], plain[name], "rounding")
        assert_close(plain[f"weighted_{name}"], plain[name], "exact")


def test_a_mask_of_time_steps_counts_for_outputs_with_axes_behind_time(rng):
    layers = [Masking(0.0), Dense(6), Reshape((-1, 3, 2))]
    model = Sequential(layers, dtype="float64", seed=0)
    model.compile("mse", SGD(0.0), ["mse"])
    x, y = rng.normal(size=(4, 5, 2)), rng.normal(size=(4, 5, 3, 2))
    x[0, 2:], x[2, 1:] = 0, 0
    whole = model.evaluate(x, y, batch_size=4)
    assert_close(model.evaluate(x, y, batch_size=3), whole, "rounding")
    assert_close(whole[1], whole[0], "rounding")


# --------------------------------------------------- validation data from which nothing is learnt


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x[:0], y[:0]), r"validation_data: x must have at least one row, got shape"),
        (lambda x, y: (x, y, np.zeros(10)), "sample_weight must not be zero everywhere"),
        (lambda x, y: (x, 0 * y + 1), "y must have labels other than 1, which is ignored"),
        (lambda x, y: (x, y[:4]), "validation_data: x and y must have the same number of rows"),
        (lambda x, y: (x, y, np.ones(3)), "sample_weight must have one entry for each of the 10"),
        (lambda x, y: (x, y, None, None), r"must be \(x, y\) or \(x, y, sample_weight\)"),
        (lambda x, y: x, r"must be \(x, y\) or \(x, y, sample_weight\)"),
        (
            lambda x, y: (x[:, :2], y),
            r"x must have shape \(batch, 3\), as for training, got \(10, 2\)",
        ),
        (lambda x, y: (x[:, None], y), r"x must have shape \(batch, 3\), as for training, got"),
        (
            lambda x, y: (x, y + (y == 2)),
            r"validation_data: labels must be .* 0\.\.2, got 3 at pos",
        ),
        (lambda x, y: (x, np.eye(3)[y]), "rows of one number a class go with categorical_cross"),
        (lambda x, y: (x, y, np.ones((10, 3))), r"sample_weight must have shape \(10,\), got"),
    ],
)
def test_validation_data_without_a_meaning_is_refused_at_the_start(change, message):
    # An empty set had val_loss 0.0, which no later epoch could beat.
    loss = losses.SparseCategoricalCrossentropy(ignore_class=1)
    model, x, y, _ = classifier(loss=loss)
    before = model.optimizer.iterations
    with pytest.raises(ValueError, match=message):
        model.fit(x, y, validation_data=change(x, y), verbose=0)
    assert model.optimizer.iterations == before


def test_to_evaluate_nothing_is_refused():
    model, x, y, _ = classifier()
    with pytest.raises(ValueError, match="evaluate: x must have at least one row, got shape"):
        model.evaluate(x[:0], y[:0])


def test_validation_labels_of_padding_are_not_judged_before_they_are_masked(rng):
    x, y = rng.integers(1, 6, (5, 4)), rng.integers(0, 4, (5, 4))
    x[:, 2:], y[:, 2:] = 0, 99
    model, _ = sequence_model("labels", False)
    model.compile(losses.SparseCategoricalCrossentropy(from_logits=True), "sgd", ["accuracy"])
    history = model.fit(x, y, verbose=0, validation_data=(x, y)).history
    assert np.isfinite(history["val_loss"]).all()
    with pytest.raises(ValueError, match="y_true must hold one label a position, shape"):
        model.fit(x, y, verbose=0, validation_data=(x, y[:, :3]))


@pytest.mark.parametrize("shape", [(3,), (3, 1), (3, 8)])
def test_weights_of_rows_reach_every_piece_of_time(rng, shape):
    # one weight a row, as (3, 1), had none left for the second piece
    x, y, weight = rng.normal(size=(3, 8, 2)), rng.normal(size=(3, 8, 1)), rng.uniform(1, 2, shape)
    model = Sequential([GRU(4, return_sequences=True), Dense(1)], dtype="float64", seed=0)
    model.compile("mse", SGD(0.0), ["mae"], weighted_metrics=["mae"])
    whole = model.evaluate(x, y, sample_weight=weight)
    assert_close(model.evaluate(x, y, sample_weight=weight, tbptt=3), whole, "rounding")


@pytest.mark.parametrize("ignored", [None, 0, -1])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_head_whose_logits_never_exist_counts_what_the_others_do(
    rng, ignored, weighted, monkeypatch
):
    # right is what the same layer gives with its logits written out
    pytest.importorskip("numba")
    N, F, K = 300, 40, 500
    x, y = rng.normal(size=(N, F)), rng.integers(1, K, N)
    if ignored is not None:
        y[rng.random(N) < 0.4] = ignored
    weight = rng.integers(0, 3, N) * 0.5 if weighted else None
    loss = losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=ignored)

    def run():
        def kinds():
            return ["accuracy", metrics.Perplexity("nats", from_loss=True), "perplexity"]

        model = Sequential([Dense(K)], dtype="float64", seed=0)
        model.compile(loss, SGD(0.0), kinds(), weighted_metrics=kinds())
        trained = model.train_on_batch(x, y, weight)
        return trained, model.evaluate(x, y, batch_size=128, sample_weight=weight)

    heads, put_off = [], dense.logits
    monkeypatch.setattr(
        dense, "logits", lambda *a, **k: heads.append(put_off(*a, **k)) or heads[-1]
    )
    found = run()
    assert heads and None not in heads
    monkeypatch.setattr(dense, "logits", lambda *a, **k: None)
    assert_close(found, run(), "kernel")


@pytest.mark.parametrize("ignored", ["pad", 0.5, True])
def test_an_ignored_class_is_a_label(ignored):
    with pytest.raises(TypeError, match="ignore_class must be an integer, got"):
        losses.SparseCategoricalCrossentropy(ignore_class=ignored)
    assert losses.SparseCategoricalCrossentropy(ignore_class=np.int8(-1)).ignore_class == -1
