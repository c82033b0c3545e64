"""DICOMweb, as dicomweb-client asks a running page: what was received and what was derived, and who may read it."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import httpx2
import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.uid import JPEGLSLossless

from node.config.settings import Settings
from node.tracker.audit import Action
from node.tracker.trail import AuditFilter, rows
from node.web.server import WebServer
from tests.web.conftest import PASSWORD, make_site
from tests.web.shelf import AUTH, Shelf, served_shelf


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    with served_shelf(tmp_path_factory.mktemp("shelf")) as served:
        yield served


def test_studies_are_found_by_what_they_have(shelf: Shelf) -> None:
    client = shelf.client()

    def found(**keys: str) -> set[str]:
        answers = client.search_for_studies(search_filters=keys)
        return {str(Dataset.from_json(answer).StudyInstanceUID) for answer in answers}

    everything = {shelf.uid, str(shelf.other.StudyInstanceUID)}
    assert found() == everything
    for keys in (
        {"PatientName": "zzyzx*"}, {"PatientID": "P_77"}, {"PatientID": "P?77"}, {"StudyDate": "20200101-20200131"},
        {"StudyDate": "20200102"}, {"StudyDate": "-20200102"}, {"StudyInstanceUID": str(shelf.other.StudyInstanceUID)},
        {"00100020": "P_77"}, {"PatientName": "Zzyzx^Ä*", "ModalitiesInStudy": "MR"},
    ):  # fmt: skip
        assert found(**keys) == everything - {shelf.uid}, keys
    for keys in (
        {"PatientID": "P%"},
        {"PatientID": "P"},
        {"ModalitiesInStudy": "CT"},
        {"StudyDate": "20200103-20200104"},
    ):
        assert found(**keys) == set(), keys
    assert found(ReferringPhysicianName="nobody") == set()  # which is matched on the header


def test_an_answer_has_what_the_standard_lists_and_what_was_asked_for(shelf: Shelf) -> None:
    client = shelf.client()
    (answer,) = client.search_for_studies(
        search_filters={"StudyInstanceUID": shelf.uid}, fields=["Manufacturer", "00080080"]
    )
    found = Dataset.from_json(answer)
    assert (found.NumberOfStudyRelatedSeries, found.NumberOfStudyRelatedInstances) == (
        3,
        len(shelf.t2) * 2 + len(shelf.t1),
    )
    assert (found.PatientID, found.ModalitiesInStudy) == (shelf.t2[0].PatientID, "MR")
    assert found.RetrieveURL == f"{shelf.root}/studies/{shelf.uid}"
    assert ("Manufacturer" in found) == ("Manufacturer" in shelf.t2[0])
    series = [Dataset.from_json(s) for s in client.search_for_series(shelf.uid)]
    assert {(s.SeriesInstanceUID, s.NumberOfSeriesRelatedInstances) for s in series} == {
        (one[0].SeriesInstanceUID, len(one)) for one in (shelf.t2, shelf.t1, shelf.derived)
    }
    assert "AI SR x4: T2" in {s.SeriesDescription for s in series}
    assert all("PatientName" not in s for s in series)
    instances = client.search_for_instances(shelf.uid, "1.2.3.9", search_filters={"InstanceNumber": "2"})
    (instance,) = [Dataset.from_json(i) for i in instances]
    assert (instance.SOPInstanceUID, instance.Rows, instance.InstanceAvailability) == (
        "1.2.3.9.2", shelf.t2[0].Rows, "ONLINE",
    )  # fmt: skip
    assert len(client.search_for_series(search_filters={"PatientID": "P_77"})) == 1
    assert len(client.search_for_instances(search_filters={"SeriesInstanceUID": "1.2.3.9"})) == 3


def test_pages_follow_each_other_and_warnings_say_what_was_not_done(shelf: Shelf) -> None:
    client = shelf.client()
    one_by_one = [client.search_for_studies(limit=1, offset=offset) for offset in range(3)]
    assert [len(page) for page in one_by_one] == [1, 1, 0]
    assert {page[0]["0020000D"]["Value"][0] for page in one_by_one[:2]} == {
        shelf.uid,
        str(shelf.other.StudyInstanceUID),
    }
    instances = [client.search_for_instances(shelf.uid, limit=4, offset=offset) for offset in (0, 4, 8)]
    assert [len(page) for page in instances] == [4, 4, 1]
    fuzzy = shelf.get("studies?PatientName=zzyx&fuzzymatching=true")
    assert fuzzy.json() == []
    assert "literal matching" in fuzzy.headers["warning"]


def test_metadata_is_complete_and_leaves_long_values_out(shelf: Shelf) -> None:
    client = shelf.client()
    found = {m["00080018"]["Value"][0]: m for m in client.retrieve_study_metadata(shelf.uid)}
    assert len(found) == len(shelf.t2) * 2 + len(shelf.t1)
    first = found[str(shelf.t2[0].SOPInstanceUID)]
    assert first["00280030"]["Value"] == [float(v) for v in shelf.t2[0].PixelSpacing]
    long = first["00091010"]
    assert "InlineBinary" not in long
    (value,) = client.retrieve_bulkdata(long["BulkDataURI"])
    assert value == b"\x07" * 5000
    (frame,) = client.retrieve_bulkdata(first["7FE00010"]["BulkDataURI"])
    assert frame == shelf.t2[0].PixelData
    name = client.retrieve_study_metadata(str(shelf.other.StudyInstanceUID))[0]["00100010"]
    assert name["Value"] == [{"Alphabetic": "Zzyzx^Ärzte"}]


def test_instances_come_as_they_are_stored(shelf: Shelf) -> None:
    client = shelf.client()
    got = client.retrieve_series(shelf.uid, "1.2.3.9")
    assert {d.SOPInstanceUID: d.file_meta.TransferSyntaxUID for d in got} == {
        d.SOPInstanceUID: JPEGLSLossless for d in shelf.derived
    }
    original = {int(image.InstanceNumber): image.pixel_array for image in shelf.t2}
    assert all(np.array_equal(d.pixel_array, original[int(d.InstanceNumber)]) for d in got)
    assert len(client.retrieve_study(shelf.uid)) == 9
    image = shelf.t1[1]
    one = client.retrieve_instance(shelf.uid, str(image.SeriesInstanceUID), str(image.SOPInstanceUID))
    assert one.PixelData == image.PixelData
    alone = shelf.get(shelf.instance(image), "application/dicom")
    assert alone.headers["content-type"] == "application/dicom"
    assert dcmread(BytesIO(alone.content)).SOPInstanceUID == image.SOPInstanceUID


def test_frames_come_in_the_stored_transfer_syntax(shelf: Shelf) -> None:
    client = shelf.client()
    image, derived = shelf.t2[1], shelf.derived[1]
    (frame,) = client.retrieve_instance_frames(shelf.uid, image.SeriesInstanceUID, image.SOPInstanceUID, [1])
    assert frame == image.PixelData
    answer = shelf.get(
        f"{shelf.instance(derived)}/frames/1", "multipart/related; type=application/octet-stream; transfer-syntax=*"
    )
    assert answer.status_code == 200
    assert f"Content-Type: image/jls; transfer-syntax={JPEGLSLossless}".encode() in answer.content
    stream = answer.content.split(b"\r\n\r\n", 1)[1].rsplit(b"\r\n--", 1)[0]
    assert stream[:2] == b"\xff\xd8"
    assert stream in derived.PixelData
    only_raw = 'multipart/related; type="application/octet-stream"'
    assert shelf.get(f"{shelf.instance(derived)}/frames/1", only_raw).status_code == 406


def test_images_are_rendered_for_people(shelf: Shelf) -> None:
    image = shelf.t2[1]
    address = f"{shelf.instance(image)}/rendered?window=100,50"
    png = shelf.get(address, "image/png")
    shown = np.asarray(Image.open(BytesIO(png.content)))
    assert (png.headers["content-type"], shown.shape, shown.dtype) == (
        "image/png",
        (image.Rows, image.Columns),
        np.uint8,
    )
    expected = np.clip((image.pixel_array - 99.5) / 49 + 0.5, 0, 1) * 255
    assert np.abs(shown - expected).max() <= 0.5
    jpeg = shelf.get(f"{shelf.instance(shelf.derived[1])}/frames/1/rendered?viewport=20,20", "image/*")
    assert jpeg.headers["content-type"] == "image/jpeg"
    assert max(Image.open(BytesIO(jpeg.content)).size) == 20


def test_what_cannot_be_answered_has_its_status(shelf: Shelf) -> None:
    image = shelf.instance(shelf.t2[0])
    for path, accept, status in (
        ("studies/1.2.3.4.5", None, 404), (f"studies/{shelf.uid}/series/1.9/metadata", None, 404),
        (f"{image}/frames/2", None, 404), (f"{image}/bulkdata/00100010", None, 404),
        ("studies/not-a-uid", None, 400), ("studies?NoSuchKey=1", None, 400), ("studies?Rows=1", None, 400),
        ("studies?limit=many", None, 400), ("studies?offset=-1", None, 400), (f"{image}/frames/none", None, 400),
        (f"{image}/frames/1,2/rendered", None, 400), (f"{image}/rendered?window=1", None, 400),
        ("studies", "text/csv", 406), (image, "application/zip", 406), (f"{image}/rendered", "video/mp4", 406),
        (image, "multipart/related; type=application/dicom; transfer-syntax=1.2.840.10008.1.2.4.90", 406),
        ("studies/..%2f..%2fetc%2fpasswd/metadata", None, 404),
    ):  # fmt: skip
        assert shelf.get(path, accept).status_code == status, path
    assert httpx2.post(f"{shelf.root}/studies", auth=AUTH).status_code == 405


def test_who_reads_is_asked_for_and_entered(shelf: Shelf) -> None:
    stranger = shelf.get("studies", auth=None)
    assert stranger.status_code == 401
    assert stranger.headers["www-authenticate"].startswith("Basic ")
    assert shelf.get("studies", auth=("anna", "wrong password")).status_code == 401
    assert shelf.get("studies", auth=("otto", PASSWORD)).status_code == 403
    shelf.get(f"studies/{shelf.other.StudyInstanceUID}/metadata")
    shelf.get(f"{shelf.instance(shelf.t2[0])}/frames/1")
    viewed = rows(shelf.site.tracker.database, AuditFilter(action=Action.VIEWED), size=500).rows
    assert {row.actor for row in viewed} == {"anna"}
    of_study = [row.study_uid for row in viewed if row.details["what"] == "images, by DICOMweb"]
    assert sorted(of_study) == sorted({shelf.uid, str(shelf.other.StudyInstanceUID)}), "once, not for each frame"
    assert any(row.details == {"what": "search, by DICOMweb", "answers": 2} for row in viewed)


def test_it_is_off_unless_wanted_and_needs_people_who_log_in(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    server = WebServer(site)
    server.start()
    try:
        assert httpx2.get(f"{server.address}dicom-web/studies", auth=AUTH).status_code == 404
    finally:
        server.stop()
    with pytest.raises(ValueError, match="people have to log in"):
        Settings(web={"dicomweb": True})  # type: ignore[arg-type]
