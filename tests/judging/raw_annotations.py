"""The judge "raw bytes" for WFDB annotation files: a plain decoder written from annot(5), and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from judging.model import Event

SKIP, NUM, SUB, CHN, AUX = 59, 60, 61, 62, 63
# ecgcodes.h and the mnemonics of annstr(3), by code; those that are missing have none.
MNEMONICS = dict(enumerate(" NLRaVFJASEj/Q~", 0)) | {16: "|"} | dict(enumerate('sT*D"=pB^t+u?![]en@xf()r', 18))


def event_text(mnemonic: str, aux: str, subtype: int, channel: int, number: int) -> str:
    """All that an annotation says besides its time, as one text that judges can be compared by."""
    fields = [f"{name} {value}" for name, value in (("sub", subtype), ("chan", channel), ("num", number)) if value]
    return " ".join(filter(None, [mnemonic, aux, *fields]))


def events(path: Path, suffix: str, rate_hz: Fraction) -> Iterator[Event]:
    """The annotations of one file beside a header; definitions (at time 0, from "##") are none."""
    data = path.with_suffix(f".{suffix}").read_bytes()
    for time, code, subtype, channel, number, aux in _words(data):
        if aux.startswith("## time resolution: "):
            rate_hz = Fraction(aux.split()[3])
        elif code and not aux.startswith("## "):
            yield Event(float(time / rate_hz), event_text(MNEMONICS.get(code, ""), aux, subtype, channel, number))


def _words(data: bytes) -> Iterator[tuple[int, int, int, int, int, str]]:
    """(time, code, sub, chan, num, aux) of each annotation; annot(5): CHN and NUM hold on, SUB and AUX do not."""
    at = time = channel = number = 0
    while True:
        word = int.from_bytes(data[at : at + 2], "little")
        at += 2
        if word == 0:
            return
        code, interval = word >> 10, word & 0x3FF
        while code == SKIP:
            high, low = data[at : at + 2], data[at + 2 : at + 4]  # PDP-11: the upper half first
            time += int.from_bytes(low + high, "little", signed=True)
            word = int.from_bytes(data[at + 4 : at + 6], "little")
            at += 6
            code, interval = word >> 10, word & 0x3FF
        time += interval
        subtype, aux = 0, b""
        while (following := data[at + 1] >> 2) in (NUM, SUB, CHN, AUX):
            value = data[at]
            at += 2
            if following == AUX:
                aux = data[at : at + value]
                at += value + value % 2
            elif following == CHN:
                channel = value
            elif following == NUM:
                number = value - 256 * (value > 127)
            else:
                subtype = value - 256 * (value > 127)
        yield time, code, subtype, channel, number, aux.rstrip(b"\0").decode().strip()
