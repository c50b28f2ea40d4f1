"""The public gru_forward and gru_backward answer bad arguments with a sentence, not by reading on.

The compiled loops behind them look up no bounds, so a wrong shape must not get that far.
"""

import numpy as np
import pytest
from conftest import assert_close

from gru_np import gru_backward, gru_forward, recurrence

T, B, I, H = 5, 3, 2, 4  # noqa: E741


@pytest.fixture
def arguments(rng):
    shapes = {
        "x": (T, B, I), "h0": (B, H), "W_ih": (3 * H, I), "W_hh": (3 * H, H),
        "b_ih": (3 * H,), "b_hh": (3 * H,),
    }  # fmt: skip
    return {name: rng.standard_normal(shape) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("x", np.ones((T, I)), r"x must have shape \(time, batch, features\), got \(5, 2\)"),
        ("W_ih", np.ones((3 * H, I + 1)), r"W_ih must have shape \(12, 2\), got \(12, 3\)"),
        ("W_hh", np.ones((3 * H, H + 1)), r"W_hh must have shape \(15, 5\), got \(12, 5\)"),
        ("h0", np.ones((B, H - 1)), r"h0 must have shape \(3, 4\), got \(3, 3\)"),
        ("b_ih", np.ones(H), r"b_ih must have shape \(12,\), got \(4,\)"),
        ("b_hh", np.ones((1, 3 * H)), r"b_hh must have shape \(12,\), got \(1, 12\)"),
        ("lengths", [5, 6, 1], r"lengths must be in 0\.\.5.* got 1 to 6"),
        ("lengths", [5, -1, 1], r"lengths must be in 0\.\.5.* got -1 to 5"),
        ("lengths", [5, 1], r"lengths must have shape \(3,\), got \(2,\)"),
        ("mask", np.ones((B, T), bool), r"mask must have shape \(5, 3\), got \(3, 5\)"),
        ("activation", "swish", "activation must be one of 'tanh'"),
        ("recurrent_activation", "sigmoyd", "did you mean 'sigmoid'"),
    ],
)
def test_arguments_that_do_not_fit_get_a_sentence(arguments, name, value, message):
    with pytest.raises(ValueError, match=message):
        gru_forward(**(arguments | {name: value}))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("x", np.full((T, B, I), "a"), "x must be numbers"),
        ("lengths", [1.0, 2.0, 3.0], "lengths must be integers, got an array of float64"),
        ("mask", np.ones((T, B)), "mask must be bool"),
    ],
)
def test_arguments_of_a_wrong_type_get_a_sentence(arguments, name, value, message):
    with pytest.raises(TypeError, match=message):
        gru_forward(**(arguments | {name: value}))


def test_one_argument_of_another_form_gives_the_same(arguments):
    expected, _ = gru_forward(**arguments)
    for name, array in arguments.items():
        for other in (array.tolist(), np.asfortranarray(array), array.astype(">f8"),
                      np.ma.array(array)):  # fmt: skip
            h, saved = gru_forward(**(arguments | {name: other}))
            assert_close(h, expected, "exact")
            gru_backward(h.tolist(), saved)


def test_a_gradient_of_another_shape_is_refused(arguments):
    h, saved = gru_forward(**arguments)
    with pytest.raises(ValueError, match=r"dh must have shape \(6, 3, 4\), got \(4, 3, 4\)"):
        gru_backward(h[2:], saved)
    with pytest.raises(TypeError, match="saved must be the second result of gru_forward"):
        gru_backward(h, None)


def test_the_gradient_by_the_outputs_alone_has_none_by_the_first_state(arguments, rng):
    h, saved = gru_forward(**arguments)
    dh = rng.standard_normal(h.shape)
    dh[0] = 0
    assert_close(gru_backward(dh[1:], saved), gru_backward(dh, saved), "exact")
    _, saved = recurrence.gru_forward(**arguments)
    of_outputs = recurrence.gru_backward(dh[1:], saved)
    assert_close(of_outputs, recurrence.gru_backward(dh, saved), "exact")


def test_lists_and_integers_are_taken_as_numbers(arguments):
    as_lists = {name: np.round(array * 4).astype(int).tolist() for name, array in arguments.items()}
    as_floats = {name: np.array(value, float) for name, value in as_lists.items()}
    h, _ = gru_forward(**as_lists)
    assert_close(h, recurrence.gru_forward(**as_floats)[0], "kernel")
