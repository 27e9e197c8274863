"""Write: one task to parts, and the rows that a commit will make visible. Runs in any process."""

from __future__ import annotations

import hashlib
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from harmonize.ingest.identify import Draft, label_annotation
from harmonize.ingest.packed import PackedDraft, raw_bytes
from harmonize.ingest.plan import Task
from harmonize.ingest.registry import converters
from harmonize.ingest.rows import annotation_rows, failure_row, label_rows, recording_row, source_rows, stream_row
from harmonize.store.catalog import Batch
from harmonize.store.content import ChannelHashes, VoxelHash
from harmonize.store.geometry import layout_name
from harmonize.store.parts import ImagePart, SignalPart
from harmonize.store.place import Place
from harmonize.store.quality import StreamStatistics
from harmonize.store.shards import Codec
from harmonize_converters.contract import Block, ConversionError, FoundFile, SourceFiles
from harmonize_converters.events import read_events
from harmonize_schemas import Annotation, Recording, SourceFile

BLOCK_BYTES = 384 * 1024
"""What passes from a converter into parts, hashes and statistics at a time: small enough for a core's cache."""


@dataclass
class Loaded:
    """A draft with its hashes and events, and its samples (read already, or still to be read)."""

    draft: Draft
    recording: Recording
    annotations: list[Annotation]
    blocks: Iterable[Block]


def run_task(root: Place, task: Task, codec: Codec) -> Batch:
    """Write a task's parts and return their rows. A source that fails leaves only its failure row."""
    batch = Batch()
    part_id = uuid.uuid4().hex
    pooled: list[Loaded] = []
    for packed in task.drafts:
        try:
            draft = packed.draft()
            loaded = load(draft)
            if draft.recording.image is not None:
                batch.extend(_write_image(root, part_id, loaded, codec))
            elif task.streamed:
                batch.extend(_write_signals(root, part_id, [loaded], codec))
            else:
                loaded.blocks = list(loaded.blocks)
                pooled.append(loaded)
        except ConversionError as error:
            batch.failures.append(failed(packed, error))
    if pooled:
        batch.extend(_write_signals(root, part_id, pooled, codec))
    return batch


def failed(draft: PackedDraft, error: ConversionError) -> dict[str, object]:
    """The failure row of a draft."""
    return failure_row(draft.source_id, draft.dataset, draft.converter, error.code, error.message, error.where)


@contextmanager
def converter_errors() -> Iterator[None]:
    """What a converter may raise, as ``ConversionError``. Other libraries' words are not passed on: they
    may quote the file."""
    try:
        yield
    except ConversionError:
        raise
    except OSError as error:
        raise ConversionError("unreadable_file", f"The system says {type(error).__name__}.") from None
    except Exception as error:  # noqa: BLE001 - a fault in one converter must cost that source only (DESIGN 7)
        raise ConversionError("internal_error", f"It raised {type(error).__name__}.") from None


def load(draft: Draft) -> Loaded:
    """A draft with its files hashed and its events read; its samples are read when asked for. Raises
    ``ConversionError``."""
    source, converter = draft.source, converters()[draft.source.converter]
    with converter_errors():
        hashes = [_sha256(file) for file in source.files]
        files = tuple(
            SourceFile(role=role, size=file.size, sha256=sha)
            for role, file, sha in zip(source.roles, source.files, hashes, strict=True)
        )
        events = [(source.converter, one) for one in converter.annotations(source, draft.description)]
        rates = {stream.rate_hz for stream in draft.recording.streams}
        rate_hz = rates.pop() if len(rates) == 1 else None
        for beside, file in draft.events:
            length_s = draft.recording.duration_s
            read = read_events(beside, file, rate_hz, draft.clock, source.primary.path.name, length_s)
            events.extend((f"events:{beside.format}", one) for one in read)
            files += (SourceFile(role="events", size=file.size, sha256=_sha256(file)),)
    events.sort(key=lambda event: event[1].onset_s)
    annotations = [label_annotation(one, name, draft.keep_text, draft.event_labels) for name, one in events]
    flags = set(draft.recording.flags).union(*(one.flags for _, one in events))
    dropped = any(a.label == "event" and f.text for a, (_, f) in zip(annotations, events, strict=True))
    if dropped and not draft.keep_text:
        flags.add("annotation_text_dropped")
    origin = draft.recording.source.model_copy(update={"files": files})
    recording = draft.recording.model_copy(update={"source": origin, "flags": tuple(sorted(flags))})
    return Loaded(draft, recording, annotations, _blocks(draft))


def hash_all(sources: Sequence[SourceFiles]) -> list[list[str] | None]:
    """SHA-256 of each source's files as they are now, None where one cannot be read; runs in any process."""
    found: list[list[str] | None] = []
    known: dict[Path, str] = {}  # many recordings of one file follow each other
    for source in sources:
        try:
            for file in source.files:
                if file.path not in known:
                    known[file.path] = _file_sha256(file.path)
            found.append([known[file.path] for file in source.files])
        except OSError:
            found.append(None)
    return found


def _sha256(file: FoundFile) -> str:
    return _sha256_at(file.path, file.size, file.mtime_ns)


@lru_cache(maxsize=256)
def _sha256_at(path: Path, size: int, mtime_ns: int) -> str:
    """Kept in each process: one file can hold thousands of recordings."""
    return _file_sha256(path)


def _file_sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _blocks(draft: Draft) -> Iterator[Block]:
    """The source's blocks, checked to be all of what its description says, from unchanged files."""
    source = draft.source
    with converter_errors():
        try:
            yield from converters()[source.converter].read(source, draft.description, BLOCK_BYTES)
        except ConversionError:
            _require_unchanged(source)  # what is wrong may be gone when the file is whole again
            raise
        _require_unchanged(source)


def _require_unchanged(source: SourceFiles) -> None:
    for file in source.files:
        stat = file.path.stat()
        if (stat.st_size, stat.st_mtime_ns) != (file.size, file.mtime_ns):
            raise ConversionError("source_changed")


@contextmanager
def _removed_on_error(part: SignalPart | ImagePart) -> Iterator[None]:
    try:
        yield
    except BaseException:
        part.discard()
        raise


def _write_signals(root: Place, part_id: str, items: Sequence[Loaded], codec: Codec) -> Batch:
    """Recordings of the same layouts to one part a layout; to several where one recording has a layout twice."""
    members: dict[tuple[str, int], list[tuple[Loaded, int]]] = {}
    for item in items:
        seen: Counter[str] = Counter()
        for index, stream in enumerate(item.recording.streams):
            layout = layout_name(stream)
            members.setdefault((layout, seen[layout]), []).append((item, index))
            seen[layout] += 1
    batch = Batch()
    with ExitStack() as stack:
        parts: dict[tuple[str, int], SignalPart] = {}
        place: dict[tuple[str, int], tuple[SignalPart, int]] = {}
        hashes: dict[tuple[str, int], ChannelHashes] = {}
        statistics: dict[tuple[str, int], StreamStatistics] = {}
        for key, rows in members.items():
            streams = [item.recording.streams[index] for item, index in rows]
            name = f"{part_id}-{key[1]}" if key[1] else part_id
            parts[key] = part = SignalPart(root, name, streams, codec)
            stack.enter_context(_removed_on_error(part))
            stack.callback(part.abandon)
            for row, (item, index) in enumerate(rows):
                stream = item.recording.streams[index]
                at = item.recording.recording_id, index
                place[at] = part, row
                hashes[at] = ChannelHashes(len(stream.channels), stream.dtype)
                statistics[at] = StreamStatistics(stream)
        for item in items:
            for block in item.blocks:
                if block.stream is None:
                    raise ConversionError("internal_error", "A block of an image came from a signal.")
                at = item.recording.recording_id, block.stream
                part, row = place[at]
                part.write(row, block.start, block.samples)
                hashes[at].update(block.samples)
                statistics[at].update(block.samples)
        for key, rows in members.items():
            parts[key].close([item.recording for item, _ in rows], [index for _, index in rows])
    for item in items:
        recording = item.recording
        size = raw_bytes(item.draft)
        batch.recordings.append(recording_row(recording, item.draft.state, size, None))
        batch.annotations.extend(annotation_rows(recording, item.annotations))
        batch.labels.extend(label_rows(recording))
        batch.sources.extend(source_rows(recording, item.draft.source.member is not None))
        for index in range(len(recording.streams)):
            at = recording.recording_id, index
            part, row = place[at]
            content, quality = hashes[at].hexdigests(), statistics[at].result()
            batch.streams.append(
                stream_row(recording, index, part.path, part.layout, row, part.starts[row], content, quality)
            )
    return batch


def _write_image(root: Place, part_id: str, item: Loaded, codec: Codec) -> Batch:
    image, recording = item.recording.image, item.recording
    assert image is not None
    part = ImagePart(root, part_id, uuid.uuid4().hex, image, codec)
    voxels = VoxelHash(image.shape, image.dtype)
    with _removed_on_error(part):
        for block in item.blocks:
            part.write(block.start, np.ascontiguousarray(block.samples))
            voxels.update(block.samples)
        part.close(recording)
    row = recording_row(recording, item.draft.state, raw_bytes(item.draft), part.path, voxels.hexdigest())
    return Batch(
        recordings=[row],
        annotations=annotation_rows(recording, item.annotations),
        labels=label_rows(recording),
        sources=source_rows(recording, item.draft.source.member is not None),
    )
