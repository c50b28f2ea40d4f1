"""Batches: every row once, every time step once, and a place that can be found again."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gru_np.data import Dataset, epoch_order, split_validation


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


def test_validation_split_takes_the_last_rows():
    x = np.arange(10)
    (a, b, c), (d, e, f) = split_validation(x, x * 2, None, 0.3)
    assert a.tolist() == list(range(7))
    assert d.tolist() == [7, 8, 9]
    assert (e == d * 2).all() and (b == a * 2).all() and c is None and f is None
    with pytest.raises(ValueError, match="leaves 0 for training"):
        split_validation(x[:1], None, None, 0.5)
