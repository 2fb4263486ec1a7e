"""Writes docs/benchmarks.md from the records under benchmarks/results; `make bench` calls it.

python benchmarks/_page.py
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"

QUESTIONS = {
    "loss": "the fused loss against other linear cross-entropies",
    "train_step": "a training step against TRL's",
    "threshold": "the threshold's estimation as a share of training",
    "evaluate": "the judging of answers as a share of an evaluation",
    "scoring": "scoring against lm-evaluation-harness",
    "predict": "predictions against scoring and transformers' generate",
    "probe": "exact knowledge against sampling",
    "probe_scale": "memory of a probe as its data grow, and two workers against one",
    "metrics": "metrics and intervals against torchmetrics, netcal and scipy",
    "serve": "the server under load, bad clients among the good",
}
INTRODUCTION = """\
# Benchmarks

Written by `python benchmarks/_page.py` from the records in `benchmarks/results`; do not edit. `make
bench` measures everything anew and writes records and page;
[benchmarks/README.md](../benchmarks) says how each is measured.

A ratio below 1 means that cogcalib is faster or smaller. **time** is the median over the turns of
the ratio within a turn, in brackets the least and the most; **memory** is the ratio of the peaks,
what both need before not counted; **of a step** leaves out what is kept from one step to the next;
**floor** is the time ratio that nobody can go below on this machine. A limit is kept where the
median is at most it.
"""
NOT_RECORDED = "not recorded"


class BadRecord(ValueError):
    """A record that belongs on no page."""


def read_records(folder: Path) -> dict[str, dict[str, Any]]:
    """Name -> record, in the order of `QUESTIONS`; ``loss-cuda.json`` follows ``loss.json``.

    Raises:
        BadRecord: For a record of no benchmark, of a ``--quick`` run, whose numbers mean nothing,
            or of no commit, hence of nobody knows what code.
    """
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("*.json"), key=lambda path: (_place(path), path.stem)):
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["settings"].get("quick"):
            raise BadRecord(f"{path} is of a --quick run: its numbers mean nothing")
        if not record["environment"].get("commit"):
            raise BadRecord(f"{path} names no commit: nobody can tell what was measured")
        found[path.stem] = record
    return found


def _place(path: Path) -> int:
    for place, name in enumerate(QUESTIONS):
        if re.fullmatch(rf"{name}(-.+)?", path.stem):
            return place
    raise BadRecord(f"{path} is named after no benchmark: {', '.join(QUESTIONS)}")


def render(records: Mapping[str, Mapping[str, Any]]) -> str:
    """The page."""
    benchmarks = {name.partition("-")[0] for name in records}
    parts = [INTRODUCTION, *_summary(records)]
    for name, record in records.items():
        question = QUESTIONS[name.partition("-")[0]]
        parts += [f"## {name}\n\n{question[0].upper()}{question[1:]}.\n"]
        parts += [_circumstances(record), _ratios(record["ratios"])]
        if "contestants" in record:
            parts.append(_contestants(record["contestants"]))
        if "sizes" in record:
            parts.append(_sizes(record["sizes"], record["settings"]["calibration"]))
        if "load" in record:
            parts.append(_load(record["load"]))
        cases = record.get("cases", {}).items()
        parts += [_floor(case, found) for case, found in cases if "floor" in found]
    if absent := [name for name in QUESTIONS if name not in benchmarks]:
        named = ", ".join(f"`{name}`" for name in absent)
        parts.append(f"## Without a record\n\n{named}: `make bench` measures them.\n")
    return "\n".join(parts)


def limits(ratios: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str, float, float]]:
    """Case, what is limited, what was found, and the most it may be."""
    for case, ratio in ratios.items():
        for kind, most in ratio["limit"].items():
            if most is not None and ratio[kind] is not None:
                yield case, kind, ratio[kind], most


def _summary(records: Mapping[str, Mapping[str, Any]]) -> list[str]:
    rows, kept, all_of_them = [], 0, 0
    for name, record in records.items():
        for case, kind, found, most in limits(record["ratios"]):
            all_of_them += 1
            kept += found <= most
            if found > most:
                rows.append([f"[{name}](#{name})", f"`{case}`", kind, _ratio(found), _ratio(most)])
    if not all_of_them:
        return []
    lines = [f"## Limits\n\nOf {all_of_them} limits {kept} are kept.\n"]
    if rows:
        heads = ("record", "case", "what", "found", "at most")
        lines += [f"Not kept:\n\n{_table(heads, rows)}"]
    return lines


def _circumstances(record: Mapping[str, Any]) -> str:
    """With what, on what and how it was measured."""
    where, settings = record["environment"], record["settings"]
    machine = where.get("machine", {})
    changed = ", with changes" if where.get("changed_since") else ""
    source = f" (from {where['commit_from']})" if "commit_from" in where else ""
    versions = ", ".join(f"{name} {number}" for name, number in where["versions"].items())
    named = [machine.get("processor"), machine.get("device")]
    if "cores" in machine:
        named[1:1] = [f"{machine['cores']} cores", f"{machine['memory_gib']} GiB"]
    load = where.get("load", NOT_RECORDED)
    options = ", ".join(f"{name} {value}" for name, value in settings.items() if name != "quick")
    rows = [
        ("measured", f"{where['date']}, commit {where['commit'][:7]}{source}{changed}"),
        ("machine", ", ".join([*filter(None, named), where["platform"]])),
        ("load of the last minute, this one's own in it", str(load)),
        ("versions", versions),
        ("settings", options),
    ]
    for name, reason in record.get("absent", {}).items():
        rows.append((f"without {name}", reason))
    return _table(("", ""), rows)


def _ratios(ratios: Mapping[str, Mapping[str, Any]]) -> str:
    """A row a case; columns that no case fills are left out."""
    columns = {
        "case": [f"`{case}`" for case in ratios],
        "against": [ratio["against"] for ratio in ratios.values()],
        "time": [_ratio(r["time"], r.get("time_range")) for r in ratios.values()],
        "at most": [_ratio(r["limit"]["time"]) for r in ratios.values()],
        "floor": [_ratio(r.get("floor")) for r in ratios.values()],
        "memory": [_ratio(r["memory"]) for r in ratios.values()],
        "memory at most": [_ratio(r["limit"]["memory"]) for r in ratios.values()],
        "of a step": [_ratio(r.get("memory_of_step")) for r in ratios.values()],
        "kept": [_verdict(case, ratio) for case, ratio in ratios.items()],
    }
    filled = {name: cells for name, cells in columns.items() if any(cells)}
    return _table(list(filled), list(zip(*filled.values(), strict=True)))


def _verdict(case: str, ratio: Mapping[str, Any]) -> str:
    found = [value <= most for _, _, value, most in limits({case: ratio})]
    return "" if not found else "yes" if all(found) else "**no**"


def _contestants(contestants: Mapping[str, Mapping[str, Any]]) -> str:
    """What the ratios are made of."""
    rows = [
        (
            f"`{name}`",
            f"{statistics.median(one['seconds']):.4g}",
            str(len(one["seconds"])),
            f"{one['peak_bytes'] / 2**20:,.0f}" if one["peak_bytes"] is not None else "",
        )
        for name, one in contestants.items()
    ]
    return _table(("contestant", "seconds, median", "turns", "peak memory, MiB"), rows)


def _sizes(sizes: Mapping[str, Mapping[str, Any]], calibration: int) -> str:
    """What estimating the threshold takes of trainings of other sizes."""
    columns = next(iter(sizes.values()))["share_by_examples"]
    heads = ["trained on", *(f"{int(size):,}" for size in columns), "at most 2 % from"]
    rows = [
        [
            f"`{name}`",
            *(f"{share:.1%}".replace("%", " %") for share in found["share_by_examples"].values()),
            f"{found['examples_for_limit']:,} examples",
        ]
        for name, found in sizes.items()
    ]
    return (
        f"By the same times, the share at the default interval with {calibration} calibration "
        "examples, by the number of training examples. The threshold is estimated once an epoch "
        f"at least, which takes more of a small training:\n\n{_table(heads, rows)}"
    )


def _load(found: Mapping[str, Any]) -> str:
    """What clients of a server saw of it, and what it held in memory."""
    memory = found["memory_mib"]
    statuses = ", ".join(f"{kind} ({n:,})" for kind, n in found["statuses"].items())
    rows = [
        ("requests", f"{found['requests']:,}, of which plain questions {found['questions']:,}"),
        ("lost: no answer, or a wrong one", f"{found['lost']:,}"),
        ("latency of a question, median", f"{1e3 * found['p50']:,.0f} ms"),
        ("99th percentile", f"{1e3 * found['p99']:,.0f} ms"),
        ("longest", f"{1e3 * found['most']:,.0f} ms"),
        ("answered with", statuses),
        (
            "resident memory, MiB",
            f"{memory['before']:,.0f} before, {memory['after']:,.0f} after, "
            f"{memory['peak']:,.0f} at most",
        ),
        ("OpenAI's client against `predict`", f"{found['difference_from_predict']:.1g} apart"),
    ]
    return _table(("", ""), rows)


def _floor(case: str, found: Mapping[str, Any]) -> str:
    """What the arithmetic alone would take, and where the time goes."""
    floor, most = found["floor"], found["profile"][:4]
    total = sum(seconds for _, seconds in found["profile"])
    named = ", ".join(f"{_function(name)} {seconds / total:.0%}" for name, seconds in most)
    return (
        f"`{case}`: at least {1e3 * floor['seconds']:.1f} ms a question, "
        f"{floor['gigaflop']:.2f} GFLOP at {floor['gigaflop_per_second']:.0f} a second and "
        f"{floor['megabytes']:.0f} MB at {floor['gigabytes_per_second']:.0f} GB a second. Of the "
        f"{len(found['profile'])} functions that take most: {named}.\n"
    )


def _function(name: str) -> str:
    """``torch.cat`` of what the profiler calls ``~:<built-in method torch.cat>``."""
    found = re.fullmatch(r"~:<(?:built-in )?method (?P<name>.*)>", name)
    return f"`{found['name'] if found else name}`"


def _ratio(value: float | None, spread: Sequence[float] | None = None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" + (f" ({spread[0]:.3f} to {spread[1]:.3f})" if spread else "")


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


if __name__ == "__main__":
    PAGE.write_text(render(read_records(RESULTS)), encoding="utf-8")
    print(f"written: {PAGE.relative_to(ROOT)}")
