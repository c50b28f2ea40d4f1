"""Speech: sound files good and bad, features, batches, the CTC loss in a model, transcription."""

import argparse
import itertools
import struct
import sys
import tracemalloc
import warnings

import numpy as np
import pytest
from conftest import assert_close
from hypothesis import given
from hypothesis import strategies as st

from gru_np import GRU, Bidirectional, Dense, Sequential, check_gradients, checkpoint, ctc, losses
from gru_np.ctc_decoding import greedy
from gru_np.layers import Masking
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
    corpus,
    cut_where_quiet,
    delta,
    dialling,
    error_rates,
    pad,
    pad_labels,
    plot_posteriors,
    read_audio,
    spec_augment,
    write_wav,
)

# ------------------------------------------------------------------------------------ sound files


def wav(path, data, kind=1, channels=1, rate=8000, bits=16, announced=None, extra=b"", more=b""):
    """Write a WAV by hand, so that it may be wrong."""
    form = struct.pack(
        "<HHIIHH", kind, channels, rate, rate * channels * bits // 8, channels * bits // 8, bits
    )
    form += extra
    size = len(data) if announced is None else announced
    chunks = b"fmt " + struct.pack("<I", len(form)) + form + more
    chunks += b"data" + struct.pack("<I", size) + data
    path.write_bytes(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks)
    return path


SAMPLES = np.array([0.0, 0.5, -0.5, 0.25, -1.0])


@pytest.mark.parametrize(
    ("kind", "bits", "data"),
    [
        (1, 8, (SAMPLES * 128 + 128).astype("u1").tobytes()),
        (1, 16, (SAMPLES * 2**15).astype("<i2").tobytes()),
        (1, 24, b"".join(struct.pack("<i", int(s * 2**31))[1:] for s in SAMPLES)),
        (1, 32, (SAMPLES * 2**31).astype("<i4").tobytes()),
        (3, 32, SAMPLES.astype("<f4").tobytes()),
        (3, 64, SAMPLES.astype("<f8").tobytes()),
    ],
)
def test_every_plain_sample_format_is_read_exactly(tmp_path, kind, bits, data):
    audio = read_audio(wav(tmp_path / "a.wav", data, kind, bits=bits), 8000)
    assert audio.samples.dtype == np.float32
    assert_close(audio.samples, SAMPLES.astype(np.float32), "exact")


def test_several_channels_become_their_mean_and_other_chunks_are_skipped(tmp_path):
    data = np.array([[0, 16384], [8192, -8192], [-16384, -16384]], "<i2").tobytes()
    more = b"LIST" + struct.pack("<I", 3) + b"abc\0"  # of odd length, so a byte of padding
    audio = read_audio(wav(tmp_path / "a.wav", data, channels=2, more=more))
    assert audio.samples.tolist() == [0.25, 0.0, -0.5]


def test_extensible_and_unfinished_headers_are_understood(tmp_path):
    data = (SAMPLES * 2**15).astype("<i2").tobytes()
    extra = struct.pack("<HHIH", 22, 16, 0, 1) + bytes(14)
    extensible = wav(tmp_path / "a.wav", data, kind=0xFFFE, extra=extra)
    unfinished = wav(tmp_path / "b.wav", data, announced=0xFFFFFFFF)
    for path in (extensible, unfinished):
        assert_close(read_audio(path).samples, SAMPLES.astype(np.float32), "exact")


def test_blocks_joined_are_the_whole(tmp_path, rng):
    sound = rng.uniform(-1, 1, 8001)
    write_wav(tmp_path / "a.wav", sound, 8000)
    with AudioFile(tmp_path / "a.wav") as file:
        blocks = list(file.blocks(0.3))
    assert [len(b) for b in blocks] == [2400, 2400, 2400, 801]
    assert_close(np.concatenate(blocks), read_audio(tmp_path / "a.wav").samples, "exact")
    assert abs(np.concatenate(blocks) - sound).max() <= 2**-16 + 1e-7


def bad_files(folder):
    good = (SAMPLES * 2**15).astype("<i2").tobytes()
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.wav").write_text("not audio at all, but long enough to be looked at")
    (folder / "cut.wav").write_bytes(wav(folder / "x.wav", good).read_bytes()[:30])
    wav(folder / "short.wav", good, announced=16000)
    wav(folder / "silent.wav", b"")
    wav(folder / "broken.wav", good, channels=0)
    wav(folder / "nan.wav", np.array([0.0, np.nan], "<f4").tobytes(), kind=3, bits=32)
    return {
        "missing.wav": "there is no such file",
        "empty.wav": "is empty",
        "text.wav": "is not a",
        "cut.wav": "is a damaged WAV file",
        "short.wav": r"is cut short; its header announces 1.00 s, the file holds 0.00 s",
        "silent.wav": "holds no samples",
        "broken.wav": "is a damaged WAV file: 0 channels at 8000 Hz",
        "nan.wav": "holds samples that are NaN or infinite",
    }


def test_bad_audio_gets_one_clear_sentence(tmp_path):
    for name, sentence in bad_files(tmp_path).items():
        with pytest.raises(AudioError, match=sentence) as caught:
            read_audio(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}: ")
        assert "\n" not in str(caught.value)
    with pytest.raises(AudioError, match="this is a directory; name a file"):
        read_audio(tmp_path)


def test_a_wrong_rate_is_refused_and_nothing_is_resampled(tmp_path):
    write_wav(tmp_path / "a.wav", SAMPLES, 44100)
    with pytest.raises(AudioError, match="has 44100 Hz, the model expects 8000 Hz"):
        read_audio(tmp_path / "a.wav", 8000)


def test_other_formats_need_the_extra_and_say_so(tmp_path, monkeypatch):
    (tmp_path / "a.flac").write_bytes(b"fLaC" + bytes(100))
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(AudioError, match=r"pip install gru_np\[audio\]"):
        read_audio(tmp_path / "a.flac")


def test_flac_is_read_through_soundfile(tmp_path, rng):
    soundfile = pytest.importorskip("soundfile", reason="needs the extra audio")
    sound = rng.uniform(-0.9, 0.9, (4000, 2)).astype(np.float32)
    soundfile.write(tmp_path / "a.flac", sound, 16000, subtype="PCM_24")
    audio = read_audio(tmp_path / "a.flac", 16000)
    assert abs(audio.samples - sound.mean(axis=1)).max() < 1e-6


# --------------------------------------------------------------------------------------- features


def test_the_spectrogram_is_loudest_where_the_tone_is():
    features = Features("spectrogram", rate=8000, bins=40, normalize=None)
    t = np.arange(8000) / 8000
    for frequency in (450, 1234, 3777):
        x = features(np.sin(2 * np.pi * frequency * t))
        assert x.shape == (98, 40)
        assert (x.argmax(axis=1) == frequency // 100).all()


def test_deltas_are_slopes(rng):
    x = rng.standard_normal((9, 3))
    around = np.pad(x, [(2, 2), (0, 0)], mode="edge")
    for t in range(9):
        at = around[t : t + 5]
        expected = (at[3] - at[1] + 2 * (at[4] - at[0])) / 10
        assert_close(delta(x)[t], expected, "naive")
    features = Features("given", bins=3, deltas=2, normalize=None)
    x = x.astype(np.float32)
    assert_close(features(x), np.concatenate([x, delta(x), delta(delta(x))], axis=1), "exact")


def test_stacking_joins_frames_and_repeats_the_last_one(rng):
    x = rng.standard_normal((5, 3)).astype(np.float32)
    y = Features("given", bins=3, stack=2, normalize=None)(x)
    assert_close(y, np.concatenate([x, x[-1:]]).reshape(3, 6), "exact")


def test_normalisation_by_utterance_and_by_the_training(rng):
    x = [3 + 2 * rng.standard_normal((n, 4)).astype(np.float32) for n in (30, 50)]
    y = Features("given", bins=4)(x[0])
    assert abs(y.mean(axis=0)).max() < 1e-5
    assert abs(y.std(axis=0) - 1).max() < 1e-3
    features = Features("given", bins=4).fit(x)
    z = np.concatenate([features(one) for one in x])
    assert abs(z.mean(axis=0)).max() < 1e-5
    assert abs(z.std(axis=0) - 1).max() < 1e-3
    assert Features.from_config(features.get_config()) == features
    with pytest.raises(ValueError, match="global normalisation needs 8 numbers as mean, got 4"):
        Features("given", bins=4, deltas=1, normalize="global", mean=features.mean)(x[0])


@given(
    deltas=st.integers(0, 2),
    stack=st.integers(1, 3),
    cuts=st.lists(st.integers(0, 3000), max_size=8),
    length=st.integers(0, 3000),
)
def test_features_of_a_stream_are_those_of_the_whole(deltas, stack, cuts, length):
    sound = np.random.default_rng(length).standard_normal(length).astype(np.float32)
    features = Features(
        "spectrogram", rate=8000, bins=8, deltas=deltas, stack=stack, normalize=None
    )
    stream = FeatureStream(features)
    bounds = sorted({0, length, *(c for c in cuts if c < length)})
    pieces = [stream.feed(sound[a:b]) for a, b in itertools.pairwise(bounds)]
    pieces.append(stream.finish())
    assert_close(np.concatenate(pieces), features(sound), "precision")


@pytest.mark.parametrize("kind", ["log_mel", "mfcc"])
def test_kaldi_features_stream_too(rng, kind):
    pytest.importorskip("kaldi_native_fbank", reason="needs the extra audio")
    sound = 0.1 * rng.standard_normal(9000).astype(np.float32)
    features = Features(kind, rate=8000, bins=13, deltas=1, normalize=None)
    stream = FeatureStream(features)
    pieces = [stream.feed(sound[i : i + 1111]) for i in range(0, 9000, 1111)]
    whole = features(sound)
    assert whole.shape == (1 + (9000 - 200) // 80, 26)
    assert_close(np.concatenate([*pieces, stream.finish()]), whole, "precision")


def test_features_without_the_extra_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "kaldi_native_fbank", None)
    with pytest.raises(ImportError, match=r"pip install gru_np\[audio\]"):
        Features(rate=8000)(np.zeros(8000))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "mel"}, "kind must be one of"),
        ({"deltas": 3}, "deltas must be 0, 1 or 2"),
        ({"normalize": "all"}, "normalize must be one of"),
        ({"window": 0.001}, "window >= shift > 0"),
        ({"floor": 0.0}, "floor must be a positive power"),
    ],
)
def test_impossible_features_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Features(**settings)


def test_below_the_floor_all_is_alike(rng):
    quiet, loud = 1e-5 * rng.standard_normal(4000), rng.standard_normal(4000)
    for floor, same in ((1e-4, True), (1e-12, False)):
        features = Features("spectrogram", rate=8000, bins=16, normalize=None, floor=floor)
        silence, hiss, noise = map(features, (np.zeros(4000), quiet, loud))
        assert (abs(hiss - silence).max() < 0.1) == same  # e-folds of power
        assert (noise - silence).min() > 5
    assert Features.from_config(features.get_config()) == features


def test_spec_augment_hides_whole_bands_and_stretches_and_leaves_the_rest(rng):
    features = Features("given", bins=10, deltas=1, stack=2)
    x = rng.standard_normal((60, 40))
    kept = x.copy()
    y = spec_augment(x, rng, features)
    assert_close(x, kept, "exact")
    hidden = y == 0
    assert_close(y[~hidden], x[~hidden], "exact")
    bands = hidden.reshape(60, 4, 10)
    assert (bands == bands[:, :1]).all()  # alike in both frames and in the deltas
    assert hidden.any() and not hidden.all()


# ------------------------------------------------------------------------------------- batches


@given(st.lists(st.integers(1, 200), min_size=1, max_size=60), st.integers(1, 9))
def test_buckets_hold_every_row_once_and_similar_lengths(lengths, size):
    for rng in (None, np.random.default_rng(0)):
        batches = bucketed(lengths, size, rng)
        assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
        assert all(1 <= len(rows) <= size for rows in batches)
    in_order = [lengths[i] for rows in bucketed(lengths, size) for i in rows]
    assert in_order == sorted(lengths)


@given(st.integers(0, 9000), st.integers(1, 4000), st.integers(0, 2**31))
def test_sound_cut_where_it_is_quiet_is_all_there(length, block, seed):
    sound = np.random.default_rng(seed).standard_normal(length).astype(np.float32)
    blocks = (sound[i : i + block] for i in range(0, length, block))
    pieces = list(cut_where_quiet(blocks, rate=1000, longest=2.0))
    assert_close(np.concatenate([sound[:0], *pieces]), sound, "exact")
    assert all(0 < len(piece) <= 2000 for piece in pieces)


def test_alphabet_of_characters_and_of_words():
    characters = Alphabet.of(["ab", "b a"])
    assert characters.symbols == [" ", "a", "b"]
    assert characters.decode(characters.encode("a b")) == "a b"
    words = Alphabet.of(["no yes", "no no"], unit="word")
    assert words.decode(words.encode("yes no")) == "yes no"
    with pytest.raises(ValueError, match="holds 'c', which no transcript"):
        characters.encode("abc")


# ------------------------------------------------------------------------- masking and the loss


def recognizer(rng, last="softmax", dtype="float64"):
    """A bidirectional model whose every parameter is random."""
    model = Sequential(
        [Masking(-7.0), Bidirectional(GRU(3, return_sequences=True)), Dense(4, activation=last)],
        dtype=dtype,
        seed=0,
    )
    model.build((None, None, 2))
    model.set_weights([rng.standard_normal(w.shape) for w in model.get_weights()])
    model.compile("ctc", "adam")
    return model


@pytest.fixture
def batch(rng):
    x = rng.standard_normal((3, 6, 2))
    x[1, 4:] = -7.0
    x[2, 1] = -7.0  # a hole in the middle is left out
    return x, np.array([[1, 2, 2], [3, -1, -1], [-1, -1, -1]])


def test_ctc_in_a_model_passes_the_gradient_check(rng, batch):
    for last in ("softmax", None):
        check_gradients(recognizer(rng, last), *batch).raise_if_bad()


def test_masking_passes_the_gradient_check_and_keeps_an_incoming_mask(rng, batch):
    check_gradients(Masking(-7.0), batch[0]).raise_if_bad()
    coming = np.ones((3, 6), bool)
    coming[0, 0] = False
    mask = Masking(-7.0).compute_mask(batch[0], coming)
    assert mask.sum(axis=1).tolist() == [5, 4, 5]


def test_padding_changes_neither_loss_nor_gradient(rng):
    model = recognizer(rng)
    x, y = rng.standard_normal((1, 5, 2)), np.array([[1, 3]])
    longer = np.concatenate([x, np.full((1, 4, 2), -7.0)], axis=1)
    labels = np.array([[1, 3, -1, 0]])  # the blank pads as well
    loss, gradients = model.compute_gradients(x, y)
    padded_loss, padded = model.compute_gradients(longer, labels)
    assert_close(padded_loss, loss, "rounding")
    assert_close(padded, gradients, "rounding")


def test_softmax_or_logits_at_the_end_mean_the_same(rng, batch):
    with_softmax, without = recognizer(rng), recognizer(rng, None)
    without.set_weights(with_softmax.get_weights())
    a, b = with_softmax.compute_gradients(*batch), without.compute_gradients(*batch)
    assert_close(a[0], b[0], "rounding")
    assert_close(a[1], b[1], "rounding")


def test_ctc_of_probabilities_differentiates_through_the_logarithm(rng):
    logits, y = rng.standard_normal((2, 5, 3)), np.array([[1, 2], [2, -1]])
    p = np.exp(ctc.log_softmax(logits))
    value, dp = losses.CTC(from_logits=False)(y, p)
    expected, _ = losses.CTC()(y, logits)
    assert_close(value, expected, "rounding")
    direction = rng.standard_normal(p.shape)
    stepped, _ = losses.CTC(from_logits=False)(y, p + 1e-30j * direction)
    assert_close((dp * direction).sum(), stepped.imag / 1e-30, "complex step")


def test_ctc_is_a_mean_over_rows_with_weights(rng):
    logits, y = rng.standard_normal((3, 5, 3)), np.array([[1, 2], [2, -1], [1, 1]])
    each, gradient, _ = ctc.ctc_loss(logits, y, np.array([5, 5, 5]), np.array([2, 1, 2]))
    w = np.array([1.0, 0.5, 3.0])
    value, dy = losses.CTC()(y, logits, sample_weight=w)
    assert_close(value, (each * w).sum() / 3, "rounding")
    assert_close(dy, gradient * w[:, None, None] / 3, "rounding")


def test_a_row_without_alignment_warns_and_counts_as_zero(rng):
    logits, y = rng.standard_normal((2, 3, 3)), np.array([[1, 1, 1], [1, 2, -1]])
    with pytest.warns(RuntimeWarning, match=r"1 of 2 rows .* \(row 0 has 3 time steps and needs 5"):
        value, dy = losses.CTC()(y, logits)
    assert_close(value, losses.CTC()(y[1:], logits[1:])[0] / 2, "rounding")
    assert not dy[0].any()


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([[1, 3]], "labels must be below the 3 outputs of y_pred, got 3 at position"),
        ([[-1, 1]], "must stand behind all labels, got .* in row 0"),
        ([1, 2], r"y_true must have shape \(1, labels\)"),
        ([[1.5, 2]], "labels must be integers"),
    ],
)
def test_wrong_labels_are_named(y, message):
    with pytest.raises(ValueError, match=message):
        losses.CTC()(y, np.zeros((1, 4, 3)))


def test_blank_may_be_the_last_output(rng):
    logits = rng.standard_normal((1, 4, 3))
    last = losses.CTC(blank=-1)([[0, 1]], logits)[0]
    assert_close(last, losses.CTC()([[1, 2]], np.roll(logits, 1, axis=2))[0], "rounding")
    with pytest.raises(ValueError, match="blank must be one of the 3 outputs"):
        losses.CTC(blank=3)([[0]], logits)


def test_mean_loss_of_an_epoch_is_over_utterances(rng, batch):
    model = recognizer(rng)
    whole = model.evaluate(*batch, batch_size=3)
    assert_close(model.evaluate(*batch, batch_size=2), whole, "rounding")


def test_a_model_compiled_with_ctc_saves_and_loads(rng, batch, tmp_path):
    model = recognizer(rng)
    model.fit(*batch, epochs=2, verbose=0)
    model.save(tmp_path / "m.safetensors")
    again = Sequential.load(tmp_path / "m.safetensors")
    assert repr(again.loss) == "CTC()"
    assert_close(again.predict(batch[0]), model.predict(batch[0]), "exact")


# --------------------------------------------------------------------------------- transcribing

FEATURES = Features("spectrogram", rate=8000, bins=32, stack=2)
QUICK = Training(epochs=14, batch_size=8, learning_rate=2e-2, sorted_epochs=1, noise=0.0)


def calls(rng, count):
    numbers = ["".join(rng.choice(["1", "5", "9"], rng.integers(2, 5))) for _ in range(count)]
    return numbers, [dialling.dial(number, rng, noise=0.02) for number in numbers]


def trained(numbers, sounds, path=None, training=QUICK, **settings):
    features = FEATURES.fit(sounds)
    transcriber = Transcriber.create(
        features, Alphabet("159"), units=16, layers=1, dropout=0.0, seed=0, **settings
    )
    transcriber.fit([features(s) for s in sounds], numbers, training, path=path)
    return transcriber


@pytest.fixture(scope="module")
def learnt():
    """A streaming transcriber that has learnt three keys, and calls it has not heard."""
    rng = np.random.default_rng(7)
    transcriber = trained(*calls(rng, 60), bidirectional=False)
    return transcriber, *calls(rng, 20)


def test_it_learns_to_transcribe_what_it_has_not_heard(learnt):
    transcriber, numbers, sounds = learnt
    heard = [transcriber.transcribe(sound).text for sound in sounds]
    assert sum(a == b for a, b in zip(heard, numbers, strict=True)) >= 18


def test_a_stream_writes_the_text_of_the_whole_file(learnt, rng):
    transcriber, _, sounds = learnt
    sound = np.concatenate(sounds[:6])
    whole = transcriber.transcribe(sound)
    at_once = greedy(transcriber.log_probabilities(transcriber.features(sound)))
    assert whole == transcriber.transcript(at_once)
    for size in (37, 800, 5000, len(sound)):
        stream = transcriber.stream()
        text = "".join(stream.feed(sound[i : i + size]) for i in range(0, len(sound), size))
        assert text + stream.finish() == whole.text
        assert stream.transcript == whole


def test_scores_of_batches_are_those_of_each_alone(learnt):
    transcriber, _, sounds = learnt
    inputs = [transcriber.features(sound) for sound in sounds]
    for x, log_y in zip(inputs, transcriber.log_probabilities_of(inputs, 7), strict=True):
        assert_close(log_y, transcriber.log_probabilities(x), "rounding")


def test_search_and_best_path_agree_where_the_model_is_sure(learnt):
    transcriber, _, sounds = learnt
    for sound in sounds[:4]:
        by_search = transcriber.transcribe(sound, beam_width=4)
        assert by_search.text == transcriber.transcribe(sound).text
        assert [w.text for w in by_search.words] == [by_search.text]
        assert 0 < by_search.words[0].begin < by_search.words[0].end < len(sound) / 8000


def test_a_search_through_long_sound_is_cut_where_it_is_quiet(learnt):
    transcriber, _, sounds = learnt
    pauses = [np.concatenate([sound, np.zeros(8000)]) for sound in sounds]
    sound = np.concatenate(pauses).astype(np.float32)
    assert len(sound) / 8000 > 25  # at least one cut
    by_search, best_path = (
        transcriber.transcribe(sound, beam_width=4),
        transcriber.transcribe(sound),
    )
    assert by_search.text == best_path.text
    scores = list(transcriber._pieces(sound))
    assert len(scores) > 1
    at_once = transcriber.log_probabilities(transcriber.features(sound))
    assert_close(np.concatenate(scores), at_once, "rounding")


@pytest.mark.parametrize("bidirectional", [False, True])
def test_memory_does_not_grow_with_the_length_of_a_file(tmp_path, rng, bidirectional):
    features = FEATURES if bidirectional else FEATURES.fit([rng.standard_normal(8000)])
    transcriber = Transcriber.create(
        features, Alphabet("ab"), 8, layers=1, bidirectional=bidirectional, seed=0
    )
    peaks = []
    for minutes in (1, 1, 5):  # the first loads and compiles
        write_wav(tmp_path / "a.wav", 0.1 * rng.standard_normal(minutes * 60 * 8000), 8000)
        tracemalloc.start()
        transcriber.transcribe(tmp_path / "a.wav")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.2 * peaks[1]


def test_a_saved_transcriber_is_the_same(learnt, tmp_path):
    transcriber, _, sounds = learnt
    transcriber.save(tmp_path / "t.safetensors")
    again = Transcriber.load(tmp_path / "t.safetensors")
    assert again.features == transcriber.features
    assert again.transcribe(sounds[0]) == transcriber.transcribe(sounds[0])
    Sequential([Dense(2)]).build((None, 3))
    other = Sequential([Dense(2)])
    other.build((None, 3))
    other.save(tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="not one for speech"):
        Transcriber.load(tmp_path / "other.safetensors")


def test_an_interrupted_training_ends_with_the_bits_of_one_that_was_not(rng, tmp_path):
    numbers, sounds = calls(rng, 12)
    path = tmp_path / "t.safetensors"
    training = Training(epochs=3, batch_size=5, noise=0.2, augment=True)
    whole = trained(numbers, sounds, training=training)

    class StopError(Exception):
        pass

    def stop(epoch, loss):
        if epoch == 2:
            raise StopError

    features = FEATURES.fit(sounds)
    inputs = [features(s) for s in sounds]
    begun = Transcriber.create(features, Alphabet("159"), 16, 1, dropout=0.0, seed=0)
    with pytest.raises(StopError):
        begun.fit(inputs, numbers, training, stop, path)
    resumed = Transcriber.load(path)
    assert resumed.epochs_done == 2
    resumed.fit(inputs, numbers, training)
    for a, b in zip(resumed.model.get_weights(), whole.model.get_weights(), strict=True):
        assert_close(a, b, "exact")


def test_a_bidirectional_model_cannot_stream_but_cuts_long_sound(rng):
    numbers, sounds = calls(rng, 4)
    transcriber = trained(numbers, sounds, training=Training(epochs=1, batch_size=2))
    with pytest.raises(ValueError, match="GRUs of one direction"):
        transcriber.stream()
    assert isinstance(transcriber.transcribe(np.tile(sounds[0], 40)).text, str)


def test_sound_too_short_for_its_transcript_is_refused():
    transcriber = Transcriber.create(Features("given", bins=4), Alphabet("ab"), units=4, seed=0)
    with pytest.raises(ValueError, match="'aab' needs at least 4 time steps, its sound has 3"):
        transcriber.fit([np.zeros((3, 4), np.float32)], ["aab"])


def test_sound_shorter_than_a_frame_is_no_text(learnt):
    transcriber, *_ = learnt
    assert transcriber.transcribe(np.zeros(10)).text == ""
    assert Transcriber.create(FEATURES, Alphabet("ab"), 4).transcribe(np.zeros(10)).words == []


def test_words_have_times():
    features = Features("given", bins=1, shift=0.01, stack=2)
    transcriber = Transcriber.create(features, Alphabet(" ab"), units=4, seed=0)
    spans = [(2, 0, 2), (3, 3, 4), (1, 5, 6), (3, 10, 12)]
    from gru_np.ctc_decoding import Span

    found = transcriber.transcript(Span(*span) for span in spans)
    assert found.text == "ab b"
    assert [tuple(word) for word in found.words] == [("ab", 0.0, 0.08), ("b", 0.2, 0.24)]


def test_padded_batches_are_filled_as_masking_and_ctc_expect():
    x = pad([np.ones((2, 3)), np.ones((1, 3))])
    assert x.shape == (2, 2, 3)
    assert Masking(-1e4).compute_mask(x, None).tolist() == [[True, True], [True, False]]
    assert pad_labels([[1], [1, 2], []]).tolist() == [[1, -1], [1, 2], [-1, -1]]


def test_error_rates_are_totals_over_all_utterances(monkeypatch):
    pytest.importorskip("jiwer", reason="needs the extra audio")
    rates = error_rates(["a b c", "d"], ["a x c", "d e"])
    assert_close(rates.wer, 2 / 4, "naive")
    monkeypatch.setitem(sys.modules, "jiwer", None)
    with pytest.raises(ImportError, match=r"pip install gru_np\[audio\]"):
        error_rates(["a"], ["a"])


def test_posteriors_are_drawn_over_the_spectrogram(learnt):
    pytest.importorskip("matplotlib", reason="needs the extra plot").use("Agg")
    transcriber, _, sounds = learnt
    from matplotlib.figure import Figure

    axes = plot_posteriors(transcriber, sounds[0], figure=Figure())
    assert len(axes) == 2
    assert axes[1].images
    written = [text.get_text() for text in axes[0].texts]
    assert "".join(written) == transcriber.transcribe(sounds[0]).text
    assert len({line.get_color() for line in axes[0].lines}) == len(set(written))


def test_spelled_words_stand_above_their_letters():
    pytest.importorskip("matplotlib", reason="needs the extra plot").use("Agg")
    from matplotlib.figure import Figure

    transcriber = Transcriber.create(FEATURES, Alphabet(" ab"), 4, seed=0)
    path = np.repeat([0, 2, 3, 0, 1, 3, 0, 2], 3)  # "ab ba", each three steps long
    transcriber.log_probabilities = lambda x: np.log(0.01 + np.eye(4))[path]
    axes = plot_posteriors(transcriber, np.zeros(4000), figure=Figure())
    written = {text.get_text(): text.get_position()[1] for text in axes[0].texts}
    assert set(written) == {"a", "b", "\u2423", "ab", "ba"}
    assert written["ab"] == written["ba"] > written["a"]


# ------------------------------------------------------------------------------------- commands


def parsed(describe, *words):
    parser = argparse.ArgumentParser()
    describe(parser)
    return parser.parse_args([str(word) for word in words])


def test_the_commands_train_on_a_folder_and_transcribe_a_file(tmp_path, capsys, monkeypatch):
    rng = np.random.default_rng(3)
    numbers, sounds = calls(rng, 20)
    lines = ["path\ttext"]
    for i, (number, sound) in enumerate(zip(numbers, sounds, strict=True)):
        write_wav(tmp_path / f"{i}.wav", sound, 8000)
        lines.append(f"{i}.wav\t{' '.join(number)}")
    (tmp_path / "transcripts.tsv").write_text("\n".join(lines), encoding="utf-8")
    model = tmp_path / "m.safetensors"
    options = ["--features", "spectrogram", "--bins", 32, "--units", 8, "--layers", 1]
    options += ["--unit", "word", "--streaming", "--model", model, "--batch-size", 8]
    begin = parsed(command.train_arguments, tmp_path, *options, "--epochs", 6)

    def interrupted(*_):  # after epoch 5, the first that is measured
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(command, "_measure", interrupted)
        command.train_run(begin)
    assert "18 recordings to learn from, 2 held out" in capsys.readouterr().out
    go_on = (tmp_path, "--model", model, "--resume")  # all other settings are in the file
    config, arrays = checkpoint.load(model)
    for run, sentence in (
        ({"transcripts": "/etc/passwd"}, "--resume takes no path from a file"),
        ({"batch_size": -3}, "setting batch_size has no meaning"),
        ({"noise": float("nan")}, "setting noise has no meaning"),
        ({"augment": "yes"}, "setting augment has no meaning"),
    ):
        extras = config["extras"] | {"run": config["extras"]["run"] | run}
        checkpoint.save(model, config | {"extras": extras}, arrays)
        with pytest.raises(ValueError, match=sentence):
            command.train_run(parsed(command.train_arguments, *go_on))
    checkpoint.save(model, config, arrays)
    assert command.train_run(parsed(command.train_arguments, *go_on)) == 0
    printed = capsys.readouterr().out
    assert "epoch   6/6" in printed and "epoch   5/6" not in printed
    with pytest.raises(ValueError, match="has been trained for all of its 6 epochs"):
        command.train_run(parsed(command.train_arguments, *go_on))

    heard = {}
    for extra in ((), ("--stream",), ("--times",), ("--beam", 4)):
        args = parsed(command.transcribe_arguments, tmp_path / "0.wav", "--model", model, *extra)
        assert command.transcribe_run(args) == 0
        heard[extra], said_beside = map(str.splitlines, capsys.readouterr())
        latency = "(a time step is decided 35 ms after it began)"
        assert said_beside == ([latency] if "--stream" in extra else [])
    assert heard[()][0] == heard["--stream",][0] == heard["--times",][0]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (None, "there is no such file; it should hold a line for each sound file"),
        (b"\n\n", "holds no transcripts"),
        (b"a.wav good day\n", "line 1: expected name, tab, transcript; got 'a.wav good day'"),
        (b"path\ttext\na.wav\t \n", "line 2: expected name, tab, transcript"),
        (b"b.wav\tx\n", "line 1: there is no file"),
        (b"\xff\xfe\n", "is not UTF-8 text"),
    ],
)
def test_a_bad_table_is_answered_with_the_line(tmp_path, table, message):
    (tmp_path / "a.wav").write_bytes(b"")
    if table is not None:
        (tmp_path / "transcripts.tsv").write_bytes(table)
    with pytest.raises(ValueError, match=message):
        corpus.read_corpus(tmp_path)


def test_recordings_of_different_rates_are_refused(tmp_path):
    write_wav(tmp_path / "a.wav", np.zeros(800), 8000)
    write_wav(tmp_path / "b.wav", np.zeros(800), 16000)
    (tmp_path / "transcripts.tsv").write_text("a.wav\tx\nb.wav\tx\n", encoding="utf-8")
    with pytest.raises(ValueError, match="all files must have one rate, got 8000 and 16000 Hz"):
        command.train_run(parsed(command.train_arguments, tmp_path))


def test_the_demonstration_learns_to_read_an_unseen_number(capsys, monkeypatch):
    monkeypatch.setattr(dialling, "TRAINING_CALLS", 24)
    monkeypatch.setattr(dialling, "TRAINING", Training(epochs=2, noise=0.1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert command.transcribe_run(parsed(command.transcribe_arguments, "--demo")) == 0
    printed = capsys.readouterr().out
    assert "Synthesised 24 calls" in printed
    assert "  heard  " in printed


def small_transcriber(rng):
    transcriber = Transcriber.create(Features("given", bins=3), Alphabet("ab"), 4, 1, seed=0)
    inputs = [rng.standard_normal((n, 3)).astype("f4") for n in (7, 9, 8)]
    return transcriber, inputs, ["ab", "ba", "a"]


def test_a_run_that_is_done_does_not_go_on_at_a_rate_of_zero(rng):
    # The rate falls to zero at the end of the run it was made for: what comes after learns nothing.
    transcriber, inputs, texts = small_transcriber(rng)
    transcriber.fit(inputs, texts, Training(epochs=2, batch_size=2))
    before = [array.copy() for array in transcriber.model.get_weights()]
    for other, message in [
        (Training(epochs=2, batch_size=2), "epochs must be more than the 2 that are done"),
        (Training(epochs=4, batch_size=2), "must be those of the run that goes on"),
    ]:
        with pytest.raises(ValueError, match=message):
            transcriber.fit(inputs, texts, other)
    assert_close(transcriber.model.get_weights(), before, "exact")
    transcriber.epochs_done = 0
    assert len(transcriber.fit(inputs, texts, Training(epochs=3, batch_size=2))) == 3
    assert any((a != b).any() for a, b in zip(transcriber.model.get_weights(), before, strict=True))


@pytest.mark.parametrize(
    "change", [{"learning_rate": 0.1}, {"clipnorm": 1.0}, {"epochs": 5}, {"batch_size": 1}]
)
def test_a_run_goes_on_with_its_own_settings_or_not_at_all(change, rng, tmp_path):
    class StopError(Exception):
        pass

    def stop(epoch, loss):
        raise StopError

    transcriber, inputs, texts = small_transcriber(rng)
    settings = {"epochs": 3, "batch_size": 2}
    with pytest.raises(StopError):
        transcriber.fit(inputs, texts, Training(**settings), stop, tmp_path / "m.safetensors")
    again = Transcriber.load(tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match="must be those of the run that goes on"):
        again.fit(inputs, texts, Training(**settings | change))
    assert len(again.fit(inputs, texts, Training(**settings))) == 2


def test_a_place_that_nothing_can_be_saved_to_is_found_before_an_epoch(rng, tmp_path):
    transcriber, inputs, texts = small_transcriber(rng)
    with pytest.raises(OSError, match="Transcriber: cannot save there"):
        transcriber.fit(inputs, texts, Training(epochs=1), path=tmp_path / "no" / "m.safetensors")
    assert transcriber.epochs_done == 0
