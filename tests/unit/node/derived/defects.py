"""Headers as real archives have them."""

from pydicom import config
from pydicom.dataset import Dataset


def spoil(header: Dataset) -> None:
    """Defects that scanners, anonymisers and archives are known for."""
    with config.disable_value_validation():
        header.StudyDescription = "S" * 65
        header.SeriesDescription = "D" * 65
        header.ProtocolName = "P" * 70
        header.InstitutionName = "I" * 70
        header.StationName = "N" * 20
        header.PatientSex = "0000"
        header.PixelAspectRatio = [1, 1]
        header.Laterality = "BOTH"
        header.AcquisitionMatrix = [0, 256]
        header.AcquisitionTime = "25:00"
        header.add_new("SliceLocation", "DS", "12.3456789012345678")
        header.SpecificCharacterSet = "ISO_IR 100"
        header.SequenceVariant = "ODD"
        for keyword in (
            "ScanOptions",
            "MRAcquisitionType",
            "EchoTrainLength",
            "StudyID",
            "ReferringPhysicianName",
            "PositionReferenceIndicator",
        ):
            del header[keyword]
