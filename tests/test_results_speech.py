"""The recipe of the speech results: cutting recordings into words, making new ones, pooling."""

import numpy as np
import pytest

from benchmarks import results_speech as recipe

TONES = {"low": 300, "high": 1100}


def recording(text, rng):
    """Tones for words, some of them long, with faint noise between, before and behind."""
    parts = [1e-3 * rng.standard_normal(6000)]
    for word in text.split():
        size = int(rng.integers(2000, 3000))
        tone = 0.2 * np.sin(2 * np.pi * TONES[word] * np.arange(size) / 8000)
        parts += [tone, 1e-3 * rng.standard_normal(int(rng.integers(2000, 3000)))]
    parts.append(1e-3 * rng.standard_normal(5000))
    return np.concatenate(parts).astype(np.float32), text


def heard(piece):
    """Name the tone that is loudest in a piece."""
    spectrum = np.abs(np.fft.rfft(piece))
    frequency = np.argmax(spectrum) * 8000 / len(piece)
    return min(TONES, key=lambda word: abs(TONES[word] - frequency))


def test_a_recording_is_cut_into_its_words_and_nothing_is_lost():
    sound, text = recording("low high high low low", np.random.default_rng(0))
    words, (before, behind) = recipe.words_and_pauses(sound, text)
    assert [word for _, word in words] == text.split()
    assert [heard(piece) for piece, _ in words] == text.split()
    np.testing.assert_array_equal(np.concatenate([before, *(x for x, _ in words), behind]), sound)
    assert np.abs(before).max() < 0.01 and np.abs(behind).max() < 0.01


def test_a_recording_with_another_number_of_words_than_its_name_says_gives_none():
    sound, _ = recording("low high high", np.random.default_rng(1))
    assert recipe.words_and_pauses(sound, "low high high low") == ([], [])


def test_recordings_in_new_orders_hold_the_words_that_they_are_said_to_hold():
    rng = np.random.default_rng(2)
    recordings = [recording(text, rng) for text in ("low high low", "high high low low")]
    made = recipe.recombined(recordings, 40, seed=3)
    assert len(made) == 40 and len({len(text.split()) for _, text in made}) > 6
    for sound, text in made:
        assert sound.dtype == np.float32 and np.isfinite(sound).all()
        words, _ = recipe.words_and_pauses(sound, text)
        assert [heard(piece) for piece, _ in words] == text.split()


def test_new_orders_begin_with_the_word_that_is_asked_for():
    recordings = [recording("low high low", np.random.default_rng(4))]
    made = recipe.recombined(recordings, 10, 5, "high", (4, 4))
    assert all(text.startswith("high") and len(text.split()) == 4 for _, text in made)


def test_pauses_are_silenced_or_louder_and_words_are_as_they_were():
    sound, _ = recording("low high", np.random.default_rng(6))
    loud = np.abs(sound) > 0.1
    for factor in (0, 4):
        changed = recipe.with_pauses_times(factor, sound)
        np.testing.assert_array_equal(changed[loud], sound[loud])
        within = slice(100, 3000)  # the change fades out at both ends
        np.testing.assert_allclose(changed[within], factor * sound[within], rtol=1e-6)


def test_each_held_out_part_is_tested_by_a_training_without_it(monkeypatch, tmp_path):
    seen = []

    def run(task, settings, unfinished):
        seen.append((task.train, task.test, unfinished.name))
        words = sum(len(text.split()) for _, text in task.test)
        return {
            "wer": 100.0 / words, "cer": 0.0, "test_loss": 1.0, "utterances_right": 50.0,
            "test_words": words, "test_characters": 3, "test_utterances": len(task.test),
            "train_utterances": len(task.train), "examples_of_errors": [], "losses": [2.0, 1.0],
            "seconds": 1.5,
        }  # fmt: skip

    monkeypatch.setattr(recipe, "run_gru_np", run)
    train = [(i, "a " * n) for i, n in enumerate((1, 2, 3, 4))]
    task = recipe.Task("word", train, [], [0, 1, 2, 1])
    found = recipe.on_held_out(task, None, tmp_path / "one.unfinished")
    assert [[i for i, _ in part] for part, _, _ in seen] == [[0, 2], [0, 1, 3]]
    assert [[i for i, _ in part] for _, part, _ in seen] == [[1, 3], [2]]
    assert [name for *_, name in seen] == ["one.1.unfinished", "one.2.unfinished"]
    assert found["wer"] == pytest.approx(100 * 2 / 9)
    assert (found["test_words"], found["test_utterances"], found["seconds"]) == (9, 3, 3.0)
    assert found["losses"] == [2.0, 1.0]


def test_a_share_of_the_epochs_is_not_done_unless_no_more_is_asked_for():
    run = {"losses": [3.0, 2.0], "epochs": 4}
    assert not recipe.is_done(None) and not recipe.is_done(run)
    assert not recipe.is_done(run, 3) and recipe.is_done(run, 2)
    assert recipe.is_done(run | {"losses": [4.0, 3.0, 2.0, 1.0]}, 9)
