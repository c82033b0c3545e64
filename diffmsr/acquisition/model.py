"""What a scanner did between the object and the stored image, as far as it is known."""

import json
from dataclasses import asdict
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

STRICT = ConfigDict(extra="forbid")

Share = Annotated[float, Field(gt=0, le=1)]
PartialFourier = Annotated[float, Field(gt=0.5, le=1)]
Along = Literal["rows", "columns", "both", "radial"]
Kind = Literal["none", "tukey", "hamming", "fermi"]
End = Literal["first", "last"]


class AcquisitionError(ValueError):
    """A description of an acquisition cannot be used."""


@checked(frozen=True, config=STRICT)
class Filter:
    """A filter that the scanner multiplied the raw data with, over frequencies from 0 to 1, the acquired edge.

    `none` has no effect at any strength. `tukey` falls as a cosine over the last `strength` of the band to 0.
    `hamming` is 1 - strength (1 - cos(pi k)) / 2: 0.92 is the Hamming filter, 1 the Hanning filter. `fermi` is
    1 / (1 + exp((k - FERMI_RADIUS) / strength)).
    """

    kind: Kind = "none"
    strength: Annotated[float, Field(ge=0, le=1)] = 0.0
    along: Along = "radial"
    """`both` is the product of a filter along each axis; `radial` depends on the distance from the centre, in units of
    the acquired extents, and so also weakens the corners."""


FERMI_RADIUS = 0.9
"""Where a Fermi filter falls to a half, as a share of the acquired extent."""


@checked(frozen=True, config=STRICT)
class Acquisition:
    """An acquisition. None means that a fact is unknown. Pairs are (along rows, along columns), as in a shape (h, w)."""

    extent: tuple[Share | None, Share | None] = (None, None)
    """Acquired share of the stored k-space: below 1 the scanner enlarged the image."""
    partial_fourier: tuple[PartialFourier | None, PartialFourier | None] = (None, None)
    """Sampled share of the acquired extent: 1 is all, 0.75 leaves out the last quarter of one side."""
    missing: tuple[End, End] = ("first", "first")
    """Which end of each axis partial Fourier leaves out. A magnitude image does not show it."""
    homodyne: bool | None = None
    """Whether the scanner filled the missing side in by symmetry (homodyne, POCS), and not with zeros."""
    filter: Filter | None = None
    ellipse: bool | None = None
    """Whether only an ellipse inscribed in the acquired extents was sampled."""
    noise: Annotated[float, Field(ge=0)] | None = None
    """Standard deviation of the noise in each channel, a share of a slice's maximum, for a full acquisition of the
    stored matrix without filter. What the scanner leaves out or filters takes its share of the noise with it."""
    coils: Annotated[int, Field(ge=1)] | None = None
    """Receiver coils that are combined as a root sum of squares; more than one raises the floor in air."""
    interpolation: Literal["zero-fill", "cubic"] | None = None
    """How the scanner enlarged the acquired matrix to the stored one."""

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Acquisition":
        """Raises AcquisitionError, in one line."""
        try:
            return _ADAPTER.validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise AcquisitionError(
                f"not an acquisition: {where}: {first['msg']}" if where else str(first["msg"])
            ) from None


_ADAPTER = TypeAdapter(Acquisition)

FULL = Acquisition(
    extent=(1.0, 1.0),
    partial_fourier=(1.0, 1.0),
    homodyne=False,
    filter=Filter(),
    ellipse=False,
    noise=0.0,
    coils=1,
    interpolation="zero-fill",
)
"""All of the stored k-space, without noise: what `clean` means."""
