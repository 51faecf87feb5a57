"""Where a server listens, and how another one finds it: a socket in a folder that nobody but its user can enter.

Sockets do not work across nodes, so the folder is one of this machine: `$XDG_RUNTIME_DIR/hpcsynapse` or
`/tmp/hpcsynapse-UID`. A file beside the socket, which lives as long as the server, tells a second `serve` here what the
first one printed; a note in the home folder, without any secret, tells it on the other login nodes.
"""

from __future__ import annotations

import fcntl
import getpass
import os
import socket
import stat
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from threading import Thread
from typing import Any

from hpcsynapse.errors import SpecError
from hpcsynapse.files import read_json, write_json

LOCAL_PORT = 8642  # on the user's own machine, at the near end of ssh -L
_LONGEST = 107  # bytes of a socket's path (unix(7))
_NAME_SECONDS = 2.0  # for which a name server is waited


@dataclass(frozen=True, slots=True)
class Notice:
    """A running server: where it is, which folder it shows, and the secrets of its page."""

    host: str
    pid: int
    runs: str
    target: str  # path of the socket, or 127.0.0.1:PORT
    token: str
    write_token: str
    started: float

    @property
    def ssh(self) -> str:
        """The line that connects a port of the user's own machine with the server."""
        return f"ssh -N -L {LOCAL_PORT}:{self.target} {_user()}@{self.host}"

    @property
    def address(self) -> str:
        """What to open in the browser; the secrets stand behind #, which no browser sends or logs."""
        write = f"&write={self.write_token}" if self.write_token else ""
        return f"http://localhost:{LOCAL_PORT}/#token={self.token}{write}"


class Endpoint:
    """The place of the server of one folder of runs on this machine, claimed for as long as the process lives."""

    def __init__(self, runs: Path) -> None:
        self.runs, self._folder = runs, private_folder()
        name = f"serve-{sha256(os.fsencode(runs)).hexdigest()[:10]}"
        self.socket_path, self._notice = self._folder / f"{name}.sock", self._folder / f"{name}.json"
        self._lock_path, self._note = self._folder / f"{name}.lock", _state_folder() / f"{name}.json"
        self._lock = -1
        if len(os.fsencode(self.socket_path)) > _LONGEST:
            raise SpecError(f"{self.socket_path}: a socket's path has at most {_LONGEST} bytes; unset XDG_RUNTIME_DIR")

    def claim(self) -> bool:
        """Take the place; False where another server of this folder has it."""
        self._lock = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def other(self, limit: float = 5.0) -> Notice | None:
        """Return the server that has the place, waiting until it has said where it listens; None when it does not."""
        end = time.monotonic() + limit
        while True:
            with suppress(TypeError):  # of another release
                if found := read_json(self._notice):
                    return Notice(**found)
            if time.monotonic() > end:
                return None
            time.sleep(0.1)

    def elsewhere(self) -> dict[str, Any] | None:
        """Return host, pid and start of a server of this folder that was started on another machine, if one was."""
        note = read_json(self._note)
        return note if note and note.get("host") != host_name() else None

    def listen(self, port: int | None) -> socket.socket:
        """Return a listening socket: on a path that the user alone can reach, or on a port of this machine itself.

        Raises SpecError where that cannot be had.
        """
        try:
            if port is not None:
                return socket.create_server(("127.0.0.1", port))
            self.socket_path.unlink(missing_ok=True)
            found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            before = os.umask(0o177)  # bind(2) makes the file; uvicorn's own would be open to everybody
            try:
                found.bind(os.fspath(self.socket_path))
            finally:
                os.umask(before)
            found.listen()
        except OSError as error:
            place = self.socket_path if port is None else f"127.0.0.1:{port}"
            raise SpecError(f"cannot listen on {place}: {error.strerror or error}") from None
        return found

    def tell(self, target: str, token: str, write_token: str) -> Notice:
        """Write down that the server is there, for a second one."""
        notice = Notice(host_name(), os.getpid(), str(self.runs), target, token, write_token, time.time())
        before = os.umask(0o077)
        try:
            write_json(self._notice, asdict(notice))
            with suppress(OSError):  # a home folder that is full is no reason to show nothing
                self._note.parent.mkdir(parents=True, exist_ok=True)
                write_json(self._note, {key: getattr(notice, key) for key in ("host", "pid", "runs", "started")})
        finally:
            os.umask(before)
        return notice

    def leave(self) -> None:
        """Remove what tells of the server."""
        for path in (self.socket_path, self._notice, self._note):
            with suppress(OSError):
                path.unlink()
        os.close(self._lock)


def private_folder() -> Path:
    """Return the folder of sockets, made where it is not there.

    Raises SpecError for one that is a link, belongs to somebody else, or is open to others.
    """
    given = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(given) / "hpcsynapse" if given else Path(f"/tmp/hpcsynapse-{os.getuid()}")  # noqa: S108  checked
    try:
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        found = folder.lstat()
    except OSError as error:
        hint = f"; XDG_RUNTIME_DIR says {given}: unset it" if given else ""
        raise SpecError(f"{folder}: {error.strerror}{hint}") from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise SpecError(
            f"{folder} is not a folder of yours alone, so nothing is put there; look who made it, and set "
            "XDG_RUNTIME_DIR to a folder of your own on a local disk"
        )
    return folder


def host_name() -> str:
    """Return the full name of this very machine; several login nodes may share one name."""
    own, found = os.uname().nodename, list[str]()
    if "." in own:
        return own
    asking = Thread(target=lambda: found.append(socket.getfqdn(own)), daemon=True)
    asking.start()
    asking.join(_NAME_SECONDS)
    return found[0] if found and found[0].partition(".")[0] == own else own


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _state_folder() -> Path:
    given = os.environ.get("XDG_STATE_HOME")
    return (Path(given) if given else Path.home() / ".local" / "state") / "hpcsynapse"
