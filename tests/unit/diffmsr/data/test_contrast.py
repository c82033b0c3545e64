"""Contrasts are understood in the spellings that people use, and a data set's own names win."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffmsr.data import DataError, read_slices
from diffmsr.data.contrast import contrast_named, find_contrast
from tests.unit.diffmsr.data.images import write_nifti

SPELLINGS = {
    "T1": ["T1", "t1", "t1w", "T1W", "T1_weighted", "t1-Weighted"],
    "T2": ["T2", "t2w", "T2W", "T2 weighted"],
    "T2-FLAIR": ["T2-FLAIR", "flair", "FLAIR", "t2flair", "T2_FLAIR", "t2 flair", "FLAIR T2", "T2w-FLAIR"],
    "PD": ["PD", "pdw", "proton density", "Proton-Density-Weighted"],
    "PD-FS": ["PD-FS", "pdfs", "FS-PD", "fs_pdw", "PD fatsat", "PD_fat_suppressed"],
    "T2-FS": ["T2-FS", "t2w_fs", "T2 FatSat"],
    "T1-POST": ["T1-POST", "t1post", "T1c", "T1+C", "t1ce", "T1 Gd", "T1w post-contrast"],
}


@pytest.mark.parametrize(("label", "text"), [(label, text) for label, texts in SPELLINGS.items() for text in texts])
def test_usual_spellings(label: str, text: str) -> None:
    assert contrast_named(text) == label


@pytest.mark.parametrize("text", ["SWI", "DWI b1000", "", "T3", "flare", "MPRAGE", "-", "c"])
def test_other_names_stay_as_they_are(text: str) -> None:
    assert contrast_named(text) == text


@given(st.text(max_size=20))
def test_naming_is_stable(text: str) -> None:
    assert contrast_named(contrast_named(text)) == contrast_named(text)


def test_a_data_sets_own_name_wins() -> None:
    assert find_contrast("flair", ["FLAIR", "T1"]) == "FLAIR"
    assert find_contrast("T2", ["T1", "T2", "T2W"]) == "T2"
    assert find_contrast("T1w", ["T1", "T2"]) == "T1"
    assert find_contrast("pd", ["T1", "T2"]) == "PD"


def test_files_named_in_other_spellings_are_a_usual_pair(tmp_path: Path) -> None:
    for name in ("t1w", "T2_FLAIR"):
        write_nifti(tmp_path / "patient" / f"{name}.nii.gz", np.ones((20, 20, 2)))
    assert set(read_slices("folder", tmp_path)[0].images) == {"T1", "T2-FLAIR"}
    write_nifti(tmp_path / "patient" / "FLAIR.nii.gz", np.ones((20, 20, 2)))
    with pytest.raises(DataError, match=r"FLAIR\.nii\.gz and T2_FLAIR\.nii\.gz are both T2-FLAIR"):
        read_slices("folder", tmp_path)
