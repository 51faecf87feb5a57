"""The errors of hpcsynapse: each says what went wrong, where, and what to do about it."""

from __future__ import annotations


class HpcSynapseError(Exception):
    """Base of every error that is shown to a user as one line instead of a traceback."""


class SpecError(HpcSynapseError):
    """A description of a run is invalid; exit code 2."""


class SiteError(SpecError):
    """A site file is missing, unreadable or contradicts itself; exit code 2."""


class RenderError(SpecError):
    """A job file cannot be rendered from its template and description; exit code 2."""


class CheckError(SpecError):
    """A check before submission found what would make the job fail; exit code 2."""


class RunNotFoundError(SpecError):
    """No run of that name lies in the runs folder; exit code 2."""


class SubmitError(HpcSynapseError):
    """The queue refused a job or could not be reached; exit code 1."""


class CommandError(HpcSynapseError):
    """A command of the queue system failed, timed out or is missing; carries what it printed."""

    def __init__(self, message: str, *, command: list[str], stdout: str = "", stderr: str = "") -> None:
        super().__init__(message)
        self.command = command
        self.stdout = stdout
        self.stderr = stderr


class SchedulerOutputError(CommandError):
    """A queue command answered with text that cannot be understood."""


class PlacementError(HpcSynapseError):
    """Ranks are not where they were asked to be: shared or foreign devices, a world of one, overlapping cores."""


class RecordError(HpcSynapseError):
    """A file of step records is unreadable or of an unknown format version."""


class TrainError(HpcSynapseError):
    """Training cannot start or go on: data, model, engine or a lost peer."""


class OverError(TrainError):
    """The other workers have made all steps and the parameter servers have ended: no failure; exit code 0."""

    def __init__(self) -> None:
        super().__init__("the other workers have made all steps, and the parameter servers have ended")


class ExportError(HpcSynapseError):
    """A server to which a run is exported cannot be reached or refuses; carries the code that it gave, or nothing."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code
