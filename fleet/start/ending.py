"""How a start ends: the exit codes that scripts may rely on."""

from enum import IntEnum


class Ending(IntEnum):
    """The exit code of `fleet start`. `fleet container` ends with the code of the role that died instead of DIED."""

    STOPPED = 0
    """Ctrl-C or SIGTERM: everything was stopped on request."""
    DIED = 1
    """A process that was started ended by itself."""
    SETTING = 2
    """A setting or an argument is wrong."""
    PORT = 3
    """A port is in use by somebody else."""
    BROKER = 4
    """The broker cannot be reached, or did not start."""
    LATE = 5
    """Not everything was ready within START_WAIT_S."""
    TOOL = 6
    """A program that is needed is missing, or the Docker daemon does not answer."""


class CannotStart(Exception):
    """Nothing was started: `lines` name the problem and the remedy, one line each."""

    def __init__(self, ending: Ending, *lines: str) -> None:
        super().__init__(*lines)
        self.ending = ending
        self.lines = lines
