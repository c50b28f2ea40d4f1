"""The compiled GRU against NumPy, its bits, its threads, and the door to both."""

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest
from conftest import assert_close
from problems import draw, holes

from gru_np import kernels, recurrence

pytest.importorskip("numba", reason="the compiled kernels need numba", exc_type=ImportError)

from gru_np.kernels import fused, streaming, threads

ROOT = Path(kernels.__file__).parents[2]
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
FORMS = pytest.mark.parametrize("reset_after", [True, False], ids=["after", "before"])
# (T, B, I, H): no multiple of a tile, one row, several blocks of rows, several slices of depth;
# one row for one step, of whole vectors and not
SHAPES = [
    (5, 3, 2, 4), (7, 1, 9, 17), (4, 33, 5, 8), (3, 6, 20, 23), (2, 70, 3, 40), (1, 1, 1, 1),
    (0, 3, 2, 4), (300, 2, 5, 6), (9, 4, 16, 96), (40, 1, 7, 100), (4, 0, 3, 5), (3, 5, 300, 270),
    (1, 1, 32, 16), (1, 1, 35, 21), (1, 1, 4, 90), (1, 1, 100, 3),
]  # fmt: skip


def forget_plans():
    """Plan anew: a constant that plans follow from has changed."""
    for plan in (fused._plan_forward, fused._plan_backward):
        plan.cache_clear()


@pytest.fixture
def thread_count(monkeypatch):
    """Set the number of threads for one test, however small its work."""
    before = kernels.num_threads()
    monkeypatch.setattr(threads, "OPERATIONS_PER_THREAD", 1)
    monkeypatch.setattr(threads, "CORES", 16)
    monkeypatch.setattr(fused, "STEP_OPERATIONS", 0)
    forget_plans()
    yield kernels.set_num_threads
    forget_plans()
    kernels.set_num_threads(before)


@DTYPES
@FORMS
@pytest.mark.parametrize("kind", ["plain", "lengths", "mask", "bare", "batch first", "read-only"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_kernel_equals_numpy(shape, kind, reset_after, dtype, rng):
    T, B, I, H = shape  # noqa: E741
    bare = kind == "bare"
    arrays = draw(rng, T, B, I, H, bias=not bare, h0=not bare, dtype=dtype)
    # sums of 300 unscaled products would differ by their rounding alone
    arrays["x"] /= dtype(np.sqrt(I))
    settings = {}
    if kind == "lengths":
        settings = {"lengths": rng.integers(0, T + 1, B)}
    elif kind == "mask" and T and B:
        settings = {"mask": holes(rng, T, B)}
    valid = recurrence.valid_steps(T, B, **settings)
    if valid is not None:
        arrays["x"][~valid] = np.nan  # never used
    if kind == "batch first":
        arrays["x"] = np.ascontiguousarray(arrays["x"].transpose(1, 0, 2)).transpose(1, 0, 2)
    if kind == "read-only":
        for array in arrays.values():
            array.flags.writeable = False
    expected, expected_saved = recurrence.gru_forward(*arrays.values(), reset_after, **settings)
    actual, saved = fused.gru_forward(*arrays.values(), reset_after, **settings)
    assert actual.dtype == dtype and actual.flags.c_contiguous
    assert_close(actual, expected, "kernel")
    if valid is None and T and B:
        assert_close((saved.r, saved.z, saved.n), expected_saved[2:5], "kernel")
    inferred, nothing = fused.gru_forward(*arrays.values(), reset_after, **settings, inference=True)
    assert nothing is None
    assert_close(inferred, actual, "exact")
    dh = rng.standard_normal(expected.shape).astype(dtype)
    before = dh.copy()
    gradients = fused.gru_backward(dh, saved)
    assert all(g is None or g.dtype == dtype for g in gradients)
    assert_close(gradients, recurrence.gru_backward(dh, expected_saved), "kernel")
    assert_close(dh, before, "exact")
    dh[0] = 0
    assert_close(fused.gru_backward(dh[1:], saved), fused.gru_backward(dh, saved), "exact")


@DTYPES
@FORMS
def test_masked_steps_copy_the_state_and_have_no_input_gradient(reset_after, dtype, rng):
    arrays = draw(rng, dtype=dtype)
    mask = holes(rng, *arrays["x"].shape[:2])
    h, saved = fused.gru_forward(*arrays.values(), reset_after, mask=mask)
    assert_close(h[1:][~mask], h[:-1][~mask], "exact")
    dx = fused.gru_backward(np.ones_like(h), saved)[0]
    assert not dx[~mask].any() and dx[mask].all()


@DTYPES
@FORMS
def test_forward_has_the_same_bits_for_any_batch_and_any_chunks_of_time(reset_after, dtype, rng):
    arrays = draw(rng, 23, 41, 19, 37, dtype=dtype)
    x, h0, *weights = arrays.values()
    whole, _ = fused.gru_forward(x, h0, *weights, reset_after)
    for rows in ([0], [5, 6], [7, 40, 3], list(range(9)), list(range(8, 41))):
        part, _ = fused.gru_forward(x[:, rows], h0[rows], *weights, reset_after)
        assert_close(part, np.ascontiguousarray(whole[:, rows]), "exact")
    for inference in (False, True):  # one row and step has a kernel of its own
        step, _ = fused.gru_forward(
            x[3:4, 7:8], whole[3, 7:8], *weights, reset_after, inference=inference
        )
        assert_close(step, whole[3:5, 7:8], "exact")
    state = h0
    for first, last in [(0, 1), (1, 8), (8, 10), (10, 23)]:
        part, _ = fused.gru_forward(x[first:last], state, *weights, reset_after, inference=True)
        assert_close(part[1:], whole[first + 1 : last + 1], "exact")
        state = part[-1]


@DTYPES
@FORMS
@pytest.mark.parametrize("B", [1, 2, 3])
@pytest.mark.parametrize("blocks", [13, 25])
def test_weights_read_to_and_fro_give_the_same(blocks, B, reset_after, dtype, rng):
    # one vector of units more than whole pieces of the sweep: the last must not be cut off alone
    H = blocks * fused.padded(1, np.dtype(dtype)) - 3
    arrays = draw(rng, 4, B, 5, H, dtype=dtype)
    expected, expected_saved = recurrence.gru_forward(*arrays.values(), reset_after)
    actual, saved = fused.gru_forward(*arrays.values(), reset_after)
    assert_close(actual, expected, "kernel")
    dh = rng.standard_normal(expected.shape).astype(dtype)
    gradients = fused.gru_backward(dh, saved)
    assert_close(gradients, recurrence.gru_backward(dh, expected_saved), "kernel")


@DTYPES
@FORMS
def test_any_number_of_threads_gives_the_same_bits(reset_after, dtype, rng, thread_count):
    arrays = draw(rng, 7, 21, 10, 30, dtype=dtype)
    mask = holes(rng, 7, 21)
    results = []
    for n in (1, 2, 3, 5, 16):
        thread_count(n)
        h, saved = fused.gru_forward(*arrays.values(), reset_after, mask=mask)
        results.append((h, *fused.gru_backward(np.cos(h), saved)))
    for other in results[1:]:
        assert_close(other, results[0], "exact")


@DTYPES
@FORMS
def test_gradients_have_the_same_bits_for_any_chunks_of_time(reset_after, dtype, rng, monkeypatch):
    arrays = draw(rng, 23, 41, 19, 37, dtype=dtype)
    h, saved = fused.gru_forward(*arrays.values(), reset_after, mask=holes(rng, 23, 41))
    whole = fused.gru_backward(np.cos(h), saved)
    monkeypatch.setattr(fused, "DA_BYTES", 1)
    forget_plans()
    assert_close(fused.gru_backward(np.cos(h), saved), whole, "exact")


@DTYPES
@FORMS
def test_streaming_has_the_bits_of_the_whole_sequence(reset_after, dtype, rng):
    V, E, H1, H2 = 65, 7, 20, 33
    first = [*draw(rng, I=E, H=H1, dtype=dtype).values()][2:]
    second = [*draw(rng, I=H1, H=H2, dtype=dtype).values()][2:]
    embedding, W, b = (rng.standard_normal(s).astype(dtype) for s in [(V, E), (V, H2), (V,)])
    tokens = rng.integers(0, V, (6, 3))
    h1, _ = fused.gru_forward(embedding[tokens], None, *first, reset_after)
    h2, _ = fused.gru_forward(h1[1:], None, *second, reset_after)
    layers = [(*first, reset_after), (*second, reset_after)]
    by_token = streaming.Stack(layers, embedding, (W, b), softmax=True)
    by_vector = streaming.Stack(layers)
    states = plain_states = None
    for t in range(6):
        p, states = by_token.step(tokens[t], states)
        y, plain_states = by_vector.step(embedding[tokens[t]], plain_states)
        assert_close(states, [h1[t + 1], h2[t + 1]], "exact")
        assert_close([y, *plain_states], [h2[t + 1], h1[t + 1], h2[t + 1]], "exact")
        e = np.exp(h2[t + 1].astype(np.float64) @ W.T + b)
        assert_close(p, (e / e.sum(axis=1, keepdims=True)).astype(dtype), "kernel")


def test_a_large_embedding_is_not_projected_ahead(rng, monkeypatch):
    weights = [*draw(rng, I=7, H=20, dtype=np.float32).values()][2:]
    embedding = rng.standard_normal((11, 7)).astype(np.float32)
    expected, _ = streaming.Stack([weights], embedding).step(np.array([3, 10]))
    monkeypatch.setattr(streaming, "TABLE_BYTES", 0)
    actual, _ = streaming.Stack([weights], embedding).step(np.array([3, 10]))
    assert_close(actual, expected, "exact")


def test_callers_in_several_threads_do_not_disturb_each_other(rng, thread_count):
    thread_count(2)
    problems = [draw(rng, 9, 8, 5, 10 + i, dtype=np.float32) for i in range(4)]

    def work(arrays):
        h, saved = fused.gru_forward(*arrays.values())
        return (h, *fused.gru_backward(np.cos(h), saved))

    expected, wrong = [work(p) for p in problems], []

    def repeat(i):
        for _ in range(20):
            try:
                assert_close(work(problems[i]), expected[i], "exact")
            except BaseException as error:
                wrong.append(error)

    callers = [threading.Thread(target=repeat, args=(i,)) for i in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


def test_saved_memory_is_lent_again_only_when_nothing_looks_at_it(rng, monkeypatch):
    monkeypatch.setattr(fused, "LENT_BYTES", 0)
    fused._returned.clear()
    arrays = draw(rng, 5, 3, 2, 4, dtype=np.float32)
    h, saved = fused.gru_forward(*arrays.values())
    address, r, y = saved.rows.ctypes.data, saved.r, h[1:].transpose(1, 0, 2)
    before = r.copy(), y.copy()
    del saved, h
    arrays["x"] += 1
    _, other = fused.gru_forward(*arrays.values())
    assert other.rows.ctypes.data != address
    assert_close((r, y), before, "exact")
    del r
    _, third = fused.gru_forward(*arrays.values())
    assert third.rows.ctypes.data == address


def test_an_error_in_a_worker_reaches_the_caller():
    def task(i):
        if i == 1:
            raise KeyError("from the task")

    with pytest.raises(KeyError, match="from the task"):
        threads.run(task, 3)


def test_slices_cover_everything_once():
    for count in range(40):
        for n in range(1, 6):
            bounds = threads.cut(count, n, 4)
            assert bounds[0] == 0 and bounds[-1] == count and bounds == sorted(bounds)
            assert len(bounds) == n + 1


def test_one_specialisation_per_dtype(rng):
    for name in ("forward", "backward", "pack_forward"):
        signatures = getattr(fused.kernel, name).signatures
        assert len(signatures) <= 2, name
    for function in (fused.small.forward, fused.small.backward, streaming.stream):
        assert len(function.signatures) <= 2, function


def test_activations_and_dtypes_without_a_kernel_take_numpy(rng):
    arrays = draw(rng)
    saved = kernels.gru_forward(*arrays.values(), activation="relu")[1]
    assert isinstance(saved, recurrence.Saved)
    arrays = {n: a.astype(complex) for n, a in arrays.items()}
    h, saved = kernels.gru_forward(*arrays.values())
    assert isinstance(saved, recurrence.Saved) and h.dtype == complex
    assert_close(
        kernels.gru_backward(np.ones_like(h), saved),
        recurrence.gru_backward(np.ones_like(h), saved),
        "exact",
    )


def test_kernels_can_be_switched_off():
    code = PROBLEM + "    print(run() is not None, kernels.available(), 'numba' in sys.modules)"
    assert in_new_process(code, GRU_NP_KERNELS="0") == ["True", "False", "False"]


def in_new_process(code, cwd=ROOT, **environment):
    """Run code in a fresh interpreter; its output."""
    settings = {**os.environ, "PYTHONPATH": str(cwd), **environment}
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:gru_np", "-c", textwrap.dedent(code)],
        cwd=cwd, env=settings, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


PROBLEM = """
    import sys
    import numpy as np
    from gru_np import kernels
    rng = np.random.default_rng(0)
    x, W_ih, W_hh = (rng.standard_normal(s).astype("f4") for s in [(6, 8, 2), (12, 2), (12, 4)])
    run = lambda **k: kernels.gru_forward(x, None, W_ih, W_hh, None, None, **k)[0]
"""


def test_a_first_small_prediction_needs_no_numba():
    code = PROBLEM + "    run(inference=True); print('numba' in sys.modules)"
    assert in_new_process(code) == ["False"]


def test_much_prediction_moves_to_the_kernels():
    code = (
        PROBLEM
        + """
    kernels.LOADING_SECONDS = 1e-3
    for _ in range(9):
        run(inference=True)
    print('numba' in sys.modules)
    """
    )
    assert in_new_process(code) == ["True"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_threads_survive_fork_and_interpreter_exit():
    code = (
        PROBLEM
        + """
    import os, warnings
    from gru_np.kernels import threads
    warnings.simplefilter("ignore")
    threads.OPERATIONS_PER_THREAD = 1
    kernels.set_num_threads(3)
    before = run()
    child = os.fork()
    if child == 0:
        os._exit(0 if (run() == before).all() else 1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), (run() == before).all())
    """
    )
    assert in_new_process(code) == ["0", "True"]


def test_the_number_of_threads_comes_from_the_environment():
    code = "from gru_np import kernels; print(kernels.num_threads())"
    assert in_new_process(code, GRU_NP_NUM_THREADS="5") == ["5"]
    assert int(in_new_process(code, GRU_NP_NUM_THREADS="")[0]) >= 1


@pytest.mark.parametrize("n", [0, -1, 1.5, "2", None, True])
def test_a_wrong_number_of_threads_is_refused(n):
    with pytest.raises(ValueError, match="positive integer"):
        kernels.set_num_threads(n)
