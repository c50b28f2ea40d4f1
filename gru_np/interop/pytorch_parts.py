"""What stands in a PyTorch module or state dict: its modules in a row, and nothing left over.

Notation: V vocabulary, E embedding, F features, H hidden.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gru_np._aliases import Array
from gru_np.interop.common import ConversionError, as_float_array

TORCH_NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
ACTIVATIONS = {"ReLU": "relu", "Tanh": "tanh", "Sigmoid": "sigmoid", "Softmax": "softmax"}
_STACK_KEY = re.compile(r"(weight|bias)_(ih|hh)_l(\d+)(_reverse)?")
_KINDS = ("Embedding", "GRU", "GRUCell", "LayerNorm", "Linear")
_CONTAINERS = ("Module", "Sequential", "ModuleList", "ModuleDict")
_WRAPPERS = ("module.", "_orig_mod.")  # of DataParallel and of torch.compile, before every key
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


def read_state(path: Any) -> tuple[dict[str, Array], list[str]]:
    """Read a state dict from a file; also say what was assumed of it."""
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
    metadata, arrays = checkpoint.read_tensors(name)
    # safetensors.torch.save_model keeps one of several names of one tensor, and notes the others.
    tied = {other: kept for other, kept in metadata.items() if kept in arrays}
    for other, kept in tied.items():
        arrays.setdefault(other, arrays[kept])
    return arrays, [f"{other} is {kept}, as the file says" for other, kept in tied.items()]


def unwrapped(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """Take off what a wrapper puts before every key of a state dict."""
    for prefix in _WRAPPERS:
        if state and all(str(key).startswith(prefix) for key in state):
            return unwrapped({key.removeprefix(prefix): value for key, value in state.items()})
    return state


def _array(name: str, value: Any) -> Array:
    if hasattr(value, "detach"):  # a tensor of torch's
        value = value.detach().cpu()
        if "bfloat16" in str(value.dtype):
            value = value.float()
        value = value.numpy()
    return as_float_array(_WHO, name, value)


# What torch keeps of a weight that is computed anew in every call: the norm and the direction, or
# what was there before pruning and the mask.
_MADE_OF = ("_g", "_v", "_u", "_orig", "_mask")


def parts_of_module(module: Any, name: str) -> Iterator[Part]:
    """Give the modules that compute something, in the order of their definition."""
    kind = next(
        (c.__name__ for c in type(module).__mro__ if c.__module__.startswith("torch.nn")), ""
    )
    if any(c.__name__ == "ScriptModule" for c in type(module).__mro__):
        raise ConversionError(
            f"{_WHO}: {name or 'the module'} is a ScriptModule, whose code is not read; give the "
            "module it was made of, or its state_dict()"
        )
    own = dict([*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)])
    inside = f"{name}." if name else ""
    if any(key.endswith(_MADE_OF) for key in own) or "parametrizations" in dict(
        module.named_children()
    ):
        raise ConversionError(
            f"{_WHO}: {name or kind} has parametrised weights (weight normalisation, pruning or "
            "the like); remove the parametrisation first, which leaves the plain weights"
        )
    if kind in _KINDS:
        arrays = {key: _array(inside + key, value) for key, value in own.items()}
        yield Part(name, kind, arrays, _settings_of_module(module, kind, name or kind))
    elif kind in ("Dropout", "Identity", *ACTIVATIONS):
        if kind == "Softmax" and module.dim not in (-1, 1, 2):  # the run says if 1 is the last
            raise ConversionError(
                f"{_WHO}: {name or kind} is a softmax over axis {module.dim}, which is not the last"
            )
        settings = {"Dropout": ("p",), "Softmax": ("dim",)}.get(kind, ())
        yield Part(name, kind, {}, {key: getattr(module, key) for key in settings})
    elif own or kind not in _CONTAINERS:
        what = ", ".join(own) or "what it computes"
        raise ConversionError(
            f"{_WHO}: gru_np has no layer for {name or 'the module'} ({type(module).__name__}); "
            f"{what} would be lost"
        )
    else:
        for child_name, child in module.named_children():
            yield from parts_of_module(child, inside + child_name)


def _settings_of_module(module: Any, kind: str, label: str) -> dict[str, Any]:
    if kind == "GRU":
        return {"dropout": float(module.dropout)}
    if kind == "Embedding" and module.padding_idx is not None:
        raise ConversionError(
            f"{_WHO}: {label} has padding_idx={module.padding_idx}: PyTorch never trains that row, "
            "gru_np would; predictions are the same, so if you will not train on, set it to None "
            "first"
        )
    if kind == "Embedding" and module.scale_grad_by_freq:
        raise ConversionError(
            f"{_WHO}: {label} has scale_grad_by_freq, which trains otherwise than gru_np; "
            "predictions are the same, so if you do not train on, set it to False first"
        )
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


def parts_of_state(state: Mapping[str, Any], kinds: dict[str, str]) -> list[Part]:
    """Group the keys by module; the kind follows from their names and shapes, or stays open."""
    groups: dict[str, dict[str, Array]] = {}
    inside = [key for key, value in state.items() if isinstance(value, Mapping)]
    if inside:
        raise ConversionError(
            f"{_WHO}: expected a state dict, names to tensors, got a checkpoint with "
            f"{', '.join(map(repr, state))}; pass what is under {inside[0]!r}"
            + (f" or {inside[1]!r}" if len(inside) > 1 else "")
        )
    for key, value in state.items():
        name, _, last = key.rpartition(".")
        if ".parametrizations." in f".{key}" or last.endswith(_MADE_OF):
            raise ConversionError(
                f"{_WHO}: {key} belongs to parametrised weights (weight normalisation, pruning or "
                "the like); remove the parametrisation first, which leaves the plain weights"
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


def in_order(parts: list[Part], order: list[str] | None, trust: bool) -> list[Part]:
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
