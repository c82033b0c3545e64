"""The doctor beside a running node, a PACS and the shipped weights."""

import json
from typing import Any

import numpy as np
import pytest

from tests.acceptance.conftest import Orthanc, Site

pytestmark = pytest.mark.acceptance


def examined(site: Site, *options: str, expect: int = 0) -> dict[str, dict[str, Any]]:
    """Its answers, by name."""
    found = json.loads(site.node("doctor", "--json", *options, expect=expect))
    return {answer["name"]: answer for answer in found["checks"]}


def test_everything_is_asked_and_a_result_that_changed_is_noticed(site: Site, pacs: Orthanc) -> None:
    found = examined(site, "--send-test")
    assert [name for name, answer in found.items() if answer["level"] == "fail"] == []
    assert "answers C-ECHO" in found["receiver"]["sentence"]
    assert "answers" in found["page"]["sentence"]
    assert "dB against the withheld truth" in found["golden study"]["sentence"]
    assert "accepted, found by C-FIND; now delete" in found["test series to pacs"]["sentence"]
    (uid,) = json.loads(pacs.get("/instances"))
    tags = json.loads(pacs.get(f"/instances/{uid}/simplified-tags"))
    assert tags["PatientID"] == "DIFFMSR-TEST"
    assert tags["StudyInstanceUID"] in found["test series to pacs"]["sentence"]

    path = site.folder / "data" / "golden.npz"
    with np.load(path) as file:
        kept = dict(file)
    kept["pixels"] = kept["pixels"] + 5
    np.savez(path, **kept)
    found = examined(site, expect=1)
    assert "by up to 5 stored values" in found["golden study"]["sentence"]
    assert "driver" in found["golden study"]["fix"]
