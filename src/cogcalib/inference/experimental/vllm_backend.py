"""vLLM in this process: the backend that shows the most probable tokens, not the vocabulary.

Only vLLM's public Python interface is used. Its log-probabilities are those before temperature and
top-k; what its lists leave open is asked for, never guessed.
"""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from cogcalib.inference.backend import (
    AnswerOdds,
    FirstToken,
    Generation,
    Progress,
    Sampling,
    Tokens,
    TokenScores,
    check_plain,
)
from cogcalib.inference.experimental.listed import SPARE, Following, beginnings, odds_of
from cogcalib.inference.experimental.vllm_adapter import adapter_rank, lora_request
from cogcalib.inference.generation import answer_length
from cogcalib.inference.truncation import from_most_probable
from cogcalib.modeling import resolve_model
from cogcalib.modeling.model_spec import ModelSpec, read_model_spec

LISTED = 20
"""Most probable tokens asked for after a prompt; a token wanted that is not there is read apart."""

WHOLE = -1
"""vLLM's word for the log-probabilities of the whole vocabulary."""

TEMPERATURES = (0.01, 2.0)
"""Temperatures that vLLM samples at; a lower one it would raise."""


def check_vllm() -> None:
    """Raise if vLLM is not installed.

    Raises:
        ValueError: Naming what to install.
    """
    if importlib.util.find_spec("vllm") is None:
        raise ValueError('worker vllm needs vLLM: pip install "cogcalib[vllm]"')


class VllmBackend:
    """A model that vLLM loaded. Whoever asks much at once is answered fastest.

    Args:
        model, adapter, dtype: As in `cogcalib.modeling.load_model`.
        batch_size: Most sequences in one forward pass; None leaves it to vLLM.

    Raises:
        ValueError: If vLLM is not installed or cannot load the model, or as `adapter_rank`.
    """

    name = "vLLM"

    def __init__(
        self, model: str, adapter: str | None, dtype: str, batch_size: int | None = None
    ) -> None:
        check_vllm()
        room = {"enable_lora": True, "max_lora_rank": adapter_rank(adapter)} if adapter else {}
        rows = {"max_num_seqs": batch_size} if batch_size is not None else {}
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")  # its log would run through ours
        from vllm import LLM

        self._spec = vllm_spec(model)
        self.tokenizer = self._spec.tokenizer
        self._lora = lora_request(adapter) if adapter is not None else None
        try:
            self._llm = LLM(
                model=resolve_model(model),
                dtype=dtype,
                trust_remote_code=False,
                load_format="safetensors",
                generation_config="vllm",  # the model's own would change temperature and penalties
                logprobs_mode="raw_logprobs",
                max_logprobs=WHOLE,
                max_model_len=-1,  # as long as the memory allows: the model's own may be too much
                enable_prefix_caching=True,
                **room,
                **rows,
            )
        # The engine runs in a process of its own; what stops it comes back as a RuntimeError.
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"vLLM cannot load model {model!r}: {error}") from error

    @property
    def positions(self) -> int | None:
        """One less than the model's positions."""
        return self._spec.positions

    @property
    def ends(self) -> tuple[int, ...]:
        """As the model's generation config has them."""
        return self._spec.ends

    def first_tokens(
        self,
        prompts: Sequence[Tokens],
        wanted: Sequence[Sequence[int]],
        others: Sequence[Sequence[int]] | None = None,
        *,
        progress: Progress | None = None,
    ) -> list[FirstToken]:
        """As `Backend.first_tokens`; the scores are log-probabilities, and none is missing.

        One token is generated after each prompt. A token that is not among the most probable is
        scored as the last one of a text of its own.
        """
        if others is not None:
            wanted = [[*needed, *more] for needed, more in zip(wanted, others, strict=True)]
        asked = self._params(temperature=0.0, max_tokens=1, ignore_eos=True, logprobs=self._some(0))
        outputs = self._generate(prompts, [asked] * len(prompts))
        listed = [_numbers(output.outputs[0].logprobs[0]) for output in outputs]
        left = [
            (index, token)
            for index, tokens in enumerate(wanted)
            for token in tokens
            if token not in listed[index]
        ]
        apart = self._tails([[*prompts[index], token] for index, token in left], [1] * len(left))
        best = [max(row.values()) for row in listed]
        for (index, token), ((own, _),) in zip(left, apart, strict=True):
            listed[index][token] = own
        _told(progress, len(prompts))
        return [
            FirstToken(best[index], {token: listed[index][token] for token in tokens})
            for index, tokens in enumerate(wanted)
        ]

    def log_probabilities(
        self,
        prompts: Sequence[Tokens],
        answers: Sequence[Sequence[int]],
        *,
        temperature: float = 1.0,
        progress: Progress | None = None,
    ) -> list[Tensor]:
        """As `Backend.log_probabilities`, at temperature 1."""
        check_plain(temperature, self)
        return [row.log_p for row in self.token_scores(prompts, answers, progress=progress)]

    def token_scores(
        self,
        prompts: Sequence[Tokens],
        answers: Sequence[Sequence[int]],
        *,
        progress: Progress | None = None,
    ) -> list[TokenScores]:
        """As `Backend.token_scores`, without the entropy."""
        texts = [[*prompt, *answer] for prompt, answer in zip(prompts, answers, strict=True)]
        rows = []
        for found in self._tails(texts, [len(answer) for answer in answers]):
            own, other = torch.tensor(found, dtype=torch.float64).unbind(1)
            rows.append(TokenScores(own, other, own >= other, None))
        _told(progress, len(prompts))
        return rows

    def generate(
        self,
        prompts: Sequence[Tokens],
        ends: Collection[int],
        most: int,
        *,
        temperature: float = 1.0,
        progress: Progress | None = None,
    ) -> list[Generation]:
        """As `Backend.generate`, at temperature 1."""
        check_plain(temperature, self)
        params = self._params(temperature=0.0, logprobs=1, **_until(ends, most))
        rows = []
        for output in self._generate(prompts, [params] * len(prompts)):
            tokens, shown = list(output.outputs[0].token_ids), output.outputs[0].logprobs
            logprobs = [_numbers(row)[token] for token, row in zip(tokens, shown, strict=True)]
            length = answer_length(tokens, ends)
            rows.append(Generation(tokens[:length], logprobs[:length]))
        _told(progress, len(prompts))
        return rows

    @staticmethod
    def check_answers(sampling: Sampling) -> None:
        """As `Backend.check_answers`: the most probable tokens are shown, never all of them."""
        if sampling.top_k == 0:
            raise ValueError(
                "top_k must be at least 1 in exact mode with worker vllm, which shows the most "
                "probable tokens and not the whole vocabulary; mode sampled or worker transformers "
                "can sample from all tokens"
            )

    def answer_odds(
        self,
        prompts: Sequence[Tokens],
        answers: Sequence[Sequence[int]],
        ends: Sequence[int],
        sampling: Sampling,
    ) -> list[AnswerOdds]:
        """As `Backend.answer_odds`: a token is generated after each beginning of each answer.

        vLLM could read all positions of a text at once (`prompt_logprobs`), but then it would not
        take what the texts share from its cache, and list tokens for those of the shots as well.
        """
        self.check_answers(sampling)
        texts = beginnings(prompts, answers)
        after = dict(zip(texts, self._following(texts, sampling), strict=True))
        pairs = zip(prompts, answers, strict=True)
        return [odds_of(prompt, answer, after, ends) for prompt, answer in pairs]

    @staticmethod
    def check_sampling(sampling: Sampling) -> None:
        """As `Backend.check_sampling`: within the temperatures that vLLM takes."""
        low, high = TEMPERATURES
        if not low <= sampling.temperature <= high:
            raise ValueError(
                f"temperature must be between {low} and {high} in sampled mode with worker vllm, "
                f"got {sampling.temperature}"
            )

    def sample(
        self,
        prompts: Sequence[Tokens],
        seeds: Sequence[int],
        ends: Sequence[int],
        sampling: Sampling,
    ) -> list[list[Tokens]]:
        """As `Backend.sample`."""
        self.check_sampling(sampling)
        common = _until(ends, sampling.most)
        drawn = {
            "n": sampling.samples,
            "temperature": sampling.temperature,
            "top_k": sampling.top_k,
        }
        greedy = self._params(temperature=0.0, **common)
        # vLLM adds a sample's number to the seed, in 63 bits.
        params = [self._params(seed=seed >> 66, **drawn, **common) for seed in seeds]
        outputs = self._generate([*prompts, *prompts], [greedy] * len(prompts) + params)
        rows = [[list(each.token_ids) for each in output.outputs] for output in outputs]
        pairs = zip(rows[: len(prompts)], rows[len(prompts) :], strict=True)
        return [[*first, *others] for first, others in pairs]

    def _following(self, texts: Sequence[tuple[int, ...]], sampling: Sampling) -> list[Following]:
        """The tokens that may follow each text, at a temperature, among the top k."""
        found: dict[int, Following] = {}
        for count in dict.fromkeys((self._some(sampling.top_k), WHOLE)):
            left = [index for index in range(len(texts)) if index not in found]
            asked = self._params(temperature=0.0, max_tokens=1, ignore_eos=True, logprobs=count)
            outputs = self._generate([texts[index] for index in left], [asked] * len(left))
            for index, output in zip(left, outputs, strict=True):
                (answer,) = output.outputs
                log_p = _numbers(answer.logprobs[0])
                q = from_most_probable(
                    log_p, sampling.temperature, sampling.top_k, whole=count == WHOLE
                )
                if q is not None:
                    found[index] = Following(answer.token_ids[0], q)
        return [found[index] for index in range(len(texts))]

    def _tails(
        self, texts: Sequence[Tokens], kept: Sequence[int]
    ) -> list[list[tuple[float, float]]]:
        """Log-probability of the last tokens of each text, and of the best other in each place."""
        # Of the two most probable tokens one is another than that of the text, whose own
        # log-probability always comes along.
        asked = self._params(temperature=0.0, max_tokens=1, ignore_eos=True, prompt_logprobs=2)
        outputs = self._generate(texts, [asked] * len(texts))
        rows = []
        for text, count, output in zip(texts, kept, outputs, strict=True):
            places = zip(text[-count:], output.prompt_logprobs[-count:], strict=True)
            rows.append([_own_and_best_other(token, _numbers(shown)) for token, shown in places])
        return rows

    def _some(self, top_k: int) -> int:
        """So many of the most probable tokens and some more, or the whole vocabulary."""
        count = max(LISTED, top_k + SPARE)
        return count if count < self._spec.vocabulary else WHOLE

    def _params(self, **named: Any) -> Any:
        from vllm import SamplingParams

        return SamplingParams(detokenize=False, **named)

    def _generate(self, texts: Sequence[Sequence[int]], params: list[Any]) -> list[Any]:
        from vllm.inputs import TokensPrompt

        if not texts:
            return []
        found: list[Any] = self._llm.generate(
            [TokensPrompt(prompt_token_ids=list(text)) for text in texts],
            params,
            use_tqdm=False,
            lora_request=self._lora,
        )
        return found


def vllm_spec(path_or_id: str) -> ModelSpec:
    """A model without its weights, as vLLM takes it: a text leaves room for one token after it."""
    found = read_model_spec(path_or_id)
    positions = found.positions
    return found if positions is None else replace(found, positions=positions - 1)


def _until(ends: Collection[int], most: int) -> dict[str, Any]:
    """How long an answer goes on; the end token is among the ends."""
    return {"max_tokens": most, "stop_token_ids": sorted(ends), "ignore_eos": True}


def _told(progress: Progress | None, done: int) -> None:
    if progress is not None:
        progress(done)


def _numbers(shown: Mapping[int, Any]) -> dict[int, float]:
    """Token -> log-probability, nats, of a position as vLLM shows it."""
    log_p = {token: float(each.logprob) for token, each in shown.items()}
    if any(math.isnan(value) for value in log_p.values()):
        raise ValueError("the model returned nan logits; load it in float32 or bfloat16")
    return log_p


def _own_and_best_other(token: int, log_p: Mapping[int, float]) -> tuple[float, float]:
    return log_p[token], max(value for other, value in log_p.items() if other != token)
