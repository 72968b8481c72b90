"""One connection to a server: requests in, JSON or a typed error out."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx
import msgspec

from drivetrain import errors
from drivetrain.errors import DrivetrainError, Overloaded, Unavailable, UpstreamFailed

Json = dict[str, Any]
T = TypeVar("T")

_BY_STATUS: dict[int, type[DrivetrainError]] = {
    400: errors.Invalid,
    401: errors.Unauthenticated,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.Conflict,
    413: errors.TooLarge,
    422: errors.Invalid,
    429: errors.Overloaded,
    502: errors.UpstreamFailed,
    503: errors.Unavailable,
    507: errors.StorageFull,
}
_IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE"})


class Unreachable(Unavailable):
    """No server answers at the address."""


class Connection:
    """Requests to one server with one key. Thread-safe. `patience` is how many seconds to wait for a server that does not answer
    (it may be restarting) before giving up on a request that can be sent twice."""

    def __init__(self, url: str, key: str, workspace: str, *, patience: float, timeout: float) -> None:
        self.url = url.rstrip("/")
        headers = {"user-agent": "drivetrain-client"}
        if key:
            headers["authorization"] = f"Bearer {key}"
        if workspace:
            headers["x-drivetrain-workspace"] = workspace
        # Not through a proxy from the environment: it would not know this machine's loopback.
        self._http = httpx.Client(
            base_url=self.url,
            headers=headers,
            timeout=httpx.Timeout(timeout, connect=10.0),
            trust_env=not _loopback(self.url),
        )
        self._patience = patience

    def close(self) -> None:
        self._http.close()

    def json(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        params: Mapping[str, Any] | None = None,
        content: Iterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        again: bool | None = None,
    ) -> Any:
        """The answer's JSON. Raises the `DrivetrainError` that the server sent, or `Unreachable`."""
        return self._decoded(self.send(method, path, body, params=params, content=content, headers=headers, again=again))

    def answer(
        self,
        kind: type[T],
        method: str,
        path: str,
        body: object = None,
        *,
        params: Mapping[str, Any] | None = None,
        again: bool | None = None,
    ) -> T:
        """The answer as what it is; fields that this client does not know are passed over. Raises as `json` does, and `UpstreamFailed` for
        an answer of another form, as of a server of another version."""
        said = self.send(method, path, body, params=params, again=again)
        try:
            return msgspec.json.decode(said.content, type=kind)
        except msgspec.ValidationError as error:
            raise UpstreamFailed(f"The server at {self.url} speaks another version than this client: {path}: {error}.") from error
        except msgspec.DecodeError:
            raise self._stranger() from None

    def send(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        params: Mapping[str, Any] | None = None,
        content: Iterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        again: bool | None = None,
    ) -> httpx.Response:
        """As `json`, but the answer itself. `again`: it does no harm to send it twice (default: by the method)."""
        again = method in _IDEMPOTENT if again is None else again
        query = {key: value for key, value in (params or {}).items() if value is not None}
        sent = msgspec.to_builtins(body)  # it may hold nouns that an answer gave
        end = time.monotonic() + (self._patience if content is None else 0.0)
        while True:
            try:
                answer = self._http.request(
                    method, path, params=query or None, json=sent, content=content, headers=dict(headers) if headers else None
                )
            except httpx.TransportError as error:
                # What never reached the server can be sent again in any case.
                if time.monotonic() >= end or not (again or isinstance(error, httpx.ConnectError)):
                    raise self._unreachable(error) from error
            else:
                if answer.status_code != 503 or not again or time.monotonic() >= end:
                    raise_for(answer)
                    return answer
            time.sleep(0.25)

    @contextmanager
    def stream(
        self, method: str, path: str, body: object = None, *, params: Mapping[str, Any] | None = None, timeout: float | None = None
    ) -> Iterator[httpx.Response]:
        """An answer whose body is read by the caller, piece by piece."""
        try:
            with self._http.stream(method, path, json=body, params=params, timeout=httpx.Timeout(timeout, connect=10.0)) as answer:
                if answer.status_code >= 400:
                    answer.read()
                raise_for(answer)
                yield answer
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    def _decoded(self, answer: httpx.Response) -> Any:
        if not answer.content:
            return {}
        try:
            return answer.json()
        except ValueError:
            raise self._stranger() from None

    def _stranger(self) -> Unreachable:
        return Unreachable(f"What answers at {self.url} is not a drivetrain server. Check DRIVETRAIN_URL.")

    def _unreachable(self, error: httpx.TransportError) -> Unreachable:
        if isinstance(error, httpx.ConnectError):
            return Unreachable(f"No server answers at {self.url}. Start one with: drivetrain up    (or name another with DRIVETRAIN_URL)")
        if isinstance(error, httpx.TimeoutException):
            return Unreachable(f"The server at {self.url} did not answer in time. Is it busy? See: drivetrain doctor")
        return Unreachable(f"The connection to {self.url} broke: {str(error) or type(error).__name__}. Try again.")


def raise_for(answer: httpx.Response) -> None:
    """Raise what the server said went wrong."""
    if answer.status_code < 400:
        return
    kind, message, param = "", "", None
    try:
        said = answer.json()["error"]
        kind, message, param = str(said.get("type", "")), str(said["message"]), said.get("param")
    except (ValueError, KeyError, TypeError, AttributeError):
        message = f"The server answered {answer.status_code} to {answer.request.method} {answer.request.url.path}: {answer.text[:200]}"
    cls = _BY_STATUS.get(answer.status_code, DrivetrainError)
    if isinstance(named := getattr(errors, kind, None), type) and issubclass(named, DrivetrainError):
        cls = named
    param = str(param) if param is not None else None
    if issubclass(cls, Overloaded | Unavailable):
        raise cls(message, retry_after=_seconds(answer.headers.get("retry-after")), param=param)
    raise cls(message, param=param)


def events(answer: httpx.Response) -> Iterator[Json]:
    """The JSON of a stream of server-sent events, until its end or `[DONE]`."""
    for line in answer.iter_lines():
        if not line.startswith("data:"):
            continue
        data = line[5:].strip()
        if data == "[DONE]":
            return
        yield json.loads(data)


def _seconds(text: str | None) -> float:
    try:
        return max(0.0, float(text or 1))
    except ValueError:
        return 1.0


def _loopback(url: str) -> bool:
    return httpx.URL(url).host in ("127.0.0.1", "localhost", "::1")
