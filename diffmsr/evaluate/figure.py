"""A picture of slices and their errors, which show what figures alone do not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from diffmsr.arrays import Magnitudes
from diffmsr.data import DATASETS, DataError
from diffmsr.evaluate.summary import label

PANEL = 256
"""Height and width of an image in the figure, in pixels; larger slices are scaled down."""
GAP = 8
HEADER, FOOTER = 34, 44
ERROR_RANGE = 0.15
"""Error shown in the brightest colour, as a share of the truth's maximum."""
BACKGROUND, INK, FAINT = (18, 18, 20), (236, 236, 236), (150, 150, 156)
COLOURS = np.array([[0, 0, 4], [66, 10, 104], [147, 38, 103], [221, 81, 58], [252, 165, 10], [252, 255, 164]])
"""From no error to the largest: the colour map inferno, by six of its colours."""


@dataclass(frozen=True)
class Example:
    """A slice (h, w), its reference, each method's image of it in the order of the columns, and the scores of those."""

    dataset: str
    subject: str
    index: int
    truth: Magnitudes
    reference: Magnitudes
    images: Mapping[str, Magnitudes]
    scores: Mapping[str, Mapping[str, float]]


def draw(examples: Sequence[Example], target: str, reference: str, path: Path) -> None:
    """Write a PNG: per slice a row of images, and below it their absolute errors. Raises DataError."""
    methods = list(examples[0].images)
    columns = 2 + len(methods)
    row = HEADER + 2 * PANEL + GAP + FOOTER
    sheet = Image.new("RGB", (columns * (PANEL + GAP) + GAP, len(examples) * row), BACKGROUND)
    pen = ImageDraw.Draw(sheet)
    for number, example in enumerate(examples):
        top = number * row
        unit = float(example.truth.max())
        shown = {f"{target}, truth": example.truth, f"{reference}, reference": example.reference}
        for column, (title, image) in enumerate(shown.items()):
            left = GAP + column * (PANEL + GAP)
            _title(pen, left, top, title)
            sheet.paste(_grey(_upright(image, example.dataset), float(image.max()) or 1.0), (left, top + HEADER))
        _caption(pen, GAP, top + HEADER + PANEL + GAP, example)
        _scale(sheet, pen, 2 * GAP + PANEL, top + HEADER + PANEL + GAP)
        for column, name in enumerate(methods, start=2):
            left = GAP + column * (PANEL + GAP)
            image = _upright(example.images[name], example.dataset)
            error = np.abs(image - _upright(example.truth, example.dataset)) / unit
            _title(pen, left, top, label(name))
            sheet.paste(_grey(image, unit), (left, top + HEADER))
            sheet.paste(_fitted(_coloured(error)), (left, top + HEADER + PANEL + GAP))
            score = example.scores[name]
            text = f"{score['psnr']:.2f} dB   SSIM {score['ssim']:.3f}"
            pen.text((left + PANEL / 2, top + row - FOOTER + 6), text, INK, _font(16), anchor="ma")
    try:
        sheet.save(path, "PNG")
    except OSError as error:
        raise DataError(f"cannot write the figure {path}: {error.strerror}") from None


def _upright(image: Magnitudes, dataset: str) -> Magnitudes:
    """As one looks at a head, with its front up."""
    return np.rot90(image, DATASETS[dataset].quarter_turns)


def _grey(image: Magnitudes, unit: float) -> Image.Image:
    return _fitted(Image.fromarray((255 * np.clip(image / unit, 0, 1) ** 0.8).astype(np.uint8)).convert("RGB"))


def _coloured(error: Magnitudes) -> Image.Image:
    """Errors (h, w), as shares of the maximum, in colours."""
    level = np.clip(error / ERROR_RANGE, 0, 1)
    stops = np.linspace(0, 1, len(COLOURS))
    channels = [np.interp(level, stops, COLOURS[:, i]) for i in range(3)]
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


def _fitted(image: Image.Image) -> Image.Image:
    """Scaled to a panel, in its middle."""
    panel = Image.new("RGB", (PANEL, PANEL))
    scale = PANEL / max(image.size)
    size = (round(image.width * scale), round(image.height * scale))
    panel.paste(image.resize(size, Image.Resampling.LANCZOS), ((PANEL - size[0]) // 2, (PANEL - size[1]) // 2))
    return panel


def _title(pen: ImageDraw.ImageDraw, left: float, top: float, text: str) -> None:
    pen.text((left + PANEL / 2, top + HEADER - 8), text, INK, _font(18), anchor="ms")


def _caption(pen: ImageDraw.ImageDraw, left: float, top: float, example: Example) -> None:
    """Which slice this is."""
    for line, (text, colour) in enumerate(((example.subject, INK), (f"slice {example.index}", FAINT))):
        pen.text((left, top + 24 * line), text, colour, _font(16))


def _scale(sheet: Image.Image, pen: ImageDraw.ImageDraw, left: int, top: int) -> None:
    """The scale of the errors' colours."""
    bar = np.tile(np.linspace(0, ERROR_RANGE, PANEL, dtype=np.float32), (14, 1))
    sheet.paste(_coloured(bar), (left, top + 28))
    pen.text((left, top), "absolute error / maximum", FAINT, _font(16))
    pen.text((left, top + 46), "0", FAINT, _font(16))
    pen.text((left + PANEL, top + 46), f"{ERROR_RANGE:.2f}", FAINT, _font(16), anchor="ra")


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
