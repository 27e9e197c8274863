"""Small stores for tests, written without any converter."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from harmonize.ingest.rows import annotation_rows, label_rows, recording_row, stream_row
from harmonize.store import create_store
from harmonize.store.catalog import Batch, commit
from harmonize.store.parts import ImagePart, SignalPart
from harmonize.store.quality import StreamStatistics
from harmonize.store.shards import Codec
from harmonize_schemas import (
    Acquisition,
    Annotation,
    Channel,
    Demographics,
    Image,
    Privacy,
    Provenance,
    Recording,
    Segment,
    SignalStream,
    Source,
)


def channel(name: str, scale: float = 0.5, offset: float = 0.0, missing: int | None = None) -> Channel:
    return Channel(
        label=name, name=name, mapped=True, type="eeg", unit_found="uV", unit="µV",
        scale=scale, offset=offset, missing_value=missing,
    )  # fmt: skip


def stream(
    n: int,
    names: Sequence[str] = ("C3", "C4"),
    rate: Fraction | int = 100,
    segments: Sequence[tuple[int, int, float]] | None = None,
    name: str = "eeg",
    dtype: str = "int16",
    **kwargs: float | int | None,
) -> SignalStream:
    runs = segments or [(0, n, 0.0)]
    return SignalStream(
        name=name, rate_hz=Fraction(rate), dtype=dtype, n_samples=n,
        channels=tuple(channel(one, **kwargs) for one in names),  # type: ignore[arg-type]
        segments=tuple(Segment(start=start, n_samples=size, onset_s=at) for start, size, at in runs),
    )  # fmt: skip


def recording(name: str, streams: Sequence[SignalStream] = (), image: Image | None = None, **domain: str) -> Recording:
    return Recording(
        recording_id=f"test/{name}",
        dataset="test",
        subject=domain.get("subject"),
        modality=domain.get("modality", "eeg"),
        streams=tuple(streams),
        image=image,
        acquisition=Acquisition(
            site=domain.get("site"), device_maker=domain.get("device_maker"), device_model=domain.get("device_model")
        ),
        demographics=Demographics(sex=domain.get("sex")),  # type: ignore[arg-type]
        source=Source(id=name, root="root", format="test", files=()),
        provenance=Provenance(converter="test", converter_version="1", libraries={}),
        privacy=Privacy(method="keep", key_id="key", annotation_text="kept"),
    )


def write_signals(
    root: Path, items: Sequence[tuple[Recording, np.ndarray]], codec: Codec = "lz4", measured: bool = False
) -> None:
    """One-stream recordings of one layout into one part, and commit them; ``measured``: with statistics."""
    create_store(root, "key")
    part = SignalPart(root, f"part{len(list(root.glob('signals/*/*')))}", [r.streams[0] for r, _ in items], codec)
    for row, (_, samples) in enumerate(items):
        part.write(row, 0, samples)
    part.close([r for r, _ in items], [0] * len(items))
    rows = [recording_row(r, "state", 0, None) for r, _ in items]
    found = [statistics_of(r.streams[0], samples) if measured else {} for r, samples in items]
    streams = [
        stream_row(r, 0, part.path, part.layout, i, part.starts[i], statistics=found[i])
        for i, (r, _) in enumerate(items)
    ]
    labels = [row for r, _ in items for row in label_rows(r)]
    commit(root, Batch(recordings=rows, streams=streams, labels=labels))


def statistics_of(one: SignalStream, samples: np.ndarray) -> dict[str, list[float | None]]:
    """What converting gathers of a stream's channels."""
    gathered = StreamStatistics(one)
    gathered.update(samples)
    return gathered.result()


def write_recording(
    root: Path, one: Recording, samples: Sequence[np.ndarray], annotations: Sequence[Annotation] = ()
) -> None:
    """One recording, each stream in a part of its own, with its annotations, and commit it."""
    create_store(root, "key")
    streams = []
    for index, (found, values) in enumerate(zip(one.streams, samples, strict=True)):
        part = SignalPart(root, f"part{len(list(root.glob('signals/*/*')))}", [found], "lz4")
        part.write(0, 0, values)
        part.close([one], [index])
        streams.append(stream_row(one, index, part.path, part.layout, 0, part.starts[0]))
    rows = [recording_row(one, "state", 0, None)]
    commit(root, Batch(recordings=rows, streams=streams, annotations=annotation_rows(one, annotations)))


def event(
    onset_s: float, label: str, duration_s: float | None = None, channel: int | None = None, **fields: str | int
) -> Annotation:
    return Annotation(
        onset_s=onset_s, duration_s=duration_s, label=label, channel=channel, **({"source": "test"} | fields)
    )  # type: ignore[arg-type]


def write_image(root: Path, one: Recording, planes: np.ndarray) -> None:
    """One image into a part of its own, and commit it."""
    create_store(root, "key")
    assert one.image is not None
    part = ImagePart(root, f"part{len(list(root.glob('images/*')))}", "image", one.image, "lz4")
    part.write(0, planes)
    part.close(one)
    commit(root, Batch(recordings=[recording_row(one, "state", 0, part.path)]))


def noise(shape: tuple[int, ...], dtype: str = "int16", seed: int = 0) -> np.ndarray:
    info = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(info.min, info.max, shape, dtype=dtype, endpoint=True)
