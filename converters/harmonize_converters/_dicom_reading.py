"""Where the planes of a volume lie: all that reading needs of its headers, small enough to go with a description."""

from __future__ import annotations

import hashlib
import pickle
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from harmonize_converters._dicom_pixel_data import PixelData
from harmonize_converters._dicom_pixels import PixelFormat
from harmonize_converters._dicom_planes import PlaneFiles
from harmonize_converters._dicom_recent import unchanged
from harmonize_converters._dicom_slice import Tile
from harmonize_converters.contract import FoundFile, SourceFiles


@dataclass(frozen=True, slots=True)
class Reading:
    """The planes of a volume in the order t, z, each as the number of its file, its frame there, and its part of a
    mosaic; what all of them share; and where each file's pixels are. Of files as they were found (``state_of``)."""

    state: bytes
    pixels: PixelFormat
    n_times: int
    planes: tuple[tuple[int, int, Tile | None], ...]
    pixel_data: tuple[PixelData | None, ...]

    def packed(self) -> bytes:
        """For ``unpack``, in this process or another."""
        return zlib.compress(pickle.dumps(self, pickle.HIGHEST_PROTOCOL), 1)

    def blocks(self, files: tuple[FoundFile, ...], block_bytes: int) -> Iterator[tuple[int, np.ndarray]]:
        """The planes (plane, row, column) in the order t, c, z, about ``block_bytes`` at a time, with the number of the
        first. They are decoded one at a time, those in colour three times, so that memory stays bounded."""
        pixels, order = self.pixels, self._stored_order()
        at_once = max(1, block_bytes // pixels.plane_bytes)
        with PlaneFiles(files, self.pixel_data) as opened:
            for start in range(0, len(order), at_once):
                wanted = order[start : start + at_once]
                rows = (opened.slice(*self.planes[index], pixels)[color] for index, color in wanted)
                if len(wanted) == 1:
                    samples = next(rows)[np.newaxis]  # large planes are not copied
                else:
                    samples = np.empty((len(wanted), pixels.rows, pixels.columns), pixels.dtype)
                    for row, plane in enumerate(rows):
                        samples[row] = plane
                yield start, samples

    def _stored_order(self) -> list[tuple[int, int]]:
        """Number and colour of each plane, in the order t, c, z."""
        n_places = len(self.planes) // self.n_times
        times = [range(start, start + n_places) for start in range(0, len(self.planes), n_places)]
        return [(index, color) for time in times for color in range(self.pixels.colors) for index in time]


def unpack(packed: bytes, source: SourceFiles) -> Reading | None:
    """What ``Reading.packed`` gave, if it is of this source and its files are as they were found."""
    if not packed or not unchanged(source):
        return None
    found: Reading = pickle.loads(zlib.decompress(packed))
    return found if found.state == state_of(source) else None


def state_of(source: SourceFiles) -> bytes:
    """A hash of the source's files, with their sizes and times."""
    files = [(file.key, file.size, file.mtime_ns) for file in source.files]
    return hashlib.sha256(repr((source.member, files)).encode()).digest()
