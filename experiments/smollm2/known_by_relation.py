"""What SmolLM2 knows of the world, by relation: docs/results/known-by-relation.{json,svg}.

Of a probe that was made before, half an hour of one core:

    cogcalib probe --model smollm2 --task entity_questions --split calibration \
        --limit 1200 --prompts 4 --output runs/probe-smollm2
    python experiments/smollm2/known_by_relation.py runs/probe-smollm2
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from cogcalib.drawing.canvas import to_svg
from cogcalib.harness.report.probe_figures import shares_chart
from cogcalib.harness.report.probe_tables import by_named_group, shares
from cogcalib.knowledge import CATEGORIES, load_probe
from cogcalib.provenance import code_state, versions
from cogcalib.records import write_json, write_text
from cogcalib.yaml_files import read_yaml

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"


def record(folder: Path) -> dict[str, Any]:
    """Shares of the categories over all questions and of each relation, fractions."""
    rows = load_probe(folder)
    groups = {"all": list(rows), **by_named_group(rows)}
    return {
        "command": f"python experiments/smollm2/known_by_relation.py {folder}",
        "probe": read_yaml(folder / "config.yaml"),
        "categories": list(CATEGORIES),
        "questions": {name: len(members) for name, members in groups.items()},
        "shares": {name: shares(members) for name, members in groups.items()},
        "code": code_state(),
        "versions": versions(),
    }


def main() -> None:
    """Write the record and draw it."""
    found = record(Path(sys.argv[1]))
    write_json(RESULTS / "known-by-relation.json", found)
    best, *_ = (name for name in found["shares"] if name != "all")
    description = (
        f"Of {found['questions']['all']:,} questions {100 * found['shares']['all'][0]:.0f} % are "
        f"HighlyKnown and {100 * found['shares']['all'][-1]:.0f} % Unknown; the best known "
        f"relation is {best}."
    )
    svg = to_svg(
        shares_chart(found["shares"]),
        title="What SmolLM2-135M knows, by relation",
        description=description,
    )
    write_text(RESULTS / "known-by-relation.svg", svg)


if __name__ == "__main__":
    main()
