"""Baselines: MC dropout, ensembles, Laplace-LoRA and interpolation behind one interface."""

from __future__ import annotations

from cogcalib.baselines.base import Baseline, Cost
from cogcalib.baselines.ensemble import Ensemble
from cogcalib.baselines.interpolation import Interpolation
from cogcalib.baselines.laplace import LaplaceLoRA
from cogcalib.baselines.mc_dropout import MCDropout

__all__ = ["Baseline", "Cost", "Ensemble", "Interpolation", "LaplaceLoRA", "MCDropout"]
