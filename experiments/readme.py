"""Write the README's figures from the committed records under docs/results.

    python experiments/readme.py            # the records of BLOCKS -> README.md
    python experiments/readme.py --check    # exit code 1 if they disagree

Everything between a pair of marks is made here, sentences included: no figure is typed by hand.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from readme_blocks.controls import controls
from readme_blocks.main import results
from readme_blocks.population import population

from cogcalib.records import write_text

ROOT = Path(__file__).resolve().parents[1]
README, RESULTS = ROOT / "README.md", ROOT / "docs" / "results"

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
