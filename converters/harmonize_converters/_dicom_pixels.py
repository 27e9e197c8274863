"""How a DICOM file's pixels are stored: sizes checked, decoders named, unused bits dropped (FIDELITY I07-I09)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from math import ceil

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

from harmonize_converters import _dicom_palette
from harmonize_converters._dicom_color import GREY, PALETTE, check_colors, check_photometric, is_frame_header, segments
from harmonize_converters._dicom_frames import n_frames
from harmonize_converters._dicom_header import meta_uid, quiet, text, whole
from harmonize_converters._dicom_palette import Palette, palette_of
from harmonize_converters.contract import ConversionError

TAGS = (
    *("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel"),
    *("PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "LossyImageCompression"),
    *("PixelPresentation", "SegmentationType", *_dicom_palette.TAGS),
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
    """What all frames of a volume must share. ``photometric`` and ``samples`` (a pixel) are those of the file;
    ``planar``: whether uncompressed samples lie color by plane."""

    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    signed: bool
    photometric: str
    transfer_syntax: str
    lossy: bool
    samples: int = 1
    planar: bool = False
    palette: Palette | None = None

    @property
    def stored_dtype(self) -> np.dtype:
        """Of decoded samples, before a palette."""
        return np.dtype(f"{'int' if self.signed else 'uint'}{max(self.bits_allocated, 8)}")

    @property
    def dtype(self) -> np.dtype:
        """Of the values that a plane is given as."""
        return self.stored_dtype if self.palette is None else self.palette.dtype

    @property
    def colors(self) -> int:
        """Planes that a frame is given as: red, green and blue, or one of grey values."""
        return 1 if self.photometric in GREY else 3

    @property
    def plane_bytes(self) -> int:
        """Of one colour's plane, as given."""
        return self.rows * self.columns * self.dtype.itemsize

    @property
    def frame_bits(self) -> int:
        """Of one frame that is not compressed, as stored; YBR_FULL_422 has two samples a pixel (PS3.3 C.7.6.3.1.2)."""
        halved = self.photometric == "YBR_FULL_422" and not UID(self.transfer_syntax).is_encapsulated
        return self.rows * self.columns * self.bits_allocated * (2 if halved else self.samples)


def pixel_format(header: FileDataset, size: int) -> PixelFormat:
    """The format that a header declares, checked against the file's ``size`` in bytes."""

    def required(name: str) -> int:
        found = whole(header, name)
        if found is None or found < 0:
            raise ConversionError("invalid_header", "The element is missing or negative.", name)
        return found

    photometric, samples = text(header, "PhotometricInterpretation") or "", required("SamplesPerPixel")
    if photometric == PALETTE and text(header, "SegmentationType") == "LABELMAP":
        photometric = "MONOCHROME2"  # the colours are for a screen; the values are what they stand for
    allocated, stored = required("BitsAllocated"), required("BitsStored")
    syntax = meta_uid(header, "TransferSyntaxUID")
    check_photometric(photometric, samples, stored, syntax)
    decoder_of(syntax)  # refuses what is no transfer syntax before it is asked what kind it is
    if photometric in GREY and text(header, "PixelPresentation") in ("COLOR", "MIXED"):
        raise ConversionError("unsupported_photometric", "Some values are colours of a supplemental palette.")
    packed = allocated == 1 and photometric in GREY and not syntax.is_encapsulated and syntax.is_little_endian
    if not (allocated in (8, 16, 32) or packed) or not 1 <= stored <= allocated:
        raise ConversionError("unsupported_pixel_data", f"Bits allocated {allocated}, stored {stored}.")
    if required("HighBit") != stored - 1:
        raise ConversionError("unsupported_pixel_data", f"High bit is not {stored - 1}.", "HighBit")
    representation = required("PixelRepresentation")
    if representation not in (0, 1):
        raise ConversionError("invalid_header", "0 or 1 would be right.", "PixelRepresentation")
    if representation and (samples > 1 or allocated == 1):
        raise ConversionError("unsupported_pixel_data", "Colours or single bits that are signed.")
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
        samples=samples,
        planar=samples > 1 and not syntax.is_encapsulated and required("PlanarConfiguration") == 1,
        palette=palette_of(header, representation == 1) if photometric == PALETTE else None,
    )
    if photometric == "YBR_FULL_422" and (declared.planar or declared.columns % 2):
        raise ConversionError("invalid_header", "Halved colours need pairs of pixels, color by pixel.", photometric)
    if declared.rows == 0 or declared.columns == 0:
        raise ConversionError("invalid_header", "Rows and Columns above zero would be right.")
    encoded = syntax.is_encapsulated or syntax.is_deflated
    frames = n_frames(header)
    limit = max(_HUGE_PLANE, _COMPRESSION_LIMIT * size) if encoded else size
    wanted = ceil(declared.frame_bits * (1 if encoded else frames) / 8)
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
    found = {name: _installed(name) for name in sorted(names)}
    return {name: one for name, one in found.items() if one is not None}


@cache
def _installed(name: str) -> str | None:
    """The version of a package, looked up once: it is asked for with every series."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


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
    """The size and the colours that a frame's codestream declares must be the header's, before a decoder takes memory
    for it."""
    if expected.samples == 3:
        check_colors(frame, syntax, expected.photometric)
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
    headers = (content for marker, content in segments(frame) if is_frame_header(marker) and len(content) >= 5)
    found = next(headers, None)
    return None if found is None else (int.from_bytes(found[1:3], "big"), int.from_bytes(found[3:5], "big"))
