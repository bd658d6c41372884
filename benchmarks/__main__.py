"""``python -m benchmarks NAME [OPTION...]``: runs one benchmark; its options are its own (``NAME --help``)."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

BENCHMARKS = {
    "burst": "many jobs at once on a real Slurm, beside the floor of bare sbatch",
    "idle": "GitHub and Slurm calls in an idle hour",
    "startup": "from a Slurm job's start to its runner, for each way to get a 2 GB image",
    "scale": "a thousand repositories and 10,000 queued jobs: time to see them, memory, calls an hour",
    "latency": "from a job queued on GitHub to its sbatch accepted, by source",
    "throughput": "jobs a second through a real Slurm, beside bare sbatch",
    "plan": "time and memory of one plan(), up to ten thousand queued jobs",
}


def main(arguments: Sequence[str]) -> int:
    """Hand over to the benchmark's ``main(argv)``; its exit code, or 0 where it returns None."""
    width = max(map(len, BENCHMARKS))
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(f"{name:{width}}  {about}" for name, about in BENCHMARKS.items()),
    )
    parser.add_argument("name", choices=BENCHMARKS)
    name = parser.parse_args(arguments[:1]).name
    code: int | None = importlib.import_module(f"benchmarks.{name}").main(arguments[1:])
    return code or 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
