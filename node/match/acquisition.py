"""How a stack was acquired, as far as its headers tell, in words for people."""

from collections.abc import Iterator

from node.dicom.acquisition import AcquisitionHeader
from node.match.stacks import Stack
from node.result import AcquisitionFact


def facts_of(stack: Stack) -> tuple[AcquisitionFact, ...]:
    """Every fact that a header could tell; `unknown` where it does not. The infer stage asks the images too."""
    return tuple(_facts(stack.acquisition, (stack.rows, stack.columns)))


def _facts(header: AcquisitionHeader, stored: tuple[int | None, int | None]) -> Iterator[AcquisitionFact]:
    for axis, acquired, of in zip(("rows", "columns"), header.matrix, stored, strict=True):
        yield _fact(f"acquired {axis}", f"{acquired} of {of}" if acquired is not None else None)
    for axis, share in zip(("rows", "columns"), header.partial_fourier, strict=True):
        words = None if share is None else "none" if share == 1 else f"{share:.3g} sampled"
        yield _fact(f"partial Fourier along {axis}", words)
    yield _fact("filter over k-space", header.filter)
    yield _fact("elliptical shutter", None if header.ellipse is None else "yes" if header.ellipse else "no")


def _fact(name: str, value: str | None) -> AcquisitionFact:
    return AcquisitionFact(name, value or "unknown", "unknown" if value is None else "header", None)
