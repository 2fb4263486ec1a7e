"""Predictions against scoring, and against transformers' own `generate`, from questions to answers.

The same model object (the embedded one), the same questions, from text to an answer with its
confidence. `choices`: one of four letters, read off one position; `generate` gets one new token and
its logits. `open`: greedy answers of at most 32 tokens with their log-probabilities; scoring also
reads the gold answer, which a prediction has not. `generate` gets its prompts ordered by length and
the batch size that is best for it; that all sides answer alike is checked before anything is timed.

    python benchmarks/predict.py --json predict.json
    python benchmarks/predict.py --case choices --repeats 11
    python benchmarks/predict.py --quick                        # does it run? measures nothing
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1")
os.environ.update(HF_HUB_DISABLE_PROGRESS_BARS="1", TRANSFORMERS_VERBOSITY="error")

import argparse
import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from _measure import Comparison, Work, add_options, peak_memory, report, take_turns

from cogcalib.deployment import AnswerFormat, Calibration, Predictor
from cogcalib.deployment.identity import identify
from cogcalib.inference.transformers_backend import TransformersBackend
from cogcalib.modeling import load_model, render_prompt
from cogcalib.modeling.few_shot import end_tokens
from cogcalib.scoring import score
from cogcalib.tasks import load_task

TASKS = {"choices": "atlas/country", "open": "atlas/country-open"}
QUESTIONS = {"choices": 1000, "open": 400}
MOST = 32
TOLERANCE = 1e-4

Said = list[tuple[str, float]]
"""Answers, and the confidence of each: ``options`` or ``joint``."""


class Sides:
    """The contestants of one case, over one model."""

    def __init__(self, case: str, device: str, questions: int) -> None:
        self.case = case
        self.model, self.tokenizer = load_model("atlas", device=device)
        self.examples = load_task(TASKS[case]).splits["test"][:questions]
        kind, confidence = ("options", "options") if case == "choices" else ("open-ended", "joint")
        answers = AnswerFormat(kind, confidence, "cogcalib", max_new_tokens=MOST)
        self.predictor = Predictor(
            TransformersBackend(self.model, self.tokenizer),
            Calibration(identify("atlas", self.tokenizer), answers),
            identify("atlas", self.tokenizer),
            Path(),
        )
        self.prompts = [render_prompt(example) for example in self.examples]
        self.inputs = [
            {"question": e.prompt}
            | ({"options": {o.letter: o.text for o in e.options}} if e.options else {})
            for e in self.examples
        ]
        self.ends = list(end_tokens(self.tokenizer, newline=True))

    def predict(self) -> Said:
        """`Predictor.predict`."""
        return [(a.answer, a.confidence) for a in self.predictor.predict(self.inputs)]

    def stream(self) -> Said:
        """`Predictor.stream`, in its chunks."""
        return [(a.answer, a.confidence) for a in self.predictor.stream(iter(self.inputs))]

    def score(self) -> Said:
        """`cogcalib.scoring.score`."""
        name = "options" if self.case == "choices" else "joint"
        rows = score(self.model, self.tokenizer, self.examples)
        return [(row.prediction, row.confidence[name]) for row in rows]

    def generate(self, batch_size: int) -> Said:
        """Transformers' `generate`, in batches of like length."""
        order = sorted(range(len(self.prompts)), key=lambda i: -len(self.prompts[i]))
        found: dict[int, tuple[str, float]] = {}
        read = self._letters if self.case == "choices" else self._texts
        self.tokenizer.padding_side = "left"
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            inputs = self.tokenizer(
                [self.prompts[i] for i in batch], return_tensors="pt", padding=True
            ).to(self.model.device)
            with torch.inference_mode():
                output = self.model.generate(
                    input_ids=inputs["input_ids"],
                    attention_mask=inputs["attention_mask"],
                    max_new_tokens=1 if self.case == "choices" else MOST,
                    do_sample=False,
                    eos_token_id=self.ends,
                    pad_token_id=self.tokenizer.pad_token_id,
                    output_logits=True,
                    return_dict_in_generate=True,
                )
            found.update(zip(batch, read(output, inputs["input_ids"].shape[1]), strict=True))
        return [found[index] for index in range(len(self.prompts))]

    def _letters(self, output: Any, start: int) -> Said:
        share = output.logits[0].float()[:, self._letter_ids].softmax(-1)
        best, index = share.max(-1)
        return [("ABCD"[i], p) for i, p in zip(index.tolist(), best.tolist(), strict=True)]

    @functools.cached_property
    def _letter_ids(self) -> list[int]:
        ids = [self.tokenizer(f" {x}", add_special_tokens=False)["input_ids"] for x in "ABCD"]
        return [token for (token,) in ids]

    def _texts(self, output: Any, start: int) -> Said:
        tokens = output.sequences[:, start:]
        steps = torch.stack(output.logits, 1).float().log_softmax(-1)
        chosen = steps.gather(-1, tokens[..., None])[..., 0].tolist()
        rows = []
        for ids, logprobs in zip(tokens.tolist(), chosen, strict=True):
            end = next((at for at, token in enumerate(ids) if token in self.ends), len(ids))
            text = self.tokenizer.decode(ids[:end], skip_special_tokens=True).strip()
            rows.append((text, float(torch.tensor(logprobs[: end + 1]).sum().exp())))
        return rows


def check_equal(sides: Sides, batch_size: int) -> float:
    """The largest difference of a confidence between any two sides.

    Raises:
        RuntimeError: If it is above the tolerance, or an answer differs.
    """
    ours = sides.predict()
    worst = 0.0
    for other in (sides.stream(), sides.score(), sides.generate(batch_size)):
        for (said, confidence), (also, theirs) in zip(ours, other, strict=True):
            worst = max(worst, abs(confidence - theirs))
            if said != also and abs(confidence - theirs) > TOLERANCE:
                raise RuntimeError(f"answers differ: {said!r} and {also!r}")
    if worst > TOLERANCE:
        raise RuntimeError(f"confidences differ by {worst:.2g}, above {TOLERANCE:g}")
    return worst


def best_batch_size(sides: Sides, candidates: Sequence[int]) -> int:
    """The batch size with which `generate` is fastest, each tried twice."""

    def seconds(size: int) -> float:
        start = time.perf_counter()
        sides.generate(size)
        return time.perf_counter() - start

    return min(candidates, key=lambda size: min(seconds(size), seconds(size)))


def memory_work(case: str, device: str, questions: int, side: str, batch_size: int) -> Work:
    """What `peak_memory` watches: one turn of a side, warmed up on two questions."""
    sides = Sides(case, device, questions)
    work: Callable[[], object] = (
        functools.partial(sides.generate, batch_size)
        if side == "generate"
        else getattr(sides, side)
    )
    whole = sides.examples, sides.prompts, sides.inputs
    sides.examples, sides.prompts, sides.inputs = (part[:2] for part in whole)
    work()
    sides.examples, sides.prompts, sides.inputs = whole
    return work


def main() -> None:
    """Measure, print a table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser, repeats=7)
    parser.add_argument("--case", action="append", choices=list(TASKS))
    parser.add_argument("--quick", action="store_true", help="tiny, only to see that it runs")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    comparisons: list[Comparison] = []
    seconds: dict[str, list[float]] = {}
    memory: dict[str, int] = {}
    details: dict[str, Any] = {}
    for case in options.case or TASKS:
        questions = 8 if options.quick else QUESTIONS[case]
        sides = Sides(case, options.device, questions)
        size = best_batch_size(sides, (4, 8) if options.quick else (4, 16, 64, 256))
        difference = check_equal(sides, size)
        works: dict[str, Work] = {
            f"{case}/predict": sides.predict,
            f"{case}/stream": sides.stream,
            f"{case}/score": sides.score,
            f"{case}/generate": functools.partial(sides.generate, size),
        }
        against = {
            "score": "scoring.score",
            "generate": f"transformers' generate, batches of {size}",
        }
        for other, told in against.items():
            comparisons.append(
                Comparison(f"{case}/{other}", f"{case}/predict", f"{case}/{other}", told)
            )
        comparisons.append(
            Comparison(
                f"{case}/stream", f"{case}/stream", f"{case}/predict", "predict, all at once"
            )
        )
        found = take_turns(works, options.repeats, options.device)
        seconds |= found
        fastest = min(found[f"{case}/predict"])
        details[case] = {
            "questions": questions,
            "largest_difference": difference,
            "per_second": questions / fastest,
        }
        for name in works if not options.no_memory else ():
            arguments = (case, options.device, questions, name.partition("/")[2], size)
            memory[name] = peak_memory(memory_work, arguments, options.device)
        print(f"{case}: {questions} questions, predict {questions / fastest:.0f} a second at best")
    settings = {name: getattr(options, name) for name in ("device", "quick", "threads", "repeats")}
    report(comparisons, seconds, memory, settings, options.json, cases=details)


if __name__ == "__main__":
    main()
