"""The exception tree.

    DrivetrainError                 500  something broke that is not the caller's fault
    ├── Invalid                     400  the request cannot mean anything
    │   └── TooLarge                413  it could, but it is over a limit
    ├── Unauthenticated             401  we do not know who is asking
    ├── Forbidden                   403  we know, and the answer is no
    ├── NotFound                    404  no such thing, or not yours
    ├── MethodNotAllowed            405  there is such a thing, but it does not take this method
    ├── Conflict                    409  it exists already, or in another state
    ├── Overloaded                  429  ask again after `retry_after` seconds
    ├── UpstreamFailed              502  a replica or provider broke the answer
    │   └── UpstreamTimeout         504  or took too long over it
    ├── Unavailable                 503  not now: starting, stopping, out of memory
    └── StorageFull                 507  the disk is full; nothing was changed

A message says what went wrong *and what to do about it*: it is shown to people as it is. Each dialect maps these
classes to its own protocol's errors in one table.
"""

from __future__ import annotations


class DrivetrainError(Exception):
    """Something went wrong. `status` is the HTTP status; `param` names the field at fault, if one is."""

    status = 500

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class Invalid(DrivetrainError):
    status = 400


class TooLarge(Invalid):
    status = 413


class Unauthenticated(DrivetrainError):
    status = 401


class Forbidden(DrivetrainError):
    status = 403


class NotFound(DrivetrainError):
    status = 404


class MethodNotAllowed(DrivetrainError):
    """`allowed` are the methods that what is there takes."""

    status = 405

    def __init__(self, message: str, *, allowed: tuple[str, ...]) -> None:
        super().__init__(message)
        self.allowed = allowed


class Conflict(DrivetrainError):
    status = 409


class Overloaded(DrivetrainError):
    """Too much work is waiting. `retry_after` is in seconds."""

    status = 429

    def __init__(self, message: str, *, retry_after: float = 1.0, param: str | None = None) -> None:
        super().__init__(message, param=param)
        self.retry_after = retry_after


class UpstreamFailed(DrivetrainError):
    status = 502


class UpstreamTimeout(UpstreamFailed):
    status = 504


class Unavailable(DrivetrainError):
    """Not now. `retry_after` is in seconds."""

    status = 503

    def __init__(self, message: str, *, retry_after: float = 2.0, param: str | None = None) -> None:
        super().__init__(message, param=param)
        self.retry_after = retry_after


class StorageFull(DrivetrainError):
    status = 507
