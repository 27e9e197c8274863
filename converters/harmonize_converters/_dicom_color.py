"""Which colours a DICOM frame is stored in, and whether its codestream says the same (PS3.3 C.7.6.3.1.2, PS3.5 8.2)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile

from pydicom.uid import UID, JPEG2000TransferSyntaxes, RLELossless

from harmonize_converters.contract import ConversionError

GREY = ("MONOCHROME1", "MONOCHROME2")
PALETTE = "PALETTE COLOR"
_YBR = ("YBR_FULL", "YBR_FULL_422")
_J2K_TRANSFORMED = ("YBR_ICT", "YBR_RCT")
_RGB_IDS = (b"RGB", b"rgb")
_COD, _START_OF_TILE = b"\xff\x52", b"\xff\x90"
_START_OF_SCAN, _APP0, _APP14 = b"\xda", b"\xe0", b"\xee"


def check_photometric(photometric: str | None, samples: int, bits: int, syntax: UID) -> None:
    """Refuse colours that cannot be converted rightly. ``bits``: BitsStored. Raises ``ConversionError``."""
    if samples == 1 and photometric in (*GREY, PALETTE):
        return
    if samples != 3 or photometric not in ("RGB", *_YBR, *_J2K_TRANSFORMED):
        raise ConversionError("unsupported_photometric", "Grey, RGB, YBR_FULL and palettes would be right.")
    if photometric in _J2K_TRANSFORMED and syntax not in JPEG2000TransferSyntaxes:
        raise ConversionError("unsupported_photometric", f"{photometric} is of JPEG 2000 only.")
    if photometric in _YBR and bits != 8:
        raise ConversionError("unsupported_photometric", f"{photometric} of {bits} bits is not defined.")


def check_colors(frame: bytes, syntax: UID, photometric: str) -> None:
    """Refuse a frame of three samples whose codestream says other colours than its header does.

    Readers differ then, and one of the two would be read as the other. Raises ``ConversionError``.
    """
    if syntax == RLELossless:
        return
    if syntax in JPEG2000TransferSyntaxes:
        transformed = j2k_transformed(frame)
        # RGB with the transform is a common slip that changes nothing: what comes out of a decoder is what went in.
        agrees = transformed == (photometric in _J2K_TRANSFORMED) or photometric == "RGB"
    else:
        said = jpeg_color(frame)
        agrees = said is None or said == ("RGB" if photometric == "RGB" else "YBR")
    if not agrees:
        raise ConversionError("unsupported_photometric", "Header and codestream say different colours.", "PixelData")


def j2k_transformed(frame: bytes) -> bool:
    """Whether a JPEG 2000 codestream's components were transformed (SGcod of COD, ISO/IEC 15444-1 A.6.1)."""
    at = frame.find(b"\xff\x4f\xff\x51") + 2
    while at > 1 and at + 9 <= len(frame) and frame[at : at + 2] != _START_OF_TILE:
        if frame[at : at + 2] == _COD:
            return frame[at + 8] == 1
        at += 2 + int.from_bytes(frame[at + 2 : at + 4], "big")
    return False


def jpeg_color(frame: bytes) -> str | None:
    """ "RGB" or "YBR" where a JPEG or JPEG-LS stream says so itself; None where it does not.

    By the transform of an Adobe marker, component numbers that spell RGB, or a JFIF marker (ITU-T T.871 and T.872).
    """
    jfif = False
    adobe: bytes | None = None
    for marker, content in segments(frame):
        if marker == _APP14 and content[:5] == b"Adobe" and len(content) >= 12:
            adobe = content[11:12]
        jfif |= marker == _APP0 and content[:5] == b"JFIF\0"
        if is_frame_header(marker) and len(content) >= 15 and content[5] == 3:
            if content[6:15:3] in _RGB_IDS:
                return "RGB"
            break
    if adobe is not None:
        return {b"\0": "RGB", b"\1": "YBR"}.get(adobe)
    return "YBR" if jfif else None


def segments(frame: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The markers of a JPEG stream up to its first scan, each with its content (ISO/IEC 10918-1 B.1.1)."""
    at = 2
    while at + 4 <= len(frame) and frame[:2] == b"\xff\xd8" and frame[at] == 0xFF:
        at += len(list(takewhile(lambda byte: byte == 0xFF, frame[at : at + 16]))) - 1
        marker = frame[at + 1 : at + 2]
        length = int.from_bytes(frame[at + 2 : at + 4], "big")
        yield marker, frame[at + 4 : at + 2 + length]
        if marker == _START_OF_SCAN:
            return
        at += 2 + length


def is_frame_header(marker: bytes) -> bool:
    """SOFn of JPEG, SOF55 of JPEG-LS."""
    return marker == b"\xf7" or (b"\xc0" <= marker <= b"\xcf" and marker not in (b"\xc4", b"\xc8", b"\xcc"))
