"""Language-model text: tokenizers, streams, corpora, and what generate writes."""

import json
import os
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gru_np import text
from gru_np.text import CharTokenizer, WordTokenizer, corpus

ANY_TEXT = st.text(st.characters(), max_size=60)  # lone surrogates included
PROSE = st.text(
    st.sampled_from("ab' ,.\"\n\t(é’_1-ि\u0301<>") | st.characters(codec="utf-8"), max_size=60
)

# ------------------------------------------------------------------------------ characters


@settings(deadline=None, max_examples=100)
@given(ANY_TEXT.filter(bool))
def test_characters_come_back_exactly_and_their_order_is_count_then_code_point(written):
    tokenizer = CharTokenizer.fit(written)
    ids = tokenizer.encode(written)
    assert ids.dtype == np.int32 and ids.shape == (len(written),)
    assert tokenizer.decode(ids) == written
    assert "".join(map(tokenizer.decoder(), ids)) == written
    counts = Counter(written)
    assert tokenizer.tokens == sorted(counts, key=lambda c: (-counts[c], ord(c)))
    assert tokenizer.vocab_size == len(counts) and tokenizer.special_ids == ()
    loaded = text.tokenizer_from_config(json.loads(json.dumps(text.tokenizer_config(tokenizer))))
    assert loaded.encode(written).tolist() == ids.tolist()


def test_an_unknown_character_is_named_with_its_position():
    tokenizer = CharTokenizer.fit("abc")
    for unknown, name in (("é", r"'é' \(U\+00E9\)"), ("🙂", r"\(U\+1F642\)"), ("\0", r"U\+0000")):
        with pytest.raises(ValueError, match=rf"{name}.* at position 2 is not in the vocab"):
            tokenizer.encode("ab" + unknown + "c" + unknown)


def test_unknown_characters_may_have_one_that_stands_for_them():
    tokenizer = CharTokenizer.fit("aab", unknown="\ufffd")
    assert tokenizer.tokens == ["\ufffd", "a", "b"] and tokenizer.special_ids == (0,)
    assert tokenizer.encode("a🙂b\ufffd").tolist() == [1, 0, 2, 0]
    rare = CharTokenizer.fit("aaabbc", min_count=2, unknown="?")
    assert rare.tokens == ["?", "a", "b"]
    assert CharTokenizer.fit("aaabbc", max_size=2, unknown="?").tokens == ["?", "a"]
    with pytest.raises(ValueError, match="leave out 1 of the characters; give unknown="):
        CharTokenizer.fit("aaabbc", min_count=2)


def test_ids_that_mean_nothing_are_refused():
    for tokenizer in (CharTokenizer.fit("ab"), WordTokenizer.fit("b")):
        assert tokenizer.decode([]) == ""
        with pytest.raises(ValueError, match=r"in 0..1, got 2 at position 1"):
            tokenizer.decode([0, 2])
        with pytest.raises(ValueError, match=r"in 0..1, got -1"):
            tokenizer.decode([-1])
        with pytest.raises(ValueError, match=r"in 0..1, got 2"):
            tokenizer.decoder()(2)
        with pytest.raises(TypeError, match=r"integers of shape \(n,\), got float64 \(1,\)"):
            tokenizer.decode([0.5])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CharTokenizer([]), "vocabulary is empty"),
        (lambda: CharTokenizer(["a", "a"]), "distinct, got 'a' twice"),
        (lambda: CharTokenizer(["ab"]), "single characters, got 'ab'"),
        (lambda: CharTokenizer(["a", 3]), "non-empty strings, got 3"),
        (lambda: CharTokenizer(["a"], unknown="b"), "one of the tokens, got 'b'"),
        (lambda: CharTokenizer(["a"], unknown=[]), r"one of the tokens, got \[\]"),
        (lambda: CharTokenizer.fit(""), "the text is empty"),
        (lambda: CharTokenizer.fit("a", unknown="ab"), "must be one character"),
        (lambda: CharTokenizer.fit("a", min_count=0), "min_count must be at least 1, got 0"),
        (lambda: WordTokenizer.fit("a", max_size=1), "max_size must be at least 2, got 1"),
        (lambda: WordTokenizer.fit(" ", split="spaces"), "the text is empty"),
        (lambda: WordTokenizer(["a"]), "first token must be '<unk>'"),
        (lambda: WordTokenizer(["<unk>"], split="tabs"), "split must be one of"),
        (lambda: CharTokenizer.from_config({"tokens": ["a"]}), "must have the keys"),
        (lambda: WordTokenizer.from_config([1]), "must have the keys .*, got list"),
        (lambda: CharTokenizer.from_config({"tokens": 7, "unknown": None}), "tokens'. must be"),
        (lambda: CharTokenizer.from_config({"tokens": "ab", "unknown": None}), "tokens'. must be"),
        (
            lambda: WordTokenizer.from_config({"tokens": None, "split": "space", "lower": 0}),
            "tokens'. must be",
        ),
        (lambda: text.tokenizer_from_config({"class_name": "os", "config": {}}), "class_name"),
        (lambda: text.tokenizer_from_config({"class_name": [], "config": {}}), "class_name"),
    ],
)
def test_a_vocabulary_without_a_meaning_is_one_clear_sentence(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_only_our_own_tokenizers_have_a_config():
    keras_style = text.Tokenizer(num_words=7)
    keras_style.fit_on_texts(["a b"])
    loaded = text.tokenizer_from_config(text.tokenizer_config(keras_style))
    assert loaded.to_json() == keras_style.to_json()
    with pytest.raises(TypeError, match="must be one of CharTokenizer, Tokenizer, WordTokenizer"):
        text.tokenizer_config("abc")


# ------------------------------------------------------------------------------ words


@settings(deadline=None, max_examples=150)
@given(PROSE.filter(bool))
def test_words_with_their_punctuation_come_back_exactly(written):
    tokenizer = WordTokenizer.fit(written)
    ids = tokenizer.encode(written)
    assert tokenizer.decode(ids) == written
    write = tokenizer.decoder()
    assert "".join(write(int(i)) for i in ids) == written
    assert 0 not in ids
    counts = Counter(tokenizer.split_text(written))
    assert tokenizer.tokens[1:] == sorted(counts, key=lambda t: (-counts[t], t))


def test_punctuation_carries_its_spaces_and_words_do_not():
    split = WordTokenizer.fit("a").split_text
    assert split("Don't stop, now.") == ["Don't", "stop", ", ", "now", "."]
    assert split('say "yes" (or "no")\n') == [
        "say", ' "', "yes", '" ', "(", "or", ' "', "no", '"', ")", "\n",
    ]  # fmt: skip
    assert split("x = os.path\n    if a[1]:") == [
        "x", " = ", "os", ".", "path", "\n", "    ", "if", "a", "[", "1", "]", ":",
    ]  # fmt: skip
    assert split("no  two ") == ["no", "  ", "two", " "]
    assert split("हिन्दी cafe\u0301") == ["हिन्दी", "cafe\u0301"]


def test_unknown_words_read_as_words():
    tokenizer = WordTokenizer.fit("the cat, the dog\n", min_count=2)
    assert tokenizer.tokens == ["<unk>", "the"]
    assert tokenizer.decode(tokenizer.encode("the cat the")) == "the <unk> the"
    assert tokenizer.special_ids == (0,)


def test_text_whose_tokens_stand_between_spaces():
    written = " no it was n't <unk> monday \n u.s. N \n"
    tokenizer = WordTokenizer.fit(written, split="spaces")
    assert tokenizer.tokens[:2] == ["<unk>", "\n"] and tokenizer.vocab_size == 9
    ids = tokenizer.encode(written)
    assert ids.tolist().count(0) == 1
    assert tokenizer.decode(ids) == "no it was n't <unk> monday\nu.s. N\n"


def test_a_prompt_ending_in_a_space_expects_the_next_word():
    tokenizer = WordTokenizer.fit("be, or not, to be. ", lower=True)
    tokens = [[tokenizer.tokens[i] for i in tokenizer.encode_prompt(p)] for p in ("OR ", "be, ")]
    assert tokens == [["or"], ["be", ", "]]
    assert tokenizer.encode_prompt("").size == 0


# ------------------------------------------------------------------------------ streams


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 60), st.integers(1, 5))
def test_a_stream_is_contiguous_and_its_targets_are_the_next_tokens(n, B):
    ids = np.arange(n, dtype=np.int32)
    if n - 1 < B:
        with pytest.raises(ValueError, match=f"{B} rows need at least {B + 1} tokens, got {n}"):
            text.stream(ids, B)
        return
    inputs, targets = text.stream(ids, B)
    N = (n - 1) // B
    assert inputs.shape == targets.shape == (B, N) and inputs.dtype == np.int32
    np.testing.assert_array_equal(inputs.ravel(), ids[: B * N])
    np.testing.assert_array_equal(targets, inputs + 1)


def test_windows_side_by_side_and_overlapping():
    inputs, targets = text.windows(np.arange(11), 3)
    np.testing.assert_array_equal(inputs, [[0, 1, 2], [3, 4, 5], [6, 7, 8]])
    np.testing.assert_array_equal(targets, inputs + 1)
    inputs, targets = text.windows(np.arange(6), 4, step=1)
    np.testing.assert_array_equal(inputs, [[0, 1, 2, 3], [1, 2, 3, 4]])
    assert inputs.flags.c_contiguous and targets.flags.c_contiguous


def test_streams_and_windows_refuse_what_does_not_fit():
    for call, message in [
        (lambda: text.stream([1, 2], 0), "batch_size must be at least 1, got 0"),
        (lambda: text.windows([1, 2], 2), "a window of 2 needs at least 3 tokens, got 2"),
        (lambda: text.windows([1, 2], 0), "at least 1, got length=0"),
        (lambda: text.windows([1, 2], 1, 0), "step=0"),
        (lambda: text.stream([[1, 2]], 1), r"shape \(n,\), got \(1, 2\)"),
        (lambda: text.stream([], 1), "at least 2 tokens, got 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="ids must be integers, got float64"):
        text.stream([0.5, 1.0], 1)


# ------------------------------------------------------------------------------ corpora


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty"),
        (b"a", "the file holds a single character"),
        ("é".encode(), "the file holds a single character"),
        (b"\xef\xbb\xbf", "nothing but a byte order mark"),
        (b"abc\0def", "NUL byte at offset 3"),
        (b"abc\xff\n", "not UTF-8 text, byte 0xff at offset 3"),
        ("héllo".encode("latin-1"), "byte 0xe9 at offset 1"),
        (b"abc\xc3", "byte 0xc3 at offset 3"),
        ("hello".encode("utf-16"), "looks like UTF-16"),
    ],
)
def test_a_file_that_is_no_text_is_one_clear_sentence(tmp_path, data, message):
    path = tmp_path / "some file"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"some file: .*{message}"):
        text.read_text(path)


def test_a_missing_file_and_a_directory_are_one_clear_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent: there is no such file"):
        text.read_text(tmp_path / "absent")
    with pytest.raises(IsADirectoryError, match="this is a directory; name a file"):
        text.read_text(str(tmp_path))
    (tmp_path / "file").write_text("abc")
    with pytest.raises(OSError, match="cannot be read: Not a directory"):
        text.read_text(tmp_path / "file" / "below")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_is_one_clear_sentence(tmp_path):
    path = tmp_path / "secret"
    path.write_text("abc")
    path.chmod(0)
    with pytest.raises(PermissionError, match="secret: cannot be read: Permission denied"):
        text.read_text(path)


def test_line_ends_become_newlines_and_a_byte_order_mark_goes(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffa\r\nb\rc\n🙂".encode())
    assert text.read_text(path) == "a\nb\nc\n🙂"


def test_the_python_corpus_is_the_same_in_every_run_and_keeps_its_parts_apart():
    found = text.python_corpus()
    assert found == text.python_corpus()
    assert len(found.train) > 4 * len(found.validation) > 0
    assert f"Python {sys.version_info[0]}.{sys.version_info[1]}" in found.description
    assert "held out: " in found.description


def test_the_list_of_modules_is_sorted_and_a_tenth_is_held_out():
    names = list(corpus.PYTHON_MODULES)
    assert names == sorted(set(names))
    held_out = [name for name in names if corpus.is_held_out(name)]
    assert 0.05 < len(held_out) / len(names) < 0.15


def test_without_sources_the_corpus_is_the_help_topics_and_says_so(tmp_path, monkeypatch):
    pytest.importorskip("pydoc_data.topics", reason="this Python comes without pydoc_data")
    monkeypatch.setattr(corpus.sysconfig, "get_path", lambda name: str(tmp_path))
    found = text.python_corpus()
    assert "pydoc_data.topics" in found.description and "without the source" in found.description
    assert len(found.train) > 100_000 and len(found.validation) > 5_000
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(FileNotFoundError, match="give a text of your own"):
        text.python_corpus()


def test_a_module_that_is_damaged_is_skipped(tmp_path):
    (tmp_path / "abc.py").write_bytes(b"# coding: nonsense\n")
    (tmp_path / "ast.py").write_bytes(b"\xff")
    (tmp_path / "bz2.py").write_bytes(b"# coding: latin-1\n# \xe9\n")
    assert corpus._modules(tmp_path) == {"bz2": "# coding: latin-1\n# é\n"}


# ------------------------------------------------------------------------------ generate


class Chain:
    """A Markov chain of the second order: scores depend on this token and the one before."""

    def __init__(self, V, tokenizer=None, seed=0, spread=2.0, width=None):
        self.tokenizer = tokenizer
        table = np.random.default_rng(seed).standard_normal((V, V, width or V)) * spread
        self.logits = table.astype(np.float32)
        exponentials = np.exp(table)
        self.p = (exponentials / exponentials.sum(-1, keepdims=True)).astype(np.float32)
        self.steps = 0

    def scores(self, ids, state):
        assert ids.dtype.kind == "i" and ids.ndim == 1
        self.steps += 1
        before = np.zeros_like(ids) if state is None else state[0][:, 0]
        return before, [ids[:, None].copy(), None]

    def step(self, ids, state=None):
        before, state = self.scores(ids, state)
        return self.p[before, ids], state


class LogitsChain(Chain):
    """The same, offering logits beside probabilities."""

    def step(self, ids, state=None, logits=False):
        before, state = self.scores(ids, state)
        return (self.logits if logits else self.p)[before, ids], state


class Script:
    """A model that always writes the same tokens, whatever it is fed."""

    def __init__(self, tokenizer, ids, V=None):
        self.tokenizer, self.ids = tokenizer, ids
        self.V = V or tokenizer.vocab_size

    def step(self, ids, state=None):
        t = 0 if state is None else int(state[0][0, 0])
        y = np.zeros((len(ids), self.V))
        y[:, self.ids[t % len(self.ids)]] = 1
        return y, [np.full((len(ids), 1), t + 1)]


LETTERS = CharTokenizer.fit("the quick brown fox\n")


def test_the_same_seed_writes_the_same_text_and_another_another():
    model = Chain(LETTERS.vocab_size, LETTERS)
    first, again, other = (
        "".join(text.generate(model, "the ", length=40, seed=seed)) for seed in (1, 1, 2)
    )
    assert first == again != other
    assert len(first) == 40
    assert "".join(text.generate(model, "the ", 40)) != "".join(text.generate(model, "the ", 40))


def test_text_is_yielded_as_it_is_written():
    model = Chain(LETTERS.vocab_size, LETTERS)
    pieces = text.generate(model, "the", length=5, seed=1)
    assert model.steps == 0
    next(pieces)
    assert model.steps == 3  # one for each character of the prompt
    next(pieces)
    assert model.steps == 4
    assert len(list(pieces)) == 3


def test_generation_without_a_length_goes_on_until_the_stop():
    model = Chain(LETTERS.vocab_size, LETTERS)
    assert "q" not in "".join(text.generate(model, "the", length=None, stop="q", seed=1))


def test_probabilities_and_logits_of_one_model_write_the_same():
    V = LETTERS.vocab_size
    for options in ({}, {"top_p": 0.8}, {"repetition_penalty": 1.4}, {"temperature": 0}):
        written = [
            list(text.generate(kind(V, LETTERS), "fox", length=60, seed=3, **options))
            for kind in (Chain, LogitsChain)
        ]
        assert written[0] == written[1]
        np.testing.assert_allclose(
            *[[p.log_probabilities[0] for p in pieces] for pieces in written], atol=1e-5
        )


def test_log_probabilities_are_those_of_the_model_alone():
    model = Chain(LETTERS.vocab_size, LETTERS)
    pieces = list(text.generate(model, "fox", 30, temperature=0.3, top_k=3, seed=1, forbidden="o"))
    before, last = LETTERS.encode("fox")[-2:]
    for piece in pieces:
        (i,), (log_p,) = piece.ids, piece.log_probabilities
        assert log_p == pytest.approx(np.log(model.p[before, last, i]), abs=1e-6)
        before, last = last, i
    assert "".join(pieces) == LETTERS.decode([i for piece in pieces for i in piece.ids])


def test_temperature_0_writes_the_likeliest_token_every_time():
    model = Chain(LETTERS.vocab_size, LETTERS)
    before, last = LETTERS.encode("fox")[-2:]
    expected = []
    for _ in range(20):
        before, last = last, int(np.argmax(model.p[before, last]))
        expected.append(last)
    assert "".join(text.generate(model, "fox", 20, temperature=0)) == LETTERS.decode(expected)


@settings(deadline=None, max_examples=80)
@given(
    st.text("ab", min_size=1, max_size=30),
    st.lists(st.text("ab", min_size=1, max_size=5), max_size=3),
    st.integers(0, 30),
    st.sampled_from([("a", "b"), ("a", "b", "ab"), ("a", "b", "bab", "aa")]),
)
def test_a_stop_string_is_never_written_not_even_in_part(script, stops, length, words):
    class Syllables:
        vocab_size = len(words)

        def encode(self, prompt):
            return [words.index(c) for c in prompt]

        def decode(self, ids):
            return "".join(words[i] for i in ids)

        def decoder(self):
            return lambda i: words[i]

    ids, rest = [], script
    while rest:
        word = max((w for w in words if rest.startswith(w)), key=len)
        ids.append(words.index(word))
        rest = rest[len(word) :]
    model = Script(Syllables(), ids)
    pieces = list(text.generate(model, "a", length, temperature=0, stop=stops))
    ids = (ids * (length + 1))[:length]
    expected, found = "", []
    for i in ids:  # by definition: the first stop to be complete, and of several the leftmost
        expected += words[i]
        if found := [expected.find(stop) for stop in stops if stop in expected]:
            break
    assert "".join(pieces) == expected[: min(found, default=None)]
    assert all(pieces)
    if not found:
        assert [i for piece in pieces for i in piece.ids] == ids


def test_a_stop_that_straddles_pieces_is_held_back_until_decided():
    tokenizer = CharTokenizer(["a", "b", "c"])
    model = Script(tokenizer, [0, 1, 0, 1, 2])  # ababc
    pieces = list(text.generate(model, "a", 10, temperature=0, stop="abc"))
    assert [(str(p), p.ids) for p in pieces] == [("ab", (0, 1))]
    pieces = list(text.generate(model, "a", 4, temperature=0, stop="abc"))
    assert [(str(p), p.ids) for p in pieces] == [("ab", (0, 1)), ("ab", (0, 1))]


def test_a_batch_writes_each_row_as_if_it_were_alone():
    model = Chain(LETTERS.vocab_size, LETTERS)
    prompts = ["the quick", "fox", "b", "\n"]
    together = text.generate_batch(model, prompts, 25, seed=5, stop="qu", top_p=0.9)
    fewer = text.generate_batch(model, prompts[:2], 25, seed=5, stop="qu", top_p=0.9)
    assert together[:2] == fewer
    alone = list(text.generate(model, prompts[0], 25, seed=5, stop="qu", top_p=0.9))
    assert together[0].text == "".join(alone)
    assert together[0].log_probabilities == tuple(p.log_probabilities[0] for p in alone)
    assert len({written.text for written in together}) == 4
    assert text.generate_batch(model, []) == []
    with pytest.raises(TypeError, match="must be a list of texts, got one str"):
        text.generate_batch(model, "the")


def test_padding_and_unknown_words_are_never_written():
    keras_style = text.Tokenizer(num_words=5, oov_token="<oov>")
    keras_style.fit_on_texts(["a a a a b b b c c d"])
    model = Chain(8, keras_style, spread=0.1)  # wider than the vocabulary
    written = text.generate_batch(model, ["a b zzz"], 200, seed=1)[0]
    assert set(written.ids) == {2, 3, 4}
    assert set(written.text.split()) == {"a", "b", "c"}
    for tokenizer in (WordTokenizer.fit("a b c"), CharTokenizer.fit("abc", unknown="?")):
        written = text.generate_batch(Chain(4, tokenizer, spread=0.1), ["a"], 200, seed=1)[0]
        assert set(written.ids) == {1, 2, 3}


def test_a_keras_tokenizer_reads_with_spaces_and_continues_a_prompt():
    tokenizer = text.Tokenizer()
    tokenizer.fit_on_texts(["i like apples"])
    model = Script(tokenizer, [2, 3, 1])
    assert "".join(text.generate(model, "I", 3, temperature=0)) == " like apples i"
    assert "".join(text.generate(model, "I ", 3, temperature=0)) == "like apples i"
    with pytest.raises(ValueError, match="knows no word of the prompt 'you'"):
        text.generate(model, "you")


def test_words_continue_a_prompt_with_the_right_spaces():
    tokenizer = WordTokenizer.fit("the cat, the dog. ")
    the, cat, comma = (int(tokenizer.encode("cat, the")[i]) for i in (2, 0, 1))
    model = Script(tokenizer, [cat, comma, the, cat])
    for prompt, expected in {
        "the": " cat, the cat",
        "the ": "cat, the cat",
        "the cat, ": "the cat cat, ",
    }.items():
        assert "".join(text.generate(model, prompt, 4, temperature=0)) == expected


def test_an_empty_prompt_begins_after_newlines():
    model = Chain(LETTERS.vocab_size, LETTERS)
    assert list(text.generate(model, "", 9, seed=1)) == list(
        text.generate(model, "\n\n\n", 9, seed=1)
    )
    keras_style = text.Tokenizer(oov_token="?")
    keras_style.fit_on_texts(["b b b a"])
    for tokenizer, frequent in [
        (CharTokenizer.fit("bba"), "b"),
        (CharTokenizer.fit("bba", unknown="?"), "b"),
        (WordTokenizer.fit("b b a"), "b"),
        (keras_style, "b"),
    ]:  # without a newline, after the most frequent token
        model = Chain(tokenizer.vocab_size, tokenizer)
        assert text.predict_next(model, "") == text.predict_next(model, frequent)


def test_the_tokenizer_of_a_loaded_model_comes_from_its_file():
    model = Chain(LETTERS.vocab_size)
    model.extras = {"tokenizer": json.loads(json.dumps(text.tokenizer_config(LETTERS)))}
    written = list(text.generate(model, "the", 9, seed=1))
    assert model.tokenizer.tokens == LETTERS.tokens
    assert written == list(text.generate(Chain(LETTERS.vocab_size, LETTERS), "the", 9, seed=1))
    model = Chain(3)
    model.extras = {"tokenizer": {"class_name": "Sequential", "config": {}}}
    with pytest.raises(ValueError, match="class_name must be one of"):
        text.tokenizer_of(model)


def test_an_alphabet_limits_what_is_written():
    model = Chain(LETTERS.vocab_size, LETTERS, spread=0.5)
    written = "".join(text.generate(model, "the", 200, seed=1, allowed="fox "))
    assert set(written) == set("fox ")
    written = "".join(text.generate(model, "the", 200, seed=1, forbidden=["q", "\n"]))
    assert set(written) == set("the quick brown fox") - {"q"}
    words = WordTokenizer.fit("go, stop. wait! ")
    model = Chain(words.vocab_size, words, spread=0.5)
    written = text.generate_batch(model, ["go"], 100, seed=1, allowed=["stop", "wait", "!"])[0]
    assert {words.tokens[i] for i in written.ids} == {"stop", "wait", "!"} & set(words.tokens)
    written = text.generate_batch(model, ["go"], 100, seed=1, allowed="gostp")[0]
    assert {words.tokens[i] for i in written.ids} == {"go", "stop"}
    for nothing in ("", "é", []):
        with pytest.raises(ValueError, match="no token of the vocabulary may be written"):
            list(text.generate(model, "go", allowed=nothing))


def test_bytes_that_are_not_yet_a_character_wait_for_the_rest():
    class Bytes:
        vocab_size = 256

        def encode(self, prompt):
            return list(prompt.encode())

        def decode(self, ids):
            return bytes(ids).decode(errors="replace")

    written = "naïve 🙂 text"
    model = Script(Bytes(), list(written.encode()))
    pieces = list(text.generate(model, "e", len(written.encode()), temperature=0))
    assert pieces == list(written)
    assert pieces[2].ids == (0xC3, 0xAF) and len(pieces[6].log_probabilities) == 4
    cut = list(text.generate(model, "e", 3, temperature=0))
    assert cut == ["n", "a"]  # half of ï is no text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1}, "^generate: temperature must be"),
        ({"top_k": 0}, "^generate: top_k must be"),
        ({"top_p": 2.0}, "^generate: top_p must be"),
        ({"length": -1}, "^generate: length must not be negative, got -1"),
        ({"stop": ["a", ""]}, "^generate: a stop string must not be empty"),
        ({"prompt": "é"}, r"'é' \(U\+00E9\) at position 0"),
        ({"tokenizer": None}, "^generate: the model has no tokenizer; .*give tokenizer="),
    ],
)
def test_nonsense_is_refused_at_the_call_before_any_text(options, message):
    tokenizer = options.pop("tokenizer", LETTERS)
    with pytest.raises(ValueError, match=message):
        text.generate(
            Chain(LETTERS.vocab_size), **{"prompt": "the", **options}, tokenizer=tokenizer
        )


def test_a_model_that_is_no_language_model_is_one_clear_sentence():
    class Sequences:
        def step(self, ids, state=None):
            return np.ones((len(ids), 1, 5)), state

    with pytest.raises(ValueError, match=r"got shape \(1, 1, 5\); a language model ends in"):
        list(text.generate(Sequences(), "the", tokenizer=LETTERS))

    class Diverged:
        def step(self, ids, state=None):
            return np.full((len(ids), LETTERS.vocab_size), np.nan), state

    with pytest.raises(ValueError, match="the model has diverged"):
        list(text.generate(Diverged(), "the", tokenizer=LETTERS))


def test_no_length_writes_nothing_and_takes_no_step():
    model = Chain(LETTERS.vocab_size, LETTERS)
    assert list(text.generate(model, "the", 0)) == [] and model.steps == 0


# ------------------------------------------------------------------------ beams and next


def test_beams_find_what_trying_everything_finds():
    tokenizer = CharTokenizer(["a", "b", "\n"])
    model = Chain(3, tokenizer, seed=4)
    start = tuple(tokenizer.encode("ab").tolist())
    truth = {}
    for word in np.ndindex(3, 3, 3, 3):
        chain = (*start, *word)
        log_p = [np.log(float(model.p[chain[i : i + 3]])) for i in range(4)]
        truth[word] = sum(log_p)
    best = max(truth, key=truth.get)
    beams = text.generate_beams(model, "ab", 4, beam_width=81)
    assert len(beams) == 81
    assert beams[0].ids == best and beams[0].text == tokenizer.decode(best)
    assert sum(beams[0].log_probabilities) == pytest.approx(truth[best], abs=1e-6)
    ended = text.generate_beams(model, "ab", 6, beam_width=3, length_norm=0.5, end="\n")
    assert all("\n" not in beam.text[:-1] for beam in ended)
    assert any(beam.text.endswith("\n") for beam in ended)
    without = text.generate_beams(model, "ab", 6, beam_width=3, forbidden="b")
    assert not any("b" in beam.text for beam in without)
    with pytest.raises(ValueError, match="end must name tokens that may be written, got"):
        text.generate_beams(model, "ab", 4, end=["z"])


def test_beams_of_words_read_on_from_the_prompt():
    tokenizer = WordTokenizer.fit("the cat sat")
    model = Script(tokenizer, tokenizer.encode("the cat sat").tolist())
    assert text.generate_beams(model, "sat", 3, beam_width=1)[0].text == " the cat sat"
    assert text.generate_beams(model, "sat ", 3, beam_width=1)[0].text == "the cat sat"


@pytest.mark.parametrize("kind", [Chain, LogitsChain])
def test_the_next_tokens_come_with_their_probabilities(kind):
    model = kind(LETTERS.vocab_size, LETTERS)
    before, last = LETTERS.encode("fox")[-2:]
    p = model.p[before, last]
    found = text.predict_next(model, "fox", k=5)
    order = np.argsort(-p, kind="stable")[:5]
    assert [token for token, _ in found] == [LETTERS.tokens[i] for i in order]
    np.testing.assert_allclose([q for _, q in found], p[order], rtol=1e-5)
    everything = text.predict_next(model, "fox", k=10**6)
    assert sum(q for _, q in everything) == pytest.approx(1)
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        text.predict_next(model, "fox", k=0)


def test_the_next_words_leave_out_padding_and_unknown_words():
    tokenizer = text.Tokenizer(oov_token="?")
    tokenizer.fit_on_texts(["a b c"])
    model = Chain(7, tokenizer)
    assert {token for token, _ in text.predict_next(model, "a b", k=99)} == {"a", "b", "c"}
    assert sum(p for _, p in text.predict_next(model, "a b", k=99)) < 0.999


def test_a_wide_keras_embedding_with_a_narrow_output_works():
    tokenizer = text.Tokenizer(num_words=100)
    tokenizer.fit_on_texts(["I like apples.", "I like oranges.", "He likes bananas."])
    model = Chain(100, tokenizer, width=4)  # fewer scores than words
    assert {token for token, _ in text.predict_next(model, "bananas likes")} == {
        "i",
        "like",
        "apples",
    }
    options = {"repetition_penalty": 2.0, "seed": 1}
    written = text.generate_batch(model, ["bananas likes"], 20, **options)[0]
    assert len(written.ids) == 20
