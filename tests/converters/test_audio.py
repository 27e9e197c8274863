"""Sound files: WAVE against soundfile, FLAC against what was written."""

from __future__ import annotations

import struct
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile

from converters.conformance import ConverterConformance, code_of_refusal, convert, only_source, sources_in
from harmonize_converters.audio import AudioConverter
from harmonize_converters.contract import FoundFile, SourceFiles
from realdata import needs_data, real_files

CONVERTER = AudioConverter()
RNG = np.random.default_rng(3)


def tone(n: int, channels: int = 1, bits: int = 16) -> np.ndarray:
    """Noise over the whole range, (frame, channel)."""
    top = 1 << (bits - 1)
    return RNG.integers(-top, top, (n, channels))


def wav_bytes(
    samples: np.ndarray, bits: int, rate: int = 8000, kind: int = 1, extra: bytes = b"", extensible: bool = False
) -> bytes:
    """A RIFF file written byte by byte; ``samples`` (frame, channel)."""
    if kind == 3:
        data = samples.astype(f"<f{bits // 8}").tobytes()
    elif bits == 8:
        data = (samples + 128).astype(np.uint8).tobytes()
    else:
        data = b"".join(int(v).to_bytes(bits // 8, "little", signed=True) for v in samples.ravel())
    n = samples.shape[1]
    block = n * bits // 8
    form = struct.pack("<HHIIHH", 0xFFFE if extensible else kind, n, rate, rate * block, block, bits)
    if extensible:
        form += struct.pack("<HHI", 22, bits, 0) + struct.pack("<H", kind) + bytes(14)
    body = b"WAVE" + b"fmt " + struct.pack("<I", len(form)) + form + extra
    body += b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def info(**texts: str) -> bytes:
    body = b"INFO"
    for name, text in texts.items():
        raw = text.encode() + b"\0"
        body += name.encode() + struct.pack("<I", len(raw)) + raw + b"\0" * (len(raw) % 2)
    return b"LIST" + struct.pack("<I", len(body)) + body


class TestAudio(ConverterConformance):
    converter = CONVERTER
    planted = ("Moth243B1F", "52.2N")

    @pytest.fixture
    def source_files(self, tmp_path: Path) -> list[SourceFiles]:
        folder = tmp_path / "sound"
        folder.mkdir()
        comment = info(ICMT="Recorded at 52.2N", IART="Moth243B1F")
        (folder / "a.wav").write_bytes(wav_bytes(tone(700), 16, extra=comment))
        (folder / "b.wav").write_bytes(wav_bytes(tone(301, 2, 24), 24))
        (folder / "c.wav").write_bytes(wav_bytes(tone(300, 1, 8), 8))
        soundfile.write(folder / "d.flac", tone(5000, 2).astype(np.int16), 8000)
        return sources_in(CONVERTER, folder)

    @pytest.fixture
    def large_source(self, tmp_path: Path) -> SourceFiles:
        (tmp_path / "large").mkdir()
        soundfile.write(tmp_path / "large/a.wav", tone(1_100_000).astype(np.int16), 8000)
        return only_source(CONVERTER, tmp_path / "large")

    def independent(self, source: SourceFiles) -> list[np.ndarray]:
        """libsndfile fills the upper bits of 32."""
        frames = soundfile.read(source.primary.path, dtype="int32", always_2d=True)[0].T
        bits = {"b": 24, "c": 8}.get(source.primary.path.stem, 16)
        samples = frames >> (32 - bits)
        return [(samples + 128).astype(np.uint8) if bits == 8 else samples.astype({24: np.int32}.get(bits, np.int16))]

    def truncation_points(self, file: FoundFile, role: str) -> list[int]:
        return [n for n in super().truncation_points(file, role) if n < file.size]


@pytest.mark.parametrize(
    ("bits", "kind", "dtype"),
    [(8, 1, "uint8"), (16, 1, "int16"), (24, 1, "int32"), (32, 1, "int32"), (32, 3, "float32"), (64, 3, "float64")],
)
@pytest.mark.parametrize("extensible", [False, True])
def test_every_sample_format_has_full_scale_one(tmp_path, bits, kind, dtype, extensible) -> None:
    values = np.array([[-1.0, 0.0], [0.5, -0.25]])
    stored = values if kind == 3 else (values * (1 << (bits - 1))).astype(np.int64)
    (tmp_path / "a.wav").write_bytes(wav_bytes(stored, bits, kind=kind, extensible=extensible))
    outcome = convert(CONVERTER, only_source(CONVERTER, tmp_path))
    (stream,) = outcome.description.streams
    assert stream.dtype == dtype
    for channel, row, expected in zip(stream.channels, outcome.arrays[0], values.T, strict=True):
        np.testing.assert_allclose(row * channel.scale + channel.offset, expected, atol=1e-12)
        assert (channel.unit, channel.type) == ("a.u.", "sound")


def test_texts_are_for_recipes_only(tmp_path) -> None:
    (tmp_path / "a.wav").write_bytes(wav_bytes(tone(10), 16, extra=info(ICMT="a comment", IART="someone")))
    described = CONVERTER.describe(only_source(CONVERTER, tmp_path))
    assert described.header == {"comment": "a comment", "artist": "someone"}
    assert "someone" not in repr(described.description)


def test_rf64_lengths_are_read(tmp_path) -> None:
    plain = wav_bytes(tone(64), 16)
    sizes = b"ds64" + struct.pack("<IQQQI", 28, len(plain) + 28, 128, 64, 0)
    data = plain.index(b"data")
    (tmp_path / "a.wav").write_bytes(
        b"RF64\xff\xff\xff\xffWAVE" + sizes + plain[12 : data + 4] + b"\xff\xff\xff\xff" + plain[data + 8 :]
    )
    assert convert(CONVERTER, only_source(CONVERTER, tmp_path)).arrays[0].shape == (1, 64)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda raw: raw[:20] + b"\x11" + raw[21:], "unsupported_dtype"),  # ADPCM
        (lambda raw: raw[:22] + b"\x00" + raw[23:], "invalid_header"),  # no channels
        (lambda raw: raw[:24] + b"\0\0\0\0" + raw[28:], "invalid_header"),  # no rate
        (lambda raw: raw[:-1], "truncated"),
    ],
)
def test_wrong_headers_are_refused(tmp_path, change, code) -> None:
    (tmp_path / "a.wav").write_bytes(change(wav_bytes(tone(100), 16)))
    assert code_of_refusal(CONVERTER, tmp_path) == code


def test_flac_samples_must_have_the_promised_md5(tmp_path) -> None:
    file = tmp_path / "a.flac"
    soundfile.write(file, tone(4000).astype(np.int16), 8000)
    raw = bytearray(file.read_bytes())
    raw[30] ^= 1  # within the MD5
    file.write_bytes(raw)
    assert code_of_refusal(CONVERTER, tmp_path) == "checksum_mismatch"


def test_ogg_vorbis_is_lossy_and_says_so(tmp_path) -> None:
    t = np.arange(8000) / 8000
    soundfile.write(tmp_path / "a.ogg", np.sin(2 * np.pi * 440 * t), 8000, format="OGG", subtype="VORBIS")
    outcome = convert(CONVERTER, only_source(CONVERTER, tmp_path))
    assert "lossy_compression" in outcome.description.flags
    expected = soundfile.read(tmp_path / "a.ogg", dtype="float32")[0]
    np.testing.assert_array_equal(outcome.arrays[0][0], expected)


@needs_data
@pytest.mark.parametrize("file", real_files("audio", ".wav"), ids=lambda f: f.name)
def test_real_files_equal_soundfile(file) -> None:
    source = next(s for s in sources_in(CONVERTER, file.parent) if s.primary.path == file)
    outcome = convert(CONVERTER, source)
    (stream,) = outcome.description.streams
    values = outcome.arrays[0] * np.array([[c.scale] for c in stream.channels])
    np.testing.assert_array_equal(values.astype(np.float32), soundfile.read(file, dtype="float32", always_2d=True)[0].T)


def test_the_standard_librarys_writer_is_read(tmp_path) -> None:
    with wave.open(str(tmp_path / "a.wav"), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(44100)
        out.writeframes(np.arange(100, dtype="<i2").tobytes())
    np.testing.assert_array_equal(convert(CONVERTER, only_source(CONVERTER, tmp_path)).arrays[0][0], np.arange(100))
