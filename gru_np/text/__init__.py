"""Text: from characters and words to arrays for a model, and from a model back to text.

    tokenizer.py   Keras' Tokenizer: words to integers, with every rule of the original
    vocabulary.py  CharTokenizer and WordTokenizer: for language models, nothing is lost
    streams.py     ids to arrays: pad_sequences, stream, windows
    corpus.py      read_text; python_corpus, the text that every Python brings along
    vectors.py     load_vectors: word vectors of word2vec, GloVe and FastText
    generation.py  generate, generate_batch, generate_beams, predict_next
    voice.py       a model and its tokenizer as one
    writing.py     the loop that writes; Piece, Generated

The three tokenizers share what a language model needs: `encode`, `decode`, `decoder`, `tokens`,
`vocab_size`, `special_ids`, and a config that is plain JSON (`tokenizer_config`,
`tokenizer_from_config`), which a model's file holds (`tokenizer_of`).
"""

from gru_np.text.corpus import Corpus, python_corpus, read_text
from gru_np.text.generation import generate, generate_batch, generate_beams, predict_next
from gru_np.text.streams import pad_sequences, stream, windows
from gru_np.text.tokenizer import (
    Tokenizer,
    hashing_trick,
    one_hot,
    text_to_word_sequence,
    tokenizer_from_json,
)
from gru_np.text.vectors import WordVectors, load_vectors
from gru_np.text.vocabulary import (
    CharTokenizer,
    WordTokenizer,
    tokenizer_config,
    tokenizer_from_config,
    tokenizer_of,
)
from gru_np.text.writing import Generated, Piece

__all__ = [
    "CharTokenizer",
    "Corpus",
    "Generated",
    "Piece",
    "Tokenizer",
    "WordTokenizer",
    "WordVectors",
    "generate",
    "generate_batch",
    "generate_beams",
    "hashing_trick",
    "load_vectors",
    "one_hot",
    "pad_sequences",
    "predict_next",
    "python_corpus",
    "read_text",
    "stream",
    "text_to_word_sequence",
    "tokenizer_config",
    "tokenizer_from_config",
    "tokenizer_from_json",
    "tokenizer_of",
    "windows",
]
