"""The tables of README.md and docs/findings.md, each from its records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from textwrap import wrap
from typing import Any

from cogcalib.harness.config.methods import label
from cogcalib.harness.report.columns import MISSING, coverage_text, floor_text, known_text
from cogcalib.harness.reproduce.markdown import line
from cogcalib.metrics import drawn_tasks_bootstrap

Record = Mapping[str, Any]

CHOSEN = {"uniform": "uniform", "gated": "gated", "gated-by-nll": "gated, by NLL"}
"""Rows that the calibration split chose -> their names here."""
COUNTRY, OPEN = "atlas/country", "atlas/country-open"


def demo(record: Record) -> Iterator[str]:
    """The verdict that the demo ends with, as a terminal of 80 columns shows it."""
    yield "```text"
    yield from wrap(record["headline"][0], 80, break_on_hyphens=False)
    yield "```"


def results(record: Record) -> Iterator[str]:
    """Five rows of the main table: in domain, multiple choice."""
    columns = {**COLUMNS, "AURC": ("aurc", 1, 3)}
    names = ["base", "sft", "sft+ts", "cols-options", "cols-options-gap"]
    return _methods(record, columns, names)


def methods(record: Record) -> Iterator[str]:
    """The main table with all that the calibration split chose: in domain, multiple choice."""
    shown = ["base", "base+ts", "sft", "sft+ts", "sft+platt", "sft-early", "sft-early+ts"]
    shown += ["focal", "mc_dropout", "ensemble", "laplace", "ls", "cols", "combls", "coecp"]
    shown += ["ls-options", "cols-options"]
    for support in ("ls-options", "cols-options"):
        shown += [f"{support}-gap", f"{support}-gap+ts"]
    shown += [f"{name}{posthoc}" for name in CHOSEN for posthoc in ("", "+ts")]
    return _methods(record, {**COLUMNS, "Brier": ("brier", 1, 3)}, shown)


COLUMNS = {
    "accuracy %": ("accuracy", 100, 1),
    "ECE options %": ("ece.options", 100, 1),
    "ECE vocab %": ("ece.vocab", 100, 1),
    "NLL": ("nll", 1, 3),
}


def _methods(
    record: Record, columns: Mapping[str, tuple[str, int, int]], names: Sequence[str]
) -> Iterator[str]:
    group = find(record["results"], trained_on=COUNTRY, task=COUNTRY)
    rows = there(group, names)
    # Records made before 2026-11-30 name no best row.
    best = group.get("best", {})
    # Records made before 2026-11-29 lack them.
    more = USE if all("answered" in row for row in rows) else {}
    if any(row["cost"]["passes"] > 1 for row in rows):
        more = {**more, "passes": lambda row: str(row["cost"]["passes"])}
    yield from head("method", [*columns, *more])
    for row in rows:
        cells = [marked(row, *column, best=best) for column in columns.values()]
        yield line([name_of(row), *cells, *(shown(row) for shown in more.values())])


USE: Mapping[str, Callable[[Record], str]] = {
    "floor options %": lambda row: floor_text(row["floor"].get("options")),
    "answered % at 90 %": lambda row: coverage_text(*row["answered"]["coverage_at_90"]),
    "answered % at 95 %": lambda row: coverage_text(*row["answered"]["coverage_at_95"]),
    "known %": lambda row: known_text(row["method"], *row["known"]),
}
"""Noise floor, share answered (from confidence %), known in the first and last gated epoch."""


def controls(record: Record) -> Iterator[str]:
    """Which examples are regularised: every gate, and two other ways of finding what is known."""
    columns = {**COLUMNS, "AURC": ("aurc", 1, 3)}
    last = ["Δ ECE options % to SFT", "trustworthy against SFT", "ECE options %, 9 other tasks"]
    yield from head("", [*columns, "known %", *last])
    for variant, about in VARIANTS.items():
        tasks = [each for each in record["results"] if each["variant"] == variant]
        others = [each for each in tasks if not each["in_domain"] and each["n"] >= MANY]
        for row in find(tasks, in_domain=True)["rows"]:
            cells = [spread(row, *column) for column in columns.values()]
            cells += [known_text(row["method"], *row["known"])]
            against = row.get("against", {}).get("sft")
            cells += [change(against, "ece.options") if against else ""]
            cells += ["" if "failing" not in row else "no" if row["failing"] else "yes"]
            cells += [mean_over(others, row["row"], "ece.options", 100, 1)]
            yield line([f"{label(row['method'])}{about}", *cells])


VARIANTS = {"default": "", "fixed": ", threshold fixed", "token": ", token by token"}
"""Of the table controls."""


def _elsewhere(record: Record) -> dict[str, Record]:
    return {
        f"{group['task']} (n = {group['n']:,})": group
        for group in record["results"]
        if group["trained_on"] == COUNTRY and not group["in_domain"]
    }


def transfer(record: Record) -> Iterator[str]:
    """Means over the other tasks of many questions, and against SFT + TS with tasks drawn."""
    groups = [each for each in _elsewhere(record).values() if each["n"] >= MANY]
    ece = primary(groups[0])
    against = (f"Δ {titled(ece)} to SFT + TS", "Δ NLL to SFT + TS", "NLL below on")
    yield from head(f"means of {len(groups)} tasks", ["accuracy %", titled(ece), "NLL", *against])
    for name in (row["row"] for row in groups[0]["rows"]):
        if name.removesuffix("+ts") in CHOSEN:
            continue
        cells = [mean_over(groups, name, "accuracy", 100, 1), mean_over(groups, name, ece, 100, 1)]
        cells += [mean_over(groups, name, "nll", 1, 3)]
        if name != "sft+ts" and cells[-1] != MISSING:
            lower = [found(each, name, "nll") < found(each, "sft+ts", "nll") for each in groups]
            cells += [change(drawn(groups, name, "sft+ts"), metric) for metric in (ece, "nll")]
            cells += [f"{sum(lower)} of {len(lower)}"]
        else:
            cells += [""] * 3
        yield line([label(find(groups[0]["rows"], row=name)["method"]), *cells])


MANY = 1000
"""Questions of a task that counts in a mean over tasks."""


def found(group: Record, name: str, metric: str) -> float | None:
    """The mean over seeds of one row's metric; None where it is not defined."""
    value: float | None = find(group["rows"], row=name)["mean"].get(metric)
    return value


def mean_over(groups: Sequence[Record], name: str, metric: str, scale: int, digits: int) -> str:
    """The mean over tasks; a dash where the metric is not defined."""
    values = [found(group, name, metric) for group in groups]
    if None in values:
        return MISSING
    return f"{scale * sum(values) / len(values):.{digits}f}"


def drawn(groups: Sequence[Record], name: str, other: str) -> dict[str, tuple[float, ...]]:
    """Metric -> mean difference of two rows over tasks, and its 95 % interval, tasks drawn anew."""
    intervals = {}
    for metric in (primary(groups[0]), "nll"):
        gaps = [[found(each, name, metric) - found(each, other, metric)] for each in groups]
        each = drawn_tasks_bootstrap(gaps)
        intervals[metric] = (each.difference, each.low, each.high)
    return intervals


def models(families: Record, full: Record) -> Iterator[str]:
    """Other architectures, and every weight trained."""
    groups = _models(families, full)
    yield from head("", groups)
    for name in ("base", "sft", "sft+ts", "uniform", "gated"):
        cells = []
        for group in groups.values():
            row = find(group["rows"], row=name)
            text = three(group, row)
            cells.append(f"{label(row['method'])}: {text}" if name in CHOSEN else text)
        yield line([name if name in CHOSEN else label(name), *cells])


def model_changes(families: Record, full: Record) -> Iterator[str]:
    """Differences there."""
    groups = _models(families, full)
    ece = primary(next(iter(groups.values())))
    yield from head(f"Δ {titled(ece)} / Δ NLL", groups)
    for name, rows in {
        "gated - uniform, each chosen": ("gated", "uniform"),
        "gated + TS - SFT + TS": ("gated+ts", "sft+ts"),
    }.items():
        cells = [changes(group, rows, (ece, "nll")) for group in groups.values()]
        yield line([name, *cells])


def _models(families: Record, full: Record) -> dict[str, Record]:
    names = {"atlas": "Llama", "atlas-mistral": "Mistral", "atlas-qwen2": "Qwen2"}
    groups = {f"{names[each['model']]}, LoRA": each for each in families["results"]}
    return groups | {"Llama, every weight": find(full["results"], variant="full")}


def mixtures(record: Record) -> Iterator[str]:
    """By the share of unknown questions in the training data."""
    heads = {name.replace("-", ":"): name for name in record["table"]["variants"]}
    rows = ["sft", "ls", "cols", "ls-options", "cols-options"]
    return _variants(record, heads, [each for row in rows for each in (row, f"{row}+ts")])


def _variants(record: Record, heads: Mapping[str, str], rows: Sequence[str]) -> Iterator[str]:
    groups = [find(record["results"], variant=name) for name in heads.values()]
    rows = [row["row"] for row in there(groups[0], rows)]  # those that were run
    yield from head("", heads)
    means = [find(group["rows"], row="sft")["mean"] for group in groups]
    gaps = [f"{100 * (mean['confidence'] - mean['accuracy']):+.1f}" for mean in means]
    yield line(["SFT, confidence - accuracy", *gaps])
    for name in rows:
        cells = [three(group, find(group["rows"], row=name)) for group in groups]
        yield line([label(name), *cells])
    for pair in (("cols", "ls"), ("cols-options", "ls-options"), ("cols-options+ts", "sft+ts")):
        if list(pair) in [each["rows"] for each in groups[0]["pairs"]]:
            metrics = ("accuracy", primary(groups[0]), "nll")
            cells = [changes(group, pair, metrics) for group in groups]
            yield line([f"{' - '.join(map(label, pair))}, Δ", *cells])


def lengths(record: Record) -> Iterator[str]:
    """By how long a training goes on."""
    steps = record["preset"]["config"]["train"]["steps"]
    heads = {
        f"{round(steps * settings.get('length', 1)):,} steps": name
        for name, settings in record["table"]["variants"].items()
    }
    heads = dict(sorted(heads.items(), key=lambda item: int(item[0].split()[0].replace(",", ""))))
    rows = ["base", "sft", "ls-options", "cols-options"]
    return _variants(record, heads, [each for row in rows for each in (row, f"{row}+ts")])


def readings(build: Record) -> Iterator[str]:
    """Share of questions answered correctly, by how often the fact was read."""
    bands = [row for row in build["right"] if not row["asked"] and row["n"] >= 1000]
    spans = [sorted({row["least"], row["most"]}) for row in bands]
    yield from head("readings", [" to ".join(map(str, span)) for span in spans])
    yield line(["correct %", *(f"{100 * row['right']:.1f}" for row in bands)])


def entity(record: Record) -> Iterator[str]:
    """The model of real facts, in domain."""
    columns = {
        "accuracy %": ("accuracy", 100, 1),
        "ECE mean %": ("ece.mean", 100, 1),
        "ECE joint %": ("ece.joint", 100, 1),
        "NLL": ("nll", 1, 3),
    }
    group = find(record["results"], in_domain=True)
    yield from head("method", [*columns, "Δ ECE mean % to SFT", "Δ NLL to SFT"])
    # What was chosen stands there under its own name already; the record has a schedule of alpha
    # that is gone.
    rows = {
        row["method"]: row for row in reversed(group["rows"]) if "-calibrated" not in row["method"]
    }
    for row in sorted(rows.values(), key=group["rows"].index):
        against = row.get("against", {}).get("sft", {})
        cells = [spread(row, *column) for column in columns.values()]
        cells += [change(against, name) if name in against else "" for name in ("ece.mean", "nll")]
        yield line([label(row["method"]), *cells])


def real_results(record: Record) -> Iterator[str]:
    """`real_words` without the ungated twin, which hardly differs."""
    return _real_words(record, lambda row: row["row"] != "base+ts" and row["row"][:3] != "ls-")


def real_words(record: Record) -> Iterator[str]:
    """SmolLM2 among four words: where it was trained, and means over the other tasks."""
    return _real_words(record, lambda row: True)


def _real_words(record: Record, wanted: Callable[[Record], bool]) -> Iterator[str]:
    home = find(record["results"], in_domain=True)
    others = [group for group in record["results"] if not group["in_domain"]]
    columns = {**COLUMNS, "Brier": ("brier", 1, 3), "AURC": ("aurc", 1, 3)}
    elsewhere = {name: columns[name] for name in ("accuracy %", "ECE options %", "NLL")}
    titles = [f"{len(others)} others: {name}" for name in elsewhere]
    yield from head("method", [*columns, "answered % at 90 %", "known %", *titles])
    for row in filter(wanted, home["rows"]):
        cells = [spread(row, *column) for column in columns.values()]
        cells += [USE[name](row) for name in ("answered % at 90 %", "known %")]
        cells += [mean_over(others, row["row"], *column) for column in elsewhere.values()]
        yield line([name_of(row), *cells])


def real_model(record: Record) -> Iterator[str]:
    """SmolLM2 where it was trained, and on a relation whose answers are of the same kind."""
    groups = {"": find(record["results"], in_domain=True)}
    groups["P495: "] = find(record["results"], task="entity_questions/P495")
    columns = {
        "accuracy %": ("accuracy", 100, 1),
        "ECE mean %": ("ece.mean", 100, 1),
        "ECE joint %": ("ece.joint", 100, 1),
        "Brier": ("brier", 1, 3),
    }
    yield from head("method", ["NLL", *(f"{at}{name}" for at in groups for name in columns)])
    for row in groups[""]["rows"]:
        cells = [spread(row, "nll", 1, 3)]
        for group in groups.values():
            same = find(group["rows"], row=row["row"])
            cells += [spread(same, *column) for column in columns.values()]
        yield line([name_of(row), *cells])


def paper(record: Record) -> Iterator[str]:
    """The paper's rows with options, and by how much each lowers the ECE of plain fine-tuning."""
    return _reductions(record, COUNTRY, ("options", "vocab"))


def paper_open(record: Record) -> Iterator[str]:
    """The same where answers are written."""
    return _reductions(record, OPEN, ("mean", "joint"))


def paper_real(record: Record) -> Iterator[str]:
    """The same on SmolLM2."""
    return _reductions(record, "entity_questions/P17", ("mean", "joint"))


def paper_real_country(record: Record) -> Iterator[str]:
    """All of the paper's open-ended rows on one relation."""
    return paper_real(record)


def _reductions(record: Record, task: str, definitions: Sequence[str]) -> Iterator[str]:
    changes = [f"ECE {each} below SFT's by %" for each in definitions]
    eces = {f"ECE {each} %": (f"ece.{each}", 100, 1) for each in definitions}
    columns = {"accuracy %": ("accuracy", 100, 1), **eces}
    columns |= {"NLL": ("nll", 1, 3), "Brier": ("brier", 1, 3), "AURC": ("aurc", 1, 3)}
    yield from head("method", [*columns, *changes])
    for row in record["means"]:
        if task in row["tasks"]:
            cells = [spread(row, *column) for column in columns.values()]
            below = row.get("reduction") or {}
            cells += [f"{100 * below[each]:+.0f}" if each in below else "" for each in definitions]
            yield line([label(row["row"]), *cells])


def carried(record: Record) -> Iterator[str]:
    """Means over the tasks not trained on, and against SFT + TS, tasks and seeds drawn."""
    (found,) = record["transfer"]
    measured = {"ece.options": ("ECE options %", 100, 1), "nll": ("NLL", 1, 3),
                "brier": ("Brier", 1, 3), "aurc": ("AURC", 1, 3)}  # fmt: skip
    heads = [title for title, *_ in measured.values()]
    changes = [f"Δ {title}" for title in heads[:3]]
    yield from head(f"means of {len(found['tasks'])} tasks", ["accuracy %", *heads, *changes])
    for row in found["rows"]:
        cells = [spread(row, "accuracy", 100, 1)]
        cells += [spread(row, name, scale, digits) for name, (_, scale, digits) in measured.items()]
        drawn = row.get("against", {})
        cells += [change(drawn, name) if name in drawn else "" for name in [*measured][:3]]
        yield line([label(row["row"]), *cells])


def head(first: str, columns: Sequence[str] | Mapping[str, Any]) -> Iterator[str]:
    """The head of a table of figures."""
    yield line([first, *columns])
    yield line([":---", *["---:"] * len(columns)])


def find(items: Sequence[Record], **wanted: Any) -> Record:
    """The first item with these values."""
    return next(each for each in items if all(each[key] == wanted[key] for key in wanted))


def name_of(row: Record) -> str:
    """The label of a row, with what it was chosen as."""
    chosen = CHOSEN.get(row["row"].removesuffix("+ts"))
    return f"{chosen}: {label(row['method'])}" if chosen else label(row["method"])


def spread(row: Record, metric: str, scale: int, digits: int) -> str:
    """Mean ± standard deviation over seeds; a dash where the metric is not defined."""
    mean, deviation = row["mean"].get(metric), row.get("deviation", {}).get(metric)
    if mean is None:
        return MISSING
    text = f"{scale * mean:.{digits}f}"
    return f"{text} ± {scale * deviation:.{digits}f}" if deviation else text


def marked(row: Record, metric: str, scale: int, digits: int, *, best: Mapping[str, str]) -> str:
    """`spread`, bold where the record calls the row the best."""
    text = spread(row, metric, scale, digits)
    return f"**{text}**" if best.get(metric) == row["row"] else text


def there(group: Record, names: Sequence[str]) -> list[Record]:
    """The rows of a group with these names, as far as they are there."""
    held = {row["row"]: row for row in group["rows"]}
    return [held[name] for name in names if name in held]


def primary(group: Record) -> str:
    """The ECE that a record compares rows by: of the definition that it names first."""
    return next(name for name in group["rows"][0]["mean"] if name.startswith("ece."))


def titled(ece: str) -> str:
    """``ECE vocab %`` for ``ece.vocab``."""
    return f"ECE {ece.removeprefix('ece.')} %"


def three(group: Record, row: Record) -> str:
    """``65.1 / 20.1 / 1.243``: accuracy %, ECE %, NLL."""
    mean = row["mean"]
    error = mean[primary(group)]
    return f"{100 * mean['accuracy']:.1f} / {100 * error:.1f} / {mean['nll']:.3f}"


def significant(found: Sequence[float]) -> bool:
    """Whether an interval excludes zero."""
    return found[1] > 0 or found[2] < 0


def change(differences: Mapping[str, Sequence[float]], metric: str) -> str:
    """``-8.3 [-10.1, -6.2] *``, points of percent but for nats."""
    scale, digits = (1, 3) if metric in ("nll", "brier") else (100, 1)
    value, low, high = (f"{scale * each:+.{digits}f}" for each in differences[metric])
    return f"{value} [{low}, {high}]{' *' * significant(differences[metric])}"


def changes(group: Record, rows: tuple[str, str], metrics: Sequence[str]) -> str:
    """The differences of a pair of rows, one behind the other."""
    difference = find(group["pairs"], rows=list(rows))["difference"]
    return " / ".join(change(difference, metric) for metric in metrics)
