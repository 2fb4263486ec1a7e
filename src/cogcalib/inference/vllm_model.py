"""A model in vLLM: what follows a text, how likely its last tokens are, and what it answers.

Only vLLM's public Python interface is used. Its log-probabilities are those before temperature and
top-k, and of the most probable tokens alone; what they leave open is told, never guessed.
"""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cogcalib.inference.truncation import from_most_probable
from cogcalib.knowledge.candidates import Tokens
from cogcalib.knowledge.settings import SlickSettings
from cogcalib.modeling import resolve_model

SPARE = 16
"""Tokens asked for beyond the k-th, to see whether others tie with it."""

WHOLE = -1
"""vLLM's word for the log-probabilities of the whole vocabulary."""

RANKS = (8, 16, 32, 64, 128, 256, 512)
"""What vLLM takes for the largest rank of an adapter."""

TEMPERATURES = (0.01, 2.0)
"""Temperatures that vLLM samples at; a lower one it would raise."""

# PEFT's settings that change what an adapter computes and that vLLM does not read, or refuses.
_FOREIGN = (
    "use_dora",
    "modules_to_save",
    "rank_pattern",
    "alpha_pattern",
    "target_parameters",
    "trainable_token_indices",
    "layer_replication",
    "lora_bias",
)


@dataclass(frozen=True, slots=True)
class Next:
    """What may follow a text.

    Attributes:
        greedy: The token that greedy decoding gives.
        q: Token -> its probability at the temperature among the top k; what is missing is cut.
    """

    greedy: int
    q: dict[int, float]


def check_vllm() -> None:
    """Raise if vLLM is not installed.

    Raises:
        ValueError: Naming what to install.
    """
    if importlib.util.find_spec("vllm") is None:
        raise ValueError('worker vllm needs vLLM: pip install "cogcalib[vllm]"')


def adapter_rank(adapter: str) -> int:
    """The largest rank vLLM is to make room for, for an adapter it computes as PEFT does.

    Raises:
        ValueError: If vLLM would compute something else.
    """
    from peft import PeftConfig

    config = PeftConfig.from_pretrained(adapter)
    kind = getattr(config.peft_type, "value", config.peft_type)
    wrong = [name for name in _FOREIGN if getattr(config, name, None)]
    if kind != "LORA" or wrong or config.bias != "none":
        what = wrong[0] if wrong else "a bias" if kind == "LORA" else f"the type {kind}"
        raise ValueError(
            f"adapter {adapter} has {what}, which vLLM does not compute as PEFT does; take worker "
            "transformers, or merge it into the model"
        )
    if config.r > RANKS[-1]:
        raise ValueError(f"adapter {adapter} has rank {config.r}, vLLM takes {RANKS[-1]} at most")
    return min(rank for rank in RANKS if rank >= config.r)


class VllmModel:
    """A model that vLLM loaded. Whoever asks much at once is answered fastest.

    Args:
        model, adapter, dtype: As in `cogcalib.modeling.load_model`.
        vocabulary: The model's logits at a position.
        batch_size: Most sequences in one forward pass; None leaves it to vLLM.

    Raises:
        ValueError: If vLLM is not installed or cannot load the model, or as `adapter_rank`.
    """

    def __init__(
        self, model: str, adapter: str | None, dtype: str, vocabulary: int, batch_size: int | None
    ) -> None:
        check_vllm()
        lora = {"enable_lora": True, "max_lora_rank": adapter_rank(adapter)} if adapter else {}
        rows = {"max_num_seqs": batch_size} if batch_size is not None else {}
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")  # its log would run through ours
        from vllm import LLM

        self.vocabulary = vocabulary
        self._lora = _lora_request(adapter) if adapter is not None else None
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
                **lora,
                **rows,
            )
        # The engine runs in a process of its own; what stops it comes back as a RuntimeError.
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"vLLM cannot load model {model!r}: {error}") from error

    def following(
        self, texts: Sequence[Sequence[int]], temperature: float, top_k: int
    ) -> list[Next]:
        """What may follow each text, at a temperature, among the k most probable tokens.

        One token is generated after each. vLLM could read all positions of a text at once
        (`prompt_logprobs`), but then it would not take what the texts share from its cache, and
        give the log-probabilities of every token of the shots as well.

        Args:
            texts: Token ids.
            temperature: T.
            top_k: k, at least 1.
        """
        found: dict[int, Next] = {}
        some = top_k + SPARE if top_k + SPARE < self.vocabulary else WHOLE
        for count in dict.fromkeys((some, WHOLE)):
            left = [index for index in range(len(texts)) if index not in found]
            asked = self._params(temperature=0.0, max_tokens=1, ignore_eos=True, logprobs=count)
            outputs = self._generate([texts[index] for index in left], [asked] * len(left))
            for index, output in zip(left, outputs, strict=True):
                (answer,) = output.outputs
                log_p = _numbers(answer.logprobs[0])
                q = from_most_probable(log_p, temperature, top_k, whole=count == WHOLE)
                if q is not None:
                    found[index] = Next(answer.token_ids[0], q)
        return [found[index] for index in range(len(texts))]

    def score(
        self, texts: Sequence[Sequence[int]], kept: Sequence[int]
    ) -> list[list[tuple[float, float]]]:
        """How likely the last tokens of each text are, and the best others in their places.

        Args:
            texts: Token ids.
            kept: For each, how many of its last tokens.

        Returns:
            For each text an entry a token: its log-probability and that of the likeliest other,
            nats.
        """
        # Of the two most probable tokens one is another than that of the text, whose own
        # log-probability always comes along.
        asked = self._params(temperature=0.0, max_tokens=1, ignore_eos=True, prompt_logprobs=2)
        outputs = self._generate(texts, [asked] * len(texts))
        rows = []
        for text, count, output in zip(texts, kept, outputs, strict=True):
            places = zip(text[-count:], output.prompt_logprobs[-count:], strict=True)
            rows.append([_own_and_best_other(token, _numbers(shown)) for token, shown in places])
        return rows

    def answers(
        self,
        prompts: Sequence[Tokens],
        seeds: Sequence[int],
        ends: Iterable[int],
        settings: SlickSettings,
    ) -> list[list[Tokens]]:
        """The tokens of 1 + N answers behind each prompt, the greedy one first.

        Args:
            prompts: Token ids.
            seeds: Of each prompt's samples, below 2**63 - N.
            ends: Tokens that end an answer; they come as its last.
            settings: Samples, temperature, top-k, longest answer.
        """
        common = {
            "max_tokens": settings.max_new_tokens,
            "stop_token_ids": list(ends),
            "ignore_eos": True,  # it is among the ends
        }
        drawn = {
            "n": settings.samples,
            "temperature": settings.temperature,
            "top_k": settings.top_k,
        }
        greedy = self._params(temperature=0.0, **common)
        params = [greedy] * len(prompts) + [self._params(seed=s, **drawn, **common) for s in seeds]
        outputs = self._generate([*prompts, *prompts], params)
        rows = [[list(each.token_ids) for each in output.outputs] for output in outputs]
        pairs = zip(rows[: len(prompts)], rows[len(prompts) :], strict=True)
        return [[*first, *others] for first, others in pairs]

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


def _numbers(shown: Mapping[int, Any]) -> dict[int, float]:
    """Token -> log-probability, nats, of a position as vLLM shows it."""
    log_p = {token: float(each.logprob) for token, each in shown.items()}
    if any(math.isnan(value) for value in log_p.values()):
        raise ValueError("the model returned nan logits; load it in float32 or bfloat16")
    return log_p


def _own_and_best_other(token: int, log_p: Mapping[int, float]) -> tuple[float, float]:
    return log_p[token], max(value for other, value in log_p.items() if other != token)


def _lora_request(adapter: str) -> Any:
    from vllm.lora.request import LoRARequest

    if os.path.isdir(adapter):
        return LoRARequest("adapter", 1, adapter)
    from huggingface_hub import snapshot_download

    # Only what is safe to read: vLLM would take a pickle where there are no safetensors.
    files = ["adapter_config.json", "adapter_model.safetensors"]
    return LoRARequest("adapter", 1, snapshot_download(adapter, allow_patterns=files))
