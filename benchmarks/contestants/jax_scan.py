"""JAX: the equations under lax.scan, jitted; inputs projected for all steps at once.

Weights are kept as they are multiplied, W_ih.T (I, 3H) and W_hh.T (H, 3H): XLA on a CPU would
transpose W_hh anew at every step of the scan.
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ..problems import BETA_1, BETA_2, EPSILON, LEARNING_RATE, Arrays, LanguageModel, Shape
from .base import Contestant, Task, generation_task, gradients, layer_parameters, training_task


def gru(x: Any, h0: Any, weights: Any, unroll: int = 1) -> Any:
    """All states (T, B, H) after x (T, B, I)."""
    W_ih_T, W_hh_T, b_ih, b_hh = weights
    a_ih = x @ W_ih_T + b_ih

    def step(h: Any, a_ih: Any) -> Any:
        a_ir, a_iz, a_in = jnp.split(a_ih, 3, axis=-1)
        a_hr, a_hz, a_hn = jnp.split(h @ W_hh_T + b_hh, 3, axis=-1)
        r = jax.nn.sigmoid(a_ir + a_hr)
        z = jax.nn.sigmoid(a_iz + a_hz)
        n = jnp.tanh(a_in + r * a_hn)
        h = (1 - z) * n + z * h
        return h, h

    return jax.lax.scan(step, h0, a_ih, unroll=min(unroll, len(x)))[1]


def gru_weights(problem: Arrays) -> Any:
    """Put the four parameters on the device."""
    return tuple(jnp.array(w.T) for w in layer_parameters(problem))


def model_weights(problem: Arrays) -> Any:
    """Put all parameters of a model on the device; only the embedding stays as it is."""
    return {k: jnp.array(v if k == "embedding" else v.T) for k, v in problem.items() if k != "ids"}


def stack(p: Any, layers: int, ids: Any, states: Any, unroll: int = 1) -> tuple[Any, Any]:
    """Logits (T, B, V) and new states of the language model for ids (T, B)."""
    h, after = p["embedding"][ids], []
    for k in range(layers):
        weights = [p[name + str(k)] for name in ["W_ih", "W_hh", "b_ih", "b_hh"]]
        h = gru(h, states[k], weights, unroll)
        after.append(h[-1])
    return h @ p["W"] + p["b"], after


def zero_states(model: LanguageModel, B: int) -> Any:
    """One (B, H) a layer."""
    return [jnp.zeros((B, model.H), jnp.float32) for _ in range(model.layers)]


class JaxScan(Contestant):
    """jax.jit of jax.lax.scan."""

    SETTINGS: ClassVar[str] = (
        "jit of the whole; inputs projected before the scan; weights transposed before any timing; "
        "`lax.scan(unroll=1)`; generation as a loop inside the compiled function"
    )
    TRIED: ClassVar[dict[str, dict[str, Any]]] = {
        "unroll=2": {"unroll": 2},
        "unroll=4": {"unroll": 4},
        "unroll=10": {"unroll": 10},
    }

    def __init__(self, unroll: int = 1) -> None:
        self.unroll = unroll

    def forward(self, shape: Shape, problem: Arrays) -> Task:
        """Weights and inputs are on the device before."""
        x, h0, weights = jnp.array(problem["x"]), jnp.array(problem["h0"]), gru_weights(problem)
        compiled = jax.jit(gru, static_argnums=3).lower(x, h0, weights, self.unroll).compile()

        def run() -> Any:
            return compiled(x, h0, weights).block_until_ready()

        return Task(run, lambda: {"h": np.asarray(run())})

    def training(self, shape: Shape, problem: Arrays) -> Task:
        """One jitted function returns the states and the pulled-back cotangent."""
        x, h0, dh = (jnp.array(problem[k]) for k in ["x", "h0", "dh"])
        weights = gru_weights(problem)

        def both(x: Any, h0: Any, weights: Any, dh: Any) -> Any:
            h, pull_back = jax.vjp(lambda x, weights: gru(x, h0, weights, self.unroll), x, weights)
            return h, pull_back(dh)

        compiled = jax.jit(both).lower(x, h0, weights, dh).compile()

        def run() -> Any:
            return jax.block_until_ready(compiled(x, h0, weights, dh))

        def answer() -> Arrays:
            h, (dx, dweights) = run()
            return {"h": np.asarray(h)} | gradients(
                np.asarray(dx), *(np.asarray(d).T for d in dweights)
            )

        return Task(run, answer)

    def language_model(self, model: LanguageModel, problem: Arrays) -> Task:
        """Jit the whole step, Adam included, as one function that reuses its buffers."""
        p = model_weights(problem)
        zero = jax.tree.map(jnp.zeros_like, p)
        kept: dict[str, Any] = {
            "p": p, "m": zero, "v": jax.tree.map(jnp.copy, zero), "step": jnp.zeros((), jnp.float32)
        }  # fmt: skip

        def loss_of(p: Any, x: Any, y: Any) -> Any:
            states = zero_states(model, model.B)
            logits, _ = stack(p, model.layers, x.T, states, self.unroll)
            log_p = jax.nn.log_softmax(logits)
            return -jnp.take_along_axis(log_p, y.T[..., None], axis=-1).mean()

        def train(kept: Any, x: Any, y: Any) -> Any:
            loss, grads = jax.value_and_grad(loss_of)(kept["p"], x, y)
            step = kept["step"] + 1
            m = jax.tree.map(lambda m, g: BETA_1 * m + (1 - BETA_1) * g, kept["m"], grads)
            v = jax.tree.map(lambda v, g: BETA_2 * v + (1 - BETA_2) * g * g, kept["v"], grads)
            rate = LEARNING_RATE * jnp.sqrt(1 - BETA_2**step) / (1 - BETA_1**step)
            p = jax.tree.map(
                lambda p, m, v: p - rate * m / (jnp.sqrt(v) + EPSILON), kept["p"], m, v
            )
            return {"p": p, "m": m, "v": v, "step": step}, loss

        jitted = jax.jit(train, donate_argnums=0)

        def step(x: Any, y: Any) -> float:
            nonlocal kept
            kept, loss = jitted(kept, x, y)
            return float(loss)

        def parameters() -> Arrays:
            now = {k: np.asarray(v) for k, v in kept["p"].items()}
            return {k: v if k == "embedding" else v.T for k, v in now.items()}

        return training_task(step, parameters, problem)

    def generation(self, model: LanguageModel, problem: Arrays) -> Task:
        """All characters in one jitted scan: no rival's loop costs less, and none streams less."""
        p, start = model_weights(problem), zero_states(model, 1)

        def greedy(p: Any, states: Any) -> Any:
            def step(carry: Any, _: Any) -> Any:
                token, states = carry
                logits, states = stack(p, model.layers, token, states)
                token = logits.argmax(-1).astype(jnp.int32)
                return (token, states), token[0, 0]

            return jax.lax.scan(step, (jnp.zeros((1, 1), jnp.int32), states), length=model.T)[1]

        compiled = jax.jit(greedy).lower(p, start).compile()

        def forced(ids: list[int]) -> Any:
            return stack(p, model.layers, jnp.array(ids)[:, None], start)[0][:, 0]

        return generation_task(lambda: np.asarray(compiled(p, start)), forced, model, problem)
