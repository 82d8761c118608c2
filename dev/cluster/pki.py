"""Certificates of one cluster and the kubeconfig files that carry them.

Elliptic curve keys, because making them takes a millisecond. Everything is new on each boot.
"""

import datetime
import ipaddress
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFETIME = datetime.timedelta(days=365)


@dataclass(frozen=True)
class Subject:
    """Subject of a certificate: user name, groups, and addresses if it serves."""

    user: str
    groups: Sequence[str] = ()
    addresses: Sequence[str] = ()


class Authority:
    """The cluster's own certificate authority; all files lie in one folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        self.folder = folder
        self.certificate = folder / "ca.crt"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(Subject(user="slipstream-local-ca"))
        usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
        built = (
            _builder(subject=self._name, issuer=self._name, key=self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.certificate.write_bytes(built.public_bytes(serialization.Encoding.PEM))
        _write_key(folder / "ca.key", key=self._key)
        self._identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(
            self._key.public_key()
        )

    def issue(self, file: str, *, subject: Subject) -> None:
        """Write FILE.crt and FILE.key."""
        key = ec.generate_private_key(ec.SECP256R1())
        uses = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        builder = (
            _builder(subject=_name(subject), issuer=self._name, key=key.public_key())
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .add_extension(self._identifier, critical=False)
        )
        if subject.addresses:
            names = x509.SubjectAlternativeName([general_name(name) for name in subject.addresses])
            builder = builder.add_extension(names, critical=False)
        built = builder.sign(self._key, hashes.SHA256())
        certificate = self.folder / f"{file}.crt"
        certificate.write_bytes(built.public_bytes(serialization.Encoding.PEM))
        _write_key(self.folder / f"{file}.key", key=key)

    def signing_key(self, file: str) -> None:
        """Write the pair FILE.key and FILE.pub that signs and checks ServiceAccount tokens."""
        key = ec.generate_private_key(ec.SECP256R1())
        _write_key(self.folder / f"{file}.key", key=key)
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        (self.folder / f"{file}.pub").write_bytes(public)

    def kubeconfig(self, file: Path, *, identity: str, server: str, context: str) -> None:
        """Write a kubeconfig file that stands alone, for the identity issued before."""

        def inline(name: str) -> str:
            return b64encode((self.folder / name).read_bytes()).decode()

        user = {
            "client-certificate-data": inline(f"{identity}.crt"),
            "client-key-data": inline(f"{identity}.key"),
        }
        cluster = {"server": server, "certificate-authority-data": inline("ca.crt")}
        document: Mapping[str, object] = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": context, "cluster": cluster}],
            "users": [{"name": context, "user": user}],
            "contexts": [{"name": context, "context": {"cluster": context, "user": context}}],
            "current-context": context,
        }
        file.touch(mode=0o600)
        file.write_text(yaml.safe_dump(document))


def _builder(
    *, subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + _LIFETIME)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _name(subject: Subject) -> x509.Name:
    groups = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in subject.groups]
    return x509.Name([*groups, x509.NameAttribute(NameOID.COMMON_NAME, subject.user)])


def general_name(name: str) -> x509.GeneralName:
    """Return a DNS name or an IP address in the form of a certificate."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write_key(file: Path, *, key: ec.EllipticCurvePrivateKey) -> None:
    file.touch(mode=0o600)
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
