"""Processes on this machine: started with a clean environment, a log of their own and a lifeline; watched; stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from drivetrain.compute import lifeline
from drivetrain.compute.address import Address

ALLOWED = frozenset(
    [
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "LANG",
        "LC_ALL",
        "LC_CTYPE",
        "TZ",
        "TMPDIR",
        "TERM",
        "VIRTUAL_ENV",
        "LD_LIBRARY_PATH",
        "PYTHONPATH",
        "PYTHONHOME",
        "PYTHONDONTWRITEBYTECODE",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "XDG_CACHE_HOME",
        "XDG_CONFIG_HOME",
        "XDG_CONFIG_DIRS",
        "PIP_INDEX_URL",
        "PIP_EXTRA_INDEX_URL",
        "PIP_CONFIG_FILE",
        "PIP_CERT",
        "PIP_CACHE_DIR",
        "PIP_FIND_LINKS",
        "PIP_NO_INDEX",
        "CUDA_VISIBLE_DEVICES",
        "CUDA_HOME",
        "OPENBLAS_CORETYPE",
        "OPENBLAS_L2_SIZE",
    ]
)
"""What children inherit: never the variables that point clients at this server. A replica must not call its own gateway."""

LOG_MOST = 32 << 20


class Child:
    """One running process and its process group: a `Process`."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self.pid = process.pid
        self.log = log

    @property
    def code(self) -> int | None:
        return self._process.poll()

    def wait(self, seconds: float | None = None) -> int | None:
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def terminate(self) -> None:
        if self.code is None:
            self._process.terminate()

    def kill(self) -> None:
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        except PermissionError:  # the group's leader is a zombie: there is nothing left to kill
            pass

    def stop(self, seconds: float) -> None:
        self.terminate()
        self.wait(seconds)
        self.kill()
        self.wait()

    def last_words(self, most: int = 2000) -> str:
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - most))
                return file.read().decode("utf-8", "replace").strip()
        except OSError:
            return ""


class Local:
    """A `Compute`: children of this process. Open one for each supervisor, in its main process; `close` (or death) ends every child. They
    may listen on Unix sockets in the folder `sockets`."""

    def __init__(self, logs: Path, sockets: Path) -> None:
        self._logs = logs
        self._sockets = sockets
        self._read, self._write = os.pipe()

    def address(self, name: str) -> str:
        return str(Address.unix(self._sockets / f"{name}.sock"))

    def release(self, address: str) -> None:
        Path(Address.parse(address).path).unlink(missing_ok=True)

    def start(
        self,
        module: str,
        arguments: Sequence[str] = (),
        *,
        log: str,
        environ: Mapping[str, str] | None = None,
        python: str = sys.executable,
        keep: Sequence[int] = (),
        cwd: Path | None = None,
    ) -> Child:
        """Run `python -m module arguments…`. `log` names its file in the logs folder; `keep` are file descriptors it inherits."""
        path = self._logs / log
        self._logs.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.stat().st_size > LOG_MOST:
            path.replace(path.with_suffix(".old"))
        clean = {name: os.environ[name] for name in ALLOWED if name in os.environ}
        clean["PYTHONUNBUFFERED"] = "1"
        clean |= environ or {}
        clean[lifeline.VARIABLE] = str(self._read)
        with path.open("ab") as out:
            process = subprocess.Popen(
                [python, "-m", module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=clean,
                pass_fds=(self._read, *keep),
                start_new_session=True,
                cwd=cwd,
            )
        return Child(process, path)

    def close(self) -> None:
        """Let go of the lifeline."""
        os.close(self._write)
        os.close(self._read)
