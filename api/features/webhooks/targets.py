"""Where a webhook may go: a public address, decided once and then dialled as it was decided.

A caller chooses the URL, so without care it could make the API call machines that only the API can reach. The name is
resolved once; if any of its addresses is not public the target is refused; the connection goes to the address that was
checked, so a name that resolves differently the next moment (rebinding) changes nothing. Hosts listed in
``WEBHOOK_HOSTS`` are exempt, for receivers in one's own network.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

#: Addresses that carry another address inside, which is where they lead: NAT64 and its local form.
_TRANSLATED = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver = Callable[[str, int], Sequence[str]]


class TargetRefused(Exception):
    """A webhook may not go there; the message says why."""


@dataclass(frozen=True, slots=True)
class Target:
    """A checked place: ``address`` is dialled, ``host`` is what it is called (TLS, ``Host``)."""

    secure: bool
    host: str
    port: int
    path: str
    address: str


@dataclass(frozen=True, slots=True)
class Url:
    """The parts of a callback URL whose form is right; nothing has been resolved."""

    secure: bool
    host: str
    port: int
    path: str


def resolve(host: str, port: int) -> list[str]:
    """The addresses of ``host`` as the system's resolver tells them.

    Raises:
        OSError: it does not tell any, which may pass.
        TargetRefused: no name can look like that.
    """
    try:
        return [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except UnicodeError as error:
        raise TargetRefused(f"{host} cannot be resolved: {error}") from None


def parse(text: str, exempt: Collection[str]) -> Url:
    """The URL, when its form alone does not forbid it.

    Raises:
        TargetRefused: not an absolute https URL (http for exempt hosts), or with credentials; or its host is
            written as an address that is not public.
    """
    try:
        parts = urlsplit(text)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError as error:
        raise TargetRefused(f"it is not a URL: {error}") from None
    if any(character <= " " or character > "~" for character in text):
        raise TargetRefused("it has characters a URL must escape")
    if not host or parts.scheme not in {"https", "http"} or parts.username is not None or parts.password is not None:
        raise TargetRefused("it must be an absolute URL without credentials")
    if parts.scheme == "http" and host not in exempt:
        raise TargetRefused("it must be https")
    if host not in exempt and (literal := _address(host)) is not None and not public(literal):
        raise TargetRefused(f"{host} is not a public address")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Url(parts.scheme == "https", host, port or (443 if parts.scheme == "https" else 80), path)


def check(text: str, exempt: Collection[str], resolver: Resolver = resolve) -> Target:
    """The target of a URL, resolved.

    Raises:
        TargetRefused: see :func:`parse`; or one of its addresses is not public.
        OSError: the resolver does not tell any.
    """
    url = parse(text, exempt)
    addresses = [ipaddress.ip_address(found.partition("%")[0]) for found in resolver(url.host, url.port)]
    if not addresses:
        raise TargetRefused(f"{url.host} has no address")
    if url.host not in exempt:
        for address in addresses:
            if not public(address):
                raise TargetRefused(f"{url.host} resolves to {address}, which is not a public address")
    return Target(url.secure, url.host, url.port, url.path, str(addresses[0]))


def public(address: Address) -> bool:
    """Whether anybody on the internet could be at this address."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if inner is not None:
            return public(inner)
        if any(address in network for network in _TRANSLATED):
            return public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return address.is_global and not address.is_multicast and not address.is_reserved


def _address(host: str) -> Address | None:
    """The address that ``host`` spells, in any notation the resolver understands: ``127.1`` is ``127.0.0.1``."""
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except (OSError, UnicodeError):
        return None
