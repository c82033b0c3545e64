"""What words and values of a header say about the contrast agent, the reconstruction and the patient."""

from typing import Any

import pytest
from pydicom import Dataset

from node.dicom.attributes import Attributes
from node.match.agent import agent_in, agent_of
from node.match.patient import additions, differences, patient_record
from node.match.reconstruction import network_of


@pytest.mark.parametrize(
    "description",
    ["t1_se_tra_KM", "T1 +C", "T1+C", "AX T1 POST", "t1 mprage post gd", "T1 Gd", "nach KM", "T1 C+", "t1_ce_fs", "T1 NON FS POST GAD",
     "3D T1 +KM", "T1 POST-CONTRAST", "t1 dotarem"],
)  # fmt: skip
def test_an_agent_is_named(description: str) -> None:
    assert agent_in(description)


@pytest.mark.parametrize(
    "description",
    ["t1_se_tra", "T1 pre GD", "T1 ohne KM", "T1 without contrast", "t1 nativ", "T1 -C", "posterior fossa T1", "T1 post op",
     "t1_pre", "T1 non-contrast", "gdx", "cell", ""],
)  # fmt: skip
def test_no_agent_is_named(description: str) -> None:
    assert agent_in(description) is None


@pytest.mark.parametrize(("value", "given"), [
    ("Gadovist", True), ("Y", True), ("0.1 mmol/kg Gd", True), ("NONE", False), ("No contrast", False), ("ohne", False),
    ("ANONYMIZED", False), ("--", False), ("", False), ("0", False),
])  # fmt: skip
def test_the_field_of_the_agent(value: str, given: bool) -> None:
    assert bool(agent_of(header(ContrastBolusAgent=value))) == given


NETWORKS: list[tuple[str | None, dict[str, Any]]] = [
    ("Deep Resolve", {"ImageType": ["ORIGINAL", "PRIMARY", "M", "NORM", "DRS", "DRB"]}),
    ("Deep Resolve", {"ImageType": ["ORIGINAL", "PRIMARY", "M", "DRG", "NORM"]}),
    ("SmartSpeed", {"SeriesDescription": "T2W_TSE SmartSpeed"}),
    ("PIQE", {"SeriesDescription": "T2 PIQE"}),
    ("AIR Recon DL", {"SeriesDescription": "Ax T2 AIR Recon DL"}),
    (None, {"ImageType": ["ORIGINAL", "PRIMARY", "M", "NORM", "DIS2D"], "SeriesDescription": "t2_tse fair airway"}),
]


@pytest.mark.parametrize(("network", "values"), NETWORKS)
def test_networks_are_named(network: str | None, values: dict[str, Any]) -> None:
    assert network_of(header(**values)) == network


@pytest.mark.parametrize(("content", "network"), [
    (["0.75", "High"], "AIR Recon DL"), (["0.3", "Low"], "AIR Recon DL"), (["0", "Off"], None), ("", None),
])  # fmt: skip
def test_air_recon_dl_is_a_private_element(content: Any, network: str | None) -> None:
    a = header()
    a.dataset.private_block(0x0043, "GEMS_PARM_01", create=True).add_new(0xCA, "LO", content)
    assert network_of(Attributes(a.dataset)) == network


def test_deep_resolve_of_an_enhanced_image_is_a_private_element() -> None:
    a, frame = header(ImageType=["ORIGINAL", "PRIMARY", "M", "NONE"]), Dataset()
    frame.private_block(0x0021, "SIEMENS MR SDI 02", create=True).add_new(
        0x75, "CS", ["ORIGINAL", "PRIMARY", "M", "DRB"]
    )
    a.dataset.private_block(0x0021, "SIEMENS MR SDI 02", create=True).add_new(0xFE, "SQ", [frame])
    assert network_of(Attributes(a.dataset)) == "Deep Resolve"


PATIENT = {"PatientID": "4711", "PatientName": "Muster^Erika", "PatientBirthDate": "19700101", "IssuerOfPatientID": "A"}


@pytest.mark.parametrize(("other", "differ", "added"), [
    ({}, (), ()),
    ({"PatientID": " 4711 "}, (), ()),
    ({"PatientID": "4712"}, ("patient ID",), ()),
    ({"IssuerOfPatientID": ""}, (), ("issuer of the patient ID",)),
    ({"IssuerOfPatientID": "B"}, ("issuer of the patient ID",), ()),
    ({"PatientBirthDate": "1970.01.01"}, (), ()),
    ({"PatientBirthDate": "00010101"}, (), ("birth date",)),
    ({"PatientBirthDate": "19700102", "PatientID": "1"}, ("patient ID", "birth date"), ()),
    ({"PatientName": "MUSTER^ERIKA^^^"}, (), ()),
    ({"PatientName": "Muster^E"}, (), ()),
    ({"PatientName": "Müster^Erika"}, (), ()),
    ({"PatientName": "Muster^Erna"}, ("name",), ()),
    ({"PatientName": "Muster"}, (), ()),
    ({"PatientName": ""}, (), ("name",)),
])  # fmt: skip
def test_records_of_patients(other: dict[str, str], differ: tuple[str, ...], added: tuple[str, ...]) -> None:
    records = [patient_record(header(**values)) for values in (PATIENT, PATIENT | other)]
    assert (differences(records), additions(records)) == (differ, added)
    assert "Muster" not in repr(records), "a record is not for display"


def header(**values: Any) -> Attributes:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return Attributes(dataset)
