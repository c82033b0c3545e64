"""The one entry: a result and the headers of its sources in, DICOM instances out.

The same result and headers give the same bytes on any day (docs/adr/0002): dates come from the sources, nothing is
stamped with the time of encoding, and identifiers are derived from everything that determines the content.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from pydicom import config as pydicom_config
from pydicom.dataset import Dataset

from node import __version__
from node.archive import Result
from node.config import OutputSettings
from node.deliver.legacy_enhanced import legacy_enhanced_image
from node.deliver.mr import mr_images
from node.deliver.secondary_capture import secondary_captures
from node.deliver.series import DerivedSeries, derived_series
from node.deliver.transfer_syntax import TRANSFER_SYNTAXES, recode


@dataclass(frozen=True)
class Encoded:
    """What is made of a result."""

    instances: list[Dataset]
    """In the order to be sent, in the configured transfer syntax."""
    mends: list[str]
    """What had to be mended or left out of defective sources, with the attribute's name and nothing of its value."""


def encode(
    result: Result,
    headers: Iterable[Dataset],
    settings: OutputSettings,
    series_number: int,
    *,
    salt: str = "",
    software_version: str = __version__,
) -> Encoded:
    """Encode `result` as one derived series of its target's study.

    `headers` are those of the source instances, of target and reference, in any order, with file meta information where
    there is some; pixel data is not looked at. `salt` makes other UIDs, for a rerun that is forced although nothing
    changed. Raises NotFoundError when the header of a source is missing.
    """
    series = derived_series(result, headers, settings, series_number, salt, software_version)
    with pydicom_config.disable_value_validation():  # its log quotes malformed values, which may be patient data
        instances = _images(series)
    syntax = TRANSFER_SYNTAXES[settings.transfer_syntax]
    return Encoded([recode(instance, syntax) for instance in instances], list(dict.fromkeys(series.mends)))


def _images(series: DerivedSeries) -> list[Dataset]:
    match series.settings.sop_class:
        case "mr":
            return mr_images(series)
        case "sc":
            return secondary_captures(series)
        case "legacy_enhanced":
            return [legacy_enhanced_image(series)]
