"""One DICOM frame's stored values: sizes checked, decoded, unused bits dropped (FIDELITY I07-I09)."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import takewhile

import numpy as np
from pydicom.dataset import FileDataset
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import Decoder, get_decoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from harmonize_converters._dicom_header import meta_uid, quiet, read_dataset, text, whole
from harmonize_converters.contract import ConversionError, FoundFile

TAGS = (
    *("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel"),
    *("PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "LossyImageCompression"),
)
PIXEL_TAGS = ("PixelData", "ExtendedOffsetTable", "ExtendedOffsetTableLengths")
# One decoder each, whatever else is installed: the same file must give the same values everywhere.
_J2K, _JPEG, _JPEG_LS, _RLE = (
    ("pylibjpeg", "pylibjpeg-openjpeg"),
    ("pylibjpeg", "pylibjpeg-libjpeg"),
    ("pyjpegls", "pyjpegls"),
    ("pylibjpeg", "pylibjpeg-rle"),
)
_PLUGINS = {
    **dict.fromkeys([JPEG2000Lossless, JPEG2000, HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K], _J2K),
    **dict.fromkeys([JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1], _JPEG),
    **dict.fromkeys([JPEGLSLossless, JPEGLSNearLossless], _JPEG_LS),
    RLELossless: _RLE,
}
_LOSSY = frozenset([JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless])
_MAYBE_LOSSY = frozenset([JPEG2000, HTJ2K])
_HUGE_PLANE = 1 << 28
_COMPRESSION_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """What all frames of a volume must share."""

    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    signed: bool
    photometric: str
    transfer_syntax: str
    lossy: bool

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(f"{'int' if self.signed else 'uint'}{self.bits_allocated}")

    @property
    def plane_bytes(self) -> int:
        return self.rows * self.columns * self.bits_allocated // 8


def pixel_format(header: FileDataset, size: int) -> PixelFormat:
    """The format that a header declares, checked against the file's ``size`` in bytes."""

    def required(name: str) -> int:
        found = whole(header, name)
        if found is None or found < 0:
            raise ConversionError("invalid_header", "The element is missing or negative.", name)
        return found

    photometric = text(header, "PhotometricInterpretation")
    if photometric not in ("MONOCHROME1", "MONOCHROME2") or required("SamplesPerPixel") != 1:
        raise ConversionError("unsupported_photometric", "Only MONOCHROME1 and MONOCHROME2 are converted.")
    allocated, stored = required("BitsAllocated"), required("BitsStored")
    if allocated not in (8, 16, 32) or not 1 <= stored <= allocated:
        raise ConversionError("unsupported_pixel_data", f"Bits allocated {allocated}, stored {stored}.")
    if required("HighBit") != stored - 1:
        raise ConversionError("unsupported_pixel_data", f"High bit is not {stored - 1}.", "HighBit")
    representation = required("PixelRepresentation")
    if representation not in (0, 1):
        raise ConversionError("invalid_header", "0 or 1 would be right.", "PixelRepresentation")
    syntax = meta_uid(header, "TransferSyntaxUID")
    tag = text(header, "LossyImageCompression")
    declared = PixelFormat(
        rows=required("Rows"),
        columns=required("Columns"),
        bits_allocated=allocated,
        bits_stored=stored,
        signed=representation == 1,
        photometric=photometric,
        transfer_syntax=str(syntax),
        lossy=tag == "01" or syntax in _LOSSY or (syntax in _MAYBE_LOSSY and tag != "00"),
    )
    if declared.rows == 0 or declared.columns == 0:
        raise ConversionError("invalid_header", "Rows and Columns above zero would be right.")
    encoded = _decoder(syntax).UID.is_encapsulated or syntax.is_deflated
    limit = max(_HUGE_PLANE, _COMPRESSION_LIMIT * size) if encoded else size
    if declared.plane_bytes > limit:
        far = encoded or declared.plane_bytes > _COMPRESSION_LIMIT * max(size, 1)
        raise ConversionError("implausible_size" if far else "truncated")
    return declared


def _decoder(syntax: UID) -> Decoder:
    try:
        with quiet():
            decoder = get_decoder(syntax)
    except (NotImplementedError, ValueError):
        name = syntax.name if syntax.is_valid and not syntax.is_private and syntax.name != syntax else "not known"
        raise ConversionError("unsupported_transfer_syntax", f"Its name is: {name}.") from None
    if syntax.is_encapsulated and _PLUGINS.get(syntax, ("", ""))[0] not in decoder.available_plugins:
        raise ConversionError("unsupported_transfer_syntax", f"{syntax.name} needs {_PLUGINS[syntax][1]}.")
    return decoder


def libraries(transfer_syntax: str) -> dict[str, str]:
    """Versions of what decodes a transfer syntax."""
    names = ["pydicom", *({*_PLUGINS.get(UID(transfer_syntax), ())})]
    found: dict[str, str] = {}
    for name in sorted(names):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def read_plane(file: FoundFile, expected: PixelFormat) -> np.ndarray:
    """The stored values (rows, columns) of one file. Raises ``ConversionError``."""
    header = read_dataset(file.path, (*TAGS, *PIXEL_TAGS), pixels=True)
    if pixel_format(header, file.size) != expected:
        raise ConversionError("source_changed")
    try:
        data = header.get("PixelData")
    # pydicom converts at access and raises anything on damaged data.
    except Exception:  # noqa: BLE001
        raise ConversionError("corrupt", "", "PixelData") from None
    if not isinstance(data, bytes) or not data:
        raise ConversionError("truncated", "There is no pixel data.", "PixelData")
    syntax = UID(expected.transfer_syntax)
    if syntax.is_encapsulated:
        _check_codestream(data, syntax, expected)
    elif len(data) < expected.plane_bytes:
        raise ConversionError("truncated", f"{len(data)} of {expected.plane_bytes} bytes of pixels.", "PixelData")
    elif len(data) >= 2 * expected.plane_bytes:
        raise ConversionError("corrupt", "The pixel data hold more than the one frame declared.", "PixelData")
    decoder = _decoder(syntax)
    plugin = _PLUGINS.get(syntax, ("", ""))[0]
    try:
        with quiet():
            values, _ = decoder.as_array(header, raw=True, index=0, decoding_plugin=plugin)
    # Decoders of five libraries raise whatever damaged data lead to.
    except Exception:  # noqa: BLE001
        raise ConversionError("corrupt", "The decoder refuses the pixel data.", "PixelData") from None
    except BaseException as error:
        # A panic in the Rust code of pylibjpeg-rle is no Exception; all else (an interrupt) goes on.
        if type(error).__name__ != "PanicException":
            raise
        raise ConversionError("corrupt", "The decoder refuses the pixel data.", "PixelData") from None
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if values.shape != (expected.rows, expected.columns) or values.dtype != expected.dtype:
        raise ConversionError("corrupt", "The decoder gives another size or type than declared.", "PixelData")
    return drop_unused_bits(values, expected.bits_stored)


def drop_unused_bits(values: np.ndarray, bits_stored: int) -> np.ndarray:
    """Clear (unsigned) or sign-extend (signed) the bits above BitsStored (PS3.5 8.1.1; overlays once)."""
    shift = 8 * values.dtype.itemsize - bits_stored
    return np.right_shift(np.left_shift(values, shift), shift) if shift else values


def _check_codestream(data: bytes, syntax: UID, expected: PixelFormat) -> None:
    """The size that a codestream declares must be the header's, before a decoder takes memory for it."""
    try:
        with quiet():
            frame = get_frame(data, 0, number_of_frames=1)
    # Damaged fragments raise ValueError, struct.error, IndexError and others.
    except Exception:  # noqa: BLE001
        raise ConversionError("corrupt", "The pixel data's fragments cannot be read.", "PixelData") from None
    if syntax == RLELossless:  # has no size of its own
        return
    size = _j2k_size(frame) if _PLUGINS[syntax] is _J2K else _jpeg_size(frame)
    if size is None:
        raise ConversionError("corrupt", "The compressed frame has no header.", "PixelData")
    if size != (expected.rows, expected.columns):
        raise ConversionError("corrupt", "The compressed frame's size is not Rows x Columns.", "PixelData")


def _j2k_size(frame: bytes) -> tuple[int, int] | None:
    """Rows and columns of a JPEG 2000 codestream (ISO/IEC 15444-1 A.5.1), within JP2 boxes or not."""
    at = frame.find(b"\xff\x4f\xff\x51")
    if at < 0 or len(frame) < at + 24:
        return None
    x1, y1, x0, y0 = (int.from_bytes(frame[at + 8 + 4 * i : at + 12 + 4 * i], "big") for i in range(4))
    return y1 - y0, x1 - x0


def _jpeg_size(frame: bytes) -> tuple[int, int] | None:
    """Rows and columns of a JPEG or JPEG-LS stream's frame header (ISO/IEC 10918-1 B.2, 14495-1 C.2.2)."""
    at = 2
    while at + 9 <= len(frame) and frame[:2] == b"\xff\xd8" and frame[at] == 0xFF:
        at += len(list(takewhile(lambda byte: byte == 0xFF, frame[at : at + 16]))) - 1
        marker = frame[at + 1 : at + 2]
        if marker == b"\xf7" or (b"\xc0" <= marker <= b"\xcf" and marker not in (b"\xc4", b"\xc8", b"\xcc")):
            return int.from_bytes(frame[at + 5 : at + 7], "big"), int.from_bytes(frame[at + 7 : at + 9], "big")
        at += 2 + int.from_bytes(frame[at + 2 : at + 4], "big")
    return None
