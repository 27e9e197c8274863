"""Identify: a description and what identifies it to a Recording document that is safe to store."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

from harmonize.ingest.channel_rules import CHANNEL_FLAGS, apply_rules
from harmonize.ingest.facts import Facts
from harmonize.ingest.find import root_of
from harmonize.ingest.privacy import ProjectKey
from harmonize.ingest.values import Values
from harmonize_converters._fields import pooled_age
from harmonize_converters.channels import stream_flags
from harmonize_converters.contract import (
    ConversionError,
    Converter,
    Described,
    Description,
    FoundAnnotation,
    FoundFile,
    Identity,
    SourceFiles,
)
from harmonize_schemas import (
    Acquisition,
    Annotation,
    Demographics,
    EventSource,
    Privacy,
    Provenance,
    Recipe,
    Recording,
    Source,
    vocabulary,
)

BURNED_IN_RISK, QUARANTINED = "burned_in_risk", "quarantined_burned_in_risk"
"""The flag of a converter, and the failure that it becomes where the recipe does not allow it."""


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
        return self.root_name(root_of(file))

    def root_name(self, folder: Path) -> str:
        """What a folder that is given is called in the store."""
        return f"root-{self.key.digest('root', str(folder))}"

    def source_state(self, source: SourceFiles, facts: Facts) -> str:
        """Keyed digests of the files' sizes and times, and of what tables and side files say: equal while nothing
        changed."""
        files = (f"{f.key}:{f.size}:{f.mtime_ns}" for f in source.files)
        return f"{self.key.digest('state', *files)}-{self.key.digest('facts', *facts.state())}"

    def recording_id(self, key: str) -> str:
        """``dataset/...``: deterministic; the path itself only where that is public."""
        if not self.keep:
            return f"{self.recipe.dataset}/rec-{self.key.digest('recording', self.recipe.dataset, key)}"
        inner = re.sub(r"[^A-Za-z0-9._/=+-]", "_", self.source_id(key).removesuffix(".hea"))
        return f"{self.recipe.dataset}/{inner}"


@dataclass(frozen=True)
class Draft:
    """A source that is ready to be written: its document lacks the files' hashes, and its start until all sources are
    known (``packed``). ``description`` is what the converter said, before the recipe's channel rules; ``event_labels``
    are the recipe's words for events; ``clock`` is the file's own date and time (never stored)."""

    source: SourceFiles
    description: Description
    recording: Recording
    state: str
    keep_text: bool
    events: tuple[tuple[EventSource, FoundFile], ...] = ()
    event_labels: Mapping[str, str] = field(default_factory=dict)
    clock: datetime | None = None


@dataclass(frozen=True)
class Known:
    """All that is known of one source before it is written."""

    source: SourceFiles
    described: Described
    facts: Facts
    values: Values

    def subject(self, policy: Policy) -> str | None:
        """The subject as the store will name it."""
        found = self.values.fields.get("subject") or self.described.identity.subject
        return policy.pseudonym("sub", found, policy.recipe.dataset)

    def start(self, policy: Policy) -> datetime | None:
        """When it began, by the clock of where it was."""
        own = self.described.identity.start if policy.recipe.dates == "kept" else None
        start: datetime | None = self.values.fields.get("start") or own
        return start


def draft(policy: Policy, converter: Converter, known: Known) -> Draft:
    """The Recording document of one source, but for its start, which depends on other sources (``packed.anchor``).
    What the recipe says goes over what the file says. Raises ``ConversionError`` for what privacy forbids."""
    check_burned_in(policy.recipe, known.described.description)
    source, values, recipe = known.source, known.values, policy.recipe
    description, identity, fields = known.described.description, known.described.identity, known.values.fields
    subject = known.subject(policy)
    streams, modality = apply_rules(description, known.facts.channels)
    flags = set(description.flags) - CHANNEL_FLAGS | stream_flags(streams)
    if subject is None:
        flags.add("subject_unknown")
    if values.problems:
        flags.add("recipe_value_unread")
    if None in known.facts.rows.values():
        flags.add("table_row_missing")
    recording = Recording(
        recording_id=policy.recording_id(source.key),
        dataset=recipe.dataset,
        subject=subject,
        session=policy.pseudonym("ses", fields.get("session") or identity.session, recipe.dataset),
        series=policy.pseudonym("series", identity.series, recipe.dataset),
        frame_of_reference=policy.pseudonym("frame", identity.frame_of_reference, recipe.dataset),
        derived_from=tuple(
            name for uid in identity.derived_from if (name := policy.pseudonym("series", uid, recipe.dataset))
        ),
        modality=fields.get("modality") or recipe.defaults.modality or modality,
        duration_s=description.duration_s,
        streams=streams,
        image=description.image,
        acquisition=_acquisition(policy, description.acquisition, identity, fields),
        demographics=_demographics(description.demographics, values),
        labels=values.labels,
        text=values.text,
        fold=fields.get("fold"),
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
            method=recipe.privacy,
            key_id=policy.key.key_id,
            annotation_text="kept" if recipe.keep_text else "vocabulary",
            methods=methods(recipe, description.format),
        ),
    )
    state = policy.source_state(source, known.facts)
    return Draft(
        source, description, recording, state, recipe.keep_text, known.facts.events, recipe.event_labels, identity.start
    )


def check_burned_in(recipe: Recipe, description: Description) -> None:
    """Refuse an image whose pixels may hold names, unless the recipe takes that on itself."""
    if BURNED_IN_RISK in description.flags and recipe.burned_in == "refuse":
        raise ConversionError(QUARANTINED, "A recipe with burned_in: allow_undeclared converts it, flagged.")


def methods(recipe: Recipe, format_name: str) -> tuple[str, ...]:
    """Terms of the vocabulary "privacy_methods" for a source; for DICOM also the codes of PS3.15 (CID 7050)."""
    text = "text_by_statement" if recipe.text_deidentified else "event_text_to_terms"
    if recipe.privacy == "keep":
        return ("allow_list", "age_pooled_90", "relative_dates", "kept_as_published")
    ours = ("allow_list", "age_pooled_90", "keyed_pseudonyms", "relative_dates", text)
    # Text that a recipe keeps is outside the basic profile.
    dicom = format_name == "DICOM" and not recipe.text_deidentified
    return (*ours, "dcm:113100", "dcm:113107", "dcm:113108") if dicom else ours


def _acquisition(policy: Policy, found: Acquisition, identity: Identity, fields: Mapping[str, Any]) -> Acquisition:
    """The recipe's fields over the file's own, the recipe's defaults under both."""
    defaults = policy.recipe.defaults.model_dump(exclude={"site", "modality"}, exclude_none=True)
    own = found.model_dump(exclude_none=True)
    given = {name: fields[name] for name in fields if name in Acquisition.model_fields}
    site = policy.pseudonym("site", fields.get("site") or identity.site) or policy.recipe.defaults.site
    device_id = policy.pseudonym("dev", fields.get("device_id") or identity.device_id)
    return Acquisition.model_validate(defaults | own | given | {"site": site, "device_id": device_id})


def _demographics(found: Demographics, values: Values) -> Demographics:
    given = {name: values.fields[name] for name in values.fields if name in Demographics.model_fields}
    if "age_years" in given:
        given |= pooled_age(given["age_years"])
    if "sex" in given:
        given["sex_found"] = values.found.get("sex", given["sex"])
    return Demographics.model_validate(found.model_dump() | given)


@cache
def _labels() -> dict[str, str]:
    terms = vocabulary("annotation_labels")
    return {spelling.casefold(): term for term, entry in terms.items() for spelling in entry["spellings"]}


def label_annotation(
    found: FoundAnnotation, source: str, keep_text: bool, labels: Mapping[str, str] = MappingProxyType({})
) -> Annotation:
    """An event as it may be stored: a term of the vocabulary (``labels``: the recipe's own words for them); its
    words only where they may be kept."""
    text = (found.text or "").strip()
    return Annotation(
        onset_s=found.onset_s,
        duration_s=found.duration_s,
        label=labels.get(text) or found.label or _labels().get(text.casefold(), "event"),
        text=text if keep_text and text else None,
        channel=found.channel,
        subtype=found.subtype,
        number=found.number,
        source=source if found.annotator is None else f"{source}:{found.annotator}",
    )
