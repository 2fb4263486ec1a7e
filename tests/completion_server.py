"""A real HTTP server that runs a tiny model and speaks /v1/completions in three dialects.

``vllm`` names tokens ``token_id:N``, echoes, and refuses more than `most` log-probabilities;
``sglang`` names tokens by their texts and gives the ids generated beside them; ``llamacpp`` answers
with a list of objects and has no echo, which it says with HTTP 500. Each as its source code does.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from cogcalib.inference.backend_loading import kept_answers
from cogcalib.inference.experimental.endpoint_backend import EndpointBackend
from cogcalib.inference.experimental.endpoint_client import Endpoint
from cogcalib.records import Example, Prediction
from cogcalib.scoring import ScoreSettings, score_with
from cogcalib.scoring.score_run import answer_settings

Reply = tuple[int, dict[str, str], Any]
"""Status, headers, JSON."""


class Refusal(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class CompletionServer:
    """What the server does and what it saw.

    Attributes:
        dialect: ``vllm``, ``sglang`` or ``llamacpp``.
        most: Most log-probabilities that vLLM gives.
        positions: ``max_model_len`` in the list of models; None says nothing.
        before: Called with each request's number before it is answered; a reply of its own, if it
            returns one, is sent instead. It may also wait.
        seeded: Whether it draws by the seed that a request names.
        cuts: Whether it keeps to the top_k that a request names.
        withheld: Generated tokens that it says nothing of, as llama.cpp does of those that end
            within a character.
        requests: Bodies in the order of their arrival.
        headers: Of each request.
        at_once: Most requests that were under way at the same time.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    dialect: str = "vllm"
    name: str = "tiny"
    most: int = 20
    positions: int | None = None
    before: Callable[[int], Reply | None] = lambda number: None
    seeded: bool = True
    cuts: bool = True
    withheld: Callable[[int], bool] = lambda token: False
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    at_once: int = 0
    url: str = ""

    def __post_init__(self) -> None:
        self._now = self._completed = 0
        self._count, self._compute = threading.Lock(), threading.Lock()

    def answer(self, body: dict[str, Any], headers: dict[str, str]) -> Reply:
        with self._count:
            number = len(self.requests)
            self.requests.append(body)
            self.headers.append(headers)
            self._now += 1
            self.at_once = max(self.at_once, self._now)
        try:
            instead = self.before(number)
            if instead is not None:
                return instead
            with self._compute, torch.no_grad():
                return 200, {}, self._complete(body)
        except Refusal as error:
            return error.status, {}, {"error": {"message": str(error)}}
        finally:
            with self._count:
                self._now -= 1

    def _complete(self, body: dict[str, Any]) -> dict[str, Any]:
        prompt, echo = list(body["prompt"]), bool(body.get("echo"))
        if self.dialect == "llamacpp" and echo:
            raise Refusal(500, "Only no echo is supported")
        if self.dialect == "vllm" and body["model"] != self.name:
            raise Refusal(404, f"The model `{body['model']}` does not exist.")
        if self.dialect == "vllm" and body["logprobs"] > self.most:
            raise Refusal(
                400,
                f"Requested sample logprobs of {body['logprobs']}, which is greater than max "
                f"allowed: {self.most}",
            )
        tokens, end = list(prompt), self.tokenizer.eos_token_id
        ends = {end, *(body.get("stop_token_ids", []) if self.dialect != "llamacpp" else [])}
        self._completed += 1  # not the requests: several may arrive before one is computed
        generator = torch.Generator().manual_seed(
            body["seed"] if self.seeded and "seed" in body else self._completed
        )
        while len(tokens) < len(prompt) + body["max_tokens"]:
            logits = self.model(torch.tensor([tokens])).logits[0, -1]
            tokens.append(self._next(logits, body, generator))
            if tokens[-1] in ends:
                break
        table = self.model(torch.tensor([tokens])).logits[0].double().log_softmax(-1)
        start = 0 if echo else len(prompt)
        shown = [
            self._position(tokens[at], table[at - 1] if at else None, body["logprobs"])
            for at in range(start, len(tokens))
            if at < len(prompt) or not self.withheld(tokens[at])
        ]
        generated = tokens[len(prompt) :]
        return {
            "object": "text_completion",
            "model": self.name,
            "choices": [
                {
                    "index": 0,
                    "text": self.tokenizer.decode(generated, skip_special_tokens=True),
                    "finish_reason": "stop" if tokens[-1] in ends else "length",
                    "logprobs": self._logprobs(shown) if shown else None,
                    **({"token_ids": generated} if self.dialect == "sglang" else {}),
                }
            ],
            "usage": {"prompt_tokens": len(prompt), "completion_tokens": len(generated)},
        }

    def _next(self, logits: torch.Tensor, body: dict[str, Any], generator: torch.Generator) -> int:
        for token, bias in body.get("logit_bias", {}).items():
            logits = logits.index_add(0, torch.tensor([int(token)]), logits.new_tensor([bias]))
        if body["temperature"] == 0:
            return int(logits.argmax())
        if self.cuts and 0 < body["top_k"] < len(logits):
            least = logits.topk(body["top_k"]).values[-1]
            logits = logits.masked_fill(logits < least, -torch.inf)
        p = (logits / body["temperature"]).softmax(-1)
        return int(torch.multinomial(p, 1, generator=generator))

    def _position(
        self, token: int, logprobs: torch.Tensor | None, listed: int
    ) -> tuple[int, float | None, dict[int, float] | None]:
        if logprobs is None:
            return token, None, None
        best = logprobs.topk(min(listed, len(logprobs)))
        top = dict(zip(best.indices.tolist(), best.values.tolist(), strict=True))
        if self.dialect == "vllm":  # the token itself always stands beside the list
            top = {**top, token: float(logprobs[token])}
        return token, float(logprobs[token]), top

    def _logprobs(self, shown: list[Any]) -> dict[str, Any]:
        if self.dialect == "llamacpp":
            return {
                "content": [
                    {
                        "id": token,
                        "token": self._text(token),
                        "logprob": value,
                        "top_logprobs": [{"id": i, "logprob": p} for i, p in top.items()],
                    }
                    for token, value, top in shown
                ]
            }
        name = self._text if self.dialect == "sglang" else "token_id:{}".format
        return {
            "tokens": [name(token) for token, _, _ in shown],
            "token_logprobs": [value for _, value, _ in shown],
            "top_logprobs": [
                None if top is None else {name(i): p for i, p in top.items()} for _, _, top in shown
            ],
            "text_offset": [-1 for _ in shown],
        }

    def _text(self, token: int) -> str:
        return str(self.tokenizer.decode([token]))


def score_endpoint(
    endpoint: Endpoint,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    settings: ScoreSettings,
    *,
    output: Path | None = None,
) -> list[Prediction]:
    """Score a model behind an endpoint, as `score_task` does."""
    backend = EndpointBackend(endpoint, tokenizer)
    with kept_answers(backend, output, examples, answer_settings(settings)):
        return score_with(backend, examples, settings)


@contextmanager
def serve(server: CompletionServer) -> Iterator[CompletionServer]:
    """The server on a free port of this machine, in a thread, until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            known = {"id": server.name, "max_model_len": server.positions}
            self._send((200, {}, {"object": "list", "data": [known]}))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._send(server.answer(body, dict(self.headers)))

        def _send(self, reply: Reply) -> None:
            status, headers, content = reply
            data = json.dumps(content).encode()
            try:
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(data))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # the client has been killed, or has timed out

        def log_message(self, *args: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    server.url = f"http://127.0.0.1:{http.server_port}/v1"
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until something holds, at most so long."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.02)
