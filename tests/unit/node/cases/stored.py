"""Studies that make a pair, in every way that files store images: transfer syntaxes, pixel formats, multi-frame."""

from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from tests.unit.node.cases import changes as c
from tests.unit.node.cases import studies as s
from tests.unit.node.cases.case import Case, refused_t2


def _rescaled(ds: Dataset, i: int) -> None:
    """The same real-world values, stored otherwise in every slice."""
    ds.PixelData = (ds.pixel_array.astype(np.uint16) * 2 + i).tobytes()
    ds.RescaleSlope, ds.RescaleIntercept = 0.5, -0.5 * i
    ds.BitsStored, ds.HighBit = 16, 15


def _signed(ds: Dataset, _: int) -> None:
    ds.PixelRepresentation = 1


def _inverted(ds: Dataset, _: int) -> None:
    ds.PixelData = (4095 - ds.pixel_array).astype(np.uint16).tobytes()
    ds.PhotometricInterpretation = "MONOCHROME1"


def _sixteen_bits(ds: Dataset, _: int) -> None:
    ds.PixelData = (ds.pixel_array.astype(np.uint16) * 16).tobytes()
    ds.BitsStored, ds.HighBit, ds.RescaleSlope, ds.RescaleIntercept = 16, 15, 0.0625, 0


def _scaled_by_philips(ds: Dataset, i: int) -> None:
    """Slices on scales of their own: what is stored is the comparable value, times RescaleSlope x scale slope."""
    scale = 1 + i
    ds.PixelData = (ds.pixel_array.astype(np.uint16) * scale).tobytes()
    ds.BitsStored, ds.HighBit, ds.RescaleSlope, ds.RescaleIntercept = 16, 15, 1, 0
    ds.private_block(0x2005, "Philips MR Imaging DD 001", create=True).add_new(0x0E, "FL", float(scale))


def _padded(ds: Dataset, _: int) -> None:
    """Padding where there is nothing: pixels of the padding value count as air."""
    pixels = ds.pixel_array.astype(np.int16)
    pixels[pixels == 0] = -2000
    ds.PixelData, ds.PixelRepresentation = pixels.tobytes(), 1
    ds.BitsStored, ds.HighBit = 16, 15
    ds.add_new("PixelPaddingValue", "SS", -2000)


SYNTAXES = [
    Case("explicit little endian", s.plain),
    Case("implicit little endian", s.converted("dcmconv", "+ti")),
    Case("deflated", s.converted("dcmconv", "+td")),
    Case("explicit big endian", s.converted("dcmconv", "+tb")),
    Case("RLE", s.compressed(RLELossless)),
    Case("JPEG Lossless, first order", s.converted("dcmcjpeg", "+e1")),
    Case("JPEG Lossless, process 14, selection value 6", s.converted("dcmcjpeg", "+el", "+sv", "6")),
    Case("JPEG-LS", s.compressed(JPEGLSLossless)),
    Case("JPEG-LS of dcmtk", s.converted("dcmcjpls", "+el")),
    Case("JPEG 2000", s.compressed(JPEG2000Lossless)),
    Case("HTJ2K", s.high_throughput(HTJ2KLossless, "-reversible", "true")),
    Case("HTJ2K with RPCL", s.high_throughput(HTJ2KLosslessRPCL, "-reversible", "true", "-prog_order", "RPCL")),
]

LOSSY: list[tuple[Any, ...]] = [
    ("JPEG baseline", s.converted("dcmcjpeg", "+eb", bits=8), 16, "W_DERIVED"),
    ("JPEG extended", s.converted("dcmcjpeg", "+ee", bits=8), 16, "W_DERIVED"),
    ("JPEG-LS near lossless", s.compressed(JPEGLSNearLossless, jls_error=2), 2),
    ("JPEG 2000 with loss", s.compressed(JPEG2000, j2k_psnr=[60]), 64),
    ("HTJ2K with loss", s.high_throughput(HTJ2K, "-qstep", "0.001"), 64),
]
SYNTAXES += [Case(name, build, "E_LOSSY", {"E_LOSSY", *more}) for name, build, _, *more in LOSSY]
SYNTAXES += [
    Case(f"{name}, accepted", build, None, {"W_LOSSY", *more}, settings={"lossy": "accept"}, tolerance=tolerance)
    for name, build, tolerance, *more in LOSSY
]

SYNTAXES += [  # the one that nothing with a permissive licence decodes
    Case(
        "JPEG extended, 12 bits",
        s.converted("dcmcjpeg", "+ee"),
        None,
        {"W_LOSSY", "W_DERIVED"},
        "E_PIXELS_UNREADABLE",
        {"lossy": "accept"},
    )
]

PIXELS = [
    Case("rescale that differs from slice to slice", s.same_values(c.each(_rescaled))),
    Case("Philips scale that varies", s.same_values(c.each(_scaled_by_philips))),
    Case("signed without negative values", s.same_values(c.each(_signed))),
    Case("MONOCHROME1", s.same_values(c.each(_inverted))),
    Case("16 bits", s.same_values(c.each(_sixteen_bits))),
    Case("padding", s.same_values(c.each(_padded))),
    Case("negative values", s.t2(RescaleSlope=1, RescaleIntercept=-2000), read="E_PIXELS_NEGATIVE"),
    Case("pixels cut short", s.t2(PixelData=b"\0" * 100), read="E_PIXELS_UNREADABLE"),
    Case("a slope that is no number", s.t2(RescaleSlope="inf", RescaleIntercept=0), read="E_PIXELS_UNREADABLE"),
]

ENHANCED = [
    Case("Enhanced T2, classic T1", s.multiframe(t1=False)),
    Case("Enhanced T2, Enhanced T1", s.multiframe()),
    Case("Enhanced, RLE", s.multiframe(syntax=RLELossless)),
    Case("Enhanced, JPEG-LS", s.multiframe(syntax=JPEGLSLossless)),
    Case("Enhanced, JPEG 2000", s.multiframe(syntax=JPEG2000Lossless)),
    Case("Enhanced, one instance a slice", s.one_frame_each),
    Case("Legacy Converted Enhanced", s.legacy_converted),
    Case("Enhanced dual echo", s.multiframe(c.again(EchoTime="20")), says={"E_CONTRAST_NOT_WANTED"}),
    Case(
        "Enhanced with two time points, one vetoed by the site",
        s.multiframe(c.time_points),
        says={"E_SITE_RULE"},
        settings={
            "rules": [
                {
                    "name": "first only",
                    "when": [{"tag": "TemporalPositionIdentifier", "greater": 1}],
                    "then": {"veto": "Only the first time point is processed."},
                }
            ]
        },
    ),
    Case("a Philips Enhanced T1 guides", s.philips_guides),
    refused_t2(
        "Enhanced, one frame without position",
        "E_SERIES_DAMAGED",
        s.multiframe(spoil=lambda ds: ds.PerFrameFunctionalGroupsSequence[1].pop("PlanePositionSequence")),
        "E_ATTRIBUTES_MISSING",
        "E_MISSING_SLICES",
        "E_TOO_FEW_SLICES",
    ),
    refused_t2("Enhanced with two stacks alike", "E_AMBIGUOUS_STACKS", s.multiframe(c.two_stacks)),
    refused_t2("Enhanced with two time points", "E_AMBIGUOUS_STACKS", s.multiframe(c.time_points)),
    refused_t2(
        "Enhanced without functional groups",
        "E_ENHANCED_NO_FUNCTIONAL_GROUPS",
        s.multiframe(spoil=lambda ds: ds.pop("PerFrameFunctionalGroupsSequence")),
        "E_ATTRIBUTES_MISSING",
        "E_CONTRAST_UNKNOWN",
    ),
]
