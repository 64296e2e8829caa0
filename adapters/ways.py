"""From an agency's registered route to the adapter that goes it."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from adapters.contract import Adapter
from adapters.file_drop import FileDrop
from adapters.mailbox import Mailbox
from adapters.webhook import RequestSigner, Webhook, client_context
from broker.core.agency import Agency, DeliveryRoute
from broker.core.identity import AgencyId


class RouteError(ValueError):
    """A route's settings cannot be used; the words name the setting and the cure."""


@dataclass(frozen=True, slots=True)
class Means:
    """What the broker brings along: its signer, its TLS identity, where files may be put.

    ``authority`` is trusted for webhooks that name none of their own. Every ``ca_file`` lies
    below ``certificates`` and every drop directory below ``drops``, whatever a register says.
    """

    signer: RequestSigner
    tls_certificate: Path
    tls_key: Path
    authority: Path
    certificates: Path
    drops: Path
    timeout_s: float


class Ways:
    """Makes each agency's adapter once, and anew when its route has changed."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._made: dict[AgencyId, tuple[DeliveryRoute, Adapter]] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def adapter(self, agency: Agency) -> Adapter:
        """Return the adapter of ``agency``, the same one as long as its route stays.

        Raises:
            RouteError: the route's settings cannot be used.
        """
        known = self._made.get(agency.agency_id)
        if known is not None and known[0] == agency.delivery:
            return known[1]
        adapter = make(agency.delivery, self._means)
        self._made[agency.agency_id] = (agency.delivery, adapter)
        if known is not None:
            # Attempts that still use the old one end on their own; then nobody has it.
            self._close(known[1])
        return adapter

    async def aclose(self) -> None:
        """Close every adapter."""
        for _route, adapter in self._made.values():
            self._close(adapter)
        self._made.clear()
        await asyncio.gather(*self._closing, return_exceptions=True)

    def _close(self, adapter: Adapter) -> None:
        task = asyncio.get_running_loop().create_task(adapter.aclose())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def make(route: DeliveryRoute, means: Means) -> Adapter:
    """Return a new adapter for ``route``.

    Raises:
        RouteError: the route's settings cannot be used.
    """
    maker = _MAKERS.get(route.adapter)
    if maker is None:
        raise RouteError(f"there is no adapter {route.adapter}")
    return maker(_Settings(route), means)


class _Settings:
    """The settings of one route, read by name; one that is not known is a mistake."""

    def __init__(self, route: DeliveryRoute) -> None:
        self._route = route

    def only(self, *names: str) -> None:
        unknown = sorted(set(self._route.settings) - set(names))
        if unknown:
            raise RouteError(f"{self._route.adapter} has no setting {unknown[0]}")

    def text(self, name: str) -> str:
        value = self._route.settings.get(name)
        if not isinstance(value, str) or not value:
            raise RouteError(f"{self._route.adapter} needs the setting {name}, a text")
        return value

    def within(self, folder: Path, name: str) -> Path:
        """Return the path that ``name`` gives below ``folder``, and never one outside it."""
        path = (folder / self.text(name)).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise RouteError(f"{name} lies outside the folder it must be in")
        return path

    def __contains__(self, name: str) -> bool:
        return name in self._route.settings


def _mailbox(settings: _Settings, _means: Means) -> Adapter:
    settings.only()
    return Mailbox()


def _webhook(settings: _Settings, means: Means) -> Adapter:
    settings.only("url", "ca_file")
    authority = means.authority
    if "ca_file" in settings:
        authority = settings.within(means.certificates, "ca_file")
    try:
        tls = client_context(authority, means.tls_certificate, means.tls_key)
        return Webhook(settings.text("url"), tls, means.signer, timeout_s=means.timeout_s)
    except OSError as error:
        raise RouteError("a certificate file of the webhook cannot be read") from error
    except ValueError as error:
        raise RouteError(str(error)) from error


def _file_drop(settings: _Settings, means: Means) -> Adapter:
    settings.only("directory")
    return FileDrop(settings.within(means.drops, "directory"))


_MAKERS: Mapping[str, Callable[[_Settings, Means], Adapter]] = {
    "mailbox": _mailbox,
    "webhook": _webhook,
    "file_drop": _file_drop,
}
