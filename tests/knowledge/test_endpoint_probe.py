"""Probing a model behind an endpoint: the rows of transformers, or a refusal before any work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from completion_server import CompletionServer, serve
from scipy.stats import binomtest

from cogcalib import cli
from cogcalib.inference.experimental.endpoint_backend import EndpointBackend
from cogcalib.inference.experimental.endpoint_client import Endpoint
from cogcalib.knowledge import SlickSettings, assess, draw_prompts, load_probe
from cogcalib.knowledge.assess import assess_with
from cogcalib.knowledge.exact import answer_exactly
from cogcalib.knowledge.sampled import answer_by_sampling
from cogcalib.modeling import load_model
from cogcalib.modeling.shots import Prompt
from cogcalib.records import Example
from cogcalib.tasks import load_task

Start = Callable[..., AbstractContextManager[tuple[CompletionServer, EndpointBackend]]]
WORDS = ["probe", "--tokenizer", "atlas", "--model", "served", "--prompts", "2", "--shots", "1"]
OPEN, CHOICE = ["--task", "atlas/country-open"], ["--task", "atlas/country"]
SAMPLES = 120


@pytest.fixture(scope="module")
def start() -> Start:
    """A server of the embedded model, and how to ask it."""
    model, tokenizer = load_model("atlas")

    @contextmanager
    def started(
        dialect: str = "vllm", **options: object
    ) -> Iterator[tuple[CompletionServer, EndpointBackend]]:
        chosen = {"name": "served", "most": len(tokenizer), **options}
        with serve(CompletionServer(model, tokenizer, dialect, **chosen)) as server:
            endpoint = Endpoint(url=server.url, model="served", backoff=0.01)
            yield server, EndpointBackend(endpoint, tokenizer)

    return started


def on_atlas(task: str, count: int, shots: int = 1) -> tuple[list[Example], tuple[Prompt, ...]]:
    splits = load_task(task).splits
    prompts = draw_prompts(splits["train"], {}, [task], prompts=2, shots=shots)[task]
    return splits["test"][:count], prompts


@pytest.mark.parametrize("dialect", ["vllm", "llamacpp"])
@pytest.mark.parametrize(("task", "shots"), [("atlas/country-open", 1), ("atlas/country", 0)])
def test_the_rows_of_transformers(start: Start, dialect: str, task: str, shots: int) -> None:
    questions, prompts = on_atlas(task, 5, shots)
    expected = assess(*load_model("atlas"), questions, prompts)
    with start(dialect) as (_, backend):
        found = assess_with(backend, questions, prompts)
    for own, other in zip(found, expected, strict=True):
        assert (own.example, own.greedy, own.category) == (
            other.example, other.greedy, other.category,
        )  # fmt: skip
        assert own.sampled == pytest.approx(other.sampled, abs=1e-5)
        assert own.signals.entropy is None
        for name in ("nll", "margin", "p_gold", "tokens"):
            value = getattr(other.signals, name)
            assert getattr(own.signals, name) == pytest.approx(value, rel=1e-4, abs=1e-4)


@pytest.mark.slow
def test_sampled_frequencies_are_the_exact_probabilities(start: Start) -> None:
    questions, prompts = on_atlas("atlas/country-open", 4)
    chosen = SlickSettings(mode="sampled", samples=SAMPLES, max_new_tokens=12)
    with start() as (server, backend):
        found = answer_by_sampling(backend, questions, prompts[:1], chosen)
        again = answer_by_sampling(backend, questions[2:], prompts[:1], chosen)
        expected = answer_exactly(backend, questions, prompts[:1], chosen)
        assert {body["temperature"] for body in server.requests} == {0, chosen.temperature}
    assert found[2:] == again, "draws belong to question and prompt"
    for (own,), (other,) in zip(found, expected, strict=True):
        assert own.greedy == other.greedy
        interval = binomtest(round(own.strict * SAMPLES), SAMPLES).proportion_ci(0.999, "exact")
        assert interval.low <= other.sampled <= interval.high


def test_the_command_goes_on_where_it_was(
    start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, name in ((OPEN, "open"), (CHOICE, "choice")):
        limit = ["--limit", "3", "--output", str(tmp_path / name)]
        with start() as (server, _):
            remote = ["--endpoint", server.url, "--concurrency", "2"]
            assert cli.main([*WORDS, *words, *limit, *remote]) == 0
            assert len(load_probe(tmp_path / name)) == 3
            assert cli.main([*WORDS, *words, *limit, *remote]) == 0
        assert "3 questions were there from before" in capsys.readouterr().out
    config = (tmp_path / "open" / "config.yaml").read_text()
    assert "endpoint: http" in config
    assert "worker" not in config


@pytest.mark.parametrize(
    ("server", "words", "message"),
    [
        ({"most": 20}, OPEN, "Requested sample logprobs of 56, which is greater than max"),
        ({"dialect": "sglang"}, OPEN, "names tokens by texts that several share"),
        ({}, [*OPEN, "--top-k", "0"], "top_k must be at least 1 in exact mode at an endpoint"),
        ({"seeded": False}, [*OPEN, "--mode", "sampled"], "does not draw by the seed"),
        ({"cuts": False}, [*OPEN, "--mode", "sampled"], "does not keep to the top_k"),
        ({}, [*OPEN, "--mode", "sampled", "--temperature", "3"], "temperature must be above 0"),
        ({}, [*OPEN, "--engine", "ray"], "engine must be local with an endpoint"),
        ({}, [*OPEN, "--worker", "vllm"], "worker cannot be used with an endpoint"),
        ({}, [*OPEN, "--batch-size", "3"], "batch_size cannot be used with an endpoint"),
        ({"positions": 20}, OPEN, "the model has 20 positions; use fewer shots"),
    ],
)
def test_what_it_cannot_do_is_refused(
    start: Start,
    server: dict[str, object],
    words: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "p"
    with start(**server) as (running, _):
        words = [*WORDS, *words, "--limit", "4", "--endpoint", running.url]
        assert cli.main([*words, "--output", str(folder)]) == 2
        assert len(running.requests) <= 7, "a trial is made, no question is asked"
    assert message in " ".join(capsys.readouterr().err.split())
    assert not folder.exists()


def test_a_server_that_stops_answering_is_exit_code_1(
    start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reply = (200, {}, {"choices": [{"text": " A", "logprobs": None}]})
    with start(before=lambda number: reply if number > 6 else None) as (server, _):
        words = [*WORDS, *CHOICE, "--limit", "4", "--endpoint", server.url]
        with pytest.raises(SystemExit) as exit:
            cli.main([*words, "--output", str(tmp_path / "p")])
    assert exit.value.code == 1
    assert "no readable log-probabilities" in capsys.readouterr().err
