"""Tokenizer and pad_sequences against Keras: golden results, and every rule spelled out."""

import importlib.util
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gru_np import text
from gru_np.text import Tokenizer, pad_sequences, text_to_word_sequence, tokenizer_from_json

GOLDEN = Path(__file__).parent / "golden"
ALL = st.characters(codec="utf-8")
TEXTS = st.lists(st.text(st.sampled_from("abcAB 'é,.\n<>") | ALL, max_size=30), max_size=6)


def golden_script():
    spec = importlib.util.spec_from_file_location("golden", GOLDEN / "make_keras_tokenizer.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fitted(texts, **options):
    tokenizer = Tokenizer(**options)
    tokenizer.fit_on_texts(texts)
    return tokenizer


def assert_same(ours, keras, path=""):
    """Compare nested results, naming the first case that differs."""
    if isinstance(ours, dict) and isinstance(keras, dict):
        assert ours.keys() == keras.keys(), path
        for key in ours:
            assert_same(ours[key], keras[key], f"{path}/{key}")
    elif keras == "AttributeError":  # of the call that failed in it; ours names the text
        assert ours in ("AttributeError", "TypeError"), path
    else:
        assert ours == keras, path


def test_everything_equals_the_golden_results_of_keras():
    stored = json.loads((GOLDEN / "keras_tokenizer.json").read_text())
    assert_same(golden_script().results(text), stored["results"])


@pytest.mark.skipif(not importlib.util.find_spec("keras"), reason="Keras is not installed")
def test_everything_equals_the_keras_that_is_installed():
    done = subprocess.run(
        [sys.executable, GOLDEN / "make_keras_tokenizer.py", "-"],
        env={"KERAS_BACKEND": "torch", **os.environ},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    if done.returncode:
        pytest.skip(f"Keras does not start here: {done.stderr.strip().splitlines()[-1]}")
    assert_same(golden_script().results(text), json.loads(done.stdout)["results"])


# ------------------------------------------------------------------------------ splitting


def test_the_filters_are_ascii_punctuation_without_the_apostrophe_plus_tab_and_newline():
    import string

    filters = Tokenizer().filters
    assert len(filters) == 33
    assert set(filters) == set(string.punctuation) - {"'"} | {"\t", "\n"}
    assert text_to_word_sequence("a\rb a\u00a0b “a” «a»") == ["a\rb", "a\u00a0b", "“a”", "«a»"]


def test_words_are_lowercased_filtered_and_split():
    assert text_to_word_sequence("Don't SAY 3.14 or a_b") == [
        "don't",
        "say",
        "3",
        "14",
        "or",
        "a",
        "b",
    ]
    assert text_to_word_sequence("a,b", filters="") == ["a,b"]
    assert text_to_word_sequence("A b", lower=False) == ["A", "b"]
    assert text_to_word_sequence("  a   b ") == ["a", "b"]


def test_lowercasing_is_unicode():
    assert text_to_word_sequence("İ ΣΊΣΥΦΟΣ") == ["i̇", "σίσυφος"]


def test_split_may_be_any_string_but_not_empty():
    assert text_to_word_sequence("a--b c", filters="", split="--") == ["a", "b c"]
    assert text_to_word_sequence("one, two,three", split=",") == ["one", " two", "three"]
    with pytest.raises(ValueError, match="empty separator"):
        text_to_word_sequence("a b", split="")
    assert text_to_word_sequence("a,b \t c", split=None) == ["ab", "c"]


def test_a_text_that_is_a_list_is_only_lowercased():
    tokenizer = fitted([["Hello, World", "A"]])
    assert tokenizer.word_index == {"hello, world": 1, "a": 2}
    assert tokenizer.texts_to_sequences([["HELLO, world"], "hello, world"]) == [[1], []]


@pytest.mark.parametrize("bad", [("a", "b"), None, 3, b"a"], ids=["tuple", "None", "int", "bytes"])
def test_other_kinds_of_text_fail(bad):
    for strict in (False, True):
        with pytest.raises(TypeError, match="text 1 must be a string or a list of strings, got"):
            fitted(["a", bad], strict=strict)


@pytest.mark.parametrize("strict", [False, True])
def test_a_text_that_is_missing_is_named_and_changes_no_counts(strict):
    tokenizer = fitted(["a b", "a"], strict=strict)
    before = tokenizer.to_json()
    for bad in (float("nan"), None, 1.5, ["a", None], b"a"):
        for texts in (["b b", "c", bad, "d"], iter(["b b", "c", bad])):
            with pytest.raises(TypeError, match=r"fit_on_texts: text 2 must be a string or a list"):
                tokenizer.fit_on_texts(texts)
            assert tokenizer.to_json() == before
        with pytest.raises(TypeError, match=r"texts_to_sequences: text 1 must be a string"):
            tokenizer.texts_to_sequences(["a", bad])
    with pytest.raises(TypeError, match=r"text 2 must be .* got float nan"):
        tokenizer.fit_on_texts(["b b", "c", float("nan")])
    with pytest.raises(TypeError, match="fit_on_sequences: sequence 1 must be a list of integers"):
        tokenizer.fit_on_sequences([[1, 2], 3])
    assert tokenizer.to_json() == before
    tokenizer.fit_on_texts(["a c"])
    assert tokenizer.word_counts == {"a": 3, "b": 1, "c": 1}


def test_what_holds_no_texts_is_refused():
    """A frame would be read as the names of its columns, a table of texts row by row."""
    for bad in (None, 3, b"abc", np.array([["a", "b"]])):
        with pytest.raises(TypeError, match="texts must be a list of texts, got"):
            fitted(bad)
    frame = pytest.importorskip("pandas").DataFrame({"text": ["a b", "a"]})
    with pytest.raises(TypeError, match="texts must be a list of texts, got one DataFrame"):
        fitted(frame)
    assert fitted(frame["text"]).word_index == {"a": 1, "b": 2}


def test_functions_of_one_text_name_what_is_none():
    for call in (
        lambda: text_to_word_sequence(None),
        lambda: text.one_hot(float("nan"), 9),
        lambda: text.CharTokenizer.fit(None),
        lambda: text.CharTokenizer.fit(["ab", "c"]),
        lambda: text.CharTokenizer.fit("ab").encode(3),
        lambda: text.WordTokenizer.fit(b"ab"),
        lambda: text.WordTokenizer.fit("ab").encode(["ab"]),
        lambda: text.WordTokenizer.fit("ab").encode_prompt(None),
    ):
        with pytest.raises(TypeError, match="text must be a string, got"):
            call()


def test_characters_are_tokens_spaces_included():
    tokenizer = fitted(["A b!"], char_level=True, analyzer=str.split)
    assert tokenizer.word_index == {"a": 1, " ": 2, "b": 3, "!": 4}
    assert tokenizer.sequences_to_texts([[1, 2, 3]]) == ["a   b"]
    assert tokenizer.decode([1, 2, 3]) == "a b"


def test_an_analyzer_sees_the_raw_text_and_is_not_saved():
    tokenizer = fitted(["A,b A"], analyzer=str.split)
    assert tokenizer.word_index == {"A,b": 1, "A": 2}
    assert tokenizer_from_json(tokenizer.to_json()).analyzer is None
    loaded = tokenizer_from_json(tokenizer.to_json(), analyzer=str.split)
    assert loaded.texts_to_sequences(["A,b A"]) == [[1, 2]]


# ------------------------------------------------------------------------------ numbering


def test_a_plain_string_is_taken_for_texts_of_one_character():
    tokenizer = fitted("ab a")
    assert (tokenizer.document_count, tokenizer.word_index) == (4, {"a": 1, "b": 2})
    with pytest.raises(TypeError, match=r"must be a list of texts, got one str; write \[text\]"):
        fitted("ab a", strict=True)
    with pytest.raises(TypeError, match=r"write \[text\]"):
        fitted(["ab a"], strict=True).texts_to_sequences("ab a")


def test_counts_are_kept_in_the_order_of_first_appearance():
    tokenizer = fitted(["b a b", "c b"])
    assert list(tokenizer.word_counts.items()) == [("b", 3), ("a", 1), ("c", 1)]
    assert tokenizer.word_docs == {"b": 2, "a": 1, "c": 1}
    assert tokenizer.index_docs == {1: 2, 2: 1, 3: 1}
    tokenizer.fit_on_texts(["c"])
    assert (tokenizer.document_count, tokenizer.word_counts["c"]) == (3, 2)


def test_ties_keep_the_order_of_first_appearance_and_index_0_is_never_given():
    assert fitted(["d c b a a"]).word_index == {"a": 1, "d": 2, "c": 3, "b": 4}


def test_the_oov_token_is_index_1_and_not_lowercased():
    tokenizer = fitted(["a b a"], oov_token="<OOV>")
    assert tokenizer.word_index == {"<OOV>": 1, "a": 2, "b": 3}
    assert tokenizer.texts_to_sequences(["b z a"]) == [[3, 1, 2]]
    assert fitted(["a"], oov_token="").word_index == {"": 1, "a": 2}  # not None, so it is one


def test_an_oov_token_that_is_a_word_takes_the_later_index():
    tokenizer = fitted(["a b b"], oov_token="a")
    assert tokenizer.word_index == {"a": 3, "b": 2}
    assert tokenizer.index_word == {2: "b", 3: "a"}
    assert tokenizer.vocab_size == 4
    assert tokenizer.special_ids == (0, 1, 3)
    strict = Tokenizer(oov_token="a", strict=True)
    with pytest.raises(ValueError, match="'a' as a word, which is the oov_token"):
        strict.fit_on_texts(["a b b"])
    assert not strict.word_counts and strict.document_count == 0


def test_num_words_cuts_only_what_is_written():
    tokenizer = fitted(["a a a a b b b c c d"], num_words=3)
    assert tokenizer.word_index == {"a": 1, "b": 2, "c": 3, "d": 4}
    assert tokenizer.texts_to_sequences(["a b c d"]) == [[1, 2]]
    assert tokenizer.sequences_to_texts([[1, 2, 3, 4]]) == ["a b"]
    with_oov = fitted(["a a a a b b b c c d"], num_words=3, oov_token="?")
    assert with_oov.texts_to_sequences(["a b c d"]) == [[2, 1, 1, 1]]
    for unlimited in (0, None):
        assert fitted(["a b c"], num_words=unlimited).texts_to_sequences(["c b a"]) == [[3, 2, 1]]
    assert fitted(["a b c"], num_words=1).texts_to_sequences(["a b c"]) == [[]]
    with pytest.raises(ValueError, match="num_words must be at least 2, got 1"):
        Tokenizer(num_words=1, strict=True)


def test_unknown_words_are_dropped_without_an_oov_token():
    tokenizer = fitted(["a b"])
    assert tokenizer.texts_to_sequences(["a z b", "", "z"]) == [[1, 2], [], []]


def test_unfitted_with_an_oov_token_gives_none_and_an_error_when_strict():
    assert Tokenizer(oov_token="?").texts_to_sequences(["a"]) == [[None]]
    assert Tokenizer().texts_to_sequences(["a"]) == [[]]
    for method in ("texts_to_sequences", "sequences_to_texts"):
        with pytest.raises(ValueError, match="no vocabulary yet; call fit_on_texts first"):
            getattr(Tokenizer(oov_token="?", strict=True), method)([["a"]])


def test_reading_joins_with_single_spaces_and_skips_what_is_unknown():
    tokenizer = fitted(["a-b"], split="-", filters="")
    assert tokenizer.sequences_to_texts([[1, 2], [0, 1, 9]]) == ["a b", "a"]
    assert fitted(["a b"], oov_token="?").sequences_to_texts([[0, 2, 9]]) == ["? a ?"]


def test_fitting_again_renumbers_all_words():
    tokenizer = fitted(["a a b"])
    tokenizer.fit_on_texts(["b b c"])
    assert tokenizer.word_index == {"b": 1, "a": 2, "c": 3}
    assert tokenizer.index_docs == {1: 2, 2: 1, 3: 1}


def test_fitting_on_sequences_counts_documents_and_builds_no_vocabulary():
    tokenizer = Tokenizer(num_words=5)
    tokenizer.fit_on_sequences([[1, 1, 3], [3], []])
    assert (tokenizer.document_count, dict(tokenizer.index_docs)) == (3, {1: 1, 3: 2})
    assert not tokenizer.word_index


# ------------------------------------------------------------------------------ matrices


def test_the_matrix_modes_follow_their_formulas():
    tokenizer = fitted(["a b", "a c c"])
    sequences = [[1, 1, 2], [], [3, 9]]
    ln = np.log
    idf = {1: ln(1 + 2 / 3), 2: ln(1 + 2 / 2), 3: ln(1 + 2 / 2)}
    assert tokenizer.word_index == {"a": 1, "c": 2, "b": 3}
    expected = {
        "binary": [[0, 1, 1, 0], [0] * 4, [0, 0, 0, 1]],
        "count": [[0, 2, 1, 0], [0] * 4, [0, 0, 0, 1]],
        "freq": [[0, 2 / 3, 1 / 3, 0], [0] * 4, [0, 0, 0, 1 / 2]],
        "tfidf": [[0, (1 + ln(2)) * idf[1], idf[2], 0], [0] * 4, [0, 0, 0, idf[3]]],
    }
    for mode, rows in expected.items():
        matrix = tokenizer.sequences_to_matrix(sequences, mode=mode)
        assert matrix.dtype == np.float64
        np.testing.assert_array_equal(matrix, rows)


def test_freq_divides_by_the_length_without_unknown_words():
    np.testing.assert_array_equal(
        fitted(["a b"]).texts_to_matrix(["a z z z"], mode="freq"), [[0, 1, 0]]
    )


def test_the_matrix_is_num_words_wide_and_column_0_is_only_for_zeros():
    matrix = Tokenizer(num_words=3).sequences_to_matrix([[0, 1, 2, 3, 4]], mode="count")
    np.testing.assert_array_equal(matrix, [[1, 1, 1]])


def test_a_matrix_of_unknown_width_or_mode_is_an_error():
    with pytest.raises(ValueError, match="give num_words or fit on texts first"):
        Tokenizer().sequences_to_matrix([[1]])
    with pytest.raises(ValueError, match="tfidf needs counts"):
        Tokenizer(num_words=3).sequences_to_matrix([[1]], mode="tfidf")
    with pytest.raises(ValueError, match="mode must be one of"):
        Tokenizer(num_words=3).sequences_to_matrix([[1]], mode="nonsense")
    assert Tokenizer(num_words=3).sequences_to_matrix([[]], mode="nonsense").shape == (1, 3)
    with pytest.raises(ValueError, match="mode must be one of"):
        Tokenizer(num_words=3, strict=True).sequences_to_matrix([[]], mode="nonsense")


# ------------------------------------------------------------------------------ saving


def test_json_is_byte_for_byte_that_of_keras():
    tokenizer = fitted(["é", "b", "b"], oov_token="?")
    assert tokenizer.to_json() == (
        '{"class_name": "Tokenizer", "config": {"num_words": null, "filters": '
        '"!\\"#$%&()*+,-./:;<=>?@[\\\\]^_`{|}~\\t\\n", "lower": true, "split": " ", '
        '"char_level": false, "oov_token": "?", "document_count": 3, '
        '"word_counts": "{\\"\\\\u00e9\\": 1, \\"b\\": 2}", '
        '"word_docs": "{\\"\\\\u00e9\\": 1, \\"b\\": 2}", '
        '"index_docs": "{\\"3\\": 1, \\"2\\": 2}", '
        '"index_word": "{\\"1\\": \\"?\\", \\"2\\": \\"b\\", \\"3\\": \\"\\\\u00e9\\"}", '
        '"word_index": "{\\"?\\": 1, \\"b\\": 2, \\"\\\\u00e9\\": 3}"}}'
    )


def test_the_tables_in_the_config_are_json_strings_with_string_keys():
    config = fitted(["a b"]).get_config()
    for name in ("word_counts", "word_docs", "index_docs", "index_word", "word_index"):
        assert isinstance(config[name], str)
    assert json.loads(config["index_word"]) == {"1": "a", "2": "b"}


def test_a_loaded_tokenizer_has_integer_indices_and_can_be_fitted_further():
    once = fitted(["a b", "b c"], num_words=3, oov_token="?")
    loaded = tokenizer_from_json(once.to_json())
    assert loaded.to_json() == once.to_json()
    assert loaded.index_docs == once.index_docs and loaded.index_word == once.index_word
    for tokenizer in (once, loaded):
        tokenizer.fit_on_texts(["new words b"])
    assert loaded.to_json() == once.to_json()


def test_files_of_the_old_layout_with_the_oov_token_last_encode_as_they_did():
    config = fitted(["a a b"], oov_token="?").get_config()
    config["word_index"] = json.dumps({"a": 1, "b": 2, "?": 3})
    config["index_word"] = json.dumps({1: "a", 2: "b", 3: "?"})
    old = Tokenizer.from_config(config)
    assert old.texts_to_sequences(["a z b"]) == [[1, 3, 2]]
    assert (old.vocab_size, old.special_ids) == (4, (0, 3))


def test_a_config_with_tables_of_the_wrong_kind_is_an_error():
    good = fitted(["a b"]).get_config()
    for name, table in [("word_index", {"a": "1"}), ("index_word", {"x": "a"}), ("word_docs", [1])]:
        with pytest.raises(ValueError, match="not the config of a Tokenizer"):
            Tokenizer.from_config({**good, name: json.dumps(table)})
    with pytest.raises(ValueError, match="not the config of a Tokenizer"):
        Tokenizer.from_config([1])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_words", -1), ("num_words", "x"), ("num_words", 1.5), ("num_words", 10**30),
        ("filters", 7), ("filters", [1]), ("lower", "no"), ("split", 0), ("split", []),
        ("char_level", None), ("oov_token", True), ("oov_token", [1]), ("document_count", "x"),
        ("document_count", -1), ("document_count", None), ("unheard_of", 1),
        ("word_index", '{"a": 1000000000000}'), ("word_index", '{"a": -5}'),
    ],
)  # fmt: skip
def test_what_a_config_says_is_looked_at_when_it_is_read(name, value):
    # A setting of no meaning raised TypeError in the first text; `tokens` took memory by an index.
    config = fitted(["a b"]).get_config()
    with pytest.raises(ValueError, match="not the config of a Tokenizer") as caught:
        tokenizer_from_json(json.dumps({"config": {**config, name: value}}))
    assert "\n" not in str(caught.value)


def test_indices_of_the_users_own_with_gaps_are_read():
    config = fitted(["a b"]).get_config() | {"word_index": '{"": 0, "a": 4, "b": 900}'}
    assert Tokenizer.from_config(config).vocab_size == 901


@pytest.mark.parametrize(
    "damaged",
    ["", "[]", "3", "{}", '{"config": 3}', '{"config": {}}', '{"config": {"word_counts": "[1]"}}'],
)
def test_json_of_something_else_is_one_clear_error(damaged):
    with pytest.raises(ValueError, match=r"(?i)tokenizer"):
        tokenizer_from_json(damaged)


def test_old_and_unknown_keywords():
    with pytest.warns(UserWarning, match="nb_words is the old name"):
        assert Tokenizer(nb_words=3).num_words == 3
    assert Tokenizer(document_count=4).document_count == 4
    with pytest.raises(TypeError, match="unknown keyword arguments"):
        Tokenizer(words=3)


def test_hashing_gives_indices_from_1_and_md5_is_stable():
    assert text.hashing_trick("The cat", 100, "md5") == [51, 3]
    assert set(text.one_hot("a b c d e f g h", 3)) <= {1, 2}
    assert text.hashing_trick("aa b", 9, len) == [3, 2]
    assert text.hashing_trick("A,b", 9, len, analyzer=lambda t: [t]) == [4]
    with pytest.raises(ZeroDivisionError):
        text.one_hot("a", 1)
    with pytest.raises(ValueError, match='callable, "md5" or None'):
        text.hashing_trick("a", 9, "sha1")


# ---------------------------------------------------------------------- beyond Keras


def test_vocab_size_is_one_more_than_the_largest_index_written():
    texts = ["a a a a b b b c c d"]
    assert fitted(texts).vocab_size == 5
    assert fitted(texts, num_words=3).vocab_size == 3
    assert fitted(texts, num_words=100).vocab_size == 5
    assert fitted(texts, num_words=3, oov_token="?").vocab_size == 3
    assert fitted(texts, num_words=1, oov_token="?").vocab_size == 2
    with pytest.raises(ValueError, match="no vocabulary yet"):
        _ = Tokenizer(num_words=3).vocab_size


@settings(deadline=None, max_examples=60)
@given(TEXTS, st.sampled_from([None, 0, 1, 2, 5]), st.sampled_from([None, "?", "a"]), st.booleans())
def test_vocab_size_holds_every_index_and_no_more(texts, num_words, oov_token, char_level):
    tokenizer = Tokenizer(num_words, oov_token=oov_token, char_level=char_level)
    tokenizer.fit_on_texts(texts)
    if not tokenizer.word_index:
        return
    written = {i for s in tokenizer.texts_to_sequences([*texts, "unseen"]) for i in s}
    assert all(0 < i < tokenizer.vocab_size for i in written)
    assert len(tokenizer.tokens) == tokenizer.vocab_size
    if written and oov_token is None:
        assert max(written) == tokenizer.vocab_size - 1


@settings(deadline=None, max_examples=60)
@given(TEXTS)
def test_indices_are_in_order_of_frequency_then_of_appearance(texts):
    tokenizer = fitted(texts)
    words = [word for one in texts for word in text_to_word_sequence(one)]
    counts = Counter(words)
    assert list(tokenizer.word_index) == sorted(
        counts, key=lambda word: (-counts[word], words.index(word))
    )
    assert list(tokenizer.word_index.values()) == list(range(1, len(counts) + 1))


@settings(deadline=None, max_examples=60)
@given(TEXTS, st.booleans())
def test_saving_and_loading_changes_nothing(texts, char_level):
    tokenizer = fitted(texts, char_level=char_level, oov_token="?!")
    loaded = tokenizer_from_json(tokenizer.to_json())
    assert loaded.to_json() == tokenizer.to_json()
    assert loaded.texts_to_sequences(texts) == tokenizer.texts_to_sequences(texts)


@settings(deadline=None, max_examples=60)
@given(TEXTS, st.sampled_from([None, 3]))
def test_strict_changes_no_result(texts, num_words):
    strict = fitted(texts, num_words=num_words, strict=True, oov_token="?!")
    assert strict.to_json() == fitted(texts, num_words=num_words, oov_token="?!").to_json()


def test_strict_takes_a_generator_of_texts():
    assert fitted((t for t in ["a b", "b"]), strict=True).word_index == {"b": 1, "a": 2}
    with pytest.raises(ValueError, match="split must not be empty"):
        Tokenizer(split="", strict=True)


def test_encode_and_decode_read_one_text():
    tokenizer = fitted(["I like apples."])
    ids = tokenizer.encode("apples like I")
    assert ids.dtype == np.int32
    assert tokenizer.decode([0, 0, *ids, 0, 77]) == "apples like i"
    assert tokenizer.tokens == ["", "i", "like", "apples"]


def test_the_vocabulary_does_not_depend_on_the_hash_seed():
    code = (
        "from gru_np.text import Tokenizer, WordTokenizer, CharTokenizer\n"
        "t = Tokenizer(); t.fit_on_texts(['q w e r t y', 'u i o p w'])\n"
        "print(t.to_json(), WordTokenizer.fit('q w e. r').tokens, CharTokenizer.fit('qwe').tokens)"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in "12"
    }
    assert len(printed) == 1


# ------------------------------------------------------------------------------ pad_sequences


def test_padding_and_truncating_at_either_end():
    sequences = [[1], [2, 3], [4, 5, 6], []]
    expected = {
        ("pre", "pre"): [[0, 1], [2, 3], [5, 6], [0, 0]],
        ("pre", "post"): [[0, 1], [2, 3], [4, 5], [0, 0]],
        ("post", "pre"): [[1, 0], [2, 3], [5, 6], [0, 0]],
        ("post", "post"): [[1, 0], [2, 3], [4, 5], [0, 0]],
    }
    for (padding, truncating), rows in expected.items():
        padded = pad_sequences(sequences, 2, padding=padding, truncating=truncating)
        assert padded.dtype == np.int32
        np.testing.assert_array_equal(padded, rows)
    assert pad_sequences(sequences).shape == (4, 3)


def test_items_may_be_vectors_of_one_shape():
    padded = pad_sequences([[], [[1, 2]], [[3, 4], [5, 6]]], value=9)
    np.testing.assert_array_equal(padded[1], [[9, 9], [1, 2]])
    assert padded.shape == (3, 2, 2)
    with pytest.raises(ValueError, match=r"must have shape \(2,\) as in the first, got \(\)"):
        pad_sequences([[[1, 2]], [3]])


def test_floats_are_cut_towards_zero_and_large_integers_overflow():
    np.testing.assert_array_equal(pad_sequences([[1.9, -1.9]]), [[1, -1]])
    with pytest.raises(OverflowError):
        pad_sequences([[2**31]])
    assert pad_sequences([[2**31]], dtype="int64")[0, 0] == 2**31


def test_a_length_of_zero_needs_truncating_post():
    with pytest.raises(ValueError, match='maxlen=0 needs truncating="post"'):
        pad_sequences([[1, 2]], maxlen=0)
    assert pad_sequences([[1, 2]], maxlen=0, truncating="post").shape == (1, 0)


def test_no_sequences_need_a_length():
    with pytest.raises(ValueError, match="the length is unknown"):
        pad_sequences([])
    assert pad_sequences([], maxlen=3).shape == (0, 3)
    assert pad_sequences([[], []]).shape == (2, 0)


def test_what_is_not_a_list_of_sequences_is_refused():
    with pytest.raises(ValueError, match="must be iterable"):
        pad_sequences(s for s in [[1]])
    with pytest.raises(ValueError, match="must hold sequences, got 2 at 1"):
        pad_sequences([[1], 2])


def test_a_wrong_option_is_noticed_when_there_is_something_to_pad():
    assert pad_sequences([[]], maxlen=2, padding="middle", truncating="middle").shape == (1, 2)
    with pytest.raises(ValueError, match="truncating must be"):
        pad_sequences([[1]], truncating="middle")
    with pytest.raises(ValueError, match="padding must be"):
        pad_sequences([[1]], padding="middle")


def test_strings_need_dtype_object():
    padded = pad_sequences([["a"], ["b", "c"]], dtype=object, value="")
    assert padded.tolist() == [["", "a"], ["b", "c"]]
    with pytest.raises(ValueError, match="use dtype=object"):
        pad_sequences([["a"]], value="x")


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.lists(st.integers(1, 9), max_size=7), min_size=1, max_size=5),
    st.integers(1, 9),
    st.sampled_from(["pre", "post"]),
    st.sampled_from(["pre", "post"]),
)
def test_padding_keeps_the_right_end_of_every_sequence(sequences, maxlen, padding, truncating):
    padded = pad_sequences(sequences, maxlen, padding=padding, truncating=truncating)
    assert padded.shape == (len(sequences), maxlen)
    for row, sequence in zip(padded, sequences, strict=True):
        kept = sequence[-maxlen:] if truncating == "pre" else sequence[:maxlen]
        zeros = [0] * (maxlen - len(kept))
        assert row.tolist() == (zeros + kept if padding == "pre" else kept + zeros)
