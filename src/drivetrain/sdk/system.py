"""How busy the machine is while a run trains."""

from __future__ import annotations

import shutil
import subprocess

_QUERY = "--query-gpu=utilization.gpu,memory.used,temperature.gpu,power.draw"
_NAMES = ("utilization", "memory_mib", "temperature", "power_w")


def measure() -> dict[str, float]:
    """Percent of CPU and memory, of this process too; each GPU's numbers where nvidia-smi is there."""
    import psutil

    found = {
        "system/cpu": psutil.cpu_percent(),
        "system/memory": psutil.virtual_memory().percent,
        "system/process_memory_mib": psutil.Process().memory_info().rss / 2**20,
    }
    if shutil.which("nvidia-smi"):
        found |= _gpus()
    return found


def _gpus() -> dict[str, float]:
    try:
        command = ["nvidia-smi", _QUERY, "--format=csv,noheader,nounits"]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.SubprocessError):
        return {}
    found: dict[str, float] = {}
    for number, line in enumerate(done.stdout.splitlines()):
        for name, text in zip(_NAMES, line.split(","), strict=False):
            try:
                found[f"system/gpu.{number}.{name}"] = float(text)
            except ValueError:
                continue
    return found
