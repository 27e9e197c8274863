"""How a DICOM file's pixels are stored: sizes checked, decoders named, unused bits dropped (FIDELITY I07-I09)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from itertools import takewhile

import numpy as np
from pydicom.dataset import FileDataset
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

from harmonize_converters._dicom_frames import n_frames
from harmonize_converters._dicom_header import meta_uid, quiet, text, whole
from harmonize_converters.contract import ConversionError

TAGS = (
    *("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel"),
    *("PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "LossyImageCompression"),
)
# One decoder each, whatever else is installed: the same file must give the same values everywhere.
_J2K, _JPEG, _JPEG_LS, _RLE = (
    ("pylibjpeg", "pylibjpeg-openjpeg"),
    ("pylibjpeg", "pylibjpeg-libjpeg"),
    ("pyjpegls", "pyjpegls"),
    ("pylibjpeg", "pylibjpeg-rle"),
)
PLUGINS = {
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
    encoded = decoder_of(syntax).UID.is_encapsulated or syntax.is_deflated
    frames = n_frames(header)
    limit = max(_HUGE_PLANE, _COMPRESSION_LIMIT * size) if encoded else size
    wanted = declared.plane_bytes if encoded else declared.plane_bytes * frames
    if wanted > limit or frames > max(size, 1):
        far = encoded or wanted > _COMPRESSION_LIMIT * max(size, 1)
        raise ConversionError("implausible_size" if far else "truncated")
    return declared


@lru_cache(maxsize=64)
def decoder_of(syntax: UID) -> Decoder:
    """What decodes a transfer syntax. Raises ``ConversionError``."""
    try:
        with quiet():
            decoder = get_decoder(syntax)
    except (NotImplementedError, ValueError):
        name = syntax.name if syntax.is_valid and not syntax.is_private and syntax.name != syntax else "not known"
        raise ConversionError("unsupported_transfer_syntax", f"Its name is: {name}.") from None
    if syntax.is_encapsulated and PLUGINS.get(syntax, ("", ""))[0] not in decoder.available_plugins:
        raise ConversionError("unsupported_transfer_syntax", f"{syntax.name} needs {PLUGINS[syntax][1]}.")
    return decoder


def libraries(transfer_syntax: str) -> dict[str, str]:
    """Versions of what decodes a transfer syntax."""
    names = ["pydicom", *({*PLUGINS.get(UID(transfer_syntax), ())})]
    found: dict[str, str] = {}
    for name in sorted(names):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def drop_unused_bits(values: np.ndarray, bits_stored: int) -> np.ndarray:
    """Clear (unsigned) or sign-extend (signed) the bits above BitsStored (PS3.5 8.1.1; overlays once), in place where
    ``values`` can be written to."""
    shift = 8 * values.dtype.itemsize - bits_stored
    if not shift:
        return values
    own = values if values.flags.writeable else values.copy()
    np.left_shift(own, shift, out=own)
    np.right_shift(own, shift, out=own)
    return own


def check_codestream(frame: bytes, syntax: UID, expected: PixelFormat) -> None:
    """The size that a frame's codestream declares must be the header's, before a decoder takes memory for it."""
    if syntax == RLELossless:  # has no size of its own
        return
    size = _j2k_size(frame) if PLUGINS[syntax] is _J2K else _jpeg_size(frame)
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
