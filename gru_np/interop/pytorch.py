"""To and from PyTorch: modules and state dicts. Reading a state dict needs no torch.

Notation: B batch, T time, I input, H hidden, V vocabulary, E embedding, F features, U units.

    nn.GRU        weight_ih_l{k}[_reverse] (3H, I), weight_hh_l{k} (3H, H), bias_ih_l{k},
                  bias_hh_l{k} (3H,): ours, layer by layer; rows r, z, n
    nn.GRUCell    weight_ih, weight_hh, bias_ih, bias_hh: likewise
    nn.Embedding  weight (V, E)          nn.Linear     weight (U, F), bias (U,)
    nn.LayerNorm  weight (F,), bias (F,)

A stack of k layers becomes k layers named gru, gru_l1, gru_l2, ..., and `to_torch` puts layers so
named together again.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gru_np._aliases import Array
from gru_np.interop.common import (
    ConversionError,
    as_float_array,
    assemble,
    directions,
    of_direction,
    optional_package,
    parameters_of,
    random_batch,
    require_agreement,
    require_expressible,
    set_dense_activation,
)
from gru_np.interop.layouts import NAMES
from gru_np.layers import (
    GRU,
    Bidirectional,
    Dense,
    Dropout,
    Embedding,
    GRUCell,
    Layer,
    LayerNormalization,
)
from gru_np.model import Sequential

TORCH_NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
_STACK_KEY = re.compile(r"(weight|bias)_(ih|hh)_l(\d+)(_reverse)?")
_ACTIVATIONS = {"ReLU": "relu", "Tanh": "tanh", "Sigmoid": "sigmoid", "Softmax": "softmax"}
_KINDS = ("Embedding", "GRU", "GRUCell", "LayerNorm", "Linear")
_WHO = "from_torch"


@dataclass
class Part:
    """One module of PyTorch's: where it stands, what it is, its arrays, its settings."""

    name: str  # prefix of its keys; "" if it is alone
    kind: str
    arrays: dict[str, Array] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Give what an error calls it."""
        return self.name or self.kind

    @property
    def layers(self) -> int:
        """Count the layers of an nn.GRU."""
        return sum(key.startswith("weight_ih") and "_reverse" not in key for key in self.arrays)

    @property
    def bidirectional(self) -> bool:
        """Say whether it reads from both ends."""
        return any(key.endswith("_reverse") for key in self.arrays)

    @property
    def units(self) -> int:
        """Give H."""
        return next(a.shape[1] for key, a in self.arrays.items() if key.startswith("weight_hh"))

    def sizes(self) -> tuple[int | None, int | None]:
        """Give the number of features that enter and leave; None for token ids, or for any."""
        if self.kind in ("GRU", "GRUCell"):
            first = self.arrays["weight_ih_l0" if self.kind == "GRU" else "weight_ih"]
            return first.shape[1], self.units * (2 if self.bidirectional else 1)
        weight = self.arrays.get("weight")
        if weight is None:
            return None, None
        if self.kind == "Linear":
            return weight.shape[1], weight.shape[0]
        return (None, weight.shape[1]) if self.kind == "Embedding" else (weight.size,) * 2


# --------------------------------------------------------------------------------- from torch


def from_torch(
    source: Any,
    *,
    return_sequences: bool = True,
    activations: Mapping[str, str] | None = None,
    kinds: Mapping[str, str] | None = None,
    order: list[str] | None = None,
    check: bool = True,
) -> Any:
    """Make a model from a PyTorch module, a state dict, or a `.safetensors` file with one.

    Parameters
    ----------
    source : torch.nn.Module, mapping of str to array or tensor, or path
        nn.GRU (any layers, directions, biases), nn.GRUCell, or a model of nn.Embedding, nn.GRU,
        nn.Linear, nn.LayerNorm, nn.Dropout and activations, applied one after another in the
        order of their definition. `batch_first` plays no part: weights do not depend on it.
    return_sequences : bool
        Whether what follows the last GRU sees every time step, or the last one alone. A module
        that can be called with one batch decides this itself.
    activations : dict of str to str, optional
        Activation after a Linear, by its name: {"decoder": "softmax"}. For a state dict, which
        does not hold them.
    kinds : dict of str to str, optional
        What a group of keys is, where its shapes leave it open: "Embedding", "Linear",
        "LayerNorm" (its epsilon is then PyTorch's default, 1e-5).
    order : list of str, optional
        Names of the groups of keys from input to output, where the shapes leave it open. A file
        keeps its tensors in alphabetical order.
    check : bool
        Run both on random input before returning, if torch is installed.

    Returns
    -------
    Sequential, or GRUCell for a single nn.GRUCell
        In the precision of the weights; 16-bit floats become float32, exactly.

    Raises
    ------
    ConversionError
        If it cannot be exact: LSTM, projections, weight normalisation, a forward that does more
        than apply its modules in a row, ...; the sentence names what would be lost.

    Notes
    -----
    Nothing is unpickled: a `.pt` file is refused.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np import interop
    >>> rng = np.random.default_rng(0)
    >>> shapes = {"weight_ih_l0": (12, 3), "weight_hh_l0": (12, 4), "bias_ih_l0": (12,),
    ...           "bias_hh_l0": (12,)}
    >>> state_dict = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    >>> model = interop.from_torch(state_dict)
    >>> model.predict(np.ones((2, 5, 3))).shape
    (2, 5, 4)
    """
    module = source if callable(getattr(source, "state_dict", None)) else None
    if module is not None:
        parts = list(_parts_of_module(module, ""))
    else:
        ordered = isinstance(source, Mapping)
        state = source if ordered else _read_state(source)
        parts = _parts_of_state(state, dict(kinds or {}))
        parts = _in_order(parts, order, trust=ordered)
    if not any(part.arrays for part in parts):
        raise ConversionError(f"{_WHO}: expected weights of a GRU, found none")
    if len(parts) == 1 and parts[0].kind == "GRUCell":
        cell = _cell(parts[0])
        if check:
            _check_part(parts[0], [cell])
        return cell
    given = dict(activations or {})
    model, made = _to_model(parts, return_sequences, given, from_state=module is None)
    if given:
        raise ConversionError(
            f"{_WHO}: activations names {', '.join(map(repr, given))}, but no linear layer there"
        )
    if check:
        for part, layers in made:
            _check_part(part, layers)
    if check and module is not None:
        model = _check_module(module, parts, model, return_sequences)
    return model


def _read_state(path: Any) -> dict[str, Array]:
    from gru_np import checkpoint

    name = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else None
    if name is None:
        raise TypeError(
            f"{_WHO}: source must be a module, a state dict or a path, got {type(path).__name__}"
        )
    if not name.endswith(".safetensors"):
        raise ConversionError(
            f"{_WHO}: {name} is not a .safetensors file, and a pickle can run any code when it is "
            "read; write one with safetensors.torch.save_file(model.state_dict(), ...)"
        )
    return checkpoint.read_tensors(name)[1]


def _array(name: str, value: Any) -> Array:
    if hasattr(value, "detach"):  # a tensor of torch's
        value = value.detach().cpu()
        if "bfloat16" in str(value.dtype):
            value = value.float()
        value = value.numpy()
    return as_float_array(_WHO, name, value)


def _parts_of_module(module: Any, name: str) -> Iterator[Part]:
    """Give the modules that compute something, in the order of their definition."""
    kind = next(
        (c.__name__ for c in type(module).__mro__ if c.__module__.startswith("torch.nn")), ""
    )
    own = {key: _array(f"{name}.{key}", p) for key, p in module.named_parameters(recurse=False)}
    inside = f"{name}." if name else ""
    if any(key.endswith(("_g", "_v")) for key in own) or "parametrizations" in dict(
        module.named_children()
    ):
        raise ConversionError(
            f"{_WHO}: {name or kind} has parametrised weights (weight normalisation or the like); "
            "remove the parametrisation first, which leaves the plain weights"
        )
    if kind in _KINDS:
        yield Part(name, kind, own, _settings_of_module(module, kind, name or kind))
    elif kind in ("Dropout", "Identity", *_ACTIVATIONS):
        if kind == "Softmax" and module.dim not in (-1, 2):
            raise ConversionError(
                f"{_WHO}: {name or kind} is a softmax over axis {module.dim}, which is not the last"
            )
        yield Part(name, kind, {}, {"rate": module.p} if kind == "Dropout" else {})
    elif own or kind not in ("Module", "Sequential", "ModuleList", "ModuleDict"):
        what = ", ".join(own) or "what it computes"
        raise ConversionError(
            f"{_WHO}: gru_np has no layer for {name or 'the module'} ({type(module).__name__}); "
            f"{what} would be lost"
        )
    else:
        for child_name, child in module.named_children():
            yield from _parts_of_module(child, inside + child_name)


def _settings_of_module(module: Any, kind: str, label: str) -> dict[str, Any]:
    if kind == "GRU":
        return {"dropout": float(module.dropout)}
    if kind == "Embedding" and module.max_norm is not None:
        raise ConversionError(
            f"{_WHO}: {label} has max_norm={module.max_norm}: it rescales vectors as it looks "
            "them up, which gru_np's Embedding does not"
        )
    if kind == "LayerNorm":
        if len(module.normalized_shape) != 1:
            raise ConversionError(
                f"{_WHO}: {label} normalises over the axes {tuple(module.normalized_shape)}, "
                "gru_np over the last one only"
            )
        return {"epsilon": float(module.eps)}
    return {}


def _parts_of_state(state: Mapping[str, Any], kinds: dict[str, str]) -> list[Part]:
    """Group the keys by module; the kind follows from their names and shapes, or stays open."""
    groups: dict[str, dict[str, Array]] = {}
    for key, value in state.items():
        name, _, last = key.rpartition(".")
        if name.endswith("parametrizations") or ".parametrizations." in f".{key}":
            raise ConversionError(
                f"{_WHO}: {key} belongs to parametrised weights (weight normalisation or the "
                "like); remove the parametrisation first, which leaves the plain weights"
            )
        if last in ("running_mean", "running_var", "num_batches_tracked"):
            raise ConversionError(f"{_WHO}: gru_np has no batch normalisation; {key} would be lost")
        if last.startswith("weight_hr_l"):
            raise ConversionError(
                f"{_WHO}: {key} is a projection (proj_size), which only an LSTM has; "
                "gru_np has GRUs only"
            )
        groups.setdefault(name, {})[last] = _array(key, value)
    parts = [Part(name, _kind(name, arrays, kinds), arrays) for name, arrays in groups.items()]
    if kinds:
        raise ConversionError(
            f"{_WHO}: kinds names {', '.join(map(repr, kinds))}, but there are "
            f"{', '.join(map(repr, groups))}"
        )
    return parts


def _kind(name: str, arrays: dict[str, Array], kinds: dict[str, str]) -> str:
    if all(_STACK_KEY.fullmatch(key) for key in arrays):
        if not {"weight_ih_l0", "weight_hh_l0"} <= set(arrays):
            raise ConversionError(
                f"{_WHO}: {name or 'GRU'} has an incomplete set of keys: no weight_ih_l0 and "
                f"weight_hh_l0 among {', '.join(arrays)}"
            )
        return "GRU"
    if set(arrays) <= set(TORCH_NAMES) and "weight_ih" in arrays:
        return "GRUCell"
    shape = arrays["weight"].shape if "weight" in arrays else ()
    if not set(arrays) <= {"weight", "bias"} or len(shape) not in (1, 2):
        raise ConversionError(
            f"{_WHO}: gru_np has no layer for {name or 'the module'} with "
            f"{', '.join(arrays)}; they would be lost"
        )
    if name in kinds:
        kind = kinds.pop(name)
        if kind not in ("Embedding", "Linear", "LayerNorm"):
            raise ConversionError(
                f"{_WHO}: kinds must be 'Embedding', 'Linear' or 'LayerNorm', got {kind!r}"
            )
        return kind
    if len(shape) == 1:
        raise ConversionError(
            f"{_WHO}: {name or 'weight'} has one weight a feature, and a state dict does not say "
            f"whether that is a LayerNorm; if it is, pass kinds={{{name!r}: 'LayerNorm'}}"
        )
    return "Linear" if "bias" in arrays else ""  # open: an Embedding, or a Linear without bias


def _in_order(parts: list[Part], order: list[str] | None, trust: bool) -> list[Part]:
    """Put the parts in a row so that each takes what the one before gives."""
    if order is not None:
        by_name = {part.name: part for part in parts}
        if sorted(order) != sorted(by_name):
            raise ConversionError(
                f"{_WHO}: order must name each of {', '.join(map(repr, sorted(by_name)))} once, "
                f"got {order}"
            )
        parts = [by_name[name] for name in order]
    found = list(_chains(parts, free=False)) if order is not None or trust else []
    if not found and order is None:
        found = list(_chains(parts, free=True))
    if not found:
        sizes = "; ".join(
            f"{p.label} " + ", ".join(f"{k} {a.shape}" for k, a in p.arrays.items()) for p in parts
        )
        raise ConversionError(f"{_WHO}: the sizes do not fit together in a row: {sizes}")
    if len(found) > 1:
        kinds = {tuple(p.kind for p in sorted(chain, key=lambda p: p.name)) for chain in found}
        how = (
            "whether they are tables or products; pass kinds={name: 'Embedding' or 'Linear'}"
            if len(kinds) > 1
            else "their order; pass order=[...] from input to output"
        )
        names = ", ".join(p.label for p in parts)
        raise ConversionError(f"{_WHO}: the shapes of {names} leave open {how}")
    return found[0]


def _chains(parts: list[Part], free: bool) -> Iterator[list[Part]]:
    """Give every way to put the parts in a row (if not free, in this order); at most two."""
    if len(parts) > 12 and free:
        raise ConversionError(f"{_WHO}: {len(parts)} modules need order=[...], input to output")

    def extend(done: list[Part], left: list[Part]) -> Iterator[list[Part]]:
        if not left:
            yield done
            return
        for i, part in enumerate(left if free else left[:1]):
            for kind in [part.kind] if part.kind else ["Embedding", "Linear"]:
                candidate = Part(part.name, kind, part.arrays, part.settings)
                enters, _ = candidate.sizes()
                fits = not done if enters is None else not done or done[-1].sizes()[1] == enters
                if fits:
                    yield from extend([*done, candidate], left[:i] + left[i + 1 :])

    for count, chain in enumerate(extend([], parts)):
        yield chain
        if count == 1:
            return


def _to_model(
    parts: list[Part], return_sequences: bool, activations: dict[str, str], from_state: bool
) -> tuple[Sequential, list[tuple[Part, list[Layer]]]]:
    """Make the layers; also say which layers came from which part."""
    rows: list[tuple[Layer, dict[str, Array]]] = []
    spans = []
    last_gru = max((i for i, p in enumerate(parts) if p.kind in ("GRU", "GRUCell")), default=-1)
    for i, part in enumerate(parts):
        begin = len(rows)
        name = part.name or part.kind.lower()
        if part.kind == "GRU":
            rows += _stack(part, name, return_sequences or i != last_gru)
        elif part.kind == "GRUCell":
            params = _cell(part).params
            everything = return_sequences or i != last_gru
            gru = GRU(part.units, return_sequences=everything, use_bias="b_ih" in params, name=name)
            rows.append((gru, params))
        elif part.kind == "Embedding":
            V, E = part.arrays["weight"].shape
            rows.append((Embedding(V, E, name=name), {"W": part.arrays["weight"]}))
        elif part.kind == "Linear":
            rows.append(_dense(part, name, activations.pop(part.name, None)))
            after = parts[i + 1].kind if i + 1 < len(parts) else None
            if from_state and after == "Linear" and rows[-1][0].activation is None:  # type: ignore[attr-defined]
                raise ConversionError(
                    f"{_WHO}: a state dict does not say what stands between {name} and "
                    f"{parts[i + 1].label}; pass activations={{{part.name!r}: 'relu'}}, or "
                    "'linear' if nothing does"
                )
        elif part.kind == "LayerNorm":
            renamed = {"weight": "gamma", "bias": "beta"}
            params = {renamed[key]: array for key, array in part.arrays.items()}
            norm = LayerNormalization(
                part.settings.get("epsilon", 1e-5), "beta" in params, "gamma" in params, name=name
            )
            rows.append((norm, params))
        elif part.kind == "Dropout":
            rows.append((Dropout(part.settings["rate"], name=name), {}))
        elif part.kind in _ACTIVATIONS:
            set_dense_activation(_WHO, rows, _ACTIVATIONS[part.kind], part.label)
        spans.append((part, begin, len(rows)))
    model = assemble(_WHO, rows)
    return model, [(part, model.layers[begin:end]) for part, begin, end in spans]


def _dense(part: Part, name: str, activation: str | None) -> tuple[Layer, dict[str, Array]]:
    renamed = {"weight": "W", "bias": "b"}
    params = {renamed[key]: array for key, array in part.arrays.items()}
    return Dense(len(params["W"]), activation, "b" in params, name=name), params


def _cell(part: Part) -> GRUCell:
    params = {ours: part.arrays[key] for ours, key in zip(NAMES, TORCH_NAMES, strict=True)
              if key in part.arrays}  # fmt: skip
    _require_gru_rows(part, params)
    cell = GRUCell(part.units, use_bias="b_ih" in params, name=part.name or None)
    cell.params, cell.built = params, True
    return cell


def _stack(
    part: Part, name: str, return_sequences: bool
) -> Iterator[tuple[Layer, dict[str, Array]]]:
    """Give the layers of an nn.GRU, with the dropout that stands between them."""
    H, rate = part.units, part.settings.get("dropout", 0.0)
    ends = ["", "_reverse"] if part.bidirectional else [""]
    bias = any(key.startswith("bias") for key in part.arrays)
    names = TORCH_NAMES if bias else TORCH_NAMES[:2]
    wanted = [f"{key}_l{k}{end}" for k in range(part.layers) for end in ends for key in names]
    if sorted(wanted) != sorted(part.arrays):
        odd = sorted(set(wanted) ^ set(part.arrays))
        raise ConversionError(f"{_WHO}: {part.label} has an incomplete set of keys: {odd}")
    for k in range(part.layers):
        last = k == part.layers - 1
        this = f"{name}_l{k}" if k else name
        each = [
            {ours: part.arrays[f"{key}_l{k}{end}"] for ours, key in zip(NAMES, names, strict=False)}
            for end in ends
        ]
        for params in each:
            _require_gru_rows(part, params)
        gru = GRU(H, return_sequences=return_sequences or not last, use_bias=bias, name=this)
        if len(ends) == 1:
            yield gru, each[0]
        else:
            both = zip(("forward", "backward"), each, strict=True)
            yield (
                Bidirectional(gru, name=this),
                {f"{d}/{ours}": array for d, params in both for ours, array in params.items()},
            )
        if rate and not last:
            yield Dropout(rate, name=f"{this}_dropout"), {}


def _require_gru_rows(part: Part, params: dict[str, Array]) -> None:
    rows, H = params["W_hh"].shape
    if rows != 3 * H:
        what = {H: "an RNN", 4 * H: "an LSTM"}.get(rows, "something else")
        raise ConversionError(
            f"{_WHO}: {part.label} has {rows} rows for {H} units, which makes it {what}; "
            "a GRU has three rows a unit"
        )


# ----------------------------------------------------------------------------------- to torch


def to_torch(
    model: Any,
    *,
    names: Mapping[str, str] | None = None,
    stack: bool = False,
    tensors: bool = False,
    check: bool = True,
) -> dict[str, Any]:
    """Give the weights of a model as a state dict for PyTorch modules.

    Parameters
    ----------
    model : Sequential or layer
        Of GRU (reset after the product, tanh, sigmoid), Bidirectional (concat), GRUCell,
        Embedding, Dense, LayerNormalization, Dropout.
    names : dict of str to str, optional
        Name of a module in PyTorch by the name of our layer, "" for none. By default our name;
        for a model of one module, none, so that the keys are those of nn.GRU itself.
    stack : bool
        Put adjacent GRU layers of one size into one nn.GRU of several layers. Layers that
        `from_torch` made from one are put together again in any case.
    tensors : bool
        Give torch tensors, not NumPy arrays.
    check : bool
        Run both on random input before returning, if torch is installed.

    Returns
    -------
    dict of str to array or tensor
        For `load_state_dict`. Activations, dropout rates and masks are no part of a state dict:
        they are for the module to have.

    Raises
    ------
    ConversionError
        Where PyTorch's GRU cannot do what ours does: reset_after=False, other activations,
        go_backwards, a merge that is not "concat", zoneout, ...

    Examples
    --------
    >>> from gru_np import GRU, Sequential, interop
    >>> model = Sequential([GRU(4)], seed=0)
    >>> model.build((None, None, 3))
    >>> {name: array.shape for name, array in interop.to_torch(model).items()}
    {'weight_ih_l0': (12, 3), 'weight_hh_l0': (12, 4), 'bias_ih_l0': (12,), 'bias_hh_l0': (12,)}
    """
    who = "to_torch"
    layers = list(model.layers) if isinstance(model, Sequential) else [model]
    if not all(layer.built for layer in layers):
        raise ValueError(f"{who}: the model must be built first; fit it, load it or call build")
    parts: list[tuple[Part, list[Layer]]] = []
    for layer in layers:
        _add_part(who, parts, layer, stack)
    parts = [(part, made) for part, made in parts if part.arrays]
    chosen = dict(names or {})
    state: dict[str, Any] = {}
    for part, made in parts:
        if check:
            _check_part(part, made, who)
        prefix = chosen.pop(part.name, "" if len(parts) == 1 else part.name)
        for key, array in part.arrays.items():
            state[f"{prefix}.{key}" if prefix else key] = array.copy()
    if chosen:
        raise ValueError(f"{who}: names has {', '.join(map(repr, chosen))}, which no module is")
    if tensors:
        import torch

        state = {key: torch.from_numpy(array) for key, array in state.items()}
    return state


def _add_part(who: str, parts: list[tuple[Part, list[Layer]]], layer: Layer, stack: bool) -> None:
    p = parameters_of(layer)
    if isinstance(layer, Embedding):
        parts.append((Part(layer.name, "Embedding", {"weight": p["W"]}), [layer]))
    elif isinstance(layer, Dense):
        arrays = {"weight": p["W"]} | ({"bias": p["b"]} if "b" in p else {})
        parts.append((Part(layer.name, "Linear", arrays), [layer]))
    elif isinstance(layer, LayerNormalization):
        if "beta" in p and "gamma" not in p:
            raise ConversionError(
                f"{who}: {layer.name} shifts but does not scale, and PyTorch's LayerNorm has no "
                "bias without a weight"
            )
        names = {"gamma": "weight", "beta": "bias"}
        arrays = {names[ours]: array for ours, array in p.items()}
        settings = {"epsilon": layer.epsilon}
        parts.append((Part(layer.name, "LayerNorm", arrays, settings), [layer]))
    elif isinstance(layer, Dropout):
        parts.append((Part(layer.name, "Dropout"), [layer]))
    elif isinstance(layer, GRUCell):
        _require_torch_gru(who, layer, layer.name)
        named = zip(NAMES, TORCH_NAMES, strict=True)
        arrays = {key: p[ours] for ours, key in named if ours in p}
        parts.append((Part(layer.name, "GRUCell", arrays), [layer]))
    elif isinstance(layer, GRU | Bidirectional):
        _add_gru(who, parts, layer, stack)
    else:
        raise ConversionError(
            f"{who}: no module of PyTorch's is known for {layer.name} ({type(layer).__name__})"
        )


def _add_gru(
    who: str, parts: list[tuple[Part, list[Layer]]], layer: GRU | Bidirectional, stack: bool
) -> None:
    """Add a GRU layer: to the stack before it if it belongs there, else as a module of its own."""
    if isinstance(layer, Bidirectional) and layer.merge_mode != "concat":
        raise ConversionError(
            f"{who}: {layer.name} has merge_mode={layer.merge_mode!r}; "
            "PyTorch concatenates the two directions"
        )
    for _, gru in directions(layer):
        _require_torch_gru(who, gru, layer.name)
    if isinstance(layer, GRU) and layer.go_backwards:
        raise ConversionError(
            f"{who}: {layer.name} has go_backwards=True, and PyTorch has no GRU that reads "
            "backwards alone"
        )
    before = [entry for entry in parts if entry[0].kind != "Dropout"]
    onto = before[-1] if before else None
    k = 0
    if onto is not None and onto[0].kind == "GRU":
        part, made = onto
        alike = part.bidirectional == isinstance(layer, Bidirectional) and all(
            gru.units == part.units and gru.use_bias == ("bias_ih_l0" in part.arrays)
            for _, gru in directions(layer)
        )
        wide = part.units * (2 if part.bidirectional else 1)
        fits = alike and of_direction(layer, directions(layer)[0][0])["W_ih"].shape[1] == wide
        if fits and (stack or layer.name == f"{part.name}_l{part.layers}"):
            k = part.layers
    if k == 0:
        part, made = Part(layer.name, "GRU"), []
        parts.append((part, made))
    made.append(layer)
    for (prefix, _), end in zip(directions(layer), ("", "_reverse"), strict=False):
        params = of_direction(layer, prefix)
        for ours, key in zip(NAMES, TORCH_NAMES, strict=True):
            if ours in params:
                part.arrays[f"{key}_l{k}{end}"] = params[ours]


def _require_torch_gru(who: str, gru: Any, name: str) -> None:
    if not gru.reset_after:
        raise ConversionError(
            f"{who}: {name} has reset_after=False, which PyTorch cannot express: its reset gate "
            "acts after the product with W_hn, and r ⊙ (W_hn h) is not W_hn (r ⊙ h)"
        )
    for setting, only in (("activation", "tanh"), ("recurrent_activation", "sigmoid")):
        if getattr(gru, setting) != only:
            raise ConversionError(
                f"{who}: {name} has {setting}={getattr(gru, setting)!r}; "
                f"PyTorch's GRU has {only} only"
            )
    require_expressible(who, "PyTorch", gru, name)


# ------------------------------------------------------------------------------------- checks


def _check_part(part: Part, layers: list[Layer], who: str = _WHO) -> None:
    """Run PyTorch's own module with these arrays, and our layers, on random input."""
    torch = optional_package("torch")
    if torch is None or part.kind not in ("GRU", "GRUCell"):
        return  # the others are a table, a product and a sum: their shapes have been checked
    rng = np.random.default_rng(20140603)
    B, T, H, D = 3, 5, part.units, 2 if part.bidirectional else 1
    dtype = np.result_type(*part.arrays.values())
    I = part.sizes()[0]  # noqa: E741
    assert I is not None
    x = rng.standard_normal((B, T, I)).astype(dtype)
    tensors = {key: torch.from_numpy(array.astype(dtype)) for key, array in part.arrays.items()}
    bias = any(key.startswith("bias") for key in part.arrays)
    if part.kind == "GRUCell":
        h0 = rng.standard_normal((B, H)).astype(dtype)
        theirs = torch.nn.GRUCell(I, H, bias=bias, dtype=torch.from_numpy(x).dtype)
        theirs.load_state_dict(tensors)
        with torch.no_grad():
            h = torch.from_numpy(h0)
            for t in range(T):
                h = theirs(torch.from_numpy(x[:, t]), h)
        ours = h0
        for t in range(T):
            ours = layers[0].forward(x[:, t], initial_state=ours)[0] if isinstance(
                layers[0], GRUCell
            ) else layers[0].step(x[:, t], ours)[0]  # fmt: skip
        require_agreement(who, part.label, ours, h.numpy())
        return
    grus = [layer for layer in layers if isinstance(layer, GRU | Bidirectional)]
    h0 = rng.standard_normal((D * len(grus), B, H)).astype(dtype)
    theirs = torch.nn.GRU(
        I, H, len(grus), bias=bias, bidirectional=D == 2, dtype=torch.from_numpy(x).dtype,
        batch_first=True,
    )  # fmt: skip
    theirs.load_state_dict(tensors)
    with torch.no_grad():
        y, _ = theirs(torch.from_numpy(x), torch.from_numpy(h0))
    # Each layer's own gru_np layer may give the last state only; its settings are not changed.
    ours = x
    for k, layer in enumerate(grus):
        begin = h0[D * k : D * (k + 1)]
        if D == 1:
            copy: Layer = _sequence(layer)
            ours = copy.forward(ours, initial_state=begin[0])[0]  # type: ignore[call-arg]
        else:
            copy = _sequence(layer)
            ours = copy.forward(ours, initial_state=tuple(begin))[0]  # type: ignore[call-arg]
    require_agreement(who, part.label, ours, y.numpy())


def _sequence(layer: Any) -> Any:
    """Give a layer with the same parameters that returns the whole sequence and nothing else."""
    plain = {"return_sequences": True, "return_state": False, "stateful": False}
    if isinstance(layer, GRU):
        copy: Any = GRU(**layer.get_config() | plain)
    else:
        one, other = (GRU(**g.get_config() | plain) for g in (layer.layer, layer.backward_layer))
        copy = Bidirectional(one, layer.merge_mode, other)
    copy.params, copy.built = layer.params, True
    return copy


def _check_module(
    module: Any, parts: list[Part], model: Sequential, return_sequences: bool
) -> Sequential:
    """Call the module itself, if one batch is all it needs, and let it decide what is open."""
    torch = optional_package("torch")
    x = random_batch(model)
    grus = [m for m in module.modules() if type(m).__name__ == "GRU"]
    time_first = bool(grus) and not grus[0].batch_first
    training = [(m, m.training) for m in module.modules()]
    try:
        module.eval()
        with torch.no_grad():
            y = module(torch.from_numpy(x.swapaxes(0, 1).copy() if time_first else x))
    except (TypeError, RuntimeError, IndexError):
        return model  # it needs more than a batch; its parts have been checked one by one
    finally:
        for m, was in training:
            m.training = was
    y = y[0] if isinstance(y, tuple) else y
    if not hasattr(y, "numpy"):
        return model
    theirs = y.float().numpy() if "bfloat16" in str(y.dtype) else y.numpy()
    error: ConversionError | None = None
    for choice in (return_sequences, not return_sequences):
        candidate, _ = _to_model(parts, choice, {}, from_state=False)
        turned = theirs.swapaxes(0, 1) if time_first and theirs.ndim == 3 else theirs
        try:
            require_agreement(_WHO, type(module).__name__, candidate.predict(x), turned)
            return candidate
        except ConversionError as one:
            error = error or one
    assert error is not None
    raise error
