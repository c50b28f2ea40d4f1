"""Keras 3 on a backend: its GRU layer, batch-first, compiled by what the backend compiles with."""

import os
from typing import Any, ClassVar

import keras
import numpy as np

from ..problems import BETA_1, BETA_2, EPSILON, LEARNING_RATE, Arrays, LanguageModel, Shape
from .base import (
    Contestant,
    Task,
    UnsupportedError,
    blocks_zrn,
    fastest,
    gradients,
    layer_parameters,
    training_task,
)


def to_keras(W_ih: Any, W_hh: Any, b_ih: Any, b_hh: Any) -> list[Any]:
    """Kernel (I, 3H), recurrent kernel (H, 3H), bias (2, 3H); gates z, r, h."""
    bias = np.stack([blocks_zrn(b_ih), blocks_zrn(b_hh)])
    return [blocks_zrn(W_ih).T, blocks_zrn(W_hh).T, bias]


def from_keras(kernel: Any, recurrent_kernel: Any, bias: Any) -> list[Any]:
    """W_ih, W_hh, b_ih, b_hh."""
    arrays = [np.asarray(kernel).T, np.asarray(recurrent_kernel).T, *np.asarray(bias)]
    return [blocks_zrn(a) for a in arrays]


class Keras(Contestant):
    """What does not depend on the backend."""

    SETTINGS: ClassVar[str] = "`layers.GRU`, compiled as a whole"
    TRIED: ClassVar[dict[str, dict[str, Any]]] = {
        "implementation=1": {"implementation": 1},
        "unroll": {"unroll": True},
    }

    def __init__(self, **layer: Any) -> None:
        self.of_layer = layer

    def _layer(self, shape: Shape, problem: Arrays) -> Any:
        layer = keras.layers.GRU(shape.H, return_sequences=True, **self.of_layer)
        layer.build((shape.B, shape.T, shape.I))
        layer.set_weights(to_keras(*layer_parameters(problem)))
        return layer

    def _batch_first(self, problem: Arrays, *names: str) -> list[Any]:
        return [np.ascontiguousarray(problem[name].swapaxes(0, 1)) for name in names]

    def language_model(self, model: LanguageModel, problem: Arrays) -> Task:
        """Model.compile and train_on_batch, as in every tutorial; jit_compile is left to Keras."""
        layers = keras.layers
        grus = [
            layers.GRU(model.H, return_sequences=True, **self.of_layer) for _ in range(model.layers)
        ]
        net = keras.Sequential([layers.Embedding(model.V, model.E), *grus, layers.Dense(model.V)])
        net.compile(
            keras.optimizers.Adam(LEARNING_RATE, BETA_1, BETA_2, EPSILON),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        net.build((model.B, model.T))
        weights = [problem["embedding"]]
        for k in range(model.layers):
            weights += to_keras(*layer_parameters(problem, k))
        net.set_weights([*weights, problem["W"].T, problem["b"]])

        def step(x: Any, y: Any) -> float:
            # Keras reports its running mean over batches: begin it anew.
            net.reset_metrics()
            return float(net.train_on_batch(x, y))

        def parameters() -> Arrays:
            embedding, *inner, W, b = net.get_weights()
            out = {"embedding": embedding, "W": W.T, "b": b}
            for k in range(model.layers):
                values = from_keras(*inner[3 * k : 3 * k + 3])
                for name, value in zip(["W_ih", "W_hh", "b_ih", "b_hh"], values, strict=True):
                    out[name + str(k)] = value
            return out

        return training_task(step, parameters, problem)

    def _training_answer(self, run: Any) -> Arrays:
        h, dx, dweights = run()
        return {"h": np.asarray(h).swapaxes(0, 1)} | gradients(
            np.asarray(dx).swapaxes(0, 1), *from_keras(*dweights)
        )


class KerasTensorFlow(Keras):
    """The layer in tf.function."""

    SETTINGS: ClassVar[str] = (
        "`tf.function` with a concrete function, with XLA or without, whichever is faster for the "
        "case; `train_on_batch` with `jit_compile` left to Keras"
    )

    def start(self, threads: int) -> None:
        """Set both of TensorFlow's pools."""
        import tensorflow as tf

        if os.environ.get("KERAS_BACKEND") != "tensorflow":
            raise UnsupportedError("KERAS_BACKEND is not tensorflow")
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)

    def forward(self, shape: Shape, problem: Arrays) -> Task:
        """Call the layer inside tf.function, with XLA or without."""
        import tensorflow as tf

        layer = self._layer(shape, problem)
        x, h0 = tf.constant(*self._batch_first(problem, "x")), tf.constant(problem["h0"])

        def prepared(xla: bool) -> Task:
            call = tf.function(
                lambda x, h0: layer(x, initial_state=h0), jit_compile=xla, autograph=False
            ).get_concrete_function(x, h0)

            def run() -> Any:
                return call(x, h0).numpy()

            return Task(run, lambda: {"h": run().swapaxes(0, 1)})

        return fastest({"XLA": prepared(True), "without XLA": prepared(False)})

    def training(self, shape: Shape, problem: Arrays) -> Task:
        """GradientTape inside tf.function, with XLA or without."""
        import tensorflow as tf

        layer = self._layer(shape, problem)
        x, dh = (tf.constant(a) for a in self._batch_first(problem, "x", "dh"))
        h0 = tf.constant(problem["h0"])

        def both(x: Any, h0: Any, dh: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(x)
                h = layer(x, initial_state=h0)
            variables = [v.value for v in layer.trainable_weights]
            return h, tape.gradient(h, [x, variables], output_gradients=dh)

        def prepared(xla: bool) -> Task:
            call = tf.function(both, jit_compile=xla, autograph=False)
            call = call.get_concrete_function(x, h0, dh)

            def run() -> Any:
                h, (dx, dweights) = call(x, h0, dh)
                return h.numpy(), dx, dweights

            return Task(run, lambda: self._training_answer(run))

        # XLA helps small shapes and harms large ones: take what is faster here.
        return fastest({"XLA": prepared(True), "without XLA": prepared(False)})


class KerasJax(Keras):
    """jax.jit of the stateless call."""

    SETTINGS: ClassVar[str] = "`jax.jit` of `stateless_call`; `train_on_batch` as Keras compiles it"

    def forward(self, shape: Shape, problem: Arrays) -> Task:
        """Weights and inputs are on the device before."""
        import jax

        layer = self._layer(shape, problem)
        x, h0 = jax.device_put((*self._batch_first(problem, "x"), problem["h0"]))
        weights = [v.value for v in layer.trainable_variables]
        rest = [v.value for v in layer.non_trainable_variables]

        def apply(weights: Any, x: Any, h0: Any) -> Any:
            return layer.stateless_call(weights, rest, x, initial_state=h0)[0]

        compiled = jax.jit(apply).lower(weights, x, h0).compile()

        def run() -> Any:
            return compiled(weights, x, h0).block_until_ready()

        return Task(run, lambda: {"h": np.asarray(run()).swapaxes(0, 1)})

    def training(self, shape: Shape, problem: Arrays) -> Task:
        """One jitted function returns the states and the pulled-back cotangent."""
        import jax

        layer = self._layer(shape, problem)
        x, dh, h0 = jax.device_put((*self._batch_first(problem, "x", "dh"), problem["h0"]))
        weights = [v.value for v in layer.trainable_variables]
        rest = [v.value for v in layer.non_trainable_variables]

        def both(weights: Any, x: Any, h0: Any, dh: Any) -> Any:
            def apply(x: Any, weights: Any) -> Any:
                return layer.stateless_call(weights, rest, x, initial_state=h0)[0]

            h, pull_back = jax.vjp(apply, x, weights)
            return h, *pull_back(dh)

        compiled = jax.jit(both).lower(weights, x, h0, dh).compile()

        def run() -> Any:
            return jax.block_until_ready(compiled(weights, x, h0, dh))

        return Task(run, lambda: self._training_answer(run))
