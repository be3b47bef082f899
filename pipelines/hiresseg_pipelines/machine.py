"""The machine that a run goes on."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import psutil
import torch

from hiresseg.forward import available_cpus


def deciding_machine(device: str) -> dict[str, str]:
    """What of the machine decides bits: the instructions that sums are made with."""
    machine = {"architecture": platform.machine(), "instructions": torch.backends.cpu.get_cpu_capability()}
    if device != "cpu":
        machine["device"] = torch.cuda.get_device_name(device)
    return machine


def describe_machine(device: str) -> dict[str, Any]:
    """What decides bits, and what decides speed: processor, cores that this process may use, memory."""
    return {
        **deciding_machine(device),
        "processor": _processor_name(),
        "cores": available_cpus(),
        "memory_bytes": int(psutil.virtual_memory().total),
    }


def _processor_name() -> str:
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "not known"
