"""Runs on few questions: every test of a stage begins one."""

from cells_in_process import cells_in_process
from small_world import small_world

__all__ = ["cells_in_process", "small_world"]
