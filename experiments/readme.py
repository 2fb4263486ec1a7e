"""Write the README's figures from the committed records under docs/results.

    python experiments/readme.py            # the records of BLOCKS -> README.md
    python experiments/readme.py --check    # exit code 1 if they disagree

Everything between a pair of marks is made here, sentences included: no figure is typed by hand.
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cogcalib.records import write_text
from cogcalib.report.methods import label
from cogcalib.reproduce.markdown import line, method_label

ROOT = Path(__file__).resolve().parents[1]
README, RESULTS = ROOT / "README.md", ROOT / "docs" / "results"
SHOWN = (
    "base",
    "sft",
    "sft+ts",
    "mc_dropout",
    "ensemble",
    "laplace",
    "uniform",
    "uniform+ts",
    "gated",
    "gated+ts",
    "gated-by-nll",
    "gated-by-nll+ts",
)
CHOSEN = {"gated": "gated", "uniform": "uniform", "gated-by-nll": "gated, by NLL"}
COLUMNS = {
    "accuracy %": ("accuracy", 100, 1),
    "ECE vocab %": ("ece.vocab", 100, 1),
    "ECE options %": ("ece.options", 100, 1),
    "NLL": ("nll", 1, 3),
    "Brier": ("brier", 1, 3),
}


def results(record: Mapping[str, Any]) -> str:
    """The main table and what it says."""
    (group,) = (
        each
        for each in record["results"]
        if each["trained_on"] == "atlas/country" and each["task"] == "atlas/country"
    )
    rows = {row["row"]: row for row in group["rows"]}
    pairs = {tuple(pair["rows"]): pair["difference"] for pair in group["pairs"]}
    lines = [
        f"On the embedded model, {len(record['seeds'])} seeds, mean ± standard deviation, percent, "
        f"atlas/country, test, n = {group['n']:,};",
        "strengths and the variants called gated and uniform were chosen on the calibration split.",
        "All rows, tests of every difference, costs, out of domain and open-ended:",
        "[docs/results/main-atlas.md](docs/results/main-atlas.md).",
        "",
        *_table(rows),
        "",
        *(textwrap.fill(text, 104, break_on_hyphens=False) for text in _sentences(rows, pairs)),
    ]
    return "\n".join(lines)


def _table(rows: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    yield line(["method", *COLUMNS, "passes"])
    yield line([":---", *["---:"] * (len(COLUMNS) + 1)])
    for name in SHOWN:
        if name in rows:
            row = rows[name]
            cells = [_cell(row, *column) for column in COLUMNS.values()]
            yield line([_label(name, row["method"]), *cells, str(row["cost"]["passes"])])


def _label(name: str, method: str) -> str:
    chosen = name.partition("+")[0]
    return f"{CHOSEN[chosen]}: {method_label(method)}" if chosen in CHOSEN else label(method)


def _cell(row: Mapping[str, Any], metric: str, scale: int, digits: int) -> str:
    mean, deviation = row["mean"].get(metric), row["deviation"].get(metric)
    if mean is None:
        return "–"  # noqa: RUF001 - a typographic dash is meant
    text = f"{scale * mean:.{digits}f}"
    return text if not deviation else f"{text} ± {scale * deviation:.{digits}f}"


def _sentences(rows: Mapping[str, Any], pairs: Mapping[Any, Any]) -> Iterator[str]:
    yield (
        "Differences are taken question by question (95 % interval in brackets, * where it "
        "excludes zero). By the lowest ECE at SFT's accuracy, the first rule of choice, "
        f"{_gain(rows, 'gated')}. By the lowest NLL, the second, {_gain(rows, 'gated-by-nll')}."
    )
    yield ""
    by_nll = pairs["gated-by-nll", "uniform-by-nll"]
    law = pairs["cols-options-calibrated", "ls-options-calibrated"]
    yield (
        "**Does the gate matter?** Gated against uniform, each at its best by ECE: "
        f"{_three(pairs['gated', 'uniform'])}; by NLL: {_three(by_nll)}; the same law of strength, "
        f'`alpha="calibrated"`, with and without the gate: {_three(law)}.'
    )


def _gain(rows: Mapping[str, Any], name: str) -> str:
    row = rows[name]
    ece = row["mean"]["ece.vocab"] / rows["sft"]["mean"]["ece.vocab"] - 1
    accuracy, nll = _of(row["against"]["sft"], "accuracy"), _of(row["against"]["sft+ts"], "nll")
    return (
        f"{method_label(row['method'])} changes the calibration error (vocab) by {ece:+.0%} and "
        f"the accuracy by {accuracy} points against plain fine-tuning, the NLL by {nll} against "
        "temperature scaling"
    )


def _three(difference: Mapping[str, Mapping[str, Any]]) -> str:
    return (
        f"ECE (vocab) {_of(difference, 'ece.vocab')}, accuracy {_of(difference, 'accuracy')}, NLL "
        f"{_of(difference, 'nll')}"
    )


def _of(differences: Mapping[str, Mapping[str, Any]], metric: str) -> str:
    """``-8.3 [-10.1, -6.2] *``, points of percent but for nats."""
    found = differences[metric]
    scale, digits = (1, 3) if metric == "nll" else (100, 1)
    value, low, high = (f"{scale * found[key]:+.{digits}f}" for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]{' *' * found['significant']}"


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
        "[docs/results/controls-atlas.md](docs/results/controls-atlas.md)."
    )
    lines = [textwrap.fill(text, 104, break_on_hyphens=False), ""]
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
    mean = next(row["mean"] for row in group["rows"] if row["row"] == name)
    return f"{100 * mean['accuracy']:.1f} / {100 * mean[ece]:.1f} / {mean['nll']:.3f}"


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


def population(record: Mapping[str, Any]) -> str:
    """The picture of what atlas knows by population, and what it says."""
    (first, *_, last), edges = record["shares"], record["edges"]
    known, unknown = (record["categories"].index(name) for name in ("HighlyKnown", "Unknown"))
    text = (
        f"What *atlas* knows of its {sum(record['counts']):,} training questions: of the smallest "
        f"eighth of the cities (up to {edges[1]:,} people) {first[known]:.0%} are HighlyKnown and "
        f"{first[unknown]:.0%} Unknown, of the largest (from {edges[-2]:,}) {last[known]:.0%} and "
        f"{last[unknown]:.0%}."
    )
    picture = "![What atlas knows against population](docs/results/population.svg)"
    return f"{textwrap.fill(text, 104)}\n\n{picture}"


BLOCKS: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], str]]] = {
    "results": ("main-atlas.json", results),
    "controls": ("controls-atlas.json", controls),
    "population": ("population.json", population),
}
"""Name of a pair of marks -> the record it is made from, and how."""


def written(readme: str, records: Mapping[str, Mapping[str, Any]]) -> str:
    """The README with what the records, by name of their marks, say.

    Raises:
        ValueError: If a mark is missing.
    """
    for name, (_, block) in BLOCKS.items():
        begin = f"<!-- {name}: written by experiments/readme.py -->"
        end = f"<!-- end of {name} -->"
        if readme.count(begin) != 1 or readme.count(end) != 1:
            raise ValueError(f"README.md must hold {begin!r} and {end!r} once each")
        before, _, rest = readme.partition(begin)
        readme = f"{before}{begin}\n{block(records[name])}\n{end}{rest.partition(end)[2]}"
    return readme


def read_records() -> dict[str, Any]:
    """Name of a pair of marks -> its record."""
    return {
        name: json.loads((RESULTS / file).read_text(encoding="utf-8"))
        for name, (file, _) in BLOCKS.items()
    }


def main() -> int:
    """Write or check; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    now = README.read_text(encoding="utf-8")
    new = written(now, read_records())
    if check:
        return int(new != now)
    write_text(README, new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
