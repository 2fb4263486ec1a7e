"""The verb ``score``: predictions of one model on one task."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from cogcalib.cli.console import print_tables, progress_bar, shown
from cogcalib.cli.options import add_fields, read_fields
from cogcalib.records import AUTO, DTYPES, PRESETS, input_errors

if TYPE_CHECKING:
    from cogcalib.scoring.score_run import Scored

HELP = "score a model on a task and show how it is calibrated"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    from cogcalib.inference.backend_spec import REMOTE, WORKERS
    from cogcalib.scoring.confidence_names import ANSWERS
    from cogcalib.scoring.config import ScoreTask

    values = {"answer": ANSWERS, "dtype": (AUTO, *DTYPES), "prompt": PRESETS, "worker": WORKERS}
    add_fields(parser, ScoreTask, without=REMOTE, values=values)
    remote = parser.add_argument_group(
        "endpoint", "ask an OpenAI-compatible server (vLLM, SGLang, llama.cpp) for --model"
    )
    add_fields(remote, ScoreTask, only=REMOTE)


def kept(options: argparse.Namespace) -> str:
    """What is left of a scoring that was cut short, and how to go on."""
    if options.endpoint is None or options.output is None:
        return "; no predictions were written"
    from cogcalib.inference.backend_loading import answers_file

    if not answers_file(options.output).exists():
        return "; nothing was answered, so nothing is kept"
    return "; the answers got are kept, the same command goes on from there"


def execute(options: argparse.Namespace) -> Any:
    """Score, print the metrics, write what was asked for; returns the row of metrics."""
    from cogcalib.scoring.config import ScoreTask

    with input_errors():
        asked = ScoreTask(**read_fields(options, ScoreTask))
    from cogcalib.inference.experimental.endpoint_client import EndpointError
    from cogcalib.scoring.score_run import score_task

    try:
        with progress_bar("score") as progress, input_errors():
            scored = score_task(asked, progress)
    except EndpointError as error:
        print(f"cogcalib: {shown(str(error))}{kept(options)}", file=sys.stderr)
        raise SystemExit(1) from error
    if scored.main:
        _show(scored, options)
    return [scored.summary] if scored.main else None


def _show(scored: Scored, options: argparse.Namespace) -> None:
    from cogcalib.scoring.score_record import label_line, record_path

    print_tables([scored.summary], options.split)
    if scored.labels is not None:
        print(f"\n{shown(label_line(scored.labels))}")
    letters = options.answer == "letter" and scored.f1 is None
    if options.endpoint is not None and letters and "surface" not in scored.summary["ece"]:
        print(
            "\nConfidence `surface` is left out: the server did not list every surface form of "
            "every option; --top-logprobs asks for more"
        )
    if scored.f1 is not None:
        print(f"\nToken F1: {100 * scored.f1:.1f} %")
    for line in scored.dropped:
        print(f"\n{shown(line)}")
    if scored.shortened:
        print(f"\nPassages shortened to fit the model: {scored.shortened}")
    if options.output is not None:
        print(shown(f"\nPredictions: {options.output}\nRecord: {record_path(options.output)}"))
