"""DICOM: single-frame files of CT, MR, PET and other scans with a place in the patient, to volumes.

Multi-frame objects, mosaics, colour and images without plane position are refused by name (issue 4).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from pydantic import ValidationError
from pydicom.dataset import FileDataset

from harmonize_converters import _dicom_subject
from harmonize_converters._dicom_header import PREFIX, PREFIX_AT, numbers, read_dataset, texts
from harmonize_converters._dicom_pixels import libraries, read_plane
from harmonize_converters._dicom_slice import TAGS, Slice, is_directory, slice_of
from harmonize_converters._dicom_volume import Volume, assemble, clusters
from harmonize_converters.contract import (
    Block,
    ConversionError,
    Described,
    Description,
    FoundAnnotation,
    FoundFile,
    Identity,
    SourceFiles,
)
from harmonize_schemas import Image

# What no volume spans (FIDELITY I01). The subject is among them: careless de-identification gives
# different subjects the same series UID.
_SPLIT_TAGS = (
    *("PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID", "SOPClassUID", "Modality"),
    *("Rows", "Columns", "PixelSpacing", "ImageType", "EchoTime", "EchoNumbers", "InversionTime", "FlipAngle"),
    *("DiffusionBValue", "StackID", "KVP", "ConvolutionKernel", "NumberOfFrames"),
)
_GROUP_TAGS = ("SeriesInstanceUID", "ImageOrientationPatient", *_SPLIT_TAGS)
_READ_TAGS = tuple(dict.fromkeys((*TAGS, *_dicom_subject.RECIPE_TAGS)))


class DicomConverter:
    """Single-frame DICOM series to volumes (``converter`` contract)."""

    name = "dicom"
    version = "1"
    suffixes = frozenset({".dcm", ".ima"})

    def recognize(self, head: bytes, name: str) -> bool:
        """The prefix of PS3.10 7.1, whatever the file is called."""
        return head[PREFIX_AT : PREFIX_AT + len(PREFIX)] == PREFIX

    def group(self, files: Sequence[FoundFile], siblings: Mapping[str, FoundFile]) -> list[SourceFiles]:
        """One source a volume: a folder's slices of one series, split by what no volume spans."""
        sources: list[SourceFiles] = []
        series: dict[tuple[str, ...], list[tuple[FoundFile, tuple[float, ...] | None]]] = {}
        for file in sorted(files, key=lambda f: f.key):
            try:
                header = read_dataset(file.path, _GROUP_TAGS)
                if is_directory(header):
                    continue
                uid = _texts(header, "SeriesInstanceUID")
            except ConversionError:
                uid = ()
            if not uid:  # described alone, where the reason is given
                sources.append(SourceFiles(self.name, file.key, (file,), ("slice",)))
                continue
            folder = file.key.rpartition("/")[0]
            split = tuple("\\".join(_texts(header, tag)) for tag in _SPLIT_TAGS)
            orientation = _orientation(header)
            series.setdefault((folder, uid[0], *split), []).append((file, orientation))
        for (folder, uid_, *split_), members in series.items():
            kinds = clusters([orientation for _, orientation in members])
            for kind in sorted(set(kinds)):
                of_kind = tuple(file for (file, _), k in zip(members, kinds, strict=True) if k == kind)
                mark = hashlib.sha256("\0".join([*split_, str(kind)]).encode()).hexdigest()[:8]
                key = f"{folder}/{uid_}-{mark}"
                sources.append(SourceFiles(self.name, key, of_kind, ("slice",) * len(of_kind)))
        return sources

    def describe(self, source: SourceFiles) -> Described:
        """Headers of all slices; pixels only of slices at one place and time, to tell copies apart."""
        slices, volume, first = _assemble(source)
        lead = slices[0]
        compressed = ("lossy_compression",) if lead.pixels.lossy else ()
        description = Description(
            format="DICOM",
            modality=lead.meaning.modality,
            image=_image(slices, volume),
            acquisition=_dicom_subject.acquisition(first),
            demographics=_dicom_subject.demographics(first),
            flags=(*volume.geometry.flags, *volume.flags, *compressed),
            transfer_syntax=lead.pixels.transfer_syntax,
            libraries=libraries(lead.pixels.transfer_syntax),
        )
        starts = [s.start for s in slices if s.start is not None]
        identity: Identity = replace(_dicom_subject.identity(first), start=min(starts, default=None))
        named = {tag: "\\".join(_texts(first, tag)) for tag in _dicom_subject.RECIPE_TAGS}
        return Described(description, identity, {tag: found for tag, found in named.items() if found.strip("\0")})

    def read(self, source: SourceFiles, description: Description, block_bytes: int) -> Iterator[Block]:
        """Planes in the order t, z, each file opened once."""
        slices, volume, _ = _assemble(source)
        if _image(slices, volume) != description.image:
            raise ConversionError("source_changed")
        pixels = slices[0].pixels
        at_once = max(1, block_bytes // pixels.plane_bytes)
        for start in range(0, len(volume.planes), at_once):
            indices = volume.planes[start : start + at_once]
            samples = np.empty((len(indices), pixels.rows, pixels.columns), pixels.dtype)
            for row, index in enumerate(indices):
                samples[row] = read_plane(source.files[index], slices[index].pixels)
            yield Block(None, start, samples)

    def annotations(self, source: SourceFiles, description: Description) -> Iterator[FoundAnnotation]:
        """None: images have no events."""
        return iter(())


def _texts(header: FileDataset, tag: str) -> tuple[str, ...]:
    """The texts of an element; one of their own for what cannot be read, so that a series stays together."""
    try:
        return texts(header, tag)
    except ConversionError:
        return ("\0",)


def _orientation(header: FileDataset) -> tuple[float, ...] | None:
    try:
        return numbers(header, "ImageOrientationPatient")
    except ConversionError:
        return None


def _assemble(source: SourceFiles) -> tuple[list[Slice], Volume, FileDataset]:
    slices: list[Slice] = []
    first: FileDataset | None = None
    for file in source.files:
        if file.size == 0:
            raise ConversionError("empty_file")
        header = read_dataset(file.path, _READ_TAGS)
        first = first if first is not None else header
        slices.append(slice_of(header, file.size))
    if first is None:
        raise ConversionError("missing_file")

    def same(a: int, b: int) -> bool:
        planes = [read_plane(source.files[i], slices[i].pixels) for i in (a, b)]
        return bool(np.array_equal(planes[0], planes[1]))

    return slices, assemble(slices, same), first


def _image(slices: Sequence[Slice], volume: Volume) -> Image:
    lead, geometry = slices[0], volume.geometry
    n_places = len(volume.planes) // volume.n_times
    timed = volume.n_times > 1
    pairs = [(slices[i].slope, slices[i].intercept) for i in volume.planes]
    pairs = pairs[:1] if len(set(pairs)) == 1 else pairs
    b_value = lead.meaning.b_value
    fields: dict[str, Any] = {
        "axes": ("t", "z", "y", "x") if timed else ("z", "y", "x"),
        "shape": (*((volume.n_times,) if timed else ()), n_places, lead.pixels.rows, lead.pixels.columns),
        "dtype": str(lead.pixels.dtype),
        "affine": geometry.affine,
        "affine_source": "plane_position" if geometry.affine is not None else "unknown",
        "spacing_mm": geometry.spacing_mm,
        "spacing_source": "affine" if geometry.spacing_mm is not None else "unknown",
        "orientation": geometry.orientation,
        "slopes": tuple(slope for slope, _ in pairs),
        "intercepts": tuple(intercept for _, intercept in pairs),
        "unit": lead.meaning.unit,
        "padding_value": lead.meaning.padding,
        "time_step_s": volume.time_step_s,
        # An anatomical image with b = 0 is no diffusion series.
        "b_values_s_mm2": (b_value,) * volume.n_times if b_value else None,
        "photometric": lead.pixels.photometric,
    }
    try:
        return Image(**fields)
    except ValidationError:
        raise ConversionError("invalid_header", "The header's numbers do not make an image.") from None
