"""Seconds and memory, by measuring."""

import ctypes
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

Task = Callable[[], object]


def machine(device: str) -> dict[str, Any]:
    """Where the figures come from."""
    name = torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else _processor()
    return {
        "device": name, "threads": torch.get_num_threads(), "torch": torch.__version__, "python": platform.python_version(),
    }  # fmt: skip


def _processor() -> str:
    with suppress(OSError):
        names = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        if names:
            return f"{names[0]}, {len(names)} processors"
    return platform.processor() or platform.machine()


def in_turns(tasks: Mapping[str, Task], rounds: int, device: str) -> dict[str, list[float]]:
    """Seconds of each task, `rounds` times, one after another."""
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            finish(device)
            began = time.perf_counter()
            task()
            finish(device)
            seconds[name].append(time.perf_counter() - began)
    return seconds


def ratio(slow: Sequence[float], fast: Sequence[float]) -> dict[str, float]:
    """How many times faster, of the medians and of the fastest."""
    return {"median": statistics.median(slow) / statistics.median(fast), "min": min(slow) / min(fast)}


def finish(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(task: Task, device: str) -> float | None:
    """MiB above what was held before: of the allocator on a GPU, of the process's resident memory on a CPU under Linux."""
    if torch.device(device).type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        task()
        finish(device)
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    if sys.platform != "linux":
        return None
    with suppress(AttributeError):  # a libc that is not glibc
        ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    before = _resident("VmRSS")
    task()
    return (_resident("VmHWM") - before) / 2**10


def _resident(name: str) -> int:
    """KiB, of the kernel's account of this process."""
    found = re.search(rf"^{name}:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found[1]) if found else 0
