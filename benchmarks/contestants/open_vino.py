"""OpenVINO: GRUSequence on the CPU plugin, in float32, tuned for the latency of one request."""

from typing import Any, ClassVar

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from ..problems import Arrays, LanguageModel, Shape
from .base import Contestant, Task, blocks_zrn, layer_parameters, stepwise_generation


def gru_sequence(
    problem: Arrays, layer: int | None, x: Any, h0: Any, T: int, B: int, H: int
) -> Any:
    """Make the node over x (B, T, I) and h0 (B, 1, H); it wants the biases of r and z summed."""
    W_ih, W_hh, b_ih, b_hh = (blocks_zrn(w) for w in layer_parameters(problem, layer))
    zr = slice(0, 2 * H)
    bias = np.concatenate([b_ih[zr] + b_hh[zr], b_ih[2 * H :], b_hh[2 * H :]])
    constants = [ops.constant(np.ascontiguousarray(w[None])) for w in (W_ih, W_hh, bias)]
    lengths = ops.constant(np.full(B, T, np.int32))
    return ops.gru_sequence(x, h0, lengths, *constants, H, "FORWARD", linear_before_reset=True)


class OpenVino(Contestant):
    """Tensors share memory with NumPy arrays; an infer request is made once."""

    PRECISION: ClassVar[dict[str, str]] = {"INFERENCE_PRECISION_HINT": "f32"}
    SETTINGS: ClassVar[str] = (
        "`LATENCY`, one stream, `INFERENCE_PRECISION_HINT=f32`, tensors that share NumPy's memory"
    )
    TRIED: ClassVar[dict[str, dict[str, Any]]] = {
        "THROUGHPUT": {"PERFORMANCE_HINT": "THROUGHPUT"},
        "CPU pinning": {"ENABLE_CPU_PINNING": True},
    }

    def __init__(self, **config: Any) -> None:
        self.given = config

    def start(self, threads: int) -> None:
        """One stream of `threads`; no half precision where the processor would offer it."""
        self.core = ov.Core()
        self.config = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            **self.PRECISION,
            **self.given,
        }

    def _request(self, results: list[Any], parameters: list[Any], inputs: list[Any]) -> Any:
        compiled = self.core.compile_model(ov.Model(results, parameters, "gru"), "CPU", self.config)
        request = compiled.create_infer_request()
        for k, array in enumerate(inputs):
            request.set_input_tensor(k, ov.Tensor(array, shared_memory=True))
        return request

    def forward(self, shape: Shape, problem: Arrays) -> Task:
        """Batch-first, its only layout."""
        B, T, I, H = shape.B, shape.T, shape.I, shape.H  # noqa: E741
        x = np.ascontiguousarray(problem["x"].swapaxes(0, 1))
        h0 = np.ascontiguousarray(problem["h0"][:, None])
        x_, h0_ = ops.parameter([B, T, I]), ops.parameter([B, 1, H])
        node = gru_sequence(problem, None, x_, h0_, T, B, H)
        request = self._request([ops.result(node.output(0))], [x_, h0_], [x, h0])

        def run() -> Any:
            request.infer()
            return x, h0, request  # the request borrows both arrays: they must outlive it

        def answer() -> Arrays:
            return {"h": run()[-1].get_output_tensor(0).data[:, 0].swapaxes(0, 1).copy()}

        return Task(run, answer)

    def generation(self, model: LanguageModel, problem: Arrays) -> Task:
        """One request a character; ids and states are written into the request's own inputs."""
        H, layers = model.H, range(model.layers)
        ids = ops.parameter([1, 1], np.int32)
        states_ = [ops.parameter([1, 1, H]) for _ in layers]
        h = ops.gather(ops.constant(problem["embedding"]), ids, ops.constant(np.int32(0)))
        results = []
        for k in layers:
            node = gru_sequence(problem, k, h, states_[k], 1, 1, H)
            h = ops.squeeze(node.output(0), ops.constant(np.array([1])))
            results.append(ops.result(node.output(1)))
        product = ops.matmul(h, ops.constant(problem["W"]), False, True)
        logits = ops.add(product, ops.constant(problem["b"]))
        token = np.zeros((1, 1), np.int32)
        states = [np.zeros((1, 1, H), np.float32) for _ in layers]
        request = self._request([ops.result(logits), *results], [ids, *states_], [token, *states])
        row = request.get_output_tensor(0).data
        after = [request.get_output_tensor(k + 1).data for k in layers]

        def step(i: int, state: Any) -> tuple[Any, Any]:
            token[0, 0] = i
            for before, now in zip(states, after, strict=True):
                before[...] = 0 if state is None else now
            request.infer()
            return row[0, 0], after

        return stepwise_generation(step, model, problem)


class OwnPrecision(OpenVino):
    """The same in the precision that OpenVINO chooses by itself: bfloat16 where there is any."""

    PRECISION: ClassVar[dict[str, str]] = {}
    SETTINGS: ClassVar[str] = (
        "the same without `INFERENCE_PRECISION_HINT`; its error stands beside it"
    )
    TRIED: ClassVar[dict[str, dict[str, Any]]] = {}
