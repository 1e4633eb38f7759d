"""T1, T3, T5: a client on another host, over real TLS: who is let in, who is refused and how, and broken lines."""

from __future__ import annotations

import base64
import hashlib
import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from strongroom.cli.api_client import ApiClient, local_session
from strongroom.cli.media_channel import MediaChannel
from strongroom.cli.mount_channel import MountChannel
from strongroom.cli.tls_door import TLSDoor
from strongroom.client.exclude import Exclude
from strongroom.client.sender import Sender
from strongroom.client.walker import Walker
from strongroom.core.errors import AuthenticationError, StrongroomError
from strongroom.core.ids import HostId, from_text, to_text
from strongroom.core.secret import Secret
from strongroom.formats import mount
from strongroom.pki.ca import IssuerKind, Subject, issue, load_certificate, to_der
from strongroom.pki.channel import Address
from strongroom.pki.keys import load_key, make_host_key
from strongroom.pki.names import HostNames
from strongroom.pki.tls import Credential, ServerTLS, client_context
from strongroom.services.client.identity import ClientIdentity
from strongroom.services.identity import Identities
from strongroom.services.primary.opening import Primary, open_primary
from strongroom.settings.domain import DomainSettings
from strongroom.settings.system import SystemClock, SystemEntropy
from tests.support import trusting
from tests.support.domains import CA
from tests.support.live_domain import LiveDomain
from tests.support.remote_client import RemoteClient, Wire, add_user, aged
from tests.support.trees import let_age, make_tree, rsync_differences
from tests.support.trusting import Done, incoming, rows, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

MIB = 1 << 20
SLP = "daily"


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveDomain]:
    folder = tmp_path_factory.mktemp("live")
    made = LiveDomain(folder, "alpha")
    trusting.hurry(made)
    made.start()
    made.cli("pool", "create", "main")
    made.cli("slp", "create", SLP, "--backup", "main", "--retention", "30d", "--unencrypted")
    add_user(made, folder)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def primary(domain: LiveDomain) -> Iterator[Primary]:
    opened = open_primary(domain.home, DomainSettings.load(domain.home), SystemClock(), SystemEntropy())
    yield opened
    opened.engine.dispose()


@pytest.fixture(scope="module")
def client(domain: LiveDomain, tmp_path_factory: pytest.TempPathFactory) -> RemoteClient:
    made = RemoteClient(domain, tmp_path_factory.mktemp("client") / "db1")
    assert made.enrol("db1.example").exit_code == 0
    assert made.login().exit_code == 0
    return made


@pytest.fixture(scope="module")
def other(domain: LiveDomain, tmp_path_factory: pytest.TempPathFactory) -> RemoteClient:
    made = RemoteClient(domain, tmp_path_factory.mktemp("client") / "db2")
    assert made.enrol("db2.example").exit_code == 0
    return made


@pytest.fixture
def api(domain: LiveDomain) -> Iterator[ApiClient]:
    with local_session(domain.home.session_socket) as session:
        yield session


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree").mkdir()
    return make_tree(tmp_path / "tree")


def refused(done: Done, code: str) -> None:
    """A command was refused in words that help."""
    assert done.code == code, done
    assert done.value["detail"], done
    assert done.value["hint"], done


def begin(api: ApiClient, tree: Path, host: HostId | None) -> dict[str, Any]:
    """Begin a backup at the primary, as a command does."""
    body: dict[str, object] = {"paths_b64": [base64.b64encode(bytes(tree)).decode()], "slp": SLP}
    if host is not None:
        body["host"] = to_text(host)
    begun: dict[str, Any] = api.post("/backups", body)
    return begun


def door(given: dict[str, Any], shown: ClientIdentity, credential: Credential | None) -> TLSDoor:
    """Go to the media server of a job with a certificate, whoever's it is; without any, too."""
    media = given["media"]
    return TLSDoor(
        address=Address.read(media["address"]),
        context=client_context([shown.root], credential),
        host=HostId(from_text(media["host"])),
        certificates=frozenset(media["certificates"]),
    )


def send(way: TLSDoor, given: dict[str, Any], tree: Path) -> dict[str, Any]:
    sender = Sender(None)
    walker = Walker(sender.report, exclude=Exclude([]))
    with MediaChannel(way, Secret(given["token"].encode())) as channel:
        return channel.upload(f"/backup/{given['job']}", sender.blocks(walker.walk([bytes(tree)])))


def refusal(way: TLSDoor, given: dict[str, Any], tree: Path) -> StrongroomError:
    """Send what must be refused; give why."""
    with pytest.raises(StrongroomError) as raised:
        send(way, given, tree)
    assert raised.value.hint, raised.value
    return raised.value


def end(api: ApiClient, given: dict[str, Any]) -> None:
    api.post(f"/jobs/{given['job']}/cancel")


# ---------------------------------------------------------------- who is refused


def test_no_certificate_is_refused_t1(api: ApiClient, client: RemoteClient, tree: Path) -> None:
    held = client.identity()
    given = begin(api, tree, held.host)
    assert refusal(door(given, held, None), given, tree).code == "pki.no-certificate"
    end(api, given)


def test_grant_of_another_host_is_refused_and_stays_good_for_its_own_t1(
    api: ApiClient, client: RemoteClient, other: RemoteClient, tree: Path
) -> None:
    """A stolen grant, or a stolen session with which one was begun, is of no use without the key of its host."""
    held, thief = client.identity(), other.identity()
    given = begin(api, tree, held.host)
    assert refusal(door(given, thief, thief.credential), given, tree).code == "work.wrong-client"
    assert send(door(given, held, held.credential), given, tree)["acknowledged"] is True


def test_grant_of_the_media_servers_own_host_is_no_grant_over_the_network_t1(
    api: ApiClient, client: RemoteClient, tree: Path
) -> None:
    held = client.identity()
    here, there = begin(api, tree, None), begin(api, tree, held.host)
    way = door(there, held, held.credential)
    assert refusal(way, here | {"media": there["media"]}, tree).code == "work.wrong-client"
    assert here["media_socket"]
    assert there["media_socket"] is None
    end(api, here)
    end(api, there)


def test_grant_of_another_host_is_refused_on_the_socket_too_t1(
    domain: LiveDomain, api: ApiClient, client: RemoteClient, tree: Path
) -> None:
    from strongroom.cli.media_door import SocketDoor

    given = begin(api, tree, client.identity().host)
    with (
        MediaChannel(SocketDoor(domain.home.media_socket), Secret(given["token"].encode())) as channel,
        pytest.raises(AuthenticationError) as raised,
    ):
        channel.upload(f"/backup/{given['job']}", [])
    assert raised.value.code == "work.wrong-client"
    end(api, given)


@pytest.mark.parametrize(("role", "code"), [("media", "work.not-a-client"), ("primary", "media.not-our-client")])
def test_host_of_another_role_is_refused_t3(
    domain: LiveDomain, api: ApiClient, client: RemoteClient, tree: Path, role: str, code: str
) -> None:
    held = client.identity()
    folder = domain.home.media / "certificates" if role == "media" else domain.home.primary_identity
    shown = Identities(folder).get(held.domain).credential
    given = begin(api, tree, held.host)
    assert refusal(door(given, held, shown), given, tree).code == code
    end(api, given)


def test_certificate_of_another_domain_ends_the_handshake_t5(api: ApiClient, client: RemoteClient, tree: Path) -> None:
    held = client.identity()
    _, stranger = CA.make(2, SystemClock().now()).leaf(SystemClock().now())
    given = begin(api, tree, held.host)
    assert refusal(door(given, held, stranger), given, tree).code == "cli.certificate-refused"
    end(api, given)


def test_expired_certificate_ends_the_handshake_and_the_command_says_so_before_t5(
    primary: Primary, api: ApiClient, domain: LiveDomain, tmp_path: Path, tree: Path
) -> None:
    late = RemoteClient(domain, tmp_path / "late")
    late.enrol("late.example")
    late.login()
    old = aged(primary, late.identity(), timedelta(days=366))
    given = begin(api, tree, old.host)
    assert refusal(door(given, old, old.credential), given, tree).code == "cli.certificate-refused"
    end(api, given)
    late.client_folder.keep(old)
    done = late.run("backup", str(tree), "--slp", SLP)
    refused(done, "pki.certificate-expired")
    assert "--again" in done.value["hint"]


def test_certificate_that_no_registry_has_is_refused_t3(
    primary: Primary, api: ApiClient, client: RemoteClient, tree: Path
) -> None:
    """Such as one that somebody made with a stolen issuer key."""
    held, key = client.identity(), make_host_key()
    subject = Subject(
        home=held.domain, host=held.host, names=HostNames.read([held.name]), listens=False, primary_of=None
    )
    issuer = primary.authorities[IssuerKind.HOSTS]
    public = load_key(key).public_key()
    forged = issue(issuer, subject, public, now=primary.clock.now(), entropy=primary.entropy)
    given = begin(api, tree, held.host)
    shown = Credential((to_der(forged), *(to_der(link) for link in issuer.chain)), key)
    assert refusal(door(given, held, shown), given, tree).code == "pki.not-registered"
    end(api, given)


# ---------------------------------------------------------------- whom a client sends to


def test_nothing_is_sent_to_another_host_or_with_a_certificate_that_is_not_in_use_t1(
    domain: LiveDomain, api: ApiClient, client: RemoteClient, tree: Path
) -> None:
    held = client.identity()
    given = begin(api, tree, held.host)
    way = door(given, held, held.credential)
    assert refusal(replace(way, host=HostId(bytes(16))), given, tree).code == "pki.wrong-name"
    primary = replace(way, address=Address("localhost", domain.port))
    assert refusal(primary, given, tree).code == "pki.wrong-name"
    assert refusal(replace(way, certificates=frozenset()), given, tree).code == "pki.certificate-revoked"
    end(api, given)


def test_nothing_is_sent_to_a_server_of_another_name_or_another_root_t1(
    primary: Primary, api: ApiClient, client: RemoteClient, tree: Path
) -> None:
    """Even if it shows the id of the media server."""
    held = client.identity()
    given = begin(api, tree, held.host)
    way = door(given, held, held.credential)
    issuer, key = primary.authorities[IssuerKind.HOSTS], make_host_key()
    subject = Subject(
        home=held.domain, host=way.host, names=HostNames.read(["elsewhere.example"]), listens=True, primary_of=None
    )
    now = primary.clock.now()
    made = issue(issuer, subject, load_key(key).public_key(), now=now, entropy=primary.entropy)
    _, stranger = CA.make(2, now).leaf(now)
    for credential, root, code in (
        (Credential((to_der(made), *(to_der(link) for link in issuer.chain)), key), held.root, "pki.wrong-name"),
        (stranger, held.root, "pki.chain-refused"),
    ):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            heard: list[bytes] = []
            context = ServerTLS(credential, [root]).context
            serving = threading.Thread(target=_hear, args=(listener, context, heard))
            serving.start()
            shown = hashlib.sha256(credential.chain[0]).hexdigest()
            there = replace(
                way, address=Address("localhost", listener.getsockname()[1]), certificates=frozenset({shown})
            )
            assert refusal(there, given, tree).code == code
            serving.join()
            assert heard == [b""]
    end(api, given)


def _hear(listener: socket.socket, context: ssl.SSLContext, heard: list[bytes]) -> None:
    """Take one connection, and keep what comes over it."""
    connection, _ = listener.accept()
    with connection:
        try:
            with context.wrap_socket(connection, server_side=True) as secured:
                heard.append(secured.recv(1))
        except OSError:
            heard.append(b"")


# ---------------------------------------------------------------- the client's own folder


def test_file_with_the_key_that_others_can_read_is_not_used(domain: LiveDomain, tmp_path: Path, tree: Path) -> None:
    careless = RemoteClient(domain, tmp_path / "careless")
    careless.enrol("careless.example")
    careless.login()
    folder = careless.client_folder.path
    (file,) = folder.glob("*.client")
    assert (folder.stat().st_mode & 0o777, file.stat().st_mode & 0o777) == (0o700, 0o600)
    for path, mode in ((file, 0o640), (folder, 0o750)):
        before = path.stat().st_mode
        path.chmod(mode)
        refused(careless.run("backup", str(tree), "--slp", SLP), "client.open-to-others")
        path.chmod(before)
    assert careless.run("backup", str(tree), "--slp", SLP).exit_code == 0


def test_client_is_enrolled_once_and_named_by_its_domain(client: RemoteClient, tmp_path: Path, tree: Path) -> None:
    refused(client.enrol("again.example"), "client.already-enrolled")
    assert client.domain.cli("token", "list")[0]["used"] == 0  # the token is still good
    assert client.run("backup", str(tree), "--slp", SLP, "--client", "me").exit_code == 2
    missing = ("--client-home", str(tmp_path / "nothing"))
    refused(client.run("backup", str(tree), "--slp", SLP, *missing), "client.not-enrolled")


def test_certificate_is_renewed_with_a_new_key_before_it_ends(
    primary: Primary, domain: LiveDomain, tmp_path: Path, tree: Path
) -> None:
    steady = RemoteClient(domain, tmp_path / "steady")
    steady.enrol("steady.example")
    steady.login()
    old = aged(primary, steady.identity(), timedelta(days=300))
    steady.client_folder.keep(old)
    assert steady.run("backup", str(tree), "--slp", SLP).exit_code == 0
    new = steady.identity()
    assert new.not_after - old.not_after > timedelta(days=299)
    assert new.host == old.host
    assert new.credential.key != old.credential.key
    assert load_certificate(new.credential.chain[0]).serial_number in {
        int(row[0], 16) for row in rows(domain, "SELECT serial FROM pki_certificates WHERE host = ?", new.host)
    }


def test_client_that_lost_its_key_comes_back_as_itself_and_the_old_key_opens_nothing_t9(
    domain: LiveDomain, api: ApiClient, tmp_path: Path, tree: Path
) -> None:
    before = RemoteClient(domain, tmp_path / "before")
    before.enrol("back.example")
    before.login()
    let_age(tree)
    image = before.run("backup", str(tree), "--slp", SLP).value["image"]
    lost = before.identity()
    rebuilt = RemoteClient(domain, tmp_path / "rebuilt")
    assert rebuilt.come_back(to_text(lost.host)).value["name"] == "back.example"
    rebuilt.login()
    again = rebuilt.run("backup", str(tree), "--slp", SLP).value
    assert again["read_bytes"] == 0  # it compared with the image that it had made before
    assert rebuilt.run("restore", image, "--to", str(tmp_path / "out")).exit_code == 0
    assert rsync_differences(tree, tmp_path / "out" / str(tree).lstrip("/")) == ""
    given = begin(api, tree, lost.host)
    assert refusal(door(given, lost, lost.credential), given, tree).code == "pki.certificate-revoked"
    end(api, given)


# ---------------------------------------------------------------- what goes through


def test_image_is_mounted_over_tls(api: ApiClient, client: RemoteClient, other: RemoteClient, tree: Path) -> None:
    held, thief = client.identity(), other.identity()
    image = client.run("backup", str(tree), "--slp", SLP).value["image"]
    given = api.post("/restores", {"image": image, "mount": True, "host": to_text(held.host)})
    grant = Secret(given["token"].encode())
    name = next(path for path in sorted(tree.rglob("*")) if path.is_file() and path.stat().st_size > 10)
    asked = mount.Read(path=bytes(name), offset=2, length=8)
    with MountChannel(door(given, held, held.credential), str(given["job"]), grant) as channel:
        assert channel.ask("read", asked) == name.read_bytes()[2:10]
        # the grant of an open mount is no more another host's than that of any job
        stolen = MediaChannel(door(given, thief, thief.credential), grant)
        with stolen, pytest.raises(StrongroomError) as raised:
            stolen.upload(f"/mount/{given['job']}/read", [mount.encode(asked)])
        assert raised.value.code == "media.not-mounted"
        channel.end()


def test_restore_of_another_clients_image_needs_the_right_to_redirect(
    domain: LiveDomain, client: RemoteClient, other: RemoteClient, tree: Path, tmp_path: Path
) -> None:
    image = client.run("backup", str(tree), "--slp", SLP).value["image"]
    (tmp_path / "password").write_text("kettle orchard bramble sextant walnut heron")
    words = ("--role", "operator", "--password-file", str(tmp_path / "password"))
    domain.cli("user", "create", "operator", *words)
    for one, code in ((client, 0), (other, 5)):
        pin = ("--fingerprint", domain.fingerprint(), "--user", "operator")
        assert one.run("login", "--server", one.url, *pin, "--password-file", str(tmp_path / "password")).exit_code == 0
        done = one.run("restore", image, "--to", str(tmp_path / one.folder.name))
        assert done.exit_code == code, done
    assert not (tmp_path / "db2").exists()
    client.login()


# ---------------------------------------------------------------- broken lines


def test_line_that_breaks_in_a_backup_ends_the_job_soon_and_leaves_nothing_l5(
    domain: LiveDomain, api: ApiClient, client: RemoteClient, tmp_path: Path
) -> None:
    held = client.identity()
    (tmp_path / "tree").mkdir()
    trusting.write_random(tmp_path / "tree" / "large", 71, 24 * MIB)
    given = begin(api, tmp_path / "tree", held.host)
    way = door(given, held, held.credential)
    wire = Wire(way.address)
    sender = Sender(None)
    walker = Walker(sender.report, exclude=Exclude([]))

    def cut_in_the_middle() -> Iterator[bytes | memoryview]:
        for block in sender.blocks(walker.walk([bytes(tmp_path / "tree")])):
            yield block
            if sender.totals.content > 12 * MIB:
                until(lambda: any(path.stat().st_size > MIB for path in incoming(domain)), "nothing is written")
                wire.cut()

    with (
        MediaChannel(replace(way, address=wire.address), Secret(given["token"].encode())) as channel,
        pytest.raises(StrongroomError) as raised,
    ):
        channel.upload(f"/backup/{given['job']}", cut_in_the_middle())
    assert raised.value.code == "client.stream-lost"
    assert_interrupted(domain, given["job"], "media.client-gone")
    assert client.run("backup", str(tmp_path / "tree"), "--slp", SLP).exit_code == 0


def test_client_that_is_killed_ends_its_job_soon_l5(domain: LiveDomain, client: RemoteClient, tmp_path: Path) -> None:
    running, job = in_the_middle(domain, client, tmp_path, 72)
    running.kill()
    assert_interrupted(domain, job, "media.client-gone")
    running.communicate()


def test_client_that_is_revoked_in_the_middle_gets_no_image_t5(domain: LiveDomain, tmp_path: Path) -> None:
    revoked = RemoteClient(domain, tmp_path / "revoked")
    revoked.enrol("revoked.example")
    revoked.login()
    running, job = in_the_middle(domain, revoked, tmp_path, 73)
    serial = f"{load_certificate(revoked.identity().credential.chain[0]).serial_number:x}"
    domain.cli("cert", "revoke", serial, "--reason", "keyCompromise")
    lists = domain.home.media / "crls"
    number = int(serial, 16)
    until(lambda: any(_revokes(path, number) for path in lists.glob("*.crl")), "the media server has not heard")
    running.send_signal(signal.SIGCONT)
    done = trusting.end(running)
    assert done.exit_code != 0, done
    assert "pki.certificate-revoked" in f"{done.value}{done.errors}", done
    assert_interrupted(domain, job, "pki.certificate-revoked")
    assert rows(domain, "SELECT 1 FROM images WHERE client = 'revoked.example'") == []


def in_the_middle(domain: LiveDomain, client: RemoteClient, folder: Path, seed: int) -> tuple[Any, int]:
    """Begin a backup, and stop its client when something is written; give both."""
    (folder / "tree").mkdir()
    trusting.write_random(folder / "tree" / "large", seed, 96 * MIB)
    (newest,) = rows(domain, "SELECT coalesce(max(id), 0) FROM jobs")[0]
    running = client.begin("backup", str(folder / "tree"), "--slp", SLP)
    until(lambda: any(path.stat().st_size > MIB for path in incoming(domain)), "nothing is written", every=0.005)
    running.send_signal(signal.SIGSTOP)
    ((job,),) = rows(domain, "SELECT id FROM jobs WHERE kind = 'backup' AND id > ?", newest)
    return running, job


def assert_interrupted(domain: LiveDomain, job: int, code: str) -> None:
    """The job has failed soon, in words; nothing of it is in the way."""
    failed = "SELECT error FROM jobs WHERE id = ? AND state = 'failed'"
    ((error,),) = until(lambda: rows(domain, failed, job), "the job goes on", 20.0)
    assert code in error
    assert rows(domain, "SELECT 1 FROM copy_leases WHERE job = ?", job) == []
    assert rows(domain, "SELECT 1 FROM client_work WHERE job = ?", job) == []
    until(lambda: not incoming(domain), "something half-made is left in the pool", 20.0)


def _revokes(path: Path, serial: int) -> bool:
    from cryptography import x509

    return x509.load_der_x509_crl(path.read_bytes()).get_revoked_certificate_by_serial_number(serial) is not None
