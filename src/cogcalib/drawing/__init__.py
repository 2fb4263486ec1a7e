"""Figures that library and harness share: their look, and confidence against correctness."""
