"""Notebooks without Jupyter: their code cells, run in one namespace, with what they print and draw.

``python tests/docs/notebook_cells.py docs/notebooks/NAME.ipynb`` runs a notebook in an empty folder
and writes its outputs into it. The figures kept are small PNGs; what goes to stderr is not kept.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

Cell = dict[str, Any]


def code_cells(notebook: dict[str, Any]) -> list[Cell]:
    """Its code cells, in order."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def run_cells(notebook: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """Run all code cells in the current folder; the outputs of each, as a notebook keeps them."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    return [_run("".join(cell["source"]), namespace) for cell in code_cells(notebook)]


def _run(source: str, namespace: dict[str, Any]) -> list[dict[str, Any]]:
    """As Jupyter does: the value of a last expression is shown, here if it is a figure."""
    tree, last = ast.parse(source), None
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        last = ast.Expression(tree.body.pop().value)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, "<cell>", "exec"), namespace)
        value = eval(compile(last, "<cell>", "eval"), namespace) if last else None
    outputs = []
    if printed.getvalue():
        lines = printed.getvalue().splitlines(keepends=True)
        outputs.append({"output_type": "stream", "name": "stdout", "text": lines})
    if isinstance(value, Figure):
        outputs.append(_drawn(value))
    return outputs


def _drawn(figure: Figure) -> dict[str, Any]:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=80, metadata={"Software": None})
    data = {
        "image/png": base64.b64encode(file.getvalue()).decode(),
        "text/plain": ["Figure"],
    }
    return {"output_type": "display_data", "data": data, "metadata": {}}


def main() -> None:
    """Run the notebooks named and write their outputs into them."""
    for path in map(Path, sys.argv[1:]):
        notebook, home = json.loads(path.read_text(encoding="utf-8")), Path.cwd()
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            os.chdir(folder)
            found = run_cells(notebook)
            os.chdir(home)
        for number, (cell, outputs) in enumerate(zip(code_cells(notebook), found, strict=True), 1):
            cell |= {"outputs": outputs, "execution_count": number}
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
