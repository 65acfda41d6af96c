"""What all verbs share: from the words of a shell to one checked configuration and a task, and from an error to a message."""

from pointseg.cli.entry import Job, run

__all__ = ["Job", "run"]
