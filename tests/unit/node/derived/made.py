"""Derived series of the study fixture, as the node makes them and as a reader finds them."""

from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset

from node.config.settings import OutputSettings, ReportSettings
from node.derived.encode import Encoded
from node.derived.encode import encode as node_encode
from node.dicom.transfer_syntax import to_bytes


def encode(study: Any, settings: OutputSettings | None = None, number: int = 9005, **options: Any) -> list[Dataset]:
    return encoded(study, settings, number, **options).images


def encoded(study: Any, settings: OutputSettings | None = None, number: int = 9005, **options: Any) -> Encoded:
    headers = [*study.target, *study.reference]
    return node_encode(study.result, headers, settings or OutputSettings(), ReportSettings(), number, **options)


def read_back(instances: list[Dataset]) -> list[Dataset]:
    return [pydicom.dcmread(BytesIO(to_bytes(instance))) for instance in instances]


def write(instances: list[Dataset], folder: Path) -> list[Path]:
    paths = [folder / f"{i}.dcm" for i in range(len(instances))]
    for path, instance in zip(paths, instances, strict=True):
        path.write_bytes(to_bytes(instance))
    return paths
