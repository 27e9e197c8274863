"""A recipe's channel rules: what the labels of one data set mean. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from harmonize_converters.channels import Name, canonical_name, modality_of, unit_factor
from harmonize_converters.contract import Description
from harmonize_schemas import Channel, ChannelRule, SignalStream

CHANNEL_FLAGS = frozenset(
    {
        "uncalibrated",
        "channel_unmapped",
        "negative_gain",
        "unit_implausible",
        "unit_unknown",
        "unit_mismatch",
        "duplicate_labels",
    }
)
"""Flags that follow from the channels (``stream_flags``)."""


def apply_rules(description: Description, rules: Mapping[str, ChannelRule]) -> tuple[tuple[SignalStream, ...], str]:
    """The streams with the channels that rules name renamed, and the modality they make."""
    if not any(channel.label in rules for stream in description.streams for channel in stream.channels):
        return description.streams, description.modality
    streams = tuple(
        stream.model_copy(update={"channels": tuple(_ruled(channel, rules) for channel in stream.channels)})
        for stream in description.streams
    )
    types = [channel.type for stream in description.streams for channel in stream.channels]
    if description.modality != modality_of(types):
        return streams, description.modality
    return streams, modality_of(channel.type for stream in streams for channel in stream.channels)


def _name_of(channel: Channel) -> Name:
    """What the converter made of the label, knowing the recording's other labels."""
    fields = (channel.reference, channel.anode, channel.cathode)
    return Name(channel.name, channel.type, channel.mapped, *fields)


def _ruled(channel: Channel, rules: Mapping[str, ChannelRule]) -> Channel:
    rule = rules.get(channel.label)
    if rule is None:
        return channel
    known = canonical_name(rule.name) if rule.name else _name_of(channel)
    kind = rule.type or (known.type if known.mapped else channel.type)
    mapped = known.mapped or rule.type is not None
    known = known.typed(kind, rule.name or channel.label)
    found = channel.unit_found or rule.unit or ""
    # Back to the unit found, then to the canonical unit of the type it has now.
    _, before, _ = unit_factor(channel.unit_found, channel.type)
    unit, factor, _ = unit_factor(found, kind)
    if kind == "trigger":  # a code has no unit: its values are those that the file gives
        unit, factor = None, 1.0
    return channel.model_copy(
        update={
            **known.fields(),
            "mapped": mapped,
            "unit_found": found,
            "unit": unit,
            "scale": channel.scale / before * factor,
            "offset": channel.offset / before * factor,
            "reference": rule.reference or known.reference or channel.reference,
            "status": rule.status or channel.status,
            "position": rule.position or channel.position,
            "position_frame": rule.position_frame if rule.position else channel.position_frame,
        }
    )
