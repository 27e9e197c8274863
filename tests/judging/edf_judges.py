"""The judges of EDF and BDF: pyEDFlib, edfio and MNE, each as its users call it."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import edfio
import mne
import numpy as np
import pyedflib

from judging import raw_edf
from judging.model import Event, Reading, Refusal, Signal, keyed, refusal

VOLTS = re.compile(r"[munµμ]?V")
"""Units that MNE gives in volts."""
NO_TRIGGERS = ("triggers", "gives none")


def with_pyedflib(path: Path) -> Reading | Refusal:
    """``EdfReader``: digital and physical samples of every signal, and its annotations."""
    try:
        reader = pyedflib.EdfReader(str(path))
    except OSError as error:
        return refusal(error, path)
    with reader:
        headers = reader.getSignalHeaders()
        signals = [
            Signal(
                header["label"],
                Fraction(int(n), 1) / _duration(path),
                reader.readSignal(index, digital=True).astype(np.int64),
                reader.readSignal(index),
                header["dimension"],
            )
            for index, (header, n) in enumerate(zip(headers, reader.getNSamples(), strict=True))
        ]
        onsets, durations, texts = reader.readAnnotations()
    # It gives -1 where there is no duration.
    events = [Event(*one) for one in zip(onsets.tolist(), texts.tolist(), durations.tolist(), strict=True)]
    return Reading(keyed(signals), tuple(events), notes=(NO_TRIGGERS,))


def with_edfio(path: Path) -> Reading | Refusal:
    """``read_edf`` or ``read_bdf``: digital and physical samples of every signal, and the annotations."""
    try:
        found = (edfio.read_bdf if path.suffix == ".bdf" else edfio.read_edf)(path)
        signals = [
            Signal(
                one.label,
                Fraction(len(one.digital)) / _duration(path),
                one.digital.astype(np.int64),
                one.data.astype(np.float64),
                one.physical_dimension,
            )
            for one in found.signals
        ]
        events = [Event(e.onset, e.text, -1.0 if e.duration is None else e.duration) for e in found.annotations]
    except (ValueError, IndexError) as error:
        return refusal(error, path)
    return Reading(keyed(signals), tuple(events), notes=(NO_TRIGGERS,))


def with_mne(path: Path) -> Reading | Refusal:
    """``read_raw_edf`` or ``read_raw_bdf`` with their defaults: values, annotations, and ``find_events`` of BDF."""
    bdf = path.suffix == ".bdf"
    try:
        raw = (mne.io.read_raw_bdf if bdf else mne.io.read_raw_edf)(path, verbose="error")
    except (ValueError, RuntimeError, NotImplementedError) as error:
        return refusal(error, path)
    values = raw.get_data() if raw.ch_names else np.empty((0, 0))
    # MNE renames double labels and has one rate: its channels are matched by place.
    plain = [field for field in raw_edf.fields(path.read_bytes()) if not field.is_annotations]
    notes = [("samples", "gives values only")]
    signals = []
    if len(plain) == len(values):
        record_s = Fraction(path.read_bytes()[244:252].decode().strip())
        kinds = raw.get_channel_types() if plain else []
        for field, kind, row in zip(plain, kinds, values, strict=True):
            # Fraction of a float: MNE's rate is the quotient that a rate of the header rounds to.
            if abs(field.samples / record_s - Fraction(raw.info["sfreq"])) > Fraction(1, 10**9):
                continue
            unit = "V" if VOLTS.fullmatch(field.texts["unit"]) and kind != "stim" else field.texts["unit"]
            signals.append(Signal(field.texts["label"], field.samples / record_s, None, row, unit))
        if len(signals) < len(plain):
            slower = len(plain) - len(signals)
            notes.append(("values", f"resamples {slower} of {len(plain)} signals to the highest rate"))
    else:
        notes.append(("values", f"gives {len(values)} signals of {len(plain)}"))
    # Of a file without signals, a raw object keeps only what lies within the second it takes the file to last.
    marks = raw.annotations if plain else mne.read_annotations(path)
    columns = (marks.onset, marks.description, marks.duration)
    events = [Event(float(at), str(text), float(length)) for at, text, length in zip(*columns, strict=True)]
    triggers = None
    if bdf and "Status" in raw.ch_names:
        found = mne.find_events(
            raw,
            "Status",
            consecutive=True,
            initial_event=True,
            shortest_event=1,
            mask=0xFFFF,
            mask_type="and",
            verbose="error",
        )
        triggers = tuple((float(at / raw.info["sfreq"]), int(code)) for at, _, code in found)
    return Reading(keyed(signals), tuple(events), triggers, notes=tuple(notes), zero_durations=True)


JUDGES: dict[str, Callable[[Path], Reading | Refusal]] = {
    "raw bytes": raw_edf.read,
    "pyedflib": with_pyedflib,
    "edfio": with_edfio,
    "MNE": with_mne,
}


def _duration(path: Path) -> Fraction:
    """Duration of all data records in s, by the header: rates are exact where judges give lengths only."""
    data = path.read_bytes()
    fields = raw_edf.fields(data)
    width = 3 if data[0] == 0xFF else 2
    held = (len(data) - 256 * (1 + len(fields))) // (width * sum(field.samples for field in fields))
    declared = int(data[236:244])
    return (held if declared == -1 else min(held, declared)) * Fraction(data[244:252].decode().strip())
