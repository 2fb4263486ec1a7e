"""Two examples of each command, printed below its help."""

from __future__ import annotations

EXAMPLES = {
    "cogcalib": ("cogcalib demo", "cogcalib probe --help"),
    "run": (
        "cogcalib run experiment.yaml",
        "cogcalib run experiment.yaml --resume --runs results",
    ),
    "demo": ("cogcalib demo", "cogcalib demo --fresh --runs results"),
    "tune": (
        "cogcalib tune experiment.yaml",
        "cogcalib tune experiment.yaml --rule ece --budget 8",
    ),
    "reproduce": (
        "cogcalib reproduce main --model atlas --dry-run",
        "cogcalib reproduce controls --model atlas --seeds 3 --jobs 2",
    ),
    "probe": (
        "cogcalib probe --model atlas --task atlas/country --output probes/country",
        "cogcalib probe --model my-model --data questions.csv --output probes/mine",
    ),
    "ledger": (
        "cogcalib ledger runs/demo",
        "cogcalib ledger runs/demo --method cols --output cols.svg",
    ),
    "score": (
        "cogcalib score --model atlas --task atlas/country",
        "cogcalib score --model my-model --task openbookqa --data-dir data --output sft.jsonl",
    ),
    "predict": (
        "cogcalib predict my-model questions.jsonl",
        "cogcalib predict my-model questions.csv --output answers.jsonl",
    ),
    "recalibrate": (
        "cogcalib recalibrate my-model --data held-out.jsonl",
        "cogcalib recalibrate my-adapter --data held-out.jsonl --unlabelled target.jsonl",
    ),
    "guard": (
        "cogcalib guard my-model --data held-out.jsonl --target-error 0.05",
        "cogcalib guard my-model --data held-out.csv --target-error 0.05 0.1 --plot risk.svg",
    ),
    "merge": ("cogcalib merge my-adapter merged", "cogcalib merge my-adapter merged --gguf m.gguf"),
    "serve": ("cogcalib serve my-model", "cogcalib serve my-model --port 8080 --target-error 0.05"),
    "report": (
        "cogcalib report runs/demo --figures figures",
        "cogcalib report sft.jsonl mine.parquet --output page.html",
    ),
    "compare": (
        "cogcalib compare runs/one runs/two --output page.html",
        "cogcalib compare sft.jsonl mine.jsonl --json rows.json",
    ),
    "tasks": ("cogcalib tasks", "cogcalib tasks show atlas/country"),
    "tasks show": (
        "cogcalib tasks show atlas/country",
        "cogcalib tasks show mine.yaml --model my-model",
    ),
    "doctor": ("cogcalib doctor", "cogcalib doctor my-model --json findings.json"),
    "completion": (
        "cogcalib completion bash > ~/.local/share/bash-completion/completions/cogcalib",
        "cogcalib completion zsh > ~/.zfunc/_cogcalib",
    ),
}


def examples_of(command: str) -> str:
    """Those of a command, a verb or one of its own, as argparse prints them last."""
    return "\n".join(["examples:", *(f"  {line}" for line in EXAMPLES[command])])
