"""Baselines: MC dropout, ensembles and Laplace-LoRA behind one interface."""

from __future__ import annotations

from cogcalib.baselines.base import Baseline, Cost
from cogcalib.baselines.ensemble import Ensemble
from cogcalib.baselines.laplace import LaplaceLoRA
from cogcalib.baselines.mc_dropout import MCDropout

__all__ = ["Baseline", "Cost", "Ensemble", "LaplaceLoRA", "MCDropout"]
