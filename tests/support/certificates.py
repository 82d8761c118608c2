"""An authority of the tests, and the Secrets of type kubernetes.io/tls that it fills."""

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from dev.cluster import pki
from slipstream_runtime.contract import AUTHORITIES
from slipstream_runtime.web.certificates import CERTIFICATE, PRIVATE_KEY


class Authority:
    """Certificate authority with a key of its own."""

    def __init__(self) -> None:
        self._name = _name("company")
        self._key = ec.generate_private_key(ec.SECP256R1())
        ours = _unsigned(self._name, self._name, self._key).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.pem = _pem(ours.sign(self._key, hashes.SHA256()))

    def issue(self, host: str) -> dict[str, bytes]:
        """Return the entries of a Secret with a new certificate of this DNS name or IP address."""
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = _unsigned(_name("server"), self._name, key).add_extension(
            x509.SubjectAlternativeName([pki.general_name(host)]), critical=False
        )
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        chain = _pem(leaf.sign(self._key, hashes.SHA256()))
        return {CERTIFICATE: chain, PRIVATE_KEY: private, AUTHORITIES: self.pem}

    def fill(self, folder: Path, host: str) -> Path:
        """Write the entries of `issue` as the files of a folder, and return it."""
        folder.mkdir(exist_ok=True)
        for name, content in self.issue(host).items():
            (folder / name).write_bytes(content)
        return folder


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _unsigned(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
    )
