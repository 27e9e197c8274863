"""Sound files: WAVE decoded here, FLAC and Ogg Vorbis through soundfile (libsndfile)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from importlib.metadata import version

import numpy as np
import soundfile

from harmonize_converters._frames import stream_name
from harmonize_converters._open import opened, read_at
from harmonize_converters._wav import Wav, is_wav, parse_wav
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
from harmonize_schemas import Channel, Segment, SignalStream

FLAC, OGG = b"fLaC", b"OggS"
VORBIS_AT = 28
_FLAC_BITS = {"PCM_S8": 8, "PCM_16": 16, "PCM_24": 24}
MAX_FRAMES = 1 << 40


class AudioConverter:
    """Sound files: one file is one recording, full scale is 1."""

    name = "audio"
    version = "1"
    suffixes = frozenset({".wav", ".flac", ".ogg", ".oga"})

    def recognize(self, head: bytes, name: str) -> bool:
        """RIFF or RF64 of form WAVE, native FLAC, Ogg whose first packet is Vorbis."""
        return is_wav(head) or head[:4] == FLAC or (head[:4] == OGG and head[VORBIS_AT : VORBIS_AT + 7] == b"\1vorbis")

    def group(self, files: Sequence[FoundFile], siblings: Mapping[str, FoundFile]) -> list[SourceFiles]:
        """Every file is a source of its own."""
        return [SourceFiles(self.name, file.key, (file,), ("signal",)) for file in files]

    def describe(self, source: SourceFiles) -> Described:
        """The header. Its texts (comments, artists: devices and places) are for recipes only."""
        file = source.primary
        with opened(file) as handle:
            if is_wav(read_at(handle, 0, min(12, file.size))):
                wav = parse_wav(handle, file.size)
                bits = wav.bits if wav.dtype.startswith(("int", "uint")) else None
                stream = _stream(wav.rate_hz, wav.n_channels, wav.n_frames, wav.dtype, bits)
                return _described("WAVE", stream, {"numpy": np.__version__}, wav.texts)
        with _sound(file) as sound:
            bits = _FLAC_BITS.get(sound.subtype)
            if sound.format == "FLAC" and bits is None:
                raise ConversionError("unsupported_dtype", f"Found samples {sound.subtype}.")
            if not 0 < sound.frames < MAX_FRAMES:
                raise ConversionError("invalid_header", "The header gives no length.")
            dtype = {None: "float32", 24: "int32"}.get(bits, "int16")
            stream = _stream(sound.samplerate, sound.channels, sound.frames, dtype, bits)
            texts = {name: text for name, text in sound.copy_metadata().items() if text}
            libraries = {"soundfile": version("soundfile"), "libsndfile": soundfile.__libsndfile_version__}
            return _described("FLAC" if bits else "Ogg Vorbis", stream, libraries, texts)

    def read(self, source: SourceFiles, description: Description, block_bytes: int) -> Iterator[Block]:
        """Some frames at a time. FLAC's MD5 of all samples is compared after the last, where it is given."""
        (stream,) = description.streams
        at_once = max(1, block_bytes // (np.dtype(stream.dtype).itemsize * len(stream.channels)))
        with opened(source.primary) as handle:
            if is_wav(read_at(handle, 0, min(12, source.primary.size))):
                wav = parse_wav(handle, source.primary.size)
                if (wav.n_frames, wav.n_channels, wav.dtype) != (stream.n_samples, len(stream.channels), stream.dtype):
                    raise ConversionError("source_changed")
                for start in range(0, wav.n_frames, at_once):
                    count = min(at_once, wav.n_frames - start)
                    raw = read_at(handle, wav.start + start * wav.frame_bytes, count * wav.frame_bytes)
                    yield Block(0, start, _decode(raw, wav))
                return
        yield from _read_sound(source.primary, stream, at_once)

    def annotations(self, source: SourceFiles, description: Description) -> Iterator[FoundAnnotation]:
        """None: sound files have no events."""
        return iter(())


def _described(kind: str, stream: SignalStream, libraries: Mapping[str, str], texts: Mapping[str, str]) -> Described:
    description = Description(
        format=kind,
        modality="audio",
        streams=(stream,),
        duration_s=stream.duration_s,
        flags=("lossy_compression",) if kind == "Ogg Vorbis" else (),
        libraries=libraries,
    )
    return Described(description, Identity(), texts)


def _stream(rate: int, n_channels: int, n_frames: int, dtype: str, bits: int | None) -> SignalStream:
    rate_hz = Fraction(rate)
    return SignalStream(
        name=stream_name(rate_hz),
        rate_hz=rate_hz,
        dtype=dtype,
        n_samples=n_frames,
        channels=tuple(_channel(i, n_channels, dtype, bits) for i in range(n_channels)),
        segments=(Segment(start=0, n_samples=n_frames, onset_s=0.0),),
    )


def _channel(index: int, count: int, dtype: str, bits: int | None) -> Channel:
    """Full scale is 1; eight-bit WAVE counts from 0 with silence at 128."""
    name = "Sound" if count == 1 else f"Sound {index + 1}"
    scale = 1.0 if bits is None else 2.0 ** (1 - bits)
    half = None if bits is None else 1 << (bits - 1)
    zero = 128 if dtype == "uint8" else 0
    return Channel(
        label=name,
        name=name,
        mapped=True,
        type="sound",
        unit_found="a.u.",  # the format has no unit but full scale
        unit="a.u.",
        scale=scale,
        offset=-zero * scale,
        digital_min=None if half is None else zero - half,
        digital_max=None if half is None else zero + half - 1,
    )


def _decode(raw: bytes, wav: Wav) -> np.ndarray:
    """Frames to (channel, time), little-endian as RIFF is."""
    if wav.bits == 24:
        wide = np.zeros((len(raw) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(raw, np.uint8).reshape(-1, 3)
        flat: np.ndarray = wide.view("<i4").ravel() >> 8
    else:
        flat = np.frombuffer(raw, np.dtype(wav.dtype).newbyteorder("<"))
    return np.ascontiguousarray(flat.reshape(-1, wav.n_channels).T.astype(wav.dtype, copy=False))


def _sound(file: FoundFile) -> soundfile.SoundFile:
    try:
        return soundfile.SoundFile(file.path)
    except (soundfile.LibsndfileError, RuntimeError, TypeError, UnicodeDecodeError):
        raise ConversionError("corrupt", "libsndfile cannot open it.") from None


def _read_sound(file: FoundFile, stream: SignalStream, at_once: int) -> Iterator[Block]:
    digest = hashlib.md5(usedforsecurity=False)
    with _sound(file) as sound:
        bits = _FLAC_BITS.get(sound.subtype)
        if (sound.frames, sound.channels) != (stream.n_samples, len(stream.channels)):
            raise ConversionError("source_changed")
        for start in range(0, stream.n_samples, at_once):
            count = min(at_once, stream.n_samples - start)
            try:
                frames = sound.read(count, dtype="float32" if bits is None else "int32", always_2d=True)
            except (soundfile.LibsndfileError, RuntimeError):
                raise ConversionError("corrupt", "libsndfile cannot decode it.", f"frame {start}") from None
            if len(frames) != count:
                raise ConversionError("truncated", f"Found {start + len(frames)} of {stream.n_samples} frames.")
            if bits is not None:
                frames >>= 32 - bits  # libsndfile fills the upper bits
                digest.update(_bytes(frames, bits))
            yield Block(0, start, np.ascontiguousarray(frames.T.astype(stream.dtype, copy=False)))
    promised = _flac_md5(file) if bits is not None else None
    if promised is not None and promised != digest.digest():
        raise ConversionError("checksum_mismatch", "The MD5 of the samples is another.", "STREAMINFO")


def _bytes(frames: np.ndarray, bits: int) -> bytes:
    """Samples as FLAC's MD5 takes them: interleaved, little-endian, of whole bytes (RFC 9639, 8.2)."""
    return np.ascontiguousarray(frames.astype("<i4").view(np.uint8).reshape(-1, 4)[:, : bits // 8]).tobytes()


def _flac_md5(file: FoundFile) -> bytes | None:
    """The MD5 in STREAMINFO, the first metadata block; None where it is zero (not computed) or elsewhere."""
    with opened(file) as handle:
        head = read_at(handle, 0, min(42, file.size))
    found = head[26:42] if head[:4] == FLAC and head[4] & 0x7F == 0 else b""
    return found if any(found) else None
