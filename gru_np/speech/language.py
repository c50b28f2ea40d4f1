"""Language models that `gru-np train` left, as the search for the best transcript wants them."""

from typing import Any

from gru_np.ctc_decoding import CharacterModel, LanguageModel, WordModel
from gru_np.model import Sequential
from gru_np.speech.alphabet import Alphabet
from gru_np.text import CharTokenizer, WordTokenizer, tokenizer_of


def load_language_model(path: Any, alphabet: Alphabet) -> LanguageModel:
    r"""Load a model of `gru-np train` to weigh the transcripts of an alphabet.

    Characters are weighed one by one, words when they are complete. A newline stands before the
    first: let the text it learnt from have a line for each utterance, spelled as the transcripts.

    Parameters
    ----------
    path : str or path
        A checkpoint with a character or word tokenizer.
    alphabet : Alphabet
        Of the transcriber.

    Returns
    -------
    CharacterModel or WordModel
        For `Transcriber.transcribe(sound, beam_width=16, language_model=...)`.

    Raises
    ------
    CheckpointError
        If the file is damaged.
    ValueError
        If the model is no language model, or knows none of the transcriber's symbols.

    Examples
    --------
    >>> import tempfile
    >>> from gru_np import GRU, Dense, Embedding, Sequential, text
    >>> from gru_np.speech import Alphabet, load_language_model
    >>> model = Sequential([Embedding(4, 5), GRU(6, return_sequences=True), Dense(4)], seed=0)
    >>> model.build((None, None))
    >>> model.tokenizer = text.CharTokenizer.fit("ab\nba\n ")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save(f"{folder}/lm.safetensors")
    ...     language = load_language_model(f"{folder}/lm.safetensors", Alphabet("ab"))
    >>> language.scores(language.start()).shape  # the blank, a and b
    (3,)
    """
    model = Sequential.load(path)
    tokenizer = tokenizer_of(model, str(path))
    if not isinstance(tokenizer, (CharTokenizer, WordTokenizer)):
        raise ValueError(
            f"{path}: a search needs a model over characters or words, as gru-np train makes, got "
            f"one with a {type(tokenizer).__name__}"
        )
    tokens = {token: i for i, token in enumerate(tokenizer.tokens)}
    begin = tokens.get("\n", 0)
    if isinstance(tokenizer, WordTokenizer) and alphabet.unit == "character":
        words = {t: i for t, i in tokens.items() if set(t) <= set(alphabet.symbols) - {" "}}
        _require_some(path, words)
        return WordModel(model, ["", *alphabet.symbols], words, begin)
    if isinstance(tokenizer, CharTokenizer) and alphabet.unit == "word":
        raise ValueError(
            f"{path}: is a model over characters, the transcriber writes whole words; "
            "train one with gru-np train --tokens word"
        )
    known = [tokens.get(symbol, -1) for symbol in alphabet.symbols]
    _require_some(path, [token for token in known if token >= 0])
    return CharacterModel(model, [-1, *known], begin)


def _require_some(path: Any, known: Any) -> None:
    """Raise if the language model and the transcriber have nothing in common."""
    if not known:
        raise ValueError(
            f"{path}: knows none of the transcriber's symbols; train it on text that is spelled as "
            "the transcripts, upper and lower case included"
        )
