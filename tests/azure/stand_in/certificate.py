"""A certificate authority of a day, and one certificate for Azure's names."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import certifi
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


@dataclass(frozen=True)
class Certificate:
    """Files: the authority alone and with the public ones, the server's certificate and its key."""

    authority: Path
    bundle: Path
    chain: Path
    key: Path


def make(folder: Path, names: Sequence[str]) -> Certificate:
    """A certificate for `names` (wildcards of one label allowed), signed by an authority made here, as PEM files."""
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pointseg tests: stand-in authority")])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pointseg tests: stand-in")])

    def builder(name: x509.Name, public_key: ec.EllipticCurvePublicKey, ca: bool) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        made = x509.CertificateBuilder().subject_name(name).issuer_name(issuer).public_key(public_key)
        made = made.serial_number(x509.random_serial_number())
        made = made.not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(
            now + datetime.timedelta(days=1)
        )
        made = made.add_extension(x509.BasicConstraints(ca=ca, path_length=0 if ca else None), critical=True)
        of_authority = authority_key.public_key()
        made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        return made.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(of_authority), critical=False)

    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)  # signatures, certificates, lists
    authority = builder(issuer, authority_key.public_key(), ca=True).add_extension(usage, critical=True)
    signed = builder(subject, key.public_key(), ca=False)
    signed = signed.add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
    signed = signed.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    pem = serialization.Encoding.PEM
    root = authority.sign(authority_key, hashes.SHA256()).public_bytes(pem)
    leaf = signed.sign(authority_key, hashes.SHA256()).public_bytes(pem)
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    files = Certificate(*(folder / name for name in ("authority.pem", "bundle.pem", "server.pem", "server.key")))
    files.authority.write_bytes(root)
    files.bundle.write_bytes(root + Path(certifi.where()).read_bytes())
    files.chain.write_bytes(leaf + root)
    files.key.write_bytes(secret)
    files.key.chmod(0o600)
    return files
