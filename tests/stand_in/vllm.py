"""A stand-in for vLLM: as much of its Python interface as a probe uses, on a transformers model.

It follows vLLM 0.19 and later as documented: log-probabilities before temperature and top-k, the
sampled token's own among them whatever its rank, none for a prompt's first token, end tokens kept
among the output's. What vLLM refuses is refused; unknown arguments are a TypeError.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType
from typing import ClassVar, TypedDict

import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

__path__: list[str] = []  # it has submodules, below


class TokensPrompt(TypedDict):
    prompt_token_ids: list[int]


@dataclass(frozen=True)
class LoRARequest:
    lora_name: str
    lora_int_id: int
    lora_path: str


@dataclass
class Logprob:
    logprob: float
    rank: int | None = None
    decoded_token: str | None = None


@dataclass
class CompletionOutput:
    index: int
    text: str
    token_ids: Sequence[int]
    cumulative_logprob: float | None
    logprobs: list[dict[int, Logprob]] | None
    finish_reason: str | None = None
    stop_reason: int | str | None = None


@dataclass
class RequestOutput:
    request_id: str
    prompt_token_ids: list[int]
    prompt_logprobs: list[dict[int, Logprob] | None] | None
    outputs: list[CompletionOutput]
    finished: bool = True


@dataclass
class SamplingParams:
    n: int = 1
    temperature: float = 1.0
    top_k: int = 0
    seed: int | None = None
    stop_token_ids: list[int] = field(default_factory=list)
    ignore_eos: bool = False
    max_tokens: int = 16
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    detokenize: bool = True

    def __post_init__(self) -> None:
        if 0 < self.temperature < 0.01:
            self.temperature = 0.01
        if not 0 <= self.temperature <= 2:
            raise ValueError(f"temperature must be in [0, 2], got {self.temperature}.")
        if self.temperature == 0 and self.n > 1:
            raise ValueError(f"n must be 1 when using greedy sampling, got {self.n}.")
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {self.max_tokens}.")


class LLM:
    made: ClassVar[list[LLM]] = []

    def __init__(
        self,
        model: str,
        *,
        dtype: str = "auto",
        trust_remote_code: bool = False,
        load_format: str = "auto",
        generation_config: str = "auto",
        logprobs_mode: str = "raw_logprobs",
        max_logprobs: int = 20,
        max_model_len: int | None = None,
        enable_prefix_caching: bool | None = None,
        enable_lora: bool = False,
        max_lora_rank: int = 16,
        max_num_seqs: int | None = None,
    ) -> None:
        assert not trust_remote_code
        assert logprobs_mode == "raw_logprobs"
        assert (load_format, generation_config) == ("safetensors", "vllm")
        self.model = AutoModelForCausalLM.from_pretrained(
            model, dtype=getattr(torch, dtype), local_files_only=True
        ).eval()
        self.eos = AutoTokenizer.from_pretrained(model, local_files_only=True).eos_token_id
        self.vocabulary = self.model.config.vocab_size
        self.max_logprobs = self.vocabulary if max_logprobs == -1 else max_logprobs
        positions = self.model.config.max_position_embeddings
        self.max_model_len = positions if max_model_len in (None, -1) else max_model_len
        self.lora_rank = max_lora_rank if enable_lora else 0
        self.max_num_seqs = max_num_seqs
        self.lora: LoRARequest | None = None
        self.requests: list[SamplingParams] = []
        self.log_p = cache(self._log_p)
        LLM.made.append(self)

    def generate(
        self,
        prompts: Sequence[TokensPrompt],
        sampling_params: Sequence[SamplingParams],
        *,
        use_tqdm: bool = True,
        lora_request: LoRARequest | None = None,
    ) -> list[RequestOutput]:
        assert not use_tqdm
        if len(prompts) != len(sampling_params):
            raise ValueError("The lengths of prompts and sampling_params must be the same.")
        self._adapt(lora_request)
        self.requests += sampling_params
        pairs = zip(prompts, sampling_params, strict=True)
        return [self._one(str(i), *pair) for i, pair in enumerate(pairs)]

    def _one(self, id: str, given: TokensPrompt, params: SamplingParams) -> RequestOutput:
        prompt = given["prompt_token_ids"]
        if len(prompt) >= self.max_model_len:
            raise ValueError(f"The decoder prompt (length {len(prompt)}) is too long.")
        for count in (params.logprobs, params.prompt_logprobs):
            if count is not None and count > self.max_logprobs:
                raise ValueError(f"Requested logprobs of {count}, the most is {self.max_logprobs}")
        outputs = [self._answer(index, prompt, params) for index in range(params.n)]
        shown = None
        if params.prompt_logprobs is not None:
            log_p = self._all(tuple(prompt))
            later = enumerate(prompt[1:])
            shown = [None, *(self._shown(log_p[i], t, params.prompt_logprobs) for i, t in later)]
        return RequestOutput(id, prompt, shown, outputs)

    def _answer(self, index: int, prompt: list[int], params: SamplingParams) -> CompletionOutput:
        generator = torch.Generator().manual_seed((params.seed or 0) + index)
        ends = {*params.stop_token_ids, *([] if params.ignore_eos else [self.eos])}
        text, tokens, shown, reason = list(prompt), [], [], "length"
        while len(tokens) < params.max_tokens and len(text) < self.max_model_len:
            log_p = self.log_p(tuple(text))
            tokens.append(_sampled(log_p, params, generator))
            text.append(tokens[-1])
            if params.logprobs is not None:
                shown.append(self._shown(log_p, tokens[-1], params.logprobs))
            if tokens[-1] in ends:
                reason = "stop"
                break
        given = shown if params.logprobs is not None else None
        return CompletionOutput(index, "", tokens, None, given, reason)

    def _shown(self, log_p: Tensor, token: int, count: int) -> dict[int, Logprob]:
        top = log_p.topk(self.vocabulary if count == -1 else count)
        own = (token, log_p[token].item(), int((log_p > log_p[token]).sum()) + 1)
        rows = zip(
            top.indices.tolist(), top.values.tolist(), range(1, 1 + len(log_p)), strict=False
        )
        return {id: Logprob(value, rank) for id, value, rank in (own, *rows)}

    def _log_p(self, text: tuple[int, ...]) -> Tensor:
        return self._all(text)[-1]

    @torch.inference_mode()
    def _all(self, text: tuple[int, ...]) -> Tensor:
        logits: Tensor = self.model(input_ids=torch.tensor([text])).logits[0]
        return logits.float().log_softmax(-1)

    def _adapt(self, wanted: LoRARequest | None) -> None:
        if wanted == self.lora:
            return
        assert wanted is not None
        adapted = PeftModel.from_pretrained(self.model, wanted.lora_path).eval()
        if adapted.peft_config["default"].r > self.lora_rank:
            raise ValueError(f"LoRA rank is greater than max_lora_rank {self.lora_rank}.")
        self.model, self.lora = adapted, wanted


def _sampled(log_p: Tensor, params: SamplingParams, generator: torch.Generator) -> int:
    if params.temperature == 0:
        return int(log_p.argmax())
    logits = log_p / params.temperature
    if params.top_k > 0:
        least = logits.topk(min(params.top_k, len(logits))).values[-1]
        logits = logits.masked_fill(logits < least, -torch.inf)
    return int(torch.multinomial(logits.softmax(-1), 1, generator=generator))


def _submodule(name: str, **named: object) -> None:
    module = ModuleType(f"vllm.{name}")
    module.__dict__.update(named, __path__=[])
    sys.modules[module.__name__] = module


_submodule("inputs", TokensPrompt=TokensPrompt)
_submodule("lora")
_submodule("lora.request", LoRARequest=LoRARequest)
