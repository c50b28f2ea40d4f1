"""Flax: linen's RNN over GRUCell, jitted, with optax' Adam.

linen keeps a bias on the recurrent side for n only. Those of r and z enter as a sum with the input
side's, so they are folded there, and the gradient of the sum is the gradient of both.
"""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from ..problems import BETA_1, BETA_2, EPSILON, LEARNING_RATE, Arrays, LanguageModel, Shape
from .base import Contestant, Task, gradients, layer_parameters, training_task

GATES = "rzn"


def cell_parameters(problem: Arrays, layer: int | None = None) -> dict[str, Any]:
    """Make the parameters of a GRUCell, kernels (in, out)."""
    W_ih, W_hh, b_ih, b_hh = (np.split(w, 3) for w in layer_parameters(problem, layer))
    cell = {}
    for k, gate in enumerate(GATES):
        folded = b_ih[k] if gate == "n" else b_ih[k] + b_hh[k]
        cell["i" + gate] = {"kernel": jnp.array(W_ih[k].T), "bias": jnp.array(folded)}
        cell["h" + gate] = {"kernel": jnp.array(W_hh[k].T)}
    cell["hn"]["bias"] = jnp.array(b_hh[2])
    return cell


def cell_gradients(cell: Any) -> tuple[Any, Any, Any, Any]:
    """Back to dW_ih, dW_hh, db_ih, db_hh."""
    db_ih = [cell["i" + g]["bias"] for g in GATES]
    db_hh = [*db_ih[:2], cell["hn"]["bias"]]
    dW_ih, dW_hh = ([cell[side + g]["kernel"].T for g in GATES] for side in "ih")
    dW_ih, dW_hh, db_ih, db_hh = (
        np.concatenate([np.asarray(a) for a in arrays]) for arrays in [dW_ih, dW_hh, db_ih, db_hh]
    )
    return dW_ih, dW_hh, db_ih, db_hh


class Model(nn.Module):
    """Embedding, GRU layers, Dense over (T, B) ids."""

    model: LanguageModel
    unroll: int = 1

    @nn.compact
    def __call__(self, ids: Any) -> Any:
        """Logits (T, B, V)."""
        h = nn.Embed(self.model.V, self.model.E, name="embedding")(ids)
        for k in range(self.model.layers):
            cell = nn.GRUCell(self.model.H, name=f"cell{k}")
            h = nn.RNN(cell, time_major=True, unroll=self.unroll)(h)
        return nn.Dense(self.model.V, name="dense")(h)


class FlaxLinen(Contestant):
    """flax.linen.RNN(GRUCell)."""

    SETTINGS: ClassVar[str] = "`linen.RNN(GRUCell)`, time-major, jitted as a whole; optax' Adam"
    TRIED: ClassVar[dict[str, dict[str, Any]]] = {
        "unroll=2": {"unroll": 2},
        "unroll=10": {"unroll": 10},
    }

    def __init__(self, unroll: int = 1) -> None:
        self.unroll = unroll

    def _apply(self, shape: Shape, problem: Arrays) -> tuple[Any, Any]:
        unroll = min(self.unroll, shape.T)
        layer = nn.RNN(nn.GRUCell(shape.H), time_major=True, unroll=unroll)

        def apply(x: Any, h0: Any, cell: Any) -> Any:
            return layer.apply({"params": {"cell": cell}}, x, initial_carry=h0)

        return apply, cell_parameters(problem)

    def forward(self, shape: Shape, problem: Arrays) -> Task:
        """Weights and inputs are on the device before."""
        apply, cell = self._apply(shape, problem)
        x, h0 = jnp.array(problem["x"]), jnp.array(problem["h0"])
        compiled = jax.jit(apply).lower(x, h0, cell).compile()

        def run() -> Any:
            return compiled(x, h0, cell).block_until_ready()

        return Task(run, lambda: {"h": np.asarray(run())})

    def training(self, shape: Shape, problem: Arrays) -> Task:
        """One jitted function returns the states and the pulled-back cotangent."""
        apply, cell = self._apply(shape, problem)
        x, h0, dh = (jnp.array(problem[k]) for k in ["x", "h0", "dh"])

        def both(x: Any, h0: Any, cell: Any, dh: Any) -> Any:
            h, pull_back = jax.vjp(lambda x, cell: apply(x, h0, cell), x, cell)
            return h, pull_back(dh)

        compiled = jax.jit(both).lower(x, h0, cell, dh).compile()

        def run() -> Any:
            return jax.block_until_ready(compiled(x, h0, cell, dh))

        def answer() -> Arrays:
            h, (dx, dcell) = run()
            return {"h": np.asarray(h)} | gradients(np.asarray(dx), *cell_gradients(dcell))

        return Task(run, answer)

    def language_model(self, model: LanguageModel, problem: Arrays) -> Task:
        """Jit the whole step as one function that reuses its buffers."""
        net = Model(model, min(self.unroll, model.T))
        params: Any = {
            "embedding": {"embedding": jnp.array(problem["embedding"])},
            "dense": {"kernel": jnp.array(problem["W"].T), "bias": jnp.array(problem["b"])},
        }
        params |= {f"cell{k}": cell_parameters(problem, k) for k in range(model.layers)}
        adam = optax.adam(LEARNING_RATE, BETA_1, BETA_2, EPSILON)
        state: Any = adam.init(params)

        def loss_of(params: Any, x: Any, y: Any) -> Any:
            logits = net.apply({"params": params}, x.T)
            return optax.softmax_cross_entropy_with_integer_labels(logits, y.T).mean()

        def train(params: Any, state: Any, x: Any, y: Any) -> Any:
            loss, grads = jax.value_and_grad(loss_of)(params, x, y)
            updates, state = adam.update(grads, state)
            return optax.apply_updates(params, updates), state, loss

        jitted = jax.jit(train, donate_argnums=(0, 1))

        def step(x: Any, y: Any) -> float:
            nonlocal params, state
            params, state, loss = jitted(params, state, x, y)
            return float(loss)

        def parameters() -> Arrays:
            out = {
                "embedding": np.asarray(params["embedding"]["embedding"]),
                "W": np.asarray(params["dense"]["kernel"]).T,
                "b": np.asarray(params["dense"]["bias"]),
            }
            for k in range(model.layers):
                W_ih, W_hh, b_ih, b_hh = cell_gradients(params[f"cell{k}"])
                # Only the sum of the r and z biases exists here: give back each side's own start.
                rz = slice(0, 2 * model.H)
                b_ih[rz] -= problem[f"b_hh{k}"][rz]
                b_hh[rz] -= problem[f"b_ih{k}"][rz]
                names = ["W_ih", "W_hh", "b_ih", "b_hh"]
                out |= dict(zip([n + str(k) for n in names], [W_ih, W_hh, b_ih, b_hh], strict=True))
            return out

        return training_task(step, parameters, problem)
