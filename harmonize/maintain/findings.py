"""What verify can find."""

from __future__ import annotations

from dataclasses import dataclass

CODES = {
    "missing_part": "A part or image that the catalog names is not there or cannot be opened.",
    "missing_rows": "The catalog does not have as many streams as the recording declares.",
    "missing_chunk": "A chunk, or the shard that holds it, is not there.",
    "corrupt_chunk": "A shard's index fails its checksum, or a chunk does not decode.",
    "different_samples": "What is decoded is not what was stored: its SHA-256 is another.",
    "unreadable_document": "A recording's document cannot be read.",
    "wrong_place": "The catalog's row points to another recording or to other samples of the part.",
    "wrong_row": "The catalog says something else than the document.",
    "source_samples": "A sample differs from the source's.",
    "source_description": "The source's headers or tables give another document.",
    "source_events": "The source gives other events.",
    "source_fails": "The unchanged source cannot be read any more.",
    "source_changed": "The source, its tables, the recipe or the converter are others than when it was converted.",
}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: its ``code``, in which recording, where in the store or source, and what was found."""

    code: str
    recording_id: str
    where: str
    message: str
