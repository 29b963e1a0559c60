"""Judge the classes, all or those named, and print one line each: ``python -m tests.adapters.zoo [NAME …]``.

Without names the verdicts are written to the file that the tests hold them at. ``--keep`` writes those of the names.
"""

from __future__ import annotations

import logging
import sys
import time
import traceback
import warnings

import diffusers

from tests.adapters.zoo import REGISTRY, case
from tests.adapters.zoo.judge import judge
from tests.adapters.zoo.matrix import counts, keep, kept, line


def main(arguments: list[str]) -> int:
    """Judge, print, keep."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    diffusers.utils.logging.set_verbosity_error()
    options = {argument for argument in arguments if argument.startswith("--")}
    names = [argument for argument in arguments if argument not in options]
    verdicts, broken = {}, 0
    for name in names or REGISTRY:
        began = time.process_time()
        try:
            verdict = judge(case(name))
        except Exception as error:
            broken += 1
            print(f"| {name} | BROKEN: {type(error).__name__}: {error}", flush=True)
            if "--trace" in options:
                traceback.print_exc()
            continue
        verdicts[name] = verdict.word
        print(line(name, verdict), f"{time.process_time() - began:.1f} s", verdict.message, flush=True)
    print(counts(verdicts), f"; {broken} broken" if broken else "")
    if not names:
        keep(verdicts)
    elif "--keep" in options:
        keep({**kept(), **verdicts})
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
