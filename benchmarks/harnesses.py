"""``python -m benchmarks.harnesses``: what the crash harness and the tests of many processes print."""

from __future__ import annotations

import os
import subprocess
import sys

RUNS = (
    ("PYTHONPATH=tests python -m crash", ["-m", "crash"]),
    (
        "python -m pytest -v tests/ingest/test_cluster.py",
        ["-m", "pytest", "-v", "--no-header", "-o", "console_output_style=classic", "tests/ingest/test_cluster.py"],
    ),
)
"""Commands in the repository's root, as a user types them and as they are run."""


def rows() -> list[str]:
    """Both, as one block of text; what fails ends the run."""
    lines = ["```"]
    for typed, arguments in RUNS:
        environment = {**os.environ, "PYTHONPATH": "tests"}
        ran = subprocess.run(
            [sys.executable, *arguments], env=environment, check=True, stdout=subprocess.PIPE, text=True
        )
        lines += [f"$ {typed}", *filter(None, (line.strip("= ") for line in ran.stdout.splitlines())), ""]
    return [*lines[:-1], "```"]


if __name__ == "__main__":
    print("\n".join(rows()))
