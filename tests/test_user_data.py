"""What users hand to a model's methods: several outputs, missing numbers, one where a list is due.

Right values: plain sense; and where Keras is named, what Keras 3 does with the same call.
"""

import numpy as np
import pytest

from gru_np import GRU, Bidirectional, Dense, Embedding, Sequential, losses
from gru_np.callbacks import EarlyStopping, SkipNonFinite
from gru_np.health import NonFiniteError
from gru_np.layers import Dropout, GlobalMaxPooling1D, Masking
from gru_np.metrics import MeanAbsoluteError
from gru_np.optimizers import SGD, Adam

N, T, F, H = 7, 6, 4, 3


def regression(first=(), loss="mse", **options):
    model = Sequential([*first, GRU(H, **options), Dense(2)], dtype="float64", seed=1)
    model.compile(loss, SGD(0.1))
    return model


@pytest.fixture
def data(rng):
    return rng.standard_normal((N, T, F)), rng.standard_normal((N, 2))


# ------------------------------------------------------------------ layers with several outputs

SEVERAL = {
    "return_state=True": lambda: GRU(H, return_state=True),
    "merge_mode=None": lambda: Bidirectional(GRU(H), merge_mode=None),
}


@pytest.mark.parametrize("setting", SEVERAL)
def test_a_layer_with_several_outputs_is_refused_where_one_is_taken(setting):
    with pytest.raises(ValueError, match=f"Sequential: .* has {setting}, which gives several arr"):
        Sequential([SEVERAL[setting](), Dense(2)])


def test_a_setting_that_is_changed_later_is_refused_when_the_model_is_built(data):
    model = Sequential([GRU(H), Dense(2)])
    model.layers[0].return_state = True
    with pytest.raises(ValueError, match="gru has return_state=True, which gives several arrays"):
        model.predict(data[0])


@pytest.mark.parametrize(
    "layer", [Dense(2), Dropout(0.5), GRU(2), GlobalMaxPooling1D(), Masking(), Embedding(3, 2)]
)
def test_a_tuple_of_outputs_is_refused_by_every_layer(layer):
    outputs = GRU(H, return_sequences=True, return_state=True)(np.ones((2, T, F)))
    with pytest.raises(TypeError, match="x must be one array, got a tuple of 2 with 2 arrays"):
        layer(outputs)


def test_a_last_layer_may_give_several_outputs(data):
    x, _ = data
    model = Sequential([GRU(H, return_sequences=True, return_state=True)], seed=1)
    y, h = model.predict(x, batch_size=3)
    assert y.shape == (N, T, H) and h.shape == (N, H)
    np.testing.assert_array_equal(y[:, -1], h)


# -------------------------------------------------------- NaN and infinity are found in the data


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # NumPy's, of infinity
@pytest.mark.parametrize("number", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["x", "y", "sample_weight"])
def test_a_number_that_is_not_finite_is_named_by_the_users_row(data, where, number):
    x, y = data
    arrays = {"x": x, "y": y, "sample_weight": np.ones(N)}
    arrays[where][5] = number
    for shuffle in (True, False):
        model = regression()
        with pytest.raises(NonFiniteError, match=rf"{where} holds {number} in row 5; ") as caught:
            model.fit(**arrays, batch_size=2, shuffle=shuffle, verbose=0)
        assert "learning rate" not in str(caught.value)
        assert all(np.isfinite(w).all() for w in model.get_weights())


def test_truncated_bptt_names_the_users_row_too(rng):
    x, y = rng.standard_normal((N, 9, F)), rng.standard_normal((N, 9, 2))
    y[4, 8, 1] = np.nan
    model = Sequential([GRU(H, return_sequences=True), Dense(2)], seed=0)
    model.compile("mse", "sgd")
    with pytest.raises(NonFiniteError, match="y holds nan in row 4;"):
        model.fit(x, y, batch_size=2, tbptt=3, verbose=0)


def test_what_does_not_count_is_not_blamed(rng):
    """x is NaN in masked steps, y where the weight is zero: the fault is the parameter's."""
    x, y = rng.standard_normal((N, T, F)), rng.standard_normal((N, T, 2))
    x[1, 4:] = np.nan
    y[2, 3] = np.nan
    weight = np.ones((N, T))
    weight[2, 3] = 0
    model = Sequential([Masking(np.nan), GRU(H, return_sequences=True), Dense(2)], seed=0)
    model.compile("mse", "sgd")
    model.fit(x, y, sample_weight=weight, verbose=0)  # trains: nothing that counts is wrong
    model.params["dense/b"][0] = np.nan
    with pytest.raises(NonFiniteError, match="the parameter dense/b is not finite"):
        model.fit(x, y, sample_weight=weight, verbose=0)


def test_bad_rows_may_still_be_skipped_by_the_callback_for_it(data):
    x, y = data
    x[5] = np.nan
    model = regression()
    model.fit(x, y, batch_size=1, callbacks=SkipNonFinite(), verbose=0)
    assert all(np.isfinite(w).all() for w in model.get_weights())


# --------------------------------------------------------------- one thing where a list is due


def test_one_callback_is_taken_as_a_list_of_one(data):
    """Keras does so."""
    history = regression().fit(
        *data, epochs=9, callbacks=EarlyStopping("loss", min_delta=99.0, patience=1), verbose=0
    )
    assert len(history.history["loss"]) == 2


@pytest.mark.parametrize("wrong", [EarlyStopping, "EarlyStopping", 3, [3], print])
def test_what_is_no_callback_gets_a_sentence(data, wrong):
    with pytest.raises(TypeError, match=r"fit: callbacks must be .*Callback objects, got"):
        regression().fit(*data, callbacks=wrong, verbose=0)


@pytest.mark.parametrize("metric", ["mae", MeanAbsoluteError("mae"), ("mae",)])
def test_one_metric_is_taken_as_a_list_of_one(data, metric):
    model = regression()
    model.compile("mse", "sgd", metrics=metric)
    assert [m.name for m in model.metrics] == ["mae"]
    assert set(model.evaluate(*data, return_dict=True)) == {"loss", "mae"}


def test_compile_knows_a_loss_from_an_optimizer_by_position(data):
    """Keras' order has the optimizer first, ours the loss."""
    for given, named in [
        (("adam", "mae"), {}), (("mae", "adam"), {}), (("adam",), {"loss": "mae"}),
        (("mae",), {"optimizer": "adam"}), ((Adam(), "MeanAbsoluteError"), {}),
        ((Adam,), {"loss": losses.MeanAbsoluteError()}), (("mae", Adam()), {"metrics": "mse"}),
        (("adam", "mae", ["mse"]), {}),
    ]:  # fmt: skip
        model = regression()
        model.compile(*given, **named)
        assert type(model.optimizer) is Adam, given
        assert type(model.loss) is losses.MeanAbsoluteError, given
    model.compile("mae")
    assert model.optimizer.get_config()["learning_rate"] == 0.001
    assert type(model.optimizer).__name__ == "RMSprop"  # Keras' default


@pytest.mark.parametrize(
    ("given", "named", "error", "message"),
    [
        ((), {}, ValueError, "compile: a loss must be given"),
        (("adam",), {}, ValueError, "compile: a loss must be given"),
        (("mse",), {"loss": "mae"}, TypeError, "loss is given twice, 'mse' and 'mae'"),
        (("adam", "mse"), {"loss": "mae"}, TypeError, "loss is given twice"),
        (("adam", "mse", None, 1.0), {}, TypeError, "at most optimizer, loss, metrics may be"),
        (("mse", "mae"), {}, ValueError, "unknown optimizer 'mae'"),
    ],
)
def test_what_compile_cannot_tell_gets_a_sentence(given, named, error, message):
    model = regression()
    with pytest.raises(error, match=message):
        model.compile(*given, **named)
    assert type(model.loss) is losses.MeanSquaredError  # as it was


# ------------------------------------------------------------------------- what is no data at all


class Batches:
    """As keras.utils.Sequence and PyTorch's data sets are."""

    def __getitem__(self, index):
        raise AssertionError("asked for an item")


@pytest.mark.parametrize("method", ["fit", "evaluate", "predict", "train_on_batch"])
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (Batches(), "got an object of type Batches; join what it gives into one array"),
        ((i for i in range(3)), "got an object of type generator; join"),
        (None, "x must be an array, got None"),
        (3.0, "x must be an array of rows, got the number 3.0"),
        ("text", "x must be numbers, got an array of <U4"),
        ([[[1.0, 2.0]], [[1.0]]], "rows of different lengths; use gru_np.pad_sequences"),
        (np.zeros((2, 3, 4), "M8[s]"), "x must be numbers, got an array of datetime64"),
    ],
)
def test_what_is_no_data_gets_a_sentence(method, x, message):
    arguments = [x] if method == "predict" else [x, np.ones((3, 2))]
    with pytest.raises((TypeError, ValueError), match=f"{method}: .*{message}"):
        getattr(regression(), method)(*arguments)


@pytest.mark.parametrize("method", ["fit", "evaluate", "train_on_batch"])
def test_targets_that_are_missing_or_names_get_a_sentence(data, method):
    x, _ = data
    with pytest.raises(ValueError, match=f"{method}: y must be given, for mean_squared_error"):
        getattr(regression(), method)(x)
    with pytest.raises(TypeError, match=r"y must be numbers, got .*; names of classes .*np.unique"):
        getattr(regression(), method)(x, ["cat"] * N)
    with pytest.raises(ValueError, match="y must have no missing values, got None"):
        getattr(regression(), method)(x, [None] + [1.0] * (N - 1))


def test_a_loss_of_ones_own_may_do_without_targets(data):
    class Size(losses.Loss):
        def __call__(self, y_true, y_pred, sample_weight=None, mask=None):
            assert y_true is None
            return 0.5 * (y_pred**2).sum(), y_pred

    history = regression(loss=Size()).fit(data[0], epochs=3, verbose=0).history["loss"]
    assert history[2] < history[1] < history[0]


def test_nullable_frames_train_as_the_plain_array_does():
    pandas = pytest.importorskip("pandas")
    x = np.arange(12.0).reshape(4, 3)
    frame = pandas.DataFrame({c: pandas.array(x[:, i], "Float64") for i, c in enumerate("abc")})
    y = pandas.Series([0, 1, 1, 0], dtype="Int64")
    weights = []
    for rows, labels in ((x, [0, 1, 1, 0]), (frame, y)):
        model = Sequential([Dense(2, activation="softmax")], seed=3)
        model.compile("sparse_categorical_crossentropy", "adam")
        model.fit(rows, labels, epochs=2, verbose=0)
        weights.append(model.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


# ----------------------------------------------------------------------------------- masking NaN


def test_masking_by_nan_masks_the_steps_that_are_all_nan(rng, tmp_path):
    x = rng.standard_normal((2, 5, 3))
    padded = x.copy()
    padded[1, 3:] = np.nan
    assert Masking(np.nan).compute_mask(padded, None).tolist() == [
        [True] * 5,
        [True] * 3 + [False] * 2,
    ]
    model = Sequential([Masking(np.nan), GRU(4)], dtype="float64", seed=0)
    y = model.predict(padded)
    of_zeros = Sequential([Masking(0.0), GRU(4)], dtype="float64", seed=0)
    np.testing.assert_array_equal(y, of_zeros.predict(np.nan_to_num(padded)))
    model.save(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(Sequential.load(tmp_path / "m.safetensors").predict(padded), y)
