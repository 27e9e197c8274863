"""Headers of images that grouping has read, kept for describing: their elements as they lie, and where pixels are.

They go from process to process, so that no file is opened for its header twice. What pydicom had to parse (big-endian,
deflated, not plainly well formed) is not kept: it would be written and parsed again on its way.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from itertools import zip_longest

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from harmonize_converters import _dicom_frames, _dicom_kinds, _dicom_seg, _dicom_slice, _dicom_subject, _dicom_tracer
from harmonize_converters._dicom_header import by_number, opened_header, parsing
from harmonize_converters._dicom_mosaic import COUNT
from harmonize_converters._dicom_pixel_data import TABLE, Header, pixel_data
from harmonize_converters._dicom_recent import unchanged
from harmonize_converters._dicom_walk import META_TAGS, Elements, Tags, plain_dataset
from harmonize_converters.contract import ConversionError, FoundFile, SourceFiles

SERIES_TAGS = (
    *("PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID", "SOPClassUID", "Modality"),
    *("Rows", "Columns", "PixelSpacing", "ImageType", "EchoTime", "EchoNumbers", "InversionTime", "FlipAngle"),
    *("DiffusionBValue", "StackID", "KVP", "ConvolutionKernel", "NumberOfFrames"),
)
"""What no volume spans (FIDELITY I01). The subject is among them: careless de-identification gives different subjects
the same series UID."""
TAGS: tuple[str | int, ...] = tuple(
    dict.fromkeys(
        (
            *("SeriesInstanceUID", "ConcatenationUID", "InConcatenationTotalNumber", TABLE, COUNT),
            *(*SERIES_TAGS, *_dicom_frames.TAGS, *_dicom_kinds.SPLIT_TAGS, *_dicom_slice.TAGS),
            *(*_dicom_subject.RECIPE_TAGS, *_dicom_tracer.TAGS, *_dicom_seg.TAGS),
        )
    )
)
"""All that is asked of images and segmentations."""
_Lying = tuple[tuple[int, str | None, bytes | None], ...]
"""Tag, value representation and value of each element."""


def read_and_keep(file: FoundFile) -> tuple[Header, bytes]:
    """The header of a file, and the same kept, for ``headers``; empty where it is not plain. Raises
    ``ConversionError``."""
    with opened_header(file.path, TAGS) as (elements, stream):
        # Before a look at them converts any.
        lying = _as_they_lie(elements, by_number(TAGS)), _as_they_lie(elements.file_meta, META_TAGS)
        found = None
        if not isinstance(stream, BytesIO):  # inflated
            with suppress(ConversionError):  # of no matter while nobody asks for them
                found = pixel_data(elements, stream, file.size)
    header = Header(elements, found)
    if None in lying or elements.original_encoding[1] is not True:
        return header, b""
    kept = (_state(file), *lying, elements.original_encoding[0], found)
    return header, pickle.dumps(kept, pickle.HIGHEST_PROTOCOL)


def headers(source: SourceFiles) -> Iterator[Header]:
    """The header of each file: the one kept (``SourceFiles.peeked``) while no file has changed, else read. Raises
    ``ConversionError``."""
    kept = source.peeked if source.peeked and unchanged(source) else ()
    for file, data in zip_longest(source.files, kept[: len(source.files)]):
        if file.size == 0:
            raise ConversionError("empty_file")
        yield (data and _kept(data, file)) or read_and_keep(file)[0]


def _kept(data: bytes, file: FoundFile) -> Header | None:
    """None where it is of another file, or of this one as it was once."""
    state, lying, meta, implicit, found = pickle.loads(data)
    if state != _state(file):
        return None
    with parsing():
        elements = plain_dataset(_raw(lying, by_number(TAGS), implicit), _raw(meta, META_TAGS, False), implicit)
    return Header(elements, found)


def _state(file: FoundFile) -> tuple[str, int, int]:
    return file.key, file.size, file.mtime_ns


def _as_they_lie(elements: Dataset, tags: Tags) -> _Lying | None:
    """None where they are not those of ``walk``: some are converted already, or were not asked for."""
    found = list(elements.values())
    if not all(isinstance(one, RawDataElement) and int(one.tag) in tags for one in found):
        return None
    return tuple((int(one.tag), one.VR, one.value) for one in found)


def _raw(lying: _Lying, tags: Tags, implicit: bool) -> Elements:
    return {
        tags[tag]: RawDataElement(tags[tag], vr, len(value or ""), value, 0, implicit, True) for tag, vr, value in lying
    }
