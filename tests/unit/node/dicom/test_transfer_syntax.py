"""Derived instances in every lossless transfer syntax."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from node.config.settings import OutputSettings, ReportSettings
from node.derived.encode import encode
from node.dicom.transfer_syntax import TRANSFER_SYNTAXES, recode, to_bytes


@pytest.mark.parametrize("name", TRANSFER_SYNTAXES)
def test_every_transfer_syntax_is_lossless_conformant_and_the_same_each_time(
    name: Any, study: Any, tmp_path: Path, conformance_errors: Callable[[Path], list[str]]
) -> None:
    headers = [*study.target, *study.reference]
    first, second = (
        [
            to_bytes(i)
            for i in encode(study.result, headers, OutputSettings(transfer_syntax=name), ReportSettings(), 9005).images
        ]
        for _ in range(2)
    )
    assert first == second
    for n, content in enumerate(first):
        path = tmp_path / f"{n}.dcm"
        path.write_bytes(content)
        instance = pydicom.dcmread(path)
        assert instance.file_meta.TransferSyntaxUID == TRANSFER_SYNTAXES[name]
        assert np.array_equal(instance.pixel_array, np.rint(study.result.pixels[n]))
        assert instance.LossyImageCompression == "00"
        assert conformance_errors(path) == []


@pytest.mark.parametrize("peer", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("name", TRANSFER_SYNTAXES)
def test_recoding_for_a_peer_changes_nothing_but_the_encoding(name: Any, peer: Any, study: Any) -> None:
    headers = [*study.target, *study.reference]
    settings = OutputSettings(transfer_syntax=name)
    content = to_bytes(encode(study.result, headers, settings, ReportSettings(), 9005).images[0])
    kept = pydicom.dcmread(BytesIO(content))
    sent = pydicom.dcmread(BytesIO(to_bytes(recode(kept, peer))))
    assert sent.file_meta.TransferSyntaxUID == peer
    assert sent.SOPInstanceUID == kept.SOPInstanceUID
    assert np.array_equal(sent.pixel_array, kept.pixel_array)
    assert [e for e in sent if e.keyword != "PixelData"] == [e for e in kept if e.keyword != "PixelData"]


def test_what_has_no_pixels_stays_uncompressed() -> None:
    text = pydicom.Dataset()
    text.SOPClassUID, text.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.88.34", "1.2.3"
    text.file_meta = pydicom.dataset.FileMetaDataset()
    text.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    assert recode(text, TRANSFER_SYNTAXES["jpeg_ls"]).file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert recode(text, TRANSFER_SYNTAXES["implicit"]).file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
