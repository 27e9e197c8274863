"""A small cohort with one thing of each kind for every subject, and searches through every byte of a store."""

from __future__ import annotations

import hashlib
import hmac
import os
import signal
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import polars as pl
import zarr

import harmonize as hz
from converters.edf_bytes import Signal, annotations, edf_bytes
from harmonize.ingest import ProjectKey
from harmonize_schemas import Recipe

KEY = ProjectKey(b"t" * 32)
PEOPLE = ("anna", "bert", "cora", "dora")
SECONDS = 20


def recipe(privacy: str = "pseudonym", dataset: str = "ward") -> Recipe:
    return Recipe.model_validate(
        {
            "dataset": dataset,
            "privacy": privacy,
            "paths": [r"(?P<subject>[a-z]+)/"],
            "tables": {"people": {"file": "people.csv", "key": "id", "match": "{subject}"}},
            "labels": {"diagnosis": {"column": "diagnosis"}},
            **({} if privacy == "keep" else {"text_deidentified": "the author of this test"}),
        },
        strict=False,
    )


def samples_of(person: str, name: str = "eeg", rate: int = 100) -> np.ndarray:
    """What is planted: int16 noise of two channels, different for each person and file."""
    seed = zlib.crc32(f"{person}/{name}/{rate}".encode())
    return np.random.default_rng(seed).integers(-30000, 30000, (2, SECONDS * rate), dtype=np.int16)


def write_eeg(file: Path, person: str, name: str = "eeg") -> None:
    """Two rates in one file: two streams, so two layouts and two parts."""
    fast, slow = samples_of(person, name), samples_of(person, name, 10)
    signals = [Signal(f"EEG {label}", row, per_record=100) for label, row in zip(("C3", "C4"), fast, strict=True)]
    signals += [Signal(f"EEG {label}", row, per_record=10) for label, row in zip(("O1", "O2"), slow, strict=True)]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(edf_bytes(signals, n_records=SECONDS, patient=f"{person} X X X"))


def write_cohort(folder: Path, people: tuple[str, ...] = PEOPLE) -> Path:
    for person in people:
        write_eeg(folder / person / "eeg.edf", person)
        stages = annotations([b"+0\x14\x14\0+0\x15120\x14Sleep stage W\x14\0"])
        data = edf_bytes([stages], n_records=1, record_s="0", reserved="EDF+C", patient=f"{person} X X X")
        (folder / person / "night.edf").write_bytes(data)
        voxels = samples_of(person, "t1").reshape(20, 20, 10)
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), folder / person / "t1.nii.gz")
    rows = "".join(f"{person},diagnosis-of-{person}\n" for person in PEOPLE)
    (folder / "people.csv").write_text(f"id,diagnosis\n{rows}")
    return folder


def convert(folder: Path, root: Path, privacy: str = "pseudonym", dataset: str = "ward") -> hz.Store:
    hz.convert(folder, root, recipe=recipe(privacy, dataset), key=KEY)
    return hz.open(root)


def subject_of(person: str, dataset: str = "ward") -> str:
    """The pseudonym, from hashlib's own HMAC (``ProjectKey.digest``)."""
    message = "\0".join(("sub", dataset, person)).encode()
    return "sub-" + hmac.new(b"t" * 32, message, hashlib.sha256).hexdigest()[:16]


def needles(store: hz.Store, subject: str) -> list[bytes]:
    """Texts that name a subject's data in a store: pseudonym, recordings, sources, hashes of samples and files."""
    rows = store.recordings.filter(subject=subject)
    ids = rows["recording_id"]
    streams = store.streams.filter(pl.col("recording_id").is_in(ids.implode()))
    texts = [subject, *ids, *rows["source"], *rows["content"].drop_nulls(), *rows["source_state"]]
    texts += streams["content"].explode().to_list()
    texts += store.sources.filter(pl.col("recording_id").is_in(ids.implode()))["sha256"].to_list()
    return [text.encode() for text in texts]


def patterns(person: str) -> list[bytes]:
    """Runs of planted samples as they lie in decoded arrays."""
    runs = [samples_of(person, name, rate)[:, 40:60] for name, rate in (("eeg", 100), ("eeg", 10), ("eeg2", 100))]
    runs.append(samples_of(person, "t1").reshape(20, 20, 10).T[3, :2, :])
    return [row.astype("<i2").tobytes() for run in runs for row in run]


def everything(root: Path) -> Iterator[tuple[str, bytes]]:
    """Every name and file as it is; every Parquet file and every Zarr array decoded, by polars and zarr alone."""
    for file in sorted(root.rglob("*")):
        name = file.relative_to(root).as_posix()
        yield name, name.encode()
        if file.is_file():
            yield name, file.read_bytes()
        if file.suffix == ".parquet":
            yield name, pl.read_parquet(file).write_json().encode()
        if file.name == "zarr.json":
            node = zarr.open(file.parent, mode="r")
            if isinstance(node, zarr.Array):
                data = node[...]
                yield name, str(data.tolist()).encode() if node.dtype.kind == "T" else np.asarray(data).tobytes()


def where_found(root: Path, wanted: list[bytes]) -> list[tuple[str, bytes]]:
    return [(name, one) for name, data in everything(root) for one in wanted if one in data]


def contents(store: hz.Store) -> dict[str, object]:
    """All that readers get of each recording: documents, samples, voxels, events, labels."""
    out: dict[str, object] = {}
    for name in store.recordings["recording_id"]:
        view = store[name]
        out[name] = (
            view.meta.model_dump_json(),
            {key: one.digital().tobytes() for key, one in view.signals.items()},
            None if view.image is None else view.image.digital().tobytes(),
            store.annotations.filter(recording_id=name).drop("commit").to_dicts(),
            store.labels.filter(recording_id=name).to_dicts(),
            store.sources.filter(recording_id=name).drop("commit").to_dicts(),
            store.streams.filter(recording_id=name).drop("part", "row", "start", "commit").sort("stream").to_dicts(),
            store.recordings.filter(recording_id=name).drop("commit", "image").to_dicts(),
        )
    return out


if __name__ == "__main__":  # forget in a process of its own, which kills itself at the n-th step
    from harmonize.maintain import forget

    store, person, at = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    steps: list[str] = []

    def step(name: str) -> None:
        steps.append(name)
        if len(steps) == at:
            print(name, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

    forget(store, [person], KEY, step=step)
    print(f"{len(steps)} steps", flush=True)
