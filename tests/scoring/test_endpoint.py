"""A model behind an endpoint scores as it does here, in every server's dialect."""

from __future__ import annotations

import copy
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import pytest
import torch
from completion_server import CompletionServer, Refusal, score_endpoint, serve

from cogcalib.inference.experimental.endpoint_backend import served_length
from cogcalib.inference.experimental.endpoint_client import (
    Endpoint,
    EndpointError,
    RefusedError,
)
from cogcalib.inference.experimental.endpoint_replies import Spelling
from cogcalib.modeling import encode
from cogcalib.records import Option
from cogcalib.scoring import ScoreSettings, score

DIALECTS = ("vllm", "sglang", "llamacpp")
named = partial(ScoreSettings, model_name="tiny", run="r", max_new_tokens=6)
every = pytest.mark.parametrize("dialect", DIALECTS)


@pytest.fixture
def start(llama, tokenizer):
    """A server of the tiny Llama, and how to ask it."""

    @contextmanager
    def started(dialect="vllm", **options):
        with serve(CompletionServer(llama, tokenizer, dialect, **options)) as server:
            yield server, partial(Endpoint, url=server.url, model="tiny", backoff=0.01)

    return started


def assert_equal(found, expected, *, without=()):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        wanted = {name: v for name, v in other.confidence.items() if name not in without}
        assert one.confidence == pytest.approx(wanted, abs=1e-3)
        assert one.nll == pytest.approx(other.nll, abs=1e-3)
        if other.option_logprobs is not None:
            assert one.option_logprobs == pytest.approx(other.option_logprobs, abs=1e-3)
        plain = {"confidence": {}, "nll": 0.0, "option_logprobs": None}
        assert replace(one, **plain) == replace(other, **plain)


@every
def test_letters_equal_local_scoring(start, llama, tokenizer, choices, dialect):
    expected = score(llama, tokenizer, choices, named())
    with start(dialect, most=len(tokenizer)) as (server, endpoint):
        asked = endpoint(top_logprobs=len(tokenizer))
        found = score_endpoint(asked, tokenizer, choices, named())
        assert_equal(found, expected)
        assert len(server.requests) == len(choices)
    assert {tuple(row.confidence) for row in found} == {("options", "vocab", "surface")}


@every
def test_letters_that_are_not_listed_are_read_exactly(start, llama, tokenizer, choices, dialect):
    expected = score(llama, tokenizer, choices, named())
    with start(dialect) as (server, endpoint):
        found = score_endpoint(endpoint(top_logprobs=2), tokenizer, choices, named())
        assert_equal(found, expected, without=("surface",))
        assert len(server.requests) > len(choices)


@every
@pytest.mark.parametrize(
    "settings",
    [{"answer": "label"}, {"answer": "text"}, {"answer": "text", "length_normalized": True}],
)
def test_options_of_several_tokens_equal_local_scoring(
    start, llama, tokenizer, choices, dialect, settings
):
    labelled = [
        replace(
            example,
            options=tuple(Option(f"{o.letter}{o.letter} x", o.text) for o in example.options),
            answer=f"{example.answer}{example.answer} x",
        )
        for example in choices[:4]
    ]
    expected = score(llama, tokenizer, labelled, named(**settings))
    with start(dialect) as (server, endpoint):
        found = score_endpoint(endpoint(), tokenizer, labelled, named(**settings))
        options = sum(len(example.options) for example in labelled)
        if dialect != "llamacpp":
            assert len(server.requests) == options
            assert all(body["max_tokens"] == 1 and body["echo"] for body in server.requests)
    assert_equal(found, expected)


@every
def test_open_ended_equals_local_scoring(start, llama, tokenizer, questions, dialect):
    expected = score(llama, tokenizer, questions, named())
    with start(dialect) as (_, endpoint):
        found = score_endpoint(endpoint(), tokenizer, questions, named())
    assert_equal(found, expected)
    assert {tuple(row.confidence) for row in found} == {("mean", "joint")}


@every
def test_answers_that_end_by_themselves(start, llama, tokenizer, questions, dialect):
    """An end token that some answers reach: the server stops there, as local scoring does."""
    with start(dialect) as (server, endpoint):
        prompt = torch.tensor([encode(questions[0], tokenizer).prompt_ids])
        with torch.no_grad():
            first = int(llama(prompt).logits[0, -1].argmax())
            follows = torch.cat([prompt, torch.tensor([[first]])], dim=1)
            second = int(llama(follows).logits[0, -1].argmax())
        ending = copy.deepcopy(tokenizer)
        ending.eos_token = tokenizer.convert_ids_to_tokens(second)
        server.tokenizer = ending
        expected = score(llama, ending, questions, named())
        assert expected != score(llama, tokenizer, questions, named())
        assert_equal(score_endpoint(endpoint(), ending, questions, named()), expected)


def test_a_server_that_stops_elsewhere_is_asked_to_go_on(start, llama, tokenizer, questions):
    expected = score(llama, tokenizer, questions, named())
    with start() as (server, endpoint):
        complete = server._complete
        # A generation config with another end token, after which vLLM stops.
        server._complete = lambda body: complete({**body, "max_tokens": min(2, body["max_tokens"])})
        assert_equal(score_endpoint(endpoint(), tokenizer, questions, named()), expected)


def test_a_list_that_the_server_cuts_is_named(start, tokenizer, choices):
    with start("vllm", most=5) as (_, endpoint), pytest.raises(RefusedError) as error:
        score_endpoint(endpoint(top_logprobs=20), tokenizer, choices, named())
    assert "greater than max allowed: 5" in str(error.value)
    assert "vLLM: --max-logprobs" in str(error.value)
    assert "lower --top-logprobs" in str(error.value)
    assert "Raise" not in str(error.value)
    with start("llamacpp") as (server, endpoint):
        complete = server._complete
        server._complete = lambda body: complete({**body, "logprobs": min(3, body["logprobs"])})
        with pytest.raises(RefusedError, match="lists 3 tokens, and one that is needed"):
            score_endpoint(endpoint(), tokenizer, choices, named())


def test_a_server_that_changes_the_prompt_is_found_out(start, tokenizer, choices):
    with start() as (server, endpoint):
        complete = server._complete
        server._complete = lambda body: complete({**body, "prompt": [1, *body["prompt"]]})
        with pytest.raises(EndpointError, match=r"tokens were sent and the server counts"):
            score_endpoint(endpoint(), tokenizer, choices, named())


def test_tokens_that_are_withheld_are_listed_beside_another(start, tokenizer, choices, questions):
    """llama.cpp gives no log-probability of a token that ends within a character."""
    kept = {Spelling(tokenizer).plain, tokenizer.eos_token_id}
    for examples in (choices, questions):
        with start("llamacpp") as (_, endpoint):
            told = score_endpoint(endpoint(), tokenizer, examples, named())
        with start("llamacpp") as (server, endpoint):
            server.withheld = lambda token: token % 2 == 0 and token not in kept
            assert_equal(score_endpoint(endpoint(), tokenizer, examples, named()), told)
            assert any("logit_bias" in body for body in server.requests)


def test_a_server_that_withholds_all_tokens_is_refused(start, tokenizer, questions):
    with start("llamacpp") as (server, endpoint):
        server.withheld = lambda token: True
        with pytest.raises(EndpointError, match="and gives log-probabilities of 0"):
            score_endpoint(endpoint(), tokenizer, questions, named())


def test_a_server_without_logprobs_is_refused(start, tokenizer, choices):
    with (
        start(before=lambda _: (200, {}, {"choices": [{"text": " A", "logprobs": None}]})) as (
            _,
            endpoint,
        ),
        pytest.raises(EndpointError, match="no readable log-probabilities"),
    ):
        score_endpoint(endpoint(), tokenizer, choices, named())


def test_models_that_are_not_served_are_refused(start, tokenizer, choices):
    with start() as (server, endpoint):
        assert served_length(endpoint()) is None
        with pytest.raises(ValueError, match=r"the endpoint serves \(tiny\), got 'other'"):
            served_length(endpoint(model="other"))
        asked = endpoint(model="other", concurrency=2)
        with pytest.raises(RefusedError, match="HTTP 404: The model `other` does not exist"):
            score_endpoint(asked, tokenizer, choices, named())
        assert len(server.requests) <= 2, "what is refused is not asked again and again"


def test_what_an_endpoint_cannot_do_is_refused_before_any_request(start, tokenizer, choices):
    with start() as (server, endpoint):
        hot = named(temperature={"options": 2.0})
        with pytest.raises(ValueError, match="needs logits, which an endpoint does not give"):
            score_endpoint(endpoint(), tokenizer, choices, hot)
        with pytest.raises(ValueError, match="distinct ids"):
            score_endpoint(endpoint(), tokenizer, [*choices, choices[0]], named())
        assert score_endpoint(endpoint(), tokenizer, [], named()) == []
        assert server.requests == []


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"url": "localhost:8000"}, "must begin with http"),
        ({"url": "ftp://localhost/v1"}, "must begin with http"),
        ({"url": "http://me:secret@localhost/v1"}, "must carry no user, password or query"),
        ({"url": "http://localhost/v1?key=secret"}, "must carry no user, password or query"),
        ({"model": ""}, "model must name"),
        ({"concurrency": 0}, "concurrency must be at least 1, got 0"),
        ({"top_logprobs": 0}, "top_logprobs must be at least 1, got 0"),
        ({"timeout": 0.0}, "timeout must be a positive number"),
        ({"retries": -1}, "retries must be 0 or more"),
    ],
)
def test_wrong_endpoints_are_refused(wrong, what):
    with pytest.raises(ValueError, match=what) as error:
        Endpoint(**{"url": "http://localhost:8000", "model": "m", **wrong})
    assert "secret" not in str(error.value)


def test_addresses_get_their_path():
    for url in ("http://h:1", "http://h:1/v1", "http://h:1/v1/", "http://h:1/v1/completions"):
        assert Endpoint(url=url, model="m").base == "http://h:1/v1"
    assert Endpoint(url="https://h/openai/v1", model="m").base == "https://h/openai/v1"


FEWER = [
    (400, "Requested sample logprobs of 20, which is greater than max allowed: 5"),
    (400, "This model only supports logprobs less than or equal to 5"),
    (400, "Invalid value for 'logprobs': must be at most 5"),
    (422, "logprobs: ensure this value is between 0 and 5"),
    (400, "logprobs exceeds the maximum of 5"),
    (400, "too many logprobs"),
]


@pytest.mark.parametrize(("status", "said"), FEWER)
def test_whoever_asks_for_too_many_log_probabilities_is_told_to_ask_for_fewer(
    start, tokenizer, choices, status, said
):
    def refuse(_):
        return status, {}, {"error": {"message": said}}

    with start(before=refuse) as (_, endpoint), pytest.raises(RefusedError) as error:
        score_endpoint(endpoint(), tokenizer, choices, named())
    assert said in str(error.value)
    assert "20 were asked for: lower --top-logprobs" in str(error.value)
    assert "Raise" not in str(error.value)


def test_a_list_that_had_to_grow_is_not_to_be_lowered(start, tokenizer, choices):
    """Without an echo a letter that is not listed needs a longer list than the user named."""
    with start("vllm", most=5) as (server, endpoint):
        complete = server._complete

        def without_echo(body):
            if body.get("echo"):
                return complete({**body, "echo": False})
            return complete(body)

        server._complete = without_echo
        with pytest.raises(RefusedError) as error:
            score_endpoint(endpoint(top_logprobs=2), tokenizer, choices, named())
    assert "more than --top-logprobs 2, because a token that is needed" in str(error.value)
    assert "lower" not in str(error.value)


@pytest.mark.parametrize("said", ["logprobs are not supported", "unknown field 'logprobs'"])
def test_a_server_that_refuses_log_probabilities_is_named(start, tokenizer, choices, said):
    with (
        start(before=lambda _: (400, {}, {"detail": said})) as (_, endpoint),
        pytest.raises(RefusedError, match="use a server and a model that give them"),
    ):
        score_endpoint(endpoint(), tokenizer, choices, named())


def no_usage(server, *, bos=False, form=dict):
    """A server that counts nothing, and may put a token in front of a prompt."""
    complete = server._complete

    def changed(body):
        reply = complete({**body, "prompt": [*([1] if bos else []), *body["prompt"]]})
        del reply["usage"]
        return reply | form()

    server._complete = changed


@pytest.mark.parametrize("form", [dict, lambda: {"usage": None}, lambda: {"usage": {}}])
@pytest.mark.parametrize("dialect", ["vllm", "sglang"])
def test_a_bos_that_a_server_adds_uncounted_is_found_by_one_echo(
    start, tokenizer, choices, dialect, form
):
    """It was off by up to 0.38 nats, and nothing said so."""
    with start(dialect, most=len(tokenizer)) as (server, endpoint):
        no_usage(server, bos=True, form=form)
        with pytest.raises(EndpointError, match="does not take the prompt as it is"):
            score_endpoint(endpoint(top_logprobs=len(tokenizer)), tokenizer, choices, named())


@pytest.mark.parametrize("dialect", ["vllm", "sglang"])
def test_a_server_that_counts_nothing_and_changes_nothing_costs_one_request_more(
    start, llama, tokenizer, choices, dialect, caplog
):
    with start(dialect, most=len(tokenizer)) as (server, endpoint):
        no_usage(server)
        asked = endpoint(top_logprobs=len(tokenizer))
        found = score_endpoint(asked, tokenizer, choices, named())
        assert len(server.requests) == len(choices) + 1
    assert_equal(found, score(llama, tokenizer, choices, named()))
    assert not caplog.records


def test_what_cannot_be_known_is_said(start, tokenizer, choices, caplog):
    with start("llamacpp") as (server, endpoint):
        no_usage(server, bos=True)
        score_endpoint(endpoint(top_logprobs=len(tokenizer)), tokenizer, choices, named())
    (said,) = caplog.records
    assert "cannot be known" in said.getMessage()


def test_a_server_that_fails_at_an_echo_is_read_without(start, llama, tokenizer, choices):
    """vllm-metal 680: an echo is answered with HTTP 500, everything else is served."""
    with start("vllm", most=len(tokenizer)) as (server, endpoint):
        complete = server._complete

        def failing(body):
            if body.get("echo"):
                raise Refusal(500, "2326")
            return complete(body)

        server._complete = failing
        found = score_endpoint(endpoint(top_logprobs=2, retries=1), tokenizer, choices, named())
    assert_equal(found, score(llama, tokenizer, choices, named()), without=("surface",))
