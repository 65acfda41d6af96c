"""The command line: from the words of a shell to a checked configuration and a workflow, and errors to messages."""

from pointseg.cli.main import run

__all__ = ["run"]
