"""``PYTHONPATH=tests python -m fuzz [FORMAT ...] [--cases N] [--first SEED]``: fuzz converters, and keep what is found."""

from __future__ import annotations

import argparse
import resource
import sys
import time
import warnings
from pathlib import Path

from fuzz.runner import run
from fuzz.seeds import targets

REGRESSIONS = Path(__file__).with_name("regressions")


def main() -> int:
    """Prints a line a format; returns 1 where a case ended as none may. Its files go to ``regressions``."""
    known = targets()
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("formats", nargs="*", choices=[*known, []], default=[])
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0)
    chosen = parser.parse_args()
    warnings.simplefilter("error")
    failed = 0
    for name in chosen.formats or known:
        start = time.monotonic()
        tally = run(known[name], range(chosen.first, chosen.first + chosen.cases))
        codes = ", ".join(f"{code} {n:,}" for code, n in tally.refused.most_common())
        who = resource.RUSAGE_CHILDREN if known[name].apart else resource.RUSAGE_SELF
        peak = resource.getrusage(who).ru_maxrss // 1024
        print(
            f"{name}: {tally.cases:,} cases in {time.monotonic() - start:.0f} s, slowest {tally.slowest_s * 1e3:.0f} ms, "
            f"peak memory {peak} MB; {tally.converted:,} sources converted and right, refused: {codes}; "
            f"{len(tally.found)} wrong"
        )
        for number, (files, message) in enumerate(tally.found):
            folder = REGRESSIONS / name / f"{chosen.first}-{number}"
            folder.mkdir(parents=True, exist_ok=True)
            for file, data in files.items():
                (folder / file).write_bytes(data)
            print(f"  {message}: {folder}")
        failed += len(tally.found)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
