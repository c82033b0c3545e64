"""Backward: what a stack of stored images shows of its acquisition, with the facts of its header as prior knowledge."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from diffmsr.acquisition.air import LIKELY, air_noise
from diffmsr.acquisition.evidence import FILTERS, FRACTIONS, NARROWEST, axis_evidence, diagonal_evidence
from diffmsr.acquisition.model import Acquisition, Along, Filter
from diffmsr.acquisition.spectrum import Floats, axis_profile, diagonal_profile, mean_energy
from diffmsr.acquisition.transfer import acquired_matrix, filter_weights, kept

SURE = 0.95
"""Posterior probability above which the spectrum decides, where the header is silent or says otherwise."""
AGAINST_HEADER = 0.999
"""Posterior probability above which the spectrum decides about an extent or a fraction that the header denies."""
AMBIGUOUS = 0.7
"""Below this, an extent that only the spectrum shows cannot be told apart from partial Fourier, or from a filter along its
axis."""
LIKE_A_HEAD = 2.2
"""Squared distance per bin above which a spectrum is not that of a head, and nothing but noise is concluded. It was at most 0.94 in
57 stacks of 13 heads, and at least 2.4 in those of the ACR phantom on three scanners, which showed false edges."""
ENOUGH = 48
"""Smallest number of rows and of columns for which the spectrum is used. The model of spectra comes from stacks of 60 and
more; with fewer there are too few frequencies to tell an edge from anatomy."""
HEADER = 0.9
"""Prior probability of what a header says."""
SAME_EXTENT = 0.04
"""Extents that differ by less count as equal."""
WHOLE = 0.96
"""An extent above this that only the spectrum shows is ignored: cropping would gain little."""
CANDIDATES = 64
"""Extents that are tried along an axis."""

Source = Literal["header", "spectrum", "both", "unknown"]


@dataclass(frozen=True)
class Estimate:
    """An acquisition, as far as header and spectrum give it. `confidence` and `source` have one entry for each fact: `extent
    rows`, `extent columns`, `partial Fourier rows`, `partial Fourier columns`, `filter`, `ellipse`, `noise`."""

    acquisition: Acquisition
    confidence: Mapping[str, float] = field(default_factory=dict)
    source: Mapping[str, Source] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Axis:
    """The posterior of one axis, without its filter: log weights (counts, fractions, filters)."""

    name: str
    stored: int
    counts: tuple[int, ...]
    weights: Floats
    misfit: float


def estimate(stack: NDArray[np.float32], header: Acquisition = Acquisition()) -> Estimate:
    """The acquisition of magnitudes (n, h, w), one stack of one series. A fact that neither header nor spectrum gives
    stays None. Raises ValueError for a stack that is not of finite images of at least 16 pixels a side."""
    if stack.ndim != 3 or min(stack.shape[1:]) < 16 or not np.isfinite(stack).all():
        raise ValueError(f"a stack must be finite and (n, h, w), of at least 16 pixels a side, not {stack.shape}")
    if not stack.any() or min(stack.shape[1:]) < ENOUGH:
        return Estimate(header, source=_sources_of(header))
    energy = mean_energy(stack)
    axes = [_axis(energy, axis, header) for axis in (0, 1)]
    if max(axis.misfit for axis in axes) > LIKE_A_HEAD:
        noisy, sure_of_noise = _with_noise(header, stack)
        return Estimate(
            noisy, {"noise": sure_of_noise}, _sources_of(header) | {"noise": _source_of_noise(header, sure_of_noise)}
        )
    applied, sure_of_filter = _common_filter(axes, header)
    found = [_of_axis(axis, applied, header, i) for i, axis in enumerate(axes)]
    if header.filter is None and any(
        of.ambiguous and applied.along == axis.name for of, axis in zip(found, axes, strict=True)
    ):
        sure_of_filter = 0.0
    acquisition = replace(
        header,
        extent=(found[0].extent, found[1].extent),
        partial_fourier=(found[0].fraction, found[1].fraction),
        homodyne=_homodyne(header, found),
        filter=applied if sure_of_filter >= SURE else header.filter,
    )
    acquisition, sure_of_ellipse = _corners(acquisition, energy, header)
    acquisition, sure_of_noise = _with_noise(acquisition, stack)
    confidence = {"filter": sure_of_filter, "ellipse": sure_of_ellipse, "noise": sure_of_noise}
    source: dict[str, Source] = {
        "filter": _source(
            header.filter is not None
            and acquisition.filter is not None
            and header.filter.kind == acquisition.filter.kind,
            sure_of_filter >= SURE,
        ),
        "ellipse": _source(header.ellipse is not None, sure_of_ellipse >= SURE),
        "noise": _source_of_noise(header, sure_of_noise),
    }
    for of in found:
        confidence |= of.confidence
        source |= of.source
    warnings = (*(line for of in found for line in of.warnings), *_filter_warnings(header, acquisition))
    return Estimate(acquisition, confidence, source, warnings)


def _axis(energy: Floats, axis: int, header: Acquisition) -> _Axis:
    stored = energy.shape[axis]
    said, other = header.extent[axis], header.extent[1 - axis]
    counts = _counts(stored, said)
    k, log_energy = axis_profile(energy, axis, other or 1.0)
    evidence, misfit = axis_evidence(k, log_energy, stored, counts)
    weights = np.logaddexp.reduce(evidence, axis=3)
    weights += _log_extent_prior(counts, stored, said)[:, None, None]
    weights += _log_fraction_prior(header, axis)[None, :, None]
    return _Axis(("rows", "columns")[axis], stored, counts, weights, misfit)


def _counts(stored: int, said: float | None) -> tuple[int, ...]:
    step = max(1, round(stored * (1 - NARROWEST) / CANDIDATES))
    counts = set(range(stored, round(NARROWEST * stored) - 1, -step))
    if said is not None:
        counts.add(min(stored, max(2, round(said * stored))))
    return tuple(sorted(counts, reverse=True))


def _log_extent_prior(counts: tuple[int, ...], stored: int, said: float | None) -> Floats:
    prior = np.full(len(counts), 0.3 / len(counts))
    prior[0] = 0.7
    if said is not None:
        near = np.array([abs(c / stored - said) * stored <= 0.5 + 1e-9 for c in counts])
        prior = prior * (1 - HEADER)
        prior[near] += HEADER / max(1, near.sum())
    return np.asarray(np.log(prior))


def _log_fraction_prior(header: Acquisition, axis: int) -> Floats:
    """A header that says partial Fourier does not say whether the missing side was filled in."""
    said = header.partial_fourier[axis]
    prior = np.array([0.7] + [0.1] * (len(FRACTIONS) - 1))
    if said is not None:
        zero_filled = 0.0 if said == 1 or header.homodyne else (1.0 if header.homodyne is False else 0.5)
        prior = prior * (1 - HEADER)
        prior[int(np.argmin(np.abs(np.array(FRACTIONS) - said)))] += HEADER * zero_filled
        prior[0] += HEADER * (1 - zero_filled)
    return np.asarray(np.log(prior))


def _common_filter(axes: list[_Axis], header: Acquisition) -> tuple[Filter, float]:
    """The filter along both axes, or one of them, that explains them best, and its posterior probability.

    A neighbour in strength is the same filter in practice, so the probability is that of there being one.
    """
    rows, columns = (np.logaddexp.reduce(axis.weights, axis=(0, 1)) for axis in axes)
    n = len(FILTERS) - 1
    doubt = 1.0 if header.filter is None else 1 - HEADER
    log_prior_none, log_prior_both, log_prior_one = (
        np.log(0.5 * doubt),
        np.log(0.4 * doubt / n),
        np.log(0.05 * doubt / n),
    )
    prior_both = np.full(n, log_prior_both)
    if header.filter is not None and header.filter.kind == "none":
        log_prior_none = np.log(0.5 * doubt + HEADER)
    elif header.filter is not None:
        prior_both[_nearest(header.filter) - 1] = np.log(0.4 * doubt / n + HEADER)
    none = rows[0] + columns[0] + log_prior_none
    tables: dict[Along, Floats] = {
        "both": rows[1:] + columns[1:] + prior_both,
        "rows": rows[1:] + columns[0] + log_prior_one,
        "columns": rows[0] + columns[1:] + log_prior_one,
    }
    total = np.logaddexp.reduce([none, *(np.logaddexp.reduce(table) for table in tables.values())])
    along = max(tables, key=lambda name: tables[name].max())
    best = FILTERS[1 + int(tables[along].argmax())]
    without = float(np.exp(none - total))
    if without >= 0.5:
        return Filter(), without
    return replace(best, along="radial" if along == "both" else along), 1 - without


@dataclass(frozen=True)
class _Found:
    extent: float | None
    fraction: float | None
    ambiguous: bool
    """Whether an edge, a filter along the axis and partial Fourier cannot be told apart."""
    zero_filled: bool
    confidence: Mapping[str, float]
    source: Mapping[str, Source]
    warnings: tuple[str, ...]


def _of_axis(axis: _Axis, applied: Filter, header: Acquisition, number: int) -> _Found:
    """Extent and partial Fourier of an axis, given the filter."""
    other = "columns" if axis.name == "rows" else "rows"
    weights = axis.weights[:, :, 0 if applied.along == other or applied not in _ALONG_BOTH else _index(applied)]
    posterior = np.exp(weights - np.logaddexp.reduce(weights, axis=None))
    extents = np.array(axis.counts) / axis.stored
    of_extent, of_fraction = posterior.sum(axis=1), posterior.sum(axis=0)
    said, said_fraction = header.extent[number], header.partial_fourier[number]

    best = float(extents[int(of_extent.argmax())])
    near = np.abs(extents - best) < SAME_EXTENT
    sure = float(of_extent[near].sum())
    warnings: list[str] = []
    ambiguous = False
    if said is not None and (abs(best - said) < SAME_EXTENT or sure < AGAINST_HEADER):
        extent: float | None = said
    elif said is None and best > WHOLE:
        extent = 1.0 if float(of_extent[extents > WHOLE].sum()) >= 0.5 else None
    else:
        extent = best if sure >= SURE else None
        ambiguous = said is None and best < AMBIGUOUS
        if said is not None:
            warnings.append(
                f"the header says that {said:.0%} of the k-space along {axis.name} was acquired, the images "
                f"show {best:.0%}; the value of the images is used"
            )
    seen = FRACTIONS[int(of_fraction.argmax())]
    sure_of_fraction = float(of_fraction.max())
    fraction = said_fraction
    enough = SURE if said_fraction is None else AGAINST_HEADER
    if ambiguous:
        sure_of_fraction = 0.0
    if seen < 1 and sure_of_fraction >= enough and (said_fraction is None or abs(seen - said_fraction) > 0.07):
        fraction = seen
        if said_fraction is not None:
            warnings.append(
                f"the header says that {said_fraction:.3g} of the k-space along {axis.name} was sampled, the "
                f"images show {seen:.3g}; the value of the images is used"
            )
    elif said_fraction is None and seen == 1 and sure_of_fraction >= SURE:
        fraction = 1.0
    names = f"extent {axis.name}", f"partial Fourier {axis.name}"
    return _Found(
        extent,
        fraction,
        ambiguous,
        seen < 1 and sure_of_fraction >= 0.5,
        {names[0]: sure, names[1]: sure_of_fraction},
        {
            names[0]: _source(
                said is not None and extent == said, extent is not None and abs(best - extent) < SAME_EXTENT
            ),
            names[1]: _source(said_fraction is not None and fraction == said_fraction, fraction is not None),
        },
        tuple(warnings),
    )


_ALONG_BOTH = frozenset(replace(f, along=along) for f in FILTERS for along in ("radial", "both", "rows", "columns"))


def _index(applied: Filter) -> int:
    return FILTERS.index(Filter(applied.kind, applied.strength))


def _nearest(said: Filter) -> int:
    """Index of the candidate that is most like a filter."""
    alike = [i for i, f in enumerate(FILTERS) if f.kind == said.kind]
    return min(alike, key=lambda i: abs(FILTERS[i].strength - said.strength))


def _filter_warnings(header: Acquisition, found: Acquisition) -> tuple[str, ...]:
    said, seen = header.filter, found.filter
    if said is None or seen is None or said.kind == seen.kind:
        return ()
    return (f"the header says {_named(said)} over k-space, the images show {_named(seen)}; that of the images is used",)


def _named(applied: Filter) -> str:
    return "no filter" if applied.kind == "none" else f"a {applied.kind} filter"


def _homodyne(header: Acquisition, found: list[_Found]) -> bool | None:
    """Whether the scanner filled in partial Fourier: the header names it, and the images do not show its loss."""
    if header.homodyne is not None:
        return header.homodyne
    partial = [of for of in found if of.fraction is not None and of.fraction < 1]
    if not partial:
        return None
    return not any(of.zero_filled for of in partial)


def _corners(acquisition: Acquisition, energy: Floats, header: Acquisition) -> tuple[Acquisition, float]:
    """The acquisition with its ellipse, and whether its filter is radial or a product, as far as the corners show it."""
    rows, columns = acquired_matrix(acquisition, *energy.shape)
    applied = acquisition.filter or Filter()
    if applied.along in ("rows", "columns"):
        applied = Filter()
    zero_filled = [1.0 if acquisition.homodyne or f is None else f for f in acquisition.partial_fourier]
    radius, log_energy = diagonal_profile(energy, (rows, columns), max(16, min(rows, columns) // 2))
    table = diagonal_evidence(radius, log_energy, applied, min(zero_filled))
    posterior = np.exp(table - np.logaddexp.reduce(table, axis=None))
    with_ellipse = float(posterior[0].sum())
    sure = max(with_ellipse, 1 - with_ellipse)
    if applied.kind != "none":
        along: Literal["radial", "both"] = "radial" if posterior[:, 0].sum() >= 0.5 else "both"
        acquisition = replace(acquisition, filter=replace(applied, along=along))
    if header.ellipse is None and sure >= SURE:
        acquisition = replace(acquisition, ellipse=with_ellipse > 0.5)
    return acquisition, sure


def _with_noise(acquisition: Acquisition, stack: NDArray[np.float32]) -> tuple[Acquisition, float]:
    """The acquisition with its noise and coils from the air, the noise as it was before k-space was weighed."""
    air = air_noise(stack)
    if air is None or acquisition.noise is not None or not air.is_noise:
        return acquisition, 0.0 if air is None else air.confidence
    weights = kept(acquisition, *stack.shape[1:]) * filter_weights(acquisition, *stack.shape[1:])
    passed = float(weights.square().mean().sqrt())
    largest = float(np.median(stack.max(axis=(1, 2))))
    coils = acquisition.coils if acquisition.coils is not None else air.coils
    return replace(
        acquisition, noise=air.deviation / max(passed, 1e-3) / max(largest, 1e-12), coils=coils
    ), air.confidence


def _source_of_noise(header: Acquisition, sure: float) -> Source:
    return _source(header.noise is not None, sure >= LIKELY)


def _sources_of(header: Acquisition) -> dict[str, Source]:
    """The source of every fact, when the spectrum shows nothing."""
    known = {
        "extent rows": header.extent[0],
        "extent columns": header.extent[1],
        "partial Fourier rows": header.partial_fourier[0],
        "partial Fourier columns": header.partial_fourier[1],
        "filter": header.filter,
        "ellipse": header.ellipse,
        "noise": header.noise,
    }
    return {fact: _source(value is not None, False) for fact, value in known.items()}


def _source(from_header: bool, from_spectrum: bool) -> Source:
    if from_header:
        return "both" if from_spectrum else "header"
    return "spectrum" if from_spectrum else "unknown"
