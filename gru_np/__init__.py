"""The GRU, written once: read it as NumPy, run it as SIMD, check it to the last digit."""

from gru_np.kernels import gru_backward as gru_backward
from gru_np.kernels import gru_forward as gru_forward
from gru_np.layers import GRU as GRU
from gru_np.layers import Bidirectional as Bidirectional
from gru_np.layers import Dense as Dense
from gru_np.layers import Dropout as Dropout
from gru_np.layers import Embedding as Embedding
from gru_np.layers import GRUCell as GRUCell
from gru_np.layers import LayerNormalization as LayerNormalization
from gru_np.model import Sequential as Sequential

__version__ = "0.1.0"
