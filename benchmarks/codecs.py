"""``python -m benchmarks.codecs``: what each way of shuffling before lz4 and zstd makes of chunks of real data.

Size beside the native samples and the rate of decoding into one buffer, one thread. ``shards._shuffle`` chooses by it.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numcodecs.blosc as blosc
import numpy as np
import pyedflib

from benchmarks.timing import alternating_s, blosc_alone
from harmonize.store.geometry import CHUNK_BYTES, IMAGE_CHUNK
from harmonize.store.shards import LEVELS

DATA = Path(__file__).parents[2] / "shared" / "data"
WAYS = ("noshuffle", "shuffle", "bitshuffle")
ROUNDS = 5


def signals(samples: np.ndarray) -> list[np.ndarray]:
    """Chunks of samples (channel, time)."""
    width = min(CHUNK_BYTES // samples[:, 0].nbytes, samples.shape[1])
    starts = range(0, samples.shape[1] - width + 1, width)
    return [np.ascontiguousarray(samples[:, at : at + width]) for at in starts]


def cubes(voxels: np.ndarray) -> list[np.ndarray]:
    """Whole chunks of an image (z, y, x)."""
    edge = IMAGE_CHUNK
    corners = np.ndindex(*(size // edge for size in voxels.shape))
    return [np.ascontiguousarray(voxels[tuple(slice(edge * k, edge * (k + 1)) for k in at)]) for at in corners]


def real() -> Iterator[tuple[str, list[np.ndarray]]]:
    """Chunks of what is at hand, by name."""
    with pyedflib.EdfReader(str(DATA / "edf/eegbci/S001R02.edf")) as file:
        every = [file.readSignal(index, digital=True).astype(np.int16) for index in range(64)]
    yield "EEG, 64 channels, 160 Hz, int16", signals(np.stack(every))
    for name in ("records100", "records500"):
        files = sorted(glob.glob(str(DATA / f"ptb-xl/{name}/**/*.dat"), recursive=True))[:60]
        ecg = np.concatenate([np.fromfile(file, "<i2").reshape(-1, 12).T for file in files], axis=1)
        yield f"ECG of PTB-XL, {name.removeprefix('records')} Hz, int16", signals(ecg)
    for name in ("CT_AVM", "chris_MRA", "chris_t1", "pcasl"):
        image = np.asanyarray(nibabel.load(DATA / f"nifti/{name}.nii.gz").dataobj.get_unscaled())
        volume = image.reshape(*image.shape[:3], -1)[..., 0].T
        if chunks := cubes(volume):
            yield f"`{name}.nii.gz`, {image.dtype}", chunks


def rows() -> list[str]:
    """The table: for each kind of data and codec, size and rate with each way of shuffling."""
    with blosc_alone():
        return _rows()


def _rows() -> list[str]:
    found = ["| data | codec | " + " | ".join(WAYS) + " |", "|---|---|" + "---|" * len(WAYS)]
    for name, chunks in real():
        out, size = np.empty(chunks[0].nbytes, np.uint8), sum(chunk.nbytes for chunk in chunks)
        for codec, level in LEVELS.items():
            cells = []
            for way in WAYS:
                shuffle = getattr(blosc, way.upper())
                coded = [blosc.compress(one, codec.encode(), level, shuffle, 0, one.itemsize) for one in chunks]

                def decode(coded: list[bytes] = coded, out: np.ndarray = out) -> None:
                    for one in coded:
                        blosc.decompress(one, out)

                seconds = alternating_s({"": decode}, ROUNDS)[""]
                cells.append(f"{sum(map(len, coded)) / size:.2f}, {size / seconds / 1e9:.1f} GB/s")
            found.append(f"| {name} | {codec} | " + " | ".join(cells) + " |")
    return found


if __name__ == "__main__":
    print("\n".join(rows()))
