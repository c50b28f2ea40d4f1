"""The twins of our series models in PyTorch: same weights, batches, dropout masks, optimiser.

Needs torch. Nothing random is left to it, so that losses part only as rounding grows.
"""

import copy
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from gru_np import Bidirectional, Dense, Sequential
from gru_np.data import epoch_order
from gru_np.layers import SegmentGRU
from gru_np.layers.dropout import dropout_mask

FIRST = 10  # steps whose running mean loss is kept

torch.set_num_threads(1)


class Stack(nn.Module):
    """A stack of GRUs and Dense layers (their linear part), with copies of a model's weights."""

    def __init__(self, model: Sequential):
        super().__init__()
        self.parts = nn.ModuleList()
        self.kinds: list[str] = []
        self.names: list[list[tuple[str, str]]] = []  # ours and torch's, for `write_back`
        size = model.input_shape[-1]
        for layer in model.layers:
            part: Any
            if isinstance(layer, Dense):
                part, names = nn.Linear(size, layer.units), [("W", "weight"), ("b", "bias")]
                kind, size = "dense", layer.units
            else:
                both = isinstance(layer, Bidirectional)
                gru: Any = layer.layer if both else layer
                part = nn.GRU(size, gru.units, batch_first=True, bidirectional=both)
                names = [(name, torch_name(name)) for name in layer.params]
                kind = "sequence" if gru.return_sequences else "both" if both else "last"
                size = gru.units * (1 + both)
            for ours, theirs in names:
                getattr(part, theirs).data[...] = torch.from_numpy(layer.params[ours])
            self.parts.append(part)
            self.kinds.append(kind)
            self.names.append(names)

    def forward(self, x: Any) -> Any:
        """Give the last part's output."""
        for part, kind in zip(self.parts, self.kinds, strict=True):
            if kind == "dense":
                x = part(x)
                continue
            x, state = part(x)
            if kind == "both":
                x = torch.cat([state[0], state[1]], dim=-1)
            elif kind == "last":
                x = state[-1]
        return x

    def write_back(self, model: Sequential) -> None:
        """Put the trained weights into a model of the same layers."""
        for layer, part, names in zip(model.layers, self.parts, self.names, strict=True):
            for ours, theirs in names:
                layer.params[ours][...] = getattr(part, theirs).detach().numpy()


def torch_name(name: str) -> str:
    """Give torch's name of a parameter of GRU, or of Bidirectional: forward/W_ih, ..."""
    end = "_reverse" if name.startswith("backward/") else ""
    name = name.split("/")[-1].replace("W_", "weight_").replace("b_", "bias_")
    return f"{name}_l0{end}"


class Segments(nn.Module):
    """SegmentGRU, with copies of its weights; it drops what ours drops."""

    rng: Any = None

    def __init__(self, layer: SegmentGRU):
        super().__init__()
        d, s = layer.units, layer.segment
        self.layer = layer
        self.gru = nn.GRU(d, d)
        self.enter, self.leave = nn.Linear(s, d), nn.Linear(d, s)
        self.position = nn.Parameter(torch.from_numpy(layer.params["position"].copy()))
        self.channel = nn.Parameter(torch.from_numpy(layer.params["channel"].copy()))
        for name, target in (
            ("W_in", self.enter.weight), ("b_in", self.enter.bias),
            ("W_out", self.leave.weight), ("b_out", self.leave.bias),
            ("W_ih", self.gru.weight_ih_l0), ("W_hh", self.gru.weight_hh_l0),
            ("b_ih", self.gru.bias_ih_l0), ("b_hh", self.gru.bias_hh_l0),
        ):  # fmt: skip
            target.data[...] = torch.from_numpy(layer.params[name])

    def forward(self, x: Any) -> Any:
        """(B, L, C) to (B, H, C)."""
        B, L, C = x.shape
        s, m = self.layer.segment, self.layer.horizon // self.layer.segment
        last = x[:, -1:]
        u = (x - last).permute(0, 2, 1).reshape(B * C, L // s, s).permute(1, 0, 2)
        _, h = self.gru(torch.relu(self.enter(u)))
        place = torch.cat(
            [self.position.repeat_interleave(C, 0), self.channel.repeat(m, 1)], dim=1
        ).reshape(m, 1, C, -1)
        inputs = place.expand(m, B, C, -1).reshape(1, m * B * C, -1)
        _, g = self.gru(inputs, h.repeat(1, m, 1))
        g = g[0]
        if self.training and self.layer.dropout:
            mask = dropout_mask(self.rng, tuple(g.shape), self.layer.dropout, np.float32)
            g = g * torch.from_numpy(mask)
        y = self.leave(g).reshape(m, B, C, s).permute(1, 0, 3, 2).reshape(B, m * s, C)
        return y + last


def train(
    net: Any, data: Any, held_out: Any, loss: Callable[..., Any], *,
    rate: Callable[[int], float], epochs: int, patience: int, batch_size: int, seed: int,
    clip: float | None, averaged: int = 1,
) -> dict[str, Any]:  # fmt: skip
    """Train as `Sequential.fit` does: same order, schedule, clipping, stopping; say how it went.

    data is x, y and weights; so is held_out, or None to take the last epoch. With `averaged` the
    weights become the mean of those after so many last epochs.
    """
    tensors = [torch.from_numpy(np.ascontiguousarray(a)) for a in data]
    held = [torch.from_numpy(np.ascontiguousarray(a)) for a in held_out or ()]
    optimizer = torch.optim.Adam(net.parameters(), lr=rate(0))
    group = optimizer.param_groups[0]
    best, best_epoch, kept, step = np.inf, 0, None, 0
    losses: list[float] = []
    val_losses: list[float] = []
    first: list[float] = []
    last: list[Any] = []
    began = time.perf_counter()
    for epoch in range(epochs):
        net.train()
        total, count = 0.0, 0
        order = torch.from_numpy(epoch_order(len(tensors[0]), seed, epoch))
        for rows in order.split(batch_size):
            net.rng = np.random.default_rng([seed, 1, step])
            # Keras' epsilon, which is ours, stands beside √v before its bias is corrected.
            group["lr"], group["eps"] = rate(step), 1e-7 / np.sqrt(1 - 0.999 ** (step + 1))
            optimizer.zero_grad()
            value = loss(net(tensors[0][rows]), *(t[rows] for t in tensors[1:]))
            value.backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(net.parameters(), clip)
            optimizer.step()
            total, count, step = total + value.item() * len(rows), count + len(rows), step + 1
            if len(first) < FIRST:
                first.append(total / count)
        losses.append(total / count)
        best_epoch = epoch
        if held:
            net.eval()
            with torch.no_grad():
                pieces = [t.split(batch_size) for t in held]
                found = sum(
                    loss(net(a), *rest).item() * len(a) for a, *rest in zip(*pieces, strict=True)
                )
            val_losses.append(found / len(held[0]))
            best_epoch = int(np.argmin(val_losses))
            if val_losses[-1] < best:
                best, kept = val_losses[-1], copy.deepcopy(net.state_dict())
        print(f"torch epoch {epoch + 1}: {losses[-1]:.5f} {val_losses[-1:]}", flush=True)
        if averaged > 1:
            last = [*last[1 - averaged :], copy.deepcopy(net.state_dict())]
        elif epoch - best_epoch >= patience:
            break
    if last:
        kept = {key: torch.stack([state[key] for state in last]).mean(dim=0) for key in last[0]}
        best_epoch = epoch
    if kept is not None:
        net.load_state_dict(kept)
    net.eval()
    return {
        "epoch": best_epoch + 1, "losses": losses, "val_losses": val_losses, "first_steps": first,
        "seconds": time.perf_counter() - began, "torch": torch.__version__.split("+")[0],
    }  # fmt: skip


def predict(net: Any, x: np.ndarray, batch_size: int = 256) -> np.ndarray:
    """Give the outputs of a trained net."""
    net.eval()
    with torch.no_grad():
        pieces = torch.from_numpy(np.ascontiguousarray(x)).split(batch_size)
        return np.concatenate([net(piece).numpy() for piece in pieces])


def pinball(levels: Any) -> Callable[..., Any]:
    """Give the pinball loss as gru_np.losses.Pinball has it."""
    q = torch.tensor(levels, dtype=torch.float32)

    def loss(out: Any, y: Any, weight: Any) -> Any:
        e = y[..., None] - out.reshape(*y.shape, len(levels))
        return (torch.maximum(q * e, (q - 1) * e).mean(dim=-1) * weight).mean()

    return loss


def squares(out: Any, y: Any, weight: Any) -> Any:
    """Mean squared error."""
    return ((out - y) ** 2).mean()


def cross_entropy(out: Any, labels: Any, weight: Any) -> Any:
    """Cross-entropy of labels."""
    return nn.functional.cross_entropy(out, labels)
