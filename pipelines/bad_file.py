"""What is raised where encoded bytes cannot be used."""

from __future__ import annotations


class BadFile(Exception):
    """A file or record cannot be used; the message says why, without its name, which the caller knows."""
