"""Slow, plain readers, which a result from a damaged file is compared with."""

from __future__ import annotations

import numpy as np

from harmonize_converters.contract import SourceFiles
from judging import raw_wfdb


def check_edf(source: SourceFiles, arrays: list[np.ndarray]) -> None:
    """Samples by the fixed widths of the EDF specification, one signal of one record after the other."""
    data = source.primary.path.read_bytes()
    count = _number(data[252:256])
    starts = 256 * (count + 1)
    at = 256 + count * (16 + 80 + 8 * 5 + 80)
    samples = [_number(data[at + 8 * i : at + 8 * i + 8]) for i in range(count)]
    labels = [_text(data[256 + 16 * i : 272 + 16 * i]) for i in range(count)]
    width = 3 if data[0] == 0xFF else 2
    declared = _number(data[236:244])
    n_records = (len(data) - starts) // (sum(samples) * width)
    n_records = n_records if declared == -1 else min(n_records, declared)
    columns: dict[int, list[list[int]]] = {}
    offset = 0
    for label, n in zip(labels, samples, strict=True):
        if label not in ("EDF Annotations", "BDF Annotations"):
            values: list[int] = []
            for record in range(n_records):
                begin = starts + (record * sum(samples) + offset) * width
                raw = data[begin : begin + n * width]
                values += [int.from_bytes(raw[i : i + width], "little", signed=True) for i in range(0, len(raw), width)]
            columns.setdefault(n, []).append(values)
        offset += n
    assert len(arrays) == len(columns)
    for got, want in zip(arrays, columns.values(), strict=True):
        np.testing.assert_array_equal(got, want)


def _text(raw: bytes) -> str:
    """Up to the first NUL; spaces of Latin-1 (NBSP, NEL) count as spaces."""
    return raw.split(b"\0")[0].decode("latin-1").strip()


def _number(raw: bytes) -> int:
    return int(float(_text(raw).replace(",", ".")))


def check_wfdb(source: SourceFiles, arrays: list[np.ndarray]) -> None:
    """Samples of an ordinary record by the judges' plain reader. It takes numbers in fewer spellings than header(5)
    allows, so what it cannot read is not compared; segments are compared by their checksums."""
    path = source.primary.path
    try:
        record = raw_wfdb.header(path)
        signals = [line for line in record.signals if line.form and line.file != "~"]
        plain = raw_wfdb.Header(record.rate_hz, record.n_frames, signals, [])
        columns = [] if record.segments else raw_wfdb.samples(path.parent, plain, record.n_frames)
    except (ValueError, ArithmeticError, AssertionError, LookupError):
        return
    widths: dict[int, list[np.ndarray]] = {}
    for line, values in columns:
        widths.setdefault(line.width, []).append(values)
    for got, want in zip(arrays, widths.values(), strict=False):
        np.testing.assert_array_equal(got, want)
