"""What a converted DICOM file must hold: the planes or samples that pydicom reads from the same bytes."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut
from pydicom.uid import JPEGLSLossless
from pydicom.waveforms import multiplex_array

from harmonize_converters._dicom_series import SEGMENTATION, WAVEFORM
from harmonize_converters.contract import SourceFiles


def check_dicom(source: SourceFiles, arrays: list[np.ndarray]) -> None:
    """Each plane is one of pydicom's, none oftener than there, and slices lie in the order of their positions. What
    pydicom does not read is not compared. The samples of waveforms are pydicom's."""
    if WAVEFORM in source.roles:
        _check_waveforms(source.primary.path, arrays)
        return
    (array,) = arrays
    logging.getLogger("pydicom").disabled = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            files = [file.path.read_bytes() for file in source.files]
            headers = [dcmread(BytesIO(data)) for data in files]
            planes = [plane for header in headers for plane in _planes(header)]
            order = _order(headers) if len(array) == len(headers) == len(planes) else None
        except Exception:  # noqa: BLE001 - the judge has nothing to say
            return
    if any(data.count(b"\xe0\x7f\x10\x00") > 1 for data in files):  # pydicom may take a second element for the first
        return
    if SEGMENTATION in source.roles:
        ours, theirs = (Counter(_masks(some)) for some in (array, planes))
        assert ours <= theirs, "voxels that pydicom does not find in a segment"
        return
    ours, theirs = (Counter(plane.tobytes() for plane in some) for some in (array, planes))
    assert ours <= theirs, "planes that pydicom does not find"
    if order is not None:
        np.testing.assert_array_equal(array, np.array(planes)[order])


def _check_waveforms(path: Path, arrays: list[np.ndarray]) -> None:
    logging.getLogger("pydicom").disabled = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            header = dcmread(path)
            groups = [group.get("WaveformOriginality") != "DERIVED" for group in header.WaveformSequence]
            wanted = [multiplex_array(header, index, as_raw=True).T for index, own in enumerate(groups) if own]
        except Exception:  # noqa: BLE001 - the judge has nothing to say
            return
    assert len(arrays) == len(wanted)
    for got, want in zip(arrays, wanted, strict=True):
        np.testing.assert_array_equal(got, want)


def _planes(header: Dataset) -> list[np.ndarray]:
    """Frames, a plane for each colour, or the tiles of a mosaic."""
    if header.file_meta.TransferSyntaxUID == JPEGLSLossless:  # what its two decoders make of damage differs
        header.pixel_array_options(decoding_plugin="pyjpegls")
    pixels = header.pixel_array
    pixels = pixels.astype(pixels.dtype.newbyteorder("="))
    if header.PhotometricInterpretation == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, header)
        pixels = np.moveaxis(pixels, -1, -3)
    if header.SamplesPerPixel == 3:
        pixels = np.moveaxis(pixels, -1, -3)
    frames = list(pixels.reshape(-1, *pixels.shape[-2:]))
    if "MOSAIC" not in header.ImageType:
        return frames
    across = int(np.ceil(np.sqrt(header[0x0019100A].value)))
    rows, columns = pixels.shape[0] // across, pixels.shape[1] // across
    return [
        np.ascontiguousarray(pixels[r * rows : (r + 1) * rows, c * columns : (c + 1) * columns])
        for r in range(across)
        for c in range(across)
    ]


def _masks(planes: Iterable[np.ndarray]) -> Iterator[bytes]:
    """The voxels of each value in each plane: several segments are one plane of ours, and a frame each in the file."""
    for plane in planes:
        yield from (np.packbits(plane == value).tobytes() for value in np.unique(plane[plane > 0]))


def _order(headers: list[Dataset]) -> np.ndarray | None:
    """That of single frames along the normal; None where some lie at one place, and time tells them apart."""
    x, y = np.split(np.array(headers[0].ImageOrientationPatient, float), 2)
    along = [float(np.array(one.ImagePositionPatient, float) @ np.cross(x, y)) for one in headers]
    return np.argsort(along) if len(set(along)) == len(along) else None
