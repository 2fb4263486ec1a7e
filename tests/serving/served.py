"""A server in a thread around the embedded model, and clients that behave or do not."""

from __future__ import annotations

import functools
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import httpx2

from cogcalib.deployment.calibration_file import (
    AbstentionRule,
    AnswerFormat,
    Calibration,
    FittedMap,
    ModelIdentity,
)
from cogcalib.inference.transformers_backend import TransformersBackend
from cogcalib.modeling import load_model
from cogcalib.serving.asked import Answering, Asked, Served
from cogcalib.serving.run_server import make_server, take_port
from cogcalib.serving.serve_settings import ServeSettings

QUESTION = "In which country is Lyon?"
OPTIONS = ["France", "India", "Peru", "Poland"]
PROMPT = "Question: In which country is Lyon?\nA. France\nB. India\nC. Peru\nD. Poland\nAnswer:"
LETTERS = [" A", " B", " C", " D"]

FORMAT = AnswerFormat("options", "options", preset="cogcalib")
OPEN = AnswerFormat("open-ended", "mean", preset="cogcalib", max_new_tokens=8)


@functools.cache
def backend() -> TransformersBackend:
    return TransformersBackend(*load_model("atlas"))


def rule(threshold: float | None) -> AbstentionRule:
    return AbstentionRule(
        0.1, 0.1, threshold, 500, 0.5, (0.45, 0.55), 0.05, "held-out.jsonl", "0" * 64
    )


def calibration(answers: AnswerFormat = FORMAT, **changes: Any) -> Calibration:
    """Of the embedded model: temperature 2, no rule, unless changed."""
    made = Calibration(
        ModelIdentity("atlas", None, None, "0" * 64),
        answers,
        FittedMap(
            "temperature",
            {"temperature": 2.0, "at_bound": False},
            500,
            "calibration.jsonl",
            "0" * 64,
        )
        if answers.kind == "options"
        else None,
    )
    return replace(made, **changes)


class Held(Answering):
    """Answers when it is let go, and notes its batches."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.let_go, self.batches = threading.Event(), list[list[Asked]]()

    def answer(self, asked: Sequence[Asked]) -> list[Served]:
        self.batches.append(list(asked))
        assert self.let_go.wait(60)
        return super().answer(asked)


@dataclass(frozen=True)
class Running:
    """A server: its address, and a plain client of it."""

    port: int
    http: httpx2.Client

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def chat(self, **fields: Any) -> httpx2.Response:
        body = {"model": "atlas", "messages": [{"role": "user", "content": QUESTION}]}
        return self.http.post("/v1/chat/completions", json={**body, "options": OPTIONS, **fields})

    def complete(self, **fields: Any) -> httpx2.Response:
        body = {"model": "atlas", "prompt": PROMPT, "options": LETTERS}
        return self.http.post("/v1/completions", json={**body, **fields})

    def metric(self, name: str) -> float:
        """The value of one line of the metrics."""
        text = self.http.get("/metrics").text
        (value,) = [
            line.rpartition(" ")[2] for line in text.splitlines() if line.startswith(f"{name} ")
        ]
        return float(value)

    def raw(self, *parts: bytes, pause: float = 0.0) -> bytes:
        """Send bytes as they are; what comes back until the server closes or says all."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as client:
            try:
                for part in parts:
                    client.sendall(part)
                    time.sleep(pause)
                return read_reply(client)
            except (BrokenPipeError, ConnectionResetError):
                return b""


def read_reply(client: socket.socket) -> bytes:
    """One response, or what there is of it."""
    got = b""
    while chunk := client.recv(65536):
        got += chunk
        head, ended, body = got.partition(b"\r\n\r\n")
        lengths = [
            int(line.partition(b":")[2])
            for line in head.lower().split(b"\r\n")
            if line.startswith(b"content-length")
        ]
        if ended and lengths and len(body) >= lengths[0]:
            break
    return got


def post(body: bytes, path: str = "/v1/completions", length: int | None = None) -> bytes:
    """A request in bytes."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body) if length is None else length}\r\n\r\n"
    ).encode() + body


def completion_body(**fields: Any) -> bytes:
    body: Mapping[str, Any] = {"model": "atlas", "prompt": PROMPT, "options": LETTERS, **fields}
    return json.dumps(body).encode()


@contextmanager
def running(answering: Answering | None = None, **limits: Any) -> Iterator[Running]:
    """A server in a thread, until the end of the block."""
    settings = ServeSettings(port=0, **{"read_timeout": 30.0, **limits})
    answering = answering or Answering(backend(), calibration())
    server = make_server(answering, "atlas", settings)
    with take_port("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        taken.listen()
        thread = threading.Thread(target=server.run, kwargs={"sockets": [taken]})
        thread.start()
        try:
            wait_for(lambda: server.started)
            with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
                yield Running(port, http)
        finally:
            server.should_exit = True
            thread.join()


def wait_for(condition: Any, seconds: float = 60.0) -> None:
    """Wait until something holds, at most so long."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.01)
