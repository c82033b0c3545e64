"""The in-plane displacement of a reference from its target that remains after the scanner's coordinates: estimated and
judged.

The patient may move between two series although they share a frame of reference. One rigid in-plane motion (two shifts
and a rotation) is estimated for the whole stack by the mutual information of Mattes et al. (2003), which only requires
that equal tissues look alike within each contrast, not across contrasts.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray

from node.config.settings import RegistrationSettings
from node.errors import RefusedError
from node.infer.motion import Motion
from node.infer.volume import Volume
from node.result import Registration

Images = NDArray[np.float32]

_SAMPLES = 30_000
"""Samples of the metric. More samples change the estimate on open_ms by less than 0.02 mm and 0.03 degrees."""
_BINS = 32
_HEAD = 0.1
"""Fraction of the brightest smoothed pixels. Darker pixels are air, where only ringing could be matched."""
_SEED = 1
_DIGITS = 3
"""Decimals of mm and degrees. An estimate is rounded to its accuracy, so that it is the same on any machine."""


@dataclass(frozen=True)
class Found:
    """The motion that was found, and how far to trust it."""

    motion: Motion
    displacement_mm: float
    """The largest displacement by the motion of any point within the head."""
    spread_mm: float | None
    """The largest distance, within the head, between the places to which the motions of even and of odd slices alone take
    the same point; None for a stack too small to be halved."""
    comparable: bool
    """Whether the images had anything to compare."""


def register(
    target: Images, reference: Images, spacing: tuple[float, float], reference_shift: tuple[float, float] = (0.0, 0.0)
) -> Found:
    """Find the motion from places in the target to the same places in the reference.

    target, reference: (n, rows, columns) of equal size, spacing (between rows, between columns) mm and bandwidth, so
    that both ring alike. `reference_shift` is the position of the reference's first pixel relative to the target's, in
    mm (along a row, along a column). The same images give the same motion.
    """
    fixed, moving = _image(target, spacing), _image(reference, spacing)
    moving.SetOrigin(np.add(moving.GetOrigin(), (*reference_shift, 0.0)).tolist())
    head = _head(fixed)
    motion = _optimise(fixed, moving, head, Motion())
    if motion is None:
        return Found(Motion(), 0.0, None, comparable=False)
    places = _places(head)
    spread = None
    if len(target) >= 2:
        even, odd = (
            _optimise(fixed[:, :, start::2], moving[:, :, start::2], head[:, :, start::2], Motion()) or Motion()
            for start in (0, 1)
        )
        spread = _largest(even.of(places) - odd.of(places))
    return Found(motion, _largest(motion.of(places) - places), spread, comparable=True)


def judge(found: Found, settings: RegistrationSettings) -> tuple[Registration, list[str]]:
    """The record for the result, in which `corrected` says whether the reference is to be moved, and warnings. Raises
    RefusedError E_MISALIGNED when the settings refuse the motion."""
    trusted = found.comparable and (found.spread_mm is None or found.spread_mm <= settings.max_spread_mm)
    apart = found.displacement_mm > settings.tolerance_mm
    beyond = found.displacement_mm > settings.limit_mm
    says = f"the reference is displaced by {found.displacement_mm:.1f} mm from the target ({found.motion})"
    warnings = []
    correct = False
    if not trusted:
        spread = "" if found.spread_mm is None else f": even and odd slices disagree by {found.spread_mm:.1f} mm"
        warnings.append(
            f"W_REGISTRATION_UNSURE: the displacement of the reference could not be estimated reliably{spread}"
        )
    elif apart and (settings.mode == "refuse" or (settings.mode == "correct" and beyond)):
        key = "limit_mm" if settings.mode == "correct" else "tolerance_mm"
        raise RefusedError(
            "E_MISALIGNED",
            f"{says}, which is more than [registration] {key} = {getattr(settings, key):g} allows: the patient moved "
            "between the two series. Acquire one of them again.",
        )
    elif apart and settings.mode == "correct":
        correct = True
        warnings.append(f"W_REFERENCE_MOVED: {says}, and was moved onto it")
    elif apart:
        warnings.append(f"W_MISALIGNED: {says}")
    motion = found.motion
    record = Registration(
        motion.shift_mm, motion.rotation_deg, trusted, correct, found.displacement_mm, found.spread_mm
    )
    return record, warnings


def follow(target: Volume, motion: Motion) -> Volume:
    """The target's slices, moved to where the reference shows the same anatomy. A reference that is resampled onto them is
    thereby moved back onto the target, with a single interpolation."""
    along_row, along_column = np.array(target.orientation)
    rows, columns = target.pixels.shape[1:]
    centre = _centre(rows, columns, target.spacing)
    axes = motion.of(np.eye(2)) - np.array(motion.shift_mm)
    row_direction, column_direction = (a[0] * along_row + a[1] * along_column for a in axes)
    first = motion.of(-centre[None])[0] + centre
    return replace(
        target,
        positions=target.positions + first[0] * along_row + first[1] * along_column,
        orientation=(_vector(row_direction), _vector(column_direction)),
    )


def _optimise(fixed: sitk.Image, moving: sitk.Image, head: sitk.Image, start: Motion) -> Motion | None:
    """The motion that gradient descent finds from `start`, or `start` if no other motion is better; None when there is
    nothing to compare."""
    transform = sitk.Euler3DTransform()  # turns about the origin, which is the centre of the field of view
    transform.SetParameters((0.0, 0.0, math.radians(start.rotation_deg), *start.shift_mm, 0.0))
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(_BINS)
    method.SetMetricFixedMask(head)
    method.MetricUseFixedImageGradientFilterOff()  # those filters smooth across slices
    method.MetricUseMovingImageGradientFilterOff()
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(min(1.0, _SAMPLES / fixed.GetNumberOfPixels()), _SEED)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetInitialTransform(transform, inPlace=True)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=1.0, minStep=2e-3, numberOfIterations=100, gradientMagnitudeTolerance=1e-8
    )
    # A radian counts as much as the mm by which it moves a point half-way out in the head. Only in-plane motion is free.
    radius = _radius(fixed)
    method.SetOptimizerScales([radius**2] * 3 + [1.0] * 3)
    method.SetOptimizerWeights([0.0, 0.0, 1.0, 1.0, 1.0, 0.0])
    method.SetNumberOfThreads(1)  # the order of sums must not depend on the machine
    values: list[float] = []
    method.AddCommand(sitk.sitkIterationEvent, lambda: values.append(method.GetMetricValue()))
    try:
        method.Execute(fixed, moving)
    except RuntimeError:  # there is nothing to sample
        return None
    finally:
        method.RemoveAllCommands()  # the command and the method refer to each other, which the garbage collector does not see
    if not values:  # no direction is better than another: one of the images is flat
        return None
    if values[-1] >= values[0]:
        return start
    _, _, angle, along_row, along_column, _ = transform.GetParameters()
    shift = round(along_row, _DIGITS), round(along_column, _DIGITS)
    return Motion(shift, round(math.degrees(angle), _DIGITS))


def _image(pixels: Images, spacing: tuple[float, float]) -> sitk.Image:
    """Slices at a distance of 1, the centre of the field of view at the origin, the brightest pixel 1."""
    image = sitk.GetImageFromArray(pixels / (pixels.max() or 1))
    rows, columns = pixels.shape[1:]
    image.SetSpacing((spacing[1], spacing[0], 1.0))
    image.SetOrigin((*(-_centre(rows, columns, spacing)).tolist(), 0.0))
    return image


def _centre(rows: int, columns: int, spacing: tuple[float, float]) -> NDArray[np.float64]:
    """The centre of rotation of a `Motion`: mm from the centre of the first pixel, along a row and along a column."""
    return np.array([columns / 2 * spacing[1], rows / 2 * spacing[0]])


def _head(image: sitk.Image) -> sitk.Image:
    """Mask of everything that is not air, with a margin."""
    spacing = image.GetSpacing()
    smooth = sitk.DiscreteGaussian(image, [(2 * spacing[0]) ** 2, (2 * spacing[1]) ** 2, 0.0])
    bright = float(np.percentile(sitk.GetArrayViewFromImage(smooth), 99))
    head: sitk.Image = sitk.BinaryDilate(smooth > _HEAD * bright, [3, 3, 0])
    return head


def _places(head: sitk.Image) -> NDArray[np.float64]:
    """(n, 2) mm from the centre, of the pixels of the head seen along the normal."""
    inside = sitk.GetArrayViewFromImage(head).max(axis=0) > 0
    row, column = np.nonzero(inside)
    origin, spacing = head.GetOrigin(), head.GetSpacing()
    return np.column_stack([origin[0] + column * spacing[0], origin[1] + row * spacing[1]])


def _radius(image: sitk.Image) -> float:
    """A quarter of the field of view: about the radius of the head."""
    return float(np.mean([n * s for n, s in zip(image.GetSize()[:2], image.GetSpacing()[:2], strict=True)])) / 4


def _largest(offsets: NDArray[np.float64]) -> float:
    return float(np.linalg.norm(offsets, axis=1).max(initial=0.0))


def _vector(v: NDArray[np.float64]) -> tuple[float, float, float]:
    return float(v[0]), float(v[1]), float(v[2])
