"""Raw FIF files (MEG, EEG): samples from the file's own buffers, what describes them through MNE (FIDELITY S12).

Buffers are stored as they are (int16, int32, float32 or float64) with the scale that MNE applies (range * cal)
times the factor from FIF's SI unit to the canonical one, so values equal MNE's and nothing is rounded.
Projections and compensation are never applied; flags say what the file holds.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from fractions import Fraction
from typing import Any

import mne
import numpy as np

from harmonize_converters._fields import demographics, whole_years
from harmonize_converters._fif_tags import FIRST_TAG, FifPart, read_part
from harmonize_converters._frames import stream_name
from harmonize_converters._open import check_size, opened, read_at
from harmonize_converters._wfdb_header import safe_name
from harmonize_converters.channels import Name, canonical_names, modality_of, stream_flags, unit_factor
from harmonize_converters.contract import (
    Block,
    ConversionError,
    Described,
    Description,
    FoundAnnotation,
    FoundFile,
    Identity,
    SourceFiles,
)
from harmonize_schemas import Acquisition, Channel, Demographics, Prefilter, Segment, SignalStream

_TYPES = {
    "mag": "meg_mag",
    "grad": "meg_grad",
    "ref_meg": "meg_ref",
    "eeg": "eeg",
    "seeg": "ieeg",
    "ecog": "ieeg",
    "dbs": "ieeg",
    "eog": "eog",
    "emg": "emg",
    "ecg": "ecg",
    "resp": "resp",
    "gsr": "eda",
    "temperature": "temperature",
    "stim": "trigger",
}
"""MNE's channel types; all others are "misc"."""
_UNITS = {101: "Hz", 103: "Pa", 107: "V", 109: "Ohm", 110: "S", 112: "T", 114: "degC", 201: "T/m"}
"""FIFF_UNIT codes; the others are no unit that a term is for."""
_AXIAL = frozenset({4002, 5001, 6001, 7001, 7501})
"""FIFFV_COIL of axial gradiometers (Magnes, CTF, KIT, BabySQUID, ARTEMIS123): in T, MNE calls them "mag"."""
_EEG, _HEAD_FRAME = 2, 4
_GAP = "BAD_ACQ_SKIP"
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._/+-]{0,39}")
_UNKNOWN_DATE = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class _Recording:
    """The files of one recording, and runs of samples: (samples before it, samples of gaps before it)."""

    parts: tuple[FifPart, ...]
    runs: tuple[tuple[int, int], ...]
    n_samples: int


class FifConverter:
    """Raw FIF files; files split for their size are one recording."""

    name = "fif"
    version = "2"
    suffixes = frozenset({".fif"})

    def recognize(self, head: bytes, name: str) -> bool:
        """Whether the first tag is a file identifier."""
        return head.startswith(FIRST_TAG)

    def group(self, files: Sequence[FoundFile], siblings: Mapping[str, FoundFile]) -> list[SourceFiles]:
        """A file claims the file that goes on where it ends, and so on."""
        by_key = {file.key: file for file in files}
        follows = {file.key: key for file in files if (key := _follower_key(file)) in by_key and key != file.key}
        claimed = set(follows.values())
        sources: list[SourceFiles] = []
        used: set[str] = set()
        for file in sorted(files, key=lambda file: file.key in claimed):  # what only a circle claims comes last
            if file.key in used:
                continue
            chain = [file]
            used.add(file.key)
            while (key := follows.get(chain[-1].key)) is not None and key not in used:
                chain.append(by_key[key])
                used.add(key)
            sources.append(SourceFiles(self.name, file.key, tuple(chain), ("signal",) * len(chain)))
        return sources

    def describe(self, source: SourceFiles) -> Described:
        """Tags of all files, and the measurement info of the first."""
        recording = _read_recording(source)
        info = _info(source.primary, recording)
        rate_hz = Fraction(info["sfreq"])
        stream = _stream(recording, info, rate_hz)
        types = {channel.type for channel in stream.channels}
        last = stream.segments[-1]
        description = Description(
            format="FIF",
            modality="meg" if any(kind.startswith("meg_") for kind in types) else modality_of(types),
            streams=(stream,),
            acquisition=_acquisition(info),
            demographics=_demographics(info),
            duration_s=last.onset_s + last.n_samples / float(rate_hz),
            flags=tuple(sorted(stream_flags([stream]) | _flags(info, recording))),
            libraries={"mne": mne.__version__, "numpy": np.__version__},
        )
        texts = {name: info[name] for name in ("experimenter", "description", "proj_name")}
        header = {name: text for name, text in texts.items() if isinstance(text, str) and text}
        return Described(description, _identity(info, recording, float(rate_hz)), header)

    def read(self, source: SourceFiles, description: Description, block_bytes: int) -> Iterator[Block]:
        """The file's own buffers, or parts of one that is larger than ``block_bytes``."""
        recording = _read_recording(source)
        (stream,) = description.streams
        first = recording.parts[0]
        if (first.n_channels, recording.n_samples, first.dtype) != (
            len(stream.channels),
            stream.n_samples,
            stream.dtype,
        ):
            raise ConversionError("source_changed", "The file is not the one that was described.")
        dtype = np.dtype(first.dtype).newbyteorder(">")
        frame = dtype.itemsize * first.n_channels
        at_once = max(1, block_bytes // frame)
        at = 0
        for file, part in zip(source.files, recording.parts, strict=True):
            with opened(file) as handle:
                for buffer in part.buffers:
                    for start in range(0, buffer.n_samples, at_once):
                        count = min(at_once, buffer.n_samples - start)
                        raw = read_at(handle, buffer.at + start * frame, count * frame)
                        samples = np.frombuffer(raw, dtype).reshape(count, first.n_channels).T
                        yield Block(0, at, np.ascontiguousarray(samples.astype(stream.dtype)))
                        at += count
                check_size(handle, file)

    def annotations(self, source: SourceFiles, description: Description) -> Iterator[FoundAnnotation]:
        """Annotations of the first file, which holds those of all, from the first sample on. MNE's word for
        a gap is left out: segments say it."""
        recording = _read_recording(source)
        if not recording.parts[0].annotated:
            return
        info = _info(source.primary, recording)
        found = _mne(mne.read_annotations, source.primary)
        begin_s = recording.parts[0].first_sample / info["sfreq"]
        if info["meas_date"] is not None:
            if found.orig_time is None:
                begin_s = 0.0
            else:
                begin_s -= (found.orig_time - info["meas_date"]).total_seconds()
        places = {name: index for index, name in enumerate(info["ch_names"])}
        for mark in sorted(found, key=lambda mark: mark["onset"]):
            if mark["description"] == _GAP:
                continue
            names = list(mark.get("ch_names") or [])
            channel = places.get(names[0]) if len(names) == 1 else None
            onset_s, duration_s = float(mark["onset"] - begin_s), float(mark["duration"])
            yield FoundAnnotation(onset_s, duration_s, str(mark["description"]) or None, None, channel)


def _follower_key(file: FoundFile) -> str | None:
    """For grouping, which never raises: what is wrong with a file, ``describe`` will say."""
    try:
        name = read_part(file).follower
    except ConversionError:
        return None
    return None if name is None or not safe_name(name) else file.key[: file.key.rfind("/") + 1] + name


def _read_recording(source: SourceFiles) -> _Recording:
    parts = tuple(read_part(file) for file in source.files)
    if parts[0].is_follower:
        raise ConversionError("missing_file", "The file before this one, which it continues, is not there.")
    inside = source.primary.path.parent.resolve()
    for part, after in zip(parts, [*source.files[1:], None], strict=True):
        if part.follower is not None and not safe_name(part.follower):
            raise ConversionError("path_escape", where="FIFF_REF_FILE_NAME")
        if part.follower is not None and after is None:
            raise ConversionError("missing_file", "The file that goes on where this one ends is not there.")
        if after is not None and not after.path.resolve().is_relative_to(inside):
            raise ConversionError("path_escape", "A file is a link out of the first one's folder.")
    if len({(part.n_channels, part.dtype) for part in parts}) > 1:
        raise ConversionError("corrupt", "The files of one recording differ in channels or type.")
    runs: list[tuple[int, int]] = [(0, 0)]
    at = gaps = 0
    for part in parts:
        late = part.first_sample - parts[0].first_sample - at - gaps  # a file that goes on later than the last ended
        for gap, n_samples in [(max(late, 0), 0), *((buffer.gap, buffer.n_samples) for buffer in part.buffers)]:
            gaps += gap
            if gap:
                runs.append((at, gaps))
            at += n_samples
    return _Recording(parts, tuple(runs), at)


def _mne(read: Callable[..., Any], file: FoundFile, **options: str) -> Any:
    """What an MNE reader makes of a file. MNE names no errors of damaged files, so any exception is one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return read(file.path, **options)
        except Exception:  # noqa: BLE001
            raise ConversionError("corrupt", "MNE cannot read the measurement info or the annotations.") from None


def _info(file: FoundFile, recording: _Recording) -> Any:
    info = _mne(mne.io.read_info, file, verbose="error")
    if len(info["chs"]) != recording.parts[0].n_channels:
        raise ConversionError("corrupt", "The number of channels is not that of their descriptions.")
    if not (math.isfinite(info["sfreq"]) and info["sfreq"] > 0):
        raise ConversionError("invalid_header", "The sampling rate must be positive.", "FIFF_SFREQ")
    return info


def _stream(recording: _Recording, info: Any, rate_hz: Fraction) -> SignalStream:
    prefilter = _prefilter(info)
    types = _mne_types(info)
    names = canonical_names([str(found["ch_name"]) for found in info["chs"]])
    ends = [*(at for at, _ in recording.runs[1:]), recording.n_samples]
    return SignalStream(
        name=stream_name(rate_hz),
        rate_hz=rate_hz,
        dtype=recording.parts[0].dtype,
        n_samples=recording.n_samples,
        channels=tuple(
            _channel(found, kind, name, found["ch_name"] in info["bads"], prefilter)
            for found, kind, name in zip(info["chs"], types, names, strict=True)
        ),
        segments=tuple(
            Segment(start=at, n_samples=end - at, onset_s=float((at + gaps) / rate_hz))
            for (at, gaps), end in zip(recording.runs, ends, strict=True)
        ),
    )


def _mne_types(info: Any) -> list[str]:
    try:
        return list(info.get_channel_types())
    except (KeyError, ValueError, IndexError):
        raise ConversionError("corrupt", "A channel is of no known kind.", "FIFF_CH_INFO") from None


def _channel(found: Mapping[str, Any], kind: str, name: Name, bad: bool, prefilter: Prefilter | None) -> Channel:
    """One channel. Its type is the file's; triggers are codes, not quantities, and keep their integers."""
    label = str(found["ch_name"])
    type_ = _TYPES.get(kind, "misc")
    if type_ == "meg_mag" and int(found["coil_type"]) & 0xFFFF in _AXIAL:
        type_ = "meg_grad_axial"
    name = name.typed(type_, label)
    power = int(found["unit_mul"])
    unit_found = _UNITS.get(int(found["unit"]), "") if power == 0 else f"1e{power} {_UNITS.get(int(found['unit']), '')}"
    gain = float(found["cal"]) * float(found["range"])
    calibrated = type_ == "trigger" or (math.isfinite(gain) and gain != 0)
    unit, scale = None, 1.0
    if calibrated and type_ != "trigger":
        unit, factor, _ = unit_factor(unit_found, type_)
        scale = gain * factor
    place = _position(found)
    return Channel(
        label=label,
        unit_found=unit_found,
        unit=unit,
        scale=scale,
        offset=0.0,
        calibrated=calibrated,
        prefilter=prefilter if type_.startswith("meg_") or type_ == "eeg" else None,
        position=place,
        position_frame="head" if place else None,
        status="bad" if bad else None,
        **name.fields(),
    )


def _position(found: Mapping[str, Any]) -> tuple[float, float, float] | None:
    """A digitised EEG electrode, from m to mm in the head frame, which is RAS."""
    place = [float(value) * 1000 for value in found["loc"][:3]]
    if found["kind"] != _EEG or found["coord_frame"] != _HEAD_FRAME or len(place) != 3:
        return None
    if not all(map(math.isfinite, place)) or not any(place):
        return None
    return place[0], place[1], place[2]


def _prefilter(info: Any) -> Prefilter | None:
    """The acquisition's filter. MNE says 0 and half the rate where the file says nothing."""
    high, low = info["highpass"], info["lowpass"]
    highpass_hz = float(high) if high and math.isfinite(high) and high > 0 else None
    lowpass_hz = float(low) if low and 0 < low < info["sfreq"] / 2 else None
    if highpass_hz is None and lowpass_hz is None:
        return None
    return Prefilter(highpass_hz=highpass_hz, lowpass_hz=lowpass_hz)


def _flags(info: Any, recording: _Recording) -> set[str]:
    flags = {"maxshield"} if any(part.maxshield for part in recording.parts) else set()
    for projection in info["projs"]:
        flags.add("projections_applied" if projection["active"] else "projections_stored")
    if any(int(found["coil_type"]) >> 16 for found in info["chs"] if found["kind"] == 1):
        flags.add("compensated")  # FIF keeps the grade of compensation in a coil type's upper half
    return flags


def _acquisition(info: Any) -> Acquisition:
    device = info["device_info"] or {}
    line = info["line_freq"]
    model = str(device.get("model") or device.get("type") or "")
    return Acquisition(
        device_model=model if _PLAIN.fullmatch(model) else None,
        line_frequency_hz=int(line) if line in (50, 60) else None,  # type: ignore[arg-type]
    )


def _who(info: Any) -> Mapping[str, Any]:
    return info["subject_info"] or {}


def _identity(info: Any, recording: _Recording, rate_hz: float) -> Identity:
    """The measurement's date counts samples from when acquisition began; the first one stored came later."""
    who, device = _who(info), info["device_info"] or {}
    names = " ".join(str(who[key]) for key in ("first_name", "middle_name", "last_name") if who.get(key))
    number = str(who["id"]) if who.get("id") else None
    start = info["meas_date"] and info["meas_date"].replace(tzinfo=None)
    if start is not None and start.date() == _UNKNOWN_DATE:  # what anonymising leaves
        start = None
    if start is not None:
        try:
            start += timedelta(seconds=recording.parts[0].first_sample / rate_hz)
        except OverflowError:
            start = None
    return Identity(
        subject=str(who.get("his_id") or "") or number or names or None,
        site=str(device.get("site") or "") or None,
        device_id=str(device.get("serial") or "") or None,
        start=start,
    )


def _demographics(info: Any) -> Demographics:
    who = _who(info)
    born, measured = who.get("birthday"), info["meas_date"]
    age = whole_years(born, measured.date()) if isinstance(born, date) and measured is not None else None
    base = demographics(age, {1: "male", 2: "female"}.get(who.get("sex") or 0))
    height, weight = who.get("height"), who.get("weight")
    return base.model_copy(
        update={
            "height_cm": float(height) * 100 if height and 0 < height < 3 else None,
            "weight_kg": float(weight) if weight and 0 < weight < 1000 else None,
            "handedness": {1: "right", 2: "left", 3: "ambidextrous"}.get(who.get("hand") or 0),
        }
    )
