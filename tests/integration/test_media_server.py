"""C1-C3, L5: a media server's process between a real primary's and real clients."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from strongroom.catalog.tables import copy_leases
from strongroom.client.exclude import Exclude
from strongroom.client.previous import Previous, previous_files
from strongroom.client.sender import Sender
from strongroom.client.walker import Walker
from strongroom.core.errors import StrongroomError
from strongroom.core.ids import HostId
from strongroom.database import read, transact
from strongroom.formats import image_stream
from strongroom.jobs.tables import jobs as job_rows
from strongroom.pki.channel import Address
from strongroom.pki.tls import client_context
from strongroom.services import messages, record_http, sending_messages
from strongroom.services.identity import Identities
from strongroom.services.primary.attendance import SILENT_ROUNDS
from strongroom.services.primary.client_hosts import Client
from strongroom.services.primary.client_work import ClientWork
from strongroom.services.primary.opening import Primary, open_primary
from strongroom.services.primary.tables import client_work
from strongroom.services.record_http import RecordClient
from strongroom.settings.domain import DomainSettings
from strongroom.settings.system import SystemClock, SystemEntropy
from tests.support.live_domain import LiveDomain
from tests.support.trees import make_tree, rsync_differences
from tests.support.vault import random_bytes
from tests.unit.images.test_hostile_streams import data, record, stream

WAIT_SECONDS = 30.0

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveDomain]:
    domain = LiveDomain(tmp_path_factory.mktemp("live"), "alpha")
    domain.start()
    domain.cli("pool", "create", "main")
    domain.cli("kms", "group", "create", "homes")
    domain.cli("kms", "key", "create", "one", "--group", "homes", "--source", "random", "--activate")
    for name, how in (("gold", ("--key-group", "homes")), ("clear", ("--unencrypted",))):
        domain.cli("slp", "create", name, "--backup", "main", "--retention", "30d", *how)
        domain.cli("slp", "activate", name)
    yield domain
    domain.stop()


@pytest.fixture(scope="module")
def primary(domain: LiveDomain) -> Iterator[Primary]:
    """The primary's own code beside its process, to begin work as REST does."""
    opened = open_primary(domain.home, DomainSettings.load(domain.home), SystemClock(), SystemEntropy())
    yield opened
    opened.engine.dispose()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree").mkdir()
    return make_tree(tmp_path / "tree")


def until(true: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


class Unix(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=WAIT_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))


def start(primary: Primary, slp: str = "gold", client: str = "direct") -> tuple[int, str]:
    """Begin a backup at the primary; give job and grant."""
    work = ClientWork(primary, lambda *_: None)
    begun = transact(primary.engine, lambda c: work.start_backup(c, Client(client), [b"/"], slp))
    return begun.job, begun.grant.reveal().hex()


def ask(domain: LiveDomain, method: str, path: str, grant: str = "", body: bytes | None = None) -> tuple[int, Any]:
    connection = Unix(domain.home.media_socket)
    connection.request(method, path, body=body, headers={"Authorization": f"Bearer {grant}"} if grant else {})
    response = connection.getresponse()
    answer = response.read()
    connection.close()
    return response.status, json.loads(answer) if "json" in response.headers["Content-Type"] else answer


def job_state(primary: Primary, job: int) -> tuple[str, str]:
    with read(primary.engine) as connection:
        row = connection.execute(job_rows.select().where(job_rows.c.id == job)).one()
    return row.state, (row.error or {}).get("code", "") if isinstance(row.error, dict) else str(row.error)


@pytest.mark.parametrize("slp", ["gold", "clear"])
def test_a_backup_is_acknowledged_and_comes_back(domain: LiveDomain, tree: Path, tmp_path: Path, slp: str) -> None:
    done = domain.cli("backup", str(tree), "--slp", slp, "--client", f"c-{slp}")
    assert done["acknowledged"] is True
    assert done["files"] == 323
    domain.cli("restore", done["image"], "--to", str(tmp_path / "out"))
    assert rsync_differences(tree, tmp_path / "out" / str(tree).lstrip("/")) == ""


def back_up(domain: LiveDomain, primary: Primary, tree: Path, client: str) -> dict[str, Any]:
    """Back up with the client's own code, comparing with the previous image whatever its age."""
    job, grant = start(primary, client=client)
    status, entries = ask(domain, "GET", f"/v1/backup/{job}/previous", grant)
    assert status == 200
    sender = Sender(Previous(previous_files([entries]), None), readers=2)
    walker = Walker(sender.report, exclude=Exclude(()))
    body = b"".join(map(bytes, sender.blocks(walker.walk([bytes(tree)]))))
    status, answer = ask(domain, "POST", f"/v1/backup/{job}", grant, body)
    assert status == 200, answer
    return dict(answer)


def test_a_later_backup_reads_only_what_changed(
    domain: LiveDomain, primary: Primary, tree: Path, tmp_path: Path
) -> None:
    first = back_up(domain, primary, tree, "again")
    (tree / "plain").write_bytes(random_bytes("changed", 50_000))
    second = back_up(domain, primary, tree, "again")
    assert first["same_bytes"] == 0
    assert second["read_bytes"] == 50_000
    assert second["same_bytes"] == second["content_bytes"] - 50_000 > 20 << 20
    domain.cli("restore", second["image"], "--to", str(tmp_path / "out"))
    assert rsync_differences(tree, tmp_path / "out" / str(tree).lstrip("/")) == ""


def test_the_file_list_is_there_without_being_asked_for(domain: LiveDomain, tree: Path) -> None:
    image = domain.cli("backup", str(tree), "--slp", "gold", "--client", "listed")["image"]
    until(lambda: any(job["state"] == "done" for job in jobs_of(domain, "list-files", image)), "no file list")


def jobs_of(domain: LiveDomain, kind: str, image: str) -> list[dict[str, Any]]:
    return [job for job in domain.cli("job", "list") if job["kind"] == kind and job["subject"] == image]


def test_a_wrong_grant_gets_nothing(domain: LiveDomain, primary: Primary) -> None:
    job, grant = start(primary)
    for wrong in ("", "0" * 64, "not hexadecimal"):
        status, problem = ask(domain, "GET", f"/v1/backup/{job}/previous", wrong)
        assert status == 401
        assert problem["code"] in ("media.no-grant", "work.bad-grant")
    status, problem = ask(domain, "GET", f"/v1/restore/{job}", grant)
    assert (status, problem["code"]) == (409, "media.wrong-job")


def test_without_a_previous_image_its_stream_is_empty(domain: LiveDomain, primary: Primary) -> None:
    job, grant = start(primary, client="never seen")
    status, body = ask(domain, "GET", f"/v1/backup/{job}/previous", grant)
    assert status == 200
    (end,) = image_stream.read_blocks([body])
    assert isinstance(end, image_stream.StreamEnd)


def test_a_lying_client_is_told_why_and_its_job_fails(domain: LiveDomain, primary: Primary) -> None:
    job, grant = start(primary)
    lie = b"".join(stream(record(b"/a", 3), data(b"abc"), files=1, content=3))
    status, problem = ask(domain, "POST", f"/v1/backup/{job}", grant, lie)
    assert (status, problem["code"]) == (400, "images.bad-stream")
    until(lambda: job_state(primary, job)[0] == "failed", "the job goes on")
    assert "images.bad-stream" in str(job_state(primary, job))


def test_a_client_that_goes_away_leaves_no_image(domain: LiveDomain, primary: Primary) -> None:
    before = {image["image"] for image in domain.cli("image", "list")}
    job, grant = start(primary)
    connection = Unix(domain.home.media_socket)
    connection.putrequest("POST", f"/v1/backup/{job}")
    connection.putheader("Authorization", f"Bearer {grant}")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    for number in range(8):
        block = (image_stream.MAGIC if number == 0 else b"") + data(random_bytes(str(number), 1 << 20))
        connection.send(b"%x\r\n%b\r\n" % (len(block), block))
    connection.close()
    until(lambda: job_state(primary, job)[0] == "failed", "the job goes on")
    assert "media.client-gone" in str(job_state(primary, job))
    until(lambda: not list((domain.home.pool("main") / "incoming").iterdir()), "something is left in the pool")
    assert {image["image"] for image in domain.cli("image", "list")} == before


def test_a_client_that_never_comes_is_given_up_and_one_that_is_attended_to_is_not(primary: Primary) -> None:
    work = ClientWork(primary, lambda *_: None)
    lost, held = start(primary)[0], start(primary)[0]
    with read(primary.engine) as connection:
        (host,) = {HostId(row.host) for row in connection.execute(client_work.select())}
    try:
        for _ in range(SILENT_ROUNDS + 1):
            assert job_state(primary, lost)[0] == "running"
            work.attend(host, messages.Attend(jobs=[held]))
            work.attend(HostId(bytes(16)), messages.Attend(jobs=[lost], began=True))  # not of this host
            work.end_unattended()
        assert job_state(primary, lost) == ("failed", "work.interrupted")
        assert job_state(primary, held)[0] == "running"
        with read(primary.engine) as connection:
            assert connection.execute(copy_leases.select().where(copy_leases.c.job == lost)).all() == []
    finally:
        work.attend(host, messages.Attend(jobs=[], began=True))
    assert job_state(primary, held) == ("failed", "work.interrupted")


def test_a_commit_whose_answer_was_lost_is_answered_after_the_image_was_acknowledged(
    domain: LiveDomain, primary: Primary
) -> None:
    """The primary died between, and a beat brought the image to its end before the commit came again."""
    job, grant = start(primary)
    with read(primary.engine) as connection:
        host = HostId(connection.execute(client_work.select().where(client_work.c.job == job)).one().host)
    status, _ = ask(domain, "POST", f"/v1/backup/{job}", grant, b"".join(stream(files=0, content=0)))
    assert status == 200
    nothing = messages.Stream(root=bytes(32), segments=0, bytes=0, chunker=(1, 1, 1, 1))
    counts = dict.fromkeys(("files", "content", "problems", "read_bytes", "same_bytes", "added_bytes"), 0)
    again = messages.CommitBackup(job=job, entries=nothing, payload=nothing, key_pages=[], tags=[], **counts)
    told = ClientWork(primary, lambda *_: None).commit(host, again)
    name = f"{told.image.hex()}-{told.copy:04x}"
    (written,) = (domain.home.pool("main") / "images").glob(f"*/{name}")
    assert written.read_bytes() == told.data


def test_the_same_grant_commits_once(domain: LiveDomain, primary: Primary) -> None:
    job, grant = start(primary)
    body = b"".join(stream(data(b"abc"), record(b"/a", 3), files=1, content=3))
    status, answer = ask(domain, "POST", f"/v1/backup/{job}", grant, body)
    assert status == 200
    assert answer["acknowledged"] is True
    status, _ = ask(domain, "POST", f"/v1/backup/{job}", grant, body)
    assert status == 401


def test_work_is_taken_from_the_own_primary_only(domain: LiveDomain, primary: Primary) -> None:
    address = Address("localhost", domain.port + 2)
    status = messages.PoolStatus(medium=bytes(16))
    media = Identities(domain.home.media / "certificates").get(primary.domain)
    for held, code in ((primary.own_identity(), "media.pool-not-open"), (media, "media.not-our-primary")):
        client = RecordClient(address, client_context([primary.root], held.credential), primary.domain, primary=False)
        with pytest.raises(StrongroomError) as caught:
            client.ask("/v1/work/pool-status", status, messages.PoolState)
        assert caught.value.code == code
        client.close()


def test_connections_that_nobody_wants_are_let_go(
    domain: LiveDomain, primary: Primary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A burst of questions leaves connections behind; questions one after another need only one of them."""
    context = client_context([primary.root], primary.own_identity().credential)
    client = RecordClient(Address("localhost", domain.port + 2), context, primary.domain, primary=False)
    path, question = "/v1/work/limit-sending", sending_messages.LimitSending(bytes_per_second=None)
    before = open_sockets()
    with ExitStack() as burst:
        for _ in range(8):
            burst.enter_context(client.stream(path, messages.encode(question))).read()
    assert open_sockets() == before + 8
    time.sleep(0.3)
    client.ask(path, question, messages.Nothing)
    monkeypatch.setattr(record_http, "KEPT_SECONDS", 0.25)
    client.ask(path, question, messages.Nothing)
    assert open_sockets() == before + 1
    client.close()
    assert open_sockets() == before


def open_sockets() -> int:
    """Count the sockets of this process."""
    handles = [path for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    return sum(1 for path in handles if str(path.readlink()).startswith("socket:"))


def test_killed_in_the_middle_the_next_attempt_is_whole(
    domain: LiveDomain, primary: Primary, tree: Path, tmp_path: Path
) -> None:
    before = {image["image"] for image in domain.cli("image", "list")}
    job, grant = start(primary)
    connection = Unix(domain.home.media_socket)
    connection.putrequest("POST", f"/v1/backup/{job}")
    connection.putheader("Authorization", f"Bearer {grant}")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    for number in range(80):
        block = (image_stream.MAGIC if number == 0 else b"") + data(random_bytes(f"kill {number}", 1 << 20))
        connection.send(b"%x\r\n%b\r\n" % (len(block), block))
    domain.kill("media")
    connection.close()
    domain.start("media")
    assert not list((domain.home.pool("main") / "incoming").iterdir())
    done = domain.cli("backup", str(tree), "--slp", "gold", "--client", "after")
    assert done["acknowledged"] is True
    assert {image["image"] for image in domain.cli("image", "list")} == before | {done["image"]}
    fragments = (domain.home.pool("main") / "images").glob(f"*/{done['image'].replace('-', '')}-*")
    assert len(list(fragments)) == len(domain.cli("image", "show", done["image"])["copies"]) == 1
    domain.cli("restore", done["image"], "--to", str(tmp_path / "out"))
    assert rsync_differences(tree, tmp_path / "out" / str(tree).lstrip("/")) == ""


def test_it_stops_when_told_and_when_its_starter_is_gone(domain: LiveDomain) -> None:
    for end in ("stop", "abandon"):
        role = domain.roles.pop("media")
        assert getattr(role, end)() == 0
        assert not domain.home.media_socket.exists()
        domain.start("media")


def test_no_secret_is_in_its_log(domain: LiveDomain, primary: Primary) -> None:
    job, grant = start(primary)
    ask(domain, "GET", f"/v1/backup/{job}/previous", grant)
    assert grant not in (domain.home.logs / "media.log").read_text()
