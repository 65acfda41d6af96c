"""TLS for a container that has none: Caddy in the same group, which alone has public ports."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pointseg.core.errors import ConfigError

__all__ = ["CERTIFICATES", "Certificate", "caddyfile", "caddy_command"]

CERTIFICATES = "/certificates"  # where the group mounts them
BODY_LIMIT = "64MiB"  # as score.py's own
TO_SCORING = "127.0.0.1:5001"  # containers of a group share their network


@dataclass(frozen=True)
class Certificate:
    """A certificate of your own, as PEM text.

    Attributes:
        chain: the certificate, and those above it.
        key: its private key, without a passphrase.
    """

    chain: str
    key: str

    @classmethod
    def read(cls, chain: str | None, key: str | None) -> Certificate | None:
        """From two files; None where neither is named.

        Raises:
            ConfigError: if one is missing, cannot be read, or is not a PEM file of its kind.
        """
        if not chain and not key:
            return None
        if not chain or not key:
            text, remedy = "one of certificate and private key is missing", "Give both, or neither: Caddy fetches one."
            raise ConfigError(text, where="aci.certificate, aci.private_key", remedy=remedy)
        texts = []
        for name, file, kind in (("certificate", chain, "CERTIFICATE"), ("private_key", key, "PRIVATE KEY")):
            try:
                text = Path(file).expanduser().read_text(encoding="ascii")
            except (OSError, UnicodeDecodeError) as error:
                reason = getattr(error, "strerror", None) or "it is not text"
                raise ConfigError(f"the file cannot be read ({reason})", where=f"aci.{name}={file}") from None
            if f"{kind}-----" not in text or "ENCRYPTED" in text:
                wrong = "is protected by a passphrase" if "ENCRYPTED" in text else f"holds no {kind.lower()}"
                raise ConfigError(f"the file {wrong}", where=f"aci.{name}={file}", remedy="Give PEM, without one.")
            texts.append(text)
        return cls(*texts)


def caddyfile(domain: str, own_certificate: bool) -> str:
    """The configuration of Caddy: https for one name; slow and large requests refused; all else goes to the scorer.

    Example:
        >>> print(caddyfile("street.westeurope.azurecontainer.io", own_certificate=False))
    """
    tls = f"\ttls {CERTIFICATES}/chain.pem {CERTIFICATES}/key.pem\n" if own_certificate else ""
    return (
        "{\n"
        "\tadmin off\n"
        "\tservers {\n"
        "\t\ttimeouts {\n\t\t\tread_header 10s\n\t\t\tread_body 60s\n\t\t\tidle 2m\n\t\t}\n"
        "\t\tmax_header_size 64KiB\n"
        "\t}\n"
        "}\n"
        f"{domain} {{\n{tls}"
        f"\trequest_body {{\n\t\tmax_size {BODY_LIMIT}\n\t}}\n"
        f"\treverse_proxy {TO_SCORING}\n"
        "}\n"
    )


def caddy_command() -> list[str]:
    """What the container runs; the configuration is a variable, so that nothing has to be mounted."""
    return [
        "sh",
        "-c",
        'printf %s "$CADDYFILE" > /tmp/Caddyfile && exec caddy run --config /tmp/Caddyfile --adapter caddyfile',
    ]
