"""People read stderr; programs read the one line of JSON on stdout."""

import sys


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def rewrite(text: str) -> None:
    """A line that the next one replaces; only for terminals."""
    sys.stderr.write(f"\r{text}\x1b[K")
    sys.stderr.flush()
