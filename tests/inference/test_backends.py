"""Every backend gives the numbers of transformers' one, as far as its engine shows them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from completion_server import CompletionServer, serve
from tiny_models import build_model, build_questions, build_tokenizer

from cogcalib.inference.backend import Backend, Sampling, WholeLogits, whole_logits
from cogcalib.inference.experimental.endpoint_backend import EndpointBackend
from cogcalib.inference.experimental.endpoint_client import Endpoint
from cogcalib.inference.experimental.vllm_backend import VllmBackend
from cogcalib.inference.transformers_backend import TransformersBackend
from cogcalib.modeling import encode

STAND_IN = Path(__file__).parents[1] / "stand_in"
ENGINES = ("vllm", "endpoint-vllm", "endpoint-sglang", "endpoint-llamacpp")
NEAR = 2e-3


@pytest.fixture(scope="module")
def reference() -> TransformersBackend:
    return TransformersBackend(build_model("llama"), build_tokenizer())


@pytest.fixture(params=ENGINES)
def other(request, tmp_path, monkeypatch) -> Iterator[Backend]:
    """The same tiny model in another engine."""
    engine, _, dialect = request.param.partition("-")
    if engine == "endpoint":
        size = len(build_tokenizer())
        server = CompletionServer(build_model("llama"), build_tokenizer(), dialect, most=size)
        with serve(server):
            endpoint = Endpoint(url=server.url, model="tiny", backoff=0.01)
            yield EndpointBackend(endpoint, build_tokenizer())
        return
    monkeypatch.syspath_prepend(str(STAND_IN))
    build_model("llama").save_pretrained(tmp_path)
    build_tokenizer().save_pretrained(tmp_path)
    yield VllmBackend(str(tmp_path), None, "float32")
    for name in [name for name in sys.modules if name.split(".")[0] == "vllm"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def asked() -> tuple[list[list[int]], list[list[int]]]:
    """Prompts and the answers that follow them."""
    rows = [encode(question, build_tokenizer()) for question in build_questions()]
    return [row.prompt_ids for row in rows], [row.answer_ids for row in rows]


def test_first_tokens(other, reference, asked):
    prompts, answers = asked
    wanted = [answer[:2] for answer in answers]
    told: list[int] = []
    found = other.first_tokens(prompts, wanted, [[5, 6]] * len(prompts), progress=told.append)
    expected = reference.first_tokens(prompts, wanted, [[5, 6]] * len(prompts))
    assert told[-1] == len(prompts)
    for one, two, tokens in zip(found, expected, wanted, strict=True):
        assert one.best == pytest.approx(two.best, abs=NEAR)
        for token in (*tokens, *one.scores):
            mine = one.log_probability(token)
            assert mine == pytest.approx(two.log_probability(token), abs=NEAR)
        assert one.log_shares(tokens) == pytest.approx(two.log_shares(tokens), abs=NEAR)


def test_tokens_of_answers(other, reference, asked):
    found, expected = other.token_scores(*asked), reference.token_scores(*asked)
    alone = other.log_probabilities(*asked)
    for one, two, log_p in zip(found, expected, alone, strict=True):
        for name in ("log_p", "best_other"):
            values = [getattr(row, name).double() for row in (one, two)]
            torch.testing.assert_close(*values, rtol=0, atol=NEAR)
        torch.testing.assert_close(log_p, one.log_p, rtol=0, atol=1e-4)
        assert one.greedy.tolist() == two.greedy.tolist()
        assert one.entropy is None
        assert two.entropy is not None


def test_greedy_answers(other, reference, asked):
    prompts, _ = asked
    ends = [build_tokenizer().eos_token_id, reference.generate(prompts[:1], [], 3)[0].tokens[-1]]
    found, expected = (each.generate(prompts, ends, 6) for each in (other, reference))
    assert [row.tokens for row in found] == [row.tokens for row in expected]
    assert len({len(row.tokens) for row in found}) > 1
    for one, two in zip(found, expected, strict=True):
        assert one.logprobs == pytest.approx(two.logprobs, abs=NEAR)


@pytest.mark.parametrize("top_k", [1, 5, 400])
def test_odds_of_answers(other, reference, asked, top_k, request):
    prompts, answers = asked
    short = [answer[:2] for answer in answers]
    sampling = Sampling(0.8, top_k)
    ends = [build_tokenizer().eos_token_id, 9]
    if "sglang" in request.node.name:  # it names tokens by their texts
        with pytest.raises(ValueError, match="names tokens by texts that several share"):
            other.answer_odds(prompts, short, ends, sampling)
        return
    found = other.answer_odds(prompts, short, ends, sampling)
    for one, two in zip(found, reference.answer_odds(prompts, short, ends, sampling), strict=True):
        assert one.greedy == two.greedy
        assert one.probability == pytest.approx(two.probability, abs=1e-4, rel=1e-2)


def test_only_transformers_shows_whole_logits(other, reference, asked):
    assert isinstance(reference, WholeLogits)
    assert whole_logits(reference, "x") is reference
    with pytest.raises(ValueError, match=f"temperature 2 needs logits, which {other.name} does"):
        whole_logits(other, "temperature 2")
    asks: list[Callable[[], object]] = [
        lambda: other.log_probabilities(*asked, temperature=2.0),
        lambda: other.generate(asked[0], [2], 3, temperature=2.0),
    ]
    for ask in asks:
        with pytest.raises(ValueError, match=r"a temperature of 2\.0 needs logits"):
            ask()
