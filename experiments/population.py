"""Knowledge of atlas against population: docs/results/population.{json,svg}.

Every city that atlas/country trains on is asked about, multiple choice in every rotation. Cities of
many people were mentioned more often while atlas was pretrained, so that this is knowledge against
fame. Seconds on one core; `python experiments/readme.py` then writes the README's sentence.

    python experiments/population.py
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cogcalib.drawing.canvas import to_svg
from cogcalib.harness.report.population import by_population
from cogcalib.harness.report.probe_figures import population_chart
from cogcalib.knowledge import CATEGORIES, load_probe
from cogcalib.knowledge.probe_run import probe_task
from cogcalib.knowledge.probe_task import ProbeTask
from cogcalib.provenance import code_state, versions
from cogcalib.records import write_json, write_text

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"
TASK, SPLIT = "atlas/country", "train"


def measure() -> dict[str, Any]:
    """Probe atlas; the record."""
    with tempfile.TemporaryDirectory() as folder:
        task = ProbeTask(model="atlas", task=TASK, split=SPLIT, output=Path(folder) / "probe")
        probe_task(task)
        found = by_population(load_probe(Path(folder) / "probe"))
    if found is None:
        raise RuntimeError(f"{TASK} has too few places with a population")
    return {
        "command": "python experiments/population.py",
        "model": "atlas",
        "task": TASK,
        "split": SPLIT,
        "categories": list(CATEGORIES),
        **asdict(found),
        "code": code_state(),
        "versions": versions(),
    }


def main() -> None:
    """Write the record and draw it."""
    record = measure()
    write_json(RESULTS / "population.json", record)
    figure = population_chart(record["edges"], record["shares"])
    known, unknown = (
        [f"{100 * record['shares'][end][place]:.0f} %" for end in (0, -1)] for place in (0, -1)
    )
    description = (
        f"From the smallest to the largest cities, questions whose answer atlas knows in every "
        f"rotation grow from {known[0]} to {known[1]}; unknown ones shrink from {unknown[0]} to "
        f"{unknown[1]}."
    )
    title = "What atlas knows against population"
    write_text(RESULTS / "population.svg", to_svg(figure, title=title, description=description))


if __name__ == "__main__":
    main()
