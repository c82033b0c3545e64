"""The report on a result as one self-contained HTML page for a physicist, without the name of the patient."""

from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from node.derived.findings import RESEARCH_NOTICE, Findings, Grade, Measure
from node.derived.series import DerivedSeries
from node.dicom.attributes import Attributes

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)

_VERDICTS = {
    Grade.MEETS_STANDARD: ("good", "Usable. Every figure is within its threshold, and nothing was unusual."),
    Grade.BELOW_STANDARD: ("fair", "Usable, with warnings. Every figure is within its threshold; read the warnings."),
    Grade.UNUSABLE: ("bad", "Not usable. A threshold was crossed."),
    Grade.NOT_MEASURED: ("fair", "Not measured. The quality of this result is unknown."),
}

_WIDTH, _HEIGHT = 640, 96
"""Size of a chart, in its own units."""


@dataclass(frozen=True)
class Bar:
    """One slice in a chart."""

    x: float
    y: float
    width: float
    height: float
    value: float
    number: int
    worst: bool


@dataclass(frozen=True)
class Chart:
    """The values of a measure, slice by slice, as bars up and down from a line at zero."""

    bars: list[Bar]
    zero: float
    limits: list[float]
    """Where the lines of the threshold are, if they are within the chart."""
    width: int = _WIDTH
    height: int = _HEIGHT


def html_page(series: DerivedSeries, findings: Findings) -> str:
    """The page on a derived series. The same findings give the same page."""
    result = series.result
    tone, verdict = _VERDICTS[findings.grade]
    rows, columns = result.pixels.shape[1:]
    reference = series.references[0][0] if series.references[0] else None
    facts = {
        "Study": series.header.get("StudyInstanceUID", ""),
        "Derived series": _series(series.number, _derived_description(series), series.uid),
        "Target series": _series(
            Attributes(series.header).count("SeriesNumber"), series.description, series.header.get("SeriesInstanceUID", "")
        ),
        "Reference series": "none" if reference is None else _series(
            Attributes(reference).count("SeriesNumber"),
            str(reference.get("SeriesDescription") or ""),
            reference.get("SeriesInstanceUID", ""),
        ),
        "Images": f"{len(result.pixels)} slices of {rows} x {columns} pixels, "
        f"{result.spacing[0]:.4g} x {result.spacing[1]:.4g} mm; {result.scale} times as fine in-plane as acquired",
        "Model": f"DiffMSR {result.model_name} {result.model_version}",
        "Weights (SHA-256)": result.weights_sha256,
        "Stored value": f"source intensity x {series.factor:g}",
        "Software": f"DiffMSR node {series.software_version}",
    }  # fmt: skip
    return _TEMPLATES.get_template("page.html.j2").render(
        research_only=RESEARCH_NOTICE,
        tone=tone,
        verdict=verdict,
        findings=findings,
        facts=facts,
        parameters=sorted(result.parameters.items()),
        per_slice=[(measure, _chart(measure)) for measure in findings.measures if measure.slices],
        single=[measure for measure in findings.measures if measure.slices is None],
    )


def _derived_description(series: DerivedSeries) -> str:
    return series.titled()


def _series(number: int | None, description: str, uid: str) -> str:
    return f"{'' if number is None else f'number {number}, '}{description or 'without description'} ({uid})"


def _chart(measure: Measure) -> Chart:
    values = measure.slices or []
    limit = measure.limit or 0.0
    # A threshold far beyond every value would make the bars too small to see.
    shown = limit if limit <= 5 * abs(measure.worst) else 0.0
    top, bottom = max(shown, *values), min(0.0, *values, *([-shown] if min(values) < 0 else []))
    scale = (_HEIGHT - 4) / ((top - bottom) or 1.0)
    zero = 2 + top * scale
    step = _WIDTH / len(values)
    bars = [
        Bar(
            x=round(n * step + step * 0.1, 2),
            y=round(zero - max(value, 0) * scale, 2),
            width=round(step * 0.8, 2),
            height=round(max(abs(value) * scale, 0.75), 2),
            value=value,
            number=n + 1,
            worst=n == measure.worst_slice,
        )
        for n, value in enumerate(values)
    ]
    lines = [shown] + ([-shown] if min(values) < 0 else []) if shown else []
    return Chart(bars, round(zero, 2), [round(zero - line * scale, 2) for line in lines])
