"""JAX: the equations under lax.scan, jitted.

Weights are kept as they are multiplied, W_ih.T (I, 3H) and W_hh.T (H, 3H), in one piece or an array
for each gate: XLA on a CPU would transpose or cut them anew at every step of the scan. Which way of
writing the loop is faster depends on the shape: those of `WAYS` are tried, and the fastest plays.
"""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..problems import BETA_1, BETA_2, EPSILON, LEARNING_RATE, Arrays, LanguageModel, Shape
from .base import (
    Contestant,
    Task,
    fastest,
    generation_task,
    gradients,
    layer_parameters,
    training_task,
)


class Way(NamedTuple):
    """How the loop is written."""

    apart: bool  # a product for each gate, or one for all three
    inside: bool  # inputs are projected in the loop, or for all steps before it
    unroll: int = 1  # steps of the scan that are compiled in a row


WAYS = {"a product a gate": Way(apart=True, inside=False), "all inside": Way(False, inside=True)}


def project(x: Any, W_T: Any, b: Any) -> list[Any]:
    """x W^T + b for the gates r, z, n."""
    if isinstance(W_T, tuple):
        return [x @ W + of_gate for W, of_gate in zip(W_T, b, strict=True)]
    return jnp.split(x @ W_T + b, 3, axis=-1)


def gru(x: Any, h0: Any, weights: Any, way: Way) -> Any:
    """All states (T, B, H) after x (T, B, I)."""
    W_ih_T, W_hh_T, b_ih, b_hh = weights
    inputs = x if way.inside else project(x, W_ih_T, b_ih)

    def step(h: Any, now: Any) -> Any:
        a_ir, a_iz, a_in = project(now, W_ih_T, b_ih) if way.inside else now
        a_hr, a_hz, a_hn = project(h, W_hh_T, b_hh)
        r = jax.nn.sigmoid(a_ir + a_hr)
        z = jax.nn.sigmoid(a_iz + a_hz)
        n = jnp.tanh(a_in + r * a_hn)
        h = (1 - z) * n + z * h
        return h, h

    return jax.lax.scan(step, h0, inputs, unroll=min(way.unroll, len(x)))[1]


def placed(value: Any, way: Way) -> Any:
    """Put a parameter of a GRU on the device, transposed, an array for each gate if apart."""
    if way.apart:
        return tuple(jnp.array(of_gate.T) for of_gate in np.split(value, 3))
    return jnp.array(value.T)


def joined(value: Any) -> Any:
    """Undo `placed`."""
    whole = np.concatenate(value, axis=-1) if isinstance(value, tuple) else np.asarray(value)
    return whole.T


def model_weights(problem: Arrays, way: Way) -> Any:
    """Put all parameters of a model on the device."""
    others = {k: jnp.array(problem[k]) for k in ("embedding", "b")}
    others["W"] = jnp.array(problem["W"].T)
    of_grus = problem.keys() - others.keys() - {"ids"}
    return others | {k: placed(problem[k], way) for k in of_grus}


def stack(p: Any, layers: int, ids: Any, states: Any, way: Way) -> tuple[Any, Any]:
    """Logits (T, B, V) and new states of the language model for ids (T, B)."""
    h, after = p["embedding"][ids], []
    for k in range(layers):
        weights = [p[name + str(k)] for name in ["W_ih", "W_hh", "b_ih", "b_hh"]]
        h = gru(h, states[k], weights, way)
        after.append(h[-1])
    return h @ p["W"] + p["b"], after


def zero_states(model: LanguageModel, B: int) -> Any:
    """One (B, H) a layer."""
    return [jnp.zeros((B, model.H), jnp.float32) for _ in range(model.layers)]


class JaxScan(Contestant):
    """jax.jit of jax.lax.scan."""

    SETTINGS: ClassVar[str] = (
        "jit of the whole; weights transposed before any timing; `lax.scan(unroll=1)` with a "
        "product for each gate and inputs projected before it, or all inside with one product, "
        "whichever is faster for the case; generation as a loop inside the compiled function"
    )
    TRIED: ClassVar[dict[str, dict[str, Any]]] = {
        "unroll=2": {"unroll": 2},
        "unroll=4": {"unroll": 4},
        "unroll=10": {"unroll": 10},
        "one product, inputs before": {"ways": {"": Way(apart=False, inside=False)}},
    }

    def __init__(self, unroll: int = 1, ways: dict[str, Way] = WAYS) -> None:
        self.unroll, self.ways = unroll, ways

    def _fastest(self, make: Callable[[Way], Task]) -> Task:
        """Prepare every way, choose, and prepare the chosen one anew: it may have been training."""
        ways = {name: way._replace(unroll=self.unroll) for name, way in self.ways.items()}
        chosen = fastest({name: make(way) for name, way in ways.items()}).way
        return make(ways[chosen])._replace(way=chosen)

    def forward(self, shape: Shape, problem: Arrays) -> Task:
        """Weights and inputs are on the device before."""
        return self._fastest(lambda way: self._forward(problem, way))

    def _forward(self, problem: Arrays, way: Way) -> Task:
        x, h0 = jnp.array(problem["x"]), jnp.array(problem["h0"])
        weights = tuple(placed(w, way) for w in layer_parameters(problem))
        compiled = jax.jit(gru, static_argnums=3).lower(x, h0, weights, way).compile()

        def run() -> Any:
            return compiled(x, h0, weights).block_until_ready()

        return Task(run, lambda: {"h": np.asarray(run())})

    def training(self, shape: Shape, problem: Arrays) -> Task:
        """One jitted function returns the states and the pulled-back cotangent."""
        return self._fastest(lambda way: self._training(problem, way))

    def _training(self, problem: Arrays, way: Way) -> Task:
        x, h0, dh = (jnp.array(problem[k]) for k in ["x", "h0", "dh"])
        weights = tuple(placed(w, way) for w in layer_parameters(problem))

        def both(x: Any, h0: Any, weights: Any, dh: Any) -> Any:
            h, pull_back = jax.vjp(lambda x, weights: gru(x, h0, weights, way), x, weights)
            return h, pull_back(dh)

        compiled = jax.jit(both).lower(x, h0, weights, dh).compile()

        def run() -> Any:
            return jax.block_until_ready(compiled(x, h0, weights, dh))

        def answer() -> Arrays:
            h, (dx, dweights) = run()
            return {"h": np.asarray(h)} | gradients(np.asarray(dx), *map(joined, dweights))

        return Task(run, answer)

    def language_model(self, model: LanguageModel, problem: Arrays) -> Task:
        """Jit the whole step, Adam included, as one function that reuses its buffers."""
        return self._fastest(lambda way: self._language_model(model, problem, way))

    def _language_model(self, model: LanguageModel, problem: Arrays, way: Way) -> Task:
        p = model_weights(problem, way)
        zero = jax.tree.map(jnp.zeros_like, p)
        kept: dict[str, Any] = {
            "p": p, "m": zero, "v": jax.tree.map(jnp.copy, zero), "step": jnp.zeros((), jnp.float32)
        }  # fmt: skip

        def loss_of(p: Any, x: Any, y: Any) -> Any:
            states = zero_states(model, model.B)
            logits, _ = stack(p, model.layers, x.T, states, way)
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
            whole = ("embedding", "b")
            return {k: np.asarray(v) if k in whole else joined(v) for k, v in kept["p"].items()}

        return training_task(step, parameters, problem)

    def generation(self, model: LanguageModel, problem: Arrays) -> Task:
        """All characters in one jitted scan: no rival's loop costs less, and none streams less."""
        return self._fastest(lambda way: self._generation(model, problem, way))

    def _generation(self, model: LanguageModel, problem: Arrays, way: Way) -> Task:
        p, start = model_weights(problem, way), zero_states(model, 1)

        def greedy(p: Any, states: Any) -> Any:
            def step(carry: Any, _: Any) -> Any:
                token, states = carry
                logits, states = stack(p, model.layers, token, states, way)
                token = logits.argmax(-1).astype(jnp.int32)
                return (token, states), token[0, 0]

            return jax.lax.scan(step, (jnp.zeros((1, 1), jnp.int32), states), length=model.T)[1]

        compiled = jax.jit(greedy).lower(p, start).compile()

        def forced(ids: list[int]) -> Any:
            return stack(p, model.layers, jnp.array(ids)[:, None], start, way)[0][:, 0]

        return generation_task(lambda: np.asarray(compiled(p, start)), forced, model, problem)
