"""CPU seconds of each test file, on any machine however busy: ``python -m pytest -q -p tests.cpu_time FILE …``.

Processes that a test starts count too, once they have ended.
"""

import collections
import os

import pytest

SPENT = collections.Counter()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Fixtures and calls of a test belong to its file."""
    before = sum(os.times()[:4])
    done = yield
    SPENT[item.nodeid.split("::")[0]] += sum(os.times()[:4]) - before
    return done


def pytest_terminal_summary(terminalreporter):
    """The sum, and the files with the most."""
    terminalreporter.write_line(f"{sum(SPENT.values()):8.1f} s of CPU")
    for name, seconds in SPENT.most_common(30):
        terminalreporter.write_line(f"{seconds:8.1f} s {name}")
