"""A frame as people see it: rescaled, windowed, as JPEG or PNG (PS3.18 8.3.5)."""

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset
from pydicom.pixels.processing import apply_modality_lut, convert_color_space
from starlette.exceptions import HTTPException

from node.dicom.attributes import Attributes
from node.dicom.pixels import stored_frames

FORMATS = {"image/jpeg": "JPEG", "image/png": "PNG"}


@dataclass(frozen=True)
class Rendering:
    """What a request wants."""

    media_type: str = "image/jpeg"
    quality: int = 90
    viewport: tuple[int, int] | None = None
    """(columns, rows) into which the image must fit."""
    window: tuple[float, float] | None = None
    """(center, width) in the unit of the rescaled values."""


def rendering(media_type: str, query: Mapping[str, str]) -> Rendering:
    """What the query of an address wants. HTTPException 400 when it makes no sense."""
    try:
        quality = int(query.get("quality", 90))
        viewport = window = None
        if "viewport" in query:
            columns, rows = (int(value) for value in query["viewport"].split(",")[:2])
            viewport = columns, rows
        if "window" in query:
            center, width = (float(value) for value in query["window"].split(",")[:2])
            window = center, width
    except ValueError:
        raise HTTPException(400, "quality is a number, viewport COLUMNS,ROWS and window CENTER,WIDTH") from None
    if not 1 <= quality <= 100 or (viewport and not all(1 <= side <= 8192 for side in viewport)):
        raise HTTPException(400, "quality is 1 to 100, and a viewport 1 to 8192 pixels wide and high")
    if window and not window[1] >= 1:
        raise HTTPException(400, "the width of a window is at least 1")
    return Rendering(media_type, quality, viewport, window)


def render(instance: Dataset, number: int, wanted: Rendering) -> bytes:
    """The frame `number`, from 1, as an image file. HTTPException 406 when it has no pixels, or they cannot be decoded."""
    if "PixelData" not in instance:
        raise HTTPException(406, "the instance has no pixels to render")
    try:
        (pixels,) = stored_frames(instance, [number - 1])
        grey = Attributes(instance).code("PhotometricInterpretation")[:1] in (("MONOCHROME1",), ("MONOCHROME2",))
        image = Image.fromarray(_grey(pixels, instance, wanted.window) if grey else _colour(pixels, instance))
    except Exception as error:  # decoders raise nearly anything on damaged pixels
        raise HTTPException(406, f"the pixels cannot be decoded ({type(error).__name__})") from None
    if wanted.viewport is not None:
        scale = min(wanted.viewport[0] / image.width, wanted.viewport[1] / image.height)
        image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    buffer = BytesIO()
    image.save(buffer, FORMATS[wanted.media_type], quality=wanted.quality)
    return buffer.getvalue()


def _grey(pixels: NDArray[Any], instance: Dataset, window: tuple[float, float] | None) -> NDArray[np.uint8]:
    """Linear windowing (PS3.3 C.11.2.1.2): by the window asked for, else that of the instance, else all there is."""
    values = apply_modality_lut(pixels, instance).astype(np.float64)
    a = Attributes(instance)
    center, width = window or (a.number("WindowCenter"), a.number("WindowWidth"))
    if center is None or width is None or width < 1:
        low, high = float(values.min()), float(values.max())
        shown = (values - low) / max(high - low, 1e-9)
    elif width == 1:
        shown = (values > center - 0.5).astype(np.float64)
    else:
        shown = (values - (center - 0.5)) / (width - 1) + 0.5
    if instance.PhotometricInterpretation == "MONOCHROME1":
        shown = 1 - shown
    grey: NDArray[np.uint8] = np.rint(np.clip(shown, 0, 1) * 255).astype(np.uint8)
    return grey


def _colour(pixels: NDArray[Any], instance: Dataset) -> NDArray[np.uint8]:
    space = str(instance.PhotometricInterpretation)
    if space not in ("RGB", "YBR_FULL", "YBR_FULL_422"):
        raise ValueError("colours of another kind")
    rgb: NDArray[np.uint8] = pixels if space == "RGB" else convert_color_space(pixels, space, "RGB")
    return rgb
