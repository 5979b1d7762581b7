"""Errors that a person can act on: what failed, why, and what to do.

Every error that Myelos raises on purpose is a `MyelosError`. The command line prints its sentence without a
traceback and ends with `exit_code` (1 failed, 2 wrong use; 3, done with some inputs set aside, is no error).
"""

from __future__ import annotations


class MyelosError(Exception):
    """Base of all errors raised on purpose.

    what: one sentence that names the item concerned; why: the cause, if known; remedy: what the user can do.
    """

    exit_code = 1

    def __init__(self, what: str, *, why: str = "", remedy: str = "") -> None:
        self.what, self.why, self.remedy = what, why, remedy
        super().__init__(what, why, remedy)

    def __str__(self) -> str:
        sentence = f"{self.what}: {self.why}" if self.why else self.what
        return f"{sentence}. {self.remedy}" if self.remedy else sentence


class UsageError(MyelosError):
    """The call itself is wrong: an option is missing, contradicts another, or has an impossible value."""

    exit_code = 2


class InputError(MyelosError):
    """An input is missing, unreadable, truncated, empty or damaged. Other inputs of the same call still count."""


class NotASmearError(InputError):
    """An input was read, but shows no blood or marrow smear."""


class ResolutionError(InputError):
    """A physical scale was asked for where none is known; the remedy says what to pass."""


class LabelError(MyelosError):
    """Training or truth labels are faulty or of an unknown layout."""


class ModelError(MyelosError):
    """A model file is missing, of a refused kind, or does not fit what it is asked to do."""


class ResultError(MyelosError):
    """A result folder is unfinished, already finished, or damaged."""


class MissingDependencyError(MyelosError):
    """An optional package is needed; the remedy names the extra to install."""
