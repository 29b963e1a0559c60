"""Judge the pipeline classes and print one line each: ``python -m tests.adapters.zoo [--check] [NAME …]``.

Without names all are judged. The matrix is written into the docs, and the verdicts into the file at which the tests
hold the classes and from which ``lanpaint models`` is made. With ``--check`` nothing is written, and the exit status is
1 where a verdict is another. ``--keep`` writes those of the names, ``--trace`` prints the traceback of a case
that does not run.
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
from tests.adapters.zoo.matrix import counts, keep, kept, line, write_page
from tests.adapters.zoo.refusals import full_word


def main(arguments: list[str]) -> int:
    """Judge, print, keep."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    diffusers.utils.logging.set_verbosity_error()
    options = {argument for argument in arguments if argument.startswith("--")}
    names = [argument for argument in arguments if argument not in options]
    verdicts, lines, broken, before = {}, {}, 0, kept()
    for name in names or sorted(REGISTRY):
        began = time.process_time()
        try:
            verdict = judge(case(name))
        except Exception as error:
            broken += 1
            print(f"| {name} | BROKEN: {type(error).__name__}: {error}", flush=True)
            if "--trace" in options:
                traceback.print_exc()
            continue
        verdicts[name] = word = full_word(name, verdict.word)
        lines[name] = line(name, verdict)
        changed = "" if before.get(name) == word else f"(was {before.get(name)}) "
        print(f"{lines[name]} {changed}{time.process_time() - began:.1f} s {verdict.message}", flush=True)
    print(counts(verdicts), f"; {broken} broken" if broken else "")
    if "--check" in options:
        return int(broken > 0 or any(before.get(name) != word for name, word in verdicts.items()))
    if (not names and not broken) or "--keep" in options:
        now = {**before, **verdicts} if names else verdicts
        keep(now)
        write_page(lines, now)
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
