"""Which network of the scanner's vendor took part in the reconstruction, as far as headers say so.

Siemens Deep Resolve is a value of ImageType: DRG (Gain), DRB (Boost), DRS (Sharp); Enhanced images have these values in the
private element (0021,1175). GE AIR Recon DL is the private element (0043,10CA), which holds the strength and its name.
Other vendors document no attribute: their names are found in ImageType, in the sequence name and in the descriptions.
"""

import re

from pydicom.tag import Tag

from node.dicom.attributes import Attributes

_DEEP_RESOLVE = frozenset({"DRG", "DRB", "DRS", "DRSB"})
_IMAGE_TYPE_4MF = (Tag(0x0021, 0x1175), "SIEMENS MR SDI 02")
_SIEMENS_FRAME = (0x0021, "SIEMENS MR SDI 02", 0xFE)
"""As a MAGNETOM Sola with XA has them in each frame."""
_AIR_RECON_DL = (Tag(0x0043, 0x10CA), "GEMS_PARM_01")

_NAMES = {
    "Deep Resolve": r"deep[\s_\-]*resolve",
    "AIR Recon DL": r"air[\s_\-]*recon([\s_\-]*dl)?|air[\s_\-]*dl",
    "SmartSpeed": r"smart[\s_\-]*speed([\s_\-]*(ai|precise))?|cs[\s_\-]?ai",
    "PIQE": r"piqe",
    "AiCE": r"aice",
    "uAI": r"deep[\s_\-]*recon|uai(fi)?([\s_\-]*acs)?",
    "SubtleMR": r"subtle(mr|hd)?",
}
_TEXTS = ("SeriesDescription", "ProtocolName", "SequenceName", "ImageComments", "DerivationDescription")


def network_of(a: Attributes) -> str | None:
    """The name of the network; None where nothing in the header names one."""
    if _DEEP_RESOLVE & set(image_type(a)):
        return "Deep Resolve"
    strength, *level = [*a.values_at(*_AIR_RECON_DL), ""]
    if strength.lower() not in {"", "0", "0.0", "off", "none", "0.00"} and (level or [""])[0].lower() != "off":
        return "AIR Recon DL"
    said = [text for keyword in _TEXTS for text in a.texts(keyword)] + list(a.code("ImageType"))
    for name, pattern in _NAMES.items():
        words = re.compile(rf"(?<![^\W_])({pattern})(?![^\W_])", re.IGNORECASE)
        if any(words.search(text) for text in said):
            return name
    return None


def image_type(a: Attributes) -> tuple[str, ...]:
    """ImageType, and what else it contains in the classic images of the same scanner: Enhanced frames of Siemens keep that in
    a private element, on the frame or in a private macro."""
    groups = [a, *a.private_items(*_SIEMENS_FRAME)]
    classic = [value.upper() for group in groups for value in group.values_at(*_IMAGE_TYPE_4MF)]
    known = a.code("ImageType")
    return (*known, *dict.fromkeys(value for value in classic if known and value not in known))
