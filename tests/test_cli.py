"""The command line: what it prints, what it leaves, what it refuses, what it survives."""

import contextlib
import errno
import io
import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest
from conftest import assert_close

from gru_np import GRU, Bidirectional, Dense, Embedding, Sequential, cli, interop

TEXT = "the cat sat on the mat. the dog ate the cat's hat.\n" * 60
SMALL = ["--units", "8", "--embedding", "4", "--batch-size", "4", "--length", "16"]


@pytest.fixture
def book(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The path of a model, and what was printed as it was made."""
    folder = tmp_path_factory.mktemp("trained")
    book, path = folder / "book.txt", folder / "book.safetensors"
    book.write_text(TEXT, encoding="utf-8")
    args = ["train", "--text", str(book), "--checkpoint", str(path), *SMALL]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert cli.main([*args, "--epochs", "2", "--samples", "2"]) == 0
    return path, out.getvalue()


def test_train_prints_progress_samples_and_the_held_out_score_and_leaves_a_model(trained):
    path, out = trained
    assert f"{len(TEXT):,} characters" in out
    assert len(re.findall(r"^--- after \d+ steps, .* bits per character ---$", out, re.M)) == 2
    assert len(re.findall(r"^Epoch ./2 - .*tokens/s - loss: .* - val_loss: ", out, re.M)) == 2
    assert re.search(r"^Held-out text: \d\.\d+ nats = \d\.\d+ bits per character$", out, re.M)
    assert Sequential.load(path).history.epoch == [0, 1]


def test_generate_repeats_itself_with_a_seed_and_begins_with_the_prompt(trained, capsys):
    path, _ = trained
    written = []
    for seed in ("1", "1", "2"):
        args = ["generate", str(path), "--prompt", "the ", "--length", "40", "--seed", seed]
        assert cli.main(args) == 0
        written.append(capsys.readouterr().out)
    assert written[0] == written[1] != written[2]
    assert written[0].startswith("the ") and len(written[0]) == 4 + 40 + 1


def test_generate_streams_the_text_alone_and_tells_its_speed_on_the_side(trained, capsys):
    path, _ = trained
    assert cli.main(["generate", str(path), "--prompt", "the ", "--length", "30"]) == 0
    shown = capsys.readouterr()
    assert re.fullmatch(r"\[30 tokens in [\d.]+ s, [\d,]+ tokens/s\]\n", shown.err)
    assert len(shown.out) == 4 + 30 + 1


def test_generate_takes_an_alphabet_filters_and_penalties(trained, capsys):
    path, _ = trained
    args = ["generate", str(path), "--prompt", "the ", "--length", "50", "--seed", "3"]
    written = []
    for extra in (
        [], ["--allowed", "ab "], ["--top-k", "1"], ["--min-p", "1"], ["--forbidden", "t"],
        ["--repetition-penalty", "9"], ["--top-p", "0.01"], ["--stop", "a"],
    ):  # fmt: skip
        assert cli.main([*args, *extra]) == 0
        written.append(capsys.readouterr().out[4:-1])
    plain, alphabet, greedy, likeliest, without_t, penalized, nucleus, stopped = written
    assert set(alphabet) <= set("ab ") and "t" not in without_t
    assert greedy == likeliest == nucleus != plain and penalized != plain
    assert plain.startswith(stopped) and "a" not in stopped


def test_generate_continues_several_prompts_and_lists_log_probabilities(trained, capsys):
    path, _ = trained
    args = ["generate", str(path), "--length", "7", "--seed", "1", "--log-probabilities"]
    assert cli.main([*args, "--prompt", "the c", "--prompt", "a dog"]) == 0
    out = capsys.readouterr().out
    assert "--- 'the c'\nthe c" in out and "--- 'a dog'\na dog" in out
    rows = re.findall(r"^ +(-?\d+\.\d{3})  '.*'$", out, re.M)
    means = re.findall(r"^ +(-?\d+\.\d{3})  nats per token, 7 tokens$", out, re.M)
    assert len(rows) == 14 and len(means) == 2
    assert abs(sum(map(float, rows[:7])) / 7 - float(means[0])) < 2e-3  # of rounded numbers
    assert cli.main([*args, "--prompt", "the c"]) == 0
    assert capsys.readouterr().out.count("  nats per token") == 1


def test_generate_finds_the_likeliest_texts_by_beam_search(trained, capsys):
    path, _ = trained
    args = ["generate", str(path), "--prompt", "the ", "--length", "5", "--beams", "3"]
    assert cli.main([*args, "--length-norm", "1"]) == 0
    rows = re.findall(r"^ *(-\d+\.\d{3}) nats  the (.{5})$", capsys.readouterr().out, re.M)
    scores = [float(score) for score, _ in rows]
    assert len(rows) == 3 and scores == sorted(scores, reverse=True)


def test_generate_converses_until_it_is_told_to_end(trained, capsys, monkeypatch):
    path, _ = trained
    typed = "the cat\n\n:temperature 0\n:settings\n:wit 3\n:top-k x\n日\nthe\n:quit\nnot read\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    args = ["generate", str(path), "--interactive", "--length", "9", "--seed", "5"]
    assert cli.main(args) == 0
    answers = capsys.readouterr().out.split("> ")[1:]
    first, more = answers[:2]
    assert first.startswith("the cat") and len(first) == 7 + 9 + 1
    assert len(more) == 9 + 1  # it goes on from there, and does not begin again
    assert "temperature 0.0" in answers[3] and "length 9" in answers[3]
    assert answers[4].startswith("there is no setting 'wit'") and "top-k must be" in answers[5]
    assert len(answers) == 9 and answers[7].startswith("the")
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert cli.main(args) == 0


def test_next_lists_probabilities_in_falling_order(trained, capsys):
    path, _ = trained
    assert cli.main(["next", "the ca", "--checkpoint", str(path), "--k", "4"]) == 0
    rows = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    probabilities = [float(p) for p, _ in rows]
    assert len(rows) == 4 and probabilities == sorted(probabilities, reverse=True)


def test_evaluate_reads_the_held_out_part_or_another_text(trained, book, capsys):
    path, _ = trained
    for extra in (["--text", str(book), "--held-out"], ["--text", str(book)]):
        assert cli.main(["evaluate", str(path), *extra]) == 0
        assert re.fullmatch(
            r"[\d,]+ tokens: \d\.\d+ nats = \d\.\d+ bits per character\n", capsys.readouterr().out
        )
    assert cli.main(["evaluate", str(path)]) == 2  # the file names its text, which is no reason
    assert "--text must name what to read" in capsys.readouterr().err


def test_what_is_not_in_the_vocabulary_is_counted(trained, tmp_path, capsys):
    path, _ = trained
    other = tmp_path / "other.txt"
    other.write_text("the cat 日本 sat", encoding="utf-8")
    assert cli.main(["evaluate", str(path), "--text", str(other)]) == 0
    assert "\n2 of them are not in the vocabulary" in capsys.readouterr().out


def test_words_begin_with_vectors_and_everything_that_helps_is_one_option_away(
    book, tmp_path, capsys
):
    vectors, path = tmp_path / "vectors.txt", tmp_path / "words.safetensors"
    vectors.write_text("cat 1 0 0 0 0 0 0 2\nthe 0 1 0 0 0 0 0 3\n", encoding="utf-8")
    args = [
        "train", "--text", str(book), "--tokens", "word", "--checkpoint", str(path), *SMALL,
        "--epochs", "2", "--samples", "0", "--vectors", str(vectors), "--tied", "--average", "0.9",
        "--recurrent-dropout", "0.1", "--embedding-dropout", "0.1", "--dropout", "0.1",
        "--weight-decay", "0.01", "--skip-nan", "--best", str(tmp_path / "best.safetensors"),
        "--log", str(tmp_path / "run.jsonl"),
    ]  # fmt: skip
    assert cli.main(args) == 0
    out = capsys.readouterr().out
    assert "Vectors: 2 of 13 words have one" in out and "The best epoch, " in out
    log = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    epochs = [entry for entry in log if entry["event"] == "epoch"]
    assert [e["epoch"] for e in epochs] == [1, 2] and len(log) > 2
    assert {"val_loss", "gradient_norm", "gru/z_saturated"} <= set(epochs[0])
    best = Sequential.load(tmp_path / "best.safetensors")
    assert best.layers[-1].tied is best.layers[0] and best.layers[0].dropout == 0.1


def test_words_can_be_tokens(book, tmp_path, capsys):
    path = tmp_path / "words.safetensors"
    args = ["train", "--text", str(book), "--tokens", "word", "--checkpoint", str(path), *SMALL]
    assert cli.main([*args, "--epochs", "1", "--samples", "1"]) == 0
    assert "nats per word, perplexity" in capsys.readouterr().out
    assert cli.main(["next", "the cat sat on the", "--checkpoint", str(path)]) == 0


def test_gradcheck_reports_both_forms(capsys):
    assert cli.main(["gradcheck", "--units", "3"]) == 0
    out = capsys.readouterr().out
    assert "Reset after the product" in out and "Reset before the product" in out
    assert out.count("all right") == 2


def test_a_model_is_exported_and_converted(trained, tmp_path, capsys):
    path, _ = trained
    module, folder = tmp_path / "alone.py", tmp_path / "pretrained"
    assert cli.main(["export", str(path), str(module)]) == 0
    assert "python " in capsys.readouterr().out
    subprocess.run([sys.executable, str(module)], check=True, capture_output=True)
    assert cli.main(["convert", str(path), str(folder)]) == 0
    assert (folder / "config.json").exists()
    assert cli.main(["convert", str(path), str(tmp_path / "model.docx")]) == 2


def test_convert_leads_from_every_form_to_every_other(tmp_path, capsys):
    pytest.importorskip("h5py")
    pytest.importorskip("onnx")
    forms = {
        ".safetensors": [], ".torch.safetensors": [], ".keras": [], ".onnx": [], "-folder": [],
        ".weights.h5": ["--like", str(tmp_path / "own.safetensors")],
    }  # fmt: skip
    model = Sequential(
        [Embedding(9, 3), GRU(4, return_sequences=True), Bidirectional(GRU(2)), Dense(5)], seed=0
    )
    model.build((None, None))
    model.save(tmp_path / "own.safetensors")
    x = np.arange(8).reshape(2, 4)
    for source, options in forms.items():
        a = tmp_path / f"a{source}"
        assert cli.main(["convert", str(tmp_path / "own.safetensors"), str(a)]) == 0
        for target in [*forms, ".py"]:
            b = tmp_path / f"b-of{source.replace('.', '-')}{target}"
            assert cli.main(["convert", str(a), str(b), *options]) == 0, capsys.readouterr().err
            if target == ".py":
                subprocess.run([sys.executable, str(b)], check=True, capture_output=True)
                continue
            like = Sequential.load(tmp_path / "own.safetensors")
            found = interop.read(b, like if target == ".weights.h5" else None)
            np.testing.assert_array_equal(found.predict(x), model.predict(x))
    assert cli.main(["convert", str(a), str(tmp_path / "c.onnx")]) == 2
    assert "holds weights and no settings" in capsys.readouterr().err
    assert cli.main(["convert", str(tmp_path / "own.safetensors"), "c", *options]) == 2
    assert "says itself what it holds" in capsys.readouterr().err


def test_every_command_explains_itself_with_an_example(capsys):
    for command in ("train", "generate", "next", "evaluate", "gradcheck", "convert", "export"):
        with pytest.raises(SystemExit) as end:
            cli.main([command, "--help"])
        assert end.value.code == 0
        assert f"example:\n  gru-np {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"a", "a single character"),
        (b"ab\0cd", "NUL byte at offset 2"),
        (b"caf\xe9 latin", "not UTF-8 text, byte 0xe9 at offset 3"),
        (None, "there is no such file"),
    ],
)
def test_bad_text_gets_one_sentence_and_status_2(content, message, tmp_path, capsys):
    path = tmp_path / "bad.txt"
    if content is not None:
        path.write_bytes(content)
    assert cli.main(["train", "--text", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("gru-np train: ") and message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["generate", "nowhere"], "no such file"),
        (["generate", "{model}", "--temperature", "-1"], "--temperature must be at least 0"),
        (["generate", "{model}", "--top-p", "2"], "--top-p must be above 0 and at most 1, got 2"),
        (["next", "the", "--checkpoint", "{model}", "--k", "0"], "--k must be at least 1"),
        (["evaluate", "{book}"], "book.txt"),
        (["train", "--resume", "--checkpoint", "{book}"], "book.txt"),
        (["train", "--text", "{book}", "--units", "0"], "--units must be at least 1"),
        (["train", "--text", "{book}", "--validation", "2"], "--validation"),
        (["train", "--text", "{book}", "--epochs", "0"], "--epochs must be at least 1, got 0"),
        (["train", "--text", "{book}", "--batch-size", "-3"], "--batch-size must be at least 1"),
        (["train", "--text", "{book}", "--layers", "0"], "--layers must be at least 1, got 0"),
        (["train", "--text", "{book}", "--length", "0"], "--length must be at least 1, got 0"),
        (["train", "--text", "{book}", "--learning-rate", "nan"], "--learning-rate must be"),
        (
            ["train", "--text", "{book}", "--dropout", "1"],
            "--dropout must be at least 0 and below 1, got 1",
        ),
        (
            ["train", "--text", "{book}", "--average", "1"],
            "--average must be at least 0 and below 1",
        ),
        (["train", "--text", "{book}", "--seed", "-1"], "--seed must be at least 0"),
        (["train", "--text", "{book}", "--vectors", "{book}"], "add --tokens word"),
        (["train", "--resume", "--checkpoint", "{model}", "--epochs", "3"], "epochs of the run, 2"),
        (["generate", "{model}", "--min-p", "2"], "--min-p must be"),
        (
            ["generate", "{model}", "--repetition-penalty", "0"],
            "--repetition-penalty must be above 0",
        ),
        (["generate", "{model}", "--allowed", "日"], "no token of the vocabulary may be written"),
        (["generate", "{model}", "--length", "-1"], "--length must be at least 0"),
        (["generate", "{model}", "--beams", "0"], "--beams must be at least 1"),
        (["generate", "{model}", "--beams", "2", "--stop", "x"], "--stop is not for --beams"),
        (["generate", "{model}", "--end", "x"], "--end is for --beams"),
        (["generate", "{model}", "--interactive", "--prompt", "x"], "neither --prompt nor --beams"),
    ],
)
def test_bad_arguments_get_one_sentence_and_status_2(args, message, trained, book, capsys):
    path, _ = trained
    args = [a.format(model=path, book=book) for a in args]
    assert cli.main(args) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and "Traceback" not in error


def start(book, checkpoint, *extra):
    """A training run in a process of its own, with a checkpoint at every tenth of an epoch."""
    command = [
        sys.executable, "-m", "gru_np", "train", "--text", str(book), "--checkpoint",
        str(checkpoint), *SMALL, "--epochs", "4", "--samples", "0", *extra,
    ]  # fmt: skip
    environment = {**os.environ, "GRU_NP_KERNELS": "0"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def finish(process):
    """Wait for the end and close the pipes; give the status and what was printed."""
    out, error = process.communicate(timeout=120)
    return process.returncode, out, error


def wait_for(path, process, seconds=60):
    end = time.monotonic() + seconds
    while not path.exists() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.005)


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_an_interrupted_run_saves_says_how_to_go_on_and_ends_with_the_same_bits(tmp_path):
    book = tmp_path / "book.txt"
    book.write_text(TEXT * 4, encoding="utf-8")
    whole, stopped = tmp_path / "whole.safetensors", tmp_path / "stopped.safetensors"
    assert finish(start(book, whole))[0] == 0

    process = start(book, stopped)
    wait_for(stopped, process)
    process.send_signal(signal.SIGINT)
    status, out, error = finish(process)
    assert (status, error) == (130, "")
    assert f"gru-np train --resume --checkpoint {stopped}" in out

    assert finish(start(book, stopped, "--resume"))[0] == 0
    assert_close(
        Sequential.load(stopped).get_weights(), Sequential.load(whole).get_weights(), "exact"
    )


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_a_polite_request_to_end_is_an_interruption_with_a_status_of_its_own(tmp_path):
    book = tmp_path / "book.txt"
    book.write_text(TEXT * 4, encoding="utf-8")
    path = tmp_path / "run.safetensors"
    process = start(book, path)
    wait_for(path, process)
    process.terminate()
    status, out, error = finish(process)
    assert (status, error) == (128 + signal.SIGTERM, "")
    assert f"gru-np train --resume --checkpoint {path}" in out
    assert Sequential.load(path).optimizer.iterations > 0


def test_a_full_disk_ends_a_run_with_one_sentence_and_the_last_good_checkpoint(
    book, tmp_path, capsys, monkeypatch
):
    path, write, calls = tmp_path / "run.safetensors", os.write, []

    def to_disk(file, block):
        calls.append(1)
        if path.exists() and len(calls) > 30:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, block)

    monkeypatch.setattr(os, "write", to_disk)
    args = ["train", "--text", str(book), "--checkpoint", str(path), *SMALL, "--samples", "0"]
    assert cli.main(args) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"gru-np train: {path}: cannot be saved: No space left on device")
    assert error.endswith(f"; the last good checkpoint is {path}\n") and error.count("\n") == 1
    assert Sequential.load(path).optimizer.iterations > 0


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_twenty_kills_leave_a_checkpoint_that_loads_and_nothing_stale(tmp_path):
    book = tmp_path / "book.txt"
    book.write_text(TEXT * 4, encoding="utf-8")
    path = tmp_path / "killed" / "run.safetensors"
    path.parent.mkdir()
    moments = random.Random(7)
    process = start(book, path)
    wait_for(path, process)
    for _ in range(20):
        time.sleep(moments.uniform(0.0, 0.4))
        process.kill()
        finish(process)
        Sequential.load(path)
        process = start(book, path, "--resume")
        time.sleep(moments.uniform(0.2, 0.5))
    assert finish(process)[0] == 0
    Sequential.load(path)
    assert [p.name for p in path.parent.iterdir()] == ["run.safetensors"]


# ------------------------------------------------------------- what a file and a console may do


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="SIGHUP of POSIX")
def test_a_terminal_that_is_closed_costs_nothing(tmp_path):
    """Its signal comes from the kernel and from the shell: twice."""
    book = tmp_path / "book.txt"
    book.write_text(TEXT * 4, encoding="utf-8")
    path = tmp_path / "run.safetensors"
    process = start(book, path)
    wait_for(path, process)
    process.send_signal(signal.SIGHUP)
    process.stdout.close()
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=120) == 128 + signal.SIGHUP
    assert process.stderr.read() == ""
    process.stderr.close()
    assert Sequential.load(path).optimizer.iterations > 0


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="SIGHUP of POSIX")
def test_a_signal_that_the_process_was_started_to_ignore_stays_ignored(tmp_path):
    from gru_np.callbacks import StopOnSignal

    def nothing(number, frame):
        raise AssertionError

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN), signal.signal(signal.SIGTERM, nothing)
    try:
        stop = StopOnSignal()
        stop.on_train_begin({})
        os.kill(os.getpid(), signal.SIGHUP)
        assert not stop.stopped and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.stopped == signal.SIGTERM
        stop.on_train_end({})
        assert signal.getsignal(signal.SIGTERM) is nothing
    finally:
        for number, handler in zip((signal.SIGHUP, signal.SIGTERM), before, strict=True):
            signal.signal(number, handler)


def resigned(path, **run):
    """Change what a model's file says of its run, and sign it."""
    from gru_np import checkpoint

    config, arrays = checkpoint.load(path)
    config["extras"]["run"] |= run
    checkpoint.save(path, config, arrays)


@pytest.fixture
def begun(book, tmp_path):
    """A run of two epochs with one of them done; its book beside it."""
    path = tmp_path / "run.safetensors"
    args = ["train", "--text", str(book), "--checkpoint", str(path), *SMALL, "--samples", "0"]
    with contextlib.redirect_stdout(io.StringIO()):
        assert cli.main([*args, "--epochs", "1"]) == 0
    resigned(path, epochs=2)
    return path


def test_a_file_names_no_path_that_is_read_or_overwritten(begun, book, tmp_path, capsys):
    victim, secret = tmp_path / "victim", tmp_path / "secret.txt"
    victim.write_text("precious", encoding="utf-8")
    secret.write_text("secret " * 200, encoding="utf-8")
    resume = ["train", "--resume", "--checkpoint", str(begun)]
    assert cli.main(resume) == 2
    assert "--resume takes no path from a file: the run had --text" in capsys.readouterr().err
    resigned(begun, text=[str(secret)], log=str(victim), best=str(victim), checkpoint=str(victim))
    assert cli.main([*resume, "--text", str(book)]) == 2
    assert "name it again (it was " in capsys.readouterr().err
    assert victim.read_text(encoding="utf-8") == "precious"
    # Named on the command line it is another text than the run's, and that is seen.
    resigned(begun, log=None, best=None)
    assert cli.main([*resume, "--text", str(secret)]) == 2
    assert "learns from another text than" in capsys.readouterr().err
    assert cli.main([*resume, "--text", str(book)]) == 0
    assert victim.read_text(encoding="utf-8") == "precious"
    assert Sequential.load(begun).history.epoch == [0, 1]


@pytest.mark.parametrize(
    "run",
    [
        {"batch_size": -1}, {"batch_size": "3"}, {"length": 0}, {"epochs": 10**30},
        {"validation": float("nan")}, {"validation": 2}, {"samples": -1}, {"average": "x"},
        {"tokens": "bytes"}, {"skip_nan": None},
    ],
)  # fmt: skip
def test_settings_of_a_run_without_a_meaning_are_one_sentence(run, begun, book, capsys):
    resigned(begun, **run)
    args = ["--checkpoint", str(begun), "--text", str(book)]
    assert cli.main(["train", "--resume", *args]) == 2
    error = capsys.readouterr().err
    assert f"the run's setting {next(iter(run))} has no meaning" in error
    assert error.count("\n") == 1


def test_a_checkpoint_with_braces_in_its_name_is_that_file(book, tmp_path, capsys):
    path, best = tmp_path / "{epoch}-{x}.st", tmp_path / "best{.st"
    args = ["train", "--text", str(book), "--checkpoint", str(path), "--best", str(best), *SMALL]
    assert cli.main([*args, "--epochs", "1", "--samples", "0"]) == 0
    assert {p.name for p in tmp_path.iterdir()} == {"book.txt", path.name, best.name}
    assert cli.main(["next", "the", "--checkpoint", str(path)]) == 0


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["train", "--units", "1000000"], "--units must be at most 65,536"),
        (["train", "--units", "65536", "--layers", "100"], "GB of memory; lower --units"),
        (["train", "--layers", "1000000"], "--layers must be at most 100"),
        (["train", "--learning-rate", "inf"], "--learning-rate must be above 0 and"),
        (["train", "--dropout", "nan"], "--dropout must be at least 0"),
        (["train", "--weight-decay", "-1"], "--weight-decay must be at least 0"),
        (["train", "--validation", "nan"], "--validation must be above 0"),
        (["train", "--seed", "1e3"], "--seed must be an integer, got 1e3"),
        (["train", "--text", "/dev/zero"], "expected a regular file, found a character device"),
        (["train", "--checkpoint", "{folder}/"], "--checkpoint must name a file, got the folder"),
        (["train", "--checkpoint", "{folder}/no/m.st"], "--checkpoint must be in a folder that"),
        (["train", "--log", "{folder}"], "--log must name a file, got the folder"),
        (["train", "--best", "/dev/null"], "--best must name a regular file"),
        (["generate", "{model}", "--prompt=--"], "an option's value must not be --"),
        (["generate", "{model}", "--beams", "1000000000000"], "--beams must be at most 4,096"),
        (["generate", "{model}", "--beams", "2", "--length-norm", "nan"], "--length-norm must be"),
        (["generate", "{model}", "--temperature", "inf"], "--temperature must be at least 0"),
        (["generate", "{model}", "--length", "9" * 400], "--length must be at most"),
        (["generate", "{model}", "--seed", "-1"], "--seed must be at least 0"),
        (["next", "the", "--checkpoint", "{model}", "--k", "x"], "--k must be an integer, got x"),
        (["evaluate", "{model}", "--held-out"], "--text must name what to read"),
        (["gates", "{model}", "--text", "the", "--unit", "-1"], "--unit must be at least 0"),
        (["gates", "{model}", "--text", "the", "--out", "{folder}/"], "--out must name a file"),
        (["gradcheck", "--units", "100000"], "--units must be at most 1,000"),
        (["gradcheck", "--method", "magic"], "invalid choice: 'magic'"),
        (["export", "{model}", "{folder}/no/m.py"], "must be in a folder that exists"),
        (["trian"], "invalid choice: 'trian'"),
        (["next", "the", "--checkpoint", "a\n\x1b[2Jb"], "a\\n\\x1b[2Jb: there is no such file"),
        (["train", "--best", "9" * 5000], "--best must be a path, got 999"),
        ([], "required: COMMAND"),
    ],
)
def test_what_no_machine_can_do_is_one_sentence_and_status_2(
    args, message, trained, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    model, _ = trained
    assert cli.main([a.format(model=model, folder=tmp_path) for a in args]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and error.startswith("gru-np")
    assert list(tmp_path.iterdir()) == []


def test_a_machine_without_enough_memory_is_no_traceback(trained, capsys, monkeypatch):
    def load(path):
        raise MemoryError("Unable to allocate 9 GiB")

    monkeypatch.setattr(Sequential, "load", load)
    assert cli.main(["next", "the", "--checkpoint", str(trained[0])]) == 1
    expected = "gru-np next: there is not enough memory; Unable to allocate 9 GiB\n"
    assert capsys.readouterr().err == expected


# ------------------------------------------------------------------------- what the README says

README = Path(__file__).parent.parent / "README.md"
COMMANDS = re.findall(r"^gru-np .*$|(?<=`)gru-np [^`]+(?=`)", README.read_text("utf-8"), re.M)


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_of_the_readme_is_one(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = shlex.split(line.replace("\n", " "), comments=True)[1:]
    if words[-1] != "--help":
        try:
            cli.build_parser().parse(words)
        except cli.OptionError as error:  # prose may name a command without its arguments
            assert "are required" in str(error)


def test_the_readme_names_every_extra():
    project = tomllib.loads((README.parent / "pyproject.toml").read_text("utf-8"))["project"]
    for extra in project["optional-dependencies"]:
        assert f"`{extra}`" in README.read_text("utf-8")
