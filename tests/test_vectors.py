"""Word vectors from files: three formats, tokens without a vector, files that lie."""

import gzip
import tracemalloc

import numpy as np
import pytest

from gru_np import Embedding, Tokenizer, text
from gru_np.text import CharTokenizer, WordTokenizer

WORDS = ["the", "cat", "sat", ". . .", "naïve"]


def table(rng, E=4):
    return rng.standard_normal((len(WORDS), E)).astype(np.float32)


def written(vectors, header=False, end="\n"):
    lines = [f"{len(vectors)} {vectors.shape[1]}"] if header else []
    lines += [
        f"{word} {' '.join(repr(float(v)) for v in row)}"
        for word, row in zip(WORDS, vectors, strict=True)
    ]
    return "".join(line + end for line in lines).encode()


@pytest.fixture
def save(tmp_path):
    def save(content, name="vectors.txt"):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return save


@pytest.mark.parametrize(
    ("header", "end"), [(True, "\n"), (False, "\n"), (True, " \n"), (False, "\r\n")]
)
def test_word2vec_glove_and_fasttext_files_give_the_same_table(rng, save, header, end):
    vectors = table(rng)
    read = text.load_vectors(save(written(vectors, header, end)))
    assert read.words == tuple(WORDS) and read.found.all()
    assert read.weights.dtype == np.float32 and np.array_equal(read.weights, vectors)
    packed = save(gzip.compress(written(vectors, header, end)), "vectors.txt.gz")
    assert np.array_equal(text.load_vectors(packed).weights, vectors)


def test_rows_follow_the_ids_of_a_keras_tokenizer_and_padding_is_zero(rng, save):
    vectors = table(rng)
    tokenizer = Tokenizer()
    tokenizer.fit_on_texts(["the cat sat on the mat", "the naïve cat"])
    read = text.load_vectors(save(written(vectors, header=True)), tokenizer)
    assert read.weights.shape == (tokenizer.vocab_size, 4)
    for word, row in zip(WORDS, vectors, strict=True):
        if word in tokenizer.word_index:
            assert np.array_equal(read.weights[tokenizer.word_index[word]], row)
    assert not read.weights[0].any()
    missing = [tokenizer.word_index[word] for word in ("on", "mat")]
    assert np.flatnonzero(~read.found).tolist() == sorted([0, *missing])
    assert read.weights[missing].all(), "drawn, not zero: equal rows would never part"
    layer = Embedding(*read.weights.shape, weights=read.weights)
    assert np.array_equal(layer(np.array([[2, 1]]))[0], read.weights[[2, 1]])


def test_rows_that_are_drawn_repeat_with_the_seed_and_look_like_the_others(rng, save):
    words = [f"w{i}" for i in range(400)]
    vectors = 3 + 2 * rng.standard_normal((400, 5))
    path = save(
        b"".join(
            f"{w} {' '.join(map(str, row))}\n".encode()
            for w, row in zip(words, vectors, strict=True)
        )
    )
    tokenizer = WordTokenizer(["<unk>", *words, *(f"unseen{i}" for i in range(400))])
    first, again, other = (text.load_vectors(path, tokenizer, seed=s) for s in (1, 1, 2))
    assert np.array_equal(first.weights, again.weights)
    drawn = first.weights[~first.found]
    assert len(drawn) == 401 and not np.array_equal(drawn, other.weights[~other.found])
    # 5 standard errors of a mean and of a standard deviation
    assert np.abs(drawn.mean() - 3) < 5 * 2 / 2005**0.5
    assert np.abs(drawn.std() - 2) < 5 * 2 / 4010**0.5 + 0.1  # the columns' own deviate, too


def test_tokens_are_found_without_their_spaces_and_in_lower_case(save):
    path = save(b", 1 2\ncat 3 4\nCat 5 6\n")
    tokenizer = WordTokenizer(["<unk>", ", ", "CAT", "Cat"])
    read = text.load_vectors(path, tokenizer)
    assert read.weights[1:].tolist() == [[1, 2], [3, 4], [5, 6]]
    assert text.load_vectors(save(b"a 1\nb 2\n"), CharTokenizer(["b", "a"])).weights[0] == 2


def test_the_first_of_two_vectors_counts_and_a_limit_ends_the_reading(save):
    path = save(b"3 1\na 1\na 2\nb 3\n")
    read = text.load_vectors(path)
    assert read.words == ("a", "b") and read.weights.ravel().tolist() == [1, 3]
    assert text.load_vectors(path, limit=1).words == ("a",)
    with pytest.raises(ValueError, match="limit must be at least 1, got 0"):
        text.load_vectors(path, limit=0)
    for limit in (1.5, "2", True):  # 1.5 read the whole file
        with pytest.raises(TypeError, match="limit must be an integer"):
            text.load_vectors(path, limit=limit)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no word vectors"),
        (b"3 2\n", "holds no word vectors"),
        (b"\n\n", "holds no word vectors"),
        (b"3 2\na 1 2\nb 3 4\n", "promises 3 words, found 2"),
        (b"1 2\na 1 2\nb 3 4\n", "promises 1 words, found 2"),
        (b"2 0\na 1 2\n", "line 2: expected a word and some numbers, got 2"),
        (b"1 3\na 1 2\n", "line 2: expected a word and 3 numbers, got 2"),
        (b"a 1 2\nb 3\n", "line 2: expected a word and 2 numbers, got 1"),
        (b"word\n", "line 1: expected a word and some numbers, got 0"),
        (b"a 1 x\n", "line 1: could not convert"),
        (b"a 1 nan\n", "line 1: holds NaN or a number beyond float32"),
        (b"a 1 1e39\n", "line 1: holds NaN or a number beyond float32"),
        (b"2 2\nword \x00\x3f\x80\x00", "line 2: holds a NUL byte; the binary format"),
        (b"9" * 50 + b" " + b"9" * 50 + b"\na 1\n", "expected a word and 999"),
        (b"1" * (2**20 + 5), "line 1: too long for a word and its vector"),
        (b"+2 3\na 1 2 3\nb 3 4 5\n", "line 1: expected the counts of words and numbers"),
        (b"2.0 3\na 1 2 3\nb 3 4 5\n", "line 1: expected the counts of words and numbers"),
        (b"2 2\na 1 2 3\nb 3 4 5\n", "line 2: .* promises vectors of 2 numbers, got 3"),
        (b"a 1_0 2\nb 3 4\n", "line 1: could not convert"),
    ],
)
def test_a_file_that_is_no_table_gets_one_sentence(content, message, save):
    with pytest.raises(ValueError, match=message) as error:
        text.load_vectors(save(content))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("header", [b"", b"2 3\n"])
def test_a_mark_of_utf8_at_the_beginning_is_no_part_of_the_file(header, save):
    # Notepad and others write it; the header was taken for a word with one number.
    vectors = text.load_vectors(save(b"\xef\xbb\xbf" + header + b"a .5 2 3\nb 1 2 4\n"))
    assert vectors.words == ("a", "b")
    assert vectors.weights.tolist() == [[0.5, 2, 3], [1, 2, 4]]


def test_a_promise_takes_no_memory(save):
    path = save(b"999999999999 60000\n" + b"a 1\n" * 3)
    tracemalloc.start()
    with pytest.raises(ValueError, match="expected a word and 60000 numbers"):
        text.load_vectors(path)
    assert tracemalloc.get_traced_memory()[1] < 4e6  # bytes
    tracemalloc.stop()


def test_a_packed_file_takes_the_memory_of_the_tokens_that_are_wanted(save):
    path = save(gzip.compress(b"".join(b"w%d 1 2 3 4 5\n" % i for i in range(200_000))), "v.gz")
    tokenizer = WordTokenizer(["<unk>", "w7"])
    tracemalloc.start()
    assert text.load_vectors(path, tokenizer).weights[1].tolist() == [1, 2, 3, 4, 5]
    assert tracemalloc.get_traced_memory()[1] < 4e6  # bytes
    tracemalloc.stop()


def test_what_cannot_be_read_is_named(tmp_path, save):
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        text.load_vectors(tmp_path / "nowhere.txt")
    with pytest.raises(IsADirectoryError, match="this is a directory"):
        text.load_vectors(tmp_path)
    whole = gzip.compress(b"a 1 2\n" * 99)
    for damaged in (b"not gzip", whole[:-9], whole[:14] + bytes(9) + whole[23:]):
        with pytest.raises(ValueError, match="damaged gzip file"):
            text.load_vectors(save(damaged, "v.gz"))
    with pytest.raises(ValueError, match="has a vector for none of the 2 tokens"):
        text.load_vectors(save(b"cat 1\n"), WordTokenizer(["<unk>", "dog"]))
    with pytest.raises(TypeError, match="tokenizer must be a Tokenizer"):
        text.load_vectors(save(b"cat 1\n"), ["cat"])
