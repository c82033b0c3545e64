"""Derived instances in files, to be sent."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from node.config.settings import DestinationSettings, OutputSettings, ReportSettings
from node.derived.encode import encode
from node.dicom.transfer_syntax import to_bytes

Start = Callable[..., tuple[DestinationSettings, Path]]
Serve = Callable[..., DestinationSettings]


def encode_to(folder: Path, study: Any, settings: OutputSettings) -> list[Path]:
    paths = []
    for instance in encode(study.result, [*study.target, *study.reference], settings, ReportSettings(), 9005).images:
        paths.append(folder / f"{instance.SOPInstanceUID}.dcm")
        paths[-1].write_bytes(to_bytes(instance))
    return paths
