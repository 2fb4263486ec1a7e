"""The same on other architectures, and with every weight trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cogcalib.harness.config.methods import label
from cogcalib.harness.reproduce.markdown import line
from readme_blocks.figures import changes, paragraph, row_of, three

ROWS = ("sft", "sft+ts", "uniform", "gated", "ls-options-calibrated", "cols-options-calibrated")
CHOSEN = ("uniform", "gated")
PAIRS = {
    "gated - uniform, each chosen": ("gated", "uniform"),
    "gated + TS - SFT + TS": ("gated+ts", "sft+ts"),
    "CoLS-options-calibrated - LS-options-calibrated": (
        "cols-options-calibrated",
        "ls-options-calibrated",
    ),
}
NAMES = {
    ("atlas", "default"): "Llama, LoRA",
    ("atlas-mistral", "default"): "Mistral, LoRA",
    ("atlas-qwen2", "default"): "Qwen2, LoRA",
    ("atlas", "full"): "Llama, every weight",
}
"""Model and variant."""
PAGES = ("families-atlas", "full-finetune-atlas")


def elsewhere(families: Mapping[str, Any], full: Mapping[str, Any]) -> str:
    """Figures and differences of every architecture and of full fine-tuning."""
    groups = {
        (each["model"], each["variant"]): each
        for record in (families, full)
        for each in record["results"]
        if each["in_domain"]
    }
    found = {name: groups[key] for key, name in NAMES.items()}
    first = next(iter(found.values()))
    pages = (f"[docs/results/{n}.md](results/{n}.md)" for n in PAGES)
    text = (
        f"{len(families['seeds'])} seeds, {first['task']}, test, n = {first['n']:,}; accuracy % / "
        "ECE vocab % / NLL. Gated and uniform are the variants that the calibration split chose "
        f"for each model. All rows: {', '.join(pages)}."
    )
    lines = [paragraph(text), "", line(["", *found]), line([":---", *["---:"] * len(found)])]
    for name in ROWS:
        cells = [_figures(group, name) for group in found.values()]
        lines.append(line([name if name in CHOSEN else label(name), *cells]))
    lines += ["", line(["Δ ECE vocab % / Δ NLL", *found]), line([":---", *["---:"] * len(found)])]
    for name, rows in PAIRS.items():
        lines.append(
            line([name, *(changes(group, rows, ("ece.vocab", "nll")) for group in found.values())])
        )
    return "\n".join(lines)


def _figures(group: Mapping[str, Any], name: str) -> str:
    row = row_of(group, name)
    text = three(row["mean"])
    return f"{label(row['method'])}: {text}" if name in CHOSEN else text
