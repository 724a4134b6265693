"""Certificates for tests: an authority that signs members and clients on the loopback address."""

import ipaddress
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from als import clock
from als.store.etcd.tls import TlsFiles
from etcd_nodes import ServerTls


class Authority:
    """A certificate authority in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._numbers = count()
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"authority {folder.name}")])
        unsigned = self._builder(self._name, self._key, 30).add_extension(x509.BasicConstraints(True, None), True)
        self.file = folder / "authority.pem"
        self.file.write_bytes(self._signed(unsigned))

    def member(self, days: int = 30, address: str = "127.0.0.1") -> ServerTls:
        """Give a member's files; `days` below 0 makes a certificate that has expired."""
        return ServerTls(self.file, *self._issue("member", days, address))

    def client(self) -> TlsFiles:
        """Give a client's files."""
        return TlsFiles(self.file, *self._issue("client", 30, "127.0.0.1"))

    def _issue(self, kind: str, days: int, address: str) -> tuple[Path, Path]:
        name = f"{kind}-{next(self._numbers)}"  # members read their files again for each connection
        key = ec.generate_private_key(ec.SECP256R1())
        uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]  # etcd is a client of itself, too
        unsigned = (
            self._builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key, days)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), False)
            .add_extension(x509.ExtendedKeyUsage(uses), False)
        )
        certificate_file, key_file = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        certificate_file.write_bytes(self._signed(unsigned))
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return certificate_file, key_file

    def _builder(self, name: x509.Name, key: ec.EllipticCurvePrivateKey, days: int) -> x509.CertificateBuilder:
        now = datetime.fromtimestamp(clock.wall_s(), UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=60))
            .not_valid_after(now + timedelta(days=days))
        )

    def _signed(self, unsigned: x509.CertificateBuilder) -> bytes:
        return unsigned.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
