"""The GRU, written once: read it as NumPy, run it as SIMD, check it to the last digit.

To study, begin with `gru_np.equations`; to use, with `Sequential`. Importing this imports NumPy and
nothing else of weight: each name below is fetched from its module when it is first asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from gru_np.checkpoint import CheckpointError as CheckpointError
    from gru_np.functions import gru_backward as gru_backward
    from gru_np.functions import gru_forward as gru_forward
    from gru_np.gradcheck import check_gradients as check_gradients
    from gru_np.kernels import set_num_threads as set_num_threads
    from gru_np.layers import GRU as GRU
    from gru_np.layers import Bidirectional as Bidirectional
    from gru_np.layers import Dense as Dense
    from gru_np.layers import Dropout as Dropout
    from gru_np.layers import Embedding as Embedding
    from gru_np.layers import GRUCell as GRUCell
    from gru_np.layers import Layer as Layer
    from gru_np.layers import LayerNormalization as LayerNormalization
    from gru_np.model import Sequential as Sequential
    from gru_np.text import Tokenizer as Tokenizer
    from gru_np.text import generate as generate
    from gru_np.text import pad_sequences as pad_sequences

_HOMES = {
    "gru_np.checkpoint": ["CheckpointError"],
    "gru_np.functions": ["gru_backward", "gru_forward"],
    "gru_np.gradcheck": ["check_gradients"],
    "gru_np.kernels": ["set_num_threads"],
    "gru_np.layers": [
        "GRU", "Bidirectional", "Dense", "Dropout", "Embedding", "GRUCell", "Layer",
        "LayerNormalization",
    ],
    "gru_np.model": ["Sequential"],
    "gru_np.text": ["Tokenizer", "generate", "pad_sequences"],
}  # fmt: skip
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
_MODULES = {
    "callbacks", "checkpoint", "constraints", "ctc", "data", "decoding", "equations", "gates",
    "gradcheck", "initializers", "interop", "kernels", "layers", "lessons", "likelihoods",
    "losses", "metrics", "model", "optimizers", "recurrence", "regularizers", "schedules",
    "series", "speech", "text", "variants",
}  # fmt: skip

__all__ = ["__version__", *sorted(_HOME_OF)]


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        value = getattr(importlib.import_module(_HOME_OF[name]), name)
        globals()[name] = value
        return value
    if name in _MODULES:
        return importlib.import_module(f"gru_np.{name}")
    raise AttributeError(f"module 'gru_np' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF, *_MODULES})
