"""Schedules: Keras' stored rates, the equations, corners, descriptions, refusals."""

import json
import math

import numpy as np
import pytest
from conftest import assert_close
from golden_training import case_id, golden, maker, require
from hypothesis import given
from hypothesis import strategies as st

from gru_np import schedules

CASES = golden()["schedules"]
EVERY = [
    schedules.Constant(0.1),
    schedules.PiecewiseConstantDecay([4, 9], [0.3, 0.2, 0.05]),
    schedules.ExponentialDecay(0.3, 7, 0.6, staircase=True),
    schedules.CosineDecay(0.1, 9, alpha=0.1, warmup_target=0.5, warmup_steps=4),
    schedules.WarmUp(schedules.CosineDecay(0.3, 9), 4, initial_learning_rate=0.1),
    schedules.WarmUp(0.3, 4),
    schedules.InTurn([schedules.CosineDecay(0.2, 6), 0.1, schedules.WarmUp(0.3, 4)], [6, 9]),
]


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_rates_equal_the_stored_ones(case):
    schedule = schedules.get(case["ours"])
    assert_close([schedule(step) for step in case["steps"]], case["rates"], "foreign")


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_stored_rates_are_what_keras_computes(case):
    require("keras")
    assert_close(maker().schedule_answer(case), case["rates"], "foreign")


@given(step=st.integers(0, 10**7))
def test_every_rate_is_a_plain_finite_float(step):
    for schedule in EVERY:
        rate = schedule(step)
        assert type(rate) is float
        assert math.isfinite(rate)
        assert rate >= 0
        assert schedule(np.int64(step)) == rate


@given(step=st.integers(0, 40))
def test_warm_up_around_a_cosine_is_keras_cosine_with_warm_up(step):
    theirs = schedules.CosineDecay(0.1, 9, alpha=0.1, warmup_target=0.5, warmup_steps=4)
    ours = schedules.WarmUp(schedules.CosineDecay(0.5, 9, alpha=0.1), 4, 0.1)
    assert_close(ours(step), theirs(step), "rounding")


def test_warm_up_rises_in_a_line_and_joins_without_a_jump():
    schedule = schedules.WarmUp(schedules.ExponentialDecay(0.8, 2, 0.25), 4)
    assert_close([schedule(s) for s in range(7)], [0, 0.2, 0.4, 0.6, 0.8, 0.4, 0.2], "rounding")


def test_warm_up_of_no_steps_is_the_schedule_itself():
    inner = schedules.ExponentialDecay(0.8, 2, 0.25)
    assert [schedules.WarmUp(inner, 0)(s) for s in range(5)] == [inner(s) for s in range(5)]


def test_schedules_in_turn_each_begin_anew():
    first, second = schedules.ExponentialDecay(0.8, 2, 0.25), schedules.CosineDecay(0.5, 3)
    ours = schedules.InTurn([first, second, 0.1], [4, 7])
    expected = [*map(first, range(4)), *map(second, range(3)), 0.1, 0.1]
    assert [ours(step) for step in range(9)] == expected


@pytest.mark.parametrize("schedule", EVERY, ids=repr)
def test_every_schedule_comes_back_from_its_description(schedule):
    described = json.loads(json.dumps(schedules.serialize(schedule)))
    again = schedules.get(described)
    assert repr(again) == repr(schedule)
    assert [again(s) for s in range(20)] == [schedule(s) for s in range(20)]
    assert schedules.get(schedule) is schedule


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: schedules.Constant(math.nan), "learning_rate must be finite and at least 0"),
        (lambda: schedules.ExponentialDecay(0.1, 0, 0.5), "decay_steps must be finite and above 0"),
        (lambda: schedules.ExponentialDecay(0.1, 5, -1), "decay_rate must be .* at least 0"),
        (lambda: schedules.CosineDecay(-0.1, 5), "initial_learning_rate must be"),
        (lambda: schedules.PiecewiseConstantDecay([1, 2], [0.1, 0.2]), "one more .* got 2 and 2"),
        (lambda: schedules.PiecewiseConstantDecay([2, 2], [1, 2, 3]), "boundaries must increase"),
        (lambda: schedules.InTurn([0.1, 0.2], [3, 4]), "one more .* got 2 and 2"),
        (lambda: schedules.InTurn([0.1, 0.2], [0]), "boundaries must increase from 1"),
        (lambda: schedules.get({"class_name": "Cosine", "config": {}}), "mean 'CosineDecay'"),
    ],
)
def test_impossible_settings_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("identifier", ["cosine", None, [0.1]])
def test_what_is_no_schedule_is_refused(identifier):
    with pytest.raises(TypeError, match="schedule must be"):
        schedules.get(identifier)
