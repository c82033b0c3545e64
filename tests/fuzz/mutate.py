"""Damage, drawn at random: to elements (what a header can say wrongly) and to bytes (what a disk or wire can do)."""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from random import Random

from pydicom.datadict import tag_for_keyword
from pydicom.uid import DeflatedExplicitVRLittleEndian

from tests.fuzz.corpus import LONG_FORM, Element, Instance

UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\x0d\xe0", b"\xfe\xff\xdd\xe0"

VRS = [*sorted(LONG_FORM), *(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split()), b"XX", b"\0\0"]

UIDS = [
    b"../../../../tmp/fuzz", b"1.2/../../x", b"/etc/passwd", b"1.2.\0.3", b"", b".", b"..", b"1" * 65, b"1.2." * 16,
    b"1..2", b"-1.2", b"1.2.3\\4.5.6", "１.２".encode(), b"1.2.3\n", b" 1.2.3", b"NUL", b"%2e%2e", b"1.2.840.10008.1.2",
]  # fmt: skip
NUMBERS = [
    b"NaN", b"inf", b"-inf", b"-1", b"0", b"-0", b"1e400", b"1e-400", b"1E30", b"0x10", b"1,5", b"", b" ", b"\\", b"9" * 400,
    b"1\\2\\3", b"1\\\\3", b"2147483648", b"\xff", b"1e308\\1e308", b"-0.5\\-0.5", b"0\\0", b"1e-30\\1e-30", b"NaN\\1",
]  # fmt: skip
TEXTS = [
    b"", b"\0", b"\xff" * 9, b"\x1b$B\x1b(J", b"\x1b$)C\xb1\xe8", b"A" * 70_000, b"=" * 9, b"^" * 9, b"\\" * 5000, b"\r\n\x07",
    b"ISO 2022 IR 87\\ISO 2022 IR 999", b"ISO_IR 192", b"..\\..\\x", "\u202e\u0000".encode(), b"{0}{x!r}%s%n", b"[red]x[/]",
]  # fmt: skip
SHORTS = [(n & 0xFFFF).to_bytes(2, "little") for n in (0, 1, 2, 3, 7, 8, 12, 16, 32, 64, 4096, 32767, 65535)] + [
    b"",
    b"\1",
    b"\1\0\2",
]

POINTED = {
    keyword: values
    for keywords, values in [
        ("SOPInstanceUID SeriesInstanceUID StudyInstanceUID FrameOfReferenceUID SOPClassUID", UIDS),
        ("PixelSpacing ImagePositionPatient ImageOrientationPatient SliceThickness SpacingBetweenSlices", NUMBERS),
        ("EchoTime RepetitionTime InversionTime RescaleSlope RescaleIntercept WindowCenter WindowWidth", NUMBERS),
        ("SeriesNumber InstanceNumber NumberOfFrames EchoNumbers ImagesInAcquisition EchoTrainLength", NUMBERS),
        ("Rows Columns BitsAllocated BitsStored HighBit SamplesPerPixel PixelRepresentation", SHORTS),
        ("PixelPaddingValue PixelPaddingRangeLimit AcquisitionMatrix SmallestImagePixelValue", SHORTS),
        ("SpecificCharacterSet PatientName ImageType SeriesDescription ScanningSequence BodyPartExamined", TEXTS),
        ("PhotometricInterpretation Modality PatientBirthDate StudyDate AcquisitionTime SequenceVariant", TEXTS),
    ]
    for keyword in keywords.split()
    for values in [values]
}
"""What is worth setting to which values."""


@dataclass(frozen=True)
class Damaged:
    """An instance with what was done to it, and the bytes of its data set."""

    instance: Instance
    done: tuple[str, ...]
    data_set: bytes = field(repr=False)


Step = Callable[[Random, Instance], tuple[str, Instance]]


def damaged(draw: Random, corpus: Sequence[Instance], steps: Sequence[Step] = ()) -> Damaged:
    """An instance of the corpus with one or two things wrong in its elements, or its bytes, or in both. `steps` are the
    damages to elements to choose from; none given: all."""
    instance = draw.choice(corpus)
    done = []
    for _ in range(draw.choice([0, 1, 1, 1, 2])):
        what, instance = draw.choice(steps or STRUCTURAL)(draw, instance)
        done.append(what)
    data_set = written(instance, draw.choice([0, 0, 0, 64_000_000]))
    if not done or draw.randint(0, 3) == 0:
        what, data_set = draw.choice(BYTEWISE)(draw, data_set)
        done.append(what)
    return Damaged(instance, tuple(done), data_set)


def written(instance: Instance, bomb: int = 0) -> bytes:
    """The data set of an instance; deflated (PS3.5 annex A.5) where it says so, with a private element of `bomb` zeros
    at its end."""
    if instance.transfer_syntax_uid != DeflatedExplicitVRLittleEndian:
        return instance.data_set()
    packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    if not bomb:
        return packer.compress(instance.data_set()) + packer.flush()
    head = Element(0x7FE1_1001, b"OB", b"", bomb).encoded()
    return packer.compress(instance.data_set() + head) + packer.flush(zlib.Z_FULL_FLUSH) + _deflated_zeros(bomb)


@cache
def _deflated_zeros(count: int) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(bytes(count)) + packer.flush()


# ---------------------------------------------------------------------- elements


def _with(instance: Instance, index: int, *elements: Element) -> Instance:
    """The instance with these in place of the element at `index`."""
    kept = instance.elements
    return replace(instance, elements=(*kept[:index], *elements, *kept[index + 1 :]))


def _bytes(draw: Random, most: int) -> bytes:
    return draw.randbytes(draw.randint(0, most))


def _any(draw: Random, instance: Instance) -> int:
    return draw.randint(0, max(len(instance.elements) - 1, 0))


def with_element(instance: Instance, element: Element) -> Instance:
    """The instance with this element, in the order of tags."""
    others = [e for e in instance.elements if e.tag != element.tag]
    at = sum(e.tag < element.tag for e in others)
    return replace(instance, elements=(*others[:at], element, *others[at:]))


def point(draw: Random, instance: Instance) -> tuple[str, Instance]:
    """An attribute that the node reads, with a value that no scanner writes."""
    keyword = draw.choice(list(POINTED))
    value = draw.choice(POINTED[keyword])
    tag = tag_for_keyword(keyword)
    assert tag is not None
    known = next((e.vr for e in instance.elements if e.tag == tag), None)
    fallback = b"US" if POINTED[keyword] is SHORTS else b"DS" if POINTED[keyword] is NUMBERS else b"LO"
    return f"{keyword} set", with_element(instance, Element(tag, known or fallback, value + b" " * (len(value) % 2)))


def drop(draw: Random, instance: Instance) -> tuple[str, Instance]:
    return "element dropped", _with(instance, _any(draw, instance))


def change_vr(draw: Random, instance: Instance) -> tuple[str, Instance]:
    at = _any(draw, instance)
    return "VR changed", _with(instance, at, replace(instance.elements[at], vr=draw.choice(VRS)))


def change_value(draw: Random, instance: Instance) -> tuple[str, Instance]:
    at = _any(draw, instance)
    value = draw.choice([draw.choice(NUMBERS + TEXTS + UIDS), _bytes(draw, 40)])
    return "value changed", _with(instance, at, replace(instance.elements[at], value=value))


def lie_about_length(draw: Random, instance: Instance) -> tuple[str, Instance]:
    at = _any(draw, instance)
    element = instance.elements[at]
    lies = [0, 1, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFE, UNDEFINED, len(element.value) + 1, max(len(element.value) - 1, 0)]
    return "length untrue", _with(instance, at, replace(element, length=draw.choice(lies)))


def duplicate(draw: Random, instance: Instance) -> tuple[str, Instance]:
    at = _any(draw, instance)
    element = instance.elements[at]
    many = min(2000, 1_000_000 // max(len(element.value), 1))  # what is sent is whole in memory, several times
    return "element twice", _with(instance, at, *[element] * draw.choice([2, max(many, 2)]))


def disorder(draw: Random, instance: Instance) -> tuple[str, Instance]:
    elements = list(instance.elements)
    draw.shuffle(elements)
    return "elements out of order", replace(instance, elements=tuple(elements))


def deep(draw: Random, instance: Instance) -> tuple[str, Instance]:
    """Sequences in sequences (PS3.5 section 7.5), of defined or undefined length, ended or not."""
    depth = draw.choice([5, 100, 1500, 20_000])
    tag = draw.choice([0x0008_1140, 0x0040_0275, 0x5200_9229, 0x5200_9230, 0x0009_1001])
    inner = Element(tag, b"SQ", b"", UNDEFINED).encoded() + ITEM + b"\xff" * 4
    end = (ITEM_END + bytes(4) + SEQUENCE_END + bytes(4)) * draw.choice([0, 1, depth])
    return f"{depth} sequences deep", with_element(
        instance, Element(tag, b"SQ", ITEM + b"\xff" * 4 + inner * depth + end, UNDEFINED)
    )


def wide(draw: Random, instance: Instance) -> tuple[str, Instance]:
    """A sequence of many empty items."""
    items = (ITEM + bytes(4)) * draw.choice([1, 20, 20, 20, 200, 200, 200, 200, 2000, 20_000])
    tag = draw.choice([0x0008_1140, 0x5200_9229, 0x5200_9230, 0x0018_9114])
    return "many items", with_element(instance, Element(tag, b"SQ", items, draw.choice([None, UNDEFINED])))


def private(draw: Random, instance: Instance) -> tuple[str, Instance]:
    """Private blocks without creator, with two, with a creator that is not text; Philips' and Siemens' own."""
    creator = draw.choice([b"", b"\xff\xfe", b"A" * 300, b"Philips MR Imaging DD 001", b"SIEMENS CSA HEADER", b"\\"])
    group = draw.choice([0x0009, 0x0029, 0x2005, 0x7FE1, 0xFFFF])
    vr = draw.choice([b"LO", b"SQ", b"UN", b"FL"])
    instance = with_element(instance, Element(group << 16 | 0x10, vr, creator))
    if draw.random() < 0.5:
        instance = with_element(instance, Element(group << 16 | 0x11, b"LO", creator))
    return "private block", with_element(instance, Element(group << 16 | 0x100E, draw.choice(VRS), _bytes(draw, 9)))


def odd_group(draw: Random, instance: Instance) -> tuple[str, Instance]:
    """Elements that have no place in a data set: of the command, of the file meta information, delimiters, lengths."""
    tag = draw.choice([0, 0x0000_0100, 0x0002_0010, 0x0008_0000, 0xFFFE_E000, 0xFFFE_E00D, 0xFFFE_E0DD, 0xFFFF_FFFF])
    element = Element(tag, draw.choice(VRS), _bytes(draw, 9))
    return "misplaced element", replace(instance, elements=(element, *instance.elements))


def fragments(draw: Random, instance: Instance) -> tuple[str, Instance]:
    """Encapsulated pixel data (PS3.5 annex A.4) that does not end, or in very many or very long pieces, or that says
    it is far larger than the header does."""
    count = draw.choice([0, 1, 3, 20_000])
    length = draw.choice([None, None, UNDEFINED, 0xFFFFFFFE, 0x7FFFFFFF])
    body = draw.choice(
        [b"", b"\0\0", huge_codestream(), b"\xff\xd8\xff\xf7", b"\xff" * 64, (2**32 - 1).to_bytes(4, "little") * 16]
    )
    piece = ITEM + (len(body) if length is None else length).to_bytes(4, "little") + body
    table = ITEM + bytes(4)
    end = draw.choice([SEQUENCE_END + bytes(4), b""])
    return "odd fragments", with_element(instance, Element(0x7FE0_0010, b"OB", table + piece * count + end, UNDEFINED))


def pixels(draw: Random, instance: Instance) -> tuple[str, Instance]:
    at = next((i for i, e in enumerate(instance.elements) if e.tag == 0x7FE0_0010), None)
    if at is None:
        return "pixels added", with_element(instance, Element(0x7FE0_0010, b"OW", bytes(16)))
    element = instance.elements[at]
    half = len(element.value) // 2
    value = draw.choice([b"", element.value[:half], element.value * 2, element.value[:-1], bytes(half), b"\xff" * half])
    return "pixels changed", _with(instance, at, replace(element, value=value))


def other_syntax(draw: Random, instance: Instance) -> tuple[str, Instance]:
    """A transfer syntax that is not the one of the data set."""
    return "transfer syntax untrue", replace(instance, transfer_syntax_uid=draw.choice(SYNTAXES))


@cache
def huge_codestream() -> bytes:
    """The main header of a JPEG 2000 codestream (ISO/IEC 15444-1 annex A) of 60,000 x 60,000 pixels in one tile, without data."""

    def u(number: int, size: int) -> bytes:
        return number.to_bytes(size, "big")

    size = u(0, 2) + u(60_000, 4) * 2 + u(0, 4) * 2 + u(60_000, 4) * 2 + u(0, 4) * 2 + u(1, 2) + b"\x0f\x01\x01"
    coding = b"\x00" + b"\x00" + u(1, 2) + b"\x00" + b"\x05\x04\x04\x00\x01"
    quantisation = b"\x40" + bytes([0x80] * 16)
    markers = [(0xFF51, size), (0xFF52, coding), (0xFF5C, quantisation)]
    stream = u(0xFF4F, 2) + b"".join(u(m, 2) + u(len(body) + 2, 2) + body for m, body in markers)
    stream += u(0xFF90, 2) + u(10, 2) + u(0, 2) + u(0, 4) + b"\x00\x01" + u(0xFF93, 2) + u(0xFFD9, 2)
    return stream + bytes(len(stream) % 2)


SYNTAXES = [
    f"1.2.840.10008.1.2{suffix}"
    for suffix in (
        "",
        ".1",
        ".2",
        ".1.99",
        ".5",
        ".4.50",
        ".4.51",
        ".4.57",
        ".4.70",
        ".4.80",
        ".4.90",
        ".4.91",
        ".4.201",
    )
]


def in_stream(draw: Random, instance: Instance) -> tuple[str, Instance]:
    """Bits of the pixel data, most of them in the headers of a compressed stream."""
    at = next((i for i, e in enumerate(instance.elements) if e.tag == 0x7FE0_0010 and e.value), None)
    if at is None:
        return "no pixels", instance
    what, value = flip(draw, instance.elements[at].value)
    return f"{what} in pixels", _with(instance, at, replace(instance.elements[at], value=value))


PIXELS: list[Step] = [point, fragments, pixels, in_stream, in_stream, in_stream, other_syntax]

STRUCTURAL: list[Step] = [
    point, point, point, point, drop, change_vr, change_value, lie_about_length, duplicate, disorder, deep, wide, private,
    odd_group, fragments, fragments, pixels, other_syntax,
]  # fmt: skip


# ---------------------------------------------------------------------- bytes


def truncate(draw: Random, data: bytes) -> tuple[str, bytes]:
    return "truncated", data[: draw.randint(0, len(data))]


def flip(draw: Random, data: bytes) -> tuple[str, bytes]:
    """Some bits; most of them in the header, which is where they matter."""
    if not data:
        return "empty", data
    changed = bytearray(data)
    for _ in range(draw.randint(1, 8)):
        at = draw.randint(0, draw.choice([min(len(data), 2001), len(data)]) - 1)
        changed[at] ^= 1 << draw.randint(0, 7)
    return "bits flipped", bytes(changed)


def insert(draw: Random, data: bytes) -> tuple[str, bytes]:
    at = draw.randint(0, min(len(data), 3000))
    return "bytes inserted", data[:at] + draw.randbytes(draw.randint(1, 30)) + data[at:]


def cut(draw: Random, data: bytes) -> tuple[str, bytes]:
    at = draw.randint(0, min(len(data), 3000))
    return "bytes cut out", data[:at] + data[at + draw.randint(1, 300) :]


def repeat(draw: Random, data: bytes) -> tuple[str, bytes]:
    at = draw.randint(0, min(len(data), 3000))
    return "bytes repeated", data[:at] + data[at : at + 500] * draw.choice([2, 100]) + data[at:]


def blank(draw: Random, data: bytes) -> tuple[str, bytes]:
    at = draw.randint(0, min(len(data), 3000))
    fill = draw.choice([b"\0", b"\xff"])
    return "bytes blanked", data[:at] + fill * min(draw.randint(1, 300), len(data) - at) + data[at + 300 :]


BYTEWISE = [truncate, flip, flip, flip, insert, cut, repeat, blank]
