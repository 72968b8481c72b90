"""Named immutable files: in a local folder, or in an object store by URL. What blobs and event segments are kept in."""

from __future__ import annotations

import contextlib
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from drivetrain.errors import Invalid, StorageFull, Unavailable
from drivetrain.store.files import make_folders, place
from drivetrain.store.ids import uuid7

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

CHUNK = 1 << 20


class Entry(NamedTuple):
    """One object in a listing."""

    key: str
    size: int
    modified_s: float


class Objects(ABC):
    """Keys are relative paths with `/`. An object appears whole or not at all."""

    scratch: Path
    """A local folder for files in the making; `put` is cheapest from there."""

    @abstractmethod
    def put(self, key: str, source: Path) -> None:
        """Store the finished local file `source`, durably. It stays where it is."""

    @abstractmethod
    def size(self, key: str) -> int | None:
        """In bytes; None if there is no such object."""

    @abstractmethod
    def read(self, key: str, start: int, end: int) -> Iterator[bytes]:
        """The bytes [start, end) in pieces. Raises FileNotFoundError (at the first piece)."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove it, if it is there."""

    @abstractmethod
    def list(self, prefix: str) -> Iterator[Entry]:
        """All objects whose key begins with the folder `prefix` (no slash at its end)."""

    @abstractmethod
    def path(self, key: str) -> Path | None:
        """The object as a local file, if that is what it is."""

    @abstractmethod
    def url(self, key: str) -> str:
        """What other programs call it."""

    def read_bytes(self, key: str, start: int, end: int) -> bytes:
        return b"".join(self.read(key, start, end))

    def new_scratch(self) -> Path:
        """A fresh path in `scratch`."""
        make_folders(self.scratch)
        return self.scratch / uuid7()

    def check_room(self, size: int, min_free: int) -> None:
        """Raise StorageFull if less than `min_free` bytes would be left on the scratch disk after `size` more."""
        make_folders(self.scratch)
        free = shutil.disk_usage(self.scratch).free
        if free - size < min_free:
            raise StorageFull(
                f"The disk of {self.scratch} is full: {free >> 20} MiB are free, {min_free >> 20} MiB must stay free and {size >> 20} MiB "
                f"are to be written. Nothing was changed. Free some space and try again."
            )


def open_objects(url_or_folder: str, scratch: Path) -> Objects:
    """The store at a folder or at a `file://`, `s3://`, `gs://` or `az://` address.

    Credentials come from the environment, as each cloud's own tools read them.
    """
    if "://" not in url_or_folder:
        return Folder(Path(url_or_folder))
    scheme, _, rest = url_or_folder.partition("://")
    if scheme == "file":
        return Folder(Path(rest))
    if scheme not in {"s3", "s3a", "gs", "az", "azure", "abfs", "abfss"}:
        raise Invalid(
            f"blobs_url {url_or_folder!r}: there is no such kind of store. Use a folder, s3://, gs:// or az://.", param="blobs_url"
        )
    return Cloud(url_or_folder, scratch)


class Folder(Objects):
    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.scratch = self.root / "incoming"

    def put(self, key: str, source: Path) -> None:
        place(source, self.root / key)

    def size(self, key: str) -> int | None:
        try:
            return (self.root / key).stat().st_size
        except FileNotFoundError:
            return None

    def read(self, key: str, start: int, end: int) -> Iterator[bytes]:
        with (self.root / key).open("rb", buffering=0) as file:
            file.seek(start)
            while start < end and (piece := file.read(min(CHUNK, end - start))):
                start += len(piece)
                yield piece

    def delete(self, key: str) -> None:
        (self.root / key).unlink(missing_ok=True)

    def list(self, prefix: str) -> Iterator[Entry]:
        for folder, _, names in os.walk(self.root / prefix):
            for name in names:
                path = Path(folder, name)
                try:
                    status = path.stat()
                except FileNotFoundError:
                    continue
                yield Entry(path.relative_to(self.root).as_posix(), status.st_size, status.st_mtime)

    def path(self, key: str) -> Path | None:
        path = self.root / key
        return path if path.is_file() else None

    def url(self, key: str) -> str:
        return str(self.root / key)


class Cloud(Objects):
    def __init__(self, url: str, scratch: Path) -> None:
        self._url = url.rstrip("/")
        self.scratch = scratch / "incoming"
        self._opened: ObjectStore | None = None

    @property
    def _store(self) -> ObjectStore:
        # Opened at first use: importing obstore is not for processes that never touch a blob.
        if self._opened is None:
            from obstore.exceptions import BaseError
            from obstore.store import from_url

            endpoint = os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT") or ""
            options: ClientConfig = {"allow_http": endpoint.startswith("http://")}
            retry: RetryConfig = {"max_retries": 4, "retry_timeout": timedelta(seconds=60)}
            try:
                self._opened = from_url(self._url, client_options=options, retry_config=retry)
            except (BaseError, ValueError) as error:
                raise Invalid(f"blobs_url {self._url!r} cannot be opened: {error}", param="blobs_url") from error
        return self._opened

    def put(self, key: str, source: Path) -> None:
        import obstore

        with _cloud_errors(self._url):
            obstore.put(self._store, key, source)

    def size(self, key: str) -> int | None:
        import obstore

        with _cloud_errors(self._url), contextlib.suppress(FileNotFoundError):
            return int(obstore.head(self._store, key)["size"])
        return None

    def read(self, key: str, start: int, end: int) -> Iterator[bytes]:
        import obstore

        if start >= end:
            return
        with _cloud_errors(self._url):
            for piece in obstore.get(self._store, key, options={"range": (start, end)}).stream(min_chunk_size=CHUNK):
                yield bytes(piece)

    def delete(self, key: str) -> None:
        import obstore

        with _cloud_errors(self._url), contextlib.suppress(FileNotFoundError):
            obstore.delete(self._store, key)

    def list(self, prefix: str) -> Iterator[Entry]:
        import obstore

        with _cloud_errors(self._url):
            for page in obstore.list(self._store, prefix=prefix or None, chunk_size=1000):
                for meta in page:
                    yield Entry(str(meta["path"]), int(meta["size"]), meta["last_modified"].timestamp())

    def path(self, key: str) -> Path | None:
        return None

    def url(self, key: str) -> str:
        return f"{self._url}/{key}"


@contextlib.contextmanager
def _cloud_errors(url: str) -> Iterator[None]:
    from obstore.exceptions import BaseError, NotFoundError, PermissionDeniedError, UnauthenticatedError

    try:
        yield
    except NotFoundError as error:
        raise FileNotFoundError(str(error)) from error
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise Unavailable(
            f"The object store {url} refuses the server's credentials. Check the AWS_*, GOOGLE_* or AZURE_* environment of the server."
        ) from error
    except BaseError as error:
        raise Unavailable(
            f"The object store {url} cannot be reached or refused: {str(error).splitlines()[0]}. Try again shortly."
        ) from error
