"""``python -m lanpaint.cli``."""

from lanpaint.cli import main

main()
