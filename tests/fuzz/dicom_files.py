"""Good DICOM folders to damage: slices, series, frames, mosaics, cines, segmentations, waveforms; in every transfer
syntax that is decoded."""

from __future__ import annotations

import io
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from converters.dicom_files import (
    cine_dataset,
    j2k_frame,
    mosaic_dataset,
    planar_dataset,
    rle_frame,
    save,
    slice_dataset,
    stack,
    stored_planes,
    write_series,
)
from converters.seg_files import seg_dataset, segment
from converters.waveform_files import annotation, group, noise, waveform_dataset

Files = dict[str, bytes]
_UNCOMPRESSED = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)
_BYTES = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0}


def folders() -> tuple[Files, ...]:
    """Folders of files by name."""
    planes = stored_planes(4)
    found = [
        *(_one(ds, syntax) for ds in _plain(planes) for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian)),
        _one(stack(planes), DeflatedExplicitVRLittleEndian),
        _one(slice_dataset(planes[0], 1, 0.0), DeflatedExplicitVRLittleEndian),
        _one(slice_dataset(planes[0], 1, 0.0, PixelData=planes[0].astype(">i2").tobytes()), ExplicitVRBigEndian),
        _series(planes),
        _series(planes, ImagePositionPatient=[0, 0, 1.0]),
        _times(planes),
        *(_one(ds, ExplicitVRLittleEndian) for ds in (*_colored(), *_segmentations())),
        _one(next(_segmentations()), DeflatedExplicitVRLittleEndian),
        *(_one(_waveform(long), syntax) for long in (False, True) for syntax in _UNCOMPRESSED),
    ]
    for frames, syntax, changes in _compressed(stored_planes(3, 32, 32)):
        several = stack(stored_planes(3, 32, 32), **changes)
        single = slice_dataset(stored_planes(1, 32, 32)[0], 1, 0.0, **changes)
        for ds, data in ((several, encapsulate(frames)), (single, encapsulate(frames[:1]))):
            found.append(_encoded(ds, data, syntax))
        cut = encapsulate(frames, fragments_per_frame=1 if syntax == RLELossless else 2, has_bot=syntax == RLELossless)
        found.append(_encoded(several, cut, syntax))
        data, several.ExtendedOffsetTable, several.ExtendedOffsetTableLengths = encapsulate_extended(frames)
        found.append(_encoded(several, data, syntax))
    return tuple(found)


def lossless_jpeg(plane: np.ndarray, bits: int = 12) -> bytes:
    """A plane of unsigned numbers as lossless JPEG with the first predictor (ISO/IEC 10918-1 annex H).

    All categories of differences have Huffman codes of five bits, in order.
    """
    rows, columns = plane.shape
    table = bytes([0, 0, 0, 0, 17, *[0] * 11, *range(17)])
    guess = np.full((rows, columns), 1 << (bits - 1))
    guess[:, 1:], guess[1:, 0] = plane[:, :-1], plane[:-1, 0]
    written = []
    for difference in (plane.astype(int) - guess).ravel().tolist():
        size = abs(difference).bit_length()
        rest = difference if difference >= 0 else difference + (1 << size) - 1
        written.append(f"{size:05b}" + (f"{rest:0{size}b}" if size else ""))
    text = "".join(written)
    text += "1" * (-len(text) % 8)
    scan = int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\x00")
    frame = struct.pack(">BHHBBBB", bits, rows, columns, 1, 1, 0x11, 0)
    parts = ((0xC3, frame), (0xC4, b"\0" + table), (0xDA, bytes([1, 1, 0, 1, 0, 0])))
    return b"\xff\xd8" + b"".join(_segment(*part) for part in parts) + scan + b"\xff\xd9"


def _segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def _compressed(planes: np.ndarray) -> list[tuple[list[bytes], str, dict[str, object]]]:
    """Frames, the transfer syntax, and what the header says then."""
    unsigned = planes.astype(int) + 2048
    grey = (unsigned >> 4).astype(np.uint8)
    jpegs = []
    for plane in grey:
        jpeg = io.BytesIO()
        Image.fromarray(plane).save(jpeg, "JPEG", quality=90)
        jpegs.append(jpeg.getvalue())
    return [
        ([rle_frame(plane) for plane in planes], RLELossless, {}),
        ([j2k_frame(plane) for plane in planes], JPEG2000Lossless, {}),
        ([_jpeg_ls(plane) for plane in planes], JPEGLSLossless, {}),
        ([lossless_jpeg(plane) for plane in unsigned], JPEGLosslessSV1, {"PixelRepresentation": 0}),
        (jpegs, JPEGBaseline8Bit, _BYTES),
    ]


def _jpeg_ls(plane: np.ndarray) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        ds = dcmread(save(slice_dataset(plane, 1, 0.0), Path(folder) / "x"))
    ds.compress(JPEGLSLossless, generate_instance_uid=False)
    at = ds.PixelData.index(b"\xff\xd8")
    return ds.PixelData[at : ds.PixelData.rindex(b"\xff\xd9") + 2]


def _plain(planes: np.ndarray) -> list[Dataset]:
    nested, item = slice_dataset(planes[0], 1, 0.0), Dataset()
    item.CodeValue = "1"
    nested.AnatomicRegionSequence = [item, item]
    nested["AnatomicRegionSequence"].is_undefined_length = True
    return [
        *(slice_dataset(planes[0], 1, 0.0, SpacingBetweenSlices="2"), nested),
        *(stack(planes), stack(planes, [2, 0, 3, 1]), cine_dataset(planes)),
        mosaic_dataset(planes, (0, 0, 0), (1, 0, 0, 0, 1, 0), 2.0),
    ]


def _colored() -> list[Dataset]:
    """Images without a place: grey, through a table, colour by pixel, by plane, by palette, and in YBR."""
    colors = np.random.default_rng(7).integers(0, 256, (6, 4, 3), np.uint8)
    indices = colors[..., 0] % 4
    palette = planar_dataset(indices, PhotometricInterpretation="PALETTE COLOR")
    for number, color in enumerate(("Red", "Green", "Blue")):
        palette.add_new(f"{color}PaletteColorLookupTableDescriptor", "US", [4, 0, 8])
        palette.add_new(f"{color}PaletteColorLookupTableData", "OW", bytes(range(number, number + 4)))
    lut = Dataset()
    lut.add_new("LUTDescriptor", "US", [4, 0, 16])
    lut.add_new("LUTData", "OW", bytes(8))
    return [
        *(planar_dataset(indices), planar_dataset(colors), palette),
        planar_dataset(indices, ModalityLUTSequence=[lut], RescaleSlope=None, RescaleIntercept=None),
        planar_dataset(colors, PlanarConfiguration=1, PixelData=colors.transpose(2, 0, 1).tobytes()),
        planar_dataset(colors, PhotometricInterpretation="YBR_FULL"),
    ]


def _segmentations() -> Iterator[Dataset]:
    """Two segments in frames of bits, overlapping and not, as shares, and as labels."""
    labels = np.random.default_rng(8).integers(0, 3, (3, 5, 7)).astype(np.uint8)
    bits = [(2.5 * z, n, (plane == n).astype(np.uint8)) for z, plane in enumerate(labels) for n in (1, 2)]
    yield seg_dataset(bits[::-1])
    yield seg_dataset([(z, n, (labels[0] >= n).astype(np.uint8)) for z, n, _ in bits[:4]])
    yield seg_dataset([(z, n, plane * np.uint8(50 * n)) for z, n, plane in bits], "FRACTIONAL")
    planes = [(2.5 * z, 1, plane) for z, plane in enumerate(labels)]
    yield seg_dataset(planes, "LABELMAP", SegmentSequence=[segment(n) for n in (1, 2)])


def _waveform(undefined: bool) -> Dataset:
    """Three groups, one of them derived, and annotations of each kind."""
    groups = [
        group(noise(2, 30), WaveformPaddingValue=b"\0\x80"),
        group(noise(1, 12, "<i1", seed=1), rate="62.5", MultiplexGroupTimeOffset="20"),
        group(noise(2, 8, seed=2), WaveformOriginality="DERIVED"),
    ]
    kinds = {"POINT": [3], "SEGMENT": [3, 9], "END": [4]}
    notes = [
        annotation((1, 0), ("10:8208", "MDC"), TemporalRangeType=kind, ReferencedSamplePositions=samples)
        for kind, samples in kinds.items()
    ]
    return waveform_dataset(groups, [*notes, annotation((2, 1), UnformattedTextValue="a note")], undefined=undefined)


def _one(ds: Dataset, syntax: str) -> Files:
    with tempfile.TemporaryDirectory() as folder:
        return {"x.dcm": save(ds, Path(folder) / "x.dcm", syntax).read_bytes()}


def _encoded(ds: Dataset, data: bytes, syntax: str) -> Files:
    ds.PixelData = data
    ds["PixelData"].is_undefined_length = True
    ds["PixelData"].VR = "OB"
    return _one(ds, syntax)


def _series(planes: np.ndarray, **last: object) -> Files:
    """A series; ``last`` changes its last slice, so that one is a copy of nothing or lies on another."""
    with tempfile.TemporaryDirectory() as folder:
        write_series(Path(folder), planes, each=lambda k: last if k == len(planes) - 1 else {})
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def _times(planes: np.ndarray) -> Files:
    """Two times of two slices."""
    with tempfile.TemporaryDirectory() as folder:
        where = [{"ImagePositionPatient": [0, 0, k % 2], "TemporalPositionIdentifier": k // 2} for k in range(4)]
        write_series(Path(folder), planes, each=lambda k: where[k])
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}
