"""``python -m benchmarks.patches``: random 96^3 patches of 20 T1 volumes against a memmap, TorchIO and scipy.

The volumes are 20 versions of a real T1 (``../shared/data/nifti/chris_t1.nii.gz``; a made-up head where it is absent)
as int16, as scanners write: flipped, with a gain and noise of their own. TorchIO reads the same as ``.nii.gz`` where
there is ``make .venv/torchio``; else nibabel stands in.
``python -m benchmarks.patches chunks``: what the size of the store's chunks costs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import scipy.ndimage
from torch.utils.data import DataLoader

from benchmarks.timing import alternating_s, one_thread, row
from harmonize.data import BatchStream, PatchDataset
from harmonize.ingest.rows import recording_row
from harmonize.store import create_store, geometry
from harmonize.store.catalog import Batch, commit
from harmonize.store.parts import ImagePart
from harmonize.store.shards import Codec
from harmonize_schemas import Acquisition, Demographics, Image, Privacy, Provenance, Recording, Source

T1 = Path(__file__).parents[2] / "shared" / "data" / "nifti" / "chris_t1.nii.gz"
VOLUMES, EDGE, BATCH, ROUNDS = 20, 96, 8, 5
SPACING_MM, FINER_MM = 0.88, 0.8

TORCHIO = Path(".venv/torchio/bin/python")
BY_TORCHIO = """
import sys, time, warnings
warnings.filterwarnings("ignore")
import torch, torchio
torch.set_num_threads(1)
edge, per_volume, *files = sys.argv[1:]
data = torchio.SubjectsDataset([torchio.Subject(image=torchio.ScalarImage(file)) for file in files])
sampler, n = torchio.UniformSampler(int(edge)), 0
start = time.perf_counter()
for i in range(len(data)):
    for patch in sampler(data[i], int(per_volume)):
        n += len(patch["image"].data.float())
print((time.perf_counter() - start) / n)
"""


def volumes() -> np.ndarray:
    """Voxels (volume, z, y, x) int16 of a head."""
    if T1.is_file():
        head = np.asarray(nibabel.load(T1).dataobj).T.astype(np.float32)
    else:
        z, y, x = np.ogrid[-1:1:190j, -1:1:256j, -1:1:188j]
        radius = np.sqrt((z / 0.8) ** 2 + (y / 0.8) ** 2 + (x / 0.7) ** 2)
        head = np.where(radius < 1, 120 + 60 * np.sin(9 * radius + 5 * x * y), 0).astype(np.float32)
    made = np.empty((VOLUMES, *head.shape), np.int16)
    for number in range(VOLUMES):
        rng = np.random.default_rng(number)
        signal = head[:, :, :: -1 if number % 2 else 1] * rng.uniform(3, 5)
        made[number] = np.abs(signal + rng.normal(0, 6, head.shape).astype(np.float32))  # magnitude: Rician noise
    return made


def t1_store(root: Path, codec: Codec, voxels: np.ndarray) -> Path:
    """A store of these volumes."""
    affine = np.diag([SPACING_MM, SPACING_MM, SPACING_MM, 1.0])
    image = Image(
        axes=("z", "y", "x"), shape=voxels.shape[1:], dtype="int16", affine=tuple(map(tuple, affine.tolist())),
        affine_source="sform", spacing_mm=(SPACING_MM,) * 3, spacing_source="affine",
    )  # fmt: skip
    create_store(root, "none")
    rows = []
    for number, planes in enumerate(voxels):
        document = Recording(
            recording_id=f"synthetic/{number:06d}", dataset="synthetic", subject=f"sub-{number}", modality="mr",
            image=image, acquisition=Acquisition(), demographics=Demographics(),
            source=Source(id=str(number), root="none", format="none", files=()),
            provenance=Provenance(converter="none", converter_version="1", libraries={}),
            privacy=Privacy(method="keep", key_id="none", annotation_text="kept"),
        )  # fmt: skip
        part = ImagePart(root, "part", str(number), image, codec)
        part.write(0, planes)
        part.close(document)
        rows.append(recording_row(document, "", planes.nbytes, part.path))
    commit(root, Batch(recordings=rows))
    return root


def of_memmap(flat: np.ndarray, batches: Sequence[np.ndarray], ds: PatchDataset) -> None:
    """The same patches from an uncompressed memmap (volume, z, y, x)."""
    for numbers in batches:
        rows = numbers // (len(ds) // len(flat))
        out = np.empty((len(numbers), EDGE, EDGE, EDGE), np.float32)
        for place, (volume, (x, y, z, _)) in enumerate(zip(rows, ds._places(numbers, rows), strict=True)):
            out[place] = flat[volume, z : z + EDGE, y : y + EDGE, x : x + EDGE]


def of_scipy(flat: np.ndarray, batches: Sequence[np.ndarray], ds: PatchDataset) -> None:
    """Patches of another spacing from a memmap, each interpolated by itself."""
    for numbers in batches:
        rows = numbers // (len(ds) // len(flat))
        out = np.empty((len(numbers), EDGE, EDGE, EDGE), np.float32)
        for place, (volume, start) in enumerate(zip(rows, ds._places(numbers, rows), strict=True)):
            x, y, z = ds._grids[volume].axes
            step = [z.step, y.step, x.step]
            offset = [axis.first + axis.step * start[i] for i, axis in ((2, z), (1, y), (0, x))]
            scipy.ndimage.affine_transform(flat[volume], step, offset, output=out[place], order=1, mode="nearest")


def of_store(ds: PatchDataset, batches: Sequence[np.ndarray]) -> None:
    """Patches of a data set."""
    for numbers in batches:
        ds.__getitems__(numbers)


def torchio_s(files: Sequence[Path], per_volume: int) -> tuple[str, float]:
    """What was measured, and seconds a patch."""
    names = [str(file) for file in files]
    if TORCHIO.exists():
        command = [TORCHIO, "-c", BY_TORCHIO, str(EDGE), str(per_volume), *names]
        return "TorchIO `UniformSampler`", float(subprocess.run(command, check=True, capture_output=True).stdout)
    rng = np.random.default_rng(0)
    start = time.perf_counter()
    for name in names:
        whole = np.asarray(nibabel.load(name).dataobj)
        for _ in range(per_volume):
            x, y, z = (rng.integers(0, n - EDGE + 1) for n in whole.shape)
            whole[x : x + EDGE, y : y + EDGE, z : z + EDGE].astype(np.float32)
    return "nibabel and a crop (no TorchIO)", (time.perf_counter() - start) / (per_volume * len(names))


def further(ds: PatchDataset, flat: np.ndarray, codec: str, memmap_s: float) -> list[str]:
    """Through workers, and of another spacing."""
    loader = DataLoader(
        ds, BATCH, shuffle=True, num_workers=2, collate_fn=ds.collate, persistent_workers=True
    )  # fmt: skip
    finer = PatchDataset(
        ds._root, patch=ds.patch, sampling="random", per_image=1, spacing=(FINER_MM,) * 3
    )  # fmt: skip
    batches = [np.arange(i, min(i + BATCH, len(finer))) for i in range(0, len(finer), BATCH)]
    seconds = alternating_s(
        {
            "workers": lambda: [None for _ in loader],
            "finer": lambda: of_store(finer, batches),
            "scipy": lambda: of_scipy(flat, batches, finer),
        },
        3,
    )
    what = f"the same through `DataLoader(num_workers=2)`, shuffled, codec {codec}"
    spaced = f"patches of {FINER_MM} mm from {SPACING_MM} mm, codec {codec}, one process"
    reference = "`scipy.ndimage.affine_transform`, memmap"
    return [
        row(what, len(ds), seconds["workers"], "numpy memmap gather, one process", memmap_s, "patches"),
        row(spaced, len(finer), seconds["finer"], reference, seconds["scipy"], "patches"),
    ]


def rows() -> list[str]:
    """Rows of the benchmark page."""
    one_thread()
    out = []
    with tempfile.TemporaryDirectory() as folder:
        voxels = volumes()
        flat = np.memmap(Path(folder) / "flat", dtype="<i2", mode="w+", shape=voxels.shape)
        flat[:] = voxels
        files = [Path(folder) / f"{number}.nii.gz" for number in range(VOLUMES)]
        for planes, file in zip(voxels, files, strict=True):
            nibabel.save(nibabel.Nifti1Image(planes.T, np.diag([SPACING_MM, SPACING_MM, SPACING_MM, 1.0])), file)
        references = {n: torchio_s(files, n) for n in (1, BATCH)}
        for codec in ("none", "lz4"):
            store = t1_store(Path(folder) / f"{codec}.zarr", codec, voxels)
            ds = PatchDataset(store, patch=(EDGE, EDGE, EDGE), sampling="random", per_image=BATCH)
            sample = ds[11]
            x, y, z, _ = sample["start"].tolist()
            np.testing.assert_array_equal(
                sample["image"][0].numpy(), voxels[1, z : z + EDGE, y : y + EDGE, x : x + EDGE].T
            )
            in_order = np.arange(len(ds))
            orders = {"shuffled": np.random.default_rng(0).permutation(len(ds)), "a volume a batch": in_order}
            works, n = {}, len(ds)
            for name, order in orders.items():
                batches = [order[i : i + BATCH] for i in range(0, n, BATCH)]
                works[name] = lambda batches=batches, ds=ds: of_store(ds, batches)
                works[f"memmap {name}"] = lambda batches=batches, ds=ds: of_memmap(flat, batches, ds)
            stream = BatchStream(ds, BATCH, threads=0)
            works["stream"] = lambda stream=stream: [None for _ in stream]
            seconds = alternating_s(works, ROUNDS)
            what = f"`BatchStream` of them, shuffled, {BATCH} patches a volume, codec {codec}, no thread beside"
            out.append(row(what, n, seconds["stream"], "numpy memmap gather", seconds["memmap shuffled"], "patches"))
            for name in orders:
                what = f"`PatchDataset`, {EDGE}^3 of {VOLUMES} T1 volumes, {name}, codec {codec}, one process"
                out.append(row(what, n, seconds[name], "numpy memmap gather", seconds[f"memmap {name}"], "patches"))
            for name, per_volume in (("shuffled", 1), ("a volume a batch", BATCH)):
                reader, each_s = references[per_volume]
                what = f"the same, {name}, codec {codec}"
                theirs = f"{reader}, `.nii.gz`, {per_volume} a volume"
                out.append(row(what, n, seconds[name], theirs, each_s * n, "patches"))
            out += further(ds, flat, codec, seconds["memmap shuffled"]) if codec == "lz4" else []
    return out


CHUNKS: tuple[tuple[Codec, int, int], ...] = (("lz4", 32, 0), ("lz4", 64, 0), ("none", 64, 64), ("none", 64, 1024))
"""Codec, edge of a cube, and longest row of one that is not compressed."""


def chunk_rows() -> list[str]:
    """What the shape of an inner chunk costs: milliseconds of a shuffled patch of each size, and bytes of a volume."""
    sizes, voxels = (64, 96, 128), volumes()[:8]
    out = [
        f"| codec | chunk | {' | '.join(f'{size}^3, ms' for size in sizes)} | MB a volume |",
        "|---|---|---|---|---|---|",
    ]
    works: dict[str, Callable[[], None]] = {}
    stored = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (codec, geometry.IMAGE_CHUNK, geometry.IMAGE_ROW) in enumerate(CHUNKS):
            store = t1_store(Path(folder) / f"{number}.zarr", codec, voxels)
            (meta, *_) = store.glob("images/*/*/0/zarr.json")
            chunk = json.loads(meta.read_text())["codecs"][0]["configuration"]["chunk_shape"]
            size_b = sum(file.stat().st_size for file in store.glob("images/**/c/**/*") if file.is_file())
            stored[number] = "x".join(map(str, chunk)), f"{size_b / len(voxels) / 1e6:.1f}"
            for size in sizes:
                ds = PatchDataset(store, patch=(size,) * 3, sampling="random", per_image=BATCH)
                order = np.random.default_rng(0).permutation(len(ds)).reshape(-1, BATCH)
                works[f"{number} {size}"] = partial(of_store, ds, list(order))
        seconds = alternating_s(works, ROUNDS)
    for number, (chunk, megabytes) in stored.items():
        each = [f"{seconds[f'{number} {size}'] / (len(voxels) * BATCH) * 1e3:.2f}" for size in sizes]
        out.append(f"| {CHUNKS[number][0]} | {chunk} | {' | '.join(each)} | {megabytes} |")
    return out


if __name__ == "__main__":
    print("\n".join(chunk_rows() if sys.argv[1:] == ["chunks"] else rows()))
