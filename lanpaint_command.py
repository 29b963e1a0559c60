"""The command ``lanpaint``: the command line of :mod:`lanpaint.cli`, which Ctrl-C ends quietly while it still loads.

Loading PyTorch takes a second or more. The package ``lanpaint`` loads it, so this module is not a part of the package.
"""

from __future__ import annotations

import signal
import sys
import threading
from typing import Any


class Interrupt:
    """What Ctrl-C calls: it raises KeyboardInterrupt and remembers it.

    A library that is just being imported may swallow the interrupt, and fail later with an error of its own.
    """

    pressed = False

    def __call__(self, number: int, frame: Any) -> None:
        """Handle the signal."""
        self.pressed = True
        raise KeyboardInterrupt


def main() -> None:
    """Run the command line. Ctrl-C gives one line on stderr and exit status 130, at any time."""
    interrupt = Interrupt()
    is_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_default and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, interrupt)
    try:
        from lanpaint.cli import main as run

        run()
    except KeyboardInterrupt:
        _end()
    except Exception:
        if interrupt.pressed:
            _end()
        raise


def _end() -> None:
    print("lanpaint: interrupted", file=sys.stderr)
    sys.exit(130)


if __name__ == "__main__":
    main()
