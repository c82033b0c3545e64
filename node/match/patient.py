"""Whether headers are of the same patient: which attributes of the patient record differ, never what they contain.

A PACS supplements records: it adds an issuer, a birth date or a name to what the scanner wrote. A value that only one of two
headers has is therefore no contradiction. Two values that differ are one.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, field
from itertools import pairwise

from node.dicom.attributes import Attributes
from node.match.predicates import expect
from node.verdicts import Predicate

FIRST_YEAR = 1850  # anonymisers and interfaces write birth dates such as 00010101 where they know none


@dataclass(frozen=True)
class PatientRecord:
    """What identifies a patient, normalised so that two spellings of one value are equal; None where the header says
    nothing. Not for display."""

    patient_id: str | None = field(repr=False)
    issuer: str | None = field(repr=False)
    birth_date: str | None = field(repr=False)
    family_name: str | None = field(repr=False)
    given_name: str | None = field(repr=False)

    @property
    def order(self) -> tuple[str, ...]:
        """To sort records by."""
        return tuple(value or "" for value in astuple(self))


def patient_record(a: Attributes) -> PatientRecord:
    family, given, *_ = [*(a.text("PatientName") or "").split("=")[0].split("^"), "", ""]
    return PatientRecord(
        patient_id=_folded(a.text("PatientID")),
        issuer=_folded(a.text("IssuerOfPatientID")),
        birth_date=_date(a.text("PatientBirthDate")),
        family_name=_letters(family),
        given_name=_letters(given),
    )


def one_patient(records: Iterable[PatientRecord]) -> list[Predicate]:
    """The predicates of the records in the slices of one series."""
    known = set(records)
    differ, added = differences(known), additions(known)
    return [
        expect(
            "one patient",
            not differ,
            "All slices of the series are of the same patient.",
            "E_SERIES_PATIENTS",
            f"The slices of the series contradict each other in the patient record ({_listed(differ)}): it was changed "
            "while the series was sent, or slices of two patients share the series. Send the whole series again with one "
            "record.",
            value=_listed(differ) or None,
        ),
        expect(
            "record in every slice",
            bool(differ) or not added,
            "Every slice has the same patient record.",
            "W_PATIENT_RECORD_INCOMPLETE",
            f"Some slices of the series do not have a part of the patient record that others have ({_listed(added)}).",
            value=_listed(added) or None,
        ),
    ]


def same_patient(target: Iterable[PatientRecord], reference: Iterable[PatientRecord]) -> Predicate:
    differ = differences([*target, *reference])
    return expect(
        "same patient",
        not differ,
        "Both series are of the same patient.",
        "E_OTHER_PATIENT",
        f"The two series contradict each other in the patient record ({_listed(differ)}). Have the records corrected in the "
        "PACS, and send both series again.",
        value=_listed(differ) or None,
    )


def differences(records: Iterable[PatientRecord]) -> tuple[str, ...]:
    """The names of the attributes in which any two of the records contradict each other."""
    return tuple(dict.fromkeys(name for name, differ in _compared(set(records)) if differ))


def additions(records: Iterable[PatientRecord]) -> tuple[str, ...]:
    """The names of the attributes that some of the records have and others do not."""
    known = set(records)
    columns = {
        "patient ID": [r.patient_id for r in known],
        "issuer of the patient ID": [r.issuer for r in known],
        "birth date": [r.birth_date for r in known],
        "name": [r.family_name for r in known],
    }
    return tuple(name for name, values in columns.items() if None in values and any(v is not None for v in values))


def _compared(records: set[PatientRecord]) -> Iterator[tuple[str, bool]]:
    yield "patient ID", _several(r.patient_id for r in records)
    yield "issuer of the patient ID", _several(r.issuer for r in records)
    yield "birth date", _several(r.birth_date for r in records)
    yield "name", _several(r.family_name for r in records)
    given = sorted({r.given_name for r in records if r.given_name})
    # An initial stands for the name, and one header may leave out a second given name.
    yield "name", any(not longer.startswith(shorter) for shorter, longer in pairwise(given))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def _several(values: Iterable[str | None]) -> bool:
    return len({value for value in values if value is not None}) > 1


def _folded(text: str | None) -> str | None:
    return None if text is None else " ".join(text.casefold().split()) or None


def _date(text: str | None) -> str | None:
    """YYYYMMDD, also from the form with dots of ACR-NEMA; None for a placeholder."""
    digits = re.sub(r"[.\-/]", "", text or "")
    return digits if re.fullmatch(r"[0-9]{8}", digits) and int(digits[:4]) >= FIRST_YEAR else None


def _letters(name: str) -> str | None:
    """The letters of a name without case, accents and punctuation; None where a character set did not decode."""
    if "\ufffd" in name:
        return None
    plain = unicodedata.normalize("NFKD", name.casefold())
    return "".join(c for c in plain if c.isalnum()) or None
