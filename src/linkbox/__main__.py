"""``python -m linkbox``: the command line."""

from linkbox.cli import main

main()
