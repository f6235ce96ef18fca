"""What services raise when they refuse: one type, that the API answers as problem+json and pages show at their fields.

Every text says what happened and why; `fix` says what to do, with a value that would work.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class FieldError:
    """`field`: the name in the API, dotted inside objects ("hyperparameters.batch_size"); "" is the whole."""

    field: str
    detail: str
    fix: str = ""

    @classmethod
    def of(cls, field: str, message: str) -> FieldError:
        """From one text whose last sentence is the fix."""
        head, found, last = message.rstrip().rpartition(". ")
        return cls(field, f"{head}.", last) if found else cls(field, message)

    def __str__(self) -> str:
        return f"{self.detail} {self.fix}".strip()


class Problem(Exception):
    """A refusal, with the HTTP status and the CamelCase code that it has in the API."""

    status = 400
    code = "BadRequest"

    def __init__(self, detail: str, *, code: str = "", errors: Iterable[FieldError] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or self.code
        self.errors = tuple(errors)


class Invalid(Problem):
    """Values that can't be used; `errors` has all of them at once."""

    status = 422
    code = "ValidationFailed"

    def __init__(self, *errors: FieldError, code: str = "") -> None:
        detail = str(errors[0]) if len(errors) == 1 else f"{len(errors)} values can't be used; nothing was done."
        super().__init__(detail, code=code, errors=errors)


class Conflict(Problem):
    """It can't be done now: the row is in use, has ended, or is not ready."""

    status = 409
    code = "Conflict"


class Missing(Problem):
    """There is no such thing here, or it is none of the caller's business."""

    status = 404
    code = "NotFound"


class Forbidden(Problem):
    """The caller is known and may not do this."""

    status = 403
    code = "Forbidden"


def invalid(field: str, detail: str, fix: str = "") -> Invalid:
    return Invalid(FieldError(field, detail, fix))
