"""Recording documents to catalog rows. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from harmonize.store.catalog import Row
from harmonize.store.quality import STATISTICS
from harmonize_schemas import Annotation, Label, Recording, SignalStream


def recording_row(
    recording: Recording, state: str, raw_bytes: int, image: str | None, content: str | None = None
) -> Row:
    """The row of table ``recordings``; ``image`` is its group in the store, ``content`` the hash of its voxels."""
    acquisition, who = recording.acquisition, recording.demographics
    return {
        "recording_id": recording.recording_id,
        "dataset": recording.dataset,
        "subject": recording.subject,
        "session": recording.session,
        "series": recording.series,
        "frame_of_reference": recording.frame_of_reference,
        "derived_from": list(recording.derived_from),
        "segment_types": [one.type.code for one in recording.image.segments if one.type] if recording.image else [],
        "site": acquisition.site,
        "device_maker": acquisition.device_maker,
        "device_model": acquisition.device_model,
        "device_id": acquisition.device_id,
        "device_software": acquisition.device_software,
        "reference": acquisition.reference,
        "field_strength_t": acquisition.field_strength_t,
        "modality": recording.modality,
        "age": who.age_years,
        "age_pooled": who.age_pooled,
        "sex": who.sex,
        "height_cm": who.height_cm,
        "weight_kg": who.weight_kg,
        "handedness": who.handedness,
        "fold": recording.fold,
        "start_s": recording.start_s,
        "duration_s": recording.duration_s,
        "line_frequency_hz": acquisition.line_frequency_hz,
        "n_streams": len(recording.streams),
        "image": image,
        "format": recording.source.format,
        "flags": list(recording.flags),
        "source": recording.source.id,
        "source_root": recording.source.root,
        "source_state": state,
        "converter": f"{recording.provenance.converter}/{recording.provenance.converter_version}",
        "recipe_sha256": recording.provenance.recipe_sha256,
        "bytes": raw_bytes,
        "content": content,
        "document": None if recording.streams or recording.image else recording.model_dump_json(),
    }


def stream_row(
    recording: Recording,
    index: int,
    part: str,
    layout: str,
    row: int,
    start: int,
    content: list[str] | None = None,
    statistics: Mapping[str, list[float | None]] = MappingProxyType({}),
) -> Row:
    """The row of table ``streams`` for stream ``index``, whose samples begin at ``start`` of the part; ``content``
    is a hash of each channel, ``statistics`` what ``harmonize.store.quality`` gives."""
    stream: SignalStream = recording.streams[index]
    channels, segments = stream.channels, stream.segments
    missing = [None if c.missing_value is None else float(c.missing_value) for c in channels]
    return {
        "recording_id": recording.recording_id,
        "stream": stream.name,
        "stream_index": index,
        "part": part,
        "row": row,
        "start": start,
        "n_samples": stream.n_samples,
        "rate_num": stream.rate_hz.numerator,
        "rate_den": stream.rate_hz.denominator,
        "dtype": stream.dtype,
        "layout": layout,
        "channels": [channel.name for channel in channels],
        "types": [channel.type for channel in channels],
        "units": [channel.unit for channel in channels],
        "scale": [channel.scale for channel in channels],
        "offset": [channel.offset for channel in channels],
        "missing": missing,
        "segment_start": [segment.start for segment in segments],
        "segment_samples": [segment.n_samples for segment in segments],
        "segment_onset_s": [segment.onset_s for segment in segments],
        "content": content,
        **dict.fromkeys(STATISTICS),
        **statistics,
    }


def annotation_rows(recording: Recording, annotations: Iterable[Annotation]) -> list[Row]:
    """Rows of table ``annotations``."""
    return [{"recording_id": recording.recording_id} | annotation.model_dump() for annotation in annotations]


def label_rows(recording: Recording) -> list[Row]:
    """Rows of table ``labels``: one for a value, one for each of a multi-label. Numbers are in ``number``
    (a truth value is 0 or 1), also those that go with a code."""
    rows: list[Row] = []
    for name, label in recording.labels.items():
        kind, pairs = _values_of(label)
        rows.extend(
            {"recording_id": recording.recording_id, "name": name, "kind": kind, "value": value, "number": number}
            for value, number in pairs
        )
    return rows


def _values_of(label: Label) -> tuple[str, list[tuple[str | None, float | None]]]:
    """The kind of a label, and its values with their numbers."""
    if isinstance(label, dict):
        return "dict", list(label.items())
    if isinstance(label, tuple):
        return "list", [(value, None) for value in label]
    if isinstance(label, str):
        return "text", [(label, None)]
    return ("bool" if isinstance(label, bool) else "number"), [(None, float(label))]


def source_rows(recording: Recording, shared: bool) -> list[Row]:
    """Rows of table ``sources``, the primary file first; ``shared`` if they hold other recordings too."""
    return [
        {"recording_id": recording.recording_id, "shared": shared} | file.model_dump()
        for file in recording.source.files
    ]


def failure_row(source: str, dataset: str, format_name: str | None, code: str, message: str, where: str | None) -> Row:
    """The row of table ``failures``; ``source`` is a pseudonym unless privacy is "keep"."""
    return {
        "source": source,
        "dataset": dataset,
        "format": format_name,
        "code": code,
        "message": message,
        "where": where,
    }
