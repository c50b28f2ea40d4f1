"""PyTorch: torch.nn.GRU, eager and through torch.compile; time-major, its own default."""

from pathlib import Path
from typing import Any

import torch

from ..problems import BETA_1, BETA_2, EPSILON, LEARNING_RATE, Arrays, LanguageModel, Shape
from .base import (
    Contestant,
    Task,
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

    def start(self, threads: int) -> None:
        """Set both of torch's thread pools."""
        torch.set_num_threads(threads)
        torch.set_num_interop_threads(1)

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

        def run() -> Any:
            with torch.inference_mode():
                return gru(x, h0)[0]

        return Task(run, lambda: {"h": run().numpy()})

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
        net = self.wrap(model_from(model, problem).eval())

        def step(token: int, state: Any) -> tuple[Any, Any]:
            with torch.inference_mode():
                logits, state = net(torch.tensor([[token]]), state)
            return logits.numpy()[0, 0], state

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
