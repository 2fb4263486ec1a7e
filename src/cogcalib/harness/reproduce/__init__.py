"""The paper's tables and ours, by one command, on any model."""

from __future__ import annotations

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
