"""Every gate at its own strength, and how often the gate made a difference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cogcalib.harness.reproduce.markdown import line
from readme_blocks.figures import paragraph, row_of, three

GATES = ("nll", "all", "random", "inverted", "oracle", "soft")
PENALTIES = {"cols": "ls", "combls": "mbls", "coecp": "ecp"}
"""Gated -> uniform."""
KINDS = {
    "over the options": ("atlas/country", "-options", "ece.vocab"),
    "over the vocabulary": ("atlas/country", "", "ece.vocab"),
    "open-ended": ("atlas/country-open", "", "ece.mean"),
}
"""Task, support as methods are named after it, and the ECE to read."""
VARIANTS = {
    "fixed": "threshold fixed : following the model",
    "token": "each token by itself : whole examples",
}


def controls(record: Mapping[str, Any]) -> str:
    """Every gate at its own strength, label smoothing, and how often the gate made a difference."""
    groups = {
        each["task"]: each
        for each in record["results"]
        if each["in_domain"] and each["variant"] == "default"
    }
    across = {each["task"]: each["pairs"] for each in record["across"]}
    text = (
        f"On the embedded model, {len(record['seeds'])} seeds, every gate at the strength that is "
        "best for it on the calibration split, label smoothing; test, accuracy % / ECE % / NLL. "
        "The other penalties, out of domain, and all differences: "
        "[docs/results/controls-atlas.md](results/controls-atlas.md)."
    )
    lines = [paragraph(text), ""]
    lines += [line(["gate", *KINDS]), line([":---", *["---:"] * len(KINDS)])]
    for gate in ("none", *GATES):
        cells = [
            _figures(groups[task], gate, support, ece) for task, support, ece in KINDS.values()
        ]
        lines.append(line([f"`{gate}`", *cells]))
    lines += ["", line(["significantly better : worse, of 3 penalties", *KINDS])]
    lines.append(line([":---", *["---:"] * len(KINDS)]))
    pairs = {task: group["pairs"] for task, group in groups.items()}
    for gate in ("all", "random"):
        names = {
            (gated, support): (_gated(gated, support, "nll"), _gated(gated, support, gate))
            for gated in PENALTIES
            for _, support, _ in KINDS.values()
        }
        lines.append(line([f"gate `nll` : `{gate}`", *_counted(pairs, names)]))
    across = {each["task"]: each["pairs"] for each in record["across"]}
    for variant, about in VARIANTS.items():
        names = {
            (gated, support): (f"{variant}:{gated}{support}", gated + support)
            for gated in PENALTIES
            for _, support, _ in KINDS.values()
        }
        lines.append(line([about, *_counted(across, names)]))
    return "\n".join(lines)


def _figures(group: Mapping[str, Any], gate: str, support: str, ece: str) -> str:
    name = "sft" if gate == "none" else _gated("cols", support, gate)
    return three(row_of(group, name)["mean"], ece)


def _gated(penalty: str, support: str, gate: str) -> str:
    """``cols-options-random``, ``ls-options`` (the gate all)."""
    if gate == "all":
        return PENALTIES[penalty] + support
    return penalty + support + ("" if gate == "nll" else f"-{gate}")


def _counted(
    pairs: Mapping[str, Sequence[Mapping[str, Any]]],
    names: Mapping[tuple[str, str], tuple[str, str]],
) -> Iterator[str]:
    """``ECE 1:2, NLL 0:3`` by kind: penalties with which the first row is better, and worse."""
    for task, support, ece in KINDS.values():
        wanted = [names[gated, support] for gated in PENALTIES]
        found = [each["difference"] for each in pairs[task] if tuple(each["rows"]) in wanted]
        assert len(found) == len(wanted), (task, wanted)
        counts = []
        for name, metric in {"ECE": ece, "NLL": "nll"}.items():
            values = [each[metric]["value"] for each in found if each[metric]["significant"]]
            better = sum(value < 0 for value in values)
            counts.append(f"{name} {better}:{len(values) - better}")
        yield ", ".join(counts)
