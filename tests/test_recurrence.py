"""The GRU over time: against scalar loops, complex step, PyTorch, and what must always hold.

Every test takes the pair `gru` (forward, backward), once from `gru_np.recurrence` and once from
`gru_np.kernels`, so that whatever the kernels are they answer to the same questions.
"""

import json
from pathlib import Path
from types import SimpleNamespace

import naive
import numpy as np
import pytest
from conftest import assert_close
from hypothesis import given
from hypothesis import strategies as st
from problems import GRADIENTS, B, H, draw, holes, run, skips

from gru_np import kernels, recurrence, variants
from gru_np.gradcheck import check_function

FORMS = pytest.mark.parametrize("reset_after", [True, False], ids=["after", "before"])
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@pytest.fixture(params=["numpy", "kernels"], scope="module")
def gru(request):
    module = {"numpy": recurrence, "kernels": kernels}[request.param]
    return SimpleNamespace(
        name=request.param, forward=module.gru_forward, backward=module.gru_backward
    )


def check(gru, arrays, method="complex", full=None, **settings):
    return check_function(
        lambda point: gru.forward(**{**arrays, **point}, **settings),
        lambda dh, saved: dict(zip(GRADIENTS, gru.backward(dh, saved), strict=True)),
        arrays,
        method,
        full=full,
    )


# ------------------------------------------------------------------------ against scalar loops


@FORMS
@DTYPES
@pytest.mark.parametrize("steps", ["all", "lengths", "mask", "both"])
@pytest.mark.parametrize("bias, h0", [(True, True), (False, False)], ids=["full", "bare"])
def test_forward_equals_scalar_loops(gru, reset_after, dtype, steps, bias, h0, rng):
    T = 5
    arrays = draw(rng, T, bias=bias, h0=h0, dtype=dtype)
    settings = {"reset_after": reset_after, **skips(rng, steps, T, B)}
    expected = naive.gru_forward(
        **{n: None if a is None else a.astype(float).tolist() for n, a in arrays.items()},
        **settings,
    )
    assert_close(run(gru, arrays, **settings)["h"], np.array(expected, dtype), "naive")


@FORMS
@pytest.mark.parametrize(
    "activation, recurrent_activation",
    [("relu", "sigmoid"), ("linear", "hard_sigmoid"), ("sigmoid", "tanh")],
)
def test_forward_equals_scalar_loops_with_other_activations(
    gru, reset_after, activation, recurrent_activation, rng
):
    arrays = draw(rng)
    settings = {
        "reset_after": reset_after,
        "activation": activation,
        "recurrent_activation": recurrent_activation,
    }
    expected = naive.gru_forward(**{n: a.tolist() for n, a in arrays.items()}, **settings)
    assert_close(run(gru, arrays, **settings)["h"], np.array(expected), "naive")


@FORMS
def test_forward_equals_scalar_loops_for_complex_numbers(gru, reset_after, rng):
    arrays = {n: a + 0.1j * rng.standard_normal(a.shape) for n, a in draw(rng).items()}
    expected = naive.gru_forward(
        **{n: a.tolist() for n, a in arrays.items()}, reset_after=reset_after
    )
    h = run(gru, arrays, reset_after=reset_after)["h"]
    assert h.dtype == complex
    assert_close(h, np.array(expected), "naive")


# ---------------------------------------------------------------------------------- gradients


@FORMS
@pytest.mark.parametrize("T", [2, 7])
@pytest.mark.parametrize("steps", ["all", "lengths", "mask", "both"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize("h0", [True, False], ids=["h0", "no_h0"])
def test_gradients_equal_complex_step_in_every_entry(gru, reset_after, T, steps, bias, h0, rng):
    arrays = draw(rng, T, bias=bias, h0=h0)
    settings = {"reset_after": reset_after, **skips(rng, steps, T, B)}
    report = check(gru, arrays, full=True, **settings)
    report.raise_if_bad()
    assert report.full and {row.name for row in report.rows} == {
        n for n, a in arrays.items() if a is not None
    }


@FORMS
@pytest.mark.parametrize("T", [2, 7])
@pytest.mark.parametrize("steps", ["all", "mask"])
@pytest.mark.parametrize("method", ["central", "taylor"])
def test_gradients_equal_differences_and_have_taylor_slope_two(
    gru, reset_after, T, steps, method, rng
):
    arrays = draw(rng, T)
    settings = {"reset_after": reset_after, **skips(rng, steps, T, B)}
    check(gru, arrays, method, full=True, **settings).raise_if_bad()


@FORMS
@pytest.mark.parametrize("method", ["complex", "central"])
@pytest.mark.parametrize("steps", ["all", "both"])
def test_gradients_hold_over_a_hundred_steps(gru, reset_after, method, steps, rng):
    T = 100
    arrays = draw(rng, T)
    settings = {"reset_after": reset_after, **skips(rng, steps, T, B)}
    check(gru, arrays, method, full=False, **settings).raise_if_bad()


@FORMS
@pytest.mark.parametrize(
    "activation, recurrent_activation",
    [("relu", "sigmoid"), ("linear", "hard_sigmoid"), ("sigmoid", "tanh")],
)
def test_gradients_hold_for_other_activations(
    gru, reset_after, activation, recurrent_activation, rng
):
    check(
        gru,
        draw(rng),
        reset_after=reset_after,
        activation=activation,
        recurrent_activation=recurrent_activation,
    ).raise_if_bad()


def test_gradients_of_absent_biases_are_none(gru, rng):
    arrays = draw(rng, bias=False, h0=False)
    results = run(gru, arrays, rng.standard_normal((6, B, H)))
    assert results["b_ih"] is None and results["b_hh"] is None
    assert results["h0"].shape == (B, H)


def test_cotangent_of_the_initial_state_adds_to_its_gradient(gru, rng):
    arrays, dh = draw(rng), rng.standard_normal((6, B, H))
    without = dh.copy()
    without[0] = 0
    whole, rest = run(gru, arrays, dh), run(gru, arrays, without)
    assert_close(whole["h0"] - rest["h0"], dh[0], "rounding")
    assert_close(whole["W_hh"], rest["W_hh"], "exact")


@FORMS
def test_float32_gradients_are_those_of_float64(gru, reset_after, rng):
    T = 100
    arrays, dh = draw(rng, T, dtype=np.float32), rng.standard_normal((T + 1, B, H), np.float32)
    double = {n: a.astype(np.float64) for n, a in arrays.items()}
    expected = run(gru, double, dh.astype(np.float64), reset_after=reset_after)
    assert_close(run(gru, arrays, dh, reset_after=reset_after), expected, "precision")


# ---------------------------------------------------------------------- against NumPy, PyTorch


@FORMS
@DTYPES
@pytest.mark.parametrize("steps", ["all", "both"])
def test_kernels_equal_numpy(reset_after, dtype, steps, rng):
    T = 7
    arrays, dh = draw(rng, T, dtype=dtype), rng.standard_normal((T + 1, B, H)).astype(dtype)
    settings = {"reset_after": reset_after, **skips(rng, steps, T, B)}
    both = [
        run(SimpleNamespace(forward=m.gru_forward, backward=m.gru_backward), arrays, dh, **settings)
        for m in (kernels, recurrence)
    ]
    assert_close(*both, "kernel")


GOLDEN = json.loads(Path(__file__).with_name("golden").joinpath("torch_gru.json").read_text())
CASES = pytest.mark.parametrize("case", [name for name in GOLDEN if name != "versions"])


def from_lists(arrays):
    return {n: None if a is None else np.array(a) for n, a in arrays.items()}


@CASES
def test_values_and_gradients_equal_stored_numbers_of_pytorch(gru, case):
    golden = GOLDEN[case]
    arrays, dh = from_lists(golden["arguments"]), np.array(golden["dh"])
    results = run(gru, arrays, dh, **golden["settings"])
    expected = from_lists(golden["results"])
    assert_close({n: results[n] for n in expected}, expected, "foreign")


@CASES
def test_stored_numbers_are_those_of_the_installed_pytorch(case):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    from golden import make_torch_gru

    golden = GOLDEN[case]
    arrays, dh = from_lists(golden["arguments"]), np.array(golden["dh"])
    fresh = make_torch_gru.results(arrays, dh, **golden["settings"])
    assert_close(fresh, from_lists(golden["results"]), "foreign")


def test_long_runs_equal_pytorch(gru, rng):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    from golden import make_torch_gru

    # The sizes are the script's own; time is not.
    arrays, dh = draw(rng, T=100), rng.standard_normal((101, B, H))
    assert_close(run(gru, arrays, dh), make_torch_gru.results(arrays, dh), "foreign")


# ----------------------------------------------------------------------------- what always holds


@st.composite
def problems(draw_from):
    """Random sizes, form, masks and values."""
    sizes = {
        n: draw_from(st.integers(1, high)) for n, high in zip("TBIH", (6, 4, 3, 5), strict=True)
    }
    rng = np.random.default_rng(draw_from(st.integers(0, 2**32 - 1)))
    bias, h0 = draw_from(st.booleans()), draw_from(st.booleans())
    settings = {"reset_after": draw_from(st.booleans())}
    T, B, H = sizes["T"], sizes["B"], sizes["H"]
    if draw_from(st.booleans()):
        settings["mask"] = rng.random((T, B)) < 0.6
    if draw_from(st.booleans()):
        settings["lengths"] = rng.integers(0, T + 1, B)
    arrays = draw(rng, **sizes, bias=bias, h0=h0)
    return SimpleNamespace(
        rng=rng, arrays=arrays, settings=settings, dh=rng.standard_normal((T + 1, B, H)), **sizes
    )


@given(p=problems(), data=st.data())
def test_splitting_time_and_carrying_the_state_changes_nothing(gru, p, data):
    cut = data.draw(st.integers(0, p.T))
    valid = recurrence.valid_steps(p.T, p.B, **{"lengths": None, "mask": None} | {
        n: v for n, v in p.settings.items() if n != "reset_after"
    })  # fmt: skip
    mask = np.ones((p.T, p.B), bool) if valid is None else valid
    form = {"reset_after": p.settings["reset_after"]}
    whole = run(gru, p.arrays, p.dh, **p.settings)

    h1, saved1 = gru.forward(**p.arrays | {"x": p.arrays["x"][:cut]}, mask=mask[:cut], **form)
    second = p.arrays | {"x": p.arrays["x"][cut:], "h0": h1[-1]}
    h2, saved2 = gru.forward(**second, mask=mask[cut:], **form)
    dh2 = p.dh[cut:].copy()
    dx2, dh_cut, *dweights2 = gru.backward(dh2, saved2)
    dh1 = p.dh[: cut + 1].copy()
    dh1[-1] = dh_cut  # p.dh[cut] is in dh_cut already
    dx1, dh0, *dweights1 = gru.backward(dh1, saved1)

    assert_close(np.concatenate([h1, h2[1:]]), whole["h"], "rounding")
    assert_close(np.concatenate([dx1, dx2]), whole["x"], "rounding")
    assert_close(dh0, whole["h0"], "rounding")
    for name, one, two in zip(GRADIENTS[2:], dweights1, dweights2, strict=True):
        if whole[name] is not None:
            assert_close(one + two, whole[name], "rounding")


@given(p=problems())
def test_permuting_the_batch_permutes_everything(gru, p):
    order = p.rng.permutation(p.B)
    arrays = p.arrays | {"x": p.arrays["x"][:, order]}
    if p.arrays["h0"] is not None:
        arrays["h0"] = p.arrays["h0"][order]
    settings = dict(p.settings)
    if "mask" in settings:
        settings["mask"] = settings["mask"][:, order]
    if "lengths" in settings:
        settings["lengths"] = settings["lengths"][order]
    before, after = (
        run(gru, p.arrays, p.dh, **p.settings),
        run(gru, arrays, p.dh[:, order], **settings),
    )
    expected = before | {
        "h": before["h"][:, order], "x": before["x"][:, order], "h0": before["h0"][order]
    }  # fmt: skip
    assert_close(after, expected, "rounding")


@given(p=problems(), data=st.data())
def test_padding_changes_neither_values_nor_gradients(gru, p, data):
    # Steps that do not count are put in anywhere, filled with NaN.
    extra = data.draw(st.lists(st.integers(0, p.T), min_size=1, max_size=3).map(sorted))
    form = {"reset_after": p.settings["reset_after"]}
    plain = run(gru, p.arrays, p.dh, **form)

    x = np.insert(p.arrays["x"], extra, np.nan, axis=0)
    mask = np.insert(np.ones((p.T, p.B), bool), extra, False, axis=0)
    # The state after real step t is h[t + 1]; a padded step's state is a copy with no cotangent.
    dh = np.concatenate([p.dh[:1], np.insert(p.dh[1:], extra, 0, axis=0)])
    padded = run(gru, p.arrays | {"x": x}, dh, mask=mask, **form)

    real = mask[:, 0]
    assert_close(padded["h"][1:][real], plain["h"][1:], "rounding")
    assert_close(padded["x"][real], plain["x"], "rounding")
    assert not padded["x"][~real].any()
    for name in GRADIENTS[1:]:
        assert_close(padded[name], plain[name], "rounding")


@given(p=problems())
def test_steps_that_do_not_count_copy_the_state_and_never_use_x(gru, p):
    valid = p.rng.random((p.T, p.B)) < 0.5
    x = p.arrays["x"].copy()
    x[~valid] = np.nan
    form = {"reset_after": p.settings["reset_after"]}
    results = run(gru, p.arrays | {"x": x}, p.dh, mask=valid, **form)
    expected = run(gru, p.arrays, p.dh, mask=valid, **form)
    assert_close(results, expected, "exact")
    h = results["h"]
    assert_close(h[1:][~valid], h[:-1][~valid], "exact")
    assert not results["x"][~valid].any()


@given(p=problems())
def test_lengths_mean_a_mask_of_leading_steps(gru, p):
    lengths = p.rng.integers(0, p.T + 1, p.B)
    mask = np.arange(p.T)[:, None] < lengths
    form = {"reset_after": p.settings["reset_after"]}
    by_mask = run(gru, p.arrays, p.dh, mask=mask, **form)
    assert_close(run(gru, p.arrays, p.dh, lengths=lengths, **form), by_mask, "exact")


@given(p=problems(), size=st.sampled_from([1e-3, 1.0, 50.0]))
def test_state_never_exceeds_one_and_the_initial_state(gru, p, size):
    arrays = {n: None if a is None else size * a for n, a in p.arrays.items()}
    h = run(gru, arrays, **p.settings)["h"]
    bound = 1.0 if arrays["h0"] is None else np.maximum(1, np.abs(arrays["h0"]))
    assert (np.abs(h) <= bound * (1 + 4 * p.T * np.finfo(float).eps)).all()


@FORMS
@DTYPES
def test_z_of_one_copies_the_state_exactly(gru, reset_after, dtype, rng):
    arrays = draw(rng, dtype=dtype)
    arrays["b_ih"][H : 2 * H] = 1e3
    h = run(gru, arrays, reset_after=reset_after)["h"]
    assert_close(h, np.broadcast_to(arrays["h0"], h.shape), "exact")


# ------------------------------------------------------------------------------ the arrays' side


@FORMS
@DTYPES
def test_dtype_in_is_dtype_out_and_states_are_contiguous(gru, reset_after, dtype, rng):
    dh = rng.standard_normal((6, B, H)).astype(dtype)
    results = run(gru, draw(rng, dtype=dtype), dh, reset_after=reset_after)
    assert {a.dtype for a in results.values()} == {np.dtype(dtype)}
    assert results["h"].flags.c_contiguous and results["h"].shape == (6, B, H)


@FORMS
@pytest.mark.parametrize("steps", ["all", "both"])
def test_inputs_are_never_modified(gru, reset_after, steps, rng):
    arrays, dh = draw(rng), rng.standard_normal((6, B, H))
    settings = skips(rng, steps, 5, B)
    everything = [*arrays.values(), dh, *settings.values()]
    before = [a.copy() for a in everything]
    run(gru, arrays, dh, reset_after=reset_after, **settings)
    for now, then in zip(everything, before, strict=True):
        assert_close(now, then, "exact")


@FORMS
@pytest.mark.parametrize("steps", ["all", "both"])
def test_backward_twice_gives_the_same_gradients(gru, reset_after, steps, rng):
    dh = rng.standard_normal((6, B, H))
    _, saved = gru.forward(**draw(rng), reset_after=reset_after, **skips(rng, steps, 5, B))
    assert_close(gru.backward(dh, saved), gru.backward(dh, saved), "exact")


def strided(a):
    """The same numbers at every second place of a larger, reversed array."""
    wide = np.full(tuple(2 * n for n in a.shape), 77, a.dtype)
    view = wide[(slice(None, None, -2),) * a.ndim]
    view[...] = a
    return view


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def fortran(a):
    return np.asfortranarray(a)


@FORMS
@DTYPES
@pytest.mark.parametrize("change", [strided, read_only, fortran])
@pytest.mark.parametrize("steps", ["all", "both"])
def test_strided_and_read_only_arrays_work(gru, reset_after, dtype, change, steps, rng):
    arrays, dh = draw(rng, dtype=dtype), rng.standard_normal((6, B, H)).astype(dtype)
    settings = skips(rng, steps, 5, B)
    changed = {n: change(v) for n, v in settings.items()}
    expected = run(gru, arrays, dh, reset_after=reset_after, **settings)
    arrays = {n: change(a) for n, a in arrays.items()}
    actual = run(gru, arrays, change(dh), reset_after=reset_after, **changed)
    assert_close(actual, expected, "rounding")


def test_results_share_no_memory_with_the_arguments(gru, rng):
    arrays, dh = draw(rng), rng.standard_normal((6, B, H))
    for settings in ({}, {"mask": np.zeros((5, B), bool)}):
        results = run(gru, arrays, dh, **settings)
        for name, result in results.items():
            for argument in [*arrays.values(), dh]:
                assert not np.shares_memory(result, argument), name


# ------------------------------------------------------------------------------------- the edges


@FORMS
@pytest.mark.parametrize("T, B", [(0, 3), (5, 0), (0, 0)])
@pytest.mark.parametrize("masked", [False, True])
def test_no_steps_or_no_rows_give_empty_results(gru, reset_after, T, B, masked, rng):
    arrays, dh = draw(rng, T, B), rng.standard_normal((T + 1, B, H))
    settings = {"mask": np.ones((T, B), bool), "lengths": np.full(B, T)} if masked else {}
    results = run(gru, arrays, dh, reset_after=reset_after, **settings)
    assert {n: a.shape for n, a in results.items()} == {"h": (T + 1, B, H)} | {
        n: a.shape for n, a in arrays.items()
    }
    assert_close(results["h"][0], arrays["h0"], "exact")
    assert_close(results["h0"], dh[0] if T == 0 else np.empty((B, H)), "exact")
    assert not any(results[n].any() for n in GRADIENTS[2:])


@FORMS
@pytest.mark.parametrize("how", ["mask", "lengths"])
def test_when_no_step_counts_the_initial_state_stays(gru, reset_after, how, rng):
    T = 5
    arrays, dh = draw(rng, T), rng.standard_normal((T + 1, B, H))
    arrays["x"][:] = np.nan
    settings = {"mask": np.zeros((T, B), bool)} if how == "mask" else {"lengths": np.zeros(B, int)}
    results = run(gru, arrays, dh, reset_after=reset_after, **settings)
    assert_close(results["h"], np.broadcast_to(arrays["h0"], (T + 1, B, H)), "exact")
    assert_close(results["h0"], dh.sum(axis=0), "rounding")
    assert not any(results[n].any() for n in GRADIENTS if n != "h0")


def test_nan_in_a_step_that_counts_reaches_only_its_own_row(gru, rng):
    arrays = draw(rng)
    clean = run(gru, arrays)["h"]
    arrays["x"][2, 1, 0] = np.nan
    h = run(gru, arrays)["h"]
    assert np.isnan(h[3:, 1]).all()
    assert_close(h[:3], clean[:3], "rounding")
    assert_close(h[:, [0, 2]], clean[:, [0, 2]], "rounding")


def test_no_product_keeps_an_interrupt_waiting():
    # an interrupt is seen between two products: none may be of more operations than this
    T, of_a_step = 100_000, 2.0 * 8 * 3 * 64 * 64
    spans = list(recurrence.spans(T, of_a_step))
    assert max(span.stop - span.start for span in spans) * of_a_step <= recurrence.OPERATIONS
    assert [i for span in spans for i in range(span.start, span.stop)] == list(range(T))
    assert len(list(recurrence.spans(100, of_a_step))) == 1  # small ones are not cut


@pytest.mark.parametrize("reset_after", [True, False])
def test_products_cut_in_time_give_the_same(reset_after, rng, monkeypatch):
    arrays, dh = draw(rng, 7, 3, 2, 4), rng.standard_normal((8, 3, 4))
    mask = holes(rng, 7, 3)
    expected = []
    for operations in (recurrence.OPERATIONS, 1.0):
        monkeypatch.setattr(recurrence, "OPERATIONS", operations)
        h, saved = recurrence.gru_forward(**arrays, reset_after=reset_after, mask=mask)
        expected.append((h, *recurrence.gru_backward(dh, saved)))
        gammas = (np.ones(12), np.ones(12)) if reset_after else None
        h, saved = variants.gru_forward(
            **arrays, reset_after=reset_after, mask=mask, keep=0.7, gammas=gammas
        )
        expected.append((h, *variants.gru_backward(dh, saved)))
    assert_close(expected[2], expected[0], "rounding")
    assert_close(expected[3], expected[1], "rounding")
