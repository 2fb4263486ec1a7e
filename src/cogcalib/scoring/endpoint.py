"""Scoring through an OpenAI-compatible endpoint that returns log-probabilities.

The same questions, tokens and definitions as for a local model (`cogcalib.scoring.score`); only the
log-probabilities come from a server: vLLM, SGLang, llama.cpp. docs/scoring.md says what each gives.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

from transformers import PreTrainedTokenizerBase

from cogcalib.inference.endpoint_client import Client, Endpoint, EndpointError, RefusedError
from cogcalib.inference.endpoint_journal import Journal
from cogcalib.inference.endpoint_reader import EndpointReader
from cogcalib.records import Example, Prediction
from cogcalib.scoring.continuations import encode_options, predict_from_likelihoods
from cogcalib.scoring.definitions import LETTER
from cogcalib.scoring.few_shot import encode_open
from cogcalib.scoring.multiple_choice import choose
from cogcalib.scoring.open_ended import judge
from cogcalib.scoring.option_letters import Choice, encode_choices
from cogcalib.scoring.score import check_examples
from cogcalib.scoring.settings import DEFAULTS, ScoreSettings

T = TypeVar("T")

__all__ = ["Endpoint", "EndpointError", "RefusedError", "score_endpoint", "served_length"]

FORMAT = 2
"""Of the journal; one of another number is not continued."""


def score_endpoint(
    endpoint: Endpoint,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    settings: ScoreSettings = DEFAULTS,
    *,
    journal: Path | None = None,
) -> list[Prediction]:
    """Score a model behind an endpoint on examples, all multiple choice or all open-ended.

    Letters: one request a question; ``vocab`` and ``options`` are always there, ``surface`` if the
    server listed every surface form of every question. Labels, texts and the NLL of an open-ended
    answer are read off an echoed prompt, or token by token where the server has no echo.

    Args:
        endpoint: Where and how.
        tokenizer: The served model's tokenizer; prompts are sent as its token ids.
        examples: Examples with distinct ids.
        settings: Names and way to answer. Temperatures, batches and shared prefixes are the
            server's or nobody's.
        journal: File in which every answer is kept at once; if it exists already, what stands in it
            is not asked again. Removing it is the caller's, once the predictions are safe.

    Returns:
        One prediction per example, in the order given.

    Raises:
        ValueError: As `score`; if `settings` names a temperature or a batch size, the journal
            belongs to another scoring, or the server refuses a request (`RefusedError`).
        EndpointError: If the server stops answering, or its answers cannot be read exactly.
    """
    check_examples(examples, settings.answer)
    _check(settings)
    if not examples:
        return []
    if examples[0].options is None:
        score = _open_ended
    else:
        score = _letters if settings.answer == LETTER else _continuations
    with ExitStack() as stack:
        kept = None
        if journal is not None:
            kept = stack.enter_context(Journal(journal, _identity(endpoint, examples, settings)))
        client = Client(endpoint)
        stack.callback(client.close)
        reader = EndpointReader(client, tokenizer, kept)
        return score(reader, client, tokenizer, examples, settings)


def served_length(endpoint: Endpoint) -> int | None:
    """How many tokens the endpoint's model takes, as its list of models says; None if it does not.

    Raises:
        ValueError: If the endpoint has a list of models and this is not on it.
        EndpointError: If it does not answer.
    """
    client = Client(endpoint)
    try:
        listed = client.get("/models")["data"]
        models = {str(row["id"]): row.get("max_model_len") for row in listed}
    except (RefusedError, KeyError, TypeError, AttributeError):
        return None
    finally:
        client.close()
    if endpoint.model not in models:
        raise ValueError(
            f"model must be one that the endpoint serves ({', '.join(models)}), "
            f"got {endpoint.model!r}"
        )
    length = models[endpoint.model]
    return int(length) if length is not None else None


def _letters(
    reader: EndpointReader,
    client: Client,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    settings: ScoreSettings,
) -> list[Prediction]:
    choices = encode_choices(examples, tokenizer, None, settings.shots)

    def work(choice: Choice) -> tuple[float, dict[int, float]]:
        usual = [ids[0] for ids in choice.forms]
        others = [token for ids in choice.forms for token in ids[1:]]
        return reader.first_token(choice.prompt_ids, usual, others)

    share, logprobs, confidence = [], [], []
    for choice, (best, found) in zip(choices, _each(choices, work, client, settings), strict=True):
        options = [found[ids[0]] for ids in choice.forms]
        share.append(_log_softmax(options))
        logprobs.append(options)
        read = {"vocab": best, "options": max(share[-1])}
        if all(token in found for ids in choice.forms for token in ids):
            spelled = [_log_sum([found[token] for token in ids]) for ids in choice.forms]
            read["surface"] = max(_log_softmax(spelled))
        confidence.append({name: min(1.0, math.exp(value)) for name, value in read.items()})
    # All rows have the same definitions, so that their means are of the same questions.
    everywhere = set(confidence[0]).intersection(*confidence)
    kept = [{name: row[name] for name in row if name in everywhere} for row in confidence]
    return choose(examples, settings, share, logprobs, kept)


def _continuations(
    reader: EndpointReader,
    client: Client,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    settings: ScoreSettings,
) -> list[Prediction]:
    rows = encode_options(examples, tokenizer, None, settings)

    def work(row: list[tuple[list[int], list[int]]]) -> list[float]:
        return [math.fsum(reader.logprobs(prompt, tokens)) for prompt, tokens in row]

    logprobs = _each(rows, work, client, settings)
    return predict_from_likelihoods(examples, rows, logprobs, settings)


def _open_ended(
    reader: EndpointReader,
    client: Client,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    settings: ScoreSettings,
) -> list[Prediction]:
    encodings, ends = encode_open(examples, tokenizer, None, settings.shots)
    most = settings.max_new_tokens

    def work(index: int) -> Prediction:
        row = encodings[index]
        generation = reader.generate(row.prompt_ids, most, ends)
        gold = reader.logprobs(row.prompt_ids, row.answer_ids)
        nll = max(0.0, -math.fsum(gold) / len(gold))
        return judge(examples[index], generation, nll, tokenizer, settings, ends)

    return _each(range(len(examples)), work, client, settings)


def _each(
    items: Sequence[Any], work: Callable[[Any], T], client: Client, settings: ScoreSettings
) -> list[T]:
    """`work` on every item, as many at once as the endpoint may be asked; results in order."""
    failed: list[BaseException] = []

    def attempt(item: Any) -> T:
        try:
            return work(item)
        except BaseException as error:
            # What is under way still comes back and is kept; nothing else is begun.
            failed.append(error)
            client.stop()
            raise

    with ThreadPoolExecutor(client.endpoint.concurrency, "cogcalib-endpoint") as pool:
        futures = [pool.submit(attempt, item) for item in items]
        try:
            for done, future in enumerate(as_completed(futures), start=1):
                future.result()
                if settings.progress is not None:
                    settings.progress(done)
        except BaseException as error:
            client.stop()
            pool.shutdown(wait=False, cancel_futures=True)
            # The first to fail says why; the others were stopped.
            raise (failed[0] if failed else error) from None
    return [future.result() for future in futures]


def _check(settings: ScoreSettings) -> None:
    if any(value != 1 for value in settings.temperature.values()):
        raise ValueError(
            "temperature needs logits, which an endpoint does not give; calibrate the predictions "
            f"instead, got {dict(settings.temperature)}"
        )
    if settings.batch_size is not None:
        raise ValueError("batch_size is the server's own; concurrency bounds the requests at once")


def _identity(
    endpoint: Endpoint, examples: Sequence[Example], settings: ScoreSettings
) -> Mapping[str, Any]:
    """What tells one scoring from another; requests are told apart by their own content."""
    return {
        "journal": FORMAT,
        "model": endpoint.model,
        "task": sorted({example.task for example in examples}),
        "split": sorted({example.split for example in examples}),
        "prompt": sorted({example.preset for example in examples}),
        "answer": settings.answer,
        "max_new_tokens": settings.max_new_tokens,
        # Part of every request, so that another would have them all asked again, unseen.
        "top_logprobs": endpoint.top_logprobs,
        "shots": [] if settings.shots is None else [shot.id for shot in settings.shots.shots],
        "examples": Journal.key([[example.id, example.content_hash()] for example in examples]),
    }


def _log_sum(values: Sequence[float]) -> float:
    largest = max(values)
    return largest + math.log(math.fsum(math.exp(value - largest) for value in values))


def _log_softmax(values: Sequence[float]) -> list[float]:
    total = _log_sum(values)
    return [value - total for value in values]
