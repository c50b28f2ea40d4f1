"""PyTorch's GRU beside ours on the first steps of a recipe: speed, and the curve of the loss.

    python -m benchmarks.results_text --data FOLDER RECIPE --control

Both begin with the same weights and see the same batches in the same order, with the same dropout
masks, loss, clipping, schedule and Adam, in float32. Each is a process of its own with one thread,
and they take turns: one trains for a few steps while the other waits. The ratio is the median over
the turns of torch's time by ours. The masks that both need are drawn before torch's clock starts,
while ours pays for its own.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.text_tasks import prepare, recipe
from gru_np import GRU, Bidirectional, Dense, Dropout, Embedding
from gru_np.data import Batch, Dataset, epoch_order, order_by_length
from gru_np.layers import GlobalMaxPooling1D, Masking
from gru_np.layers.dropout import dropout_mask

ONE_THREAD = dict.fromkeys(
    ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "GRU_NP_NUM_THREADS"), "1"
)


def batches(r: dict, task: Any, model: Any) -> Iterator[Batch]:
    """Give the batches of one epoch after another, as `Sequential.fit` takes them."""
    window, epoch = r.get("window"), 0
    data = Dataset(*task.train, None, r["batch_size"], window)
    while True:
        order = None
        if r.get("shuffle") == "by_length":
            lengths = model.layers[0].compute_mask(task.train[0], None).sum(axis=1)
            order = order_by_length(lengths, r["batch_size"], model.seed, epoch)
        elif not window:
            order = epoch_order(len(task.train[0]), model.seed, epoch)
        yield from data.batches(order)
        epoch += 1


def trainer_of_ours(name: str, folder: Path, seed: int) -> Callable[[], tuple[float, float]]:
    """Give a function that takes a step and gives its loss and seconds."""
    r, task, model = prepare(name, folder, seed)
    todo, states = batches(r, task, model), None

    def step() -> tuple[float, float]:
        nonlocal states
        batch = next(todo)
        clock = time.perf_counter()
        model._reset_trackers()
        states = model._train_step(batch.x, batch.y, None, None if batch.fresh else states)
        if not r.get("window"):
            states = None
        return model._logs()["loss"], time.perf_counter() - clock

    return step


class Twin:
    """The same stack of layers made of PyTorch's modules, with copies of the first weights."""

    def __init__(self, torch: Any, model: Any):
        self.torch, self.model = torch, model
        self.modules: list[Any] = []
        size = model.input_shape[-1]
        for layer in model.layers:
            module = None
            if isinstance(layer, Embedding):
                module = torch.nn.Embedding(layer.input_dim, layer.output_dim)
                module.weight.data = torch.from_numpy(layer.params["W"].copy())
                size = layer.output_dim
            elif isinstance(layer, GRU | Bidirectional):
                both = isinstance(layer, Bidirectional)
                inner = layer.layer if both else layer
                module = torch.nn.GRU(size, inner.units, batch_first=True, bidirectional=both)
                for key, array in layer.params.items():
                    end = "_reverse" if key.startswith("backward/") else ""
                    which = key.split("/")[-1].replace("W_", "weight_").replace("b_", "bias_")
                    getattr(module, f"{which}_l0{end}").data = torch.from_numpy(array.copy())
                size = inner.units * (1 + both)
            elif isinstance(layer, Dense):
                module = torch.nn.Linear(size, layer.units)
                if layer.tied is None:
                    module.weight.data = torch.from_numpy(layer.params["W"].copy())
                else:
                    module.weight = self.modules[0].weight
                module.bias.data = torch.from_numpy(layer.params["b"].copy())
                size = layer.units
            self.modules.append(module)

    def parameters(self) -> list[Any]:
        """Give all parameters, each once."""
        found = [p for module in self.modules if module is not None for p in module.parameters()]
        return list(dict.fromkeys(found))

    def masks(self, shape: tuple[int, ...], step: int) -> list[Any]:
        """Draw the masks that ours draws in this step, in the order of the layers."""
        rng, drawn = np.random.default_rng([self.model.seed, 1, step]), []
        for layer in self.model.layers:
            if isinstance(layer, Dropout) and layer.rate:
                fixed = layer.noise_shape or (None,) * len(shape)
                which = tuple(n if f is None else f for n, f in zip(shape, fixed, strict=True))
                mask = dropout_mask(rng, which, layer.rate, np.float32)
                drawn.append(self.torch.from_numpy(mask))
            shape = layer.output_shape(shape)
        return drawn

    def __call__(self, x: Any, lengths: Any, masks: list[Any], states: list | None) -> Any:
        """Give the last pre-activation, and the states at the end."""
        rnn, masks, after = self.torch.nn.utils.rnn, list(masks), []
        for layer, module in zip(self.model.layers, self.modules, strict=True):
            if isinstance(layer, Dropout) and layer.rate:
                mask = masks.pop(0)
                x = x * mask[:, : x.shape[1]]
            elif isinstance(layer, Bidirectional):
                packed = rnn.pack_padded_sequence(x, lengths, True, enforce_sorted=False)
                # padding is never the largest
                x, _ = rnn.pad_packed_sequence(module(packed)[0], True, padding_value=-2.0)
            elif isinstance(layer, GlobalMaxPooling1D):
                x = x.max(dim=1).values
            elif isinstance(layer, GRU):
                # Behind the last real step nothing is read, so padding does no harm there.
                y, state = module(x, None if states is None else states[len(after)])
                after.append(state.detach())
                x = y if layer.return_sequences else state[0]
            elif module is not None:
                x = module(x)
        return x, after


def trainer_of_torch(name: str, folder: Path, seed: int) -> Callable[[], tuple[float, float]]:
    """Give the same function for PyTorch."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(1)
    r, task, model = prepare(name, folder, seed)
    twin = Twin(torch, model)
    parameters = twin.parameters()
    schedule = model.optimizer.learning_rate
    # weight_decay of ours is AdamW's; without it AdamW is Adam
    optimizer = torch.optim.AdamW(
        parameters, lr=schedule(0), weight_decay=model.optimizer.weight_decay or 0.0
    )
    todo, states, taken = batches(r, task, model), None, 0
    masking = [layer for layer in model.layers if isinstance(layer, Masking)]

    def loss_of(out: Any, y: Any, real: Any) -> Any:
        if task.loss == "mse":
            return functional.mse_loss(out, y)
        if task.loss == "sparse_categorical_crossentropy":
            return functional.cross_entropy(out.reshape(-1, out.shape[-1]), y.reshape(-1))
        each = functional.binary_cross_entropy_with_logits(out, y, reduction="none").mean(dim=-1)
        return (each * real).sum() / real.sum()

    def step() -> tuple[float, float]:
        nonlocal states, taken
        batch = next(todo)
        masks = twin.masks(batch.x.shape, taken)
        clock = time.perf_counter()
        x = torch.from_numpy(np.ascontiguousarray(batch.x))
        y = torch.from_numpy(np.ascontiguousarray(batch.y)).to(
            torch.float32 if batch.y.dtype.kind == "f" else torch.int64
        )
        lengths = real = None
        if masking:
            real = (x != masking[0].mask_value).any(dim=-1)
            longest = int(real.sum(dim=1).max())
            x, y, real = (t[:, :longest] for t in (x * real[..., None], y, real))
        elif batch.x.ndim == 2 and not r.get("window"):
            lengths = (x != 0).sum(dim=1)
        for group in optimizer.param_groups:
            group["lr"] = schedule(taken)
        optimizer.zero_grad()
        out, states = twin(x, lengths, masks, None if batch.fresh else states)
        loss = loss_of(out, y, real)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, model.optimizer.global_clipnorm)
        optimizer.step()
        taken += 1
        return loss.item(), time.perf_counter() - clock

    return step


TRAINERS = {"gru_np": trainer_of_ours, "torch": trainer_of_torch}


def compare(name: str, folder: Path, seed: int) -> dict[str, Any]:
    """Let both train in turns; give losses, times and their ratio."""
    r = recipe(name)
    turns, steps = r["control_turns"], r["control_steps"]
    command = [sys.executable, "-m", __name__, "--data", str(folder), "--seed", str(seed), name]
    workers = {
        who: subprocess.Popen(
            [*command, who], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | ONE_THREAD,
        )
        for who in TRAINERS
    }  # fmt: skip
    losses: dict[str, list[float]] = {who: [] for who in workers}
    seconds: dict[str, list[float]] = {who: [] for who in workers}
    for turn in range(turns + 1):
        for who, worker in workers.items():
            assert worker.stdin is not None and worker.stdout is not None
            worker.stdin.write(f"{steps}\n")
            worker.stdin.flush()
            answer = json.loads(worker.stdout.readline())
            losses[who] += answer["losses"]
            seconds[who] += [answer["seconds"]] * (turn > 0)  # the first one loads and warms up
    for worker in workers.values():
        worker.communicate()
    ours, theirs = (np.array(losses[who]) for who in TRAINERS)
    apart = np.abs(ours - theirs) / np.abs(theirs)
    ratio = statistics.median(t / o for o, t in zip(*seconds.values(), strict=True))
    result = {
        "steps": len(ours), "ratio": ratio, "turns": turns, "seconds": seconds,
        "apart_at_first": float(apart[:steps].max()), "apart": float(apart.max()),
        "apart_in_mean": float(abs(ours.mean() - theirs.mean()) / theirs.mean()),
        "losses": {who: [round(x, 7) for x in row] for who, row in losses.items()},
    }  # fmt: skip
    print(
        f"{r['title']}: {len(ours)} steps, torch takes {ratio:.2f} times as long; losses apart by "
        f"{result['apart_at_first']:.1e} in the first {steps} steps, {apart.max():.1e} at most"
    )
    return {"control": result}


def main() -> None:
    """Be one of the two workers: a number of steps a line comes in, losses and seconds go out."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("recipe")
    parser.add_argument("who", choices=list(TRAINERS))
    args = parser.parse_args()
    step = TRAINERS[args.who](args.recipe, args.data, args.seed)
    for line in sys.stdin:
        taken = [step() for _ in range(int(line))]
        losses, seconds = zip(*taken, strict=True)
        print(json.dumps({"losses": losses, "seconds": sum(seconds)}), flush=True)


if __name__ == "__main__":
    main()
