"""What becomes of users' arrays at the one door, `gru_np._intake`.

The right values are plain sense: an array that holds the same numbers gives the same array, in
whatever form it comes, and what holds no numbers gets one of our sentences.
"""

import array
import ctypes
import decimal
import fractions

import numpy as np
import pytest

from gru_np import GRU, Dense, Embedding, Sequential, gru_forward, losses, metrics
from gru_np._intake import as_array, as_floats, as_integers, as_mask, require_finite
from gru_np._positions import is_within
from gru_np.interop import TorchGRU
from gru_np.optimizers import SGD

NUMBERS = np.random.default_rng(3).integers(-9, 9, (3, 4))


class WithArray:
    """Something that NumPy is told how to read."""

    def __array__(self, dtype=None, copy=None):
        return np.array(NUMBERS, dtype)


class WithBrokenArray:
    def __array__(self, dtype=None, copy=None):
        return "no array"


class Subclass(np.ndarray):
    """As units and matrices are: its products are others."""

    def __mul__(self, other):
        raise AssertionError("a subclass was computed with")


class Endless:
    """A data set as PyTorch has them: an item for any index, and no end."""

    def __getitem__(self, index):
        return np.ones(3), 0


class Counted(Endless):
    """A data set as Keras has them."""

    def __len__(self):
        return 5


def misaligned(a):
    room = np.zeros(a.nbytes + 1, np.uint8)
    out = room[1:].view(a.dtype).reshape(a.shape)
    out[...] = a
    assert not out.flags.aligned
    return out


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def strided(a):
    return np.repeat(np.repeat(a, 2, 0), 3, -1)[::2, ::3]


SAME = {
    "as it is": lambda a: a,
    "big-endian": lambda a: a.astype(">i8"),
    "little-endian": lambda a: a.astype("<i8"),
    "misaligned": misaligned,
    "misaligned and big-endian": lambda a: misaligned(a.astype(">i8")),
    "read-only": read_only,
    "strided": strided,
    "backwards in memory": lambda a: a[::-1].copy()[::-1],
    "Fortran order": np.asfortranarray,
    "int8": lambda a: a.astype(np.int8),
    "subclass": lambda a: a.view(Subclass),
    "masked array without masked entries": lambda a: np.ma.array(a),
    "list": lambda a: a.tolist(),
    "tuple of tuples": lambda a: tuple(map(tuple, a.tolist())),
    "list of arrays": list,
    "list of ranges": lambda a: [list(row) for row in a],
    "memoryview": lambda a: memoryview(a),
    "list of array.array": lambda a: [array.array("q", row) for row in a.tolist()],
    "ctypes": lambda a: (ctypes.c_int64 * 4 * 3)(*map(tuple, a.tolist())),
    "object with __array__": lambda a: WithArray(),
    "objects": lambda a: a.astype(object),
}
FLOATS = {
    "Decimal": lambda a: [[decimal.Decimal(n) for n in row] for row in a.tolist()],
    "Fraction": lambda a: [[fractions.Fraction(n) for n in row] for row in a.tolist()],
    "big-endian float": lambda a: a.astype(">f8"),
    "misaligned float": lambda a: misaligned(a.astype(np.float64)),
    "float32": lambda a: a.astype(np.float32),
}


@pytest.mark.parametrize("form", SAME)
def test_integers_are_the_same_in_every_form(form):
    given = SAME[form](NUMBERS)
    taken = as_integers("we", given)
    assert type(taken) is np.ndarray
    assert taken.dtype.isnative and taken.flags.aligned
    np.testing.assert_array_equal(taken, NUMBERS)


@pytest.mark.parametrize("form", [*SAME, *FLOATS])
def test_floats_are_the_same_in_every_form(form):
    taken = as_floats("we", (SAME | FLOATS)[form](NUMBERS))
    assert type(taken) is np.ndarray
    assert taken.dtype.isnative and taken.flags.aligned and taken.dtype.kind == "f"
    np.testing.assert_array_equal(taken, NUMBERS)


def test_a_plain_array_is_taken_as_it_is():
    for dtype in (np.float32, np.float64):
        x = np.ones((2, 3), dtype)[:, ::2]
        assert as_floats("we", x) is x
        assert as_array("we", x) is x


REFUSED = {
    "None": (None, "x must be an array, got None"),
    "text": ("abc", "x must be numbers, got an array of <U3"),
    "bytes": (b"abc", "x must be numbers, got an array of"),
    "texts": (["a", "b"], "x must be numbers, got an array of <U1"),
    "times": (np.array(["2020-01-01"], "M8[s]"), "x must be numbers, got an array of datetime64"),
    "records": (np.zeros(2, "i4,f4"), "x must be numbers, got an array of"),
    "rows of different lengths": ([[1, 2], [3]], "rows of different lengths; use gru_np.pad_seq"),
    "several depths": ([[1], [2, [3]]], "rows of different lengths"),
    "a tuple of arrays": (
        (np.ones(2), np.ones(2)),
        "must be one array, got a tuple of 2 .* merge_",
    ),
    "masked entries": (np.ma.array([1.0, 2.0], mask=[0, 1]), "no masked entries, got 1; fill them"),
    "masked rows": ([np.ma.array([1.0, 2.0], mask=[0, 1])], "no masked entries, got 1"),
    "a data set without end": (Endless(), "must be an array, got an object of type Endless; join"),
    "a data set": (
        Counted(),
        "must be an array, got an object of type Counted; join what it gives",
    ),
    "a list of data sets": ([Endless()], "must be an array, got an object of type Endless; join"),
    "an iterator": (iter([1, 2]), "got an object of type list_iterator; join what it gives"),
    "a generator": ((i for i in range(3)), "got an object of type generator; join what it gives"),
    "a set": ({1, 2}, "must be an array, got an object of type set"),
    "a dict": ({"x": [1, 2]}, "must be an array, got an object of type dict"),
    "a missing value": ([1, None], "no missing values, got None; fill them"),
    "an array of objects": (np.array([1, object()]), "got an object of type object at \\(1,\\)"),
    "separate arrays": (np.array([np.ones(2), np.ones(3)], object), "got an array of 2 objects"),
    "a broken __array__": (
        WithBrokenArray(),
        "this WithBrokenArray does not become one: .*not prod",
    ),
    "a module": (np, "must be an array, got an object of type module"),
}


@pytest.mark.parametrize("form", REFUSED)
def test_what_is_no_array_gets_one_sentence(form):
    given, message = REFUSED[form]
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        as_floats("we", given)
    assert str(caught.value).startswith("we: x must ")


def test_a_list_that_holds_itself_is_refused():
    x = [1.0]
    x.append(x)
    with pytest.raises(ValueError, match="lists 32 deep"):
        as_floats("we", x)


def test_a_data_set_is_asked_for_nothing():
    asked = []

    class Watched(Endless):
        def __getitem__(self, index):
            asked.append(index)
            return 1.0

        def __len__(self):
            asked.append("length")
            return 2

    for given in (Watched(), [Watched()], [[1.0], Watched()]):
        with pytest.raises(TypeError, match="join what it gives"):
            as_floats("we", given)
    assert asked == []


def test_complex_numbers_only_where_they_are_meant():
    x = np.array([1.0, 2j])
    assert as_floats("we", x) is x
    with pytest.raises(TypeError, match="x must be real numbers, got an array of complex128"):
        as_floats("we", x, real=True)


def test_whole_floats_and_bools_are_no_integers():
    for x in ([1.0, 2.0], [True, False], np.ones(3, ">f4")):
        with pytest.raises(TypeError, match="x must be integers, got an array of"):
            as_integers("we", x)


def test_a_mask_is_bool_and_of_its_shape():
    taken = as_mask("we", [[True, False, True]], (1, 3))
    assert taken.tolist() == [[True, False, True]]
    with pytest.raises(TypeError, match=r"mask must be bool .* got int64"):
        as_mask("we", [[1, 0, 1]], (1, 3))
    with pytest.raises(ValueError, match=r"mask must have shape \(3, 1\), got \(1, 3\)"):
        as_mask("we", [[True, False, True]], (3, 1))


def test_the_row_of_a_number_that_is_not_finite_is_named():
    x = np.ones((5, 2, 3))
    require_finite("we", x)
    x[3, 1, 0] = np.inf
    with pytest.raises(ValueError, match=r"x must hold .* got inf in row 3, at \(3, 1, 0\)"):
        as_array("we", x, finite=True)


def test_nullable_frames_are_taken_if_nothing_is_missing():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {"a": pandas.array([1, 2], "Int64"), "b": pandas.array([0.5, 4], "Float64")}
    )
    np.testing.assert_array_equal(as_floats("we", frame), [[1, 0.5], [2, 4]])
    np.testing.assert_array_equal(as_integers("we", frame["a"]), [1, 2])
    truths = pandas.Series([True, False], dtype="boolean")
    np.testing.assert_array_equal(as_mask("we", truths, (2,)), [True, False])
    with pytest.raises(ValueError, match="x must have no missing values, got <NA>"):
        as_floats("we", [1, pandas.NA])


# ----------------------------------------------------- integers that index, in any byte order


def wrong_and_right(dtype):
    """Labels or ids (40, 5) that are 256 in these bytes, and right ones of the same dtype."""
    right = np.random.default_rng(4).integers(0, 10, (40, 5))
    return np.full((40, 5), 256, dtype), right.astype(dtype), right


@pytest.mark.parametrize("dtype", [">u2", ">i2", ">i4", ">i8", ">u8", "<i2", "<i8"])
def test_labels_that_index_beyond_the_classes_are_refused_in_every_byte_order(dtype):
    """Seen in the wrong order, 256 in two bytes is 1: compiled code would write out of bounds."""
    wrong, right, plain = wrong_and_right(dtype)
    y_pred = np.random.default_rng(5).random((40, 5, 10)).astype(np.float32)
    loss = losses.SparseCategoricalCrossentropy()
    with pytest.raises(ValueError, match=r"valid range 0\.\.9, got 256 at position \(0, 0\)"):
        loss(wrong, y_pred)
    assert loss(right, y_pred)[0] == loss(plain, y_pred)[0]
    metric, same = metrics.SparseCategoricalAccuracy(), metrics.SparseCategoricalAccuracy()
    with pytest.raises(ValueError, match="got 256"):
        metric.update(wrong, y_pred)
    metric.update(right, y_pred)
    same.update(plain, y_pred)
    assert metric.result() == same.result()
    with pytest.raises(ValueError, match="below the 10 outputs"):
        losses.CTC()(wrong, y_pred.repeat(3, 1))


@pytest.mark.parametrize("dtype", [">u2", ">i4", ">i8", ">u8", "<u8"])
def test_ids_are_checked_in_every_byte_order_by_whatever_takes_them(dtype):
    wrong, right, plain = wrong_and_right(dtype)
    model = Sequential(
        [Embedding(10, 4), GRU(3, return_sequences=True), Dense(10, activation="softmax")], seed=0
    )
    model.compile("sparse_categorical_crossentropy", SGD(0.1))
    expected = model.predict(plain)
    np.testing.assert_array_equal(model.predict(right), expected)
    np.testing.assert_array_equal(model(right), expected)
    np.testing.assert_array_equal(model.step(right[:, 0])[0], model.step(plain[:, 0])[0])
    assert model.evaluate(right, right) == model.evaluate(plain, plain)
    assert model.compute_loss(right, right) == model.compute_loss(plain, plain)
    for call in (
        lambda: model.predict(wrong), lambda: model(wrong), lambda: model.step(wrong[:, 0]),
        lambda: model.fit(wrong, plain, verbose=0), lambda: model.fit(plain, wrong, verbose=0),
        lambda: model.evaluate(wrong, plain), lambda: model.evaluate(plain, wrong),
        lambda: model.train_on_batch(wrong, plain), lambda: model.train_on_batch(plain, wrong),
        lambda: model.compute_gradients(wrong, plain), lambda: model.layers[0](wrong),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"0\.\.9, got 256"):
            call()
    weights = []
    for x in (plain, right):
        model = Sequential([Embedding(10, 4), GRU(3, return_sequences=True), Dense(10)], seed=0)
        model.compile(losses.SparseCategoricalCrossentropy(from_logits=True), SGD(0.1))
        model.fit(x, x, batch_size=16, verbose=0)
        weights.append(model.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_bounds_are_checked_in_native_order_whatever_the_size():
    for n in (3, 33, 400):  # few are looked at one by one
        for dtype in (">u2", ">i8", "<u2", "<i8"):
            assert not is_within(np.full(n, 256, dtype), 10)
            assert is_within(np.full(n, 9, dtype), 10)
        assert not is_within(np.full(n, -1, ">i4"), 10)


def test_lengths_are_integers():
    x, W_ih, W_hh = np.ones((5, 2, 3)), np.ones((12, 3)), np.ones((12, 4))
    for lengths in ([2.5, 4], [2.0, 4.0], [True, False], ["2", "4"]):
        with pytest.raises(TypeError, match="gru_forward: lengths must be integers, got an array"):
            gru_forward(x, None, W_ih, W_hh, None, None, lengths=lengths)
        with pytest.raises(TypeError, match="TorchGRU: lengths must be integers, got an array of"):
            TorchGRU(3, 4)(x, lengths=lengths)
    big = gru_forward(x, None, W_ih, W_hh, None, None, lengths=np.array([2, 4], ">i8"))[0]
    np.testing.assert_array_equal(
        big, gru_forward(x, None, W_ih, W_hh, None, None, lengths=[2, 4])[0]
    )
