"""What the viewer shows of a result: the target as it was measured, the result, the reference that guided it, and the error
that is expected of each pixel."""

import numpy as np
from numpy.typing import NDArray

from node.archive.layers import Layer, LayerInfo, LayerName, encode_layers
from node.dicom.stored_values import STORED_MAX, intensity_factor, stored_values
from node.infer.engine import SuperResolved

_BRIGHTEST_SHARE = 0.998
"""The window reaches up to the intensity that this share of the pixels stays below: a few bright vessels or fat pixels
would otherwise leave the brain dark."""


def encode_result_layers(seen: SuperResolved) -> bytes:
    """The layers file of a result.

    The two T2 layers share one intensity factor, so that their values can be subtracted. It is that of the derived series,
    whose stored values the super-resolved layer then has, unless the zero-filled image is so much brighter that it would be
    clipped. The same input gives the same bytes.
    """
    from diffmsr.baselines import zero_filled  # imports torch, which takes seconds

    result, target, reference = seen.result, seen.target, seen.reference

    # Slice by slice: the k-space of a whole stack of fine images would take four times its memory.
    filled = np.concatenate([zero_filled(pixels[None], result.scale) for pixels in target.pixels])
    factor = intensity_factor(result.pixels)
    while filled.max() * factor > STORED_MAX:
        factor /= 2
    low, high = _window(result.pixels)
    layers = [
        _layer("zero_filled", filled, factor, (low, high)),
        _layer("super_resolved", result.pixels, factor, (low, high)),
        _layer("reference", reference, intensity_factor(reference), _window(reference)),
    ]
    expected = result.expected_error
    if expected is not None:
        layers.append(_layer("expected_error", expected, intensity_factor(expected), _window(expected)))
    return encode_layers(
        layers,
        result.positions,
        result.orientation,
        result.spacing,
        result.scale,
    )


def _layer(name: LayerName, pixels: NDArray[np.float32], factor: float, window: tuple[float, float]) -> Layer:
    low, high = window
    info = LayerInfo(name=name, slope=1 / factor, center=(low + high) / 2, width=high - low)
    return Layer(info, stored_values(pixels, factor))


def _window(pixels: NDArray[np.float32]) -> tuple[float, float]:
    """(lowest, highest) intensity to show: from 0 up, never empty."""
    high = float(np.quantile(pixels, _BRIGHTEST_SHARE))
    return 0.0, float(np.ceil(high)) if high > 1 else high or 1.0
