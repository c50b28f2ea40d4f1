"""An executor of ONNX graphs made of the GRU operator and of what stands around it in models.

The GRU operator is complete: three directions, both forms, sequence lengths, initial state, clip,
every activation with its alpha and beta, both layouts. A padded step is never read, and the output
there is zero. Notation: T time, B batch, I input, H hidden, D directions (1 or 2).
"""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gru_np import equations, kernels
from gru_np._aliases import Array
from gru_np._checks import spell
from gru_np._files import read_input
from gru_np._intake import as_array
from gru_np.interop.common import ConversionError, require_package
from gru_np.interop.layouts import from_onnx_arrays
from gru_np.layers.dense import softmax

_MAX_BYTES = 2**31  # of a file; protobuf allows no more
# What the arrays of a graph may take: this many bytes, or more in proportion to the file and to
# what its caller feeds it. A few bytes of a hostile file can ask for terabytes.
_LEAST_ROOM, _ROOM_OF_FILE, _ROOM_OF_INPUT = 2**28, 4, 128

# ------------------------------------------------------------------------------- activations
# name: (function of a, alpha, beta; their defaults). What takes an alpha or a beta takes them, in
# order, from the lists activation_alpha and activation_beta.
ACTIVATIONS: dict[str, tuple[Callable[..., Any], dict[str, float]]] = {
    "sigmoid": (equations.sigmoid, {}),
    "tanh": (equations.tanh, {}),
    "relu": (equations.relu, {}),
    "affine": (lambda a, alpha, beta: alpha * a + beta, {"alpha": 1.0, "beta": 0.0}),
    "leakyrelu": (lambda a, alpha: np.where(a >= 0, a, alpha * a), {"alpha": 0.01}),
    "thresholdedrelu": (lambda a, alpha: np.where(a > alpha, a, 0 * a), {"alpha": 1.0}),
    "scaledtanh": (lambda a, alpha, beta: alpha * np.tanh(beta * a), {"alpha": 1.0, "beta": 1.0}),
    "hardsigmoid": (
        lambda a, alpha, beta: np.clip(alpha * a + beta, 0, 1),
        {"alpha": 0.2, "beta": 0.5},
    ),
    # expm1 of the negative part alone: exp overflows where the other branch is taken
    "elu": (
        lambda a, alpha: np.where(a >= 0, a, alpha * np.expm1(np.minimum(a, 0))),
        {"alpha": 1.0},
    ),
    "softsign": (lambda a: a / (1 + np.abs(a)), {}),
    "softplus": (lambda a: np.logaddexp(a, 0 * a), {}),
}


def activations(attributes: Mapping[str, Any], D: int) -> list[tuple[str, dict[str, float]]]:
    """Give name and settings of f and g for each direction, from a GRU node's attributes."""
    names = [text.lower() for text in attributes.get("activations") or ["Sigmoid", "Tanh"] * D]
    if len(names) != 2 * D:
        raise ConversionError(
            f"onnx: GRU needs {2 * D} activations for {D} directions, got {len(names)}"
        )
    given = {key: list(attributes.get(f"activation_{key}") or ()) for key in ("alpha", "beta")}
    chosen = []
    for name in names:
        if name not in ACTIVATIONS:
            raise ConversionError(f"onnx: GRU has an unknown activation {name!r}")
        defaults = ACTIVATIONS[name][1]
        chosen.append((name, {k: given[k].pop(0) if given[k] else v for k, v in defaults.items()}))
    return chosen


def _function(name: str, settings: dict[str, float], clip: float | None) -> Callable[[Any], Any]:
    f, _ = ACTIVATIONS[name]
    if clip is None:
        return lambda a: f(a, **settings)
    return lambda a: f(np.clip(a, -clip, clip), **settings)


# --------------------------------------------------------------------------------------- GRU


def gru(attributes: Mapping[str, Any], inputs: Sequence[Array | None]) -> tuple[Array, Array]:
    """Compute Y (T, D, B, H) and Y_h (D, B, H); with layout 1, (B, T, D, H) and (B, D, H)."""
    X, W, R, B, lengths, initial_h = [*inputs, *[None] * 6][:6]
    assert X is not None and W is not None and R is not None
    direction = attributes.get("direction", "forward")
    ways = {"forward": ["forward"], "reverse": ["reverse"], "bidirectional": ["forward", "reverse"]}
    if direction not in ways:
        raise ConversionError(f"onnx: GRU has an unknown direction {direction!r}")
    D, batch_first = len(ways[direction]), bool(attributes.get("layout", 0))
    if batch_first:
        X = X.swapaxes(0, 1)
        initial_h = None if initial_h is None else initial_h.swapaxes(0, 1)
    T, rows, _ = X.shape
    valid = None
    if lengths is not None:
        if lengths.shape != (rows,) or (lengths < 0).any() or (lengths > T).any():
            raise ValueError(f"onnx_run: sequence_lens must be {rows} numbers in 0..{T}")
        valid = np.arange(T)[:, None] < lengths  # (T, B)
    chosen = activations(attributes, D)
    Y, Y_h = [], []
    for d, way in enumerate(ways[direction]):
        params = from_onnx_arrays(W[d], R[d], None if B is None else B[d])
        turn = slice(None, None, -1 if way == "reverse" else 1)
        # Read backwards, a short row begins with its padding, and a padded step copies the state.
        h = _run(
            X[turn],
            None if initial_h is None else initial_h[d],
            params,
            bool(attributes.get("linear_before_reset", 0)),
            None if valid is None else valid[turn],
            chosen[2 * d],
            chosen[2 * d + 1],
            attributes.get("clip"),
        )
        y = h[1:][turn]
        Y.append(y if valid is None else np.where(valid[:, :, None], y, 0))
        Y_h.append(h[-1])
    y, y_h = np.stack(Y, axis=1), np.stack(Y_h)
    return (y.transpose(2, 0, 1, 3), y_h.swapaxes(0, 1)) if batch_first else (y, y_h)


def _run(
    x: Array,
    h0: Array | None,
    params: dict[str, Array],
    reset_after: bool,
    valid: Array | None,
    f: tuple[str, dict[str, float]],
    g: tuple[str, dict[str, float]],
    clip: float | None,
) -> Array:
    """Give all states (T + 1, B, H) of one direction."""
    W_ih, W_hh, b_ih, b_hh = params["W_ih"], params["W_hh"], params.get("b_ih"), params.get("b_hh")
    plain = not f[1] and not g[1] and {f[0], g[0]} <= {"sigmoid", "tanh", "relu"}
    if plain and clip is None:
        return kernels.gru_forward(
            x, h0, W_ih, W_hh, b_ih, b_hh, reset_after, mask=valid,
            activation=g[0], recurrent_activation=f[0], inference=True,
        )[0]  # fmt: skip
    sigma, phi = _function(*f, clip), _function(*g, clip)
    T, B, _ = x.shape
    H = W_hh.shape[1]
    zero = np.zeros(3 * H, x.dtype)
    b_ih, b_hh = (zero if b is None else b for b in (b_ih, b_hh))
    x = x if valid is None else np.where(valid[:, :, None], x, 0)
    a_ih = x @ W_ih.T + b_ih  # (T, B, 3H)
    h = np.zeros((T + 1, B, H), x.dtype)
    h[0] = 0 if h0 is None else h0
    for t in range(T):
        a_ir, a_iz, a_in = np.split(a_ih[t], 3, axis=-1)
        a_hr, a_hz, a_hn = np.split(h[t] @ W_hh.T + b_hh, 3, axis=-1)
        if reset_after:
            h_next, *_ = equations.gru_step(a_ir, a_iz, a_in, a_hr, a_hz, a_hn, h[t], sigma, phi)
        else:
            _, z, rh = equations.gru_gates(a_ir, a_iz, a_hr, a_hz, h[t], sigma)
            a_hn = rh @ W_hh[2 * H :].T + b_hh[2 * H :]
            h_next, _ = equations.gru_candidate(a_in, a_hn, z, h[t], phi)
        h[t + 1] = h_next if valid is None else np.where(valid[t, :, None], h_next, h[t])
    return h


# ----------------------------------------------------------------------------- the other operators


def _axes(attributes: Mapping[str, Any], inputs: Sequence[Any]) -> tuple[int, ...] | None:
    """Give the axes, an input since opset 13 and an attribute before."""
    axes = inputs[1] if len(inputs) > 1 and inputs[1] is not None else attributes.get("axes")
    return None if axes is None else tuple(int(axis) for axis in np.ravel(axes))


def _squeeze(a: Mapping[str, Any], x: Sequence[Any]) -> Array:
    return np.squeeze(x[0], _axes(a, x))


def _unsqueeze(a: Mapping[str, Any], x: Sequence[Any]) -> Array:
    axes = _axes(a, x)
    assert axes is not None
    return np.expand_dims(x[0], axes)


def _reshape(a: Mapping[str, Any], x: Sequence[Any]) -> Array:
    shape = [
        x[0].shape[i] if size == 0 and not a.get("allowzero", 0) else int(size)
        for i, size in enumerate(x[1])
    ]
    return x[0].reshape(shape)


def _slice(a: Mapping[str, Any], x: Sequence[Any]) -> Array:
    if len(x) == 1:  # before opset 10
        x = [x[0], a["starts"], a["ends"], a.get("axes")]
    starts, ends, axes, steps = [*x[1:], None, None][:4]
    axes = range(len(starts)) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    index = [slice(None)] * x[0].ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = x[0].shape[int(axis)]
        # Beyond the array, ends are cut to it; going down, "before the first" is None in Python.
        stop: int | None = int(np.clip(end, -size - 1, size))
        stop = None if step < 0 and stop == -size - 1 else stop
        index[int(axis)] = slice(int(np.clip(start, -size - 1, size)), stop, int(step))
    return x[0][tuple(index)]


def _gemm(a: Mapping[str, Any], x: Sequence[Any]) -> Array:
    A = x[0].T if a.get("transA", 0) else x[0]
    B = x[1].T if a.get("transB", 0) else x[1]
    y = a.get("alpha", 1.0) * (A @ B)
    return y if len(x) < 3 or x[2] is None else y + a.get("beta", 1.0) * x[2]


def _norm(a: Mapping[str, Any], x: Sequence[Any]) -> Array:
    if a.get("axis", -1) not in (-1, x[0].ndim - 1):
        raise ConversionError("onnx: LayerNormalization must be over the last axis")
    centred = x[0] - x[0].mean(axis=-1, keepdims=True)
    variance = (centred * centred).mean(axis=-1, keepdims=True)
    y = centred / np.sqrt(variance + x[0].dtype.type(a.get("epsilon", 1e-5))) * x[1]
    return y if len(x) < 3 or x[2] is None else y + x[2]


def _softmax(a: Mapping[str, Any], x: Sequence[Any]) -> Array:
    if a.get("axis", -1 if a["opset"] >= 13 else 1) not in (-1, x[0].ndim - 1):
        raise ConversionError("onnx: Softmax must be over the last axis")
    return softmax(x[0])


def _expand(a: Mapping[str, Any], x: Sequence[Any]) -> Array:
    return np.broadcast_to(x[0], np.broadcast_shapes(x[0].shape, tuple(map(int, x[1]))))


def _cast(a: Mapping[str, Any], x: Sequence[Any]) -> Array:
    import onnx

    return x[0].astype(onnx.helper.tensor_dtype_to_np_dtype(a["to"]))


def _constant_of_shape(a: Mapping[str, Any], x: Sequence[Any]) -> Array:
    value = a.get("value", np.zeros(1, np.float32))
    return np.full(tuple(map(int, x[0])), value.reshape(-1)[0], value.dtype)


def _numbers_to_come(kind: str, a: Mapping[str, Any], x: Sequence[Any]) -> int:
    """Count the numbers in the result of an operator that can make more of them than it is fed."""
    shapes = [np.shape(one) for one in x if one is not None]
    sizes = [math.prod(shape) for shape in shapes]
    if kind in ("Add", "Sub", "Mul", "Equal"):
        return math.prod(np.broadcast_shapes(*shapes))
    if kind in ("MatMul", "Gemm", "GRU"):  # (..., k) by (k, ...)
        k = shapes[0][0 if a.get("transA", 0) else -1]
        return sizes[0] * sizes[1] // max(1, k * k)
    if kind == "Gather":
        return sizes[0] * sizes[1] // max(1, shapes[0][a.get("axis", 0)])
    if kind in ("Expand", "ConstantOfShape"):
        return math.prod(int(size) for size in x[-1]) * (sizes[0] if kind == "Expand" else 1)
    return sum(sizes)


def _constant(a: Mapping[str, Any], x: Sequence[Any]) -> Array:
    for key in ("value", "value_int", "value_float", "value_ints", "value_floats"):
        if key in a:
            dtype = {"value_float": np.float32, "value_floats": np.float32}.get(key)
            return np.asarray(a[key], dtype)
    raise ConversionError("onnx: Constant holds neither numbers nor a tensor")


def _dropout(a: Mapping[str, Any], x: Sequence[Any]) -> Array:
    if len(x) > 2 and x[2] is not None and np.any(x[2]):
        raise ConversionError("onnx: Dropout with training_mode drops at random while it runs")
    return x[0]


def _reduce(function: Any) -> Callable[..., Array]:
    return lambda a, x: function(x[0], axis=_axes(a, x), keepdims=bool(a.get("keepdims", 1)))


Operator = Callable[[Mapping[str, Any], Sequence[Any]], Any]
OPERATORS: dict[str, Operator] = {
    "GRU": gru,
    "Gather": lambda a, x: np.take(x[0], x[1], axis=a.get("axis", 0)),
    "Transpose": lambda a, x: np.transpose(x[0], a.get("perm")),
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Reshape": _reshape,
    "Concat": lambda a, x: np.concatenate(x, axis=a["axis"]),
    "Slice": _slice,
    "Expand": _expand,
    "MatMul": lambda a, x: x[0] @ x[1],
    "Gemm": _gemm,
    "Add": lambda a, x: x[0] + x[1],
    "Sub": lambda a, x: x[0] - x[1],
    "Mul": lambda a, x: x[0] * x[1],
    "Equal": lambda a, x: x[0] == x[1],
    "Not": lambda a, x: ~x[0],
    "Sigmoid": lambda a, x: equations.sigmoid(x[0]),
    "Tanh": lambda a, x: np.tanh(x[0]),
    "Relu": lambda a, x: np.maximum(x[0], 0),
    "Softmax": _softmax,
    "LayerNormalization": _norm,
    "ReduceSum": _reduce(np.sum),
    "ReduceMean": _reduce(np.mean),
    "ReduceProd": _reduce(np.prod),
    "Shape": lambda a, x: np.array(x[0].shape[a.get("start", 0) : a.get("end")], np.int64),
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Cast": _cast,
    "Identity": lambda a, x: x[0],
    "Dropout": _dropout,
}
# The attributes of each operator, in every version of it that is read; others are refused.
_ATTRIBUTES: dict[str, str] = {
    "GRU": "activation_alpha activation_beta activations clip direction hidden_size layout "
    "linear_before_reset",
    "Gather": "axis", "Transpose": "perm", "Squeeze": "axes", "Unsqueeze": "axes",
    "Reshape": "allowzero", "Concat": "axis", "Slice": "axes ends starts",
    "Gemm": "alpha beta transA transB", "Softmax": "axis",
    "LayerNormalization": "axis epsilon stash_type",
    "ReduceSum": "axes keepdims noop_with_empty_axes",
    "ReduceMean": "axes keepdims noop_with_empty_axes",
    "ReduceProd": "axes keepdims noop_with_empty_axes",
    "Shape": "start end", "ConstantOfShape": "value", "Cast": "to saturate",
    "Constant": "value value_int value_float value_ints value_floats value_string value_strings "
    "sparse_value",
    "Dropout": "ratio seed",
}  # fmt: skip


# -------------------------------------------------------------------------------------- graphs


def load(who: str, source: Any) -> Any:
    """Give a ModelProto from a path, bytes or a ModelProto; nothing outside it is opened."""
    onnx = require_package("onnx", "onnx", who)
    if isinstance(source, str | os.PathLike):
        try:
            source = read_input(source, _MAX_BYTES)
        except (OSError, ValueError) as error:
            raise ConversionError(f"{who}: {error}") from error
    if isinstance(source, bytes | bytearray | memoryview):
        try:
            source = onnx.load_model_from_string(bytes(source))
        except Exception as error:  # protobuf's DecodeError, which has no common base of its own
            raise ConversionError(f"{who}: the file is not an ONNX model: {error}") from error
    if not isinstance(source, onnx.ModelProto):
        raise TypeError(
            f"{who}: model must be a path, bytes or an onnx.ModelProto, got {type(source).__name__}"
        )
    if not source.graph.output:
        raise ConversionError(f"{who}: the file is not an ONNX model: its graph has no output")
    tensors = list(source.graph.initializer)
    for node in source.graph.node:
        if not any(node.output):
            raise ConversionError(f"{who}: {label(node)} has no output")
        if node.domain not in ("", "ai.onnx") or node.op_type not in OPERATORS:
            kind = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            raise ConversionError(
                f"{who}: the operator {kind} of node {node.name or node.output[0]!r} is not known"
            )
        known_here = _ATTRIBUTES.get(node.op_type, "").split()
        for attribute in node.attribute:
            if attribute.name not in known_here:
                raise ConversionError(
                    f"{who}: {label(node)} has the attribute {attribute.name!r}, which is not "
                    "known here and would be lost"
                )
        tensors += [attribute.t for attribute in node.attribute if attribute.HasField("t")]
    known = {value.name for value in [*source.graph.input, *source.graph.initializer]} | {""}
    for node in source.graph.node:
        _require_computed(who, known, node.input)
        known.update(node.output)
    _require_computed(who, known, [value.name for value in source.graph.output])
    if source.graph.sparse_initializer:
        raise ConversionError(f"{who}: sparse initializers are not known")
    for tensor in tensors:
        if tensor.external_data or tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise ConversionError(
                f"{who}: {tensor.name} keeps its numbers in another file (external_data), which "
                "is not opened; put them inside, with torch.onnx.export(..., external_data=False) "
                "or onnx.save(onnx.load(path), path)"
            )
    return source


def _require_computed(who: str, known: set[str], names: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise ConversionError(
                f"{who}: nothing before the place that needs it computes {name!r}"
            )


def label(node: Any) -> str:
    """Give what an error calls a node."""
    return f"{node.op_type} {node.name or next(iter(node.output), '')!r}"


def room(model: Any, inputs: Mapping[str, Array]) -> int:
    """Give how many bytes the arrays of a graph may take while it runs.

    The file may be unpacked and folded; and each number that comes in may lead to a row as wide as
    the widest weight, as the logits of a token do, a few times.
    """
    widest = max((max(t.dims, default=1) for t in model.graph.initializer), default=1)
    numbers = sum(array.size for array in inputs.values())
    return max(
        _LEAST_ROOM, _ROOM_OF_FILE * int(model.ByteSize()) + _ROOM_OF_INPUT * numbers * int(widest)
    )


def opset(model: Any) -> int:
    """Give the version of the operator set."""
    return max((s.version for s in model.opset_import if s.domain in ("", "ai.onnx")), default=1)


def attributes_of(node: Any, version: int) -> dict[str, Any]:
    """Give the attributes of a node as Python values and arrays."""
    import onnx

    found: dict[str, Any] = {"opset": version}
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, onnx.TensorProto):
            value = array_of(value)
        elif isinstance(value, bytes):
            value = value.decode(errors="replace")
        elif isinstance(value, list) and value and isinstance(value[0], bytes):
            value = [text.decode(errors="replace") for text in value]
        elif not isinstance(value, int | float | list | str):
            value = list(value)
        found[attribute.name] = value
    return found


def array_of(tensor: Any) -> Array:
    """Give the numbers of a tensor; bfloat16, which NumPy does not have, as float32."""
    import onnx

    try:
        array = np.asarray(onnx.numpy_helper.to_array(tensor))
        wide = tensor.data_type == onnx.TensorProto.BFLOAT16
        return array.astype(np.float32) if wide else array
    except (ValueError, TypeError, LookupError, ArithmeticError, NotImplementedError) as error:
        raise ConversionError(
            f"onnx: the numbers of {tensor.name} cannot be read: {error}"
        ) from error


def initializers_of(model: Any) -> dict[str, Array]:
    """Give the constants of the graph."""
    return {tensor.name: array_of(tensor) for tensor in model.graph.initializer}


class Values(dict[str, Any]):
    """The arrays of a graph by name while it runs, and how many bytes they take and may take."""

    def __init__(self, arrays: Mapping[str, Any], room: int):
        super().__init__(arrays)
        self.room = room
        self.held = sum(array.nbytes for array in arrays.values())

    def run(self, node: Any, version: int) -> None:
        """Compute one node's outputs."""
        inputs: list[Any] = []
        try:
            inputs = [self[name] if name else None for name in node.input]
            attributes = attributes_of(node, version)
            more = _numbers_to_come(node.op_type, attributes, inputs)
            size = max((x.itemsize for x in inputs if x is not None), default=8)
            if self.held + more * size > self.room:
                raise ConversionError(
                    f"onnx: {label(node)} would make {more:,} numbers of a graph whose arrays "
                    f"must have at most {self.room:,} bytes"
                )
            result = OPERATORS[node.op_type](attributes, inputs)
        except ConversionError:
            raise
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
            raise ValueError(
                f"onnx: {label(node)} cannot be computed from "
                f"{', '.join(spell(x.shape) for x in inputs if x is not None)}: {error}"
            ) from error
        results = result if isinstance(result, tuple) else (result,)
        for name, y in zip(node.output, results, strict=False):
            if name:
                self.held += y.nbytes if y.base is None else 0
                self[name] = y

    def drop(self, name: str) -> None:
        """Forget an array that nothing needs any more."""
        array = self.pop(name, None)
        if array is not None and array.base is None:
            self.held -= array.nbytes


def onnx_run(model: Any, inputs: Any) -> dict[str, Array]:
    """Execute an ONNX graph in NumPy and our recurrence.

    Parameters
    ----------
    model : path, bytes or onnx.ModelProto
        A graph of GRU and of the operators around it in models: Gather, MatMul, Gemm, Add,
        Softmax, LayerNormalization, Transpose, Reshape, ... (`onnx_ops.OPERATORS`).
    inputs : dict of str to array, or sequence of arrays
        By the graph's names, or in its order. An input with an initializer of the same name may
        be left out.

    Returns
    -------
    dict of str to array
        The graph's outputs by name, in its order.

    Raises
    ------
    ConversionError
        An operator is not known, or numbers are kept in another file.
    ValueError
        An input is missing or unknown.
    ImportError
        If onnx is not installed: pip install 'gru_np[onnx]'.

    Notes
    -----
    The GRU operator is complete: direction, linear_before_reset, sequence_lens (zeros allowed;
    the output past a length is zero, Y_h the state at the last valid step), initial_h, clip (on
    what enters the activations), activations with alpha and beta, layout 0 and 1.
    Source: https://onnx.ai/onnx/operators/onnx__GRU.html, versions 7 to 22.

    Examples
    --------
    >>> import numpy as np
    >>> import onnx
    >>> from gru_np import GRU, Sequential, interop
    >>> model = Sequential([GRU(4)], seed=0)
    >>> model.build((None, None, 3))
    >>> graph = interop.to_onnx(model)
    >>> interop.onnx_run(graph, {"x": np.ones((2, 5, 3), np.float32)})["y"].shape
    (2, 4)
    """
    model = load("onnx_run", model)
    constants = initializers_of(model)
    names = [value.name for value in model.graph.input]
    if not isinstance(inputs, Mapping):
        free = [name for name in names if name not in constants]
        if len(inputs) != len(free):
            raise ValueError(
                f"onnx_run: the inputs are {', '.join(free)}; expected {len(free)}, got "
                f"{len(inputs)}"
            )
        inputs = dict(zip(free, inputs, strict=True))
    unknown = [name for name in inputs if name not in names]
    missing = [name for name in names if name not in inputs and name not in constants]
    if unknown or missing:
        raise ValueError(
            f"onnx_run: the inputs are {', '.join(names)}; "
            + (f"missing {', '.join(missing)}" if missing else f"got {', '.join(unknown)}")
        )
    given = {name: as_array("onnx_run", array, name) for name, array in inputs.items()}
    return run(model, constants | given, room(model, given))


def run(model: Any, arrays: Mapping[str, Array], room: int) -> dict[str, Array]:
    """Execute a graph that `load` has looked at, from its constants and inputs."""
    values, version = Values(arrays, room), opset(model)
    wanted = [output.name for output in model.graph.output]
    last: dict[str, int] = {}
    for i, node in enumerate(model.graph.node):
        last.update((name, i) for name in node.input if name)
    for i, node in enumerate(model.graph.node):
        values.run(node, version)
        for name in node.input:
            if last.get(name) == i and name not in wanted and name not in arrays:
                values.drop(name)
    return {name: values[name] for name in wanted}
