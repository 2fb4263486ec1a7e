"""The verb serve: what it refuses before it loads anything, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import openai
import pytest

from cogcalib import cli
from cogcalib.cli import serve
from cogcalib.deployment.calibration_file import (
    AbstentionRule,
    AnswerFormat,
    Calibration,
    write_calibration,
)
from cogcalib.deployment.identity import identify
from cogcalib.modeling import load_tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A calibration of the embedded model, with a rule."""
    rule = AbstentionRule(0.05, 0.1, 0.9, 500, 0.4, (0.3, 0.5), 0.03, "held-out.jsonl", "0" * 64)
    answers = AnswerFormat("options", "options", preset="cogcalib")
    identity = identify("atlas", load_tokenizer("atlas"))
    write_calibration(tmp_path, Calibration(identity, answers, rules=(rule,)))
    return tmp_path


@contextmanager
def served(folder: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """The command in a process of its own, its address, and what it said of itself."""
    command = [sys.executable, "-m", "cogcalib", "serve", "atlas", "--calibration", str(folder)]
    process = subprocess.Popen(
        [*command, "--port", "0", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        line = process.stdout.readline()
        if "http" not in line:
            pytest.fail(process.stderr.read())
        yield process, f"http{line.partition('http')[2].partition(';')[0]}", line
    finally:
        process.kill()
        process.communicate()


def test_an_interrupt_ends_it_well_and_its_port_is_its_own(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ready = folder / "ready.json"
    with served(folder, "--json", str(ready)) as (process, url, line):
        assert "the model's own confidence; abstains below 0.9 (target error 5 %)" in line
        assert f"atlas at {url}" in line
        client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
        got = client.chat.completions.create(
            model="atlas",
            messages=[{"role": "user", "content": "In which country is Lyon?"}],
            extra_body={"options": ["France", "India", "Peru"]},
        )
        field = (got.choices[0].model_extra or {})["cogcalib"]
        assert field["abstain"] is (field["confidence"] < 0.9)
        client.close()
        found = json.loads(ready.read_text(encoding="utf-8"))
        assert (found["name"], found["address"], found["confidence"]) == ("atlas", url, None)
        assert [rule["target_error"] for rule in found["rules"]] == [0.05]
        port = url.rpartition(":")[2].partition("/")[0]
        assert cli.main(["serve", "atlas", "--port", port]) == 2
        assert "is in use" in capsys.readouterr().err
        process.send_signal(signal.SIGINT)
        check_end(process)


def check_end(process: subprocess.Popen[str]) -> None:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert out.endswith("cogcalib: finished\n")
    assert "Traceback" not in err


def test_a_termination_under_load_loses_nothing(folder: Path) -> None:
    body = {
        "model": "atlas",
        "messages": [{"role": "user", "content": "In which country is Lyon?"}],
        "options": ["France", "India", "Peru"],
    }
    statuses: list[int] = []
    refused = threading.Event()

    def ask(url: str) -> None:
        while not refused.is_set():
            try:
                got = httpx2.post(f"{url}/chat/completions", json=body, timeout=60)
            except (httpx2.NetworkError, httpx2.RemoteProtocolError):
                refused.set()  # it had not been accepted yet, or the port is closed
            else:
                statuses.append(got.status_code)
                if len(statuses) == 40:
                    process.send_signal(signal.SIGTERM)

    with served(folder) as (process, url, _):
        threads = [threading.Thread(target=ask, args=(url,)) for _ in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join(120)
        check_end(process)
    assert len(statuses) >= 40
    assert set(statuses) == {200}


def test_a_port_in_use_is_said_before_the_model_loads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        # The model is not looked for: there is none.
        assert cli.main(["serve", str(tmp_path / "absent"), "--port", str(port)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"cogcalib: port {port} of 127.0.0.1 is in use; choose another with --port"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--host", "0.0.0.0"], "host 0.0.0.0 lets other machines ask, which needs a key"),
        (["--host", "::"], "which needs a key"),
        (["--host", "example.org"], "which needs a key"),
        (["--host", "127.0.0.1.evil"], "which needs a key"),
        (["--api-key-env", "COGCALIB_ABSENT"], "variable COGCALIB_ABSENT is not set"),
        (["--port", "70000"], "port must be between 0 and 65535, got 70000"),
        (["--port", "-1"], "port must be between 0 and 65535, got -1"),
        (["--queue", "0"], "queue must be at least 1, got 0"),
        (["--timeout", "0"], "timeout must be a positive number, got 0.0"),
        (["--timeout", "nan"], "timeout must be a positive number, got nan"),
        (["--gather", "5"], "gather must be between 0 and 1 second, got 5.0"),
        (["--endpoint", "http://localhost:1/v1"], "endpoint and served_name go together"),
        (["--dtype", "int8"], "dtype must be one of"),
    ],
)
def test_wrong_options_are_exit_code_2(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["serve", "atlas", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line


def test_a_model_without_a_calibration_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["serve", "atlas", "--calibration", str(tmp_path), "--port", "0"]
    assert cli.main(words) == 2
    assert "has no calibration.json" in capsys.readouterr().err


def test_a_rule_that_is_not_recorded_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["serve", "atlas", "--calibration", str(folder), "--port", "0"]
    assert cli.main([*words, "--target-error", "0.2"]) == 2
    assert "0.05" in capsys.readouterr().err


def test_a_missing_library_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(serve.importlib.util, "find_spec", lambda name: None)
    assert cli.main(["serve", "atlas"]) == 2
    assert 'pip install "cogcalib[serve]"' in capsys.readouterr().err
