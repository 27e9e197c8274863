"""Headers of made-up EDF and BDF files, written field by field."""

from __future__ import annotations

ANNOTATION_BYTES = 32


def edf_header(channels: int, rate_hz: int, seconds: int, bdf: bool = False) -> bytes:
    """The header of an EDF+C or BDF+C file: data records of 1 s, and an annotation signal behind the channels, of
    16 samples (``ANNOTATION_BYTES`` in EDF, half as many again in BDF)."""
    n, kind = channels, b"BDF" if bdf else b"EDF"
    top = 2**23 if bdf else 2**15
    columns = [
        (16, [b"EEG %d" % i for i in range(n)] + [kind + b" Annotations"]), (80, [b""] * (n + 1)),
        (8, [b"uV"] * n + [b""]), (8, [b"-3200"] * n + [b"-1"]), (8, [b"3200"] * n + [b"1"]),
        (8, [b"%d" % -top] * (n + 1)), (8, [b"%d" % (top - 1)] * (n + 1)), (80, [b""] * (n + 1)),
        (8, [b"%d" % rate_hz] * n + [b"%d" % (ANNOTATION_BYTES // 2)]), (32, [b""] * (n + 1)),
    ]  # fmt: skip
    fixed = [
        (8, b"\xffBIOSEMI" if bdf else b"0"), (80, b"X X X X"), (80, b"Startdate X X X X"), (8, b"01.01.20"),
        (8, b"00.00.00"), (8, b"%d" % (256 * (n + 2))), (44, kind + b"+C"), (8, b"%d" % seconds), (8, b"1"),
        (4, b"%d" % (n + 1)),
    ]  # fmt: skip
    return b"".join(
        [*(text.ljust(size) for size, text in fixed), *(t.ljust(size) for size, texts in columns for t in texts)]
    )
