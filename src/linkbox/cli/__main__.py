"""``python -m linkbox.cli``."""

from linkbox.cli import main

main()
