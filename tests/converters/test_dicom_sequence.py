"""Items of a sequence that are read one at a time, written byte by byte (PS3.5 7.5)."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import pytest

from converters.dicom_files import CONVERTER, one, save
from converters.waveform_files import waveform_dataset
from harmonize_converters import _dicom_sequence
from harmonize_converters._dicom_header import opened_header
from harmonize_converters._dicom_sequence import sequence_items
from harmonize_converters.contract import ConversionError

SEQUENCE, DATA = 0x54000100, 0x54001010


def sequence(raw: bytes, length: int = 0xFFFFFFFF) -> bytes:
    """A file whose WaveformSequence holds ``raw``."""
    return struct.pack("<HH2sHL", 0x5400, 0x0100, b"SQ", 0, length) + raw


def item(raw: bytes = b"", length: int = 0xFFFFFFFF) -> bytes:
    return struct.pack("<HHL", 0xFFFE, 0xE000, length) + raw


ITEM_END, SEQUENCE_END = struct.pack("<HHL", 0xFFFE, 0xE00D, 0), struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
RATE = struct.pack("<HH2sH", 0x003A, 0x001A, b"DS", 4) + b"500 "
SAMPLES = struct.pack("<HH2sHL", 0x5400, 0x1010, b"OW", 0, 4) + b"\1\0\2\0"


def file_with(folder: Path, raw: bytes) -> Path:
    path = save(waveform_dataset([], WaveformSequence=None), folder / "x.dcm")
    path.write_bytes(path.read_bytes() + raw)
    return path


def items_of(path: Path) -> list[tuple[list[int], bytes | None]]:
    """Tags of each item up to its samples, and these."""
    read = []
    with opened_header(path, ("SOPClassUID",), until=(SEQUENCE,)) as (header, stream):
        for one_item, value in sequence_items(stream, header, SEQUENCE, DATA):
            data = None
            if value is not None:
                stream.seek(value.start)
                data = stream.read(value.length)
            read.append(([int(tag) for tag in one_item.keys()], data))  # noqa: SIM118 (iterating converts)
    return read


@pytest.mark.parametrize("behind", [b"", struct.pack("<HH2sH", 0x5400, 0x1012, b"DS", 4) + b"500 "])
def test_items_end_by_their_length_or_a_delimiter(tmp_path, behind):
    body = RATE + SAMPLES + behind
    long = item(body + ITEM_END)
    short = item(body, len(body))
    for number, raw in enumerate(
        (
            sequence(long + short + long + SEQUENCE_END),
            sequence(short + long, len(short + long)),
            sequence(item(ITEM_END) + item(b"", 0) + long + SEQUENCE_END),
        )
    ):
        read = items_of(file_with(tmp_path / str(number), raw))
        assert [one_item for one_item in read if one_item[0]] == [([0x003A001A], b"\1\0\2\0")] * (3, 2, 1)[number]


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (sequence(item(RATE)), "truncated"),  # no delimiter
        (sequence(item(RATE + ITEM_END)), "truncated"),  # no delimiter of the sequence
        (sequence(item(RATE[:-2], len(RATE))), "truncated"),
        (sequence(item(RATE, len(RATE) - 2), len(RATE) + 6), "invalid_header"),  # longer than its item
        (sequence(item(SAMPLES, len(SAMPLES) - 2), len(SAMPLES) + 6), "invalid_header"),
        (sequence(item(RATE, len(RATE)), len(RATE)), "invalid_header"),  # longer than its sequence
        (sequence(RATE + SEQUENCE_END), "invalid_header"),
        (sequence(item(SAMPLES[:8] + b"\xff" * 4 + ITEM_END) + SEQUENCE_END), "invalid_header"),
        (sequence(b"").replace(b"SQ", b"OB"), "invalid_header"),
        (sequence(item(struct.pack("<HH2sHL", 0x0009, 1, b"OB", 0, 1 << 31))), "implausible_size"),
    ],
)
def test_items_that_do_not_close_are_refused(tmp_path, raw, code):
    with pytest.raises(ConversionError) as caught:
        items_of(file_with(tmp_path, raw))
    assert caught.value.code == code


def test_a_million_empty_items_take_little_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(_dicom_sequence, "MOST_ITEMS", 20_000)
    path = file_with(tmp_path, sequence(item(b"", 0) * 30_000 + SEQUENCE_END))
    tracemalloc.start()
    try:
        with (
            pytest.raises(ConversionError) as caught,
            opened_header(path, (), until=(SEQUENCE,)) as (header, stream),
        ):
            for _ in sequence_items(stream, header, SEQUENCE):
                pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert caught.value.code == "implausible_size"
    assert peak < 2_000_000


def test_i14_more_groups_than_any_device_has_are_refused(tmp_path):
    path = file_with(tmp_path, sequence(item(b"", 0) * 5000 + SEQUENCE_END))
    with pytest.raises(ConversionError) as caught:
        CONVERTER.describe(one(path.parent))
    assert caught.value.code in ("no_data", "unsupported_waveform")
    derived = struct.pack("<HH2sH", 0x003A, 0x0004, b"CS", 8) + b"DERIVED "
    path = file_with(tmp_path, sequence(item(derived, len(derived)) * 5000 + SEQUENCE_END))
    with pytest.raises(ConversionError) as caught:
        CONVERTER.describe(one(path.parent))
    assert caught.value.code == "implausible_size"
