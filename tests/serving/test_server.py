"""The server over HTTP: its answers against `Predictor.predict` and the model's own logits."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import pytest
import torch
from served import (
    FORMAT,
    LETTERS,
    OPEN,
    OPTIONS,
    PROMPT,
    QUESTION,
    Held,
    Running,
    backend,
    calibration,
    rule,
    running,
    wait_for,
)

from cogcalib.deployment.answer import Answer
from cogcalib.deployment.calibration_file import AnswerFormat, SplitMetrics
from cogcalib.deployment.identity import identify
from cogcalib.deployment.predictor import Predictor
from cogcalib.serving.asked import Answering, Served, ShownToken
from cogcalib.serving.replies import chat_reply, completion_reply, to_json

FILE_RULE = rule(0.4)


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    histogram = (0.05,) * 20
    made = calibration(
        rules=(FILE_RULE,),
        confidence_histogram=histogram,
        metrics=(SplitMetrics("calibration", 500, "0" * 64, {}),),
    )
    with running(Answering(backend(), made)) as one:
        yield one


@pytest.fixture(scope="module")
def open_server() -> Iterator[Running]:
    with running(Answering(backend(), calibration(OPEN))) as one:
        yield one


@pytest.fixture
def client(server: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=server.url, api_key="none", max_retries=0)


def expected(inputs: object, answers: AnswerFormat = FORMAT) -> Answer:
    made = calibration(answers, rules=(FILE_RULE,) if answers.kind == "options" else ())
    identity = identify("atlas", backend().tokenizer)
    (answer,) = Predictor(backend(), made, identity, Path()).predict([inputs])
    return answer


def next_logprobs(prompt: str) -> torch.Tensor:
    model, tokenizer = backend().model, backend().tokenizer
    ids = tokenizer(prompt, add_special_tokens=True)["input_ids"]
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, -1]
    return logits.double().log_softmax(-1)


def test_the_official_client_gets_a_calibrated_answer(client: openai.OpenAI) -> None:
    answer = expected({"question": QUESTION, "options": OPTIONS})
    got = client.chat.completions.create(
        model="atlas",
        messages=[{"role": "user", "content": QUESTION}],
        extra_body={"options": OPTIONS},
    )
    (choice,) = got.choices
    assert choice.message.content == answer.answer
    assert choice.message.role == "assistant"
    assert choice.finish_reason == "stop"
    assert choice.logprobs is None
    field = choice.model_extra["cogcalib"]
    assert field["confidence"] == pytest.approx(answer.confidence, abs=1e-6)
    assert field["raw_confidence"] == pytest.approx(answer.raw_confidence, abs=1e-6)
    assert field["abstain"] is answer.abstain
    assert [each["answer"] for each in field["alternatives"]] == [
        each.answer for each in answer.alternatives
    ]
    assert sum(each["probability"] for each in field["alternatives"]) == pytest.approx(1)
    assert got.usage.total_tokens == got.usage.prompt_tokens + 1
    assert got.object == "chat.completion"
    assert [model.id for model in client.models.list()] == ["atlas"]
    assert client.models.retrieve("atlas").owned_by == "cogcalib"


def test_log_probabilities_are_those_of_the_model(client: openai.OpenAI) -> None:
    got = client.completions.create(
        model="atlas", prompt=PROMPT, logprobs=5, extra_body={"options": LETTERS}
    )
    (choice,) = got.choices
    logprobs = next_logprobs(PROMPT)
    letters = [backend().tokenizer.encode(each, add_special_tokens=False)[-1] for each in LETTERS]
    best = max(range(4), key=lambda index: float(logprobs[letters[index]]))
    assert choice.text == LETTERS[best]
    assert choice.logprobs.tokens == [LETTERS[best]]
    assert choice.logprobs.text_offset == [0]
    assert choice.logprobs.token_logprobs == pytest.approx(
        [float(logprobs[letters[best]])], abs=1e-4
    )
    (top,) = choice.logprobs.top_logprobs
    assert sorted(top.values(), reverse=True) == pytest.approx(
        logprobs.topk(5).values.tolist(), abs=1e-4
    )
    share = torch.tensor([float(logprobs[each]) for each in letters]).softmax(-1)
    calibrated = torch.tensor([float(logprobs[each]) / 2 for each in letters]).softmax(-1)
    field = choice.model_extra["cogcalib"]
    assert field["raw_confidence"] == pytest.approx(float(share.max()), abs=1e-5)
    assert field["confidence"] == pytest.approx(float(calibrated.max()), abs=1e-5)


def test_chat_lists_log_probabilities_too(client: openai.OpenAI) -> None:
    got = client.chat.completions.create(
        model="atlas",
        messages=[{"role": "user", "content": QUESTION}],
        logprobs=True,
        top_logprobs=3,
        extra_body={"options": OPTIONS},
    )
    (token,) = got.choices[0].logprobs.content
    assert bytes(token.bytes).decode() == token.token
    assert len(token.top_logprobs) == 3
    assert token.top_logprobs[0].logprob >= token.logprob - 1e-5


def test_tokens_that_are_parts_of_characters() -> None:
    """They have one text, so that the older format, which lists by text, keeps the likeliest."""
    part = "\ufffd"
    answer = Answer("x", 0.5, 0.5, abstain=False)
    top = ((part, -0.5), ("a", -1.0), (part, -2.0))
    served = [Served(answer, 3, 1, True, (ShownToken(part, -0.5, top),))]
    (choice,) = chat_reply("m", served, None)["choices"]
    (token,) = choice["logprobs"]["content"]
    assert token["bytes"] is None
    assert [each["token"] for each in token["top_logprobs"]] == [part, "a", part]
    assert token["top_logprobs"][1]["bytes"] == [97]
    (choice,) = completion_reply("m", served, None)["choices"]
    assert choice["logprobs"]["top_logprobs"] == [{part: -0.5, "a": -1.0}]


def test_a_probability_of_zero_has_a_number() -> None:
    answer = Answer("x", 0.5, 0.5, abstain=False)
    shown = (ShownToken("x", -math.inf, (("y", -math.inf),)),)
    served = [Served(answer, 3, 1, True, shown)]
    for reply in (chat_reply("m", served, None), completion_reply("m", served, None)):
        assert "-9999.0" in to_json(reply).decode()


def test_options_of_several_tokens(server: Running) -> None:
    names = [" France", " Burkina Faso", " Costa Rica"]
    prompt = f"Question: {QUESTION}\nAnswer:"
    (choice,) = server.complete(prompt=prompt, options=names, logprobs=2).json()["choices"]
    shown = choice["logprobs"]
    assert "".join(shown["tokens"]) == choice["text"]
    assert all(len(top) == 2 for top in shown["top_logprobs"])
    assert choice["cogcalib"]["alternatives"][0]["answer"] == choice["text"]
    assert expected({"prompt": prompt, "options": names}).answer == choice["text"]


def test_several_prompts_are_several_choices(server: Running) -> None:
    other = PROMPT.replace("Lyon", "Lima")
    both = server.complete(prompt=[PROMPT, other]).json()["choices"]
    assert [each["index"] for each in both] == [0, 1]
    for choice, prompt in zip(both, (PROMPT, other), strict=True):
        answer = expected({"prompt": prompt, "options": LETTERS})
        assert choice["text"] == answer.answer
        assert choice["cogcalib"]["confidence"] == pytest.approx(answer.confidence, abs=1e-5)


def test_generated_answers_and_their_tokens(open_server: Running) -> None:
    prompt = "Question: In which country is Lyon?\nAnswer:"
    answer = expected(prompt, OPEN)
    fields = {"model": "atlas", "prompt": prompt, "logprobs": 4}
    reply = open_server.http.post("/v1/completions", json=fields).json()
    (choice,) = reply["choices"]
    assert choice["text"] == answer.answer
    assert choice["finish_reason"] == "stop"
    assert choice["cogcalib"]["confidence"] == pytest.approx(answer.confidence, abs=1e-5)
    shown = choice["logprobs"]
    assert shown["tokens"] == [each.token for each in answer.tokens]
    assert shown["token_logprobs"] == pytest.approx(
        [each.logprob for each in answer.tokens], abs=1e-5
    )
    # Greedy: each token is the most probable of those listed in its place.
    for token, top in zip(shown["tokens"], shown["top_logprobs"], strict=True):
        assert max(top, key=lambda text: top[text]) == token
        assert len(top) == 4
    mean = math.exp(sum(shown["token_logprobs"]) / len(shown["tokens"]))
    assert choice["cogcalib"]["raw_confidence"] == pytest.approx(mean, abs=1e-5)
    assert reply["usage"]["completion_tokens"] == len(shown["tokens"])


def test_a_shorter_answer_ends_by_its_length(open_server: Running) -> None:
    prompt = "Question: In which country is Lyon?\nAnswer:"
    whole = expected(prompt, OPEN)
    fields = {"model": "atlas", "prompt": prompt, "max_tokens": 1}
    reply = open_server.http.post("/v1/completions", json=fields).json()
    (choice,) = reply["choices"]
    assert len(whole.tokens) > 1
    assert choice["finish_reason"] == "length"
    assert choice["text"] == whole.tokens[0].token.strip()
    assert reply["usage"]["completion_tokens"] == 1
    told = open_server.http.post("/v1/completions", json={**fields, "max_tokens": 9})
    assert told.status_code == 400
    assert told.json()["error"]["message"] == (
        "max_tokens must be at most 8, the longest answer that the model was calibrated on, got 9"
    )


@pytest.mark.parametrize(
    ("change", "status", "told"),
    [
        ({"model": "gpt-4"}, 404, "the model 'gpt-4' is not served here"),
        ({"options": None}, 400, "needs options"),
        ({"options": [" A", " A"]}, 400, "two or more different texts"),
        ({"prompt": " "}, 400, "the prompt is empty"),
        ({"prompt": "Lyon " * 5000}, 400, "positions"),
        ({"stream": True}, 400, "stream must be false"),
    ],
)
def test_what_cannot_be_answered_is_an_error_of_openai(
    server: Running, change: dict[str, object], status: int, told: str
) -> None:
    got = server.complete(**change)
    error = got.json()["error"]
    assert got.status_code == status
    assert told in error["message"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert "Traceback" not in got.text


def test_a_conversation_needs_a_chat_template(server: Running) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}]
    got = server.chat(messages=messages)
    assert got.status_code == 400
    assert "chat template" in got.json()["error"]["message"]


def test_unknown_paths_and_methods(server: Running) -> None:
    for method, path, status in (
        ("GET", "/v1/embeddings", 404),
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/healthz", 405),
        ("GET", "/docs", 404),
        ("GET", "/v1/models/other", 404),
        ("GET", "/v1/completions/../../etc/passwd", 404),
    ):
        got = server.http.request(method, path)
        assert got.status_code == status, path
        assert got.json()["error"]["type"] == "invalid_request_error"


def test_abstaining_is_said_and_the_answer_withheld_where_wished() -> None:
    made = calibration(rules=(rule(None),))
    with running(Answering(backend(), made)) as server:
        (choice,) = server.chat(logprobs=True).json()["choices"]
        assert choice["cogcalib"]["abstain"] is True
        assert choice["message"]["content"] in OPTIONS
        assert server.metric("cogcalib_abstention_rate") == 1
    with running(Answering(backend(), made), refuse_text="I do not know.") as server:
        (choice,) = server.chat(logprobs=True).json()["choices"]
        assert choice["message"] == {
            "role": "assistant", "content": "I do not know.", "refusal": "I do not know.",
        }  # fmt: skip
        assert choice["logprobs"] is None
        assert choice["cogcalib"]["alternatives"][0]["answer"] in OPTIONS
        assert server.complete().json()["choices"][0]["text"] == "I do not know."


def test_metrics_count_what_happened() -> None:
    histogram = (0.0,) * 19 + (1.0,)
    split = SplitMetrics("calibration", 500, "0" * 64, {})
    made = calibration(confidence_histogram=histogram, metrics=(split,))
    with running(Answering(backend(), made)) as server:
        confidences = [
            server.chat().json()["choices"][0]["cogcalib"]["confidence"] for _ in range(3)
        ]
        server.chat(n=2)
        server.http.get("/v1/nowhere")
        assert server.metric("cogcalib_mean_confidence") == pytest.approx(sum(confidences) / 3)
        assert server.metric("cogcalib_confidence_drift") == float(confidences[0] <= 0.95)
        assert server.metric("cogcalib_confidence_drift_floor") == 0
        chat = 'cogcalib_requests_total{endpoint="/v1/chat/completions",status='
        assert server.metric(chat + '"200"}') == 3
        assert server.metric(chat + '"400"}') == 1
        assert server.metric('cogcalib_requests_total{endpoint="other",status="404"}') == 1
        assert server.metric("cogcalib_batch_questions_sum") == 3
        assert server.metric("cogcalib_queue") == 0
        seconds = 'cogcalib_request_seconds_count{endpoint="/v1/chat/completions"}'
        assert server.metric(seconds) == 4


def test_questions_at_once_are_answered_together_and_alike() -> None:
    held = Held(backend(), calibration())
    cities = ["Lyon", "Pune", "Lima", "Gdansk", "San Jose", "Ur"]
    prompts = [PROMPT.replace("Lyon", city) for city in cities]
    with running(held, gather=0.0) as server, ThreadPoolExecutor(8) as pool:
        first = pool.submit(server.complete)
        wait_for(lambda: held.batches)
        rest = [pool.submit(server.complete, prompt=prompt) for prompt in prompts]
        wait_for(lambda: server.metric("cogcalib_queue") == 7)
        held.let_go.set()
        got = [each.result().json()["choices"][0] for each in (first, *rest)]
        assert [len(batch) for batch in held.batches] == [1, 6]
    for choice, prompt in zip(got, (PROMPT, *prompts), strict=True):
        answer = expected({"prompt": prompt, "options": LETTERS})
        assert choice["text"] == answer.answer
        assert choice["cogcalib"]["confidence"] == pytest.approx(answer.confidence, abs=1e-5)


def test_a_key_is_needed_everywhere_but_for_health(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COGCALIB_TEST_KEY", "schlüssel-1")
    with running(api_key_env="COGCALIB_TEST_KEY") as server:
        assert server.http.get("/healthz").json() == {"status": "ok"}
        for path in ("/v1/models", "/metrics", "/nowhere"):
            assert server.http.get(path).status_code == 401
        wrong_ones = ("Bearer wrong", "Bearer", "Basic abc", "schlüssel-1", "Bearer x" * 99)
        for header in wrong_ones:
            sent = {"Authorization": header.encode()}
            got = server.http.get("/v1/models", headers=sent)
            assert got.status_code == 401
            assert got.json()["error"]["code"] == "invalid_api_key"
        right = {"Authorization": "Bearer schlüssel-1".encode()}
        assert server.http.get("/v1/models", headers=right).status_code == 200
        wrong = openai.OpenAI(base_url=server.url, api_key="wrong", max_retries=0)
        with pytest.raises(openai.AuthenticationError, match="wrong or missing API key"):
            wrong.models.list()


def test_a_failing_model_tells_nothing_of_itself(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Answering):
        def answer(self, asked: object) -> list[object]:  # type: ignore[override]
            raise RuntimeError("secret /home/me/weights")

    with running(Broken(backend(), calibration())) as server:
        got = server.complete()
        assert got.status_code == 500
        assert got.json()["error"]["message"] == "the server failed; its log says how"
        assert server.http.get("/healthz").status_code == 200
    assert "secret" in caplog.text
    json.dumps(got.json())
