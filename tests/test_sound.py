"""What is taken for sound, for transcripts and for options of speech; what is refused instead."""

import io
import math
import os
import struct
import threading
import types

import numpy as np
import pytest
from conftest import assert_close

from gru_np import ctc_decoding, decoding
from gru_np.cli import build_parser, main
from gru_np.speech import (
    Alphabet,
    AudioError,
    AudioFile,
    Features,
    FeatureStream,
    Training,
    Transcriber,
    bucketed,
    command,
    cut_where_quiet,
    delta,
    error_rates,
    pad,
    pad_labels,
    read_audio,
    spec_augment,
    write_wav,
)
from gru_np.speech.audio import Audio

RATE = 8000
FEATURES = Features("spectrogram", rate=RATE, bins=6, normalize=None)


@pytest.fixture(scope="module")
def transcriber():
    return Transcriber.create(FEATURES, Alphabet("abc"), 5, layers=1, bidirectional=False, seed=3)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", ">i2"])
def test_integer_samples_are_those_of_a_sound_file(dtype, transcriber):
    """As librosa, torchaudio and soundfile: divided by the range; without it, off by ln 32768²."""
    info = np.iinfo(dtype)
    middle, half = (128, 128) if dtype == "uint8" else (0, info.max + 1)
    whole = np.random.default_rng(5).integers(info.min, info.max, 900, endpoint=True).astype(dtype)
    floats = ((whole.astype(float) - middle) / half).astype(np.float32)
    expected = FEATURES(floats)
    assert_close(FEATURES(whole), expected, "exact")
    stream = FeatureStream(FEATURES)
    parts = [stream.feed(whole[:333]), stream.feed(whole[333:]), stream.finish()]
    assert_close(np.concatenate(parts), expected, "exact")
    assert transcriber.transcribe(whole) == transcriber.transcribe(floats)
    heard = transcriber.stream()
    assert heard.feed(whole) + heard.finish() == transcriber.transcribe(floats).text
    (cut,) = cut_where_quiet([whole], RATE)
    assert_close(cut, floats, "exact")


def test_written_integers_are_read_back(tmp_path):
    """`scipy.io.wavfile.read` gives int16, which once was clipped to -1 and 1 on its way out."""
    whole = np.array([-32768, -5, 0, 7, 32767], np.int16)
    write_wav(tmp_path / "a.wav", whole, RATE)
    assert_close(read_audio(tmp_path / "a.wav").samples * 32768, whole.astype(np.float32), "exact")


NO_SOUND = {
    "two channels": (np.zeros((4000, 2), np.float32), ValueError, "take one channel"),
    "channels first": (np.zeros((2, 4000), np.int16), ValueError, "take one channel"),
    "one channel, an axis too many": (np.zeros((4000, 1)), ValueError, r"shape \(samples,\)"),
    "a batch of stereo": (np.zeros((3, 2, 4000)), ValueError, r"shape \(samples,\)"),
    "a number": (np.float64(0.5), ValueError, r"shape \(samples,\)"),
    "a list of integers": ([1, 2, 3] * 900, TypeError, "8, 16 or 32 bits"),
    "int64": (np.arange(4000), TypeError, "8, 16 or 32 bits"),
    "uint16": (np.zeros(4000, np.uint16), TypeError, "8, 16 or 32 bits"),
    "int16 made floats": (np.arange(4000.0), ValueError, "divide those of 16 bits by 32768"),
    "a NaN": (np.r_[np.zeros(2000), np.nan, 0], ValueError, "nan in row 2000"),
    "an infinity": ([0.0, math.inf] * 900, ValueError, "inf in row 1"),
    "bool": (np.zeros(4000, bool), TypeError, "floats in -1 .. 1"),
    "complex": (np.zeros(4000, complex), TypeError, "samples"),
    "text": (["a.wav"], TypeError, "samples"),
    "bytes": (b"\0\1" * 4000, TypeError, "samples"),
    "None": (None, TypeError, "array"),
    "a channel missing": ([[0.5, 0.2], [0.1]], ValueError, "different lengths"),
    "scipy's pair": ((RATE, np.zeros(4000, np.int16)), TypeError, "array of samples, got a tuple"),
    "a generator": ((x for x in (0.1, 0.2)), TypeError, "array"),
    "another rate": (Audio(np.zeros(4000, np.float32), 44100), AudioError, "44100 Hz"),
}


@pytest.mark.parametrize("name", NO_SOUND)
def test_what_is_no_sound_gets_one_sentence(name, transcriber):
    sound, error, sentence = NO_SOUND[name]
    takers = [
        transcriber.transcribe, transcriber.stream().feed, FEATURES, FeatureStream(FEATURES).feed
    ]  # fmt: skip
    for taker in takers:
        with pytest.raises(error, match=sentence) as caught:
            taker(sound)
        assert "\n" not in str(caught.value)


def test_what_read_audio_gives_is_taken(transcriber, tmp_path):
    sound = 0.1 * np.random.default_rng(2).standard_normal(4000)
    write_wav(tmp_path / "a.wav", sound, RATE)
    audio = read_audio(tmp_path / "a.wav")
    expected = transcriber.transcribe(tmp_path / "a.wav")
    assert transcriber.transcribe(audio) == expected == transcriber.transcribe(audio.samples)
    assert (
        transcriber.transcribe(audio.samples.tolist()) == expected
    )  # a list of floats is an array
    with pytest.raises(TypeError, match="sounds must be several"):
        FEATURES.fit(audio)


def test_given_spectra_are_no_sound():
    given_ = Features("given", bins=4, normalize=None)
    model = Transcriber.create(given_, Alphabet("ab"), 5, layers=1, bidirectional=False, seed=1)
    with pytest.raises(ValueError, match="use log_probabilities"):
        model.transcribe(np.zeros(900))
    with pytest.raises(ValueError, match="not made of samples"):
        FeatureStream(given_)
    with pytest.raises(ValueError, match=r"\(time, 4\), got \(7, 5\)"):
        given_(np.zeros((7, 5)))
    with pytest.raises(ValueError, match="nan in row 2, at"):
        given_(np.where(np.arange(12).reshape(3, 4) == 9, np.nan, 0))
    with pytest.raises(ValueError, match="inf in row 0"):
        model.log_probabilities(np.full((3, 4), np.inf))
    with pytest.raises(ValueError, match=r"features 1 must have shape \(time, 4\)"):
        model.log_probabilities_of([np.zeros((3, 4)), np.zeros((3, 5))])
    with pytest.raises(ValueError, match=r"features 0 must have shape \(time, 4\)"):
        model.fit(np.zeros((6, 4)), ["a"])


# --------------------------------------------------------------------------------- sound in files


def wav(path, data, announced, whole=None, after=b""):
    form = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    chunks = b"WAVE" + form + b"data" + struct.pack("<I", announced) + data + after
    size = len(chunks) if whole is None else whole
    path.write_bytes(b"RIFF" + struct.pack("<I", size) + chunks)
    return path


UNKNOWN = [0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFDB, 0]


@pytest.mark.parametrize("announced", UNKNOWN, ids=hex)
def test_a_wav_that_a_program_wrote_into_a_pipe_is_read_to_its_end(tmp_path, announced):
    """The sizes are those of SoX, arecord, ffmpeg and GStreamer, which could not go back."""
    data = np.arange(-3, 4, dtype="<i2").tobytes()
    path = wav(tmp_path / "a.wav", data + b"\0", announced, whole=announced and 0xFFFFFFFF)
    assert_close(read_audio(path).samples * 32768, np.arange(-3.0, 4, dtype=np.float32), "exact")


def test_a_file_that_says_truly_that_it_holds_nothing_is_believed(tmp_path):
    path = wav(tmp_path / "a.wav", b"", 0, after=b"LIST" + struct.pack("<I", 4) + b"INFO")
    with pytest.raises(AudioError, match="holds no samples"):
        read_audio(path)
    with pytest.raises(AudioError, match="cut short"):
        read_audio(wav(tmp_path / "b.wav", b"\0" * 100, 400))


def test_a_size_in_a_header_allocates_nothing(tmp_path):
    import tracemalloc

    path = tmp_path / "a.wav"
    path.write_bytes(b"RIFF\0\0\0\0WAVEfmt " + struct.pack("<I", 2**32 - 2) + b"\1\0" * 40)
    tracemalloc.start()
    with pytest.raises(AudioError):
        AudioFile(path)
    assert tracemalloc.get_traced_memory()[1] < 10**7
    tracemalloc.stop()


def test_no_device_and_no_silent_pipe_is_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(AudioError, match="a pipe that nobody writes to"):
        read_audio(tmp_path / "pipe")
    with pytest.raises(AudioError, match="expected a regular file"):
        read_audio("/dev/zero")
    assert main(["transcribe", str(tmp_path / "pipe"), "--model", "/dev/zero"]) == 2


def test_a_rate_that_no_header_holds_leaves_the_file_that_is_there(tmp_path):
    write_wav(tmp_path / "a.wav", np.array([0.5, -0.5]), RATE)
    for rate in (2**31, 10**30):
        with pytest.raises(ValueError, match="rate must be at most 2147483647 Hz"):
            write_wav(tmp_path / "a.wav", np.zeros(3), rate)
    assert read_audio(tmp_path / "a.wav").samples.tolist() == [0.5, -0.5]
    write_wav(tmp_path / "a.wav", np.zeros(3), 2**31 - 1)


def test_a_pipe_with_a_writer_is_read(tmp_path):
    write_wav(tmp_path / "a.wav", np.array([0.5, -0.5]), RATE)
    ours, theirs = os.pipe()
    writer = threading.Thread(
        target=lambda: (os.write(theirs, (tmp_path / "a.wav").read_bytes()), os.close(theirs))
    )
    writer.start()
    assert read_audio(f"/dev/fd/{ours}").samples.tolist() == [0.5, -0.5]
    writer.join()
    os.close(ours)


# ------------------------------------------------------------------------------------ transcripts


def test_a_string_is_one_transcript_not_a_list_of_characters(monkeypatch):
    """One word of two is wrong: 0.5, as jiwer.wer("ab cd", "ab ce") says; of characters 1 in 5."""
    asked = []
    fake = types.SimpleNamespace(wer=lambda a, b: asked.append((a, b)) or 0.5, cer=lambda a, b: 0.2)
    monkeypatch.setitem(__import__("sys").modules, "jiwer", fake)
    assert error_rates("ab cd", "ab ce") == (0.5, 0.2)
    assert asked == [(["ab cd"], ["ab ce"])]
    for said, written, error, sentence in (
        (["a", "b"], "ab", ValueError, "as many, and some; got 2 and 1"),
        ([], [], ValueError, "as many, and some; got 0 and 0"),
        (["a", " "], ["a", "b"], ValueError, "must hold a word, got ' ' at 1"),
        (["a", None], ["a", "b"], TypeError, "list of str, got None at 1"),
        (["a", ["b"]], ["a", "b"], TypeError, r"list of str, got \['b'\] at 1"),
        (b"a", "a", TypeError, "list of str, got b'a'"),
        (None, "a", TypeError, "list of str, got None"),
        (3.5, "a", TypeError, "list of str, got 3.5"),
        ({"a": 1}, "a", TypeError, "list of str"),
    ):
        with pytest.raises(error, match=sentence):
            error_rates(said, written)


def test_error_rates_are_those_of_jiwer():
    jiwer = pytest.importorskip("jiwer", reason="needs the extra audio")
    rates = error_rates("ab cd", "ab ce")
    assert rates == (0.5, 0.2) == (jiwer.wer("ab cd", "ab ce"), jiwer.cer("ab cd", "ab ce"))


def test_an_alphabet_of_a_string_is_that_of_one_transcript():
    assert Alphabet.of("no one", "word").symbols == ["no", "one"]
    assert Alphabet.of("no one").symbols == Alphabet.of(["no one"]).symbols
    for wrong, sentence in (
        (lambda: Alphabet("ab", "word"), "list of words, got 'ab'"),
        (lambda: Alphabet([1, 2]), "list of str, got 1 at 0"),
        (lambda: Alphabet(None), "list of str, got None"),
        (lambda: Alphabet("ab").encode(None), "must be a str, got None"),
        (lambda: Alphabet.of(["a", 2]), "list of str, got 2 at 1"),
    ):
        with pytest.raises(TypeError, match=sentence):
            wrong()
    with pytest.raises(ValueError, match="words without spaces"):
        Alphabet(["a b"], "word")
    with pytest.raises(ValueError, match="did you mean 'word'"):
        Alphabet.of(["a"], "words")


# ---------------------------------------------------------------------------------------- options


BOUNDS = {
    "transcribe": ("--beam 0", "--beam 1000000000000", "--weight nan", "--weight -1",
                   "--weight inf", "--seed -1", "--plot nowhere/a.png"),
    "train-speech x": (
        "--bins 0", "--bins 10000000", "--deltas 3", "--deltas -1", "--stack 0",
        "--stack 1000000000", "--units 0", "--units 10000000", "--layers 0", "--layers 1000000",
        "--dropout 1", "--dropout nan", "--epochs 0", "--epochs 10000000000", "--batch-size 0",
        "--learning-rate 0", "--learning-rate inf", "--noise -1", "--noise nan",
        "--validation 1", "--validation nan", "--seed 1.5", "--model nowhere/a",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    "line", [f"{name} {option}" for name, options in BOUNDS.items() for option in options]
)
def test_every_option_of_speech_has_bounds(line, capsys):
    assert main(line.split()) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence.startswith(f"gru-np {line.split()[0]}: {line.split()[-2]} must be ")


def test_a_numeric_option_without_bounds_does_not_exist():
    """Every option of the three commands that takes a number has a kind of `_options`."""
    commands = build_parser()._subparsers._group_actions[0].choices
    for name in ("transcribe", "train-speech", "forecast"):
        for action in commands[name]._actions:
            assert action.type not in (int, float), (name, action.dest)


def test_a_model_file_names_no_file_to_read_when_training_goes_on(tmp_path, transcriber):
    """`vars(args).update(run)` took `folder` and `model` from the file, too."""
    transcriber.model.compile("ctc")
    run = {"validation": 0.1, "seed": 0, "epochs": 5, "batch_size": 2, "learning_rate": 0.1,
           "noise": 0.0, "augment": False}  # fmt: skip
    foreign = {"model": "victim", "folder": "/etc", "bins": 7}
    transcriber.model.extras["run"] = run | foreign
    transcriber.save(tmp_path / "m")
    args = build_parser().parse(["train-speech", "here", "--model", str(tmp_path / "m")])
    before = {name: getattr(args, name) for name in foreign}
    command._take_up(args)
    assert {name: getattr(args, name) for name in foreign} == before
    assert (args.epochs, args.learning_rate) == (5, 0.1)
    for name, wrong in (("epochs", 10**12), ("noise", math.inf), ("augment", "yes"), ("seed", [])):
        transcriber.model.extras["run"] = run | {name: wrong}
        transcriber.save(tmp_path / "m") if wrong != math.inf else None
        if wrong != math.inf:  # JSON has none, so no file has either
            with pytest.raises(ValueError, match=f"the run's setting {name} has no meaning"):
                command._take_up(args)


def test_settings_of_training_have_bounds():
    for settings in ({"epochs": 0}, {"noise": math.nan}, {"noise": -1}, {"learning_rate": 0},
                     {"clipnorm": math.inf}, {"batch_size": 0}, {"seed": -1}):  # fmt: skip
        with pytest.raises(ValueError, match=f"Training: {next(iter(settings))} must be"):
            Training(**settings)


def test_settings_of_the_search_have_bounds():
    log_y = np.log(np.full((3, 4), 0.25))
    search, align = ctc_decoding.prefix_beam_search, ctc_decoding.align
    for wrong, sentence in (
        (lambda: search(log_y, weight=math.nan), "weight must be finite"),
        (lambda: search(log_y, label_bonus=math.inf), "label_bonus must be finite"),
        (lambda: search(log_y, least_log_p=math.nan), "least_log_p must be a number"),
        (lambda: search(log_y, beam_width=0), "beam_width must be at least 1"),
        (lambda: search(log_y, blank=4), "blank must be one of 4 outputs, got 4"),
        (lambda: search(log_y * np.nan), "NaN at time 0"),
        (lambda: search(log_y[0]), r"shape \(time, outputs\)"),
        (lambda: ctc_decoding.greedy(np.r_[log_y[:2], log_y[:1] * np.nan]), "NaN at time 2"),
        (lambda: ctc_decoding.greedy(log_y[None]), r"shape \(time, outputs\)"),
        (lambda: align(log_y, [4]), "labels must be in 0..3 and not the blank, 0, got 4"),
        (lambda: align(log_y, [-1]), "got -1"),
        (lambda: align(log_y, [0]), "got 0"),
        (lambda: decoding.beam_search(None, None, [0.0, 0.0], 2, length_norm=math.nan), "length_n"),
    ):
        with pytest.raises(ValueError, match=sentence):
            wrong()
    with pytest.raises(TypeError, match="beam_width must be an integer"):
        decoding.beam_search(None, None, [0.0, 0.0], 2, beam_width=math.nan)
    with pytest.raises(TypeError, match="scores must be numbers, got an array of <U1"):
        decoding.sample(["1", "2"], np.random.default_rng(0))


# ------------------------------------------------------------------------------------------ sweep


class Looks:
    """Has a length and items without end, and is no array."""

    def __len__(self):
        return 3

    def __getitem__(self, i):
        return self


ODD = [
    None, True, 3, 2.5, 1j, "", "abc", b"ab", [], (), {}, set(), [None], [[]], [[1], [1, 2]],
    ["a"], [b"a"], [True], [1j], [math.nan], [[0.5]], range(3), object(), Looks(), io.StringIO("a"),
    np.zeros(0), np.zeros((0, 6)), np.zeros((2, 0)), np.zeros((2, 6)), np.zeros((2, 2, 6)),
    np.array(None), np.array("a"), np.array(["a", None], object), np.datetime64("2024-01-01"),
    np.array(["2024-01-01"], "M8[D]"), np.ma.masked_array([0.5, 1.0], [True, False]),
    np.ones(3, "S1"), np.ones(3, [("a", int)]), np.array([10**30], object), np.full(3, np.inf),
    np.ones((2, 6), ">f4"), np.ones((2, 6), np.float16), np.ones((2, 6), np.longdouble),
    types.SimpleNamespace(shape=(3,), dtype=float), lambda: 0, iter([0.5]), memoryview(b"abc"),
]  # fmt: skip


TAKERS = {
    "features": FEATURES,
    "a stream": lambda x: FeatureStream(FEATURES).feed(x),
    "write_wav": lambda x: write_wav(os.devnull, x, RATE),
    "cut_where_quiet": lambda x: list(cut_where_quiet([x], RATE)),
    "delta": delta,
    "spec_augment": lambda x: spec_augment(x, np.random.default_rng(0), FEATURES),
    "pad": lambda x: pad([x]),
    "pad_labels": lambda x: pad_labels([[1], x]),
    "bucketed": lambda x: bucketed(x, 2),
    "error_rates": lambda x: error_rates(["a"], x),
    "Alphabet": Alphabet,
    "Alphabet.of": Alphabet.of,
    "greedy": ctc_decoding.greedy,
    "prefix_beam_search": lambda x: ctc_decoding.prefix_beam_search(x, 2),
    "align": lambda x: ctc_decoding.align(np.zeros((4, 3)), x),
}


@pytest.mark.parametrize("name", TAKERS)
def test_whatever_is_given_is_taken_or_refused_in_one_sentence(name):
    for odd in ODD:
        try:
            TAKERS[name](odd)
        except (ValueError, TypeError, ImportError) as error:
            sentence = str(error)
            assert ": " in sentence and "\n" not in sentence, (
                odd,
                sentence,
            )  # who, and what was expected
