"""Batches: every row once, every time step once, and a place that can be found again."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gru_np import GRU, Dense, Embedding, Sequential
from gru_np.data import Dataset, epoch_order, order_by_length, split_validation


@given(st.integers(1, 20), st.integers(1, 9), st.integers(1, 7), st.integers(1, 8))
def test_each_number_is_read_once_in_order_of_time(rows, steps, batch_size, tbptt):
    x = np.arange(rows * steps).reshape(rows, steps)
    data = Dataset(x, x, None, batch_size, tbptt)
    batches = list(data.batches(epoch_order(rows, 0, 0)))
    assert len(batches) == len(data)
    seen = np.concatenate([batch.x.ravel() for batch in batches])
    assert sorted(seen.tolist()) == list(range(rows * steps))
    assert sum(batch.fresh for batch in batches) == -(-rows // batch_size)


@given(st.integers(0, 12))
def test_starting_in_the_middle_gives_the_rest(start):
    x = np.arange(60).reshape(6, 10)
    data = Dataset(x, batch_size=2, tbptt=4)
    whole, rest = list(data.batches()), list(data.batches(start=start))
    assert [b.x.tolist() for b in whole[start:]] == [b.x.tolist() for b in rest]


def test_order_depends_on_seed_and_epoch_only():
    assert (epoch_order(50, 1, 2) == epoch_order(50, 1, 2)).all()
    assert (epoch_order(50, 1, 2) != epoch_order(50, 1, 3)).any()
    assert (epoch_order(50, 1, 2) != epoch_order(50, 2, 2)).any()


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60), st.integers(1, 7))
def test_an_order_by_length_has_each_row_once_and_like_lengths_side_by_side(lengths, batch_size):
    lengths = np.array(lengths)
    order = order_by_length(lengths, batch_size, 3, 4)
    assert sorted(order.tolist()) == list(range(len(lengths)))
    assert (order == order_by_length(lengths, batch_size, 3, 4)).all()
    batches = [lengths[order[i : i + batch_size]] for i in range(0, len(lengths), batch_size)]
    ranges = sorted((batch.min(), batch.max()) for batch in batches)
    for (_, top), (low, _) in pairwise(ranges):
        assert low >= top


def test_training_by_length_sees_every_row_and_says_what_it_needs():
    rng = np.random.default_rng(0)
    x = np.array([np.pad(rng.integers(1, 6, n), (0, 9 - n)) for n in rng.integers(1, 10, 20)])
    y = rng.integers(0, 3, 20)
    seen = []
    model = Sequential([Embedding(6, 2), GRU(4), Dense(3)], seed=0)
    model.compile("mse", "adam")
    with pytest.raises(ValueError, match="that knows padding"):
        model.fit(x, np.eye(3)[y], shuffle="by_length", verbose=0)
    model = Sequential([Embedding(6, 2, mask_zero=True), GRU(4), Dense(3)], seed=0)
    model.compile("mse", "adam")
    step = model._train_step
    model._train_step = lambda x, *rest: (seen.append(x), step(x, *rest))[1]
    model.fit(x, np.eye(3)[y], batch_size=6, epochs=1, shuffle="by_length", verbose=0)
    assert sorted(np.concatenate(seen).tolist()) == sorted(x.tolist())
    lengths = [(batch != 0).sum(axis=1) for batch in seen[:3]]
    assert len(seen) == 4 and max(np.ptp(n) for n in lengths) < 9
    with pytest.raises(ValueError, match="did you mean 'by_length'"):
        model.fit(x, y, shuffle="by_lenght")


def test_validation_split_takes_the_last_rows():
    x = np.arange(10)
    (a, b, c), (d, e, f) = split_validation(x, x * 2, None, 0.3)
    assert a.tolist() == list(range(7))
    assert d.tolist() == [7, 8, 9]
    assert (e == d * 2).all() and (b == a * 2).all() and c is None and f is None
    with pytest.raises(ValueError, match="leaves 0 for training"):
        split_validation(x[:1], None, None, 0.5)
