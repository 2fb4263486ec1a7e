"""Runs on few questions: every test of a stage begins one."""

from small_world import small_world

__all__ = ["small_world"]
