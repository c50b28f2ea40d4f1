"""A small language model's training step at one go: the bits of the way layer by layer."""

import copy

import numpy as np
import pytest
from conftest import assert_close

from gru_np import kernels, small_steps
from gru_np.callbacks import TrainingHealth
from gru_np.health import NonFiniteError
from gru_np.layers import GRU, Dense, Embedding
from gru_np.losses import SparseCategoricalCrossentropy
from gru_np.model import Sequential
from gru_np.optimizers import SGD, Adam

pytestmark = pytest.mark.skipif(not kernels.available(), reason="numba is not installed")
DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])


@pytest.fixture(autouse=True)
def short_runs_too(monkeypatch):
    """Let even the shortest training take compiled kernels."""
    monkeypatch.setattr(kernels, "SHORT_TRAINING_SECONDS", 0)


@pytest.fixture
def taken(monkeypatch):
    """Count the steps that went at one go."""
    steps, run = [], small_steps.SmallStep.run

    def counted(self, *arguments):
        steps.append(self)
        return run(self, *arguments)

    monkeypatch.setattr(small_steps.SmallStep, "run", counted)
    return steps


def language_model(units=(7,), sequence=True, dtype="float32", optimizer=None, **settings):
    """A compiled model of the pattern, its biases random."""
    grus = [
        GRU(n, return_sequences=sequence or i < len(units) - 1, reset_after=i != 1, **settings)
        for i, n in enumerate(units)
    ]
    model = Sequential(
        [Embedding(11, 6), *grus, Dense(13, activation="softmax")], dtype=dtype, seed=3
    )
    model.build((None, None))
    rng = np.random.default_rng(5)
    for array in model.params.values():
        if array.ndim == 1:
            array += rng.standard_normal(array.shape).astype(dtype)
    model.compile("sparse_categorical_crossentropy", optimizer or Adam(0.01), ["accuracy"])
    return model


def data(rng, N=12, T=9, sequence=True):
    """Ids of the model's, and labels."""
    return rng.integers(0, 11, (N, T)), rng.integers(0, 13, (N, T) if sequence else N)


def both_ways(monkeypatch, train):
    """What `train` gives at one go, and layer by layer."""
    first = train()
    with monkeypatch.context() as patch:
        patch.setattr(small_steps, "find", lambda *_: None)
        return first, train()


@DTYPES
@pytest.mark.parametrize("units", [(7,), (17, 5), (3, 19, 4)], ids=str)
@pytest.mark.parametrize("kind", ["whole", "tbptt", "last", "no bias", "frozen", "logits"])
def test_training_has_the_bits_of_the_way_layer_by_layer(
    rng, dtype, units, kind, monkeypatch, taken
):
    sequence = kind != "last"
    x, y = data(rng, sequence=sequence)

    def train():
        model = language_model(units, sequence, dtype, use_bias=kind != "no bias")
        if kind == "frozen":
            model.layers[1].trainable = False
        if kind == "logits":
            model.layers[-1].activation = None
            loss = SparseCategoricalCrossentropy(from_logits=True)
            model.compile(loss, model.optimizer, ["accuracy"])
        history = model.fit(
            x, y, batch_size=5, epochs=2, verbose=0, tbptt=4 if kind == "tbptt" else None
        )
        return history.history, model.get_weights()

    (logs, weights), (logs_apart, weights_apart) = both_ways(monkeypatch, train)
    assert len(taken) == 2 * 3 * (3 if kind == "tbptt" else 1)
    assert logs == logs_apart
    assert_close(weights, weights_apart, "exact")


@pytest.mark.parametrize("optimizer", [SGD(0.1, momentum=0.9), Adam(0.1, global_clipnorm=0.01)])
def test_every_optimizer_gets_the_same_gradients(rng, optimizer, monkeypatch):
    x, y = data(rng)

    def train():
        model = language_model(optimizer=copy.deepcopy(optimizer))
        losses = [model.train_on_batch(x, y)[0] for _ in range(3)]
        return losses, model.get_weights()

    assert_close(*both_ways(monkeypatch, train), "exact")


def test_what_watches_gradients_and_gates_sees_the_same(rng, monkeypatch, taken):
    x, y = data(rng)

    def train():
        watch = TrainingHealth(every=1)
        return language_model().fit(x, y, 5, epochs=2, verbose=0, callbacks=[watch]).history

    history, apart = both_ways(monkeypatch, train)
    assert taken and history == apart and "gru/z_saturated" in history


def change_nothing(model):
    """Leave all as it is."""


def freeze(model):
    """Train no GRU any more."""
    model.layers[1].trainable = False


def exchange_weights(model):
    """Give a layer another array."""
    model.layers[2].params["W"] = model.layers[2].params["W"] * 2


def drop(model):
    """Dropout from now on."""
    model.layers[1].dropout = 0.5


def ignore_a_class(model):
    """Another loss."""
    model.compile(SparseCategoricalCrossentropy(ignore_class=3), model.optimizer, ["accuracy"])


def carry(model):
    """Keep the state from batch to batch."""
    model.layers[1].stateful = True


CHANGES = [change_nothing, freeze, exchange_weights, drop, ignore_a_class, carry]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_changes_between_steps_are_noticed(rng, change, monkeypatch, taken):
    x, y = data(rng)

    def train():
        model = language_model()
        losses = [model.train_on_batch(x, y)]
        change(model)
        losses += [model.train_on_batch(x, y) for _ in range(2)]
        return losses, model.get_weights()

    first, apart = both_ways(monkeypatch, train)
    assert taken
    assert_close(first, apart, "exact")


def test_weights_of_samples_and_large_batches_go_layer_by_layer(rng, taken):
    model = language_model()
    x, y = data(rng)
    model.train_on_batch(x, y, sample_weight=rng.random(12))
    x, y = data(rng, 700, 9)
    model.train_on_batch(x, y)
    assert not taken


def test_a_copy_trains_on_its_own(rng, taken):
    model, (x, y) = language_model(), data(rng)
    model.train_on_batch(x, y)
    twin = copy.deepcopy(model)
    before = model.get_weights()
    losses = [twin.train_on_batch(x, y) for _ in range(2)]
    assert_close(model.get_weights(), before, "exact")
    assert losses == [model.train_on_batch(x, y) for _ in range(2)]
    assert len(taken) == 5


def test_carried_states_are_no_views_of_memory_that_is_used_again(rng):
    model, (x, y) = language_model(), data(rng)
    states = model._train_step(x, y, None)
    kept = states[1].copy()
    model._train_step(x[::-1].copy(), y, None, states)
    assert_close(states[1], kept, "exact")


def test_bad_ids_and_labels_are_named(rng):
    model, (x, y) = language_model(), data(rng)
    model.train_on_batch(x, y)
    with pytest.raises(ValueError, match=r"valid range 0\.\.12, got 13"):
        model.train_on_batch(x, np.full_like(y, 13))
    with pytest.raises(ValueError, match=r"in 0\.\.10, got 11"):
        model.train_on_batch(np.full_like(x, 11), y)
    with pytest.raises(ValueError, match="one label a position"):
        model.train_on_batch(x, y[:, 0])


def test_a_gradient_that_is_not_finite_changes_nothing_and_is_explained(rng, taken):
    model, (x, y) = language_model(), data(rng)
    model.params["gru/W_hh"][2, 3] = np.inf
    before = model.get_weights()
    with pytest.raises(NonFiniteError, match="parameter gru/W_hh is not finite, gate r"):
        model.train_on_batch(x, y)
    assert taken
    assert_close(model.get_weights(), before, "exact")


def test_metrics_see_predictions_of_the_weights_before_the_step(rng):
    x, y = data(rng)
    model = language_model(optimizer=SGD(5.0))
    names = ["accuracy", "sparse_top_k_categorical_accuracy"]
    model.compile("sparse_categorical_crossentropy", model.optimizer, names)
    before = model.evaluate(x, y)
    assert_close(model.train_on_batch(x, y), before, "exact")
