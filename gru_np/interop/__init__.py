"""Weights that move: to and from PyTorch, Keras and ONNX, and out into one plain Python file.

    from_torch, to_torch      modules, state dicts, .safetensors files
    from_keras, to_keras      live models and layers, .keras archives, .weights.h5 files
    from_onnx, to_onnx        .onnx files; onnx_run executes one in NumPy
    export_standalone         one readable Python file that needs NumPy alone
    save_pretrained, from_pretrained    a folder with config.json and model.safetensors
    read, write               any of these, by the ending of the path; left_out says what one loses
    TorchGRU                  the call of torch.nn.GRU: stacks, unbatched input, h_0 and h_n

A move is exact or it is refused: `ConversionError` names the term that would be lost. What was
checked and what was assumed stands in `model.conversion`, a `Conversion`. The formulas and layouts
stand in `gru_np.interop.layouts`. No other library is imported before it is needed.
"""

from gru_np.interop.common import Conversion as Conversion
from gru_np.interop.common import ConversionError as ConversionError
from gru_np.interop.files import left_out as left_out
from gru_np.interop.files import read as read
from gru_np.interop.files import write as write
from gru_np.interop.keras import from_keras as from_keras
from gru_np.interop.keras import to_keras as to_keras
from gru_np.interop.onnx import from_onnx as from_onnx
from gru_np.interop.onnx import to_onnx as to_onnx
from gru_np.interop.onnx_ops import onnx_run as onnx_run
from gru_np.interop.pytorch import from_torch as from_torch
from gru_np.interop.pytorch import to_torch as to_torch
from gru_np.interop.standalone import export_standalone as export_standalone
from gru_np.interop.standalone import from_pretrained as from_pretrained
from gru_np.interop.standalone import save_pretrained as save_pretrained
from gru_np.interop.torch_gru import TorchGRU as TorchGRU
