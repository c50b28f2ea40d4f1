"""The biases of a GRU as Keras has them: rows of one array, or one alone with the reset before.

Golden values: nine steps of Keras 3 from the same weights (golden/make_keras_bias.py).
"""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import assert_close

from gru_np import (
    GRU,
    Bidirectional,
    Dense,
    Embedding,
    Sequential,
    checkpoint,
    constraints,
    gru_backward,
    gru_forward,
    initializers,
    interop,
    optimizers,
)  # fmt: skip
from gru_np.callbacks import ModelCheckpoint
from gru_np.gradcheck import check_gradients
from gru_np.interop import layouts
from gru_np.layers import GRUCell

GOLDEN = json.loads((Path(__file__).parent / "golden" / "keras_bias.json").read_text())
DATA = {name: np.array(values) for name, values in GOLDEN["data"].items()}
OPTIMIZERS = {
    "sgd": lambda: optimizers.SGD(0.3),
    "adam": lambda: optimizers.Adam(0.05),
    "clipnorm": lambda: optimizers.SGD(0.3, clipnorm=0.05),
    "adam clipnorm": lambda: optimizers.Adam(0.05, clipnorm=0.05),
}
CONSTRAINTS = {
    "max_norm": constraints.MaxNorm(0.03),
    "unit_norm": constraints.UnitNorm(),
    "non_neg": constraints.NonNeg(),
}


def model_of(reset_after, optimizer=None, constraint=None):
    gru = GRU(
        4,
        reset_after=reset_after,
        bias_constraint=constraint,
        bias_initializer=initializers.Constant(0.03),
    )
    model = Sequential([gru, Dense(2)], dtype="float64", seed=0)
    model.build((None, 5, 3))
    arrays = layouts.from_keras_arrays([DATA["kernel"], DATA["recurrent"]], reset_after)
    for name, array in arrays.items():
        model.params[f"gru/{name}"][...] = array
    model.params["dense/W"][...] = DATA["dense"].T
    model.compile("mse", optimizer or OPTIMIZERS["sgd"]())
    return model


@pytest.mark.parametrize("run", GOLDEN["runs"])
def test_nine_steps_are_those_of_keras(run):
    name, _, form = run.rpartition(" ")
    model = model_of(
        form == "after", OPTIMIZERS.get(name, OPTIMIZERS["sgd"])(), CONSTRAINTS.get(name)
    )
    for _ in range(9):
        model.train_on_batch(DATA["x"], DATA["y"])
    golden = GOLDEN["runs"][run]
    # Keras keeps the learning rate in float32: 0.3 is off by 4e-8 of it
    np.testing.assert_allclose(model.predict(DATA["x"]), golden["y"], rtol=2e-6, atol=1e-7)
    bias = layouts.to_keras_arrays(model.layers[0].params, form == "after")[2]
    np.testing.assert_allclose(bias, golden["bias"], rtol=2e-6, atol=1e-7)


def test_with_the_reset_before_one_bias_trains_and_the_other_stays():
    model = model_of(False)
    assert not model.params["gru/b_hh"].any()  # zero, whatever bias_initializer says
    assert (model.params["gru/b_ih"] == 0.03).all()
    old = model.params["gru/b_hh"][...] = np.linspace(-1, 1, 12)  # as from an older file
    before = model.predict(DATA["x"])
    _, gradients = model.compute_gradients(DATA["x"], DATA["y"])
    assert "gru/b_ih" in gradients and "gru/b_hh" not in gradients
    model.fit(DATA["x"], DATA["y"], epochs=3, verbose=0)
    np.testing.assert_array_equal(model.params["gru/b_hh"], old)
    assert not np.array_equal(model.predict(DATA["x"]), before)
    assert not any(name.endswith("b_hh") for name in model.optimizer.state)


@pytest.mark.parametrize("layer", [GRU, GRUCell])
def test_the_layer_says_which_parameters_are_fixed(layer):
    assert layer(4, reset_after=False).fixed == ("b_hh",)
    assert layer(4).fixed == layer(4, reset_after=False, use_bias=False).fixed == ()
    both = Bidirectional(GRU(4, reset_after=False))
    assert both.fixed == ("forward/b_hh", "backward/b_hh")


def test_both_directions_train_one_bias_each_and_obey_as_one_array(rng):
    x, y = rng.standard_normal((4, 5, 3)), rng.standard_normal((4, 2))
    for reset_after in (False, True):
        gru = GRU(4, reset_after=reset_after, bias_constraint=constraints.UnitNorm())
        model = Sequential([Bidirectional(gru), Dense(2)], dtype="float64", seed=0)
        model.compile("mse", "adam")
        model.fit(x, y, verbose=0)
        for way in ("forward", "backward"):
            b_ih, b_hh = (model.params[f"bidirectional/{way}/{b}"] for b in ("b_ih", "b_hh"))
            if reset_after:
                np.testing.assert_allclose(np.hypot(b_ih, b_hh), 1, atol=1e-4)
            else:
                assert np.linalg.norm(b_ih) == pytest.approx(1, abs=1e-4) and not b_hh.any()


def test_the_summary_counts_what_trains():
    lines = []
    model_of(False).summary(print_fn=lines.append)
    assert "118 parameters" in lines[0] and "106 trainable" in lines[0]


def test_a_fixed_bias_is_penalised_no_more_than_in_keras(rng):
    gru = GRU(4, reset_after=False, bias_regularizer="l2")
    gru(rng.standard_normal((2, 5, 3)))
    gru.params["b_hh"][...] = 1
    assert set(gru.penalty()[1]) == {"b_ih"}


def test_the_gradient_of_a_fixed_bias_is_checked_all_the_same(rng):
    report = check_gradients(model_of(False), DATA["x"], DATA["y"])
    assert report.ok and "gru/b_hh" in str(report)


def test_the_functions_know_both_biases(rng):
    x, W_ih, W_hh = (rng.standard_normal(s) for s in [(5, 3, 2), (12, 2), (12, 4)])
    b_ih, b_hh = rng.standard_normal((2, 12))
    h, saved = gru_forward(x, None, W_ih, W_hh, b_ih, b_hh, reset_after=False)
    *_, db_ih, db_hh = gru_backward(np.ones_like(h), saved)
    assert_close(db_hh, db_ih, "kernel")


def test_the_small_step_of_a_language_model_trains_as_layer_by_layer(rng):
    x, y = rng.integers(0, 6, (4, 7)), rng.integers(0, 6, (4, 7))
    trained = []
    for weight in (None, np.ones((4, 7))):  # with weights there is no small step
        layers = [
            Embedding(6, 4),
            GRU(5, reset_after=False, return_sequences=True),
            Dense(6, "softmax"),
        ]
        model = Sequential(layers, dtype="float64", seed=0)
        model.compile("sparse_categorical_crossentropy", optimizers.Adam(0.01, clipnorm=0.5))
        model.fit(x, y, epochs=3, sample_weight=weight, verbose=0)
        assert not model.params["gru/b_hh"].any()
        trained.append(model.get_weights())
    for one, other in zip(*trained, strict=True):
        assert_close(one, other, "kernel")


# --------------------------------------------------------------------------- files


def make_older(path):
    """Turn a file into one of when both biases trained: with their averages, and no word of it."""
    config, arrays = checkpoint.load(path)
    training = config["training"]
    del training["fixed"]
    for average in ("m", "v"):
        name = f"optimizer/{average}/gru/b_hh"
        training["arrays"][name] = [12]
        arrays[f"training/{name}"] = np.ones(12)
    arrays["gru/b_hh"] = np.linspace(-1, 1, 12)
    checkpoint.save(path, config, arrays)


def test_an_older_file_loads_with_its_bits_and_does_not_resume(tmp_path):
    path = tmp_path / "old.safetensors"
    model = model_of(False, OPTIMIZERS["adam"]())
    options = {"callbacks": [ModelCheckpoint(path)], "epochs": 2, "verbose": 0}
    model.fit(DATA["x"], DATA["y"], **options)
    model_of(False, OPTIMIZERS["adam"]()).fit(
        DATA["x"], DATA["y"], resume=path, **options | {"epochs": 3}
    )  # a file of today resumes
    make_older(path)
    loaded = Sequential.load(path)
    weights = loaded.params
    model.set_weights(weights.values())
    np.testing.assert_array_equal(weights["gru/b_hh"], np.linspace(-1, 1, 12))
    np.testing.assert_array_equal(loaded.predict(DATA["x"]), model.predict(DATA["x"]))
    fresh = model_of(False, OPTIMIZERS["adam"]())
    with pytest.raises(ValueError, match=r"to resume, gru/b_hh must be fixed .* without resume"):
        fresh.fit(DATA["x"], DATA["y"], resume=path, **options | {"epochs": 4})
    loaded.fit(DATA["x"], DATA["y"], verbose=0)  # as the sentence says
    np.testing.assert_array_equal(loaded.params["gru/b_hh"], np.linspace(-1, 1, 12))
    assert not any(name.endswith("b_hh") for name in loaded.optimizer.state)


def test_keras_gets_the_sum_of_both_biases(tmp_path):
    pytest.importorskip("h5py")
    model = model_of(False)
    model.params["gru/b_hh"][...] = np.linspace(-1, 1, 12)
    right = model.predict(DATA["x"])
    interop.to_keras(model, tmp_path / "m.keras")
    back = interop.from_keras(tmp_path / "m.keras")
    assert not back.params["gru/b_hh"].any()
    np.testing.assert_allclose(back.predict(DATA["x"]), right, rtol=1e-5)
