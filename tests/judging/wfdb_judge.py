"""The judge of WFDB: wfdb-python's ``rdrecord`` and ``rdann``, each as its users call it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import wfdb

from judging import raw_wfdb
from judging.model import Event, Reading, Refusal, Signal, keyed, refusal, time_line
from judging.raw_annotations import event_text


def with_wfdb(path: Path, annotators: tuple[str, ...] = ()) -> Reading | Refusal:
    """A record by its header's path, and its annotation files."""
    name = str(path.with_suffix(""))
    multi = bool(raw_wfdb.header(path).segments)
    try:
        with warnings.catch_warnings():
            # wfdb calls pandas with an argument that pandas 3.1 deprecates: its own affair, as in pyproject.toml.
            warnings.filterwarnings("ignore", "The inplace keyword")
            signals = list(_joined(name, path) if multi else _plain(name, path))
            marks = sorted(event for suffix in annotators for event in _events(name, suffix, path))
    except (OSError, ValueError, IndexError, TypeError, KeyError, AttributeError) as error:
        return refusal(error, path)
    return Reading(keyed(signals), tuple(marks) if annotators else None)


def _rates(path: Path, widths: list[int]) -> list[Fraction]:
    """Exact rates: wfdb gives the frequency of the header as a float."""
    return [raw_wfdb.header(path).rate_hz * width for width in widths]


def _plain(name: str, path: Path) -> Iterator[Signal]:
    """An ordinary record; without averaging where a frame holds several samples of a signal."""
    rates = _rates(path, wfdb.rdheader(name).samps_per_frame)
    frames = len(set(rates)) > 1 or rates[0] != _rates(path, [1])[0]
    digital = wfdb.rdrecord(name, physical=False, smooth_frames=not frames)
    values = wfdb.rdrecord(name, smooth_frames=not frames)
    for index, (label, rate_hz) in enumerate(zip(digital.sig_name, rates, strict=True)):
        samples = digital.e_d_signal[index] if frames else digital.d_signal[:, index]
        row = values.e_p_signal[index] if frames else values.p_signal[:, index]
        yield Signal(label or "", rate_hz, samples.astype(np.int64), row, digital.units[index])


def _joined(name: str, path: Path) -> Iterator[Signal]:
    """A record of several segments: samples segment by segment, as only so wfdb leaves them alone; values of the
    whole record, which wfdb scales to one gain, or segment by segment where it would average frames."""
    digital, values = ({} for _ in range(2))
    widths: dict[str, int] = {}
    units: dict[str, str] = {}
    first = wfdb.rdrecord(name, m2s=False, physical=False, smooth_frames=False)
    second = wfdb.rdrecord(name, m2s=False, smooth_frames=False)
    start = 0
    for own, scaled, length in zip(first.segments, second.segments, first.seg_len, strict=True):
        for index, label in enumerate(own.sig_name if own is not None and own.sig_len else ()):
            widths[label] = width = own.samps_per_frame[index]
            units[label] = own.units[index]
            digital.setdefault(label, []).append((start * width, own.e_d_signal[index].astype(np.int64)))
            values.setdefault(label, []).append((start * width, scaled.e_p_signal[index]))
        start += int(length)
    joined = wfdb.rdrecord(name) if set(widths.values()) <= {1} else None
    labels = first.sig_name or list(widths) if joined is None else joined.sig_name
    for label in labels:
        n = start * widths.get(label, 1)
        line, present = time_line(digital.get(label, []), n)
        if joined is None:
            row, _ = time_line(values[label], n)
            row[~(np.ones(n, bool) if present is None else present)] = np.nan
            unit = units[label]
        else:
            row = joined.p_signal[:, joined.sig_name.index(label)]
            unit = joined.units[joined.sig_name.index(label)]
        yield Signal(label, _rates(path, [widths.get(label, 1)])[0], line, row, unit, present)


def _events(name: str, suffix: str, path: Path) -> Iterator[Event]:
    found = wfdb.rdann(name, suffix)
    rate_hz = Fraction(found.fs) if found.fs else raw_wfdb.header(path).rate_hz
    columns = (found.sample, found.symbol, found.aux_note, found.subtype, found.chan, found.num)
    for at, symbol, aux, subtype, channel, number in zip(*columns, strict=True):
        text = event_text(symbol, aux.rstrip("\0").strip(), int(subtype), int(channel), int(number))
        yield Event(float(int(at) / rate_hz), text)


def with_raw_bytes(path: Path, annotators: tuple[str, ...] = ()) -> Reading | Refusal:
    """``raw_wfdb``, with a file that is not there told as a refusal."""
    try:
        found = raw_wfdb.read(path, annotators)
    except FileNotFoundError as error:
        return refusal(error, path)
    return found if found.signals or found.events else Refusal("no samples", "all is a gap")


JUDGES: dict[str, Callable[[Path, tuple[str, ...]], Reading | Refusal]] = {
    "raw bytes": with_raw_bytes,
    "wfdb": with_wfdb,
}
