"""What was measured of a result, as figures with bars. The report itself (`/jobs/N/report`) says more."""

from dataclasses import dataclass

from node.config.settings import ReportSettings
from node.result import Quality

WIDTH, HEIGHT = 320, 64
"""Of a chart, in its own units."""


@dataclass(frozen=True)
class SliceBar:
    """One slice."""

    x: float
    y: float
    width: float
    height: float
    worst: bool
    title: str


@dataclass(frozen=True)
class Figure:
    """One measure, slice by slice."""

    name: str
    meaning: str
    limit: float | None
    worst: float
    worst_slice: int
    """From 1."""
    mean: float
    bars: tuple[SliceBar, ...]
    zero: float
    limits: tuple[float, ...]
    """Where the lines of the threshold are, as far as they are in sight."""

    @property
    def crossed(self) -> bool:
        return self.limit is not None and abs(self.worst) > self.limit


def figures(quality: Quality, settings: ReportSettings) -> list[Figure]:
    """The measures of a result with a value for each slice."""
    measured: list[tuple[str, str, list[float], float | None]] = [
        (
            "K-space inconsistency",
            "How much of what the scanner measured was changed, beyond noise that was removed: 0 is nothing.",
            quality.consistency,
            settings.max_inconsistency,
        ),
        (
            "Intensity drift",
            "Mean intensity over that of the zero-filled target, less 1, beyond noise that was removed.",
            quality.intensity_drift,
            settings.max_intensity_drift,
        ),
        (
            "Seed spread",
            "How much the result depends on the network's noise: 0 is not at all.",
            quality.seed_spread or [],
            settings.max_seed_spread,
        ),
        (
            "Expected error",
            "Mean expected absolute error of the tissue over its mean intensity, as the trust map predicts it.",
            quality.expected_error or [],
            settings.max_expected_error,
        ),
        (
            "Unsure tissue",
            "Share of the tissue whose expected error exceeds a quarter of its own intensity.",
            quality.unsure or [],
            None,
        ),
    ]
    return [_figure(name, meaning, values, limit) for name, meaning, values, limit in measured if values]


def _figure(name: str, meaning: str, values: list[float], limit: float | None) -> Figure:
    worst = max(range(len(values)), key=lambda i: abs(values[i]))
    shown = (
        limit if limit is not None and limit <= 5 * abs(values[worst]) else 0.0
    )  # a far threshold would leave nothing to see of the bars
    negative = min(values) < 0
    top, bottom = max(shown, *values, 0.0), min(0.0, *values, -shown if negative else 0.0)
    scale = (HEIGHT - 4) / ((top - bottom) or 1.0)
    zero = 2 + top * scale
    step = WIDTH / len(values)
    bars = tuple(
        SliceBar(
            x=round(i * step + step * 0.1, 2),
            y=round(zero - max(value, 0.0) * scale, 2),
            width=round(step * 0.8, 2),
            height=round(max(abs(value) * scale, 0.75), 2),
            worst=i == worst,
            title=f"slice {i + 1}: {value:.3g}",
        )
        for i, value in enumerate(values)
    )
    lines = ([shown] + ([-shown] if negative else [])) if shown else []
    return Figure(
        name=name,
        meaning=meaning,
        limit=limit,
        worst=values[worst],
        worst_slice=worst + 1,
        mean=sum(values) / len(values),
        bars=bars,
        zero=round(zero, 2),
        limits=tuple(round(zero - line * scale, 2) for line in lines),
    )
