"""``make hostile``: a thousand bad or strange inputs, and how many of them end badly. Every count must be 0."""

import argparse
import logging
import os
import sys
import tempfile
from pathlib import Path

from tests.hostile.judge import FAULTS, Counts, head


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--door", choices=("commands", "calls", "processes"), help="only one door")
    parser.add_argument("--group", help="only inputs whose group or name has this text")
    arguments = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    for noisy in ("diffusers", "transformers", "matplotlib"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    counts: list[Counts] = []
    chosen = (lambda item: True) if arguments.group is None else lambda item: arguments.group in item.name
    for door in ("commands", "calls", "processes") if arguments.door is None else (arguments.door,):
        module = __import__(f"tests.hostile.{door}", fromlist=["run_all"])
        with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
            counts.append(module.run_all(Path(folder), arguments.seed, chosen))
        _print(counts[-1])  # as soon as a door is done, whatever becomes of the next
    return int(any(count.faults[kind] for count in counts for kind in FAULTS))


def _print(count: Counts) -> None:
    for kind in FAULTS:
        for name, what in count.faults[kind]:
            print(f"{kind}: {name!r}\n    {what!r}")
    print(head())
    print(count.line(), flush=True)


if __name__ == "__main__":
    sys.exit(main())
