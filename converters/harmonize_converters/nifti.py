"""NIfTI-1 and NIfTI-2, plain or gzip: one file, one image, with BIDS and FSL files beside it."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO, cast

import nibabel as nib
import numpy as np
from pydantic import ValidationError

from harmonize_converters import _nifti_sidecar as beside
from harmonize_converters._nifti_header import GZIP, LONGEST, Layout, head_bytes, is_nifti, parse
from harmonize_converters.contract import (
    HEAD_BYTES,
    Block,
    ConversionError,
    Described,
    Description,
    FoundAnnotation,
    FoundFile,
    Identity,
    SourceFiles,
)
from harmonize_schemas import Acquisition, Image

DEFLATE_RATIO = 1032
"""The most that deflate can shrink data (RFC 1951: 258 bytes for 2 bits)."""
TRAILING_LIMIT = 1 << 24
_PIECE = 1 << 16


class NiftiConverter:
    """Single-file NIfTI (``converter`` contract)."""

    name = "nifti"
    version = "2"
    suffixes = frozenset({".nii", ".nii.gz", ".hdr"})

    def recognize(self, head: bytes, name: str) -> bool:
        """A header size of 348 or 540 in either byte order, and the magic; Analyze too, to be refused by name."""
        return is_nifti(head_bytes(head))

    def group(self, files: Sequence[FoundFile], siblings: Mapping[str, FoundFile]) -> list[SourceFiles]:
        """Every image is a source, with the files beside it of the same stem; in a BIDS data set with those that
        apply to it by the inheritance principle."""
        around = beside.Around(siblings)
        sources = []
        for file in sorted(files, key=lambda f: f.key):
            near = around.of(file)
            roles, others = [role for role, _ in near], [other for _, other in near]
            sources.append(SourceFiles(self.name, file.key, (file, *others), ("image", *roles)))
        return sources

    def describe(self, source: SourceFiles) -> Described:
        """The header, and the small files beside the image."""
        layout, flags = _layout(source.primary)
        fields = beside.sidecar(source)
        description = Description(
            format=f"NIfTI-{layout.version}",
            modality=beside.modality(fields) if fields is not None else "image",
            image=_image(layout, source),
            acquisition=beside.acquisition(fields) if fields is not None else Acquisition(),
            flags=(*layout.geometry.flags, *flags),
            libraries={"nibabel": nib.__version__},
        )
        return Described(description, beside.identity(fields) if fields is not None else Identity())

    def read(self, source: SourceFiles, description: Description, block_bytes: int) -> Iterator[Block]:
        """Planes as they lie in the file, little-endian; gzip files are read to their checksum."""
        layout, flags = _layout(source.primary)
        if _image(layout, source) != description.image:
            raise ConversionError("source_changed")
        x, y = layout.shape[:2]
        plane = x * y * layout.stored.itemsize
        n_planes = layout.data_bytes // plane
        at_once = max(1, block_bytes // plane)
        native = layout.stored.newbyteorder("<")
        try:
            with _open(source.primary) as opened:
                _skip(opened, layout.offset)
                for start in range(0, n_planes, at_once):
                    count = min(at_once, n_planes - start)
                    data = _read(opened, count * plane)
                    samples = np.frombuffer(data, layout.stored).reshape(count, y, x)
                    yield Block(None, start, samples.astype(native, copy=False))
                _finish(opened, source.primary, "trailing_bytes" in flags)
        except EOFError:
            raise ConversionError("truncated") from None
        except (gzip.BadGzipFile, zlib.error):
            raise ConversionError("corrupt", "The gzip data are damaged.") from None
        except OSError:
            raise ConversionError("unreadable_file") from None

    def annotations(self, source: SourceFiles, description: Description) -> Iterator[FoundAnnotation]:
        """None: images have no events."""
        return iter(())


def _open(file: FoundFile) -> BinaryIO:
    with file.path.open("rb") as opened:
        zipped = opened.read(2) == GZIP
    return cast(BinaryIO, gzip.open(file.path, "rb")) if zipped else file.path.open("rb")


def _read(opened: BinaryIO, count: int) -> bytes:
    data = opened.read(count)
    if len(data) < count:
        raise EOFError
    return data


def _skip(opened: BinaryIO, count: int) -> None:
    """Step over header and extensions; these may hold texts, and are not kept."""
    while count > 0:
        count -= len(_read(opened, min(count, _PIECE)))


def _finish(opened: BinaryIO, file: FoundFile, trailing: bool) -> None:
    """Read a gzip stream to its end, so that its checksum and length are verified."""
    if not isinstance(opened, gzip.GzipFile):
        return
    extra = 0
    while data := opened.read(_PIECE):
        extra += len(data)
        if not trailing or extra > TRAILING_LIMIT:
            raise ConversionError("corrupt", "The gzip stream holds more than the header declares.")


def _layout(file: FoundFile) -> tuple[Layout, tuple[str, ...]]:
    """The header, held against the file's size before anything is read; and flags of the file."""
    if file.size == 0:
        raise ConversionError("empty_file")
    try:
        with file.path.open("rb") as opened:
            head = opened.read(HEAD_BYTES)
            opened.seek(-min(4, len(head)), 2)
            tail = opened.read(4)
    except OSError:
        raise ConversionError("unreadable_file") from None
    zipped = head[:2] == GZIP
    plain = head_bytes(head)
    if zipped and not plain:
        raise ConversionError("truncated" if file.size < 100 else "corrupt", "The gzip data hold no header.")
    layout = parse(plain[:LONGEST])
    declared = layout.offset + layout.data_bytes
    limit = file.size * DEFLATE_RATIO if zipped else file.size
    if declared > limit:
        far = zipped or declared > DEFLATE_RATIO * file.size
        raise ConversionError("implausible_size" if far else "truncated", f"{declared} bytes are declared.")
    # The last four bytes of a gzip file are its length modulo 2^32 (RFC 1952 2.3.1).
    more = int.from_bytes(tail, "little") > declared % 2**32 if zipped else file.size > declared
    return layout, (("trailing_bytes",) if more else ())


def _image(layout: Layout, source: SourceFiles) -> Image:
    files, said = dict(zip(source.roles, source.files, strict=True)), beside.sidecar(source) or {}
    x, y, z, *t = layout.shape
    times = t[0] if t else 1
    fields: dict[str, Any] = {
        "axes": ("t", "z", "y", "x") if t else ("z", "y", "x"),
        "shape": (*t, z, y, x),
        "dtype": layout.stored.newbyteorder("=").name,
        "affine": layout.geometry.affine,
        "affine_source": layout.geometry.source,
        "alternative_affine": layout.geometry.alternative,
        "alternative_affine_source": "qform" if layout.geometry.alternative is not None else None,
        "spacing_mm": layout.geometry.spacing_mm,
        "spacing_source": layout.geometry.spacing_source,
        "orientation": layout.geometry.orientation,
        "slopes": (layout.slope,),
        "intercepts": (layout.intercept,),
        "unit": beside.unit(said),
        "time_step_s": beside.time_step_s(said, times, layout.time_step_s) if t else None,
        "b_values_s_mm2": beside.b_values(files["bval"], times) if "bval" in files else None,
        "b_vectors_ras": beside.b_vectors(files["bvec"], times, layout.geometry.affine) if "bvec" in files else None,
    }
    try:
        return Image(**fields)
    except ValidationError:
        raise ConversionError("invalid_header", "The header's numbers do not make an image.") from None
