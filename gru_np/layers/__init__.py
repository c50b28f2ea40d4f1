"""The layers: parameters, a forward pass, and the backward pass beside it."""

from gru_np.layers.base import Layer as Layer
from gru_np.layers.bidirectional import Bidirectional as Bidirectional
from gru_np.layers.dense import Dense as Dense
from gru_np.layers.dropout import Dropout as Dropout
from gru_np.layers.embedding import Embedding as Embedding
from gru_np.layers.gru import GRU as GRU
from gru_np.layers.gru import GRUCell as GRUCell
from gru_np.layers.masking import Masking as Masking
from gru_np.layers.normalization import LayerNormalization as LayerNormalization
from gru_np.layers.pooling import GlobalAveragePooling1D as GlobalAveragePooling1D
from gru_np.layers.pooling import GlobalMaxPooling1D as GlobalMaxPooling1D
from gru_np.layers.reshape import Reshape as Reshape
from gru_np.layers.segments import SegmentGRU as SegmentGRU
