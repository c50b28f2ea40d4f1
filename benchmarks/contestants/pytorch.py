"""PyTorch: torch.nn.GRU, eager and through torch.compile; time-major, its own default.

For one step at a time torch has a GRUCell, too: each is tried, and the faster one plays.
"""

from pathlib import Path
from typing import Any, ClassVar

import torch

from ..problems import BETA_1, BETA_2, EPSILON, LEARNING_RATE, Arrays, LanguageModel, Shape
from .base import (
    Contestant,
    Task,
    fastest,
    gradients,
    layer_parameters,
    stepwise_generation,
    training_task,
)

NAMES = ["weight_ih_l", "weight_hh_l", "bias_ih_l", "bias_hh_l"]


class Model(torch.nn.Module):
    """Embedding, GRU layers, Linear: a language model over (T, B) ids."""

    def __init__(self, V: int, E: int, H: int, layers: int) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(V, E)
        self.gru = torch.nn.GRU(E, H, layers)
        self.dense = torch.nn.Linear(H, V)

    def forward(self, ids: Any, state: Any = None) -> Any:
        """Logits (T, B, V) and the state."""
        h, state = self.gru(self.embedding(ids), state)
        return self.dense(h), state

    def named(self, problem: Arrays) -> dict[str, Any]:
        """Our parameters by this model's names."""
        state = {"embedding.weight": problem["embedding"]}
        for k in range(self.gru.num_layers):
            for name, value in zip(NAMES, layer_parameters(problem, k), strict=True):
                state[f"gru.{name}{k}"] = value
        return state | {"dense.weight": problem["W"], "dense.bias": problem["b"]}


class Cells(torch.nn.Module):
    """The same model for one step of a batch of one, of GRUCells."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.embedding, self.dense = model.embedding, model.dense
        self.cells = torch.nn.ModuleList(
            cell_from(*(getattr(model.gru, f"{name}{k}") for name in NAMES))
            for k in range(model.gru.num_layers)
        )

    def forward(self, ids: Any, states: Any = None) -> Any:
        """Logits (1, 1, V) and the states, one a layer, for ids (1, 1)."""
        h, after = self.embedding(ids)[0], []
        for k, cell in enumerate(self.cells):
            h = cell(h, None if states is None else states[k])
            after.append(h)
        return self.dense(h)[None], after


def cell_from(W_ih: Any, W_hh: Any, b_ih: Any, b_hh: Any) -> torch.nn.GRUCell:
    """Make a cell of these parameters."""
    cell = torch.nn.GRUCell(W_ih.shape[1], W_hh.shape[1])
    values = zip((name[:-2] for name in NAMES), (W_ih, W_hh, b_ih, b_hh), strict=True)
    cell.load_state_dict(dict(values))
    return cell


def tensors(arrays: dict[str, Any]) -> dict[str, Any]:
    """Copy into tensors: training changes parameters in place."""
    return {k: torch.tensor(v) for k, v in arrays.items()}


def model_from(model: LanguageModel, problem: Arrays) -> Model:
    """Make the model with the problem's parameters."""
    net = Model(model.V, model.E, model.H, model.layers)
    net.load_state_dict(tensors(net.named(problem)))
    return net


class Eager(Contestant):
    """torch.nn.GRU as it comes."""

    SETTINGS: ClassVar[str] = (
        "`nn.GRU`, time-major, in `inference_mode`; at T = 1 and in generation `nn.GRUCell` "
        "where it is faster (tried before each case); `Adam(fused=True)`"
    )
    TRIED: ClassVar[dict[str, dict[str, Any]]] = {
        "nn.GRU at T = 1": {"cells": False},
        "oneDNN off": {"onednn": False},
        "no_grad": {"no_grad": True},
    }

    def __init__(self, cells: bool = True, onednn: bool = True, no_grad: bool = False) -> None:
        self.cells, self.onednn = cells, onednn
        self.without_gradient = torch.no_grad if no_grad else torch.inference_mode

    def start(self, threads: int) -> None:
        """Set both of torch's thread pools."""
        torch.set_num_threads(threads)
        torch.set_num_interop_threads(1)
        torch.backends.mkldnn.flags(enabled=self.onednn).__enter__()

    def wrap(self, module: Any) -> Any:
        """Leave the module as it is; torch.compile replaces it."""
        return module

    def _gru(self, shape: Shape, problem: Arrays) -> torch.nn.GRU:
        gru = torch.nn.GRU(shape.I, shape.H)
        values = zip(NAMES, layer_parameters(problem), strict=True)
        gru.load_state_dict(tensors({name + "0": value for name, value in values}))
        return gru

    def forward(self, shape: Shape, problem: Arrays) -> Task:
        """Run in inference_mode, which records nothing for a gradient."""
        gru = self.wrap(self._gru(shape, problem))
        x, h0 = torch.tensor(problem["x"]), torch.tensor(problem["h0"])[None]

        def whole() -> Any:
            with self.without_gradient():
                return gru(x, h0)[0]

        def states(run: Any) -> Task:
            return Task(run, lambda: {"h": run().detach().numpy().reshape(len(x), -1, shape.H)})

        ways = {"nn.GRU": states(whole)}
        if shape.T == 1 and self.cells:
            one, h = x[0], h0[0]
            cell = self.wrap(cell_from(*map(torch.tensor, layer_parameters(problem))))

            def step() -> Any:
                with self.without_gradient():
                    return cell(one, h)

            ways["nn.GRUCell"] = states(step)
        return fastest(ways) if len(ways) > 1 else ways["nn.GRU"]

    def training(self, shape: Shape, problem: Arrays) -> Task:
        """torch.autograd.grad by x and the four parameters."""
        layer = self._gru(shape, problem)
        gru = self.wrap(layer)
        x, h0 = torch.tensor(problem["x"], requires_grad=True), torch.tensor(problem["h0"])[None]
        dh = torch.tensor(problem["dh"])
        wanted = [x, *(getattr(layer, name + "0") for name in NAMES)]

        def run() -> Any:
            h = gru(x, h0)[0]
            return h, torch.autograd.grad(h, wanted, dh)

        def answer() -> Arrays:
            h, grads = run()
            return {"h": h.detach().numpy()} | gradients(*(g.numpy() for g in grads))

        return Task(run, answer)

    def language_model(self, model: LanguageModel, problem: Arrays) -> Task:
        """Train as everyone does, with the fused Adam."""
        net = model_from(model, problem)
        called = self.wrap(net)
        adam = torch.optim.Adam(
            net.parameters(), LEARNING_RATE, (BETA_1, BETA_2), EPSILON, fused=True
        )

        def step(x: Any, y: Any) -> float:
            inputs = torch.from_numpy(x).T.long()
            targets = torch.from_numpy(y).T.reshape(-1).long()
            adam.zero_grad(set_to_none=True)
            logits, _ = called(inputs)
            loss = torch.nn.functional.cross_entropy(logits.reshape(-1, model.V), targets)
            loss.backward()
            adam.step()
            return float(loss.item())

        def parameters() -> Arrays:
            state = net.state_dict()
            ours = net.named({k: k for k in problem})
            return {ours[k]: v.numpy() for k, v in state.items()}

        return training_task(step, parameters, problem)

    def generation(self, model: LanguageModel, problem: Arrays) -> Task:
        """One call of the model a character, state handed back."""
        net = model_from(model, problem).eval()
        nets = {"nn.GRU": net, "nn.GRUCell": Cells(net)} if self.cells else {"nn.GRU": net}
        return fastest(
            {way: self._steps(self.wrap(one), model, problem) for way, one in nets.items()}
        )

    def _steps(self, net: Any, model: LanguageModel, problem: Arrays) -> Task:
        def step(token: int, state: Any) -> tuple[Any, Any]:
            with self.without_gradient():
                logits, state = net(torch.tensor([[token]]), state)
            return logits.detach().numpy()[0, 0], state

        return stepwise_generation(step, model, problem)

    def cold_start(self, model: LanguageModel, problem: Arrays, folder: Path) -> str:
        """Save a state dict in torch's own file."""
        path = folder / "cold.pt"
        torch.save(model_from(model, problem).state_dict(), path)
        V, E, H, layers = model.V, model.E, model.H, model.layers
        return f"""
import torch
class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding({V}, {E})
        self.gru = torch.nn.GRU({E}, {H}, {layers})
        self.dense = torch.nn.Linear({H}, {V})
    def forward(self, ids):
        return self.dense(self.gru(self.embedding(ids))[0])
model = Model()
model.load_state_dict(torch.load({str(path)!r}, weights_only=True))
ids = torch.tensor({problem["ids"][0, 0, : model.T].tolist()})[:, None]
with torch.inference_mode():
    print(int(model(ids)[-1, 0].argmax()))
"""


class Compiled(Eager):
    """The same through torch.compile, recurrences included (it leaves them out by default)."""

    SETTINGS: ClassVar[str] = (
        "`torch.compile(dynamic=False)` of the same, with `allow_rnn`: time is unrolled; 30 s to "
        "compile a case, then no longer ones"
    )
    TRIED: ClassVar[dict[str, dict[str, Any]]] = {"nn.GRU at T = 1": {"cells": False}}

    def start(self, threads: int) -> None:
        """Let the compiler unroll the time loop; otherwise this is eager under another name."""
        super().start(threads)
        import torch._dynamo

        torch._dynamo.config.allow_rnn = True

    def wrap(self, module: Any) -> Any:
        """Compile for these very shapes."""
        return torch.compile(module, dynamic=False)

    def cold_start(self, model: LanguageModel, problem: Arrays, folder: Path) -> str:
        """Nobody compiles for one prediction."""
        return Contestant.cold_start(self, model, problem, folder)
