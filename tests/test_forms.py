"""One array in forty forms, through every public function that takes one.

Of each form either the result is that of the plain array, to the bit, or the answer is one of our
own sentences: "who: what was expected, what arrived". Which of the two is part of the form.
"""

import collections
import ctypes
import decimal
import fractions
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gru_np import (
    GRU,
    Bidirectional,
    Dense,
    Dropout,
    Embedding,
    LayerNormalization,
    Sequential,
    ctc_decoding,
    decoding,
    gru_backward,
    gru_forward,
    losses,
    metrics,
    text,
)  # fmt: skip
from gru_np.gradcheck import check_gradients
from gru_np.interop import TorchGRU
from gru_np.layers import (
    GlobalAveragePooling1D,
    GlobalMaxPooling1D,
    GRUCell,
    Masking,
    Reshape,
)  # fmt: skip
from gru_np.optimizers import SGD

# ------------------------------------------------------------------------------------ the forms


class Subclass(np.ndarray):
    """As arrays with units are: what it computes is something else."""

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        raise AssertionError("a subclass was computed with")


class WithArray:
    def __init__(self, a):
        self.a = a

    def __array__(self, dtype=None, copy=None):
        return self.a.copy()


class WithInterface:
    def __init__(self, a):
        self.a = a

    @property
    def __array_interface__(self):
        return self.a.__array_interface__


class Endless:
    """As data sets are: an item for every index."""

    def __init__(self, a):
        self.a = a

    def __getitem__(self, index):
        raise AssertionError("an item was asked for")


class Counted(Endless):
    def __len__(self):
        raise AssertionError("a length was asked for")


class Iterated:
    """As loaders are."""

    def __init__(self, a):
        self.a = a

    def __iter__(self):
        raise AssertionError("it was iterated over")


class Broken(WithArray):
    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("it is on another device")


def misaligned(a):
    room = np.zeros(a.nbytes + 1, np.uint8)
    out = room[1:].view(a.dtype).reshape(a.shape)
    out[...] = a
    return out


def swapped(a):
    return a.astype(a.dtype.newbyteorder(">"))


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def spread(a):
    out = np.zeros([2 * n + 1 for n in a.shape], a.dtype)
    inner = out[tuple(slice(1, None, 2) for _ in a.shape)]
    inner[...] = a
    return inner


def reversed_in_memory(a):
    turn = (slice(None, None, -1),) * a.ndim
    return a[turn].copy()[turn]


def of_objects(make):
    return lambda a: np.array([make(v) for v in a.ravel().tolist()] + [None], object)[:-1].reshape(
        a.shape
    )


def nested(a, kind):
    return kind(nested(row, kind) for row in a) if a.ndim > 1 else kind(a.tolist())


def in_ctypes(a):
    kind = {"f": ctypes.c_double, "i": ctypes.c_int64}[a.dtype.kind]
    for size in reversed(a.shape):
        kind = kind * size
    return kind.from_buffer_copy(np.ascontiguousarray(a).tobytes())


SAME = {
    "plain": lambda a: a,
    "a copy": np.copy,
    "little-endian": lambda a: a.astype(a.dtype.newbyteorder("<")),
    "big-endian": swapped,
    "misaligned": misaligned,
    "misaligned and big-endian": lambda a: misaligned(swapped(a)),
    "read-only": read_only,
    "read-only and big-endian": lambda a: read_only(swapped(a)),
    "strided on every axis": spread,
    "reversed in memory": reversed_in_memory,
    "Fortran order": np.asfortranarray,
    "a view of a transposed copy": lambda a: a.T.copy().T,
    "first row of a larger one": lambda a: np.stack([a, a + 1])[0],
    "a subclass": lambda a: a.view(Subclass),
    "a masked array with no mask": lambda a: np.ma.array(a),
    "a masked array with an empty mask": lambda a: np.ma.array(a, mask=np.zeros(a.shape, bool)),
    "lists": lambda a: a.tolist(),
    "tuples": lambda a: nested(a, tuple),
    "a list of arrays": list,
    "a list of big-endian arrays": lambda a: list(swapped(a)),
    "memoryview": lambda a: memoryview(np.ascontiguousarray(a)),
    "ctypes": in_ctypes,
    "__array__": WithArray,
    "__array_interface__": WithInterface,
    "Python numbers as objects": of_objects(lambda v: v),
    "Decimal": of_objects(decimal.Decimal),
    "Fraction": of_objects(fractions.Fraction),
}  # fmt: skip
REFUSED = {
    "None in it": lambda a: with_one(a, None),
    "a text in it": lambda a: with_one(a, "1.0"),
    "an object in it": lambda a: with_one(a, object()),
    "texts": lambda a: a.astype(str),
    "bytes": lambda a: a.astype("S9"),
    "times": lambda a: a.astype("i8").astype("M8[s]"),
    "spans of time": lambda a: a.astype("i8").astype("m8[s]"),
    "complex": lambda a: a.astype(complex),
    "records": lambda a: a.astype([("v", a.dtype)]),
    "masked entries": lambda a: np.ma.array(a, mask=np.arange(a.size).reshape(a.shape) == 1),
    "a generator": lambda a: (row for row in a),
    "an iterator": lambda a: iter(a.tolist()),
    "map": lambda a: map(np.copy, a),
    "a set": lambda a: {1, 2, 3},
    "a dict": lambda a: {"x": a},
    "a deque": lambda a: collections.deque(a.tolist()),
    "a data set without a length": Endless,
    "a data set": Counted,
    "a loader": Iterated,
    "an array of another device": Broken,
    "a module": lambda a: np,
    "a class": lambda a: np.ndarray,
    "rows of different lengths": lambda a: [*a[:-1].tolist(), [[1, 2, 3, 4, 5, 6, 7, 8, 9]]],
}  # fmt: skip


def with_one(a, value):
    out = a.astype(object)
    out[(0,) * a.ndim] = value
    return out


def of_pandas(a, dtype=None):
    pandas = pytest.importorskip("pandas")
    make = pandas.Series if a.ndim == 1 else pandas.DataFrame
    return make(a) if dtype is None else make(a).astype({"f": "Float64", "i": "Int64"}[dtype])


# ------------------------------------------------------------------- the functions, by argument

N, T, F, H, V = 4, 5, 3, 4, 6
DATA = np.random.default_rng(9)
# Halves and quarters: exact in float32, so a list of them is no other array.
X = DATA.integers(-8, 8, (N, T, F)) / 4
ROWS = DATA.integers(-8, 8, (N, F)) / 4
Y = DATA.integers(-8, 8, (N, 2)) / 4
IDS, LABELS = DATA.integers(0, V, (N, T)), DATA.integers(0, V, (N, T))
CLASSES = DATA.integers(0, 2, N)
WEIGHT = DATA.integers(1, 8, N) / 4
MASK = np.array([[True] * T, [True] * 3 + [False] * 2, [False] + [True] * 4, [True] * T])
WEIGHTS = [DATA.standard_normal(s) for s in [(3 * H, F), (3 * H, H), (3 * H,), (3 * H,)]]
H0 = DATA.integers(-4, 4, (N, H)) / 4
SCORES = DATA.integers(-8, 8, (N, V)) / 2
PROBABILITIES = DATA.integers(1, 8, (N, T, V)) / 8


def regression():
    model = Sequential([GRU(H), Dense(2)], seed=0)
    model.build((None, T, F))
    model.compile("mse", SGD(0.1), ["mae"])
    return model


def language():
    model = Sequential(
        [Embedding(V, 3), GRU(H, return_sequences=True), Dense(V, activation="softmax")], seed=0
    )
    model.build((None, T))
    model.compile("sparse_categorical_crossentropy", SGD(0.1), ["accuracy"])
    return model


def after(train, make):
    """Give the weights that a method leaves."""

    def call(a):
        model = make()
        train(model, a)
        return model.get_weights()

    return call


def updated(metric):
    def call(*arguments, **options):
        one = metric()
        one.update(*arguments, **options)
        return one.result()

    return call


def gru(**arrays):
    names = {
        "x": X.transpose(1, 0, 2),
        "h0": H0,
        **dict(zip(("W_ih", "W_hh", "b_ih", "b_hh"), WEIGHTS, strict=True)),
    }
    return gru_forward(**{**names, **arrays})[0]


def set_weights(a):
    model = regression()
    model.set_weights([a, *model.get_weights()[1:]])
    return model.get_weights()


FORWARD = gru_forward(X.transpose(1, 0, 2), None, *WEIGHTS)[1]
LAYERS = {
    "GRU": lambda: GRU(H, return_sequences=True, seed=0),
    "GRU of states": lambda: GRU(H, return_state=True, seed=0),
    "GRU with layer_norm": lambda: GRU(H, layer_norm=True, seed=0),
    "Bidirectional": lambda: Bidirectional(GRU(H), seed=0),
    "Dense": lambda: Dense(2, seed=0),
    "Dropout": lambda: Dropout(0.5, seed=0),
    "LayerNormalization": LayerNormalization,
    "Masking": Masking,
    "GlobalMaxPooling1D": GlobalMaxPooling1D,
    "GlobalAveragePooling1D": GlobalAveragePooling1D,
    "Reshape": lambda: Reshape((F, T)),
}
# What takes complex numbers, for complex steps of differentiation; models do not.
COMPLEX = {
    *LAYERS, "GRUCell", "initial_state", "gru_forward", "gru_backward", "h0 of gru_forward",
    "W_ih of gru_forward", "b_hh of gru_forward", "TorchGRU", "y_pred of a loss", "CTC",
}  # fmt: skip
FLOATS = {
    **{name: (X, lambda a, make=make: make()(a)) for name, make in LAYERS.items()},
    "GRUCell": (ROWS, lambda a: GRUCell(H, seed=0)(a)),
    "initial_state": (H0, lambda a: GRU(H, seed=0)(X, initial_state=a)),
    "predict": (X, lambda a: regression().predict(a)),
    "call": (X, lambda a: regression()(a)),
    "step": (ROWS, lambda a: regression().step(a)),
    "state of a step": (H0, lambda a: regression().step(ROWS, [a, None])),
    "x of fit": (X, after(lambda m, a: m.fit(a, Y, batch_size=3, verbose=0), regression)),
    "y of fit": (Y, after(lambda m, a: m.fit(X, a, batch_size=3, verbose=0), regression)),
    "weights of fit": (
        WEIGHT,
        after(lambda m, a: m.fit(X, Y, sample_weight=a, verbose=0), regression),
    ),
    "validation_data": (
        X,
        lambda a: regression().fit(X, Y, validation_data=(a, Y), verbose=0).history["val_loss"],
    ),
    "x of evaluate": (X, lambda a: regression().evaluate(a, Y)),
    "y of evaluate": (Y, lambda a: regression().evaluate(X, a)),
    "weights of evaluate": (WEIGHT, lambda a: regression().evaluate(X, Y, sample_weight=a)),
    "train_on_batch": (X, after(lambda m, a: m.train_on_batch(a, Y), regression)),
    "y of train_on_batch": (Y, after(lambda m, a: m.train_on_batch(X, a), regression)),
    "compute_loss": (X, lambda a: regression().compute_loss(a, Y)),
    "compute_gradients": (X, lambda a: list(regression().compute_gradients(a, Y)[1].values())),
    "set_weights": (WEIGHTS[0], set_weights),
    "weights of an Embedding": (ROWS, lambda a: Embedding(N, F, weights=a)(np.array([[1, 3]]))),
    "gru_forward": (X.transpose(1, 0, 2), lambda a: gru(x=a)),
    "h0 of gru_forward": (H0, lambda a: gru(h0=a)),
    "W_ih of gru_forward": (WEIGHTS[0], lambda a: gru(W_ih=a)),
    "b_hh of gru_forward": (WEIGHTS[3], lambda a: gru(b_hh=a)),
    "gru_backward": (np.ones((T, N, H)), lambda a: gru_backward(a, FORWARD)),
    "TorchGRU": (X, lambda a: TorchGRU(F, H, seed=0)(a)),
    "y_pred of a loss": (Y, lambda a: losses.Huber()(Y + 1, a)),
    "y_true of a loss": (Y, lambda a: losses.MeanSquaredError()(a, Y + 1)),
    "weights of a loss": (WEIGHT, lambda a: losses.MeanSquaredError()(Y, Y + 1, sample_weight=a)),
    "y_pred of a metric": (Y, lambda a: updated(metrics.MeanAbsoluteError)(Y + 1, a)),
    "y_true of a metric": (Y, lambda a: updated(metrics.MeanAbsoluteError)(a, Y + 1)),
    "y_pred of accuracy": (PROBABILITIES, lambda a: updated(metrics.AccuracyByShape)(LABELS, a)),
    "weights of BinaryAccuracy": (Y, lambda a: updated(metrics.BinaryAccuracy)(Y > 0, Y, a)),
    "perplexity": (PROBABILITIES, lambda a: updated(metrics.Perplexity)(LABELS, a)),
    "CTC": (PROBABILITIES, lambda a: losses.CTC()(LABELS[:, :1] % 5, a)),
    "check_gradients": (X[:2], lambda a: check_gradients(Dense(2, seed=0), a).ok),
    "as_scores": (SCORES, decoding.as_scores),
    "keep_top_k": (SCORES, lambda a: decoding.keep_top_k(a, 2)),
    "sample": (SCORES[0], lambda a: decoding.sample(a, np.random.default_rng(0))),
    "greedy": (SCORES, lambda a: ctc_decoding.greedy(a)),
    "prefix_beam_search": (SCORES, lambda a: ctc_decoding.prefix_beam_search(a, 2)),
    "align": (SCORES, lambda a: ctc_decoding.align(a, [1])),
}  # fmt: skip
INTEGERS = {
    "Embedding": (IDS, lambda a: Embedding(V, 3, seed=0)(a)),
    "ids of predict": (IDS, lambda a: language().predict(a)),
    "ids of step": (IDS[:, 0], lambda a: language().step(a)),
    "ids of fit": (IDS, after(lambda m, a: m.fit(a, LABELS, batch_size=3, verbose=0), language)),
    "labels of fit": (LABELS, after(lambda m, a: m.fit(IDS, a, batch_size=3, verbose=0), language)),
    "labels of evaluate": (LABELS, lambda a: language().evaluate(IDS, a)),
    "labels of a loss": (
        LABELS,
        lambda a: losses.SparseCategoricalCrossentropy()(a, PROBABILITIES),
    ),
    "labels of accuracy": (LABELS, lambda a: updated(metrics.AccuracyByShape)(a, PROBABILITIES)),
    "class_weights": (LABELS, lambda a: losses.class_weights(a, {1: 2.0})),
    "labels of CTC": (LABELS[:, :1] % 5, lambda a: losses.CTC()(a, PROBABILITIES)),
    "lengths": (np.array([5, 0, 2, 4]), lambda a: gru(lengths=a)),
    "lengths of TorchGRU": (
        np.array([5, 1, 2]),
        lambda a: TorchGRU(F, H, batch_first=True, seed=0)(X[:3], lengths=a),
    ),
    "stream": (IDS.ravel(), lambda a: text.stream(a, 2)),
    "windows": (IDS.ravel(), lambda a: text.windows(a, 3)),
    "decode": (IDS[0], lambda a: text.CharTokenizer.fit("abcdef").decode(a)),
}  # fmt: skip
MASKS = {
    "mask of a GRU": lambda a: GRU(H, seed=0)(X, mask=a),
    "mask of a Bidirectional": lambda a: Bidirectional(GRU(H), seed=0)(X, mask=a),
    "mask of pooling": lambda a: GlobalMaxPooling1D()(X, mask=a),
    "mask of gru_forward": lambda a: gru(mask=np.ascontiguousarray(MASK.T) if a is MASK else a.T),
    "mask of a loss": lambda a: losses.MeanSquaredError()(X, X + 1, mask=a),
    "mask of a metric": lambda a: updated(metrics.MeanAbsoluteError)(X, X + 1, mask=a),
}


def outcome(call, a):
    """Give all numbers of a result, or the sentence."""
    try:
        return numbers_in(call(a))
    except (TypeError, ValueError) as error:
        return error


def numbers_in(result):
    if isinstance(result, list | tuple):
        return [n for one in result for n in numbers_in(one)]
    return [result] if isinstance(result, str) or result is None else [np.asarray(result)]


def assert_same(found, plain):
    if isinstance(found, Exception):
        raise found
    assert len(found) == len(plain)
    for one, other in zip(found, plain, strict=True):
        assert np.asarray(one).dtype == np.asarray(other).dtype
        np.testing.assert_array_equal(one, other)


def assert_our_sentence(found, form):
    assert isinstance(found, Exception), f"{form} was taken: {found}"
    said = str(found)
    assert re.match(r"([\w .\[\]]+: )+\w[\w ]* must ", said) and "\n" not in said, said


CALLS = FLOATS | INTEGERS


@pytest.mark.parametrize("name", CALLS)
def test_the_same_numbers_give_the_same_bits_in_every_form(name):
    a, call = CALLS[name]
    plain = outcome(call, a.copy())
    for form, make in SAME.items():
        if name in INTEGERS and form in ("Decimal", "Fraction"):
            continue  # whole or not, they are no integers
        try:
            assert_same(outcome(call, make(a)), plain)
        except Exception as error:
            raise AssertionError(f"{name}, {form}: {error}") from error


@pytest.mark.parametrize("name", CALLS)
def test_what_is_no_array_of_numbers_gets_our_sentence_everywhere(name):
    a, call = CALLS[name]
    for form, make in REFUSED.items():
        if form == "complex" and name in COMPLEX:
            continue
        assert_our_sentence(outcome(call, make(a)), f"{name}, {form}")


@pytest.mark.parametrize("name", MASKS)
def test_masks_are_the_same_in_every_form(name):
    call = MASKS[name]
    plain = outcome(call, MASK)
    for form in ("read-only", "strided on every axis", "reversed in memory", "Fortran order"):
        assert_same(outcome(call, SAME[form](MASK)), plain)


def test_a_tuple_of_arrays_is_never_stacked():
    for name, (a, call) in CALLS.items():
        if a.ndim > 1:
            assert_our_sentence(outcome(call, tuple(a)), f"{name}, a tuple of arrays")


def test_frames_give_the_same_bits():
    for name, (a, call) in CALLS.items():
        if a.ndim > 2 or name == "decode":
            continue
        plain = outcome(call, a.copy())
        assert_same(outcome(call, of_pandas(a)), plain)
        assert_same(outcome(call, of_pandas(a, a.dtype.kind)), plain)


def test_rows_repeated_by_a_stride_of_zero_give_the_same_bits():
    for name, (a, call) in CALLS.items():
        if name == "labels of CTC":
            continue  # its labels and probabilities are of one batch
        flat = np.broadcast_to(a[:1], a.shape)
        assert_same(outcome(call, flat), outcome(call, flat.copy()))


@settings(max_examples=60)
@given(st.data())
def test_drawn_shapes_and_numbers_in_two_forms_at_once(data):
    """Forms of x and y drawn apart, numbers and sizes drawn too; the model is float64."""
    n, t, f = (data.draw(st.integers(1, 4)) for _ in range(3))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    x, y = rng.standard_normal((n, t, f)), rng.standard_normal((n, 2))
    make_x, make_y = (SAME[data.draw(st.sampled_from(sorted(SAME)))] for _ in range(2))

    def trained(x, y):
        model = Sequential([GRU(2), Dense(2)], dtype="float64", seed=0)
        model.compile("mse", SGD(0.1))
        model.fit(x, y, epochs=2, batch_size=2, verbose=0)
        return [*model.get_weights(), model.predict(x)]

    assert_same(trained(make_x(x), make_y(y)), trained(x, y))
