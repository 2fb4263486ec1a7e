"""In front of somebody else's server: their tokens, our calibrated confidence."""

from __future__ import annotations

import pytest
from completion_server import CompletionServer, serve
from served import LETTERS, OPEN, PROMPT, Running, backend, calibration, running

from cogcalib.deployment.calibration_file import AnswerFormat
from cogcalib.inference.experimental.endpoint_backend import EndpointBackend
from cogcalib.inference.experimental.endpoint_client import Endpoint
from cogcalib.serving.asked import Answering

GENERATED = "Question: In which country is Lyon?\nAnswer:"


def behind(theirs: CompletionServer, answers: AnswerFormat | None = None) -> Answering:
    endpoint = Endpoint(url=theirs.url, model="tiny", retries=0, timeout=30)
    made = calibration() if answers is None else calibration(answers)
    return Answering(EndpointBackend(endpoint, backend().tokenizer), made)


def choice(server: Running, **fields: object) -> dict[str, object]:
    got = server.complete(**fields)
    assert got.status_code == 200, got.text
    (found,) = got.json()["choices"]
    return found


@pytest.mark.parametrize("dialect", ["vllm", "llamacpp"])
def test_answers_are_those_of_the_model_loaded_here(dialect: str) -> None:
    their_model = CompletionServer(backend().model, backend().tokenizer, dialect)
    with serve(their_model) as theirs, running(behind(theirs)) as server, running() as own:
        got, here = (choice(each, logprobs=0) for each in (server, own))
        assert got["text"] == here["text"]
        for name in ("confidence", "raw_confidence"):
            assert got["cogcalib"][name] == pytest.approx(here["cogcalib"][name], abs=1e-4)
        assert got["logprobs"]["token_logprobs"] == pytest.approx(
            here["logprobs"]["token_logprobs"], abs=1e-4
        )
        told = server.complete(logprobs=3)
        assert told.status_code == 400
        assert "an endpoint does not list other tokens" in told.json()["error"]["message"]


def test_generated_answers_are_theirs() -> None:
    their_model = CompletionServer(backend().model, backend().tokenizer)
    own = Answering(backend(), calibration(OPEN))
    fields = {"prompt": GENERATED, "options": None, "logprobs": 0}
    with (
        serve(their_model) as theirs,
        running(behind(theirs, OPEN)) as server,
        running(own) as here,
    ):
        got, wanted = choice(server, **fields), choice(here, **fields)
        assert got["text"] == wanted["text"]
        assert got["logprobs"]["tokens"] == wanted["logprobs"]["tokens"]
        assert got["cogcalib"]["confidence"] == pytest.approx(
            wanted["cogcalib"]["confidence"], abs=1e-4
        )


def test_a_server_behind_that_fails_is_said_without_its_words() -> None:
    def refuse(number: int) -> tuple[int, dict[str, str], object]:
        return 500, {}, {"error": {"message": "secret of theirs"}}

    their_model = CompletionServer(backend().model, backend().tokenizer, before=refuse)
    with serve(their_model) as theirs, running(behind(theirs)) as server:
        got = server.complete(prompt=PROMPT, options=LETTERS)
        assert got.status_code == 502
        message = "the endpoint behind this server does not answer"
        assert got.json()["error"]["message"] == message
        assert server.http.get("/healthz").status_code == 200
