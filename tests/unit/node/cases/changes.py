"""Changes to the images of a series, for the studies of the cases."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.uid import UID, generate_uid

Change = Callable[[list[Dataset]], list[Dataset]]


def each(*changes: Callable[[Dataset, int], Any]) -> Change:
    """Change every image, given its index."""

    def change(images: list[Dataset]) -> list[Dataset]:
        for i, image in enumerate(images):
            for one in changes:
                one(image, i)
        return images

    return change


def again(**attributes: Any) -> Change:
    """The images, and the same with other attributes."""

    def change(images: list[Dataset]) -> list[Dataset]:
        copies = copy.deepcopy(images)
        for image in copies:
            image.SOPInstanceUID = generate_uid()
            image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        return [*images, *set_attributes(copies, attributes)]

    return change


def foreign(sop_class: UID, **attributes: Any) -> Change:
    """The images, and an object of another kind in their series: no place, no pixels."""

    def change(images: list[Dataset]) -> list[Dataset]:
        other = copy.deepcopy(images[0])
        for keyword in ("PixelData", "Rows", "Columns", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient",
                        "EchoTime", "RepetitionTime", "BitsAllocated"):  # fmt: skip
            del other[keyword]
        other.SOPClassUID = other.file_meta.MediaStorageSOPClassUID = sop_class
        other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        return [*images, *set_attributes([other], attributes)]

    return change


def two_stacks(images: list[Dataset]) -> list[Dataset]:
    """The images, and as many above them, as two stacks of Enhanced MR."""
    upper = again(StackID="2")(set_attributes(images, {"StackID": "1"}))[len(images) :]
    for image in upper:
        image.ImagePositionPatient[2] += 40
    return [*images, *upper]


def time_points(images: list[Dataset]) -> list[Dataset]:
    return again(TemporalPositionIdentifier=2)(set_attributes(images, {"TemporalPositionIdentifier": 1}))


def three_planes(images: list[Dataset]) -> list[Dataset]:
    planes = ([1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, -1], [1, 0, 0, 0, 0, -1])
    for image, plane in zip(images, planes, strict=True):
        image.ImageOrientationPatient = plane
    return images


def move(ds: Dataset, axis: int, by: float) -> None:
    """Move an image by millimetres along one axis of the patient."""
    ds.ImagePositionPatient[axis] = float(ds.ImagePositionPatient[axis]) + by


def beside_in_3d(images: list[Dataset]) -> list[Dataset]:
    """A volume that leaves out a fifth of what the stack covers."""
    for image in images:
        image.MRAcquisitionType = "3D"
        move(image, 0, 0.2 * image.Columns * float(image.PixelSpacing[1]))
    return images


def tilted(images: list[Dataset]) -> list[Dataset]:
    """The stack turned about the patient's x axis by 15 degrees."""
    turn = np.array([[1, 0, 0], [0, 0.9659258, -0.258819], [0, 0.258819, 0.9659258]])
    for image in images:
        image.ImageOrientationPatient = [1, 0, 0, *turn[:, 1]]
        image.ImagePositionPatient = list(turn @ [float(v) for v in image.ImagePositionPatient])
    return images


def one(index: int, **attributes: Any) -> Change:
    """One image changed."""
    return lambda images: [*images[:index], *set_attributes([images[index]], attributes), *images[index + 1 :]]


def without(*indices: int) -> Change:
    return lambda images: [image for i, image in enumerate(images) if i not in indices]


def set_attributes(images: list[Dataset], attributes: dict[str, Any]) -> list[Dataset]:
    """Set attributes of every image; None deletes one."""
    for image in images:
        for keyword, value in attributes.items():
            if value is None:
                image.pop(keyword, None)
            else:
                setattr(image, keyword, value)
    return images
