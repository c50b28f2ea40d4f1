"""The training loop: epochs, batches, validation, and where an interrupted run stands.

`Sequential.fit` prepares, this loop repeats, `Sequential._train_step` does the mathematics.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from gru_np._aliases import Array
from gru_np.callbacks import CallbackList, Progress
from gru_np.data import Dataset, epoch_order, order_by_length
from gru_np.health import NonFiniteError
from gru_np.layers import GRU, Bidirectional, Embedding, Layer

States = list[Array | None]  # one entry a layer: the state (B, H) of a GRU, None of any other


@dataclass
class TrainingProgress:
    """Where a training run stands: everything a resumed run needs beside weights and optimiser."""

    epoch: int = 0  # epochs done
    batch: int = 0  # batches done of the epoch under way
    steps: int | None = None  # batches of an epoch
    states: States | None = None  # recurrent states carried into the next batch (truncated BPTT)
    passes: int = 0  # epochs done in all fits since `compile`: which order of the rows is next


def run(
    model: Any,
    data: Dataset,
    epochs: int,
    shuffle: bool | str,
    validation_data: tuple[Any, Any, Any] | None,
    tell: CallbackList,
    line: Progress,
) -> dict[str, float]:
    """Train until the last epoch is done or a callback stops it; give the last numbers."""
    logs: dict[str, float] = {}
    lengths = _lengths(model, data.x) if shuffle == "by_length" else None
    while model.progress.epoch < epochs and not model.stop_training:
        epoch = model.progress.epoch
        tell("on_epoch_begin", epoch, {})
        order = None
        if lengths is not None:
            order = order_by_length(lengths, data.batch_size, model.seed, model.progress.passes)
        elif shuffle:
            order = epoch_order(len(data.x), model.seed, model.progress.passes)
        logs = _epoch(model, data, order, tell, line)
        if model.stop_training and model.progress.batch < len(data):
            break  # stopped in mid-epoch: the position is kept, the epoch is not counted
        if validation_data is not None:
            tell("on_test_begin", {})
            held_out = model.measure(*validation_data, data.batch_size, data.tbptt)
            tell("on_test_end", held_out)
            logs |= {f"val_{name}": value for name, value in held_out.items()}
        model._reset_trackers()
        passes = model.progress.passes + 1
        model.progress = TrainingProgress(epoch + 1, steps=len(data), passes=passes)
        tell("on_epoch_end", epoch, logs)
    return logs


def _epoch(
    model: Any, data: Dataset, order: Array | None, tell: CallbackList, line: Progress
) -> dict[str, float]:
    """Train on the batches of an epoch that are still to do; give the means over all of it."""
    progress = model.progress
    if progress.batch == 0:
        model._reset_trackers()
    logs: dict[str, float] = model._logs()
    for batch in data.batches(order, start=progress.batch):
        tell("on_train_batch_begin", progress.batch, logs)
        states = None if batch.fresh else progress.states
        try:
            progress.states = model._train_step(batch.x, batch.y, batch.weight, states, batch.rows)
        except NonFiniteError as error:
            if not tell.keeps_in(progress.batch, error):
                raise
            if model.stop_training:
                break
            _forget(model)
            progress.batch += 1
            continue
        if data.tbptt is None:
            progress.states = None
        progress.batch += 1
        line.count += batch.x.size if line.unit == "tokens" else len(batch.x)
        logs = model._logs()
        tell("on_train_batch_end", progress.batch - 1, logs)
        if model.stop_training:
            break
    return logs


def _lengths(model: Any, x: Array) -> Array:
    """Count the real steps of each row, by the mask that the first layer gives."""
    mask = model.layers[0].compute_mask(x, None)
    if mask is None:
        raise ValueError(
            f'fit: shuffle="by_length" needs a first layer that knows padding, Masking or an '
            f"Embedding with mask_zero=True, got {model.layers[0].name}"
        )
    return np.asarray(mask.sum(axis=1))


def _forget(model: Any) -> None:
    """Begin all recurrent states anew: those after a step that failed may be NaN."""
    model.progress.states = None
    for layer in model.layers:
        if layer.state is not None:
            layer.reset_states()


def work(layers: list[Layer], x: Array, batch_size: int, epochs: int) -> tuple[float, float]:
    """Estimate a training run: time steps of recurrent layers, floating-point operations."""
    T = x.shape[1] if x.ndim > 1 else 1
    recurrent = sum(isinstance(layer, GRU | Bidirectional) for layer in layers)
    weights = sum(layer.count_params() for layer in layers if not isinstance(layer, Embedding))
    # Going back takes as many steps as going forward, and twice the products.
    steps = 2.0 * epochs * -(-len(x) // batch_size) * T * recurrent
    return steps, 6.0 * epochs * len(x) * T * weights
