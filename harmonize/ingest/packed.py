"""Drafts put away until their tasks: a run over 100,000 sources holds them all, and an open one takes 20 to 60 kB."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from sys import intern

import numpy as np

from harmonize.ingest.identify import Draft
from harmonize.store.geometry import image_grid, layout_name
from harmonize_schemas import Image, SignalStream


@dataclass(slots=True)
class PackedDraft:
    """A draft as a pickle, beside it what planning, refusing and reporting ask for.

    ``layouts`` and ``stream_bytes`` go with the streams; ``shard_bytes`` is of an image, None for signals. ``start`` is
    when the recording began by its own clock (never stored); ``start_s`` and ``unanchored`` come once all sources of
    the run are known (``anchor``).
    """

    recording_id: str
    dataset: str
    source_id: str
    subject: str | None
    site: str | None
    converter: str
    layouts: tuple[str, ...]
    stream_bytes: tuple[int, ...]
    shard_bytes: int | None
    raw_bytes: int
    start: datetime | None
    packed: bytes
    start_s: float | None = None
    unanchored: bool = False

    def draft(self) -> Draft:
        """The draft, its start put in."""
        one: Draft = pickle.loads(self.packed)
        found = one.recording
        flags = tuple(sorted({*found.flags, "start_unanchored"})) if self.unanchored else found.flags
        return replace(one, recording=found.model_copy(update={"start_s": self.start_s, "flags": flags}))


def raw_bytes(draft: Draft) -> int:
    """Bytes of native samples."""
    image = draft.recording.image
    if image is not None:
        return int(np.prod(image.shape)) * np.dtype(image.dtype).itemsize
    return sum(map(_stream_bytes, draft.recording.streams))


def _stream_bytes(stream: SignalStream) -> int:
    return stream.n_samples * len(stream.channels) * np.dtype(stream.dtype).itemsize


def _shard_bytes(image: Image) -> int:
    """With the codec for which it is larger."""
    largest = max(np.prod(image_grid(image, compressed).shard) for compressed in (True, False))
    return int(largest) * np.dtype(image.dtype).itemsize


def pack(draft: Draft, start: datetime | None) -> PackedDraft:
    """Put a draft away."""
    recording = draft.recording
    return PackedDraft(
        recording_id=recording.recording_id,
        dataset=recording.dataset,
        source_id=recording.source.id,
        subject=recording.subject,
        site=recording.acquisition.site,
        converter=recording.provenance.converter,
        layouts=tuple(intern(layout_name(stream)) for stream in recording.streams),
        stream_bytes=tuple(map(_stream_bytes, recording.streams)),
        shard_bytes=None if recording.image is None else _shard_bytes(recording.image),
        raw_bytes=raw_bytes(draft),
        start=start,
        packed=pickle.dumps(draft, pickle.HIGHEST_PROTOCOL),
    )


def anchor(drafts: Sequence[PackedDraft], earlier: frozenset[str]) -> None:
    """Give each recording its start relative to its subject's first one. A subject of ``earlier`` has recordings from
    runs before, whose dates are not kept, so its start stays unknown and is flagged."""
    first = first_starts((one.subject, one.start) for one in drafts)
    for one in drafts:
        if one.subject is None or one.start is None:
            continue
        if one.subject in earlier:
            one.unanchored = True
        else:
            one.start_s = (one.start - first[one.subject]).total_seconds()


def first_starts(subjects: Iterable[tuple[str | None, datetime | None]]) -> dict[str, datetime]:
    """Each subject's earliest known start."""
    first: dict[str, datetime] = {}
    for subject, start in subjects:
        if subject is not None and start is not None:
            first[subject] = min(start, first.get(subject, start))
    return first
