"""Random numbers and permutations at any position, from a key alone: no state, no memory, the same everywhere."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]

ROUNDS = 64
_GOLDEN, _FIRST, _SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def mix(words: Words) -> Words:
    """Scramble 64-bit words: the finalizer of SplitMix64 (Steele, Lea and Flood 2014, variant 13 of Stafford)."""
    words = words + _GOLDEN
    words = (words ^ (words >> np.uint64(30))) * _FIRST
    words = (words ^ (words >> np.uint64(27))) * _SECOND
    mixed: Words = words ^ (words >> np.uint64(31))
    return mixed


def key(*parts: int | Ints | Words) -> Words:
    """One key from several numbers (broadcast against each other): ``key(seed, epoch, group)``."""
    made: Words = np.zeros((), np.uint64)
    with np.errstate(over="ignore"):  # 64-bit words wrap; numpy warns for scalars
        for part in parts:
            made = mix(made ^ np.asarray(part).astype(np.uint64))
    return made


def uniform(made: Words, position: int | Ints) -> npt.NDArray[np.float64]:
    """Numbers in [0, 1) at these positions of a key's stream, 53 random bits each."""
    words = key(made, position)
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def permute(position: int | Ints, size: int | Ints, made: Words) -> Ints:
    """What stands at ``position`` when ``range(size)`` is shuffled by a key; all three broadcast.

    The swap-or-not shuffle (Hoang, Morris and Rogaway 2012): each round pairs x with K - x modulo size
    and swaps the pair or not. It is a permutation of any size, costs no memory, and needs no other
    position to be worked out. About 1 µs an element; sizes up to 2**53.
    """
    at, n = np.asarray(position, np.int64), np.asarray(size, np.int64)
    with np.errstate(over="ignore"):
        # All rounds' at once: of a few elements the calls to numpy are what takes time.
        rounds = np.arange(1, ROUNDS + 1, dtype=np.uint64).reshape(-1, *(1,) * np.broadcast(made, n).ndim)
        salts = mix(made ^ rounds * _GOLDEN)
        sums = ((salts >> np.uint64(11)) * 2.0**-53 * n).astype(np.int64)
        for salt, total in zip(salts, sums, strict=True):
            other = total - at
            other = np.where(other < 0, other + n, other)
            coin = mix(np.maximum(at, other).view(np.uint64) ^ salt) >> np.uint64(63)
            at = np.where(coin == 0, at, other)
    return at
