"""Identify: a description and what identifies it to a Recording document that is safe to store."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path, PurePosixPath

from harmonize.ingest.privacy import ProjectKey
from harmonize_converters.contract import (
    Converter,
    Described,
    Description,
    FoundAnnotation,
    FoundFile,
    SourceFiles,
)
from harmonize_schemas import Annotation, Privacy, Provenance, Recipe, Recording, Source, vocabulary


@dataclass(frozen=True)
class Policy:
    """What one run does with identifiers: the data set's recipe, its hash, and the project key."""

    recipe: Recipe
    recipe_sha256: str | None
    key: ProjectKey

    @property
    def keep(self) -> bool:
        return self.recipe.privacy == "keep"

    def pseudonym(self, kind: str, value: str | None, *scope: str) -> str | None:
        """``kind-<16 hex>``, the value itself under privacy "keep", None for None."""
        if value is None or self.keep:
            return value
        return f"{kind}-{self.key.digest(kind, *scope, value)}"

    def source_id(self, key: str) -> str:
        """What a source or file is called in the store: never its path unless that is public."""
        inner = "/".join(PurePosixPath(key).parts[1:])
        return inner if self.keep else f"src-{self.key.digest('source', self.recipe.dataset, key)}"

    def source_root(self, file: FoundFile) -> str:
        """The folder that was given, as a pseudonym always."""
        return f"root-{self.key.digest('root', str(root_of(file)))}"

    def source_state(self, source: SourceFiles) -> str:
        """Keyed digest of the files' sizes and times: equal while nothing changed."""
        return self.key.digest("state", *(f"{f.key}:{f.size}:{f.mtime_ns}" for f in source.files))

    def recording_id(self, key: str) -> str:
        """``dataset/...``: deterministic; the path itself only where that is public."""
        if not self.keep:
            return f"{self.recipe.dataset}/rec-{self.key.digest('recording', self.recipe.dataset, key)}"
        inner = re.sub(r"[^A-Za-z0-9._/=+-]", "_", self.source_id(key).removesuffix(".hea"))
        return f"{self.recipe.dataset}/{inner}"


def root_of(file: FoundFile) -> Path:
    """The folder that a file was found under."""
    return file.path.parents[len(PurePosixPath(file.key).parts) - 2]


def path_fields(recipe: Recipe, key: str) -> dict[str, str]:
    """What the recipe reads from a source's path below the folder given."""
    inner = "/".join(PurePosixPath(key).parts[1:])
    for pattern in recipe.paths:
        if match := re.search(pattern, inner):
            return {name: value for name, value in match.groupdict().items() if value}
    return {}


@dataclass(frozen=True)
class Draft:
    """A source that is ready to be written: its document lacks only the files' hashes."""

    source: SourceFiles
    description: Description
    recording: Recording
    state: str
    keep_text: bool


def subject_of(policy: Policy, source: SourceFiles, described: Described) -> str | None:
    """The subject as the store will name it."""
    found = path_fields(policy.recipe, source.key).get("subject") or described.identity.subject
    return policy.pseudonym("sub", found, policy.recipe.dataset)


def first_starts(subjects: Iterable[tuple[str | None, datetime | None]]) -> dict[str, datetime]:
    """Each subject's earliest known start."""
    first: dict[str, datetime] = {}
    for subject, start in subjects:
        if subject is not None and start is not None:
            first[subject] = min(start, first.get(subject, start))
    return first


def draft(
    policy: Policy,
    converter: Converter,
    source: SourceFiles,
    described: Described,
    first: Mapping[str, datetime],
    known_subjects: frozenset[str],
) -> Draft:
    """The Recording document of one source.

    ``first`` holds the earliest start of each subject of this run; a subject in ``known_subjects`` has
    recordings from earlier runs, whose dates are not kept, so its start stays unknown and is flagged.
    """
    description, identity = described.description, described.identity
    fields, defaults = path_fields(policy.recipe, source.key), policy.recipe.defaults
    subject = subject_of(policy, source, described)
    flags = set(description.flags)
    start_s = None
    if subject is None:
        flags.add("subject_unknown")
    elif identity.start is not None and subject in known_subjects:
        flags.add("start_unanchored")
    elif identity.start is not None:
        start_s = (identity.start - first[subject]).total_seconds()
    found = description.acquisition
    site = policy.pseudonym("site", fields.get("site") or identity.site) or defaults.site
    acquisition = found.model_copy(
        update={
            "site": site,
            "device_maker": fields.get("device_maker") or found.device_maker or defaults.device_maker,
            "device_model": fields.get("device_model") or found.device_model or defaults.device_model,
            "device_id": policy.pseudonym("dev", identity.device_id),
            "line_frequency_hz": found.line_frequency_hz or defaults.line_frequency_hz,
        }
    )
    recording = Recording(
        recording_id=policy.recording_id(source.key),
        dataset=policy.recipe.dataset,
        subject=subject,
        session=policy.pseudonym("ses", fields.get("session") or identity.session, policy.recipe.dataset),
        modality=fields.get("modality") or defaults.modality or description.modality,
        start_s=start_s,
        duration_s=description.duration_s,
        streams=description.streams,
        image=description.image,
        acquisition=acquisition,
        demographics=description.demographics,
        flags=tuple(sorted(flags)),
        source=Source(
            id=policy.source_id(source.key),
            root=policy.source_root(source.primary),
            format=description.format,
            files=(),
            transfer_syntax=description.transfer_syntax,
        ),
        provenance=Provenance(
            converter=converter.name,
            converter_version=converter.version,
            libraries=dict(description.libraries),
            recipe_sha256=policy.recipe_sha256,
        ),
        privacy=Privacy(
            method=policy.recipe.privacy,
            key_id=policy.key.key_id,
            annotation_text="kept" if policy.keep else "vocabulary",
        ),
    )
    return Draft(source, description, recording, policy.source_state(source), policy.keep)


@cache
def _labels() -> dict[str, str]:
    terms = vocabulary("annotation_labels")
    return {spelling.casefold(): term for term, entry in terms.items() for spelling in entry["spellings"]}


def label_annotation(found: FoundAnnotation, source: str, keep_text: bool) -> Annotation:
    """An event as it may be stored: a term of the vocabulary; its words only where they may be kept."""
    text = (found.text or "").strip()
    return Annotation(
        onset_s=found.onset_s,
        duration_s=found.duration_s,
        label=found.label or _labels().get(text.casefold(), "event"),
        text=text if keep_text and text else None,
        channel=found.channel,
        source=source,
    )
