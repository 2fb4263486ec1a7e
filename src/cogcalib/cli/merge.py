"""The verb ``merge``: an adapter and its temperature into the weights of a model."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cogcalib.cli.console import shown
from cogcalib.records import DTYPES, input_errors

if TYPE_CHECKING:
    from cogcalib.deployment.merge_plan import MergePlan
    from cogcalib.deployment.merging import Merged

HELP = "merge an adapter and its temperature into a model that any program can serve"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument(
        "model", metavar="MODEL", help="folder or hub id of an adapter or a whole model"
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to be made")
    parser.add_argument(
        "--base", metavar="MODEL", help="folder or hub id of the base, if the adapter names none"
    )
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        help="number format of the weights (that in which the model was calibrated)",
    )
    parser.add_argument(
        "--keep-temperature",
        action="store_true",
        help="leave the temperature in calibration.json, where cogcalib alone reads it",
    )
    parser.add_argument(
        "--gguf", type=Path, metavar="FILE", help="write a GGUF file for llama.cpp as well"
    )
    parser.add_argument(
        "--converter",
        type=Path,
        metavar="PATH",
        help="llama.cpp's convert_hf_to_gguf.py (on PATH, or $COGCALIB_GGUF_CONVERTER)",
    )


def execute(options: argparse.Namespace) -> Merged:
    """Check, merge, and say what is in the weights now."""
    with _tidy_end():
        return _merge(options)


def _merge(options: argparse.Namespace) -> Merged:
    from cogcalib.deployment.gguf import ConversionError, check_gguf, find_converter, write_gguf

    converter = None
    with input_errors():  # before torch is imported
        if options.gguf is None and options.converter is not None:
            raise ValueError("--converter goes with --gguf")
        if options.gguf is not None:
            check_gguf(options.gguf)
            converter = find_converter(options.converter)
    from cogcalib.deployment.merge_plan import plan_merge
    from cogcalib.deployment.merging import MergeError, merge

    try:
        with input_errors():
            plan = plan_merge(
                options.model,
                options.out,
                base=options.base,
                dtype=options.dtype,
                keep_temperature=options.keep_temperature,
                gguf=options.gguf is not None,
            )
            _say(
                f"needs {_size(plan.disk)} of disk and about {_size(plan.memory)} of memory, "
                f"{plan.dtype}"
            )
            merged = merge(plan, _say)
        _show(plan, merged)
        if converter is not None:
            _say(f"converting to {options.gguf}")
            write_gguf(plan.out, options.gguf, plan.dtype, converter)
            print(shown(f"GGUF: {options.gguf} ({_size(options.gguf.stat().st_size)})"))
        return merged
    except (ConversionError, MergeError) as error:
        print(f"cogcalib: {shown(str(error))}", file=sys.stderr)
        raise SystemExit(1) from error


@contextmanager
def _tidy_end() -> Iterator[None]:
    """SIGTERM as an exception, so that no temporary folder of weights is left behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _say(text: str) -> None:
    print(f"merge: {shown(text)}", file=sys.stderr)


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e7 else f"{count / 1e6:.2f} MB"


def _show(plan: MergePlan, merged: Merged) -> None:
    print(shown(f"Merged: {merged.folder} ({_size(plan.weights)}, {plan.dtype})"))
    fitted = plan.calibration.map
    if merged.folded is not None:
        folded = merged.folded
        cap = f" and the configuration's {folded.softcap}" if folded.softcap else ""
        print(
            f"Temperature {plan.temperature:.4g}: in {folded.place}{cap}; log-probabilities are "
            f"log_softmax(logits / T) to {folded.difference:.1g} nats"
        )
    elif fitted is None:
        print("No map was fitted (`cogcalib recalibrate`): the model's own confidence stands")
    elif fitted.method == "temperature":
        print("The temperature stays a map: only cogcalib gives calibrated confidences")
    else:
        print(
            f"The {fitted.method} map stays a map, it cannot go into weights: only cogcalib gives "
            "calibrated confidences"
        )
    print(
        "Read again: its probabilities differ from those of the model merged from by at most "
        f"{merged.difference:.1g}"
    )
    if merged.voided:
        print(
            f"Abstention rules that are void: {merged.voided}. Rounding to {plan.dtype} changed "
            "confidences. `cogcalib guard` finds new ones, --dtype float32 keeps them"
        )
