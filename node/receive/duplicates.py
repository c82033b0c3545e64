"""Whether two data sets are the same instance in different transfer syntaxes, found out at little cost.

The peer chooses what is compared. A compressed stream of 30 kB may claim 20,000 x 20,000 pixels, and decoding it took 26 s
and 4.9 GB: so nothing is decoded that is larger than what this node takes for an image."""

import numpy as np
from pydicom import Dataset
from pydicom.uid import UID

from node.dicom.pixels import stored_frames


def same_content(ours: Dataset, theirs: Dataset, max_matrix: int) -> bool:
    """Whether both have the same pixels and public attributes. (Private ones come back as unknown bytes from implicit VR.)
    False too when that cannot be shown cheaply: when rows or columns are above `max_matrix`, or all frames together above
    its square; and when the pixels cannot be decoded."""
    try:
        if _attributes(ours) != _attributes(theirs):
            return False
        if all(_is_native(one) for one in (ours, theirs)):
            return _same_native(ours, theirs)
        if not all(_is_small(one, max_matrix) for one in (ours, theirs)):
            return False
        frames = zip(stored_frames(ours), stored_frames(theirs), strict=True)
        return all(np.array_equal(one, other) for one, other in frames)
    except Exception:  # what cannot be read cannot be shown to be the same
        return False


def _attributes(data_set: Dataset) -> dict[str, str]:
    return {e.keyword: str(e.value) for e in data_set if not e.tag.is_private and e.keyword != "PixelData"}


def _is_native(data_set: Dataset) -> bool:
    return not UID(data_set.file_meta.TransferSyntaxUID).is_compressed


def _same_native(ours: Dataset, theirs: Dataset) -> bool:
    """Uncompressed pixels, compared as bytes; of the one syntax that is big endian, swapped by the size of a sample."""
    one, other = (np.frombuffer(d.get("PixelData", b""), _sample_type(d)) for d in (ours, theirs))
    return np.array_equal(one, other)


def _sample_type(data_set: Dataset) -> np.dtype[np.generic]:
    order = "<" if UID(data_set.file_meta.TransferSyntaxUID).is_little_endian else ">"
    return np.dtype(f"{order}u{max(1, int(data_set.get('BitsAllocated', 8)) // 8)}")


def _is_small(data_set: Dataset, max_matrix: int) -> bool:
    rows, columns = int(data_set.Rows), int(data_set.Columns)
    frames, samples = int(data_set.get("NumberOfFrames") or 1), int(data_set.get("SamplesPerPixel", 1))
    return max(rows, columns) <= max_matrix and frames * samples * rows * columns <= max_matrix**2
