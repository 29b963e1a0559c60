"""For all tests, the doctests and the lessons included."""

import gc


def pytest_collection_finish():
    """What is imported by now stays. The garbage collector need not look at its millions of objects again."""
    gc.collect()
    gc.freeze()
