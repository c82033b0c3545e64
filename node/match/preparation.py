"""What the magnetisation goes through before and while it is read out, where this decides the contrast more than the times
do: one question each.

Sources: Ernst and Anderson 1966 (flip angle), Marques et al. 2010 (MP2RAGE), Helms et al. 2008 (multi-parameter mapping).
"""

import math
import re

from node.config.match import ContrastRules
from node.match.images import Physics

ERNST_T1_MS = 1000  # between white matter (800 ms) and grey matter (1300 ms) at 3 T
MOST_ERNST = (
    4  # a spoiled gradient echo is not excited more strongly than this; balanced steady states are (9 and more)
)
INCOHERENT_TR_MS = (
    100  # with a longer TR, transverse magnetisation of tissue has decayed: spoiled or not makes no difference
)
FLOW_MAX_TR_MS = 50

# Names as public headers have them: Siemens *fm2d2r (field map), *fl3d1r_t70 (TOF: r for rephased), *h2d1_205 (HASTE); GE
# ssfse in (0019,109C) and (0019,109E). Not found in a public header: *fi3d1r, the same as TOF of older Siemens protocols. The
# others are trade names of the vendors' sequences, for those who write them there.
_FIELD_MAP = re.compile(r"\bFM[23]D|FIELD_?MAP|B0MAP")
_FLOW = re.compile(r"TOF|\bF[IL][23]D\d*R")
_SINGLE_SHOT = re.compile(r"\bH[23]D|HASTE|SS_?FSE|SS_?H?_?TSE|FASE")


def not_t1(p: Physics, r: ContrastRules) -> str | None:
    """Why a sequence with the times of a T1 shows another contrast; None when nothing in the header says so."""
    if late_inversion(p, r):
        return (
            f"the image is read {p.ti_ms:g} ms after the inversion, when most tissue has recovered (the second image of "
            "MP2RAGE): it is weighted by proton density, not by T1"
        )
    if low_flip(p, r):
        return (
            f"the flip angle of {p.flip_deg:g} degrees is too small for a TR of {p.tr_ms:g} ms: the gradient echo is weighted "
            "by proton density, not by T1"
        )
    if p.magnetization_transfer:
        return "magnetisation transfer changes the contrast between tissues"
    if _FIELD_MAP.search(p.sequence_name):
        return "the sequence maps the magnetic field"
    if flow_weighted(p):
        return "the sequence makes flowing blood bright (time of flight)"
    return None


def inverted(p: Physics) -> bool:
    return p.inversion_recovery or (p.ti_ms or 0) > 0


def late_inversion(p: Physics, r: ContrastRules) -> bool:
    return inverted(p) and p.ti_ms is not None and p.ti_ms > r.inversion_t1_max_ti_ms


def flip_ratio(p: Physics) -> float | None:
    """Flip angle over the Ernst angle, at which a spoiled gradient echo gives most signal. Below it the signal follows proton
    density, above it T1. None when TR or flip angle is unknown."""
    if not p.tr_ms or not p.flip_deg or p.tr_ms < 0:
        return None
    return p.flip_deg / max(math.degrees(math.acos(math.exp(-p.tr_ms / ERNST_T1_MS))), 1e-6)


def low_flip(p: Physics, r: ContrastRules) -> bool:
    """Only without preparation: after an inversion pulse the flip angle matters little."""
    ratio = flip_ratio(p)
    prepared = inverted(p) or "MP" in p.sequence_variant
    return p.gradient_echo and not prepared and ratio is not None and ratio < r.gradient_t1_min_flip_ratio


def spoiled(p: Physics) -> bool:
    """Whether a gradient echo has no coherent steady state (TrueFISP, FIESTA, CISS), which is bright in fluid like T2 however
    short its times."""
    if "SS" not in p.sequence_variant or {"SP", "MP"} & set(p.sequence_variant):
        return True
    ratio = flip_ratio(p)
    unsaid = p.field_echo or (p.tr_ms or 0) >= INCOHERENT_TR_MS
    return unsaid and ratio is not None and ratio <= MOST_ERNST


def flow_weighted(p: Physics) -> bool:
    fast = p.gradient_echo and p.tr_ms is not None and p.tr_ms <= FLOW_MAX_TR_MS and not inverted(p)
    return fast and ("FC" in p.scan_options or bool(_FLOW.search(p.sequence_name)))


def single_shot(p: Physics, r: ContrastRules) -> bool:
    """Whether one excitation reads a whole slice (HASTE, SSFSE). TR is then the time from one slice to the next, and says
    nothing about the contrast."""
    if p.gradient_echo or p.echo_planar or p.three_dimensional:
        return False
    lines, echoes = p.phase_encodings, p.echo_train_length
    long_train = lines is not None and echoes is not None and echoes >= r.single_shot_min_part * lines
    return long_train or bool(_SINGLE_SHOT.search(p.sequence_name))
