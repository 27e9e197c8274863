"""OpenSignals (r)evolution files of PLUX devices: HDF5 with one group for each device, named by its MAC address.

Read as biosignalsnotebooks, PLUX's own library, reads them: ``raw/channel_N`` (time, 1) are ADC integers,
``digital/digital_N`` lines of the digital port; attributes say rate, bits, sensors and when it began. The frame
counter ``raw/nSeq`` wraps or saturates depending on firmware, so frames that got lost cannot be told from it; the
filtered and zoomed copies (``support``, ``plugin``) are derived and left out, as is ``events``, whose columns PLUX
does not document.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time
from fractions import Fraction

import h5py
import numpy as np

from harmonize_converters._fields import calendar_date
from harmonize_converters._frames import stream_name
from harmonize_converters._hdf5 import (
    SIGNATURE,
    attribute,
    child,
    dataset,
    hdf5_errors,
    names,
    opened_hdf5,
    text_attribute,
)
from harmonize_converters._plux import BITALINO, PLUX, sensor
from harmonize_converters.channels import modality_of, stream_flags, unit_factor
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
from harmonize_schemas import Acquisition, Channel, Segment, SignalStream

_MAC = r"[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5}"
_MAC_BYTES = re.compile(rb"(?<![0-9A-Fa-f:])" + _MAC.encode() + rb"\0")
_OWN_LABEL = re.compile(r"(CH|RAW|A|PORT)?\d+(_CHN\d+)?|[XYZ]", re.ASCII)
_TEXTS = ("comments", "keywords", "device name", "device", "firmware version", "device connection")
_DTYPES = frozenset({"uint8", "int8", "uint16", "int16", "uint32", "int32"})
MAX_DEVICES = 16
MAX_BITS = 32


@dataclass(frozen=True, slots=True)
class _Device:
    """One device's group: its stream, and which datasets make its channels, in order."""

    mac: str
    model: str
    stream: SignalStream
    paths: tuple[str, ...]
    start: datetime | None
    texts: Mapping[str, str]


class OpenSignalsConverter:
    """One file is one recording; each device in it is a stream."""

    name = "opensignals"
    version = "1"
    suffixes: frozenset[str] = frozenset()  # .h5 promises no more than HDF5

    def recognize(self, head: bytes, name: str) -> bool:
        """HDF5 whose first name (in the root group's heap) is a MAC address."""
        return head.startswith(SIGNATURE) and _MAC_BYTES.search(head) is not None

    def group(self, files: Sequence[FoundFile], siblings: Mapping[str, FoundFile]) -> list[SourceFiles]:
        """Every file is a source of its own."""
        return [SourceFiles(self.name, file.key, (file,), ("signal",)) for file in files]

    def describe(self, source: SourceFiles) -> Described:
        """Attributes and shapes. MAC addresses and start times are identity; comments are for recipes only."""
        with opened_hdf5(source.primary) as root:
            devices = _devices(root, source.primary.size)
        streams = tuple(one.stream for one in devices)
        flags = stream_flags(streams)
        if any(one.start is None for one in devices):
            flags.add("invalid_start_date")
        models = {one.model for one in devices if one.model in PLUX | BITALINO}
        ends = (one.stream.segments[-1].onset_s + one.stream.duration_s for one in devices)
        description = Description(
            format="OpenSignals",
            modality=modality_of(channel.type for stream in streams for channel in stream.channels),
            streams=streams,
            acquisition=Acquisition(device_maker="PLUX", device_model="+".join(sorted(models)) or None),
            duration_s=max(ends),
            flags=tuple(sorted(flags)),
            libraries={"h5py": h5py.__version__, "hdf5": h5py.version.hdf5_version},
        )
        identity = Identity(
            device_id="+".join(one.mac for one in devices),
            start=min((one.start for one in devices if one.start is not None), default=None),
        )
        several = len(devices) > 1
        texts = {(f"{i}.{k}" if several else k): v for i, one in enumerate(devices) for k, v in one.texts.items()}
        return Described(description, identity, texts)

    def read(self, source: SourceFiles, description: Description, block_bytes: int) -> Iterator[Block]:
        """Some samples of all channels of a device at a time."""
        with opened_hdf5(source.primary) as root:
            devices = _devices(root, source.primary.size)
            if tuple(one.stream for one in devices) != description.streams:
                raise ConversionError("source_changed")
            for index, device in enumerate(devices):
                stream = device.stream
                arrays = [dataset(root, f"{device.mac}/{path}", source.primary.size) for path in device.paths]
                at_once = max(1, block_bytes // (np.dtype(stream.dtype).itemsize * len(arrays)))
                for start in range(0, stream.n_samples, at_once):
                    stop = min(start + at_once, stream.n_samples)
                    samples = np.empty((len(arrays), stop - start), stream.dtype)
                    for row, array in zip(samples, arrays, strict=True):
                        with hdf5_errors(f"sample {start}"):
                            row[:] = array[start:stop, 0]
                    yield Block(index, start, samples)

    def annotations(self, source: SourceFiles, description: Description) -> Iterator[FoundAnnotation]:
        """None: see the module's note on ``events``."""
        return iter(())


def _devices(root: h5py.Group, file_size: int) -> list[_Device]:
    """The devices of a file, in order of their addresses. Raises ``ConversionError``."""
    macs = sorted(name for name in names(root) if re.fullmatch(_MAC, name, re.ASCII))
    if not macs:
        raise ConversionError("unrecognized_format", "No group of this HDF5 file is named by a MAC address.")
    if len(macs) > MAX_DEVICES:
        raise ConversionError("implausible_size", f"Found {len(macs)} devices.")
    groups = []
    for mac in macs:
        group = child(root, mac)
        if not isinstance(group, h5py.Group):
            raise ConversionError("invalid_header", "A device is no group.")
        groups.append(group)
    starts = [_start(group) for group in groups]
    known = [start for start in starts if start is not None]
    # Devices of which one has no clock are taken to start together; the flag invalid_start_date says so.
    first = min(known) if len(known) == len(starts) else None
    devices: list[_Device] = []
    for mac, group, start in zip(macs, groups, starts, strict=True):
        onset_s = (start - first).total_seconds() if start is not None and first is not None else 0.0
        taken = [one.stream.name for one in devices]
        devices.append(_device(mac, group, start, onset_s, taken, file_size))
    return devices


def _device(
    mac: str, group: h5py.Group, start: datetime | None, onset_s: float, taken: list[str], file_size: int
) -> _Device:
    model = text_attribute(group, "device")
    numbers = _integers(group, "channels")
    bits = _integers(group, "resolution")[-len(numbers) :] if numbers else []  # BITalino counts digital lines too
    if not numbers or len(bits) != len(numbers) or not all(0 < n <= MAX_BITS for n in bits):
        raise ConversionError("invalid_header", "Channels and resolutions do not fit each other.")
    rates = _integers(group, "sampling rate")
    if len(rates) != 1 or rates[0] < 1:
        raise ConversionError("invalid_header", "The sampling rate cannot be read.", "sampling rate")
    raw = {f"raw/channel_{number}": n for number, n in zip(numbers, bits, strict=True)}
    paths = (*raw, *_digital(group))
    arrays = [dataset(group, path, file_size, "iu") for path in paths]
    n_samples = {array.shape[0] if array.shape[1:] == (1,) else -1 for array in arrays}
    dtype = str(np.result_type(*(array.dtype for array in arrays)))
    if len(n_samples) != 1 or min(n_samples) < 1:
        raise ConversionError("corrupt", "The channels have no common length.")
    if dtype not in _DTYPES:
        raise ConversionError("unsupported_dtype", f"The channels together are {dtype}.")
    length = n_samples.pop()
    if (promised := _integers(group, "nsamples")) and promised[0] > length:
        raise ConversionError("truncated", f"Found {length} of {promised[0]} samples.")
    channels, texts = [], {name: text for name in _TEXTS if (text := text_attribute(group, name))}
    for path, array in zip(paths, arrays, strict=True):
        label = text_attribute(array, "label")
        channels.append(_channel(path, label, text_attribute(array, "sensor"), model, raw.get(path)))
        texts[f"label {path.rpartition('/')[2]}"] = label
    repeated = {one.name for one in channels if [c.name for c in channels].count(one.name) > 1}
    distinct = [c.model_copy(update={"name": f"{c.name} {c.label}"}) if c.name in repeated else c for c in channels]
    rate_hz = Fraction(rates[0])
    name = stream_name(rate_hz)
    stream = SignalStream(
        name=name if name not in taken else f"{name}_{len(taken) + 1}",
        rate_hz=rate_hz,
        dtype=dtype,
        n_samples=length,
        channels=tuple(distinct),
        segments=(Segment(start=0, n_samples=length, onset_s=onset_s),),
    )
    return _Device(mac, model, stream, paths, start, texts)


def _digital(group: h5py.Group) -> list[str]:
    lines = child(group, "digital")
    found = names(lines) if isinstance(lines, h5py.Group) else []
    numbers = sorted(int(name[8:]) for name in found if re.fullmatch(r"digital_[1-9]\d?", name, re.ASCII))
    return [f"digital/digital_{number}" for number in numbers]


def _channel(path: str, label: str, found: str, model: str, bits: int | None) -> Channel:
    """A channel by its sensor. Labels that people typed ("left arm of ...") may identify: only OpenSignals' own
    are kept, others are for recipes only."""
    own = path.rpartition("/")[2]
    if bits is None:
        return Channel(label=own, name=own, mapped=True, type="trigger", unit_found="", unit=None, scale=1, offset=0)
    what = sensor(found, model)
    label = label if _OWN_LABEL.fullmatch(label) else own
    kind, unit_found = (what.type, what.unit) if what else ("misc", "")
    unit, factor, _ = unit_factor(unit_found, kind)
    span = what.span * factor if what and unit else None
    return Channel(
        label=label,
        name=what.name if what else label,
        mapped=what is not None,
        type=kind,
        unit_found=unit_found,
        unit=unit,
        scale=1.0 if span is None else span / 2**bits,
        offset=0.0 if span is None or what is None else -what.zero * span,
        calibrated=span is not None,
        digital_min=0,
        digital_max=2**bits - 1,
    )


def _integers(group: h5py.Group, name: str) -> list[int]:
    """An attribute as whole numbers; none where it holds anything else."""
    value = attribute(group, name)
    array = np.atleast_1d(np.asarray(value)) if isinstance(value, np.ndarray | np.generic | int) else np.empty(0)
    if array.dtype.kind not in "iu" or array.ndim != 1 or array.size > 1000:
        return []
    return [int(one) for one in array]


def _start(group: h5py.Group) -> datetime | None:
    """ "2018-7-4" and "16:44:2.744", the clock of the computer; None where they are no date and time. No field is
    padded, so that ".69" is 69 ms."""
    day = re.fullmatch(r"(\d{4})-(\d{1,2})-(\d{1,2})", text_attribute(group, "date"), re.ASCII)
    clock = re.fullmatch(r"(\d{1,2}):(\d{1,2}):(\d{1,2})(?:\.(\d{1,3}))?", text_attribute(group, "time"), re.ASCII)
    found = calendar_date(int(day[1]), int(day[2]), int(day[3])) if day else None
    if found is None or clock is None:
        return None
    try:
        at = time(int(clock[1]), int(clock[2]), int(clock[3]), 1000 * int(clock[4] or 0))
    except ValueError:
        return None
    return datetime.combine(found, at)
