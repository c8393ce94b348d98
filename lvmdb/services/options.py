"""What a service is started with, and whether it may be."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from lvmdb.errors import SettingsError
from lvmdb.settings import Settings


@dataclass(frozen=True)
class ServiceOptions:
    """What a service is started with.

    Attributes:
        settings: what the environment says; its token is asked of callers.
        dsn: of the database.
        host: the address that it is bound to.
        dataset: where to ingest, unless a request says; its encoder, unless one is named.
        encoder: name of the encoder; None: the dataset's, else lvmdb's default; `none`: no vectors.
        chunker: how ingested texts are cut.
        tagger: who decides codes.
        inverter, corrector: names or folders of vec2text's two halves; None: the encoder's.
    """

    settings: Settings
    dsn: str
    host: str = "127.0.0.1"
    dataset: str | None = None
    encoder: str | None = None
    chunker: str = "sentence"
    tagger: str = "embedding"
    inverter: str | None = None
    corrector: str | None = None

    @property
    def local(self) -> bool:
        """Whether only this machine reaches it."""
        return is_loopback(self.host)


def require_token(options: ServiceOptions) -> None:
    """Refuse to serve other machines without a token, or with one that no header can carry.

    Raises:
        SettingsError: so it is.
    """
    token = options.settings.token
    if token is None:
        if not options.local:
            raise SettingsError(
                f"other machines reach {options.host}: set LVMDB_TOKEN to what callers must know, "
                "or bind to 127.0.0.1"
            )
    elif not token.isascii() or not token.isprintable() or " " in token:
        raise SettingsError("LVMDB_TOKEN must be of visible ASCII characters without spaces")


def is_loopback(host: str) -> bool:
    """Whether an address is one that only this machine reaches."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
