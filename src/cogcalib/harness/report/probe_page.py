"""The findings of a probe as one HTML file: shares, examples, thresholds, detectors."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from markupsafe import Markup

from cogcalib.drawing.canvas import FAINT, GRID, INK, to_svg
from cogcalib.harness.report.columns import percent
from cogcalib.harness.report.html import render
from cogcalib.harness.report.page_parts import Grid
from cogcalib.harness.report.population import by_population
from cogcalib.harness.report.probe_figures import (
    nll_histogram,
    population_chart,
    roc_chart,
    shares_chart,
)
from cogcalib.harness.report.probe_tables import (
    LABELS,
    by_named_group,
    category_grid,
    detector_grid,
    group_grid,
    missing_detectors,
    probe_threshold,
    shares,
    small_n,
)
from cogcalib.knowledge import (
    CATEGORIES,
    Probed,
    detect,
)
from cogcalib.knowledge.detectors import scores_of
from cogcalib.knowledge.partitions import count_categories, draw_rows
from cogcalib.owned_folder import CONFIG
from cogcalib.records import Threshold, write_text
from cogcalib.yaml_files import parse_yaml

MOST_ROWS = 10_000
"""Questions that the page and the terminal show; of a larger probe so many are drawn."""

MOST_GROUPS = 40
EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class ProbePage:
    """Everything the template prints. Texts are plain and escaped there; `Markup` is our SVG."""

    name: str
    finding: str
    facts: list[tuple[str, str]]
    shares: Markup
    categories: Grid
    groups: Grid | None
    population: Markup | None
    nll: Markup
    threshold: str
    roc: Markup | None
    detectors: Grid
    missing: str
    examples: list[tuple[str, Grid]]
    config: str


def write_probe_html(folder: Path | str, *, resamples: int = 1000) -> Path:
    """Write ``probe.html`` into a probe's folder, atomically, and return its path.

    Raises:
        FileNotFoundError: If the folder holds no finished probe.
        ValueError: If a file is malformed.
    """
    folder = Path(folder)
    config = (folder / CONFIG).read_text(encoding="utf-8")
    rows, counts = draw_rows(folder, MOST_ROWS), count_categories(folder)
    page = probe_page(rows, config, folder.name, resamples=resamples, counts=counts)
    return write_text(folder / "probe.html", render("probe.html.j2", page))


def probe_page(
    rows: Probed,
    config: str,
    name: str,
    *,
    resamples: int = 1000,
    counts: Mapping[str, int] | None = None,
) -> ProbePage:
    """Compute the whole page.

    Args:
        rows: Of the probe, at least one.
        config: Its settings, YAML.
        name: Of its folder.
        resamples: Bootstrap resamples of the AUROCs.
        counts: Category -> questions, of the whole probe, where `rows` are drawn from it.
    """
    settings = parse_yaml(config, name)
    groups = by_named_group(rows)
    shown = {"all": shares(rows.rows)}
    if 1 < len(groups) <= MOST_GROUPS:
        shown |= {group: shares(members) for group, members in groups.items()}
    threshold = probe_threshold(rows)
    return ProbePage(
        name=name,
        finding=_finding(rows, settings),
        facts=_facts(rows, settings, counts or {}),
        shares=_svg(shares_chart(shown), "Shares of the categories", _spoken(shown)),
        categories=category_grid(rows),
        groups=group_grid(groups) if len(groups) > 1 else None,
        population=_population(rows),
        nll=_nll(rows, threshold),
        threshold=_cut(threshold),
        roc=_roc(rows, resamples),
        detectors=detector_grid(rows, resamples=resamples),
        missing=missing_detectors(rows),
        examples=_examples(rows),
        config=config,
    )


def _finding(rows: Probed, settings: Mapping[str, Any]) -> str:
    best, *_, worst = shares(rows.rows)
    asked = "each of its prompts" if rows[0].example.options is None else "every order of options"
    return (
        f"{settings['model']} answers {percent(best)} % of these questions correctly under "
        f"{asked}; {percent(worst)} % are new to it."
    )


def _cut(threshold: Threshold) -> str:
    """What the best threshold on the NLL is good for; empty halves have none."""
    if not threshold.n_known or not threshold.n_unknown:
        which = "No" if not threshold.n_known else "Every"
        return (
            f"{which} question is known (HighlyKnown or MaybeKnown), so there is nothing to "
            "tell apart, by the NLL or by any other detector"
        )
    if math.isinf(threshold.value):
        return "Known questions have no lower NLL than the others: no threshold tells them apart"
    return (
        f"NLL ≤ {threshold.value:.3g} nats tells known (HighlyKnown or MaybeKnown) from other "
        f"questions with TPR + TNR − 1 = {percent(threshold.separation)} %, "  # noqa: RUF001
        f"correct for {percent(threshold.accuracy)} % of them. Chosen and judged on the same "
        "questions"
    )


def _facts(
    rows: Probed, settings: Mapping[str, Any], counts: Mapping[str, int]
) -> list[tuple[str, str]]:
    asked = settings.get("task") or Path(str(settings.get("data"))).name
    prompts = len(rows[0].prompt_ids)
    facts_shown = [
        ("questions", f"{len(rows):,}"),
        ("asked", f"{asked}, {settings['split']}"),
        ("mode", str(settings["mode"])),
        ("renderings of each", str(prompts)),
        ("shots", str(settings.get("shots", 0))),
        ("temperature", f"{settings['temperature']:g}"),
    ]
    if len(rows) < (total := sum(counts.values())):
        every = ", ".join(f"{n} {percent(counts.get(n, 0) / total)} %" for n in CATEGORIES)
        facts_shown[0] = ("questions", f"{len(rows):,}, drawn at random from {total:,}")
        facts_shown.insert(1, ("of all", every))
    if line := small_n(max(len(rows), sum(counts.values()))):
        facts_shown.insert(1, ("small n", line))
    if settings.get("adapter"):
        facts_shown.append(("adapter", str(settings["adapter"])))
    return facts_shown


def _nll(rows: Probed, threshold: Threshold) -> Markup:
    nlls: dict[str, list[float]] = {name: [] for name in CATEGORIES}
    for row in rows:
        nlls[row.category].append(row.signals.nll)
    means = "; ".join(f"{n}: mean {fmean(v):.2f} nats" for n, v in nlls.items() if v)
    return _svg(nll_histogram(nlls, threshold.value), "NLL by category", means)


def _roc(rows: Probed, resamples: int) -> Markup | None:
    label, categories = list(LABELS.items())[-1]
    known = [row.category in categories for row in rows]
    if len(set(known)) < 2:
        return None
    signals = [row.signals for row in rows]
    areas = {name: found.auroc for name, found in detect(signals, known, resamples=2).items()}
    spoken = "; ".join(f"{name}: AUROC {percent(area)} %" for name, area in areas.items())
    return _svg(roc_chart(scores_of(signals), known, areas), f"Detectors of {label}", spoken)


def _examples(rows: Probed) -> list[tuple[str, Grid]]:
    """Of each category the questions most like it: spread over its rows in their order."""
    tables = []
    for name in CATEGORIES:
        members = rows.filter(name).rows
        step = max(1, len(members) // EXAMPLES)
        lines = [
            [
                (cell, False)
                for cell in (
                    row.example.prompt,
                    row.example.answer_text,
                    percent(row.p_greedy),
                    percent(row.p_sampled),
                    f"{row.signals.nll:.2f}",
                )
            ]
            for row in members[::step][:EXAMPLES]
        ]
        if lines:
            headers = ["Question", "Answer", "P(greedy) %", "P(sampled) %", "NLL"]
            tables.append((name, Grid(headers, lines, text_columns=2)))
    return tables


def _population(rows: Probed) -> Markup | None:
    found = by_population(rows)
    if found is None:
        return None
    spoken = "; ".join(
        f"from {low:,} people: {percent(row[0])} % HighlyKnown, {percent(row[-1])} % Unknown"
        for low, row in zip(found.edges, found.shares, strict=False)
    )
    chart = population_chart(found.edges, found.shares)
    return _svg(chart, "Knowledge against population", spoken)


def _spoken(shown: Mapping[str, Sequence[float]]) -> str:
    return "; ".join(
        f"{group}: "
        + ", ".join(f"{n} {percent(s)} %" for n, s in zip(CATEGORIES, row, strict=True))
        for group, row in shown.items()
    )


_THEME = {INK: "var(--ink)", GRID: "var(--grid)", FAINT: "var(--soft)", "#ffffff": "var(--card)"}


def _svg(figure: Any, name: str, description: str) -> Markup:
    """A picture in the page, its ink and paper those of the page, light or dark."""
    # to_svg escapes title and description, and matplotlib every text it draws.
    drawn = to_svg(figure, title=name, description=description)
    return Markup(re.sub("|".join(_THEME), lambda found: _THEME[found[0]], drawn))
