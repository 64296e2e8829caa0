"""A real PostgreSQL that keeps what it acknowledged: fsync is on, as in earnest."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.live.services.presence import environment, missing, need
from tests.live.services.process import Child, free_ports

READY = "database system is ready to accept connections"
START_S = 30.0
STOP_S = 5.0
USER = "fame"
NOBODY = "65534"


@dataclass(slots=True)
class Postgres:
    """A server on loopback. One that was named by the environment has no ``server``."""

    url: str  # for SQLAlchemy: postgresql+psycopg://...
    server: Child | None = None
    command: tuple[str, ...] = ()
    user: tuple[str, ...] = ()  # in the options of setpriv

    def breakable(self) -> None:
        """Skip the test when the server is somebody else's."""
        if self.server is None:
            pytest.skip("DATABASE_URL names a server that is not ours to break")

    def kill(self) -> None:
        """End it as a power cut would (the page cache survives)."""
        self.breakable()
        assert self.server is not None
        self.server.kill()

    def restart_immediate(self) -> None:
        """End it in the middle of what it does, start it, and wait until it has recovered."""
        self.breakable()
        self.stop()
        assert self.server is not None
        since = self.server.log.stat().st_size
        self.server = Child.start(self.command, self.server.log, self.user)
        self.server.wait_logged(READY, since, START_S)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold it for a block, and every connection to it: they stay open and say nothing.

        Each connection has a process of its own, in a session of its own.
        """
        self.breakable()
        assert self.server is not None
        first = self.server.process.pid
        os.kill(first, signal.SIGSTOP)  # now there will be no others
        others = Path(f"/proc/{first}/task/{first}/children").read_text(encoding="ascii").split()
        processes = [*map(int, others), first]
        try:
            for one in processes:
                os.kill(one, signal.SIGSTOP)
            yield
        finally:
            for one in processes:
                os.kill(one, signal.SIGCONT)

    @contextlib.contextmanager
    def encrypted(self, certificate: Path, key: Path) -> Iterator[None]:
        """Have it take connections with TLS too for a block, as the owner of ``certificate``."""
        import psycopg

        self.breakable()
        data = Path(self.command[2])
        for file, name in ((certificate, "server.crt"), (key, "server.key")):
            placed = Path(shutil.copy(file, data / name))
            placed.chmod(0o600)
            shutil.chown(placed, data.stat().st_uid, data.stat().st_gid)

        def set_to(value: bytes) -> None:
            with psycopg.connect(self.url.replace("+psycopg", ""), autocommit=True) as admin:
                admin.execute(b"ALTER SYSTEM SET ssl = " + value)
                admin.execute("SELECT pg_reload_conf()")
            until = time.monotonic() + START_S
            while time.monotonic() < until:
                with psycopg.connect(self.url.replace("+psycopg", "")) as fresh:
                    if fresh.execute("SHOW ssl").fetchone() == (value.decode(),):
                        return
                time.sleep(0.05)
            raise TimeoutError("the server did not take up its settings")

        set_to(b"on")
        try:
            yield
        finally:
            set_to(b"off")

    def database(self, name: str) -> str:
        """Make an empty database and return its URL."""
        import psycopg

        with psycopg.connect(self.url.replace("+psycopg", ""), autocommit=True) as admin:
            admin.execute(f'CREATE DATABASE "{name}"'.encode())
        return f"{self.url.rpartition('/')[0]}/{name}"

    def drop(self, url: str) -> None:
        """Drop the database at ``url``, if the server is still there; who is in it is out."""
        import psycopg

        with (
            contextlib.suppress(psycopg.OperationalError),
            psycopg.connect(self.url.replace("+psycopg", ""), autocommit=True) as admin,
        ):
            admin.execute(f'DROP DATABASE "{url.rpartition("/")[2]}" WITH (FORCE)'.encode())

    def stop(self) -> None:
        """End it at once; it will have to recover. It ends its own children."""
        if self.server is None:
            return
        self.server.process.send_signal(signal.SIGQUIT)
        try:
            self.server.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.server.kill()


def external_server() -> Postgres | None:
    """Return the server that ``DATABASE_URL`` names, if it names one."""
    url = environment("DATABASE_URL")
    return Postgres(url) if url else None


def start_server(directory: Path, also: Mapping[str, str] | None = None) -> Postgres:
    """Make a cluster of databases below ``directory``, start its server and wait until it serves.

    ``also`` are settings over those that every test has.
    The server refuses to run as root, so root runs it as nobody, who must be able to reach
    ``directory``.
    """
    tools = _tools()
    unprivileged = _unprivileged(directory)
    as_nobody = [need("setpriv", "util-linux"), *unprivileged] if unprivileged else []
    data, socket_dir, log = directory / "data", directory / "socket", directory / "log"
    for folder in (data, socket_dir):
        folder.mkdir()
        if unprivileged:
            shutil.chown(folder, int(NOBODY), int(NOBODY))
    options = ["-U", USER, "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"]
    subprocess.run(
        [*as_nobody, str(tools / "initdb"), "-D", str(data), *options],
        check=True,
        capture_output=True,
        cwd=directory,
    )
    (port,) = free_ports(1)
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": socket_dir,
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
        "max_connections": 100,
        "shared_buffers": "64MB",
        "log_statement": "none",
        "log_min_error_statement": "panic",  # a statement may hold what nobody may read
        **(also or {}),
    }
    given = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
    command = (str(tools / "postgres"), "-D", str(data), *given)
    server = Child.start(command, log, unprivileged)
    try:
        server.wait_logged(READY, 0, START_S)
    except BaseException:
        server.kill()
        raise
    url = f"postgresql+psycopg://{USER}@127.0.0.1:{port}/postgres"
    return Postgres(url, server, command, tuple(unprivileged))


def _tools() -> Path:
    """Return the folder of the newest server: Debian keeps them off the path."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/postgres"),
        key=lambda path: int(path.parts[-3]),
    )
    if found:
        return found[-1].parent
    on_path = shutil.which("postgres")
    if on_path is None:
        missing("PostgreSQL is not installed (Debian package postgresql)")
    return Path(on_path).parent


def _unprivileged(directory: Path) -> list[str]:
    """Return how to run a program as nobody, in the options of setpriv; root needs to."""
    if os.getuid() != 0:
        return []
    directory.chmod(0o711)  # searchable, not readable
    return [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
