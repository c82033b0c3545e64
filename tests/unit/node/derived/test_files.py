"""Files of derived instances: what is encoded once for all images of a series gives the bytes that pydicom writes."""

from typing import Any

import pytest

from node.config.settings import OutputSettings
from node.dicom.transfer_syntax import to_bytes
from node.result import Quality
from tests.unit.node.derived.made import encoded


@pytest.mark.parametrize("kind", ["mr", "sc", "legacy_enhanced"])
@pytest.mark.parametrize("syntax", ["explicit", "implicit", "rle"])
def test_each_file_has_the_bytes_that_pydicom_writes(study: Any, kind: Any, syntax: Any) -> None:
    for header in (*study.target, *study.reference):
        header.SpecificCharacterSet = "ISO_IR 100"
        header.PatientName, header.ProtocolName = "Müller^Jörg", "Schädel"
    study.target[1].EchoTime, study.target[2].ProtocolName = "101", "Kopf"  # not all images share everything
    slices = [0.1 * number for number in range(len(study.target))]
    measured = study.with_result(quality=Quality(slices, slices, None, None, True, []))
    output = OutputSettings(sop_class=kind, transfer_syntax=syntax, presentation_state=True)
    made = encoded(measured, output)
    files = dict(made.files())
    assert list(files) == [instance.SOPInstanceUID for instance in made.instances]
    for instance in made.instances:
        assert files[instance.SOPInstanceUID] == to_bytes(instance)
