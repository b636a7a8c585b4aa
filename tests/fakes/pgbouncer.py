"""Debian's pgbouncer in front of a test's Postgres server, in transaction or session mode.

It runs under ``nobody`` where we are root, which it refuses to be.
"""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from databases import APP_ROLE
from ports import HOST, free_port
from postgres_server import ADMIN, START_SECONDS, START_TRIES, PostgresServer

NO_PGBOUNCER = "NO PGBOUNCER: install it (apt-get install pgbouncer) to test behind a pooler"


def find_pgbouncer() -> str | None:
    """The program; None where it is not installed."""
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


class PgBouncer:
    """One pooler. ``mode`` is pgbouncer's ``pool_mode``; further settings are its own too."""

    def __init__(self, server: PostgresServer, mode: str, **settings: str) -> None:
        program = find_pgbouncer()
        assert program is not None, NO_PGBOUNCER
        self._program = program
        self._server = server
        self._settings = {
            "pool_mode": mode,
            "auth_type": "trust",
            "listen_addr": HOST,
            "unix_socket_dir": "",
            "server_login_retry": "1",
            **settings,
        }
        self._folder = Path(tempfile.mkdtemp(prefix="atelier-pgbouncer-"))
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def start(self) -> None:
        """Start it on a free port."""
        for _ in range(START_TRIES):  # somebody may take the port between the look and the bind
            self.port = free_port()
            if self._started():
                return
        raise AssertionError(self._log())

    def stop(self) -> None:
        """End it and delete its folder."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(START_SECONDS)
        shutil.rmtree(self._folder, ignore_errors=True)

    def url(self, database: str, user: str = APP_ROLE) -> str:
        """Where to connect; no password is asked."""
        return f"postgresql://{user}@{HOST}:{self.port}/{database}"

    def _started(self) -> bool:
        """Wait until it listens; False when it ended at once."""
        (self._folder / "users").write_text(f'"{APP_ROLE}" ""\n"{ADMIN}" ""\n')
        lines = [
            *("[databases]", f"* = host={HOST} port={self._server.port}"),
            *("[pgbouncer]", f"listen_port = {self.port}", f"auth_file = {self._folder}/users"),
            *(f"{name} = {value}" for name, value in self._settings.items()),
        ]
        (self._folder / "pgbouncer.ini").write_text("\n".join(lines) + "\n")
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, self._folder / "pgbouncer.ini"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C of the test run is not for it
                **self._as_nobody(),
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                return False
            if self._listens():
                return True
            time.sleep(0.02)
        raise AssertionError(self._log())

    def _as_nobody(self) -> dict[str, Any]:
        if os.geteuid() != 0:
            return {}
        import pwd

        entry = pwd.getpwnam("nobody")
        for path in (self._folder, *self._folder.iterdir()):
            os.chown(path, entry.pw_uid, entry.pw_gid)
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}

    def _listens(self) -> bool:
        return f"listening on {HOST}:{self.port}" in self._log()

    def _log(self) -> str:
        return (self._folder / "log").read_text(errors="replace")[-4000:]
