"""CTC against enumeration of all alignments, complex step, differences, PyTorch, and its twin."""

import itertools
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import assert_close
from hypothesis import given
from hypothesis import strategies as st

from gru_np import ctc

sys.path.insert(0, str(Path(__file__).parent / "golden"))
import make_torch_ctc as golden

B, T, V, L = 4, 6, 3, 3


def collapse(path, blank):
    """The map B of Graves 2006: merge what repeats, then drop blanks."""
    merged = [k for i, k in enumerate(path) if i == 0 or k != path[i - 1]]
    return [k for k in merged if k != blank]


def enumerated(logits, labels, blank):
    """-ln of the probability of all V^T paths that read as the labels, and whether there is one."""
    y = np.exp(ctc.log_softmax(logits))
    total = sum(
        np.prod([y[t, k] for t, k in enumerate(path)])
        for path in itertools.product(range(logits.shape[1]), repeat=len(logits))
        if collapse(path, blank) == list(labels)
    )
    return (-np.log(total), True) if total > 0 else (0.0, False)


def ragged_case(rng, blank=0, scale=2.0):
    logits = scale * rng.standard_normal((B, T, V))
    others = [k for k in range(V) if k != blank]
    labels = rng.choice(others, (B, L))
    labels[0] = others[0]  # repeats: L + L - 1 = 5 of the 6 steps are needed
    return logits, labels, np.array([6, 4, 5, 3]), np.array([3, 2, 0, 1])


@pytest.mark.parametrize("blank", [0, 1, 2])
def test_loss_is_that_of_all_alignments_enumerated(rng, blank):
    logits, labels, logit_lengths, label_lengths = case = ragged_case(rng, blank)
    loss, _, feasible = ctc.ctc_loss(*case, blank)
    for b in range(B):
        row = logits[b, : logit_lengths[b]], labels[b, : label_lengths[b]]
        expected, exists = enumerated(*row, blank)
        assert feasible[b] == exists
        assert_close(loss[b], expected, "naive")


@given(
    labels=st.lists(st.integers(1, 2), max_size=4),
    steps=st.integers(0, 5),
    seed=st.integers(0, 2**31),
)
def test_any_pair_agrees_with_enumeration_and_is_feasible_when_one_exists(labels, steps, seed):
    logits = np.random.default_rng(seed).standard_normal((1, steps, V))
    padded = np.array([[*labels, -1]])
    lengths = np.array([steps]), np.array([len(labels)])
    loss, dlogits, feasible = ctc.ctc_loss(logits, padded, *lengths)
    expected, exists = enumerated(logits[0], labels, 0)
    assert feasible[0] == exists == (steps >= ctc.least_steps(padded, lengths[1])[0])
    np.testing.assert_allclose(loss[0], expected, rtol=1e-12, atol=1e-12)
    assert np.isfinite(dlogits).all()
    assert exists or not dlogits.any()


def test_gradient_agrees_with_complex_step(rng):
    logits, *rest = ragged_case(rng)
    _, dlogits, _ = ctc.ctc_loss(logits, *rest)
    for direction in (rng.standard_normal(logits.shape) for _ in range(5)):
        loss, _, _ = ctc.ctc_loss(logits + 1e-30j * direction, *rest)
        assert_close((dlogits * direction).sum(), loss.imag.sum() / 1e-30, "complex step")


def test_gradient_agrees_with_central_differences_element_by_element(rng):
    logits, *rest = ragged_case(rng)
    _, dlogits, _ = ctc.ctc_loss(logits, *rest)
    differences = np.empty_like(logits)
    for index in np.ndindex(logits.shape):
        step = np.zeros_like(logits)
        step[index] = 1e-5
        above, below = (ctc.ctc_loss(logits + s, *rest)[0].sum() for s in (step, -step))
        differences[index] = (above - below) / 2e-5
    assert_close(dlogits, differences, "central")


@pytest.mark.parametrize("name", golden.BLANKS)
def test_loss_and_gradient_equal_torch_to_1e10(name):
    stored = [json.loads(golden.PATH.read_text(encoding="utf-8"))["cases"][name]]
    if "torch" in sys.modules or _has_torch():
        stored.append(golden.results(golden.BLANKS[name]))
    loss, dlogits, feasible = ctc.ctc_loss(
        *golden.arguments(golden.BLANKS[name]), golden.BLANKS[name]
    )
    assert feasible.tolist() == [True, True, True, False, True]
    for expected in stored:
        np.testing.assert_allclose(loss, expected["loss"], rtol=1e-10)
        np.testing.assert_allclose(dlogits, expected["dlogits"], atol=1e-10)


def _has_torch():
    import importlib.util

    return importlib.util.find_spec("torch") is not None


def test_a_pair_without_alignment_has_no_loss_and_no_gradient(rng):
    logits = rng.standard_normal((2, 4, V))
    labels, lengths = np.array([[1, 1, 2, 2], [1, 2, 1, 2]]), np.array([4, 4])
    assert ctc.least_steps(labels, lengths).tolist() == [6, 4]
    loss, dlogits, feasible = ctc.ctc_loss(logits, labels, np.array([4, 4]), lengths)
    assert feasible.tolist() == [False, True]
    assert loss[0] == 0
    assert not dlogits[0].any()
    # four labels in four steps: the one alignment is the labels themselves
    log_y = ctc.log_softmax(logits[1])
    assert_close(loss[1], -log_y[np.arange(4), labels[1]].sum(), "rounding")


def test_an_output_of_probability_zero_makes_a_pair_infeasible_and_nothing_nan(rng):
    logits = rng.standard_normal((1, 5, V))
    logits[..., 2] = -np.inf
    lengths = np.array([5]), np.array([1])
    loss, dlogits, feasible = ctc.ctc_loss(logits, np.array([[2]]), *lengths)
    assert not feasible[0]
    assert loss[0] == 0
    assert not dlogits.any()
    loss, dlogits, feasible = ctc.ctc_loss(logits, np.array([[1]]), *lengths)
    assert feasible[0]
    assert np.isfinite(loss).all()
    assert np.isfinite(dlogits).all()


def test_an_empty_target_asks_for_blanks_only(rng):
    logits = rng.standard_normal((1, 5, V))
    loss, dlogits, _ = ctc.ctc_loss(logits, np.zeros((1, 0), int), np.array([5]), np.array([0]))
    log_y = ctc.log_softmax(logits[0])
    assert_close(loss[0], -log_y[:, 0].sum(), "rounding")
    assert_close(dlogits[0], np.exp(log_y) - np.eye(V)[0], "rounding")


def test_nan_beyond_a_rows_length_is_never_used_and_within_it_comes_through(rng):
    logits, *rest = ragged_case(rng)
    expected = ctc.ctc_loss(logits, *rest)
    for b in range(B):
        logits[b, rest[1][b] :] = np.nan
    assert_close(ctc.ctc_loss(logits, *rest), expected, "exact")
    logits[1, 0, 0] = np.nan
    loss, _, _ = ctc.ctc_loss(logits, *rest)
    assert np.isnan(loss).tolist() == [False, True, False, False]


def test_gradient_of_each_real_step_sums_to_zero(rng):
    _, dlogits, _ = ctc.ctc_loss(*ragged_case(rng))
    assert abs(dlogits.sum(axis=-1)).max() < 1e-14


def test_rows_do_not_know_of_each_other(rng):
    case = ragged_case(rng)
    together = ctc.ctc_loss(*case)
    for b in range(B):
        alone = ctc.ctc_loss(*(a[b : b + 1] for a in case))
        assert_close([a[b : b + 1] for a in together], list(alone), "rounding")


def test_float32_differs_from_float64_by_its_rounding_only(rng):
    logits, *rest = ragged_case(rng)
    single = ctc.ctc_loss(logits.astype(np.float32), *rest)
    assert single[0].dtype == single[1].dtype == np.float32
    exact = ctc.ctc_loss(logits.astype(np.float32).astype(np.float64), *rest)
    assert_close(list(single[:2]), list(exact[:2]), "precision")


# ----------------------------------------------------------------------------- the compiled twin


@pytest.fixture(scope="module")
def compiled():
    pytest.importorskip("numba", reason="the compiled twin needs numba")
    from gru_np.kernels import ctc as kernel

    return kernel


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("blank", [0, 1, 2])
def test_kernel_equals_numpy(rng, compiled, dtype, blank):
    logits, *rest = ragged_case(rng, blank)
    case = (logits.astype(dtype), *rest, blank)
    actual, expected = compiled.ctc_loss(*case), ctc.ctc_loss(*case)
    assert actual[1].dtype == dtype
    assert_close(list(actual[:2]), list(expected[:2]), "kernel")
    assert_close(actual[2], expected[2], "exact")


def test_kernel_equals_numpy_over_many_steps_without_the_slow_path(rng, compiled, monkeypatch):
    logits = rng.standard_normal((3, 120, 29))
    labels = rng.integers(1, 29, (3, 40))
    case = logits, labels, np.array([120, 97, 63]), np.array([40, 33, 25])
    expected = ctc.ctc_loss(*case)
    monkeypatch.setattr(ctc, "ctc_loss", None)
    actual = compiled.ctc_loss(*case)
    assert_close(list(actual[:2]), list(expected[:2]), "kernel")


@pytest.mark.parametrize("name", ["confident and wrong", "extreme", "long", "zero outputs", "nan"])
def test_kernel_turns_to_logarithms_where_probabilities_would_vanish(rng, compiled, name):
    steps = 900 if name == "long" else 60
    logits = rng.standard_normal((2, steps, 5)) * (200 if name == "extreme" else 1)
    if name == "confident and wrong":
        logits[..., 0] += 120  # thirty labels against e^-120 each
    if name == "zero outputs":
        logits[0, :, 4] = -np.inf
    if name == "nan":
        logits[0, 20] = np.nan
    labels = np.resize([1, 2, 3] if name != "zero outputs" else [4, 1], (2, 30))
    case = logits, labels, np.array([steps, steps - 1]), np.array([30, 29])
    actual, expected = compiled.ctc_loss(*case), ctc.ctc_loss(*case)
    assert expected[2][1]
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-12, atol=1e-12)


@given(seed=st.integers(0, 2**31), scale=st.sampled_from([0.1, 1.0, 10.0, 60.0]))
def test_kernel_equals_numpy_for_any_shape(compiled, seed, scale):
    rng = np.random.default_rng(seed)
    rows, steps, outputs, most = rng.integers([1, 0, 2, 0], [5, 25, 6, 9])
    logits = scale * rng.standard_normal((rows, steps, outputs))
    blank = int(rng.integers(outputs))
    labels = rng.integers(0, outputs - 1, (rows, most))
    labels += labels >= blank
    case = (
        logits, labels, rng.integers(0, steps + 1, rows), rng.integers(0, most + 1, rows), blank
    )  # fmt: skip
    actual, expected = compiled.ctc_loss(*case), ctc.ctc_loss(*case)
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-11, atol=1e-11)
