"""The verb ``score``: predictions of one model on one task."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from cogcalib.cli.console import check_json, print_tables, quiet, write_rows
from cogcalib.records import input_errors


def add_to(verbs: Any) -> None:
    """Add the verb to the command line."""
    score = verbs.add_parser("score", help="score a model on a task and show how it is calibrated")
    score.add_argument("--model", required=True, help="a folder, a hub id, or atlas; a name served")
    score.add_argument("--task", required=True, help="its name, or the path of a task file")
    score.add_argument("--adapter", help="folder or hub id of a PEFT adapter on top of the model")
    score.add_argument("--split", default="test", help="split of the task (test)")
    score.add_argument(
        "--output", type=Path, metavar="FILE", help="write the predictions: .jsonl or .parquet"
    )
    score.add_argument(
        "--json", type=Path, metavar="FILE", help="write the row of metrics to a new file"
    )
    score.add_argument("--data-dir", type=Path, metavar="DIR", help="folder of local data sets")
    score.add_argument("--prompt", default="cogcalib", help="prompt preset (cogcalib)")
    score.add_argument(
        "--answer",
        default="letter",
        help="an option's letter, its label of several tokens, or its text (letter)",
    )
    score.add_argument(
        "--shots", type=int, default=0, metavar="N", help="answered questions before each (0)"
    )
    score.add_argument("--shot-split", default="train", help="split to draw them from (train)")
    score.add_argument("--limit", type=int, metavar="N", help="score N questions, drawn")
    score.add_argument("--seed", type=int, default=0, help="of both draws (0)")
    score.add_argument(
        "--max-new-tokens", type=int, default=32, metavar="N", help="longest open-ended answer (32)"
    )
    score.add_argument("--dtype", default="float32", help="number format of the weights (float32)")
    score.add_argument("--four-bit", action="store_true", help="weights in 4 bits (bitsandbytes)")
    score.add_argument("--batch-size", type=int, metavar="N", help="most sequences in one pass")
    remote = score.add_argument_group(
        "endpoint", "ask an OpenAI-compatible server (vLLM, SGLang, llama.cpp) for --model"
    )
    remote.add_argument("--endpoint", metavar="URL", help="such as http://localhost:8000/v1")
    remote.add_argument(
        "--tokenizer", metavar="PATH", help="folder or hub id of its model's tokenizer (--model)"
    )
    remote.add_argument("--concurrency", type=int, metavar="N", help="requests at once (8)")
    remote.add_argument("--timeout", type=float, metavar="SECONDS", help="per request (120)")
    remote.add_argument(
        "--top-logprobs", type=int, metavar="K", help="likeliest tokens to ask for (20)"
    )
    remote.add_argument(
        "--api-key-env", metavar="NAME", help="environment variable of the key (OPENAI_API_KEY)"
    )
    score.set_defaults(verb=_score)


def kept(options: argparse.Namespace) -> str:
    """What is left of a scoring that was cut short, and how to go on."""
    if options.endpoint is None or options.output is None:
        return "; no predictions were written"
    return "; the answers got are kept, the same command goes on from there"


def _score(options: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.progress import Progress

    quiet()
    from cogcalib.inference.experimental.endpoint_client import EndpointError
    from cogcalib.scoring.config import ScoreTask
    from cogcalib.scoring.score_record import label_line, record_path
    from cogcalib.scoring.score_run import score_task

    words = {key: value for key, value in vars(options).items() if key not in ("verb", "json")}
    try:
        with Progress(console=Console(stderr=True), transient=True) as bars, input_errors():
            check_json(options.json)
            bar = bars.add_task("score", total=None)
            scored = score_task(
                ScoreTask(**words),
                lambda done, total: bars.update(bar, completed=done, total=total),
            )
    except EndpointError as error:
        print(f"cogcalib: {error}{kept(options)}", file=sys.stderr)
        raise SystemExit(1) from error
    if not scored.main:
        return
    print_tables([scored.summary], options.split)
    if scored.labels is not None:
        print(f"\n{label_line(scored.labels)}")
    letters = options.answer == "letter" and scored.f1 is None
    if options.endpoint is not None and letters and "surface" not in scored.summary["ece"]:
        print(
            "\nConfidence `surface` is left out: the server did not list every surface form of "
            "every option; --top-logprobs asks for more"
        )
    if scored.f1 is not None:
        print(f"\nToken F1: {100 * scored.f1:.1f} %")
    if scored.shortened:
        print(f"\nPassages shortened to fit the model: {scored.shortened}")
    if options.output is not None:
        print(f"\nPredictions: {options.output}\nRecord: {record_path(options.output)}")
    write_rows(options.json, [scored.summary])
