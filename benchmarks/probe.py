"""A probe by teacher forcing against one by sampling: seconds per question.

At the setting of Gekhman et al. 2024, 10 four-shot prompts and 16 samples at T = 0.5, top-40. The
model is random, so that every sample runs to the longest answer allowed, 8 or 16 tokens. Against

- `generate`: transformers' own, the 16 samples as `num_return_sequences`;
- `cached`: the prompt read once, its keys and values repeated for the 16 samples;
- `sampled`: our sampled mode, which shares the shots as well and reads equal beginnings once;
- `unshared`: exact mode that reads the shots again for every question;
- `body`: one pass of the model's body over question and answer alone, which no way of reading a
  question behind ten prompts can do without.

The sampling sides have fewer questions in a turn; all times are divided by their number. The floor
is what the arithmetic alone takes: operations by the rate that this machine multiplies matrices of
the body's size at, bytes by the rate it copies at.

    python benchmarks/probe.py --json probe.json                # one CPU thread: half an hour
    python benchmarks/probe.py --case generated-8 --repeats 3
    python benchmarks/probe.py --quick                          # does it run? measures nothing
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1")
os.environ.update(TRANSFORMERS_VERBOSITY="error")

import argparse
import cProfile
import functools
import pstats
import statistics
import time
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import torch
from _measure import Comparison, Work, add_options, peak_memory, report, take_turns
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from cogcalib.inference.batching import by_length
from cogcalib.inference.logits import inference, pad_right
from cogcalib.inference.transformers_backend import TransformersBackend
from cogcalib.knowledge import SlickSettings, draw_prompts
from cogcalib.knowledge.candidates import Tokens, answer_ends, ask, by_shots
from cogcalib.knowledge.exact import Answered, answer_exactly
from cogcalib.knowledge.sampled import answer_by_sampling
from cogcalib.modeling import load_tokenizer
from cogcalib.tasks import load_task

TASK = "atlas/country-open"
TOLERANCE = 1e-5


@dataclass(frozen=True, slots=True)
class Case:
    """What is probed.

    Attributes:
        generated: Longest answer sampled, tokens.
        against_generate, against_cached: What the ratios may be at most; None promises nothing.
        width, layers, inner, vocabulary: Of the Llama.
        prompts, samples: Of the setting.
        questions: In a turn of the exact sides.
        sampled: In a turn of the sampling sides.
    """

    name: str
    generated: int
    against_generate: float | None
    against_cached: float | None
    width: int = 256
    layers: int = 8
    inner: int = 688
    vocabulary: int = 16_000
    prompts: int = 10
    samples: int = 16
    questions: int = 32
    sampled: int = 2


CASES = {
    case.name: case
    for case in (
        Case("generated-16", 16, 1 / 45, 1 / 28),
        Case("generated-8", 8, None, None),
    )
}


def build_model(case: Case, device: str) -> LlamaForCausalLM:
    """A random Llama."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=case.vocabulary,
        hidden_size=case.width,
        num_hidden_layers=case.layers,
        intermediate_size=case.inner,
        num_attention_heads=case.width // 64,
        num_key_value_heads=case.width // 64,
        max_position_embeddings=1024,
    )
    return LlamaForCausalLM(config).eval().to(device)


class Sides:
    """The contestants of one case, over one model."""

    def __init__(self, case: Case, device: str) -> None:
        self.case, self.model = case, build_model(case, device)
        self.tokenizer: PreTrainedTokenizerBase = load_tokenizer("atlas")
        splits = load_task(TASK).splits
        self.prompts = draw_prompts(splits["train"], {}, [TASK], prompts=case.prompts)[TASK]
        self.examples = splits["test"][: case.questions]
        # Sampling must not end early.
        self.settings = SlickSettings(max_new_tokens=case.generated, samples=case.samples)
        ends = answer_ends(self.examples, self.tokenizer, ())
        self.asked = ask(self.examples, self.tokenizer, ends)
        self.rows: list[Tokens] = [
            row
            for prompt in self.prompts
            for _, rows in by_shots(self.asked[: case.sampled], prompt, self.tokenizer)
            for row in rows
        ]
        self.alone = [[*each.alone, *each.answers[0]] for each in self.asked]
        self.backend = TransformersBackend(self.model, self.tokenizer)

    def exact(self) -> list[list[Answered]]:
        """Exact mode as it is."""
        return answer_exactly(self.backend, self.examples, self.prompts, self.settings)

    def unshared(self) -> list[list[Answered]]:
        """Exact mode without sharing the shots between questions."""
        with patch("cogcalib.inference.logits.shared_length", return_value=0):
            return self.exact()

    def sampled(self) -> None:
        """Our sampled mode."""
        settings = replace(self.settings, mode="sampled")
        examples = self.examples[: self.case.sampled]
        answer_by_sampling(self.backend, examples, self.prompts, settings)

    def generate(self) -> None:
        """Transformers' `generate`, tokens ready, nothing judged."""
        for row in self.rows:
            ids = torch.tensor([row], device=self.model.device)
            self.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=True,
                temperature=self.settings.temperature,
                top_k=self.settings.top_k,
                top_p=1.0,
                num_return_sequences=self.case.samples,
                min_new_tokens=self.case.generated,
                max_new_tokens=self.case.generated,
                pad_token_id=0,
            )

    def cached(self) -> None:
        """The prompt read once, its cache repeated, then token by token; nothing judged."""
        temperature, top_k = self.settings.temperature, self.settings.top_k
        with inference(self.model):
            for row in self.rows:
                ids = torch.tensor([row], device=self.model.device)
                output = self.model(input_ids=ids, use_cache=True, logits_to_keep=1)
                cache = output.past_key_values
                cache.batch_repeat_interleave(self.case.samples)
                logits = output.logits[:, -1].repeat(self.case.samples, 1)
                for step in range(self.case.generated):
                    top = logits.topk(top_k)
                    place = (top.values / temperature).softmax(-1).multinomial(1)
                    ids = top.indices.gather(1, place)
                    if step + 1 < self.case.generated:
                        output = self.model(input_ids=ids, past_key_values=cache, use_cache=True)
                        logits = output.logits[:, -1]

    def body(self) -> None:
        """The body over question and answer alone, as often as there are prompts."""

        def work(batch: list[int]) -> list[None]:
            ids = pad_right([self.alone[index] for index in batch], 0, self.model.device)
            self.model.model(input_ids=ids, use_cache=False)
            return [None] * len(batch)

        with inference(self.model):
            for _ in self.prompts:
                lengths = [len(row) for row in self.alone]
                by_length(lengths, work, self.model.device)


SAMPLING = ("generate", "cached", "sampled")


def check_equal(sides: Sides) -> float:
    """The largest difference of P(sampled) between the shots shared and not shared.

    Raises:
        RuntimeError: If it is above the tolerance.
    """
    rows = zip(sides.exact(), sides.unshared(), strict=True)
    pairs = [pair for ours, theirs in rows for pair in zip(ours, theirs, strict=True)]
    worst = max(abs(a.sampled - b.sampled) for a, b in pairs)
    if worst > TOLERANCE:
        raise RuntimeError(f"probabilities differ by {worst:.2g}, above {TOLERANCE:g}")
    return worst


def floor(sides: Sides) -> dict[str, float]:
    """Operations and bytes of exact mode for one question, and the seconds they take at least.

    Counted are the matrix products of body and output layer, the attention over shots and question,
    and the copies of the shots' keys and values that a batch begins with.
    """
    case, model = sides.case, sides.model
    tokens = statistics.fmean(len(row) for row in sides.alone)
    kept = statistics.fmean(len(each.answers[0]) + 1 for each in sides.asked)
    shots = statistics.fmean(len(row) for row in sides.rows) - tokens
    body = sum(p.numel() for name, p in model.model.named_parameters() if "embed" not in name)
    attention = 4 * case.layers * case.width * tokens * (shots + tokens)
    flops = 2 * body * tokens + attention + 2 * kept * case.width * case.vocabulary
    copied = 2 * 4 * 2 * case.layers * case.width * shots  # read and written, keys and values
    multiply, copy = rates(case, model.device)
    return {
        "tokens": tokens,
        "shot_tokens": shots,
        "gigaflop": case.prompts * flops / 1e9,
        "megabytes": case.prompts * copied / 1e6,
        "gigaflop_per_second": multiply / 1e9,
        "gigabytes_per_second": copy / 1e9,
        "seconds": case.prompts * (flops / multiply + copied / copy),
    }


def rates(case: Case, device: torch.device) -> tuple[float, float]:
    """Operations a second in the body's matrix products, and bytes a second copied."""
    rows, inner = torch.randn(1024, case.width), torch.randn(case.width, case.inner)
    rows, inner = rows.to(device), inner.to(device)
    source = torch.randn(2**22, device=device)
    target = torch.empty_like(source)
    multiplied = _fastest(functools.partial(torch.mm, rows, inner))
    copied = _fastest(functools.partial(target.copy_, source))
    return 2 * rows.numel() * case.inner / multiplied, 2 * 4 * source.numel() / copied


def _fastest(work: Work, times: int = 20) -> float:
    def once() -> float:
        start = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter() - start

    return min(once() for _ in range(times))


def where_time_goes(sides: Sides, lines: int = 10) -> list[tuple[str, float]]:
    """The functions in which exact mode spends most, seconds without what they call."""
    profile = cProfile.Profile()
    profile.runcall(sides.exact)
    stats: Any = pstats.Stats(profile)
    rows = [(f"{os.path.basename(at[0])}:{at[2]}", row[2]) for at, row in stats.stats.items()]
    return sorted(rows, key=lambda row: -row[1])[:lines]


def contestants(case: Case, sides: Sides) -> tuple[list[Comparison], dict[str, Work]]:
    """The ratios of a case, and what takes turns for them."""
    others = {
        "generate": ("transformers.generate", case.against_generate),
        "cached": ("sampling with the prompt's cache shared", case.against_cached),
        "sampled": ("our sampled mode", None),
        "unshared": ("exact, the shots not shared between questions", None),
        "body": ("the body over question and answer alone", None),
    }
    ours = f"{case.name}/exact"
    comparisons = [
        Comparison(f"{case.name}/{name}", ours, f"{case.name}/{name}", against, limit)
        for name, (against, limit) in others.items()
    ]
    works: dict[str, Work] = {f"{case.name}/{n}": getattr(sides, n) for n in ("exact", *others)}
    return comparisons, works


def memory_work(case: Case, device: str, side: str) -> Work:
    """What `peak_memory` watches: one turn of a side, warmed up by the shortest one."""
    (sides := Sides(case, device)).body()
    return getattr(sides, side)  # type: ignore[no-any-return]


def per_question(case: Case, seconds: dict[str, list[float]]) -> dict[str, list[float]]:
    """Seconds a question."""
    return {
        name: [
            each / (case.sampled if name.rpartition("/")[2] in SAMPLING else case.questions)
            for each in turns
        ]
        for name, turns in seconds.items()
    }


def main() -> None:
    """Measure, print a table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser, repeats=5)
    parser.add_argument("--case", action="append", choices=list(CASES))
    parser.add_argument("--quick", action="store_true", help="tiny, only to see that it runs")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cases = [CASES[name] for name in options.case or CASES]
    if options.quick:
        small = {"layers": 1, "width": 64, "questions": 4, "sampled": 1, "prompts": 2}
        cases = [replace(case, **small) for case in cases]
    comparisons: list[Comparison] = []
    seconds: dict[str, list[float]] = {}
    memory: dict[str, int] = {}
    details: dict[str, Any] = {}
    for case in cases:
        sides = Sides(case, options.device)
        found, works = contestants(case, sides)
        comparisons += found
        details[case.name] = {"largest_difference": check_equal(sides)}
        seconds |= per_question(case, take_turns(works, options.repeats, options.device))
        details[case.name] |= {"floor": floor(sides), "profile": where_time_goes(sides)}
        for name in works if not options.no_memory else ():
            arguments = (case, options.device, name.removeprefix(f"{case.name}/"))
            memory[name] = peak_memory(memory_work, arguments, options.device)
    settings = {name: getattr(options, name) for name in ("device", "quick", "threads", "repeats")}
    report(comparisons, seconds, memory, settings, options.json, cases=details)
    print_details(details, seconds)


def print_details(details: dict[str, Any], seconds: dict[str, list[float]]) -> None:
    """How fast exact mode is against its floor, and where its time goes, case by case."""
    for name, found in details.items():
        exact, least = statistics.median(seconds[f"{name}/exact"]), found["floor"]
        print(
            f"\n{name}: exact {1e3 * exact:.1f} ms a question; floor {1e3 * least['seconds']:.1f} "
            f"ms ({least['gigaflop']:.2f} GFLOP at {least['gigaflop_per_second']:.0f}/s, "
            f"{least['megabytes']:.0f} MB at {least['gigabytes_per_second']:.0f} GB/s); "
            "seconds by function:"
        )
        for function, own in found["profile"]:
            print(f"  {own:7.3f}  {function}")


if __name__ == "__main__":
    main()
