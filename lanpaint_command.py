"""The command ``lanpaint``: the command line of :mod:`lanpaint.cli`, which Ctrl-C ends quietly while it still loads.

Loading PyTorch takes a second or more. The package ``lanpaint`` loads it, so this module is not a part of the package.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line. Ctrl-C gives one line on stderr and exit status 130, at any time."""
    try:
        from lanpaint.cli import main as run

        run()
    except KeyboardInterrupt:
        print("lanpaint: interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
