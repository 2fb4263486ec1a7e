"""Calibrated probabilities from a server that is not ours: llama.cpp with a merged temperature.

LoRA on questions whose options follow the prompt, each a token, and a temperature fitted on their
calibration split are merged and converted to GGUF by `cogcalib merge`. A real llama-server then
answers the test questions, and its probabilities over the options are compared with those of
`cogcalib.load(ADAPTER).predict`.

    python experiments/merge/served_by_llama_cpp.py --base smollm2 --server llama-server \\
        --converter convert_hf_to_gguf.py --output served.json

Some minutes on one core with SmolLM2-135M. A folder that holds the adapter already is gone on with.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax
from transformers import PreTrainedTokenizerBase

from cogcalib import cli, load_task
from cogcalib.deployment.calibration_file import (
    FILE,
    FittedMap,
    read_calibration,
    write_calibration,
)
from cogcalib.deployment.predictor import Predictor, load
from cogcalib.deployment.raw_answers import ask
from cogcalib.deployment.seen_questions import question_hashes, set_hash
from cogcalib.modeling import load_tokenizer
from cogcalib.posthoc import TemperatureScaling
from cogcalib.provenance import code_state, versions
from cogcalib.records import Example, write_json

TASK = "atlas/country"
TOP = 10_000  # tokens that the server lists, the options among them


def main() -> None:
    """Train, fit, merge, serve, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("base", "server", "converter", "output"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--folder", type=Path, default=Path("served"))
    parser.add_argument("--steps", type=int, default=160)
    parser.add_argument("--questions", type=int, default=200, help="of either split")
    parser.add_argument("--port", type=int, default=18090)
    options = parser.parse_args()
    adapter, merged = options.folder / "adapter", options.folder / "merged"
    if not (adapter / FILE).is_file():
        train(options.base, adapter, options.steps)
        fit_temperature(adapter, options.questions)
    gguf = options.folder / "merged.gguf"
    if not gguf.is_file():
        words = ["merge", str(adapter), str(merged), "--gguf", str(gguf)]
        if code := cli.main([*words, "--converter", options.converter]):
            raise SystemExit(code)
    predictor = load(adapter)
    test = questions_of("test", predictor.backend.tokenizer)[: options.questions]
    shared = [options.server, "-m", str(gguf), "--host", "127.0.0.1", "--port", str(options.port)]
    shared += ["-t", "1", "-c", "2048", "-np", "1", "-fa", "off"]
    runs = {}
    for cache in ("f32", "f16"):
        command = [*shared, "-ctk", cache, "-ctv", cache]
        with served(command, options.port):
            runs[cache] = compare(predictor, load(merged), test, options.port)
        print(f"key-value cache in {cache}: {runs[cache]}")
    fitted = predictor.calibration.map
    assert fitted is not None
    write_json(
        options.output,
        {
            "base": Path(options.base).name,
            "task": TASK,
            "steps": options.steps,
            "temperature": fitted.parameters["temperature"],
            "questions": len(test),
            "server": version(options.server),
            "arguments": "-t 1 -c 2048 -np 1 -fa off -ctk CACHE -ctv CACHE",
            "by cache": runs,
            "versions": versions(),
            "code": code_state(),
        },
    )


def train(base: str, adapter: Path, steps: int) -> None:
    """Plain fine-tuning of a LoRA adapter, which leaves the model overconfident."""
    from datasets import Dataset
    from peft import LoraConfig

    from cogcalib import CogCalibConfig, CogCalibTrainer

    rows = [to_row(each) for each in questions_of("train", load_tokenizer(base))]
    settings = CogCalibConfig(
        output_dir=str(adapter.with_name("training")),
        gate="none",
        max_steps=steps,
        per_device_train_batch_size=4,
        learning_rate=5e-4,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        bf16=False,
        seed=0,
    )
    trainer = CogCalibTrainer(
        model=base,
        args=settings,
        train_dataset=Dataset.from_list(rows),
        peft_config=LoraConfig(task_type="CAUSAL_LM", r=8, target_modules="all-linear"),
    )
    trainer.train()
    trainer.save_model(str(adapter))


def questions_of(split: str, tokenizer: PreTrainedTokenizerBase) -> list[Example]:
    """The questions of a split whose options are a token each."""
    found = []
    for example in load_task(TASK).splits[split]:
        texts = [f" {option.text}" for option in example.options or ()]
        if all(len(row) == 1 for row in tokenizer(texts, add_special_tokens=False)["input_ids"]):
            found.append(example)
    return found


def to_row(example: Example) -> dict[str, Any]:
    """A row as the trainer and `predict` take it."""
    return {
        "prompt": f"Question: {example.prompt}\nAnswer:",
        "completion": f" {example.answer_text}",
        "options": [f" {option.text}" for option in example.options or ()],
    }


def fit_temperature(adapter: Path, count: int) -> None:
    """Fit on the calibration split and write it into `calibration.json`."""
    predictor = load(adapter)
    rows = [
        to_row(each) for each in questions_of("calibration", predictor.backend.tokenizer)[:count]
    ]
    questions = predictor.questions(rows)
    raw = ask(predictor.backend, questions, predictor.calibration.answers)
    gold = [row["options"].index(row["completion"]) for row in rows]
    right = float(np.mean([each.chosen == answer for each, answer in zip(raw, gold, strict=True)]))
    fitted = TemperatureScaling().fit(np.array([each.logprobs for each in raw]), gold)
    confidence = float(np.mean([each.confidence["options"] for each in raw]))
    print(
        f"calibration split: accuracy {right:.3f}, mean confidence {confidence:.3f}, "
        f"temperature {fitted.temperature_:.4f}"
    )
    parameters = {"temperature": fitted.temperature_, "at_bound": fitted.at_bound_}
    hashes = set_hash(
        question_hashes([q.prompt_ids for q in questions], predictor.backend.tokenizer)
    )
    found = FittedMap("temperature", parameters, len(raw), TASK, hashes, one_token=True)
    write_calibration(adapter, replace(read_calibration(adapter), map=found))


@contextmanager
def served(command: Sequence[str], port: int) -> Iterator[None]:
    """A llama-server that is ready."""
    print(" ".join(command))
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(1)
        yield
    finally:
        server.terminate()
        server.wait()


def compare(
    adapter: Predictor, merged: Predictor, test: Sequence[Example], port: int
) -> dict[str, float]:
    """Largest differences over the test questions.

    Returns:
        ``server``: of an option's probability between the server and the adapter with its map;
        ``logprob``: of an option's log-probability, nats, between the server and the merged folder
        in float32; ``merged``: of an option's probability between that folder, read without a map,
        and the adapter with its map. ``without``: what the first would be had the temperature been
        left out. ``accuracy``: of the server.
    """
    rows = [to_row(each) for each in test]
    ours = adapter.predict(rows)
    folded = merged.predict(rows)
    questions = merged.questions(rows)
    own = ask(merged.backend, questions, merged.calibration.answers)
    assert adapter.calibration.map is not None
    temperature = adapter.calibration.map.parameters["temperature"]
    found: dict[str, list[float]] = {key: [] for key in ("server", "logprob", "merged", "without")}
    right = []
    for row, answer, same, question, raw in zip(rows, ours, folded, questions, own, strict=True):
        listed = completions(port, row["prompt"])
        theirs = np.array([listed[ids[0]] for ids in question.option_ids])
        wanted = {each.answer: each.probability for each in answer.alternatives}
        calibrated = np.array([wanted[option] for option in question.options])
        alike = {each.answer: each.probability for each in same.alternatives}
        found["server"].append(float(np.abs(softmax(theirs) - calibrated).max()))
        found["logprob"].append(float(np.abs(theirs - np.array(raw.logprobs)).max()))
        found["merged"].append(max(abs(alike[key] - wanted[key]) for key in wanted))
        raw_share = softmax(np.array(raw.logprobs) * temperature)
        found["without"].append(float(np.abs(raw_share - calibrated).max()))
        right.append(question.options[int(theirs.argmax())] == row["completion"])
    return {**{key: max(each) for key, each in found.items()}, "accuracy": float(np.mean(right))}


def completions(port: int, prompt: str) -> dict[int, float]:
    """Token -> log-probability, nats, of the most probable tokens behind a prompt."""
    body = {"prompt": prompt, "n_predict": 1, "n_probs": TOP, "cache_prompt": False}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/completion",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=120) as reply:
        (first,) = json.load(reply)["completion_probabilities"]
    return {each["id"]: each["logprob"] for each in first["top_logprobs"]}


def version(server: str) -> str:
    """What the server says of itself, in its first line."""
    done = subprocess.run([server, "--version"], capture_output=True, text=True, check=False)
    lines = [
        line for line in (done.stdout + done.stderr).splitlines() if line.startswith("version")
    ]
    return lines[0] if lines else ""


if __name__ == "__main__":
    main()
