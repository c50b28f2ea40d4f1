"""gru_np itself: the public functions and Sequential; a second time with numba out of reach."""

import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..problems import BETA_1, BETA_2, EPSILON, LEARNING_RATE, Arrays, LanguageModel, Shape
from .base import (
    Contestant,
    Task,
    gradients,
    layer_parameters,
    stepwise_generation,
    training_task,
)


class Ours(Contestant):
    """What `import gru_np` gives: compiled kernels where they pay."""

    SETTINGS: ClassVar[str] = (
        "kernels loaded before any timing, as a service does; `Sequential.step` at T = 1 and in "
        "generation"
    )

    def start(self, threads: int) -> None:
        """Threads come from GRU_NP_NUM_THREADS, which the benchmark sets."""
        import gru_np
        from gru_np import kernels

        # As a service does when it starts; a script's first predictions would take NumPy.
        kernels.warmup(("float32",))
        self.gru_np = gru_np

    def forward(self, shape: Shape, problem: Arrays) -> Task:
        """gru_forward without a gradient to follow; for a single time step, Sequential.step."""
        gru_forward = self.gru_np.gru_forward
        x, h0, weights = problem["x"], problem["h0"], layer_parameters(problem)
        if shape.T == 1:
            net = self.gru_np.Sequential([self.gru_np.GRU(shape.H, return_sequences=True)])
            net.build((None, None, shape.I))
            net.set_weights(weights)
            state = [h0]
            return Task(
                lambda: net.step(x[0], state), lambda: {"h": net.step(x[0], state)[0][None]}
            )

        def run() -> Any:
            return gru_forward(x, h0, *weights, inference=True)[0]

        return Task(run, lambda: {"h": run()[1:]})

    def training(self, shape: Shape, problem: Arrays) -> Task:
        """gru_forward, then gru_backward."""
        gru_forward, gru_backward = self.gru_np.gru_forward, self.gru_np.gru_backward
        x, h0, weights = problem["x"], problem["h0"], layer_parameters(problem)
        dh = np.concatenate([np.zeros_like(problem["dh"][:1]), problem["dh"]])

        def run() -> Any:
            h, saved = gru_forward(x, h0, *weights)
            return h, gru_backward(dh, saved)

        def answer() -> Arrays:
            h, (dx, _, *dweights) = run()
            return {"h": h[1:]} | gradients(dx, *dweights)

        return Task(run, answer)

    def _model(self, model: LanguageModel, problem: Arrays) -> Any:
        from gru_np import layers

        grus = [layers.GRU(model.H, return_sequences=True) for _ in range(model.layers)]
        net = self.gru_np.Sequential(
            [layers.Embedding(model.V, model.E), *grus, layers.Dense(model.V, "softmax")]
        )
        net.build((None, model.T))
        weights = [problem["embedding"]]
        for k in range(model.layers):
            weights += layer_parameters(problem, k)
        net.set_weights([*weights, problem["W"], problem["b"]])
        return net

    def language_model(self, model: LanguageModel, problem: Arrays) -> Task:
        """Sequential.compile and train_on_batch."""
        net = self._model(model, problem)
        from gru_np.optimizers import Adam

        net.compile(
            loss="sparse_categorical_crossentropy",
            optimizer=Adam(LEARNING_RATE, beta_1=BETA_1, beta_2=BETA_2, epsilon=EPSILON),
        )

        def parameters() -> Arrays:
            embedding, *inner, W, b = net.get_weights()
            names = [
                name + str(k)
                for k in range(model.layers)
                for name in ["W_ih", "W_hh", "b_ih", "b_hh"]
            ]
            named = {"embedding": embedding, "W": W, "b": b}
            return named | dict(zip(names, inner, strict=True))

        return training_task(net.train_on_batch, parameters, problem)

    def generation(self, model: LanguageModel, problem: Arrays) -> Task:
        """Sequential.step: one call a character for the whole stack, as `generate` calls it."""
        net = self._model(model, problem)
        token = np.zeros(1, np.int64)

        def step(i: int, state: Any) -> tuple[Any, Any]:
            token[0] = i
            logits, state = net.step(token, state, logits=True)
            return logits[0], state

        return stepwise_generation(step, model, problem)

    def cold_start(self, model: LanguageModel, problem: Arrays, folder: Path) -> str:
        """One .safetensors file."""
        path = folder / "cold.safetensors"
        self._model(model, problem).save(path)
        return f"""
import numpy as np
from gru_np import Sequential
model = Sequential.load({str(path)!r})
ids = np.array([{problem["ids"][0, 0, : model.T].tolist()}])
print(int(model.predict(ids)[0, -1].argmax()))
"""


class OursNumPy(Ours):
    """The same where numba is not installed: every array operation is NumPy's."""

    SETTINGS: ClassVar[str] = "the same with numba out of reach; OpenBLAS with as many threads"

    def start(self, threads: int) -> None:
        """Make `import numba` fail, as it does without the package."""
        sys.modules["numba"] = None
        super().start(threads)

    def cold_start(self, model: LanguageModel, problem: Arrays, folder: Path) -> str:
        """Run the same program, numba blocked."""
        return "import sys\nsys.modules['numba'] = None\n" + super().cold_start(
            model, problem, folder
        )
