"""How fast speech is: CTC beside PyTorch's and JAX', and a ten-minute file transcribed. One thread.

    python -m benchmarks.speech_speed

CTC: loss and gradient by the logits at T=200, B=16, V=29, L=30, float32. Each library runs in a
process of its own, in turns; the first round only checks that they agree. The file is ten minutes
of noise at 16 kHz, read from disk: log-mel features, two GRU layers of 128 units, greedy decoding.
Seconds are of the clock and of the processor; memory is what the peak of the process
grew by since it transcribed 30 s of samples.
Numbers are kept in benchmarks/results/speech_speed.json, the table is speech_speed.md. A library
that is not installed is left out.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).with_name("results") / "speech_speed.json"
T, B, V, L = 200, 16, 29, 30
ROUNDS, REPEATS = 5, 20
ONE_THREAD = dict.fromkeys(
    ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "GRU_NP_NUM_THREADS"), "1"
)


def problem() -> tuple[np.ndarray, np.ndarray]:
    """Draw logits and labels."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((B, T, V)).astype(np.float32), rng.integers(1, V, (B, L))


def gru_np_ctc():
    """Give a function that computes loss (B,) and gradient with ours."""
    from gru_np import kernels

    logits, labels = problem()
    lengths = np.full(B, T), np.full(B, L)
    return lambda: kernels.ctc_loss(logits, labels, *lengths)[:2]


def torch_ctc():
    """Give a function that computes loss (B,) and gradient with torch."""
    import torch

    torch.set_num_threads(1)
    logits, labels = map(torch.from_numpy, problem())
    logits.requires_grad_()
    lengths = torch.full((B,), T), torch.full((B,), L)

    def run():
        logits.grad = None
        log_y = logits.transpose(0, 1).log_softmax(-1)
        loss = torch.nn.functional.ctc_loss(
            log_y, labels, *lengths, reduction="none", zero_infinity=True
        )
        loss.sum().backward()
        return loss.detach().numpy(), logits.grad.numpy()

    return run


def jax_ctc():
    """Give a function that computes loss (B,) and gradient with JAX: optax, compiled as a whole."""
    import jax
    import optax

    logits, labels = problem()
    logits, labels = jax.numpy.asarray(logits), jax.numpy.asarray(labels)
    no_padding = jax.numpy.zeros((B, T)), jax.numpy.zeros((B, L))

    @jax.jit
    def both(logits):
        def total(logits):
            loss = optax.ctc_loss(logits, no_padding[0], labels, no_padding[1])
            return loss.sum(), loss

        gradient, loss = jax.grad(total, has_aux=True)(logits)
        return loss, gradient

    return lambda: tuple(np.asarray(part) for part in both(logits))


def peak_bytes() -> int:
    """Read the largest resident size of this process so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


def long_file(kind: str, path: str) -> dict:
    """Transcribe a file with an untrained model: "streaming" or "bidirectional"."""
    from gru_np.speech import Alphabet, Features, Transcriber

    both = kind == "bidirectional"
    features = Features("log_mel", stack=2, normalize="utterance" if both else None)
    transcriber = Transcriber.create(
        features, Alphabet(" ABCDEFGHIJKLMNOPQRSTUVWXYZ"), bidirectional=both, seed=0
    )
    warm_up = 0.1 * np.random.default_rng(0).standard_normal(16000 * 30)
    transcriber.transcribe(warm_up)  # compile, load; 30 s at once
    before = peak_bytes()
    clock, processor = time.perf_counter(), time.process_time()
    transcriber.transcribe(path)
    return {
        "seconds": time.perf_counter() - clock,
        "processor_seconds": time.process_time() - processor,
        "grew_by_MiB": (peak_bytes() - before) / 2**20,
        "peak_MiB": peak_bytes() / 2**20,
    }


CTC = {"gru_np": gru_np_ctc, "torch": torch_ctc, "jax": jax_ctc}
MODULES = {"torch": ["torch"], "jax": ["jax", "optax"]}


def worker(what: str, path: str) -> None:
    """Answer each line of standard input with a line of JSON."""
    if what in CTC:
        run = CTC[what]()
        loss, gradient = run()
        print(json.dumps({"loss": loss.tolist(), "gradient": gradient.tolist()}), flush=True)
        for _ in sys.stdin:
            times = []
            for _ in range(REPEATS):
                clock = time.perf_counter()
                run()
                times.append(time.perf_counter() - clock)
            print(json.dumps(times), flush=True)
    else:
        print(json.dumps(long_file(what, path)), flush=True)


def start(what: str, path: str = "") -> subprocess.Popen:
    """Start a worker."""
    command = [sys.executable, "-m", "benchmarks.speech_speed", "--worker", what, "--file", path]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=os.environ | ONE_THREAD,
    )  # fmt: skip


def main() -> None:
    """Measure and write."""
    from benchmarks import machine
    from gru_np.speech import write_wav

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--file", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        worker(args.worker, args.file)
        return
    here = [n for n in CTC if all(importlib.util.find_spec(m) for m in MODULES.get(n, []))]
    workers = {name: start(name) for name in here}
    answers = {name: json.loads(w.stdout.readline()) for name, w in workers.items()}
    for part in ("loss", "gradient"):
        a, *others = (np.array(answers[name][part]) for name in here)
        for b in others:
            # They work with logarithms of size 700 in float32, which leave four digits.
            error = abs(a - b).max() / abs(b).max()
            assert error < 2e-3, f"{part}: off by {error:.1e}"
    times: dict[str, list[float]] = {name: [] for name in here}
    for _ in range(ROUNDS):
        for name, process in workers.items():
            process.stdin.write("go\n")
            process.stdin.flush()
            times[name] += json.loads(process.stdout.readline())
    found: dict = {"processor": machine.model_name(), "commit": machine.commit()}
    found["load_average"] = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    for name, process in workers.items():
        process.stdin.close()
        process.wait()
        median, least = 1e3 * np.median(times[name]), 1e3 * min(times[name])
        found[f"ctc {name}"] = {"median_ms": median, "least_ms": least}
        print(f"CTC loss and gradient, {name:7} median {median:6.2f} ms, least {least:6.2f} ms")
    for kind in ("streaming", "bidirectional"):
        with tempfile.TemporaryDirectory() as folder:
            rng = np.random.default_rng(0)
            write_wav(f"{folder}/ten.wav", 0.1 * rng.standard_normal(16000 * 600), 16000)
            process = start(kind, f"{folder}/ten.wav")
            found[kind] = result = json.loads(process.communicate()[0])
        print(
            f"Ten minutes, {kind}: {result['seconds']:.1f} s, {600 / result['seconds']:.0f} x real "
            f"time ({600 / result['processor_seconds']:.0f} x by processor time), "
            f"grew by {result['grew_by_MiB']:.0f} MiB"
        )
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    lines = [
        "# Speed of speech", "",
        f"Written by `python -m benchmarks.speech_speed` on {found['processor']}, one thread; load "
        f"average {found['load_average']:.1f}.", "",
        f"| CTC loss and gradient, T={T} B={B} V={V} L={L} | median ms | least ms |",
        "|---|---:|---:|",
        *(
            f"| {name} | {found[f'ctc {name}']['median_ms']:.2f} "
            f"| {found[f'ctc {name}']['least_ms']:.2f} |"
            for name in here
        ), "",
        "| ten minutes of sound | s | x real time | processor s | grew by MiB | peak MiB |",
        "|---|---:|---:|---:|---:|---:|",
    ]  # fmt: skip
    for kind in ("streaming", "bidirectional"):
        r = found[kind]
        lines.append(
            f"| {kind} | {r['seconds']:.2f} | {600 / r['seconds']:.0f} "
            f"| {r['processor_seconds']:.2f} | {r['grew_by_MiB']:.0f} "
            f"| {r['peak_MiB']:.0f} |"
        )
    RESULTS.with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
