"""Multiple-choice scoring against lm-evaluation-harness's `hf` model, from questions to answers.

The same model object, the same prompts and the same questions with four options and single-letter
answers; both sides tokenise, run the model and give every option's log-likelihood, and the two are
compared before anything is timed. The harness keeps its default `logits_cache`, which gives it one
pass per question too, and gets the batch size that is best for it.

The floor is one pass of the model's body per question, tokens ready, without any output layer.

    pip install lm-eval==0.4.13
    python benchmarks/scoring.py --json scoring.json            # one CPU thread: minutes
    python benchmarks/scoring.py --case zero-shot --repeats 11
    python benchmarks/scoring.py --quick                        # does it run? measures nothing
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1")
os.environ.update(HF_DATASETS_DISABLE_PROGRESS_BARS="1", TRANSFORMERS_VERBOSITY="error")

import argparse
import cProfile
import functools
import importlib.util
import logging
import pstats
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from _measure import Comparison, Work, add_options, peak_memory, report, take_turns
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from cogcalib.inference.batching import by_length
from cogcalib.inference.logits import inference, pad_right
from cogcalib.modeling import load_tokenizer, render_prompt
from cogcalib.modeling.option_letters import encode_choices
from cogcalib.modeling.prompts import render_shots
from cogcalib.modeling.shots import Prompt
from cogcalib.records import Example
from cogcalib.scoring import ScoreSettings, score
from cogcalib.tasks import load_task

SHOTS = 5


@dataclass(frozen=True, slots=True)
class Case:
    """What is scored.

    Attributes:
        name: Of the case.
        width, layers, inner, vocabulary: Of the Llama.
        shots: Examples shown before each question, the same for all.
        questions: How many in one turn.
        limit: What the ratio of the times may be at most; None where nothing is promised.
        dtype: Of the weights.
        tolerance: Of an option's log-likelihood, between the two sides.
    """

    name: str
    width: int
    layers: int
    inner: int
    vocabulary: int
    shots: int
    questions: int
    limit: float | None
    dtype: torch.dtype = torch.float32
    tolerance: float = 1e-4


FOR_A_GPU = "1b"
"""A body of 1 B parameters and the head of Llama 3; only where it is named."""
CASES = {
    case.name: case
    for case in (
        Case("zero-shot", 128, 2, 256, 32_000, 0, 256, 1 / 4.5),
        Case("five-shot", 128, 2, 256, 32_000, SHOTS, 128, 1 / 18),
        Case("body", 256, 14, 688, 32_000, 0, 96, 1 / 1.6),
        # All that is saved is in the output layer: with a small one there is nothing to gain.
        Case("small-vocabulary", 512, 8, 1376, 4_000, 0, 64, None),
        # SmolLM2-135M in width, depth and vocabulary.
        Case("smollm2", 576, 30, 1536, 49_152, 0, 48, None),
        # The harness sees logits rounded to bfloat16, eight bits of them.
        Case(FOR_A_GPU, 2048, 16, 8192, 128_256, 0, 1024, None, torch.bfloat16, 0.1),
    )
}


def build_model(case: Case, device: str) -> LlamaForCausalLM:
    """A random Llama that is no surer than chance."""
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
    with torch.device(device):
        return LlamaForCausalLM(config).eval().to(case.dtype)


def build_examples(case: Case) -> tuple[list[Example], Prompt]:
    """Questions of the embedded task, and the answered ones to show before each of them."""
    task = load_task("atlas/country").splits
    return task["test"][: case.questions], Prompt(0, tuple(task["train"][: case.shots]), None)


class Sides:
    """The contestants of one case, over one model."""

    def __init__(self, case: Case, device: str) -> None:
        self.model = build_model(case, device)
        self.tokenizer: PreTrainedTokenizerBase = load_tokenizer("atlas")
        self.examples, self.shots = build_examples(case)
        choices = encode_choices(self.examples, self.tokenizer, None, self.shots)
        self.prompts = [choice.prompt_ids for choice in choices]

    def ours(self) -> list[tuple[float, ...]]:
        """Every option's log-likelihood by `cogcalib.scoring.score`."""
        settings = ScoreSettings(shots=self.shots)
        rows = score(self.model, self.tokenizer, self.examples, settings)
        return [row.option_logprobs or () for row in rows]

    def unshared(self) -> None:
        """The same without sharing what all prompts begin with."""
        settings = ScoreSettings(shots=self.shots, share_prefix=False)
        score(self.model, self.tokenizer, self.examples, settings)

    def body(self) -> None:
        """One pass of the body per question, tokens ready."""

        def work(batch: list[int]) -> list[None]:
            ids = pad_right([self.prompts[index] for index in batch], 0, self.model.device)
            self.model.model(input_ids=ids, use_cache=False)
            return [None] * len(batch)

        with inference(self.model):
            lengths = [len(row) for row in self.prompts]
            by_length(lengths, work, self.model.device)

    def harness(self, batch_size: int) -> list[tuple[float, ...]]:
        """Every option's log-likelihood by lm-evaluation-harness."""
        found = iter(self._harness(batch_size).loglikelihood(self._requests(), disable_tqdm=True))
        return [tuple(next(found)[0] for _ in example.options or ()) for example in self.examples]

    @functools.cache  # noqa: B019 - lives as long as the case
    def _harness(self, batch_size: int) -> Any:
        from lm_eval.models.huggingface import HFLM

        return HFLM(pretrained=self.model, tokenizer=self.tokenizer, batch_size=batch_size)

    def _requests(self) -> list[Any]:
        from lm_eval.api.instance import Instance

        shown = render_shots(self.shots.shots)
        return [
            Instance("loglikelihood", {}, (shown + render_prompt(example), f" {option.letter}"), k)
            for example in self.examples
            for k, option in enumerate(example.options or ())
        ]


def check_equal(sides: Sides, batch_size: int, tolerance: float) -> float:
    """The largest difference of an option's log-likelihood between the two.

    Raises:
        RuntimeError: If it is above the tolerance.
    """
    pairs = zip(sides.ours(), sides.harness(batch_size), strict=True)
    worst = max(abs(a - b) for ours, theirs in pairs for a, b in zip(ours, theirs, strict=True))
    if worst > tolerance:
        raise RuntimeError(f"log-likelihoods differ by {worst:.2g}, above {tolerance:g}")
    return worst


def best_batch_size(sides: Sides, candidates: Sequence[int]) -> int:
    """The batch size with which the harness is fastest, each tried twice."""
    seconds = {}
    for size in candidates:
        times = []
        for _ in range(2):
            start = time.perf_counter()
            sides.harness(size)
            times.append(time.perf_counter() - start)
        seconds[size] = min(times)
    return min(seconds, key=seconds.__getitem__)


def where_time_goes(sides: Sides, lines: int = 12) -> list[dict[str, Any]]:
    """The functions in which our side spends most, seconds without what they call."""
    profile = cProfile.Profile()
    profile.runcall(sides.ours)
    stats: Any = pstats.Stats(profile)
    rows = [
        {"function": name if line == 0 else f"{os.path.basename(file)}:{name}", "seconds": own}
        for (file, line, name), (_, _, own, _, _) in stats.stats.items()
    ]
    return sorted(rows, key=lambda row: -row["seconds"])[:lines]


def memory_work(case: Case, device: str, side: str, batch_size: int) -> Work:
    """What `peak_memory` watches: one turn of a side, warmed up on two questions."""
    quiet()
    sides = Sides(case, device)
    work: Work = (
        functools.partial(sides.harness, batch_size) if side == "harness" else getattr(sides, side)
    )
    whole, sides.examples = sides.examples, sides.examples[:2]
    sides.prompts, prompts = sides.prompts[:2], sides.prompts
    work()
    sides.examples, sides.prompts = whole, prompts
    return work


def quiet() -> None:
    """The harness warns of being given a model object; that is what is meant here."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)


def contestants(case: Case, sides: Sides, size: int) -> tuple[list[Comparison], dict[str, Work]]:
    """The ratios of a case, and what takes turns for them."""
    ours, theirs, floor = (f"{case.name}/{side}" for side in ("ours", "harness", "body"))
    against = f"lm-eval's hf model, batch size {size}"
    comparisons = [
        Comparison(case.name, ours, theirs, against, case.limit, None),
        Comparison(f"{case.name}/floor", ours, floor, "one body pass per question"),
    ]
    works: dict[str, Work] = {
        ours: sides.ours,
        theirs: functools.partial(sides.harness, size),
        floor: sides.body,
    }
    if case.shots:
        plain = f"{case.name}/unshared"
        works[plain] = sides.unshared
        comparisons.append(Comparison(plain, ours, plain, "the prefix not shared"))
    return comparisons, works


def describe(sides: Sides, difference: float) -> dict[str, Any]:
    """What was scored, how far the two agree, and where our side's time goes."""
    return {
        "parameters": sum(p.numel() for p in sides.model.parameters()),
        "questions": len(sides.examples),
        "prompt_tokens": sum(map(len, sides.prompts)) / len(sides.prompts),
        "largest_difference": difference,
        "profile": where_time_goes(sides),
    }


def main() -> None:
    """Measure, print a table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser, repeats=7)
    parser.add_argument("--case", action="append", choices=list(CASES))
    parser.add_argument("--quick", action="store_true", help="tiny, only to see that it runs")
    options = parser.parse_args()
    if importlib.util.find_spec("lm_eval") is None:
        parser.error("needs lm-evaluation-harness: pip install lm-eval==0.4.13")
    torch.set_num_threads(options.threads)
    quiet()
    cases = [CASES[name] for name in options.case or CASES if options.case or name != FOR_A_GPU]
    if options.quick:
        cases = [replace(case, layers=1, width=64, questions=8) for case in cases]
    comparisons: list[Comparison] = []
    seconds: dict[str, list[float]] = {}
    subjects: dict[str, tuple[Case, str, str, int]] = {}
    details: dict[str, Any] = {}
    for case in cases:
        sides = Sides(case, options.device)
        size = best_batch_size(sides, (1, 8) if options.quick else (1, 4, 16, 64))
        found, works = contestants(case, sides, size)
        comparisons += found
        details[case.name] = describe(sides, check_equal(sides, size, case.tolerance))
        seconds |= take_turns(works, options.repeats, options.device)
        for name in works:
            subjects[name] = case, options.device, name.removeprefix(f"{case.name}/"), size
    settings = {name: getattr(options, name) for name in ("device", "quick", "threads", "repeats")}
    write = functools.partial(report, comparisons, seconds, settings=settings, path=options.json)
    write({}, cases=details)
    if not options.no_memory:
        memory = {
            name: peak_memory(memory_work, each, options.device) for name, each in subjects.items()
        }
        write(memory, cases=details)
    print_profiles(details)


def print_profiles(details: dict[str, Any]) -> None:
    """Where our side's time goes, case by case."""
    for name, found in details.items():
        print(
            f"\n{name}: {found['parameters'] / 1e6:.1f} M parameters, {found['questions']} "
            f"questions of {found['prompt_tokens']:.0f} tokens, log-likelihoods within "
            f"{found['largest_difference']:.1g}; seconds of ours by function:"
        )
        for row in found["profile"]:
            print(f"  {row['seconds']:7.3f}  {row['function']}")


if __name__ == "__main__":
    main()
