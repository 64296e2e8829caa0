"""`fame serve`: one broker process, until it is told to stop."""

import errno
import gc
import signal
import socket
import sys
from typing import Annotated

import typer

from broker.cli.failure import EXIT_UNAVAILABLE, Failure
from broker.cli.home import Config, load_config

COLLECT_AFTER = 20_000  # more allocations than releases; the default is 700


def command(
    config: Config = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen on.")] = None,
) -> None:
    """Run the broker until it is told to stop (SIGTERM, or Ctrl-C)."""
    given = {"http.host": host, "http.port": None if port is None else str(port)}
    overrides = {key: value for key, value in given.items() if value is not None}
    settings = load_config(config, overrides).config

    from broker.app import build, server
    from broker.edge.telemetry import configure_logging

    with bound(settings.http.host, settings.http.port) as taken:
        lines = configure_logging()
        # The server ends in order and then raises its signal again; to us it is a good end.
        for ending in (signal.SIGTERM, signal.SIGINT):
            signal.signal(ending, lambda *_: sys.exit(0))
        running = server(settings, build(settings, lines=lines))
        _spare_the_collector()
        if sys.stderr.isatty():
            address = "{}:{}".format(*taken.getsockname()[:2])
            print(f"Listening on {address}; Ctrl-C stops it.", file=sys.stderr)
        try:
            running.run(sockets=[taken])
        except OSError as error:
            raise _cannot_listen(settings.http.host, settings.http.port, error) from error
    if not running.started:
        raise Failure("The broker could not start", EXIT_UNAVAILABLE, {"try": "fame doctor"})


def _spare_the_collector() -> None:
    """Keep what lives as long as the process out of the garbage collector's rounds.

    The register and the compiled schemas are many objects that never become garbage; walking
    them again and again took nearly half of the broker's CPU time. Requests leave few cycles
    behind, so rounds may be rarer too.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, 20, 20)


def bound(host: str, port: int, setting: str = "--port") -> socket.socket:
    """Return a socket that holds the address, so that a mistake shows before anything is opened.

    The server listens once it is ready: whoever can connect can send. ``setting`` is what
    names another port.

    Raises:
        Failure: the address is taken or not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    taken = socket.socket(family, socket.SOCK_STREAM)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((host, port))
    except OSError as error:
        taken.close()
        raise _cannot_listen(host, port, error, setting) from error
    return taken


def _cannot_listen(host: str, port: int, error: OSError, setting: str = "--port") -> Failure:
    in_use = error.errno == errno.EADDRINUSE
    rows = {
        "where": f"{host}:{port}",
        "why": "another program listens there" if in_use else (error.strerror or ""),
        "try": f"stop the other one, or name another port with {setting}",
    }
    return Failure("The broker cannot listen there", EXIT_UNAVAILABLE, rows)
