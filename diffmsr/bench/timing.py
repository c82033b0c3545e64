"""Seconds and memory, by measuring."""

import ctypes
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from diffmsr.progress import followed

Task = Callable[[], object]


def machine(device: str) -> dict[str, Any]:
    """The machine that the figures come from."""
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


@dataclass(frozen=True)
class Times:
    """Seconds of one task in each round: by the clock, and processor time of all threads of this process."""

    clock: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    def least(self, device: str) -> float:
        """Smallest number of seconds that the device was busy. On a CPU this is the processor time of all threads, which
        other programs hardly change."""
        return min(self.clock if torch.device(device).type == "cuda" else self.processor)

    def over(self, other: "Times") -> dict[str, float]:
        """How many times longer than the other: by the medians, by the fastest rounds, and by the smallest processor
        time, which other processes on the machine disturb least."""
        return {
            "median": statistics.median(self.clock) / statistics.median(other.clock),
            "min": min(self.clock) / min(other.clock),
            "processor": min(self.processor) / min(other.processor),
        }


def in_turns(tasks: Mapping[str, Task], rounds: int, device: str, what: str) -> dict[str, Times]:
    """Times of each task in `rounds` rounds, in each of which every task runs once. `what` stands beside the bar."""
    times = {name: Times() for name in tasks}
    for name in followed([*tasks] * rounds, what, between=True):
        finish(device)
        began, used = time.perf_counter(), time.process_time()
        tasks[name]()
        finish(device)
        times[name].clock.append(time.perf_counter() - began)
        times[name].processor.append(time.process_time() - used)
    return times


def finish(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(task: Task, device: str) -> float | None:
    """Peak MiB above the memory held before: of the allocator on a GPU, of the resident memory on a CPU under Linux."""
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
    """A size of this process in KiB, from the kernel."""
    found = re.search(rf"^{name}:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found[1]) if found else 0
