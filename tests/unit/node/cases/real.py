"""Files of real scanners and of other projects."""

from tests.unit.node.cases import studies as s
from tests.unit.node.cases.case import Case

REAL = [
    Case("GE Signa, T1 MPRAGE", "GE_Signa_T1_MPRAGE", "E_NO_TARGET", {"W_FEWER_THAN_ANNOUNCED"}),
    Case("GE HDxt, T1, de-identified", "GE_HDxt_deidentified_T1_sag", "E_NO_TARGET", {"W_FEWER_THAN_ANNOUNCED"}),
    Case("Siemens Prisma, dual echo", "Siemens_Prisma_PD_T2_dualecho", "E_NO_REFERENCE", {"E_CONTRAST_NOT_WANTED"}),
]
REAL += [
    Case(name, s.packaged(name), "E_TOO_FEW_SLICES",
         {"E_TOO_FEW_SLICES", "W_DERIVED", "W_ACQUIRED_MATRIX_UNKNOWN", "E_TARGET_ALREADY_FINE"})
    for name in (
        "MR_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm", "MR_small_expb.dcm", "MR_small_implicit.dcm",
        "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "MR_small_padded.dcm", "MR_truncated.dcm",
    )
]  # fmt: skip
REAL += [
    Case("examples_overlay.dcm", s.packaged("examples_overlay.dcm"), "E_COMPUTED_IMAGE",
         {"E_COMPUTED_IMAGE", "E_TOO_FEW_SLICES", "W_DERIVED", "E_CONTRAST_NOT_WANTED"}),
    Case("MR-SIEMENS-DICOM-WithOverlays.dcm", s.packaged("MR-SIEMENS-DICOM-WithOverlays.dcm"), "E_COMPUTED_IMAGE",
         {"E_COMPUTED_IMAGE", "E_TOO_FEW_SLICES", "W_DERIVED", "E_CONTRAST_NOT_WANTED"}),
    Case("MR2_UNCR.dcm", s.packaged("MR2_UNCR.dcm"), "E_TOO_FEW_SLICES", {"E_TOO_FEW_SLICES"}),
    Case("MR2_J2KR.dcm", s.packaged("MR2_J2KR.dcm"), "E_TOO_FEW_SLICES", {"E_TOO_FEW_SLICES", "W_DERIVED"}),
    Case("MR2_UNCI.dcm, lossy before", s.packaged("MR2_UNCI.dcm"), "E_TOO_FEW_SLICES", {"E_TOO_FEW_SLICES", "W_DERIVED", "E_LOSSY"}),
    Case("MR2_J2KI.dcm, lossy", s.packaged("MR2_J2KI.dcm"), "E_TOO_FEW_SLICES", {"E_TOO_FEW_SLICES", "W_DERIVED", "E_LOSSY"}),
]  # fmt: skip
REAL += [
    Case(name, s.packaged(name), "E_ENHANCED_NO_FUNCTIONAL_GROUPS", {"E_ENHANCED_NO_FUNCTIONAL_GROUPS", "E_ATTRIBUTES_MISSING"})
    for name in (
        "emri_small.dcm", "emri_small_RLE.dcm", "emri_small_big_endian.dcm", "emri_small_jpeg_2k_lossless.dcm",
        "emri_small_jpeg_ls_lossless.dcm",
    )
]  # fmt: skip
_SIEMENS_DWI = {
    "E_MOSAIC",
    "E_COMPUTED_IMAGE",
    "E_ECHO_PLANAR",
    "E_DESCRIPTION_VETO",
    "E_TOO_FEW_SLICES",
    "E_CONTRAST_NOT_WANTED",
}
REAL += [
    Case("CT_small.dcm", s.packaged("CT_small.dcm"), "E_NOT_MR", {"E_NOT_MR"}),
    Case("eCT_Supplemental.dcm", s.packaged("eCT_Supplemental.dcm"), "E_NOT_MR", {"E_NOT_MR"}),
    Case("test-SR.dcm", s.packaged("test-SR.dcm"), "E_NOT_MR", {"E_NOT_MR"}),
    Case("nibabel 0.dcm", s.packaged("0.dcm"), "E_MOSAIC", _SIEMENS_DWI),
    Case("nibabel 0.dcm and 1.dcm", s.packaged("0.dcm", "1.dcm"), "E_MOSAIC", _SIEMENS_DWI),
    Case("nibabel siemens_dwi_0", s.packaged("siemens_dwi_0.dcm.gz"), "E_MOSAIC", _SIEMENS_DWI),
    Case("nibabel siemens_dwi_1000", s.packaged("siemens_dwi_1000.dcm.gz"), "E_MOSAIC", _SIEMENS_DWI | {"E_DIFFUSION"}),
    Case("nibabel csa_slice_norm, a header only", s.packaged("csa_slice_norm.dcm"), "E_NO_PIXELS",
         {"E_NO_PIXELS", "E_MOSAIC", "E_ECHO_PLANAR", "E_TOO_FEW_SLICES", "E_CONTRAST_NOT_WANTED"}),
    Case("nibabel slicethickness_empty_string", s.packaged("slicethickness_empty_string.dcm"), "E_COMPUTED_IMAGE",
         {"E_COMPUTED_IMAGE", "E_ANGIOGRAPHY", "E_DESCRIPTION_VETO", "E_CONTRAST_UNSUPPORTED", "E_TOO_FEW_SLICES", "W_DERIVED"}),
    Case("nibabel philips_mprage", s.packaged("philips_mprage.dcm.gz"), "E_NO_TARGET"),
]  # fmt: skip
