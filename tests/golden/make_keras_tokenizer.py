"""Write keras_tokenizer.json: what Keras' text preprocessing makes of many texts and settings.

    KERAS_BACKEND=torch python tests/golden/make_keras_tokenizer.py

`results` runs the same cases with any library of these names, so the tests run it with gru_np and
compare with the file, and with Keras again where that is installed. A case that raises is recorded
as the name of the exception.
"""

import itertools
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np

PATH = Path(__file__).with_name("keras_tokenizer.json")

TEXTS = [
    "The cat sat on the mat.",
    "Don't PANIC: 3.14 is (roughly) pi, a_b!",
    "",
    "naïve Straße “quoted” «guillemets» no\u00a0break ΣΊΣΥΦΟΣ",
    "İstanbul\ttab\nnewline\rcarriage  two  spaces",
    "the the THE tHe cat's 'cat' <OOV> oov",
    ["Already", "Split!", "the", "CAT", ""],
    "日本語 テキスト emoji 🙂 🙂",
]
UNSEEN = ["The dog sat on a unicorn", [], "", "🙂 zzz the", ["THE", "dog"]]
SETTINGS = {
    "default": {},
    "num_words": {"num_words": 6},
    "oov": {"oov_token": "<OOV>"},
    "oov num_words": {"oov_token": "<OOV>", "num_words": 5},
    "oov is a word": {"oov_token": "the"},
    "one word": {"num_words": 1},
    "one word oov": {"num_words": 1, "oov_token": "?"},
    "zero words": {"num_words": 0},
    "not lower": {"lower": False},
    "char_level": {"char_level": True},
    "char_level oov": {"char_level": True, "oov_token": "UNK", "num_words": 9},
    "filters": {"filters": "aeiou"},
    "split": {"split": "t"},
    "split wide": {"split": "the"},
    "split none": {"split": None},
    "split empty": {"split": ""},
    "analyzer": {"analyzer": lambda text: str(text).split("a")},
}
MODES = ("binary", "count", "freq", "tfidf", "nonsense")
SEQUENCES = {
    "ragged": [[1], [2, 3], [4, 5, 6], []],
    "longer": [[1, 2, 3, 4, 5, 6, 7], [8]],
    "floats": [[1.9, -1.9], [2.5]],
    "vectors": [[[1, 2]], [[3, 4], [5, 6]], []],
    "mixed": [[[1, 2]], [3]],
    "empty": [],
    "only empty": [[], []],
    "ones": [[1], [2]],
    "huge": [[2**40]],
    "not sequences": [1, 2],
    "strings": [["a", "bc"], ["d"]],
}
PADS = [
    {"maxlen": m, "padding": p, "truncating": t}
    for m, p, t in itertools.product((None, 0, 2, 5), ("pre", "post"), ("pre", "post"))
] + [
    {"padding": "middle"},
    {"truncating": "middle"},
    {"value": -1},
    {"value": 1.5},
    {"value": "x"},
    {"value": "x", "dtype": object},
    {"dtype": "float32", "value": 0.5, "maxlen": 3},
]


def attempt(function, *arguments, **options):
    """Return what a call returns as JSON, or the name of what it raises."""
    try:
        result = function(*arguments, **options)
    except Exception as error:
        return {"raises": type(error).__name__}
    if isinstance(result, np.ndarray):
        return {"dtype": str(result.dtype), "shape": list(result.shape), "data": result.tolist()}
    return result


def tables(tokenizer):
    """Everything a tokenizer has learned; orders matter where the hash seed cannot change them."""
    return {
        "word_counts": list(map(list, tokenizer.word_counts.items())),
        "word_index": list(map(list, tokenizer.word_index.items())),
        "index_word": [[i, word] for i, word in tokenizer.index_word.items()],
        "word_docs": sorted(map(list, tokenizer.word_docs.items())),
        "index_docs": sorted(map(list, tokenizer.index_docs.items())),
        "document_count": tokenizer.document_count,
    }


def tokenizer_case(api, settings):
    """All that one tokenizer does."""
    tokenizer = api.Tokenizer(**settings)
    found = {
        "unfitted texts": attempt(tokenizer.texts_to_sequences, UNSEEN),
        "unfitted sequences": attempt(tokenizer.sequences_to_texts, [[0, 1, 2]]),
        "unfitted matrix": attempt(tokenizer.texts_to_matrix, UNSEEN),
        "unfitted tfidf": attempt(tokenizer.sequences_to_matrix, [[1]], mode="tfidf"),
        "unfitted json": tokenizer.to_json() if "analyzer" not in settings else None,
    }
    found["fit"] = attempt(tokenizer.fit_on_texts, TEXTS)
    if found["fit"] is not None:
        return found
    found["tables"] = tables(tokenizer)
    sequences = tokenizer.texts_to_sequences(TEXTS + UNSEEN)
    found["sequences"] = sequences
    found["texts"] = tokenizer.sequences_to_texts([*sequences, [0, 1, 2, 7, 99999], []])
    for mode in MODES:
        found[mode] = attempt(tokenizer.texts_to_matrix, [TEXTS[0], UNSEEN[0], ""], mode=mode)
        found[f"{mode} of nothing"] = attempt(tokenizer.sequences_to_matrix, [[]], mode=mode)
    tokenizer.fit_on_texts(["zebra zebra zebra zebra mat mat mat"])
    found["refitted"] = tables(tokenizer)
    tokenizer.fit_on_sequences([[1, 1, 3], [3], []])
    found["fitted on sequences"] = tables(tokenizer)
    if "analyzer" not in settings:
        loaded = api.tokenizer_from_json(tokenizer.to_json())
        found["loaded is the same"] = tables(loaded) == tables(tokenizer)
        found["loaded sequences"] = loaded.texts_to_sequences(UNSEEN)
    return found


def results(api):
    """Run every case with a library."""
    found = {name: tokenizer_case(api, settings) for name, settings in SETTINGS.items()}
    single = api.Tokenizer(oov_token='ü"\\')
    single.fit_on_texts(["b", "é", "b", "\U0001f642", "a a"])  # one word each: one order of tables
    found["json bytes"] = single.to_json()
    found["json indented"] = single.to_json(indent=1, ensure_ascii=False)
    found["bad texts"] = {
        kind: attempt(api.Tokenizer().fit_on_texts, [bad])
        for kind, bad in {"tuple": ("a", "b"), "None": None, "number": 3, "bytes": b"a"}.items()
    }
    string = api.Tokenizer()
    string.fit_on_texts("ab a")
    found["plain string"] = tables(string)
    found["keyword"] = attempt(api.Tokenizer, words=3)
    found["words"] = {
        str(i): attempt(api.text_to_word_sequence, text, **settings)
        for i, (text, settings) in enumerate(
            itertools.product(
                [text for text in TEXTS if isinstance(text, str)],
                ({}, {"lower": False}, {"filters": ""}, {"split": "a"}, {"split": ""}),
            )
        )
    }
    found["hashes"] = [
        attempt(api.hashing_trick, TEXTS[1], n, "md5") for n in (1, 2, 3, 50, 10**6)
    ] + [attempt(api.hashing_trick, TEXTS[0], 9, len), attempt(api.one_hot, TEXTS[0], 1)]
    found["pad"] = {
        f"{name} {json.dumps(options, default=str)}": attempt(
            api.pad_sequences, sequences, **options
        )
        for name, sequences in SEQUENCES.items()
        for options in PADS
    }
    found["pad a generator"] = attempt(api.pad_sequences, (s for s in [[1]]))
    return json.loads(json.dumps(found))


def keras():
    """Keras' functions under one roof."""
    from keras.src.legacy.preprocessing import text
    from keras.src.utils.sequence_utils import pad_sequences

    names = ("Tokenizer", "hashing_trick", "one_hot", "text_to_word_sequence")
    api = SimpleNamespace(**{name: getattr(text, name) for name in names})
    api.tokenizer_from_json, api.pad_sequences = text.tokenizer_from_json, pad_sequences
    return api


def main():
    """Write the file, or with `-` print it."""
    import keras as library

    golden = {
        "versions": {
            "keras": library.__version__,
            "numpy": np.__version__,
            "python": sys.version.split()[0],
        },
        "results": results(keras()),
    }
    text = json.dumps(golden, separators=(",", ":"), ensure_ascii=True).replace('},"', '},\n"')
    if sys.argv[1:] == ["-"]:
        sys.stdout.write(text)
    else:
        PATH.write_text(text + "\n")


if __name__ == "__main__":
    main()
