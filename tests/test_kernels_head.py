"""The compiled end of a training step: softmax cross-entropy, embedding gradient, norms and Adam.

NumPy's `Dense`, `losses`, `Embedding` and `optimizers` say what is right.
"""

import subprocess
import sys

import numpy as np
import pytest
from conftest import assert_close

from gru_np import kernels, losses, optimizers, set_num_threads
from gru_np.layers import GRU, Dense, Embedding
from gru_np.model import Sequential

pytestmark = pytest.mark.skipif(not kernels.available(), reason="numba is not installed")
DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])


@pytest.fixture(autouse=True)
def _threads():
    """Leave the number of threads as it was."""
    before = kernels.num_threads()
    yield
    set_num_threads(before)


@pytest.fixture(params=["vectors", "tile unit"])
def products(request, monkeypatch):
    """Compute the products of a head both ways, whatever its size."""
    from gru_np.kernels import amx, training

    if request.param == "tile unit" and not amx.ready():
        pytest.skip("this processor has no tile unit")
    monkeypatch.setattr(training, "TILE_UNIT_CLASSES", 0 if request.param == "tile unit" else 1e9)
    return request.param


@pytest.fixture
def many_threads(monkeypatch):
    """Make even the smallest work worth as many threads as there may be."""
    from gru_np.kernels import threads, training

    monkeypatch.setattr(threads, "OPERATIONS_PER_THREAD", 1)
    training._chunks.cache_clear()
    yield
    training._chunks.cache_clear()


def problem(rng, B, T, H, V, dtype, time_first=True, bias=True):
    """States (B, T, H), stored time first or batch first; parameters; labels."""
    h = rng.standard_normal((T, B, H)).astype(dtype).transpose(1, 0, 2)
    h = h if time_first else np.ascontiguousarray(h)
    W = (rng.standard_normal((V, H)) / np.sqrt(H)).astype(dtype)
    b = rng.standard_normal(V).astype(dtype) if bias else None
    return h, W, b, rng.integers(0, V, (B, T))


def in_numpy(h, W, b, y, weight, mask):
    """Value, hits and gradients as Dense and the loss compute them."""
    a = h @ W.T if b is None else h @ W.T + b
    loss = losses.SparseCategoricalCrossentropy(from_logits=True)
    value, d = loss(y, a, sample_weight=weight, mask=mask)
    da = d.reshape(-1, len(W))
    hits = (a.argmax(-1) == y) * (1.0 if weight is None else weight)
    hits = hits.sum() if mask is None else hits[mask].sum()
    dW, db = da.T @ h.reshape(-1, h.shape[-1]), None if b is None else da.sum(0)
    return value, hits, (da @ W).reshape(h.shape), dW, db


def compiled(h, W, b, y, weight, mask, gradient=True):
    """The same by `kernels.dense_cross_entropy`."""
    count = y.size if mask is None else max(1, np.count_nonzero(mask))
    found = kernels.dense_cross_entropy(h, W, b, y, weight, mask, count, gradient)
    return found.value, found.hits.sum(), found.dh, found.dW, found.db


SIZES = [(3, 5, 4, 7), (1, 1, 3, 2), (4, 2, 16, 100), (5, 9, 37, 301), (2, 40, 530, 66)]
SIZES += [(3, 130, 20, 40)]


@DTYPES
@pytest.mark.parametrize("B, T, H, V", SIZES)
@pytest.mark.parametrize("time_first", [True, False])
def test_cross_entropy_equals_numpy(rng, B, T, H, V, dtype, time_first, products):
    """Value, hits and all gradients, for sizes that fill no vector, panel or tile."""
    h, W, b, y = problem(rng, B, T, H, V, dtype, time_first)
    expected = in_numpy(h, W, b, y, None, None)
    assert_close(compiled(h, W, b, y, None, None), expected, "kernel")
    assert_close(compiled(h, W, b, y, None, None, gradient=False)[:2], expected[:2], "kernel")


@DTYPES
def test_masked_and_weightless_positions_are_never_looked_at(rng, dtype, products):
    """NaN and labels out of range there change nothing; their gradient is zero."""
    h, W, b, y = problem(rng, 6, 11, 13, 37, dtype)
    mask, weight = rng.random((6, 11)) < 0.5, rng.random((6, 11))
    expected = in_numpy(h, W, b, y, weight, mask)
    h = h.copy()
    h[~mask] = np.nan
    y = np.where(mask, y, -5)
    found = compiled(h, W, b, y, weight, mask)
    assert_close(found, expected, "kernel")
    assert not found[2][~mask].any()


@DTYPES
def test_nothing_kept_gives_zeros(rng, dtype, products):
    """No position, no loss, no gradient."""
    h, W, b, y = problem(rng, 2, 3, 4, 5, dtype)
    found = compiled(h, W, b, y, None, np.zeros((2, 3), bool))
    assert found[:2] == (0.0, 0.0)
    assert not any(gradient.any() for gradient in found[2:])


@DTYPES
def test_rows_without_time_and_without_bias(rng, dtype, products):
    """h may be (B, H), and b None."""
    h, W, _, y = problem(rng, 9, 1, 21, 30, dtype, bias=False)
    h, y = np.ascontiguousarray(h[:, 0]), y[:, 0]
    assert_close(compiled(h, W, None, y, None, None), in_numpy(h, W, None, y, None, None), "kernel")


@DTYPES
def test_logits_in_several_chunks_give_the_same(rng, dtype, monkeypatch, products):
    """A bound on memory cuts the rows in chunks whose dW add up."""
    from gru_np.kernels import training

    h, W, b, y = problem(rng, 7, 31, 18, 50, dtype)
    monkeypatch.setattr(training, "LOGIT_BYTES", 3 * 50 * 24 * W.itemsize)
    assert_close(compiled(h, W, b, y, None, None), in_numpy(h, W, b, y, None, None), "kernel")


@DTYPES
@pytest.mark.parametrize("chunks", [1, 3])
def test_threads_do_not_change_a_bit(rng, dtype, chunks, many_threads, monkeypatch, products):
    """Of the loss, of the gradients by h, W, b and by an embedding."""
    from gru_np.kernels import training

    h, W, b, y = problem(rng, 8, 41, 37, 61, dtype)
    monkeypatch.setattr(training, "LOGIT_BYTES", W.itemsize * 61 * 8 * 41 // chunks)
    results = []
    for n in (1, 2, 3):
        set_num_threads(n)
        found = compiled(h, W, b, y, rng.random((8, 41)) * 0 + 0.7, y > 5)
        results.append((*found, kernels.embedding_gradient(y, h, len(W))))
    assert_close(results[1], results[0], "exact")
    assert_close(results[2], results[0], "exact")


@DTYPES
def test_a_sure_and_right_answer_keeps_its_small_gradient(dtype, products):
    """Where 1 - p is 0 in the dtype, dx = -s / (1 + s) is not."""
    h, W = np.array([[1.0]], dtype), np.array([[50.0], [0.0], [0.0]], dtype)
    value, _, _, dW, _ = compiled(h, W, None, np.array([0]), None, None)
    assert value == pytest.approx(2 * np.exp(-50), rel=1e-5)
    assert dW[0, 0] == pytest.approx(-2 * np.exp(-50), rel=1e-5)


@DTYPES
def test_not_a_number_shows_and_infinity_is_right(dtype, products):
    """NaN in a row makes its loss and gradient NaN; infinity for another class costs that."""
    W, y = np.eye(3, dtype=dtype), np.array([1])
    value, _, dh, _, _ = compiled(np.array([[np.nan, 0, 0]], dtype), W, None, y, None, None)
    assert np.isnan(value) and np.isnan(dh).all()
    b = np.array([np.inf, 0, 0], dtype)
    value, *_ = compiled(np.zeros((1, 3), dtype), W, b, y, None, None)
    assert value == np.inf


@DTYPES
@pytest.mark.parametrize("shape, E", [((4, 7), 5), ((13,), 16), ((3, 50), 37)])
def test_embedding_gradient_equals_numpy(rng, shape, E, dtype):
    """Sums of rows of dy by id, for dy as it comes from a GRU and in order."""
    ids = rng.integers(0, 9, shape)
    dy = rng.standard_normal((*shape[::-1], E)).astype(dtype)
    dy = dy.transpose(1, 0, 2) if len(shape) == 2 else dy
    expected = np.zeros((9, E), dtype)
    np.add.at(expected, ids, dy)
    for given in (dy, np.ascontiguousarray(dy)):
        assert_close(kernels.embedding_gradient(ids, given, 9), expected, "kernel")


CLIPS = [{}, {"clipnorm": 0.7}, {"global_clipnorm": 1.1}, {"weight_decay": 0.1, "no_decay": ["b"]}]


@DTYPES
@pytest.mark.parametrize("settings", [*CLIPS, {"amsgrad": True}, {"epsilon_placement": "torch"}])
def test_adam_equals_numpy(rng, dtype, settings, monkeypatch, many_threads):
    """Same parameters and averages after three steps; without clipping, the same bits."""
    set_num_threads(2)
    shapes = {"W": (37, 129), "b": (5,), "scalar": (1,), "large": (40000,)}
    ours, numpys = ({n: np.ones(s, dtype) for n, s in shapes.items()} for _ in range(2))
    grads = [{n: rng.standard_normal(s).astype(dtype) for n, s in shapes.items()} for _ in range(3)]
    first, second = (optimizers.Adam(0.01, **settings) for _ in range(2))
    for g in grads:
        first.apply(ours, g)
    assert first._averages is not None
    monkeypatch.setattr(kernels, "takes", lambda *_: False)
    for g in grads:
        second.apply(numpys, g)
    kind = "kernel" if "clipnorm" in str(settings) else "exact"
    assert_close(ours, numpys, kind)
    assert_close(first.state, second.state, kind)


@DTYPES
def test_clipping_shows_what_is_not_finite(rng, dtype):
    """A gradient of infinite norm makes the parameters NaN rather than still."""
    params = {"w": np.ones(20, dtype)}
    optimizers.Adam(global_clipnorm=1.0).apply(params, {"w": np.full(20, np.inf, dtype)})
    assert np.isnan(params["w"]).all()


def test_adam_sees_that_arrays_were_exchanged(rng):
    """Addresses are kept from step to step; new arrays are noticed, in parameters and state."""
    optimizer, w = optimizers.Adam(), np.ones(3)
    optimizer.apply({"w": w}, {"w": np.ones(3)})
    other, kept = np.ones(3), w.copy()
    optimizer.state = {name: array.copy() for name, array in optimizer.state.items()}
    optimizer.apply({"w": other}, {"w": np.ones(3)})
    assert (w == kept).all() and (other < 1).all() and (optimizer.state["m/w"] > 0.15).all()


def language_model(dtype, **compile_):
    """A small model of the kind the kernels are for."""
    model = Sequential(
        [Embedding(11, 6, mask_zero=True), GRU(9, return_sequences=True), Dense(11, "softmax")],
        dtype=dtype, seed=3,
    )  # fmt: skip
    model.compile("sparse_categorical_crossentropy", **compile_)
    return model


@DTYPES
def test_whole_model_equals_numpy(rng, dtype, monkeypatch):
    """Loss, metrics and gradients of a model, and of its evaluation, with masks and weights."""
    x, y = rng.integers(0, 11, (2, 5, 8))
    weight = rng.random((5, 8))
    results = []
    for off in (False, True):
        monkeypatch.setattr(kernels, "_switched_off", off)
        model = language_model(dtype, metrics=["accuracy", "perplexity"])
        model.build((None, 8))
        for array in model.params.values():
            array += np.random.default_rng(array.size).standard_normal(array.shape).astype(dtype)
        value, gradients = model.compute_gradients(x, y, weight)
        logs = np.array(model.evaluate(x, y, sample_weight=weight), dtype)
        results.append((value, list(gradients.values()), logs))
    assert_close(results[0], results[1], "kernel")


def test_metrics_that_need_predictions_still_get_them(rng):
    """What cannot be told from counts asks for the logits after all."""
    x, y = rng.integers(1, 11, (2, 5, 8))
    names = ["accuracy", "sparse_top_k_categorical_accuracy"]
    model = language_model("float64", metrics=names)
    _, accuracy, top = model.evaluate(x, y)
    assert top == pytest.approx(np.mean(
        (model.predict(x) > np.take_along_axis(model.predict(x), y[..., None], -1)).sum(-1) < 5
    ))  # fmt: skip
    assert accuracy == pytest.approx((model.predict(x).argmax(-1) == y).mean())


def test_bad_labels_are_named(rng):
    """As without kernels."""
    x = rng.integers(1, 11, (2, 3))
    with pytest.raises(ValueError, match=r"valid range 0\.\.10, got 11 at position \(1, 2\)"):
        language_model("float32").compute_loss(x, np.array([[1, 2, 3], [4, 5, 11]]))


def test_precision_on_the_tile_unit_is_that_of_float32(rng, products):
    """Three bfloat16 hold a float32: errors are those of sums in float32, not of bfloat16."""
    h, W, b, y = problem(rng, 6, 20, 100, 500, "float32")
    found = compiled(h, W, b, y, None, None)
    exact = compiled(*(a.astype(float) for a in (h, W, b)), y, None, None)
    for ours, right in zip(found[2:], exact[2:], strict=True):
        assert np.abs(ours - right).max() < 2e-6 * np.abs(right).max()


MEMORY = """
import resource, numpy as np
from gru_np import kernels
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
def step(B, T, H, V):
    h, W = np.ones((B, T, H), np.float32), np.ones((V, H), np.float32)
    kernels.dense_cross_entropy(h, W, W[:, 0].copy(), np.zeros((B, T), int), None, None, B * T)
step(2, 3, 4, 5)
before = peak()
step(64, 32, 256, 50000)
print(before, peak() - before)
"""


def test_memory_stays_bounded_for_a_large_vocabulary():
    """V = 50,000 and 2,048 positions: all logits would take 410 MB, W and dW alone take 100."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True
    )
    before, more = map(float, done.stdout.split())
    assert more < 200, f"{more:.0f} MiB more than the {before:.0f} before"
