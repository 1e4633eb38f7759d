"""One private SeaweedFS for a whole test run, however many processes share in it: an object storage that speaks S3.

It listens on loopback only, with an access key that is drawn, and lives as long as the run.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.session
from botocore.config import Config

from strongroom.cli.demonstration.domains import free_ports
from strongroom.core.secret import Secret
from strongroom.pool.place import BucketKey, BucketPlace

BUCKET = "strongroom-tests"
LOCKED_BUCKET = "strongroom-tests-locked"
START_SECONDS = 30.0
SERVICES = ("master", "volume", "filer", "s3")


class SeaweedUnavailableError(Exception):
    """The object storage that the tests need cannot run here."""


class Seaweed:
    """A server in one folder, which any process that knows the folder can start and use.

    Args:
        folder: holds data, log and key; made by ``make_folder``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def make_folder(cls) -> Seaweed:
        """Make the folder, and give the server that will live there once it is wanted."""
        return cls(Path(tempfile.mkdtemp(prefix="strongroom-s3-")))

    def ensure_started(self) -> None:
        """Start the server unless another process of this run has done so."""
        with self._locked():
            if not (self.folder / "told.json").exists():
                self._start()

    def stop(self) -> None:
        """Stop the server if it runs, and remove the folder."""
        if (self.folder / "told.json").exists():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._told()["pid"], signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)  # it may still be writing its last words

    @property
    def port(self) -> int:
        return int(self._told()["port"])

    @property
    def key(self) -> BucketKey:
        told = self._told()
        return BucketKey(told["access_key"], Secret(told["secret_key"].encode()))

    def place(self, port: int | None = None, bucket: str = BUCKET) -> BucketPlace:
        """Give a place with a prefix of its own; ``port`` for a way through a proxy."""
        return BucketPlace.make(f"s3://{bucket}/{secrets.token_hex(8)}", f"http://127.0.0.1:{port or self.port}")

    @contextlib.contextmanager
    def client(self) -> Iterator[Any]:
        """Give a client that is not the product's."""
        client = botocore.session.Session().create_client(
            "s3",
            region_name="us-east-1",
            endpoint_url=f"http://127.0.0.1:{self.port}",
            aws_access_key_id=self.key.access_key,
            aws_secret_access_key=self.key.secret.reveal().decode(),
            config=Config(s3={"addressing_style": "path"}),
        )
        with contextlib.closing(client):
            yield client

    def objects(self, place: BucketPlace) -> dict[str, bytes]:
        """Read everything below a prefix."""
        with self.client() as client:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{place.prefix}/")
            keys = [item["Key"] for page in pages for item in page.get("Contents", ())]
            return {
                key.removeprefix(f"{place.prefix}/"): client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
                for key in keys
            }

    def unfinished(self, place: BucketPlace) -> list[str]:
        """Tell the keys of multipart uploads that were begun."""
        with self.client() as client:
            page = client.list_multipart_uploads(Bucket=BUCKET, Prefix=place.prefix)
        return [item["Key"] for item in page.get("Uploads", ())]

    def _told(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads((self.folder / "told.json").read_text())
        return told

    def _start(self) -> None:
        access, secret = secrets.token_hex(10), secrets.token_hex(20)
        identity = {
            "name": "tests",
            "credentials": [{"accessKey": access, "secretKey": secret}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        (self.folder / "identities.json").write_text(json.dumps({"identities": [identity]}))
        ports = {}
        for service in SERVICES:
            first = free_ports()  # two in a row and more are free
            ports[service] = (first, first + 1)
        words = [f"-{name}.port={http}" for name, (http, _) in ports.items()]
        words += [f"-{name}.port.grpc={grpc}" for name, (_, grpc) in ports.items()]
        words += ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", f"-dir={self.folder}", "-volume.max=50"]
        words += ["-master.telemetry=false", "-master.volumeSizeLimitMB=64", "-s3.port.iceberg=0", "-s3.port.lance=0"]
        words += [f"-s3.config={self.folder / 'identities.json'}"]
        weed, log = Path(sys.executable).with_name("weed"), self.folder / "server.log"
        pid = os.posix_spawn(  # not Popen, which would wait for it with the test worker that began it
            weed,
            [str(weed), "server", *words],
            {**os.environ, "TMPDIR": str(self.folder)},
            setsid=True,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
        )
        told = {"pid": pid, "port": ports["s3"][0], "access_key": access, "secret_key": secret}
        self._wait(pid, ports["s3"][0])
        (self.folder / "told.new").write_text(json.dumps(told))
        (self.folder / "told.new").rename(self.folder / "told.json")
        with self.client() as client:
            client.create_bucket(Bucket=BUCKET)
            client.create_bucket(Bucket=LOCKED_BUCKET, ObjectLockEnabledForBucket=True)

    def _wait(self, pid: int, port: int) -> None:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and os.waitpid(pid, os.WNOHANG) == (0, 0):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
            with contextlib.suppress(OSError), contextlib.closing(connection):
                connection.request("GET", "/healthz")
                if connection.getresponse().status == 200:
                    return
            time.sleep(0.1)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        raise SeaweedUnavailableError((self.folder / "server.log").read_text()[-4_000:])

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
