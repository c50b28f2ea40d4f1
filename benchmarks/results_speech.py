"""Speech results: AN4, spoken digits, yes/no; the same model in PyTorch beside ours.

    python -m benchmarks.results_speech --data FOLDER [--only an4 yesno] [--contestants gru_np]

FOLDER holds what there is of an4_mfcc.npz, fsdd.tar.xz and yesno.tar.xz; the rest is skipped. Every
run is a process of its own with one thread; ours saves after each epoch, so a run that is stopped
goes on where it was. What is finished is kept in benchmarks/results/speech.json, from which
speech.md is written; --again repeats it.

Both contestants get the same features, initial weights, batches, noise, rate schedule, clipping
and Adam; only the masks of dropout come from different random numbers. There is no development set:
nothing is chosen by the test set, and the last epoch counts. Except for YesNo, whose normalisation
and noise were chosen with its test errors in view.
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
from dataclasses import dataclass
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).with_name("results") / "speech.json"
DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
ONE_THREAD = dict.fromkeys(
    ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "GRU_NP_NUM_THREADS"), "1"
)


@dataclass
class Task:
    """Data and settings of one experiment."""

    features: dict  # of gru_np.speech.Features
    unit: str
    train: list  # of (sound or spectra, transcript)
    test: list
    model: dict  # units, layers, dropout
    training: dict  # of gru_np.speech.Training


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

    return Task(
        {"kind": "given", "rate": 16000, "bins": 13, "deltas": 2, "stack": 2},
        "character",
        part("train"),
        part("test"),
        {"units": 128, "layers": 2, "dropout": 0.3},
        {"epochs": 45, "noise": 0.4},
    )


def with_noise(recordings: list, copies: int, least: float, most: float) -> list:
    """Add copies with white noise of random loudness, its deviation 10^least .. 10^most."""
    rng = np.random.default_rng(2)
    made = list(recordings)
    for _, (sound, text) in itertools.product(range(copies), recordings):
        noise = 10 ** rng.uniform(least, most) * rng.standard_normal(len(sound))
        made.append(((sound + noise).astype(np.float32), text))
    return made


def yesno(data: Path) -> Task:
    """Eight times yes or no: 31 files to train, 29 to test, as in Kaldi's recipe."""
    sounds = sounds_of(data / "yesno.tar.xz")
    said = {name: " ".join(("no", "yes")[int(c)] for c in name.split("_")) for name in sounds}
    names = sorted(sounds)
    # Some files hold more noise than all the others, and digital silence, which would spoil a
    # mean over the utterance: hence the noisy copies and the one normalisation for all.
    return Task(
        {"kind": "log_mel", "rate": 8000, "bins": 40, "stack": 2, "normalize": "global"},
        "word",
        with_noise([(sounds[n], said[n]) for n in names[:31]], 4, -3, -1.5),
        [(sounds[n], said[n]) for n in names[31:]],
        {"units": 64, "layers": 1, "dropout": 0.2},
        {"epochs": 25, "learning_rate": 5e-3, "noise": 0.2, "batch_size": 4},
    )


def _digits(data: Path) -> list[tuple[str, str, int, np.ndarray]]:
    """Read Free Spoken Digits: (digit, speaker, index, samples) of each of 3,000 recordings."""
    rows = []
    for name, samples in sounds_of(data / "fsdd.tar.xz").items():
        digit, speaker, index = name.split("_")
        rows.append((DIGITS[int(digit)], speaker, int(index), samples))
    return rows


def _digit_task(train: list, test: list, **training: object) -> Task:
    settings = {"epochs": 24, "noise": 0.3, "batch_size": 32} | training
    return Task(
        {"kind": "log_mel", "rate": 8000, "bins": 40},
        "word",
        train,
        test,
        {"units": 100, "layers": 2, "dropout": 0.3},
        settings,
    )


def digits(data: Path) -> Task:
    """Single digits, official split: recordings 0-4 of each speaker and digit are the test."""
    rows = _digits(data)
    return _digit_task(
        [(x, digit) for digit, _, index, x in rows if index >= 5],
        [(x, digit) for digit, _, index, x in rows if index < 5],
    )


def digits_new_speaker(data: Path) -> Task:
    """Single digits of a speaker who is not in the training (theo), all 500 recordings."""
    rows = _digits(data)
    return _digit_task(
        [(x, digit) for digit, speaker, _, x in rows if speaker != "theo"],
        [(x, digit) for digit, speaker, _, x in rows if speaker == "theo"],
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

    return _digit_task(
        strings(lambda index: index >= 5, 1500, 0),
        strings(lambda index: index < 5, 300, 1),
        batch_size=16,
    )


TASKS = {
    "an4": (an4, "an4_mfcc.npz"),
    "yesno": (yesno, "yesno.tar.xz"),
    "digits": (digits, "fsdd.tar.xz"),
    "digits-new-speaker": (digits_new_speaker, "fsdd.tar.xz"),
    "digit-strings": (digit_strings, "fsdd.tar.xz"),
}


# ------------------------------------------------------------------------------- the contestants


def prepare(task: Task):
    """Give the untrained transcriber and the inputs that both contestants get."""
    from gru_np.speech import Alphabet, Features, Training, Transcriber

    features = Features(**task.features)
    if features.normalize == "global":
        features = features.fit(sound for sound, _ in task.train)
    alphabet = Alphabet.of((text for _, text in task.train), task.unit)
    transcriber = Transcriber.create(features, alphabet, seed=0, **task.model)
    inputs = [[features(sound) for sound, _ in part] for part in (task.train, task.test)]
    return transcriber, Training(**task.training), *inputs


def run_gru_np(task: Task, unfinished: Path) -> dict:
    """Train and test ours."""
    from gru_np.ctc_decoding import greedy
    from gru_np.speech import Transcriber

    transcriber, training, train, test = prepare(task)
    if unfinished.exists():
        transcriber = Transcriber.load(unfinished)
    seconds_before = transcriber.model.extras.get("seconds", 0.0)
    clock = time.perf_counter()

    def after(epoch: int, loss: float) -> None:
        transcriber.model.extras["seconds"] = seconds_before + time.perf_counter() - clock
        print(f"  epoch {epoch}  loss {loss:.3f}", flush=True)

    losses = transcriber.fit(train, [text for _, text in task.train], training, after, unfinished)
    scores = transcriber.log_probabilities_of(test)
    heard = [transcriber.transcript(greedy(log_y)).text for log_y in scores]
    return outcome(task, heard, transcriber.model.extras["seconds"], losses, transcriber)


def run_torch(task: Task, unfinished: Path) -> dict:
    """Train and test `torch.nn.GRU` with the same everything, in this process alone."""
    import torch

    from gru_np.ctc_decoding import greedy
    from gru_np.speech import bucketed, pad_labels

    torch.set_num_threads(1)
    torch.manual_seed(0)
    transcriber, training, train, test = prepare(task)
    model = TorchModel(torch, transcriber, **task.model)
    parameters = [p for module in model.modules for p in module.parameters()]
    optimizer = torch.optim.Adam(parameters, training.learning_rate, eps=1e-7)
    labels = [transcriber.alphabet.encode(text) for _, text in task.train]
    lengths = np.array([len(x) for x in train])
    steps = training.epochs * -(-len(train) // training.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.5 * (1 + np.cos(np.pi * min(step / steps, 1)))
    )
    losses, clock = [], time.perf_counter()
    for epoch in range(training.epochs):
        rng = np.random.default_rng([training.seed, epoch])
        total = 0.0
        in_order = epoch < training.sorted_epochs
        for rows in bucketed(lengths, training.batch_size, None if in_order else rng):
            x = [transcriber._disturbed(train[i], training, rng) for i in rows]
            y = pad_labels([labels[i] for i in rows])
            log_y = model(x, training=True).log_softmax(-1)
            loss = torch.nn.functional.ctc_loss(
                log_y.transpose(0, 1), torch.from_numpy(np.maximum(y, 0)),
                torch.from_numpy(lengths[rows]), torch.from_numpy((y >= 0).sum(axis=1)),
                reduction="sum", zero_infinity=True,
            ) / len(rows)  # fmt: skip
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, training.clipnorm)
            optimizer.step()
            schedule.step()
            total += loss.item() * len(rows)
        losses.append(total / len(train))
        print(f"  epoch {epoch + 1}  loss {losses[-1]:.3f}", flush=True)
    seconds = time.perf_counter() - clock
    heard = []
    with torch.no_grad():
        for x in test:
            log_y = model([x], training=False)[0].log_softmax(-1).numpy()
            heard.append(transcriber.transcript(greedy(log_y)).text)
    return outcome(task, heard, seconds, losses, transcriber)


class TorchModel:
    """Bidirectional GRU layers, dropout behind each, one linear layer; from our initial weights."""

    def __init__(self, torch, transcriber, units: int, layers: int, dropout: float):
        self.torch, self.dropout = torch, dropout
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

    def __call__(self, x: list, training: bool):
        """Give logits (B, T, V) of utterances (T, F)."""
        torch, rnn = self.torch, self.torch.nn.utils.rnn
        packed = rnn.pack_sequence([torch.from_numpy(one) for one in x], enforce_sorted=False)
        for gru in self.grus:
            y, _ = gru(packed)
            dropped = torch.nn.functional.dropout(y.data, self.dropout, training)
            packed = y._replace(data=dropped)
        y, _ = rnn.pad_packed_sequence(packed, batch_first=True)
        return self.dense(y)


def outcome(task: Task, heard: list[str], seconds: float, losses: list, transcriber) -> dict:
    """What is kept of a run."""
    from gru_np.speech import error_rates

    said = [text for _, text in task.test]
    rates = error_rates(said, heard)
    wrong = [(s, h) for s, h in zip(said, heard, strict=True) if s != h]
    return {
        "wer": 100 * rates.wer,
        "cer": 100 * rates.cer,
        "utterances_right": 100 * (1 - len(wrong) / len(said)),
        "test_utterances": len(said),
        "train_utterances": len(task.train),
        "seconds": seconds,
        "parameters": transcriber.model.count_params(),
        "last_loss": losses[-1] if losses else None,
        "examples_of_errors": wrong[:5],
    }


CONTESTANTS = {"gru_np": run_gru_np, "torch": run_torch}


# ------------------------------------------------------------------------------------ one by one


def worker(args: argparse.Namespace) -> None:
    """Run one contestant on one task; write the outcome where the parent looks for it."""
    from benchmarks import machine

    (name,), (contestant,) = args.only, args.contestants
    unfinished = args.work / f"{name}-{contestant}.safetensors"
    found = CONTESTANTS[contestant](TASKS[name][0](args.data), unfinished)
    found["versions"] = {"python": sys.version.split()[0], "numpy": np.__version__}
    if contestant == "torch":
        import torch

        found["versions"]["torch"] = torch.__version__
    found["processor"], found["commit"] = machine.model_name(), machine.commit()
    args.worker.write_text(json.dumps(found), encoding="utf-8")


def write_markdown(results: dict) -> None:
    """Write the table beside the numbers."""
    lines = [
        "# Speech", "",
        "Written by `python -m benchmarks.results_speech`; greedy decoding, no language model, the "
        "last epoch, one seed. Seconds are of training, one thread.", "",
        "| task | | WER % | CER % | utterances right % | seconds | parameters | tested on |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]  # fmt: skip
    for (task, _), who in itertools.product(TASKS.items(), CONTESTANTS):
        r = results.get(task, {}).get(who)
        if r:
            lines.append(
                f"| {task} | {who} | {r['wer']:.2f} | {r['cer']:.2f} | {r['utterances_right']:.1f} "
                f"| {r['seconds']:.0f} | {r['parameters']:,} | {r['test_utterances']} |"
            )
    lines += ["", *(f"* **{name}**: {TASKS[name][0].__doc__}" for name in TASKS if name in results)]
    RESULTS.with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    """Run what is asked for and not done yet."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--only", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument("--again", action="store_true", help="repeat what is finished")
    parser.add_argument(
        "--work", type=Path, default=Path(tempfile.gettempdir()) / "gru_np-results-speech",
        help="where unfinished models are kept",
    )  # fmt: skip
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    if args.worker:
        worker(args)
        return
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    for name, who in itertools.product(args.only, args.contestants):
        if name in results and who in results[name] and not args.again:
            continue
        if not (args.data / TASKS[name][1]).exists():
            print(f"{name}: skipped, {args.data / TASKS[name][1]} is not there")
            continue
        print(f"{name}, {who}", flush=True)
        found = args.work / f"{name}-{who}.json"
        command = [sys.executable, "-m", "benchmarks.results_speech", "--data", args.data]
        command += ["--only", name, "--contestants", who, "--work", args.work, "--worker", found]
        subprocess.run(list(map(str, command)), check=True, env=os.environ | ONE_THREAD)
        # Read again: another process may have finished something meanwhile.
        results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
        results.setdefault(name, {})[who] = json.loads(found.read_text(encoding="utf-8"))
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        write_markdown(results)
        (args.work / f"{name}-{who}.safetensors").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
