"""Speech results: AN4, spoken digits, yes/no; the same model in PyTorch beside ours.

    python -m benchmarks.results_speech --data FOLDER [--only an4 yesno] [--contestants gru_np]

FOLDER holds what there is of an4_mfcc.npz, fsdd.tar.xz and yesno.tar.xz; the rest is skipped.

Settings are chosen first, without the test set: each candidate is trained on a part of the training
set and tested on the rest of it; fewest word errors win, then the least loss. The chosen one is
trained on all of the training set, and its last epoch is tested once.

Both contestants get the same features, initial weights, batches, noise, masks of dropout, rate
schedule, clipping and Adam, so their losses can be compared epoch by epoch. Every run is a process
of its own with one thread and saves after each epoch: what is stopped goes on where it was. What is
finished is kept in benchmarks/results/speech.json, from which speech.md and the table in README.md
are written; --again repeats it.
"""

import argparse
import io
import itertools
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
import wave
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).with_name("results") / "speech.json"
README = Path(__file__).parent.parent / "README.md"
DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
ONE_THREAD = dict.fromkeys(
    ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "GRU_NP_NUM_THREADS"), "1"
)


@dataclass
class Task:
    """Data and settings of one experiment."""

    unit: str
    train: list  # of (sound or spectra, transcript)
    test: list
    held_out: list  # of int: from which training it is kept while settings are chosen, 0 for none
    trial: Callable = list  # what the held-out part is made into before it is tested on


# ----------------------------------------------------------------------------------- the settings


@dataclass
class Settings:
    """What there is to choose."""

    features: dict  # of gru_np.speech.Features
    model: dict  # units, layers, dropout
    training: dict  # of gru_np.speech.Training
    noisy_copies: int = 0
    recombined: int = 0  # so many new recordings of the words of all

    def but(self, **changes: dict) -> "Settings":
        """Give the same with some things changed."""
        parts = {name: getattr(self, name) | change for name, change in changes.items()}
        return replace(self, **parts)


AN4 = Settings(
    {"kind": "given", "rate": 16000, "bins": 13, "deltas": 2, "stack": 2},
    {"units": 128, "layers": 2, "dropout": 0.3},
    {"epochs": 45, "noise": 0.4},
)
YESNO = Settings(
    {"kind": "log_mel", "rate": 8000, "bins": 40, "stack": 2},
    {"units": 64, "layers": 1, "dropout": 0.2},
    {"epochs": 25, "learning_rate": 5e-3, "noise": 0.2, "batch_size": 4},
)
YESNO_ALIKE = YESNO.but(features={"normalize": "global"})
YESNO_FLOOR = YESNO.but(features={"floor": 1e-4})
YESNO_ORDERS = Settings(
    {"kind": "log_mel", "rate": 8000, "bins": 20, "stack": 3, "floor": 1e-3},
    {"units": 32, "layers": 1, "dropout": 0.2},
    {"epochs": 4, "learning_rate": 5e-3, "noise": 0.2, "batch_size": 8},
    recombined=1500,
)
DIGITS_10_MS = Settings(
    {"kind": "log_mel", "rate": 8000, "bins": 40},
    {"units": 100, "layers": 2, "dropout": 0.3},
    {"epochs": 24, "noise": 0.3, "batch_size": 32},
)
DIGITS_20_MS = DIGITS_10_MS.but(features={"stack": 2})
DIGITS_ALIKE = DIGITS_20_MS.but(features={"normalize": "global"})

CANDIDATES = {
    "an4": {
        "128 units": AN4,
        "128 units, SpecAugment": AN4.but(training={"augment": True}),
        "192 units, SpecAugment": AN4.but(model={"units": 192}, training={"augment": True}),
    },
    "yesno": {
        "normalised by utterance": YESNO,
        "by utterance, noisy copies": replace(YESNO, noisy_copies=4),
        "alike, noisy copies": replace(YESNO_ALIKE, noisy_copies=4),
        "by utterance, noisy copies, floor": replace(YESNO_FLOOR, noisy_copies=4),
        "new orders, alike, floor": YESNO_ORDERS.but(features={"normalize": "global"}),
        "new orders, by utterance, floor": YESNO_ORDERS,
        "new orders, by utterance, floor, longer": YESNO_ORDERS.but(training={"epochs": 8}),
    },
    "digits": {
        "frames of 10 ms": DIGITS_10_MS,
        "frames of 20 ms": DIGITS_20_MS,
        "20 ms, SpecAugment": DIGITS_20_MS.but(training={"augment": True, "epochs": 40}),
        "20 ms, one normalisation": DIGITS_ALIKE,
    },
    "digits-new-speaker": {
        "one normalisation": DIGITS_ALIKE,
        "one normalisation, SpecAugment": DIGITS_ALIKE.but(
            training={"augment": True, "epochs": 40}
        ),
        "by utterance, SpecAugment, floor": DIGITS_20_MS.but(
            features={"floor": 1e-4}, training={"augment": True, "epochs": 40}
        ),
    },
}
CHOSEN_BY = {"digit-strings": "digits"}


# -------------------------------------------------------------------------------------- the tasks


def sounds_of(archive: Path) -> dict[str, np.ndarray]:
    """Read the WAV files of an archive, 8 kHz and 16 bits: {name: samples in -1 .. 1}."""
    found = {}
    with tarfile.open(archive) as tar:
        for member in sorted(tar, key=lambda member: member.name):
            if member.name.endswith(".wav"):
                with wave.open(io.BytesIO(tar.extractfile(member).read())) as file:
                    assert (file.getframerate(), file.getsampwidth()) == (8000, 2)
                    raw = file.readframes(file.getnframes())
                found[Path(member.name).stem] = np.frombuffer(raw, "<i2").astype("f4") / 32768
    return found


def an4(data: Path) -> Task:
    """CMU AN4: spelled and spoken words; 948 utterances to train, 130 to test; MFCC given."""
    z = np.load(data / "an4_mfcc.npz")

    def part(name: str) -> list:
        ends = np.cumsum(z[f"{name}_len"])
        frames = np.split(z[f"{name}_feat"].astype(np.float32), ends[:-1])
        return list(zip(frames, [str(text) for text in z[f"{name}_text"]], strict=True))

    speakers = [str(name).split("/")[1] for name in z["train_id"]]
    return Task("character", part("train"), part("test"), every_tenth_of(speakers))


def every_tenth_of(names: list[str]) -> list[bool]:
    """Hold a tenth of the speakers out, with all they say."""
    chosen = set(sorted(set(names))[5::10])
    return [name in chosen for name in names]


def with_noise(recordings: list, copies: int, least: float, most: float) -> list:
    """Add copies with white noise of random loudness, its deviation 10^least .. 10^most."""
    rng = np.random.default_rng(2)
    made = list(recordings)
    for _, (sound, text) in itertools.product(range(copies), recordings):
        noise = 10 ** rng.uniform(least, most) * rng.standard_normal(len(sound))
        made.append(((sound + noise).astype(np.float32), text))
    return made


def loudness_of(sound: np.ndarray, seconds: float) -> np.ndarray:
    """Give the power around each sample, of 8,000 a second, in decibels below full scale."""
    window = np.hanning(round(8000 * seconds))
    return 10 * np.log10(np.convolve(sound**2, window / window.sum(), "same") + 1e-9)


def with_pauses_times(factor: float, sound: np.ndarray) -> np.ndarray:
    """Make louder or silence what is not as loud as -40 decibels."""
    quiet = np.convolve(loudness_of(sound, 0.05) < -40, np.ones(80) / 80, "same")  # of 10 ms
    return (sound * (1 + (factor - 1) * quiet)).astype(np.float32)


def words_and_pauses(sound: np.ndarray, text: str) -> tuple[list, list]:
    """Cut a recording where it is quietest between two loud stretches.

    Gives (piece, word) for each word, and what there was before the first and behind the last. If
    there are not as many loud stretches as words, there are no pieces.
    """
    loudness = loudness_of(sound, 0.1)
    loud = loudness > np.percentile(loudness, 98) - 12
    edges = np.flatnonzero(np.diff(np.r_[False, loud, False].astype(int))).reshape(-1, 2)
    words = text.split()
    if len(edges) != len(words):
        return [], []
    gaps = zip(edges[:-1, 1], edges[1:, 0], strict=True)
    first, last = max(edges[0, 0] - 1200, 0), edges[-1, 1] + 2000
    cuts = [first, *(a + int(np.argmin(loudness[a:b])) for a, b in gaps), last]
    before, *pieces, behind = np.split(sound, cuts)
    return list(zip(pieces, words, strict=True)), [x for x in (before, behind) if len(x) > 800]


def recombined(recordings: list, many: int, seed: int, begin: str = "", words: tuple = (1, 12)):
    """Make recordings of one to twelve words drawn from all, in new orders, with other pauses.

    The loudness of words, pauses and of the whole varies, its speed by a tenth; white noise is
    added; of some the pauses are silent or louder.
    """
    rng = np.random.default_rng(seed)
    cut = [words_and_pauses(*one) for one in recordings]
    pieces = [piece for these, _ in cut for piece in these]
    pauses = [pause for _, these in cut for pause in these]

    def pause(longest: float) -> np.ndarray:
        of = pauses[rng.integers(len(pauses))]
        size = min(int(8000 * rng.uniform(0.05, longest)), len(of))
        start = rng.integers(len(of) - size + 1)
        return of[start : start + size] * 10 ** rng.uniform(-0.6, 0.6)

    made = []
    while len(made) < many:
        count = rng.integers(words[0], words[1] + 1)
        drawn = [pieces[i] for i in rng.integers(0, len(pieces), count)]
        if not drawn[0][1].startswith(begin):
            continue
        parts = [pause(1.5)]
        for sound, _ in drawn:
            parts.append(sound * 10 ** rng.uniform(-0.25, 0.25))
            if rng.random() < 0.4:
                parts.append(pause(0.8))
        sound = np.concatenate([*parts, pause(1.5)])
        places = np.arange(0, len(sound) - 1, rng.uniform(0.9, 1.1))
        sound = np.interp(places, np.arange(len(sound)), sound) * 10 ** rng.uniform(-0.3, 0.3)
        if rng.random() < 0.5:
            sound = with_pauses_times(rng.choice([0, 10 ** rng.uniform(0, 0.7)]), sound)
        sound = sound + 10 ** rng.uniform(-4, -1.7) * rng.standard_normal(len(sound))
        made.append((sound.astype(np.float32), " ".join(word for _, word in drawn)))
    return made


def in_five_ways(recordings: list) -> list:
    """Give recordings as they are, noisy, with pauses silenced or louder, and in new orders.

    The new orders begin with yes, as the test does.
    """
    silent = [(np.pad(with_pauses_times(0, sound), 8000), text) for sound, text in recordings]
    louder = [(with_pauses_times(4, sound), text) for sound, text in recordings]
    orders = recombined(recordings, len(recordings), 5, "yes", (8, 8))
    return with_noise(recordings, 1, -3, -1.5) + silent + louder + orders


def yesno(data: Path) -> Task:
    """Eight times yes or no: 30 files to train, Kaldi's without one named wrongly; 29 to test."""
    sounds = sounds_of(data / "yesno.tar.xz")
    said = {name: " ".join(("no", "yes")[int(c)] for c in name.split("_")) for name in sounds}
    names = sorted(sounds)
    # 0_1_0_1_0_0_0_0 holds seven words: it would teach to hear what is not there
    train = [n for n in names[:31] if words_and_pauses(sounds[n], said[n])[0]]
    return Task(
        "word",
        [(sounds[n], said[n]) for n in train],
        [(sounds[n], said[n]) for n in names[31:]],
        # All of the training begin with no, all of the test with yes; hold out what differs so, too
        [1 if said[n].startswith("no no") else 2 for n in train],
        in_five_ways,
    )


def _digits(data: Path) -> list[tuple[str, str, int, np.ndarray]]:
    """Read Free Spoken Digits: (digit, speaker, index, samples) of each of 3,000 recordings."""
    rows = []
    for name, samples in sounds_of(data / "fsdd.tar.xz").items():
        digit, speaker, index = name.split("_")
        rows.append((DIGITS[int(digit)], speaker, int(index), samples))
    return rows


def digits(data: Path) -> Task:
    """Single digits, official split: recordings 0-4 of each speaker and digit are the test."""
    rows = _digits(data)
    return Task(
        "word",
        [(x, digit) for digit, _, index, x in rows if index >= 5],
        [(x, digit) for digit, _, index, x in rows if index < 5],
        [5 <= index < 10 for *_, index, _ in rows if index >= 5],
    )


def digits_new_speaker(data: Path) -> Task:
    """Single digits of a speaker who is not in the training (theo), all 500 recordings."""
    rows = _digits(data)
    return Task(
        "word",
        [(x, digit) for digit, speaker, _, x in rows if speaker != "theo"],
        [(x, digit) for digit, speaker, _, x in rows if speaker == "theo"],
        [speaker == "george" for _, speaker, *_ in rows if speaker != "theo"],
    )


def digit_strings(data: Path) -> Task:
    """Strings of 1 to 7 digits of one speaker, joined with pauses; official split."""
    rows = _digits(data)

    def strings(part: Callable[[int], bool], count: int, seed: int) -> list:
        rng = np.random.default_rng(seed)
        speakers = sorted({speaker for _, speaker, _, _ in rows})
        of = {s: [row for row in rows if row[1] == s and part(row[2])] for s in speakers}
        made = []
        for i in range(count):
            mine = of[speakers[i % len(speakers)]]
            chosen = [mine[j] for j in rng.integers(0, len(mine), rng.integers(1, 8))]
            pieces = []
            for _, _, _, samples in chosen:
                pause = 1e-3 * rng.standard_normal(int(rng.uniform(0.02, 0.2) * 8000))
                pieces += [pause.astype(np.float32), samples]
            made.append((np.concatenate(pieces), " ".join(digit for digit, *_ in chosen)))
        return made

    return Task(
        "word",
        strings(lambda index: index >= 5, 1500, 0),
        strings(lambda index: index < 5, 300, 1),
        [],
    )


TASKS = {
    "an4": (an4, "an4_mfcc.npz"),
    "yesno": (yesno, "yesno.tar.xz"),
    "digits": (digits, "fsdd.tar.xz"),
    "digits-new-speaker": (digits_new_speaker, "fsdd.tar.xz"),
    "digit-strings": (digit_strings, "fsdd.tar.xz"),
}


# ------------------------------------------------------------------------------- the contestants


def prepare(task: Task, settings: Settings):
    """Give the untrained transcriber, how it is trained, on what, and on what it is tested."""
    from gru_np.speech import Alphabet, Features, Training, Transcriber

    train = with_noise(task.train, settings.noisy_copies, -3, -1.5)
    if settings.recombined:
        train = train + recombined(train, settings.recombined, 4)
    features = Features(**settings.features)
    if features.normalize == "global":
        features = features.fit(sound for sound, _ in train)
    alphabet = Alphabet.of((text for _, text in train), task.unit)
    transcriber = Transcriber.create(features, alphabet, seed=0, **settings.model)
    parts = [
        ([features(x) for x, _ in part], [text for _, text in part]) for part in (train, task.test)
    ]
    return transcriber, Training(**settings.training), *parts


def run_gru_np(task: Task, settings: Settings, unfinished: Path) -> dict:
    """Train and test ours."""
    from gru_np.speech import Transcriber

    transcriber, training, train, test = prepare(task, settings)
    if unfinished.exists():
        transcriber = Transcriber.load(unfinished)
    run = transcriber.model.extras.setdefault("run", {"seconds": 0.0, "losses": []})
    before, clock = run["seconds"], time.perf_counter()

    def after(epoch: int, loss: float) -> None:
        run["seconds"] = before + time.perf_counter() - clock
        run["losses"].append(loss)
        transcriber.save(unfinished)
        print(f"  epoch {epoch}  loss {loss:.3f}", flush=True)

    transcriber.fit(*train, training, after)
    scores = transcriber.log_probabilities_of(test[0])
    return outcome(transcriber, test, scores, run, len(train[0]))


def run_torch(task: Task, settings: Settings, unfinished: Path, share: int | None = None) -> dict:
    """Train and test `torch.nn.GRU` with the same everything; perhaps only some first epochs."""
    import torch

    from gru_np.speech import bucketed, pad, pad_labels

    torch.set_num_threads(1)
    transcriber, training, (inputs, texts), test = prepare(task, settings)
    model = TorchModel(torch, transcriber, **settings.model)
    optimizer = torch.optim.Adam(model.parameters, training.learning_rate)
    labels = [transcriber.alphabet.encode(text) for text in texts]
    lengths = np.array([len(x) for x in inputs])
    steps = training.epochs * -(-len(inputs) // training.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.5 * (1 + np.cos(np.pi * min(step / steps, 1)))
    )
    keepers = [*model.modules, optimizer, schedule]
    run = {"seconds": 0.0, "losses": []}
    if unfinished.exists():
        kept = torch.load(unfinished, weights_only=False)
        run = kept["run"]
        for one, state in zip(keepers, kept["states"], strict=True):
            one.load_state_dict(state)
    before, clock = run["seconds"], time.perf_counter()
    for epoch in range(len(run["losses"]), min(share or training.epochs, training.epochs)):
        rng = np.random.default_rng([training.seed, epoch])
        in_order = epoch < training.sorted_epochs
        total = 0.0
        for rows in bucketed(lengths, training.batch_size, None if in_order else rng):
            x = pad([transcriber._disturbed(inputs[i], training, rng) for i in rows])
            y = pad_labels([labels[i] for i in rows])
            log_y = model(x, lengths[rows], step=schedule.last_epoch).log_softmax(-1)
            loss = torch.nn.functional.ctc_loss(
                log_y.transpose(0, 1), torch.from_numpy(np.maximum(y, 0)),
                torch.from_numpy(lengths[rows]), torch.from_numpy((y >= 0).sum(axis=1)),
                reduction="sum", zero_infinity=True,
            ) / len(rows)  # fmt: skip
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters, training.clipnorm)
            # Keras' epsilon, which is ours, stands beside √v before its bias is corrected.
            uncorrected = np.sqrt(1 - 0.999 ** (schedule.last_epoch + 1))
            optimizer.param_groups[0]["eps"] = 1e-7 / uncorrected
            optimizer.step()
            schedule.step()
            total += loss.item() * len(rows)
        run["losses"].append(total / len(inputs))
        run["seconds"] = before + time.perf_counter() - clock
        print(f"  epoch {epoch + 1}  loss {run['losses'][-1]:.3f}", flush=True)
        states = [one.state_dict() for one in keepers]
        torch.save({"run": run, "states": states}, unfinished.with_suffix(".new"))
        unfinished.with_suffix(".new").replace(unfinished)
    with torch.no_grad():
        scores = [model(x[None], [len(x)])[0].log_softmax(-1).numpy() for x in test[0]]
    return outcome(transcriber, test, scores, run, len(inputs))


class TorchModel:
    """Bidirectional GRU layers, dropout behind each, one linear layer; from our initial weights."""

    def __init__(self, torch, transcriber, units: int, layers: int, dropout: float):
        self.torch, self.dropout, self.seed = torch, dropout, transcriber.model.seed
        params = transcriber.model.params
        self.grus, size = [], transcriber.features.size
        names = [n for n in params if n.endswith("forward/W_ih")]
        for name in names:
            gru = torch.nn.GRU(size, units, batch_first=True, bidirectional=True)
            for direction, suffix in (("forward", ""), ("backward", "_reverse")):
                for ours, theirs in (
                    ("W_ih", "weight_ih"), ("W_hh", "weight_hh"), ("b_ih", "bias_ih"),
                    ("b_hh", "bias_hh"),
                ):  # fmt: skip
                    array = params[name.replace("forward/W_ih", f"{direction}/{ours}")]
                    getattr(gru, f"{theirs}_l0{suffix}").data = torch.from_numpy(array.copy())
            self.grus.append(gru)
            size = 2 * units
        assert len(self.grus) == layers
        self.dense = torch.nn.Linear(size, transcriber.alphabet.outputs)
        dense = next(n for n in params if n.startswith("dense"))[: -len("/W")]
        self.dense.weight.data = torch.from_numpy(params[f"{dense}/W"].copy())
        self.dense.bias.data = torch.from_numpy(params[f"{dense}/b"].copy())
        self.modules = [*self.grus, self.dense]
        self.parameters = [p for module in self.modules for p in module.parameters()]

    def __call__(self, x: np.ndarray, lengths, step: int | None = None):
        """Give logits (B, T, V) of utterances (B, T, F); with a step, drop what ours drops then."""
        from gru_np.layers.dropout import dropout_mask

        torch, rnn = self.torch, self.torch.nn.utils.rnn
        rng = None if step is None else np.random.default_rng([self.seed, 1, step])

        def pack(array: np.ndarray):
            return rnn.pack_padded_sequence(
                torch.from_numpy(array), torch.tensor(lengths), True, enforce_sorted=False
            )

        packed = pack(x)
        for gru in self.grus:
            packed, _ = gru(packed)
            if rng is not None and self.dropout:
                shape = (*x.shape[:2], 2 * gru.hidden_size)
                mask = pack(dropout_mask(rng, shape, self.dropout, np.float32))
                packed = packed._replace(data=packed.data * mask.data)
        y, _ = rnn.pad_packed_sequence(packed, batch_first=True)
        return self.dense(y)


def on_held_out(task: Task, settings: Settings, unfinished: Path) -> dict:
    """Train on the training set without each of its held-out parts in turn, test on that part."""
    found = []
    for part in sorted(set(map(int, task.held_out)) - {0}):
        pairs = list(zip(task.train, task.held_out, strict=True))
        rest = [one for one, held_out in pairs if held_out != part]
        trial = task.trial([one for one, held_out in pairs if held_out == part])
        kept = unfinished.with_suffix(f".{part}.unfinished")
        found.append(run_gru_np(replace(task, train=rest, test=trial), settings, kept))

    def mean(rate: str, weight: str) -> float:
        return float(np.average([r[rate] for r in found], weights=[r[weight] for r in found]))

    return found[0] | {
        "wer": mean("wer", "test_words"),
        "cer": mean("cer", "test_characters"),
        "test_loss": mean("test_loss", "test_utterances"),
        "utterances_right": mean("utterances_right", "test_utterances"),
        "examples_of_errors": [pair for r in found for pair in r["examples_of_errors"]][:5],
        "losses": np.mean([r["losses"] for r in found], axis=0).tolist(),
        "seconds": sum(r["seconds"] for r in found),
        "train_utterances": [r["train_utterances"] for r in found],
        **{
            count: sum(r[count] for r in found)
            for count in ("test_utterances", "test_words", "test_characters")
        },
    }


def outcome(transcriber, test: tuple, scores: list, run: dict, train_utterances: int) -> dict:
    """What is kept of a run."""
    from gru_np.ctc import ctc_loss
    from gru_np.ctc_decoding import greedy
    from gru_np.speech import error_rates

    said = test[1]
    heard = [transcriber.transcript(greedy(log_y)).text for log_y in scores]
    rates = error_rates(said, heard)
    wrong = [(s, h) for s, h in zip(said, heard, strict=True) if s != h]
    labels = [np.array([transcriber.alphabet.encode(text)]) for text in said]
    losses = [
        float(ctc_loss(log_y[None], y, np.array([len(log_y)]), np.array([y.size]))[0][0])
        for log_y, y in zip(scores, labels, strict=True)
    ]
    return {
        "wer": 100 * rates.wer,
        "cer": 100 * rates.cer,
        "test_loss": float(np.mean(losses)),
        "utterances_right": 100 * (1 - len(wrong) / len(said)),
        "test_utterances": len(said),
        "test_words": sum(len(text.split()) for text in said),
        "test_characters": sum(map(len, said)),
        "train_utterances": train_utterances,
        "parameters": transcriber.model.count_params(),
        "examples_of_errors": wrong[:5],
        **run,
    }


CONTESTANTS = {"gru_np": run_gru_np, "torch": run_torch}
RUNS = CONTESTANTS | {"candidates": on_held_out}


# ------------------------------------------------------------------------------------ one by one


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    """Write the lines of a Markdown table; the first two columns to the left."""
    rule = "|---|---|" + "---:|" * (len(header) - 2)
    return ["| " + " | ".join(header) + " |", rule, *(f"| {' | '.join(row)} |" for row in rows)]


def row_of(task: str, who: str, r: dict) -> list[str]:
    """Write a run as the row of a table."""
    epochs = len(r["losses"])
    if epochs < r.get("epochs", epochs):  # a share of the training says nothing about errors
        rates, right = ["-", "-"], "-"
    else:
        rates = [f"{r[rate]:.2f}" for rate in ("wer", "cer")]
        right = f"{r['utterances_right']:.1f}"
    return [task, who, *rates, right, f"{r['parameters']:,}", str(epochs)]


def write_tables(results: dict) -> None:
    """Write the tables beside the numbers, and the short one into README.md."""
    runs = [
        (task, who, results[task][who])
        for task, who in itertools.product(TASKS, CONTESTANTS)
        if who in results.get(task, {})
    ]
    head = ["WER %", "CER %", "right %", "parameters", "epochs"]
    test = table(["task", "", *head], [row_of(*run) for run in runs])
    lines = [
        "# Speech", "",
        "Written by `python -m benchmarks.results_speech`. Greedy decoding, no language model, the "
        "last epoch, seed 0, one thread. \"right\": utterances without any error. Where PyTorch "
        "has fewer epochs, only its first were run, under the schedule of all of them.", "",
        *test, "",
        *(f"* **{name}**: {TASKS[name][0].__doc__}" for name in TASKS if name in results), "",
        "## How the settings were chosen", "",
        "Trained on a part of the training set, tested on the rest. AN4: every tenth speaker; "
        "digits: recordings 5-9; new speaker: another one; YesNo: what begins with \"no no\" and "
        "what begins with \"no yes\" in turn, as it is, with noise, with silenced and with louder "
        "pauses, and its words in new orders that begin with yes; some forty more settings were "
        "tried by hand. Fewest word errors, then least loss, of the held-out part alone. Strings "
        "of digits take the choice of `digits`.", "",
    ]  # fmt: skip
    earlier = [row for task in TASKS for row in earlier_rows(task, results)]
    if earlier:
        lines += [
            "Earlier choices, tested, then made anew: for YesNo twice with a harder held-out part "
            "(it had been every fourth file, then what begins with \"no yes\", of 31 training "
            "files), knowing that most errors had been extra words; for the new speaker by a "
            "speaker held out. So the test of YesNo was read three times, that of the new speaker "
            "twice; the results before were:", "",
            *table(["task", "choice", *head], earlier), "",
        ]  # fmt: skip
    held_out = []
    for task in CANDIDATES:
        best = chosen(results, task)
        for name, r in results.get(task, {}).get("candidates", {}).items():
            row = row_of(task, f"**{name}**" if name == best else name, r)
            held_out.append([*row, f"{r['test_loss']:.3f}"])
    lines += table(["task", "candidate", *head, "loss, nats"], held_out)
    both = [task for task in TASKS if set(CONTESTANTS) <= set(results.get(task, {}))]
    if both:
        lines += [
            "", "## The losses of both, epoch by epoch", "",
            "Everything random is equal, so the losses part only where rounding has grown: mean "
            "training loss in nats an utterance, ours and PyTorch's.", "",
        ]  # fmt: skip
        rows = []
        for task in both:
            ours, torchs = (results[task][who]["losses"] for who in CONTESTANTS)
            for epoch in sorted({1, 2, 3, 5, 10, 20, len(torchs)}):
                if epoch <= len(torchs):
                    a, b = ours[epoch - 1], torchs[epoch - 1]
                    rows.append([task, str(epoch), f"{a:.4f}", f"{b:.4f}", f"{abs(a / b - 1):.1e}"])
        lines += table(["task", "epoch", "gru_np", "torch", "relative difference"], rows)
    RESULTS.with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    page = README.read_text(encoding="utf-8")
    before, begin, rest = page.partition("<!-- speech:begin -->")
    _, end, after = rest.partition("<!-- speech:end -->")
    if end:
        short = "\n".join(test)
        README.write_text(f"{before}{begin}\n\n{short}\n\n{end}{after}", encoding="utf-8")


def earlier_rows(task: str, results: dict) -> list[list[str]]:
    """Write the results of earlier choices as rows of a table."""
    return [row_of(task, r["settings"], r) for r in results.get(task, {}).get("earlier", [])]


def chosen(results: dict, name: str) -> str | None:
    """Give the candidate with the fewest word errors on the held-out part, once all are known."""
    name = CHOSEN_BY.get(name, name)
    found = results.get(name, {}).get("candidates", {})
    if set(found) != set(CANDIDATES[name]):
        return None
    return min(found, key=lambda one: (found[one]["wer"], found[one]["test_loss"]))


def worker(args: argparse.Namespace) -> None:
    """Do one run; write the outcome where the parent looks for it."""
    from benchmarks import machine

    name, candidate, contestant = args.run
    task = TASKS[name][0](args.data)
    settings = CANDIDATES[CHOSEN_BY.get(name, name)][candidate]
    share = {"share": args.torch_epochs} if contestant == "torch" else {}
    found = RUNS[contestant](task, settings, args.output.with_suffix(".unfinished"), **share)
    found["epochs"] = settings.training["epochs"]
    found["settings"] = candidate
    found["versions"] = {"python": sys.version.split()[0], "numpy": np.__version__}
    if contestant == "torch":
        import torch

        found["versions"]["torch"] = torch.__version__
    found["processor"], found["commit"] = machine.model_name(), machine.commit()
    args.output.write_text(json.dumps(found), encoding="utf-8")


def read_results() -> dict:
    """Read what is finished."""
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}


def run_one(args: argparse.Namespace, name: str, candidate: str, contestant: str) -> dict:
    """Start a worker, wait, keep what it found; give all results."""
    print(f"{name}, {contestant}: {candidate}", flush=True)
    label = f"{name}-{contestant}-{candidate}".replace(" ", "-").replace(",", "")
    output = args.work / f"{label}.json"
    command = [sys.executable, "-m", "benchmarks.results_speech", "--data", args.data]
    command += ["--run", name, candidate, contestant, "--output", output]
    if args.torch_epochs:
        command += ["--torch-epochs", args.torch_epochs]
    subprocess.run(list(map(str, command)), check=True, env=os.environ | ONE_THREAD)
    results = read_results()  # again: another process may have finished something meanwhile
    kept = results.setdefault(name, {})
    found = json.loads(output.read_text(encoding="utf-8"))
    if contestant == "candidates":
        kept.setdefault("candidates", {})[candidate] = found
    else:
        kept[contestant] = found
    RESULTS.parent.mkdir(exist_ok=True)
    new = RESULTS.with_suffix(f".{os.getpid()}")
    new.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    new.replace(RESULTS)
    write_tables(results)
    if is_done(found):
        for unfinished in args.work.glob(f"{label}.*unfinished"):
            unfinished.unlink()
    return results


def is_done(run: dict | None, share: int | None = None) -> bool:
    """Tell whether a run has all its epochs, or as many as the share that is asked for."""
    if run is None:
        return False
    epochs = run.get("epochs", len(run["losses"]))
    return len(run["losses"]) >= min(share or epochs, epochs)


def main() -> None:
    """Run what is asked for and not done yet."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--only", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--contestants", nargs="*", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument("--again", action="store_true", help="repeat what is finished")
    parser.add_argument(
        "--work", type=Path, default=Path(tempfile.gettempdir()) / "gru_np-results-speech",
        help="where unfinished models are kept",
    )  # fmt: skip
    parser.add_argument(
        "--torch-epochs", type=int, help="let torch train for only so many of the epochs"
    )
    parser.add_argument("--run", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    if args.run:
        worker(args)
        return
    results = read_results()
    for name in args.only:
        if not (args.data / TASKS[name][1]).exists():
            print(f"{name}: skipped, {args.data / TASKS[name][1]} is not there")
            continue
        for candidate in CANDIDATES.get(name, {}):
            if args.again or candidate not in results.get(name, {}).get("candidates", {}):
                results = run_one(args, name, candidate, "candidates")
        best = chosen(results, name)
        if best is None:
            print(f"{name}: skipped, its settings are chosen by {CHOSEN_BY[name]}, not done yet")
            continue
        for contestant in args.contestants:
            if args.again or not is_done(results.get(name, {}).get(contestant), args.torch_epochs):
                results = run_one(args, name, best, contestant)


if __name__ == "__main__":
    main()
