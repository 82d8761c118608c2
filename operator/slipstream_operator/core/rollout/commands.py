"""Commands that the user gives a rollout by annotations of the InferenceService.

The value is the revision: its hash, or the name of its Deployment. A suffix after a slash, such as a time, makes the
same command a new one.
"""

from collections.abc import Mapping
from typing import Final

from slipstream_operator import names

PROMOTE: Final = "promote"
ABORT: Final = "abort"
RETRY: Final = "retry"
ALL: Final = (PROMOTE, ABORT, RETRY)
LONGEST: Final = 128
"""Characters of a value; the name of a revision has at most 49."""


def of(annotations: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return each command and its value, from the annotations of the object."""
    given = ((command, annotations.get(annotation(command))) for command in ALL)
    return tuple((command, value[:LONGEST]) for command, value in given if value)


def annotation(command: str) -> str:
    """Return the annotation that gives the command."""
    return f"{names.GROUP}/{command}"


def names_revision(value: str, service: str, revision: str) -> bool:
    """Whether the value names the revision of the service."""
    target = value.partition("/")[0].strip()
    return target in (revision, names.revision_name(service, revision))
