"""A compressed frame is decoded only when its size is the one in the header."""

from collections.abc import Callable

import numpy as np
import pytest
from pydicom import Dataset, dcmread, examples
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from node.dicom.pixels import stored_frames
from tests.dicom import mr_series


def compressed(syntax: str) -> Dataset:
    (ds,) = mr_series(1, rows=64, columns=48)
    ds.compress(syntax, generate_instance_uid=False)
    return ds


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, RLELossless])
def test_a_whole_instance_comes_out_as_it_went_in(syntax: str) -> None:
    (original,) = mr_series(1, rows=64, columns=48)
    (frame,) = stored_frames(compressed(syntax))
    assert np.array_equal(frame, original.pixel_array)


def in_jpeg_2000(stream: bytearray, rows: int, columns: int) -> None:
    for at, size in ((8, columns), (12, rows), (24, columns), (28, rows)):  # image, and its one tile
        stream[at : at + 4] = size.to_bytes(4)


def in_jpeg_ls(stream: bytearray, rows: int, columns: int) -> None:
    at = stream.index(b"\xff\xf7")
    stream[at + 5 : at + 9] = rows.to_bytes(2) + columns.to_bytes(2)


def twice_in_jpeg_ls(stream: bytearray, rows: int, columns: int) -> None:
    at = stream.index(b"\xff\xf7")
    header = bytearray(stream[at : at + 2 + int.from_bytes(stream[at + 2 : at + 4])])
    header[5:9] = rows.to_bytes(2) + columns.to_bytes(2)
    stream[at:at] = header


def oversize_in_jpeg_ls(stream: bytearray, rows: int, columns: int) -> None:
    at = stream.index(b"\xff\xf7")
    body = b"\x04\x04" + rows.to_bytes(4) + columns.to_bytes(4)
    stream[at:at] = b"\xff\xf8" + (len(body) + 2).to_bytes(2) + body


@pytest.mark.parametrize(
    ("syntax", "lie"),
    [
        (JPEG2000Lossless, in_jpeg_2000),
        (JPEGLSLossless, in_jpeg_ls),
        (JPEGLSLossless, twice_in_jpeg_ls),
        (JPEGLSLossless, oversize_in_jpeg_ls),
    ],
)
def test_a_stream_larger_than_its_header_says_is_not_decoded(
    syntax: str, lie: Callable[[bytearray, int, int], None]
) -> None:
    """These streams make a decoder take 7 GB, or end the process, so the node must not decode them."""
    ds = compressed(syntax)
    stream = bytearray(next(generate_frames(ds.PixelData, number_of_frames=1)))
    lie(stream, 60_000, 60_000)
    ds.PixelData = encapsulate([bytes(stream)])
    with pytest.raises(ValueError, match="not of the size that the header says"):
        list(stored_frames(ds))


def test_pydicoms_compressed_files_are_what_their_headers_say() -> None:
    names = ("emri_small_jpeg_2k_lossless.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm")
    for ds in [*(dcmread(get_testdata_file(name)) for name in names), examples.jpeg2k]:
        frames = list(stored_frames(ds))
        assert np.array_equal(np.squeeze(np.stack(frames)), ds.pixel_array)


def test_a_decoder_that_panics_is_an_ordinary_error() -> None:
    """The run length reaches beyond the frame. The error of the decoder is not an Exception, and would end a worker."""
    ds = compressed(RLELossless)
    stream = bytearray(next(generate_frames(ds.PixelData, number_of_frames=1)))
    assert stream[0] == 2, "two segments, the first of them at byte 64"
    stream[64] = 0x81  # 128 times the next byte
    ds.PixelData = encapsulate([bytes(stream)])
    with pytest.raises(ValueError, match="the decoder failed"):
        list(stored_frames(ds))


def test_a_stream_that_ends_its_decoder_ends_nothing_else() -> None:
    """Byte 44 is within a Huffman table. GDCM throws an exception of C++ that nobody catches."""
    file = get_testdata_file("JPGLosslessP14SV1_1s_1f_8b.dcm", download=False)
    assert file is not None
    ds = dcmread(file)
    whole = next(generate_frames(ds.PixelData, number_of_frames=1))
    stream = bytearray(whole)
    stream[44] ^= 0x10
    ds.PixelData = encapsulate([bytes(stream)])
    with pytest.raises(ValueError, match="the decoder died"):
        list(stored_frames(ds))
    ds.PixelData = encapsulate([whole])
    (frame,) = stored_frames(ds)
    assert np.array_equal(frame, ds.pixel_array), "the next one is decoded"
