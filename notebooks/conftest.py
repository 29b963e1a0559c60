"""What the lessons print is compared with what is committed.

Words are compared exactly, numbers to their printed digits. Pictures are not compared.
"""

import functools
import itertools
import re

from nbval.plugin import IPyNbCell

NUMBER = re.compile(r"(?<![\w.])[-−]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
DRAWN = ("image/png", "image/jpeg", "image/gif", "text/html", "stderr")


def unit(number):
    """The value of one in the last printed digit."""
    digits, _, power = number.partition("e")
    return 10.0 ** (int(power or 0) - len(digits.partition(".")[2]))


def value(number):
    """The number that is printed."""
    return float(number.replace("−", "-"))


def is_printed_alike(new, old):
    """Whether words are equal, and numbers differ by one in the last digit at most."""
    words = [[part.split() for part in NUMBER.split(text)] for text in (new, old)]
    if words[0] != words[1]:
        return False
    pairs = zip(NUMBER.findall(new), NUMBER.findall(old), strict=True)
    return all(
        abs(value(one) - value(two)) <= 1.001 * max(unit(one), unit(two))
        for one, two in pairs
    )


def texts(output):
    """The record and the name of each text of an output; a picture is none."""
    if "text" in output:
        yield output, "text"
    for kind in output.get("data", {}):
        if kind not in DRAWN:
            yield output["data"], kind


def compare_outputs(cell, test, ref, skip_compare=None):
    """Compare as nbval does, by character, where a text is not printed alike."""
    for new, old in zip(test, ref, strict=False):
        for (record, kind), (committed, name) in itertools.product(
            texts(new), texts(old)
        ):
            same_kind = kind == name and isinstance(record[kind], str)
            if same_kind and is_printed_alike(record[kind], committed[name]):
                record[kind] = committed[name]
    skipped = skip_compare or (*cell.parent.skip_compare, *DRAWN)
    return IPyNbCell.compare_outputs(cell, test, ref, skipped)


def pytest_collection_modifyitems(items):
    """Has the lessons' cells compared."""
    for item in items:
        if isinstance(item, IPyNbCell):
            item.compare_outputs = functools.partial(compare_outputs, item)
