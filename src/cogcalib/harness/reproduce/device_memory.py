"""Memory of the device against what a training takes for certain."""

from __future__ import annotations

import torch

from cogcalib.harness.reproduce.cell_cost import NUMBER_BYTES
from cogcalib.harness.reproduce.plan import Place, Plan, folder_name
from cogcalib.harness.reproduce.workers import memory_shares
from cogcalib.harness.stages.whole_training import FULL_BYTES
from cogcalib.records import InputError

FOUR_BITS = 0.6
"""Bytes of a weight in 4 bits, with what is not quantised."""


def least_memory(plan: Plan, place: Place) -> float:
    """Bytes that a training takes at least: weights, gradients and Adam's state, no activations."""
    model = place.config.model
    parameters = plan.preset_of(place).parameters
    if model.lora is None:
        return FULL_BYTES * parameters
    return parameters * (FOUR_BITS if model.four_bit else NUMBER_BYTES[model.dtype])


def check_device_memory(plan: Plan, available: float, device: str) -> None:
    """Raise before anything is loaded if a training of a plan cannot fit.

    Args:
        plan: The plan.
        available: Bytes of one device, or of what one process may take of it.
        device: Its name, for the message.

    Raises:
        InputError: Naming the run folder, what it needs and what there is.
    """
    for place in plan.shown():
        needed = least_memory(plan, place)
        if needed <= available:
            continue
        what, instead = (
            ("fine-tuning every weight takes", "train an adapter (model.lora)")
            if place.config.model.lora is None
            else ("its weights alone take", "take model.dtype bfloat16 or a smaller model")
        )
        raise InputError(
            f"{folder_name(place.path)}: {what} {needed / 1e9:,.0f} GB, and {device} has "
            f"{available / 1e9:,.0f} GB for a process; {instead}, or train on several devices in a "
            "script with CogCalibTrainer and FSDP2"
        )


def check_devices(plan: Plan, jobs: int, gpus: int) -> None:
    """`check_device_memory` for the GPUs that are visible, shared where there are more processes.

    Raises:
        InputError: As there.
    """
    check_device_memory(plan, memory_of_a_process(jobs, gpus), torch.cuda.get_device_name(0))


def memory_of_a_process(jobs: int, gpus: int) -> float:
    """Bytes that each of some processes may take at least of its GPU, shared or not."""
    share = min(memory_shares(jobs, gpus), default=1.0)
    return share * min(torch.cuda.get_device_properties(each).total_memory for each in range(gpus))
