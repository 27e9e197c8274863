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
_MEMORY = 256
"""Steps that a sample is the sum of: the samples of two windows of a second have nothing in common."""
SITES = 10
"""The first half of the recordings is of one of them, as in a corpus with one large hospital."""


def eeg_store(
    root: Path, codec: Codec, recordings: int, seconds: int, n_channels: int = CHANNELS, rate_hz: int = RATE_HZ
) -> tuple[Path, np.ndarray]:
    """A store of sums of ``_MEMORY`` random steps and its samples (recording, channel, time) int16; 0.1 µV a step.

    They compress somewhat less than EEG does (lz4: 0.78 of the bytes, real EEG 0.56). Two recordings a subject; sites
    lie one after the other.
    """
    n = seconds * rate_hz
    names = [f"E{number}" for number in range(n_channels)]
    channels = tuple(
        Channel(
            label=name, name=name, mapped=False, type="eeg", unit_found="uV", unit="µV", scale=0.1, offset=0.0
        )
        for name in names
    )  # fmt: skip
    stream = SignalStream(
        name="eeg", rate_hz=Fraction(rate_hz), dtype="int16", n_samples=n, channels=channels,
        segments=(Segment(start=0, n_samples=n, onset_s=0.0),),
    )  # fmt: skip
    documents = [
        Recording(
            recording_id=f"synthetic/{number:06d}", dataset="synthetic", subject=f"sub-{number // 2}", modality="eeg",
            streams=(stream,), demographics=Demographics(),
            acquisition=Acquisition(site=f"site-{site_of(number, recordings)}"),
            source=Source(id=str(number), root="none", format="none", files=()),
            provenance=Provenance(converter="none", converter_version="1", libraries={}),
            privacy=Privacy(method="keep", key_id="none", annotation_text="kept"),
        )
        for number in range(recordings)
    ]  # fmt: skip
    rng = np.random.default_rng(0)
    samples = np.empty((recordings, n_channels, n), "<i2")
    for one in samples:
        walk = np.cumsum(rng.integers(-24, 25, one.shape, np.int8), axis=1, dtype="<i2")
        one[:] = walk
        one[:, _MEMORY:] -= walk[:, :-_MEMORY]
    create_store(root, "none")
    part = SignalPart(root, "part", [stream] * recordings, codec)
    for number in range(recordings):
        part.write(number, 0, samples[number])
    part.close(documents, [0] * recordings)
    rows = [recording_row(one, "", samples[0].nbytes, None) for one in documents]
    streams = [stream_row(one, 0, part.path, part.layout, i, part.starts[i]) for i, one in enumerate(documents)]
    commit(root, Batch(recordings=rows, streams=streams))
    return root, samples


def site_of(number: int, recordings: int) -> int:
    """The site of a recording: 0 for the first half, then the others in equal shares, one after the other."""
    half = recordings // 2
    return 0 if number < half else 1 + (number - half) * (SITES - 1) // max(1, recordings - half)
