"""Environments for machine learning that come up with one command and leave nothing behind."""

__version__ = "0.1.0"
