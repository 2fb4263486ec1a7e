"""The paper's finding at small scale: the more a model already knows of its training data, the
worse it is calibrated after fine-tuning.

    python experiments/ratio.py [--seeds 0 1 2] [--size 240]

Plain SFT at equal training size on mixtures of questions that the base model knows with certainty
(right under every rotation of the options) and questions it plainly does not know (under at most
one, which is what always choosing the same letter gives). How long and how fast it trains matters:
`-o train.learning_rate=5e-4 -o train.steps=150 --prefix mild` is another regime.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev

SHARES = {"5:0": 1.0, "4:1": 0.8, "2:3": 0.4, "0:5": 0.0}


def main() -> None:
    """Run the mixtures and print one line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--size", type=int, default=240)
    parser.add_argument("--root", type=Path, default=Path("runs"))
    parser.add_argument("-o", dest="overrides", action="append", default=[])
    parser.add_argument("--prefix", default="ratio")
    options = parser.parse_args()
    print("| unknown:known | accuracy % | confidence % | confidence - accuracy | ECE vocab % |")
    print("|---|---|---|---|---|")
    for ratio, share in SHARES.items():
        name = f"{options.prefix}-{round(100 * share)}"
        settings = [
            f"name={name}",
            f"seeds={options.seeds}",
            "methods=[sft]",
            "tasks.out_of_domain=[]",
            f"tasks.unknown_share={share}",
            f"tasks.limit.train={options.size}",
            *options.overrides,
        ]
        words = [sys.executable, "-m", "cogcalib.cli", "demo", "--runs", str(options.root)]
        words += [word for setting in settings for word in ("-o", setting)]
        subprocess.run(words, stdout=subprocess.DEVNULL, check=True)
        rows = json.loads((options.root / name / "metrics.json").read_text(encoding="utf-8"))
        test = [row for row in rows if row["split"] == "test"]
        columns = (
            [row["accuracy"] for row in test],
            [row["confidence"]["vocab"] for row in test],
            [row["confidence"]["vocab"] - row["accuracy"] for row in test],
            [row["ece"]["vocab"]["value"] for row in test],
        )
        cells = [f"{100 * mean(c):.1f} ± {100 * stdev(c):.1f}" for c in columns]
        print(f"| {ratio} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
