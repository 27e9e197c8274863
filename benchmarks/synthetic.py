"""Stores of made-up signals, written through the store alone."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

from harmonize.ingest.rows import recording_row, stream_row
from harmonize.store import create_store
from harmonize.store.catalog import Batch, commit
from harmonize.store.parts import SignalPart
from harmonize.store.shards import Codec
from harmonize_schemas import (
    Acquisition,
    Channel,
    Demographics,
    Privacy,
    Provenance,
    Recording,
    Segment,
    SignalStream,
    Source,
)

CHANNELS, RATE_HZ = 20, 256


def eeg_store(root: Path, codec: Codec, recordings: int, seconds: int) -> tuple[Path, np.ndarray]:
    """A store of EEG-like random walks and its samples (recording, channel, time) int16; 0.1 µV a step."""
    n = seconds * RATE_HZ
    names = [f"E{number}" for number in range(CHANNELS)]
    channels = tuple(
        Channel(
            label=name, name=name, mapped=False, type="eeg", unit_found="uV", unit="µV", scale=0.1, offset=0.0
        )
        for name in names
    )  # fmt: skip
    stream = SignalStream(
        name="eeg", rate_hz=Fraction(RATE_HZ), dtype="int16", n_samples=n, channels=channels,
        segments=(Segment(start=0, n_samples=n, onset_s=0.0),),
    )  # fmt: skip
    documents = [
        Recording(
            recording_id=f"synthetic/{number:06d}", dataset="synthetic", subject=f"sub-{number}", modality="eeg",
            streams=(stream,), acquisition=Acquisition(site=f"site-{number % 2}"), demographics=Demographics(),
            source=Source(id=str(number), root="none", format="none", files=()),
            provenance=Provenance(converter="none", converter_version="1", libraries={}),
            privacy=Privacy(method="keep", key_id="none", annotation_text="kept"),
        )
        for number in range(recordings)
    ]  # fmt: skip
    rng = np.random.default_rng(0)
    steps = rng.normal(0, 10, (recordings, CHANNELS, n))
    samples = np.clip(np.cumsum(steps, axis=2), -32768, 32767).astype("<i2")
    create_store(root, "none")
    part = SignalPart(root, "part", [stream] * recordings, codec)
    for number in range(recordings):
        part.write(number, 0, samples[number])
    part.close(documents, [0] * recordings)
    rows = [recording_row(one, "", samples[0].nbytes, None) for one in documents]
    streams = [stream_row(one, 0, part.path, part.layout, i, part.starts[i]) for i, one in enumerate(documents)]
    commit(root, Batch(recordings=rows, streams=streams))
    return root, samples
