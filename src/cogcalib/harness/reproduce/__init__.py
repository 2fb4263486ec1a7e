"""The paper's tables and ours, by one command, on any model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cogcalib.lazy import import_on_use

if TYPE_CHECKING:
    from cogcalib.harness.reproduce.definitions import (
        Preset,
        Table,
        load_preset,
        load_table,
        preset_names,
        table_names,
    )
    from cogcalib.harness.reproduce.execute import ExecutionOptions, reproduce
    from cogcalib.harness.reproduce.plan import Place, Plan, make_plan
    from cogcalib.harness.reproduce.planned_cells import Cell

__all__ = [
    "Cell",
    "ExecutionOptions",
    "Place",
    "Plan",
    "Preset",
    "Table",
    "load_preset",
    "load_table",
    "make_plan",
    "preset_names",
    "reproduce",
    "table_names",
]

# Whether a table is spelt right is found out before what trains it is imported.
import_on_use(
    __name__,
    {
        "cogcalib.harness.reproduce.definitions": [
            "Preset",
            "Table",
            "load_preset",
            "load_table",
            "preset_names",
            "table_names",
        ],
        "cogcalib.harness.reproduce.execute": ["ExecutionOptions", "reproduce"],
        "cogcalib.harness.reproduce.plan": ["Place", "Plan", "make_plan"],
        "cogcalib.harness.reproduce.planned_cells": ["Cell"],
    },
)
