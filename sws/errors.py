"""Errors with a message for the user. Whatever else is raised is a fault of this package.

The command line prints a :class:`SwsError` in one line, and anything else with a traceback. Classes
for one purpose stand beside the code that raises them; they derive from :class:`SwsError` and from
the built-in class that a caller would expect.
"""

from __future__ import annotations


class SwsError(Exception):
    """The user can mend this; the message is one line that names the fix."""


class InputError(SwsError, ValueError):
    """A name, a value or a network was given that cannot be used; the message says why."""


class MissingFileError(SwsError, FileNotFoundError):
    """A file is needed that is not there; the message names it and what makes it."""
