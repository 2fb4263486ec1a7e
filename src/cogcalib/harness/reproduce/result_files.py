"""The files of a table: its page, its record and its figure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cogcalib.artifacts import read_json
from cogcalib.harness.config import Rule
from cogcalib.harness.config.methods import label, split_posthoc
from cogcalib.harness.reproduce.analyses import detector_page, dynamics_page
from cogcalib.harness.reproduce.claims import claims, claims_page
from cogcalib.harness.reproduce.execute import PlanOutcome
from cogcalib.harness.reproduce.markdown import methods_page, variants_page
from cogcalib.harness.reproduce.plan import Plan, folder_name
from cogcalib.harness.reproduce.table_figure import figure_of
from cogcalib.harness.reproduce.table_record import table_record, to_text
from cogcalib.harness.reproduce.table_rows import RowGroup, collect
from cogcalib.harness.reproduce.task_means import means_page
from cogcalib.harness.reproduce.transfer import transfer_page, transfers
from cogcalib.harness.reproduce.verdicts import open_gates
from cogcalib.harness.selection import RULES
from cogcalib.records import InputError, write_text

_ELSEWHERE = "name another --output, or remove it"


def write_results(
    outcome: PlanOutcome,
    output: Path,
    command: str,
    rule: Rule,
    warn: Callable[[str], object] = lambda text: None,
) -> list[Path]:
    """Write all that came of a table.

    Args:
        outcome: What was run.
        output: Folder; files are named ``<table>-<model>``.
        command: The command line that says so.
        rule: By which alphas were chosen.
        warn: Told what the page warns of.

    Returns:
        The files.
    """
    stem = _stem(outcome.plan, output)
    groups = collect(outcome)
    if warning := open_gates(groups):
        warn(warning)
    # First of all: what is written next changes the checkout that it names.
    record = table_record(outcome, groups, command, rule)
    written = [write_text(_named(stem, "json"), to_text(record))]
    figure = figure_of(record)
    if figure is not None:
        written.append(write_text(_named(stem, "svg"), figure))
    page = _markdown(outcome, groups, record, figure is not None)
    return [write_text(_named(stem, "md"), page), *written]


def check_output(plan: Plan, output: Path, rule: Rule) -> None:
    """Refuse to overwrite a table that holds more, or something else.

    Raises:
        InputError: If what lies there is no such record, or has rows, seeds or tasks that the plan
            does not, or another rule.
    """
    path = _named(_stem(plan, output), "json")
    if not path.exists():
        return
    held = read_json(path, dict, _ELSEWHERE)
    try:
        lost = list(_lost(held, plan))
        other = held.get("tuning", {}).get("rule", rule)
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(f"{path} holds no table of `cogcalib reproduce`; {_ELSEWHERE}") from error
    if other != rule:
        raise InputError(
            f"{path} holds a table chosen by the rule {other}, not {rule}: {_ELSEWHERE}"
        )
    if lost:
        raise InputError(f"{path} holds {', '.join(lost)}, which this would drop: {_ELSEWHERE}")


def _lost(held: Mapping[str, Any], plan: Plan) -> Iterator[str]:
    """What a record holds that the plan does not."""
    planned = {name for place in plan.shown() for name in (*place.methods, *place.best)}
    rows = {row["row"] for group in held.get("results", ()) for row in group["rows"]}
    # Post-hoc rows of what was chosen are not listed by themselves.
    yield from sorted(row for row in rows if not {row, split_posthoc(row)[0]} & planned)
    yield from (f"seed {seed}" for seed in held.get("seeds", ()) if seed not in plan.seeds)
    trained_on = {place.trained_on for place in plan.shown()}
    tasks = {group.get("trained_on") for group in held.get("results", ())} - {None, *trained_on}
    yield from (f"the task {name}" for name in sorted(tasks))


def _stem(plan: Plan, output: Path) -> Path:
    return output / f"{plan.table.name}-{plan.preset.name.rpartition('/')[2]}"


def _named(stem: Path, kind: str) -> Path:
    # Not with_suffix: Qwen2.5-7B has a dot of its own.
    return stem.with_name(f"{stem.name}.{kind}")


def _markdown(
    outcome: PlanOutcome, groups: Sequence[RowGroup], record: Mapping[str, Any], drawn: bool
) -> str:
    table, stem = outcome.plan.table, _stem(outcome.plan, Path()).name
    lines = [f"# {table.title}: {outcome.plan.preset.name}", "", table.question, ""]
    states = [f"{code[:7]} ({cells:,})" for code, cells in record["code_of_cells"].items()]
    lines += [f"`{record['command']}`; cells by commit: {', '.join(states) or 'none'}", ""]
    lines += transfer_page(table, transfers(table, groups))
    if table.renderer in ("methods", "variants"):
        lines += claims_page(table, claims(table, groups))
    lines += means_page(groups) if table.means else []
    lines += [warning, ""] if (warning := open_gates(groups)) else []
    lines += {
        "methods": lambda: methods_page(table, groups),
        "variants": lambda: variants_page(table, groups),
        "detector": lambda: detector_page(record["analysis"]),
        "dynamics": lambda: dynamics_page(record["analysis"]),
    }[table.renderer]()
    lines += [*(["", table.note] if table.note else []), ""]
    lines += _choices(outcome, record["tuning"]["rule"])
    lines += [f"![{table.title}]({stem}.svg)"] if drawn else []
    absent = [
        f"{folder_name(place.path)}: {', '.join(place.inapplicable)}, for multiple choice only"
        for place in outcome.plan.shown()
        if place.inapplicable
    ]
    absent += [*outcome.left_out, *outcome.refused]
    absent += [*(f"{each.cell.label} failed" for each in outcome.failures)]
    if absent:
        lines += ["", "Not there:", "", *(f"- {reason}" for reason in absent)]
    return "\n".join(lines).rstrip() + "\n"


def _choices(outcome: PlanOutcome, rule: Rule) -> Iterator[str]:
    """The rule by which alphas were chosen, and which of them lie at an end of the grid."""
    if outcome.choices or outcome.plan.table.best:
        yield f"Alphas, and rows called chosen, were chosen by {RULES[rule]}."
        yield ""
    ends = [
        f"{folder_name(path)}: {', '.join(label(each.chosen) for each in choices if each.at_end)}"
        for path, choices in outcome.choices.items()
        if any(each.at_end for each in choices)
    ]
    if ends:
        yield (
            f"Chosen at an end of the grid, so that an alpha beyond it might be better: "
            f"{'; '.join(ends)}."
        )
        yield ""
