"""Allowed webhook targets: public addresses, checked once and dialled as checked (no SSRF).

A caller chooses the URL and must not reach internal machines through the API. The name is
resolved once; if any of its addresses is not public the target is refused; the connection goes to the address that was
checked, so a name that resolves differently the next moment (rebinding) changes nothing. Hosts listed in
``WEBHOOK_HOSTS`` are exempt, for internal receivers.
"""

import ipaddress
import socket
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

#: Networks whose addresses embed the real target: NAT64 and its local form.
_TRANSLATED = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver = Callable[[str, int], Sequence[str]]


class TargetRefused(Exception):
    """A forbidden target; the message says why."""


@dataclass(frozen=True, slots=True)
class Url:
    """A well-formed callback URL, not resolved yet."""

    secure: bool
    host: str
    port: int
    path: str


@dataclass(frozen=True, slots=True)
class Target(Url):
    """A checked target: ``address`` is dialled, ``host`` is its name (TLS, ``Host``)."""

    address: str


def resolve(host: str, port: int) -> list[str]:
    """The addresses of ``host`` by the system's resolver.

    Raises:
        OSError: none, which may be transient.
        TargetRefused: not a valid name.
    """
    try:
        return [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except UnicodeError as error:
        raise TargetRefused(f"{host} cannot be resolved: {error}") from None


def parse(text: str, exempt: Collection[str]) -> Url:
    """The parsed URL, if its form is allowed.

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
        OSError: the name does not resolve.
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
    """Whether the address is public."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if inner is not None:
            return public(inner)
        if any(address in network for network in _TRANSLATED):
            return public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return address.is_global and not address.is_multicast and not address.is_reserved


def _address(host: str) -> Address | None:
    """The address written as ``host``, in any notation of the resolver: ``127.1`` is ``127.0.0.1``."""
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except (OSError, UnicodeError):
        return None
