"""Retries, bounds, keys, and what was answered once is never asked again."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing
from email.utils import formatdate
from functools import partial

import httpx2
import pytest
from completion_server import CompletionServer, score_endpoint, serve, wait_for

from cogcalib import cli
from cogcalib.inference.backend_loading import answers_file
from cogcalib.inference.experimental.endpoint_client import Endpoint, EndpointError, RefusedError
from cogcalib.modeling import load_model
from cogcalib.modeling.shots import draw_shots
from cogcalib.scoring import ScoreSettings, read_predictions, score
from cogcalib.tasks import load_task

settings = ScoreSettings(model_name="tiny")


@pytest.fixture
def server(llama, tokenizer):
    with serve(CompletionServer(llama, tokenizer, most=len(tokenizer))) as running:
        yield running


@pytest.fixture
def endpoint(server, tokenizer):
    """Every option is listed: one request a question."""
    common = {"url": server.url, "model": "tiny", "top_logprobs": len(tokenizer)}
    return partial(Endpoint, **common, backoff=0.01)


def answers_in(journal):
    """How many answers a journal holds; none while it is being made."""
    with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as rows:
        return rows.execute("SELECT count(*) FROM answers").fetchone()[0]


def bodies(server):
    return [json.dumps(body, sort_keys=True) for body in server.requests]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_passing_errors_are_tried_again(server, endpoint, tokenizer, choices, status):
    expected = score_endpoint(endpoint(), tokenizer, choices, settings)
    server.requests.clear()
    server.before = lambda number: (status, {}, {"error": "busy"}) if number % 2 == 0 else None
    asked = endpoint(concurrency=1)
    assert score_endpoint(asked, tokenizer, choices, settings) == expected
    assert set(Counter(bodies(server)).values()) == {2}


def test_a_time_out_is_tried_again(server, endpoint, tokenizer, choices):
    expected = score_endpoint(endpoint(), tokenizer, choices, settings)
    server.requests.clear()
    server.before = lambda number: time.sleep(3.0) if number == 0 else None
    asked = endpoint(concurrency=1, timeout=2.0)
    assert score_endpoint(asked, tokenizer, choices, settings) == expected
    assert len(server.requests) == len(choices) + 1


def test_retry_after_is_waited_for(server, endpoint, tokenizer, choices):
    for told in ("0.4", formatdate(time.time() + 2, usegmt=True)):
        server.requests.clear()
        server.before = lambda number, told=told: (
            (429, {"Retry-After": told}, {}) if number == 0 else None
        )
        started = time.monotonic()
        score_endpoint(endpoint(), tokenizer, choices[:1], settings)
        assert time.monotonic() - started > 0.35
    server.requests.clear()
    server.before = lambda number: (429, {"Retry-After": "86400"}, {})
    with pytest.raises(EndpointError, match="asks to wait 86400 s"):
        score_endpoint(endpoint(), tokenizer, choices[:1], settings)


def test_it_gives_up_in_the_end_and_not_on_refusals(server, endpoint, tokenizer, choices):
    server.before = lambda number: (503, {}, {"error": {"message": "no worker"}})
    with pytest.raises(EndpointError, match=r"in 3 tries: HTTP 503: no worker"):
        score_endpoint(endpoint(retries=2), tokenizer, choices[:1], settings)
    assert len(server.requests) == 3
    server.requests.clear()
    server.before = lambda number: (401, {}, {"error": {"message": "bad key"}})
    with pytest.raises(RefusedError, match="HTTP 401: bad key"):
        score_endpoint(endpoint(), tokenizer, choices[:1], settings)
    assert len(server.requests) == 1
    nobody = Endpoint(url="http://127.0.0.1:9", model="tiny", retries=1, backoff=0.01)
    with pytest.raises(EndpointError, match=r"127.0.0.1:9/v1 in 2 tries: ConnectError"):
        score_endpoint(nobody, tokenizer, choices[:1], settings)


@pytest.mark.parametrize("concurrency", [1, 3])
def test_no_more_requests_at_once_than_allowed(server, endpoint, tokenizer, choices, concurrency):
    server.before = lambda number: time.sleep(0.05)
    score_endpoint(endpoint(concurrency=concurrency), tokenizer, choices, settings)
    assert server.at_once == concurrency


def test_progress_counts_questions(server, endpoint, tokenizer, choices):
    told = []
    watched = ScoreSettings(progress=told.append)
    score_endpoint(endpoint(), tokenizer, choices, watched)
    assert told == list(range(1, len(choices) + 1))


def test_a_failure_half_way_is_gone_on_from(server, endpoint, tokenizer, choices, tmp_path):
    expected = score_endpoint(endpoint(), tokenizer, choices, settings)
    server.requests.clear()
    output = tmp_path / "rows.jsonl"
    journal = answers_file(output)
    server.before = lambda number: (400, {}, {"error": "broken"}) if number == 5 else None
    with pytest.raises(RefusedError):
        score_endpoint(endpoint(concurrency=1), tokenizer, choices, settings, output=output)
    assert answers_in(journal) == 5
    server.before = lambda number: None
    found = score_endpoint(endpoint(), tokenizer, choices, settings, output=output)
    assert found == expected
    assert len(server.requests) == len(choices) + 1, "only what failed was sent again"
    server.requests.clear()
    again = score_endpoint(endpoint(), tokenizer, choices, settings, output=output)
    assert again == expected
    assert server.requests == []


def test_another_scorings_journal_is_refused(server, endpoint, tokenizer, choices, tmp_path):
    output = tmp_path / "rows.jsonl"
    journal = answers_file(output)
    score_endpoint(endpoint(), tokenizer, choices, settings, output=output)
    server.requests.clear()
    ask = partial(score_endpoint, tokenizer=tokenizer, output=output)
    with pytest.raises(ValueError, match="model is 'tiny' there and 'other' here"):
        ask(endpoint(model="other"), examples=choices, settings=settings)
    with pytest.raises(ValueError, match="answer is 'letter' there and 'text' here"):
        ask(endpoint(), examples=choices, settings=ScoreSettings(answer="text"))
    with pytest.raises(ValueError, match=r"top_logprobs is \d+ there and 7 here"):
        ask(endpoint(top_logprobs=7), examples=choices, settings=settings)
    shown = ScoreSettings(shots=draw_shots(choices, 2))
    with pytest.raises(ValueError, match=r"shots is \[\] there and \['c\d', 'c\d'\] here"):
        ask(endpoint(), examples=choices, settings=shown)
    with pytest.raises(ValueError, match="examples is"):
        ask(endpoint(), examples=choices[:3], settings=settings)
    journal.write_text("my diary")
    with pytest.raises(ValueError, match="is no journal of answers"):
        ask(endpoint(), examples=choices, settings=settings)
    assert journal.read_text() == "my diary"
    journal.unlink()
    with closing(sqlite3.connect(journal)) as other:
        other.execute("CREATE TABLE diary (day TEXT)")
    with pytest.raises(ValueError, match="is no journal of answers"):
        ask(endpoint(), examples=choices, settings=settings)
    assert server.requests == []


WORDS = ["score", "--task", "atlas/capital", "--tokenizer", "atlas", "--model", "served"]


@pytest.fixture(scope="module")
def atlas():
    return load_model("atlas")


def test_killed_and_started_again_it_sends_nothing_twice(atlas, tmp_path):
    model, tokenizer = atlas
    examples = load_task("atlas/capital").splits["test"]
    output = tmp_path / "rows.jsonl"
    journal = tmp_path / "rows.jsonl.journal"
    answered, release = 40, threading.Event()

    def hold(number):
        if number >= answered:
            release.wait(60)

    server = CompletionServer(model, tokenizer, name="served", before=hold)
    with serve(server):
        command = [sys.executable, "-m", "cogcalib", *WORDS, "--endpoint", server.url]
        command += ["--output", str(output), "--concurrency", "4"]
        client = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            wait_for(lambda: len(server.requests) == answered + 4, 90)
            wait_for(lambda: answers_in(journal) == answered)
        finally:
            os.kill(client.pid, signal.SIGKILL)
            client.communicate()
        assert not output.exists()
        finished = set(bodies(server)[:answered])
        server.before = lambda number: None
        release.set()
        assert cli.main([*WORDS, "--endpoint", server.url, "--output", str(output)]) == 0
        sent = Counter(bodies(server))
    assert len(finished) == answered
    assert all(sent[body] == 1 for body in finished)
    assert not journal.exists()
    rows = read_predictions(output)
    expected = score(model, tokenizer, examples, ScoreSettings(model_name="served"))
    assert [row.id for row in rows] == [row.id for row in expected]
    for row, other in zip(rows, expected, strict=True):
        assert row.prediction == other.prediction
        assert row.option_logprobs == pytest.approx(other.option_logprobs, abs=1e-3)


def test_the_key_is_sent_and_shown_nowhere(atlas, tmp_path, capsys, monkeypatch):
    model, tokenizer = atlas
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    refuse = {"on": False}

    def guard(number):
        # Some servers repeat the key in what they say.
        error = {"error": {"message": "wrong key: sk-very-secret"}}
        return (401, {}, error) if refuse["on"] and number > 3 else None

    with serve(CompletionServer(model, tokenizer, name="served", before=guard)) as server:
        words = [*WORDS, "--endpoint", server.url, "--api-key-env", "MY_KEY"]
        assert cli.main([*words, "--output", str(tmp_path / "a.jsonl")]) == 0
        sent = {headers["Authorization"] for headers in server.headers}
        assert sent == {"Bearer sk-very-secret"}
        server.requests.clear()
        refuse["on"] = True
        assert cli.main([*words, "--output", str(tmp_path / "b.jsonl")]) == 2
    printed = capsys.readouterr()
    assert "wrong key: [key]" in printed.err
    assert "sk-very-secret" not in printed.err + printed.out
    files = list(tmp_path.iterdir())
    names = {"a.jsonl", "a.jsonl.record.json", "b.jsonl.journal"}
    assert {file.name for file in files} == names
    assert all(b"sk-very-secret" not in file.read_bytes() for file in files)


def closed_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.mark.parametrize("named", [[], ["--tokenizer", "atlas"]])
def test_nobody_at_the_endpoint_is_told_soon_and_truly(named, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("threading.Event.wait", lambda self, timeout=None: True)
    words = ["score", "--task", "atlas/capital", "--model", "no-such-model", *named]
    words += ["--endpoint", f"http://127.0.0.1:{closed_port()}"]
    words += ["--output", str(tmp_path / "rows.jsonl")]
    with pytest.raises(SystemExit) as exit:
        cli.main(words)
    assert exit.value.code == 1
    said = capsys.readouterr().err
    assert "in 3 tries: ConnectError" in said
    assert "; nothing was answered, so nothing is kept\n" in said
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_has_answered_is_waited_for(llama, tokenizer, choices, monkeypatch):
    """Of one that restarts, the connection is refused, too."""
    asked = []

    def refuse(self, *words, **options):
        asked.append(words)
        if len(asked) == 1:
            return request(self, *words, **options)
        raise httpx2.ConnectError("refused")

    request = httpx2.Client.request
    monkeypatch.setattr("httpx2.Client.request", refuse)
    with serve(CompletionServer(llama, tokenizer, most=len(tokenizer))) as server:
        endpoint = Endpoint(url=server.url, model="tiny", backoff=0.01, concurrency=1)
        with pytest.raises(EndpointError, match="in 7 tries"):
            score_endpoint(endpoint, tokenizer, choices, settings)


def test_a_tokenizer_that_nobody_named_is_asked_for(llama, tokenizer, capsys):
    with serve(CompletionServer(llama, tokenizer, name="served-name")) as server:
        words = ["score", "--task", "atlas/capital", "--endpoint", server.url]
        assert cli.main([*words, "--model", "other-name"]) == 2
        assert "model must be one that the endpoint serves (served-name)" in capsys.readouterr().err
        assert cli.main([*words, "--model", "served-name"]) == 2
        assert "tokenizer must be given: there is none under" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--endpoint", "localhost:1"], "endpoint must begin with http"),
        (["--endpoint", "http://h", "--adapter", "a"], "adapter cannot be used with an endpoint"),
        (["--endpoint", "http://h", "--four-bit"], "four_bit cannot be used with an endpoint"),
        (["--endpoint", "http://h", "--batch-size", "2"], "batch_size cannot be used with an end"),
        (["--endpoint", "http://h", "--dtype", "float16"], "dtype cannot be used with an endpoint"),
        (["--endpoint", "http://h", "--concurrency", "0"], "concurrency must be at least 1, got 0"),
        (["--endpoint", "http://h", "--api-key-env", "NO_SUCH"], "variable NO_SUCH is not set"),
        (["--endpoint", "http://h", "--tokenizer", "./no"], "tokenizer must be that of the endpo"),
        (["--endpoint", "http://h", "--task", "atlas/none"], "atlas/none"),
        (["--endpoint", "http://h", "--output", "rows.csv"], "output must end in .jsonl or .par"),
        (["--concurrency", "4"], "concurrency cannot be used without an endpoint"),
    ],
)
def test_wrong_input_is_exit_code_2_before_any_request(words, what, capsys):
    words = ["score", "--task", "atlas/capital", "--model", "atlas", *words]
    assert cli.main(words) == 2
    assert what in capsys.readouterr().err
