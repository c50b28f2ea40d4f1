"""ONNX Runtime: an ONNX GRU graph, inputs and outputs bound once so that no call copies them."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from ..problems import Arrays, LanguageModel, Shape
from .base import Contestant, Task, blocks_zrn, generation_task, layer_parameters

OPSET, IR_VERSION = 22, 10


def gru_node(problem: Arrays, H: int, layer: int | None, names: list[str]) -> tuple[Any, list[Any]]:
    """Make a GRU node, reset after the product, and its weights; names: x, initial h, Y, Y_h."""
    W_ih, W_hh, b_ih, b_hh = layer_parameters(problem, layer)
    suffix = "" if layer is None else str(layer)
    values = {
        "W" + suffix: blocks_zrn(W_ih)[None],
        "R" + suffix: blocks_zrn(W_hh)[None],
        "B" + suffix: np.concatenate([blocks_zrn(b_ih), blocks_zrn(b_hh)])[None],
    }
    x, h0, y, y_h = names
    node = helper.make_node(
        "GRU", [x, *values, "", h0], [y, y_h], hidden_size=H, linear_before_reset=1
    )
    return node, [numpy_helper.from_array(v, k) for k, v in values.items()]


def serialised(
    nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: list[Any]
) -> bytes:
    """Give the model as bytes."""
    graph = helper.make_graph(nodes, "gru", inputs, outputs, weights)
    opset = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION)
    return bytes(model.SerializeToString())


def language_model(model: LanguageModel, problem: Arrays) -> bytes:
    """Map ids (T, 1) and states h0.. (1, 1, H) to logits (T, V), the last argmax and new states."""
    info, FLOAT, INT = helper.make_tensor_value_info, TensorProto.FLOAT, TensorProto.INT64
    constants = {
        "embedding": problem["embedding"],
        "W": np.ascontiguousarray(problem["W"].T),
        "b": problem["b"],
        "rows": np.array([-1, model.H], np.int64),
        "last": np.array([-1], np.int64),
    }
    weights = [numpy_helper.from_array(v, k + "_") for k, v in constants.items()]
    nodes = [helper.make_node("Gather", ["embedding_", "ids"], ["x0"])]
    for k in range(model.layers):
        node, values = gru_node(problem, model.H, k, [f"x{k}", f"h{k}", f"y{k}", f"next_h{k}"])
        squeezed = helper.make_node("Squeeze", [f"y{k}", "one_"], [f"x{k + 1}"])
        nodes += [node, squeezed]
        weights += values
    weights.append(numpy_helper.from_array(np.array([1], np.int64), "one_"))
    nodes += [
        helper.make_node("Reshape", [f"x{model.layers}", "rows_"], ["flat"]),
        helper.make_node("Gemm", ["flat", "W_", "b_"], ["logits"]),
        helper.make_node("ArgMax", ["logits"], ["best"], axis=1),
        helper.make_node("Gather", ["best", "last_"], ["next"]),
    ]
    states = range(model.layers)
    inputs = [info("ids", INT, ["T", 1])]
    inputs += [info(f"h{k}", FLOAT, [1, 1, model.H]) for k in states]
    outputs = [info("logits", FLOAT, ["T", model.V]), info("next", INT, [1, 1])]
    outputs += [info(f"next_h{k}", FLOAT, [1, 1, model.H]) for k in states]
    return serialised(nodes, inputs, outputs, weights)


class OnnxRuntime(Contestant):
    """The CPU execution provider."""

    SETTINGS: ClassVar[str] = (
        "inputs and outputs bound once (`io_binding`); all graph optimisations and spinning, its "
        "defaults; generation picks the next id in the graph"
    )
    TRIED: ClassVar[dict[str, dict[str, Any]]] = {
        "no spinning": {"entries": {"session.intra_op.allow_spinning": "0"}},
        "no graph optimisation": {"optimised": False},
        "denormals as zero": {"entries": {"session.set_denormal_as_zero": "1"}},
    }

    def __init__(self, optimised: bool = True, entries: dict[str, str] | None = None) -> None:
        self.optimised, self.entries = optimised, entries or {}

    def start(self, threads: int) -> None:
        """Threads belong to the session."""
        self.options = ort.SessionOptions()
        for key, value in self.entries.items():
            self.options.add_session_config_entry(key, value)
        if not self.optimised:
            self.options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        self.options.intra_op_num_threads = threads
        self.options.inter_op_num_threads = 1
        self.options.log_severity_level = 3

    def _session(self, model: bytes) -> Any:
        return ort.InferenceSession(model, self.options, providers=["CPUExecutionProvider"])

    def forward(self, shape: Shape, problem: Arrays) -> Task:
        """Map x and h0 to Y (T, 1, B, H), all bound."""
        B, T, H = shape.B, shape.T, shape.H
        node, weights = gru_node(problem, H, None, ["x", "h0", "y", ""])
        info, FLOAT = helper.make_tensor_value_info, TensorProto.FLOAT
        inputs = [info("x", FLOAT, [T, B, shape.I]), info("h0", FLOAT, [1, B, H])]
        session = self._session(
            serialised([node], inputs, [info("y", FLOAT, [T, 1, B, H])], weights)
        )
        binding = session.io_binding()
        y = ort.OrtValue.ortvalue_from_numpy(np.zeros((T, 1, B, H), np.float32))
        x = ort.OrtValue.ortvalue_from_numpy(problem["x"])
        h0 = ort.OrtValue.ortvalue_from_numpy(problem["h0"][None])
        binding.bind_ortvalue_input("x", x)
        binding.bind_ortvalue_input("h0", h0)
        binding.bind_ortvalue_output("y", y)

        def run() -> Any:
            session.run_with_iobinding(binding)
            return y

        return Task(run, lambda: {"h": run().numpy()[:, 0]})

    def generation(self, model: LanguageModel, problem: Arrays) -> Task:
        """Let the graph pick the next id; two bindings pass id and states to and fro."""
        session = self._session(language_model(model, problem))
        zero = np.zeros((1, 1, model.H), np.float32)
        value = ort.OrtValue.ortvalue_from_numpy
        sides = [
            [value(np.zeros((1, 1), np.int64)), *(value(zero.copy()) for _ in range(model.layers))]
            for _ in range(2)
        ]
        logits = value(np.zeros((1, model.V), np.float32))
        bindings = []
        for before, after in [sides, sides[::-1]]:
            binding = session.io_binding()
            binding.bind_ortvalue_input("ids", before[0])
            binding.bind_ortvalue_output("next", after[0])
            binding.bind_ortvalue_output("logits", logits)
            for k in range(model.layers):
                binding.bind_ortvalue_input(f"h{k}", before[k + 1])
                binding.bind_ortvalue_output(f"next_h{k}", after[k + 1])
            bindings.append(binding)
        order = [(bindings[t % 2], sides[(t + 1) % 2][0]) for t in range(model.T)]

        def generate() -> list[int]:
            sides[0][0].update_inplace(np.zeros((1, 1), np.int64))
            for state in sides[0][1:]:
                state.update_inplace(zero)
            out = []
            for binding, token in order:
                session.run_with_iobinding(binding)
                out.append(int(token.numpy()[0, 0]))
            return out

        def forced(ids: list[int]) -> Any:
            states = {f"h{k}": zero for k in range(model.layers)}
            out = []
            for token in ids:
                feed = {"ids": np.array([[token]], np.int64), **states}
                row, _, *after = session.run(None, feed)
                states = dict(zip(states, after, strict=True))
                out.append(row[0])
            return np.array(out)

        return generation_task(generate, forced, model, problem)

    def cold_start(self, model: LanguageModel, problem: Arrays, folder: Path) -> str:
        """One .onnx file."""
        path = folder / "cold.onnx"
        path.write_bytes(language_model(model, problem))
        return f"""
import numpy as np, onnxruntime as ort
session = ort.InferenceSession({str(path)!r}, providers=["CPUExecutionProvider"])
feed = {{f"h{{k}}": np.zeros((1, 1, {model.H}), np.float32) for k in range({model.layers})}}
feed["ids"] = np.array({problem["ids"][0, 0, : model.T].tolist()})[:, None]
print(int(session.run(["next"], feed)[0][0, 0]))
"""
