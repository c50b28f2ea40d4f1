"""Language models of `gru-np train` in the search for the best transcript."""

import numpy as np
import pytest

from gru_np import GRU, Dense, Embedding, Sequential
from gru_np._options import OptionError, Parser
from gru_np.ctc import log_softmax
from gru_np.ctc_decoding import CharacterModel, WordModel, prefix_beam_search
from gru_np.speech import Alphabet, Features, Transcriber, command, load_language_model, write_wav
from gru_np.text import CharTokenizer, Tokenizer, WordTokenizer, tokenizer_of


def saved_language_model(path, tokenizer):
    """Save an untrained model with large weights, so that its likings are strong."""
    V = tokenizer.vocab_size
    model = Sequential([Embedding(V, 5), GRU(6, return_sequences=True), Dense(V)], seed=1)
    model.build((None, None))
    model.set_weights([4 * weight for weight in model.get_weights()])
    model.tokenizer = tokenizer
    model.save(path)
    return model


def test_a_character_model_from_a_file_scores_as_predict_does(tmp_path):
    model = saved_language_model(tmp_path / "lm", CharTokenizer.fit("ab ba\nab\n"))
    language = load_language_model(tmp_path / "lm", Alphabet("abx"))
    assert isinstance(language, CharacterModel)
    tokens = {token: i for i, token in enumerate(tokenizer_of(model).tokens)}
    text = np.array([[tokens[token] for token in "\nab"]])
    expected = log_softmax(np.float64(model.predict(text)[0]))  # of what follows each
    state = language.start()
    for step, label in enumerate([1, 2]):
        found = language.scores(state)
        np.testing.assert_allclose(
            found[1:3], expected[step, [tokens["a"], tokens["b"]]], rtol=1e-5
        )
        assert found[3] == language.unknown  # x
        (state,) = language.advance([state], [label])


def test_words_are_weighed_when_complete_or_as_labels_of_their_own(tmp_path):
    tokenizer = WordTokenizer.fit("yes no yes\nno, no\n")
    model = saved_language_model(tmp_path / "lm", tokenizer)
    tokens = {token: i for i, token in enumerate(tokenizer.tokens)}
    first = log_softmax(np.float64(model.predict(np.array([[tokens["\n"]]]))[0, 0]))

    spelled = load_language_model(tmp_path / "lm", Alphabet(" enosy"))
    assert isinstance(spelled, WordModel)
    state = spelled.start()
    for label in spelled_labels("no"):
        assert spelled.scores(state)[label] == 0
        (state,) = spelled.advance([state], [label])
    np.testing.assert_allclose(spelled.scores(state)[1], first[tokens["no"]], rtol=1e-5)

    whole = load_language_model(tmp_path / "lm", Alphabet(["no", "yes"], "word"))
    assert isinstance(whole, CharacterModel)
    np.testing.assert_allclose(
        whole.scores(whole.start())[1:], first[[tokens["no"], tokens["yes"]]], rtol=1e-5
    )


def spelled_labels(word):
    return Alphabet(" enosy").encode(word)


@pytest.mark.parametrize(
    ("tokenizer", "alphabet", "message"),
    [
        (CharTokenizer.fit("xyz"), Alphabet("AB"), "knows none of the transcriber's symbols"),
        (WordTokenizer.fit("up down"), Alphabet("AB"), "knows none of the transcriber's symbols"),
        (CharTokenizer.fit("yes no"), Alphabet(["no"], "word"), "gru-np train --tokens word"),
    ],
)
def test_models_that_cannot_weigh_a_transcript_are_refused(tmp_path, tokenizer, alphabet, message):
    saved_language_model(tmp_path / "lm", tokenizer)
    with pytest.raises(ValueError, match=message):
        load_language_model(tmp_path / "lm", alphabet)


def test_a_model_over_other_tokens_or_over_none_is_refused(tmp_path):
    words = Tokenizer()
    words.fit_on_texts(["yes no"])
    saved_language_model(tmp_path / "lm", words)
    with pytest.raises(ValueError, match="over characters or words, as gru-np train makes, got"):
        load_language_model(tmp_path / "lm", Alphabet("ab"))
    model = Sequential([GRU(3)], seed=0)
    model.build((None, None, 2))
    model.save(tmp_path / "none")
    with pytest.raises(ValueError, match="none"):
        load_language_model(tmp_path / "none", Alphabet("ab"))


def test_the_command_searches_with_the_language_model_and_its_weight(tmp_path, capsys):
    """An untrained transcriber is undecided; then what is written is what the search finds."""
    rng = np.random.default_rng(2)
    write_wav(tmp_path / "a.wav", 0.1 * rng.standard_normal(4000), 8000)
    transcriber = Transcriber.create(
        Features("spectrogram", rate=8000, bins=8), Alphabet(" ab"), 5, layers=1, seed=2
    )
    transcriber.save(tmp_path / "model")
    saved_language_model(tmp_path / "lm", CharTokenizer.fit("ab ba\nab\n"))

    def written(*options):
        parser = Parser()
        command.transcribe_arguments(parser)
        words = [tmp_path / "a.wav", "--model", tmp_path / "model", *options]
        assert command.transcribe_run(parser.parse_args([str(word) for word in words])) == 0
        return capsys.readouterr().out.rstrip("\n")

    language = load_language_model(tmp_path / "lm", transcriber.alphabet)
    (log_y,) = transcriber._pieces(str(tmp_path / "a.wav"))
    expected = {}
    for weight in (0.0, 0.5, 2.0):
        best = prefix_beam_search(log_y, 4, language_model=language, weight=weight)[0]
        expected[weight] = " ".join(transcriber.alphabet.decode(best.labels).split())
    assert len(set(expected.values())) > 1  # the language model changes the answer
    for weight, text in expected.items():
        options = ("--language-model", tmp_path / "lm", "--beam", 4, "--weight", weight)
        assert written(*options) == text
    assert written("--beam", 4) == expected[0.0]
    for wrong in (("--beam", 0), ("--beam", -1)):
        with pytest.raises(OptionError, match="--beam must be at least 1"):
            written(*wrong)
    with pytest.raises(ValueError, match="--stream writes as it reads and cannot search"):
        written("--stream", "--language-model", tmp_path / "lm")
