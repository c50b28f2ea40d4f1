"""Layers renamed and lent, optimisers shared, settings set by hand: whose is what.

The right values are those of a model that nothing was done to: a name is no number. What is written
can be read, or is not written.
"""

import copy

import numpy as np
import pytest

from gru_np import GRU, Bidirectional, CheckpointError, Dense, Embedding, Sequential, optimizers
from gru_np.callbacks import Callback, ModelCheckpoint

X = np.random.default_rng(11).normal(size=(9, 5, 3)).astype("f4")
Y = np.random.default_rng(12).normal(size=(9, 2)).astype("f4")


def two_layers(seed=1, optimizer="adam", last=Dense, **settings):
    model = Sequential([GRU(4, **settings), last(2)], seed=seed)
    model.compile("mse", optimizer)
    return model


def trained_twice(change, tmp_path):
    """Train, change something that is no number, train on; beside it, a run without the change."""
    plain, changed = two_layers(), two_layers()
    for model in (plain, changed):
        model.fit(X, Y, epochs=2, verbose=0)
    changed = change(changed) or changed
    changed.save(tmp_path / "model.safetensors")
    again = Sequential.load(tmp_path / "model.safetensors")
    for model in (plain, changed, again):
        model.fit(X, Y, epochs=2, verbose=0)
    return [[array.tobytes() for array in model.get_weights()] for model in (plain, changed, again)]


def test_a_layer_with_a_new_name_goes_on_with_its_own_averages(tmp_path):
    def rename(model):
        model.layers[0].name = "reader"

    plain, renamed, loaded = trained_twice(rename, tmp_path)
    assert plain == renamed == loaded


def test_names_that_change_places_take_their_averages_along(tmp_path):
    def swap(model):
        first, last = model.layers
        first.name, last.name = last.name, first.name

    plain, swapped, loaded = trained_twice(swap, tmp_path)
    assert plain == swapped == loaded


def test_a_name_that_is_taken_becomes_one_of_its_own_and_no_parameter_is_lost(tmp_path):
    def take(model):
        model.layers[0].name = "dense"
        assert sorted(model.params) == [
            "dense/W_hh", "dense/W_ih", "dense/b_hh", "dense/b_ih", "dense_1/W", "dense_1/b",
        ]  # fmt: skip

    plain, renamed, loaded = trained_twice(take, tmp_path)
    assert plain == renamed == loaded


def test_a_layer_that_a_second_model_takes_in_goes_on_in_the_first(tmp_path):
    def borrow(model):
        Sequential([GRU(3, return_sequences=True), *model.layers], seed=0)

    plain, lent, loaded = trained_twice(borrow, tmp_path)
    assert plain == lent == loaded


def test_a_tied_layer_is_saved_under_the_name_its_table_has_now(tmp_path):
    layers = [Embedding(7, 4, name="table"), GRU(4), Dense(7, tied_to="table")]
    model = Sequential(layers, seed=0)
    model.build((None, None))
    model.layers[0].name = "words"
    assert model.layers[2].tied_to == "words"
    model.save(tmp_path / "model.safetensors")
    again = Sequential.load(tmp_path / "model.safetensors")
    ids = np.array([[1, 2, 6]])
    assert again.predict(ids).tobytes() == model.predict(ids).tobytes()


@pytest.mark.parametrize("name", ["training", "a/b", "training/x", "/"])
def test_a_name_that_a_file_could_not_hold_is_refused_where_the_model_is_made(name):
    with pytest.raises(ValueError, match="no slash and not be 'training'"):
        Sequential([GRU(4, name=name)])


def test_an_optimizer_that_has_trained_another_model_is_refused_before_training():
    # Its averages and its count of steps are the other's; in Keras it is a ValueError, too.
    shared = optimizers.Adam(0.01)
    first, second = two_layers(1, shared), two_layers(2, shared)
    first.fit(X, Y, verbose=0)
    second.build((None, 5, 3))
    before = [array.tobytes() for array in second.get_weights()]
    with pytest.raises(ValueError, match="optimizer must be the model's own"):
        second.fit(X, Y, verbose=0)
    with pytest.raises(ValueError, match="optimizer must be the model's own"):
        second.train_on_batch(X, Y)
    assert before == [array.tobytes() for array in second.get_weights()]
    first.fit(X, Y, verbose=0)  # it is still the first one's
    first.compile("mse", shared)
    first.fit(X, Y, verbose=0)
    copy.deepcopy(first).fit(X, Y, verbose=0)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda model: setattr(model.layers[0], "dropout", 2.0), "dropout must be in"),
        (lambda model: setattr(model, "name", None), "name"),
        (lambda model: setattr(model.layers[1], "use_bias", False), "dense/b is unexpected"),
        (lambda model: setattr(model.layers[1], "units", 3), "dense/W is float32"),
        (lambda model: setattr(model, "dtype", np.dtype("f8")), "instead of float64"),
        (lambda model: setattr(model.optimizer, "beta_1", 2.0), "beta_1 must be in"),
        (lambda model: setattr(model.optimizer, "iterations", 5.0), "iterations"),
    ],
)
def test_a_file_that_could_not_be_loaded_is_not_written(change, reason, tmp_path):
    model = two_layers()
    model.fit(X, Y, verbose=0)
    path = tmp_path / "model.safetensors"
    model.save(path)
    before = path.read_bytes()
    change(model)
    with pytest.raises(ValueError, match=f"save: the file could not be loaded again: .*{reason}"):
        model.save(path)
    assert path.read_bytes() == before


def test_a_checkpoint_that_could_not_be_loaded_is_refused_before_training(tmp_path):
    class Odd(Callback):
        def get_state(self):
            return {"rows": np.arange(3)}  # a model of float32 has arrays of float32 in its file

    keep = ModelCheckpoint(tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="could not be loaded again"):
        two_layers().fit(X, Y, verbose=0, callbacks=[Odd(), keep])


class Halved(Dense):
    """A layer of a user's own."""

    def forward(self, x, *args, **options):
        return super().forward(np.asarray(x) / 2, *args, **options)


def test_a_model_with_a_layer_of_ones_own_is_read_as_the_refusal_of_load_advises(tmp_path):
    model = two_layers(last=Halved)
    model.fit(X, Y, epochs=2, verbose=0)
    model.save(tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"'Halved'.*epochs=0, resume=file"):
        Sequential.load(tmp_path / "model.safetensors")
    again = two_layers(seed=5, last=Halved)
    resume = tmp_path / "model.safetensors"
    again.fit(X, Y, epochs=0, resume=resume, verbose=0)
    assert again.predict(X).tobytes() == model.predict(X).tobytes()


def test_a_layer_of_ones_own_inside_another_is_kept_as_well(tmp_path):
    class Reader(GRU):
        pass

    def make(seed):
        model = Sequential([Bidirectional(Reader(4)), Dense(2)], seed=seed)
        model.compile("mse", "adam")
        return model

    model, again = make(1), make(5)
    model.fit(X, Y, epochs=2, verbose=0)
    model.save(tmp_path / "model.safetensors")
    again.fit(X, Y, epochs=0, resume=tmp_path / "model.safetensors", verbose=0)
    assert again.predict(X).tobytes() == model.predict(X).tobytes()


def test_a_class_of_ones_own_that_is_called_as_one_of_ours_is_not_saved_as_ours(tmp_path):
    # A file would give back our layer, which predicts something else.
    model = two_layers(last=type("Dense", (Halved,), {}))
    inner = Sequential([Bidirectional(type("GRU", (GRU,), {})(4)), Dense(2)], seed=0)
    inner.compile("mse", "adam")
    for one, name in ((model, "Dense"), (inner, "GRU")):
        one.fit(X, Y, verbose=0)
        with pytest.raises(ValueError, match=f"a name of its own, got another {name}"):
            one.save(tmp_path / "model.safetensors")


class Refusing(optimizers.SGD):
    """What is interrupted, or fails, when all but the weights has been done."""

    error: BaseException | None = None

    def apply(self, params, grads):
        if self.error is not None:
            raise self.error
        super().apply(params, grads)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("the rate"), None])
def test_a_step_that_is_not_taken_leaves_what_layers_carry(error):
    model, plain = (two_layers(1, Refusing(0.1), stateful=True) for _ in range(2))
    model.train_on_batch(X, Y)
    plain.train_on_batch(X, Y)
    model.optimizer.error = error
    with pytest.raises((KeyboardInterrupt, ValueError)):
        model.train_on_batch(X, Y if error is not None else Y[:, :1])
    model.optimizer.error = None
    for one in (model, plain):
        one.train_on_batch(X, Y)
    assert model.layers[0].state.tobytes() == plain.layers[0].state.tobytes()
    for a, b in zip(model.get_weights(), plain.get_weights(), strict=True):
        assert a.tobytes() == b.tobytes()


def test_a_run_that_cannot_be_resumed_leaves_the_position(tmp_path):
    model = two_layers()
    model.fit(X, Y, epochs=3, verbose=0)
    with pytest.raises(CheckpointError):
        model.fit(X, Y, epochs=9, verbose=0, resume=tmp_path / "nothing.safetensors")
    assert (model.progress.epoch, model.progress.passes) == (3, 3)
