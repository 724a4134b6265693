"""Certificates on the way to etcd: the files, and why a member and we do not accept each other.

gRPC tells only that a connection failed, so a handshake of our own, made after such a failure, finds out the reason.
"""

import socket
import ssl
from pathlib import Path
from typing import NamedTuple

from als.store.etcd.errors import EtcdRefusedError


class TlsFiles(NamedTuple):
    """PEM files: the authority that signed the members' certificates, and the client's own certificate with its key."""

    authority: Path
    certificate: Path | None = None
    key: Path | None = None


class Tls:
    """What the files held when they were read."""

    def __init__(self, files: TlsFiles) -> None:
        """Read and check the files. Raises EtcdRefusedError."""
        try:
            self.authority, self.certificate, self.key = (None if file is None else file.read_bytes() for file in files)
        except OSError as error:
            raise EtcdRefusedError(f"{error.filename} cannot be read: {error.strerror}") from error
        self._context = _context(files)

    def trouble(self, address: str, wait_s: float) -> EtcdRefusedError | None:
        """Try a handshake; give what is wrong with a certificate, None when nothing proves that it is that.

        A member that hangs up proves nothing: it may be on its way down.
        """
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        try:
            with (
                socket.create_connection((host, int(port)), timeout=wait_s) as plain,
                self._context.wrap_socket(plain, server_hostname=host) as encrypted,
            ):
                encrypted.recv(1)  # under TLS 1.3 a client's certificate is refused after the handshake
        except ssl.SSLCertVerificationError as error:
            return EtcdRefusedError(f"the certificate of etcd at {address} is not accepted: {error.verify_message}")
        except ssl.SSLError as error:
            if "ALERT" in (error.reason or ""):
                return EtcdRefusedError(f"etcd at {address} does not accept our certificate ({error.reason})")
            return None
        except OSError:
            return None
        return None


def _context(files: TlsFiles) -> ssl.SSLContext:
    """Make what a handshake needs. Raises EtcdRefusedError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2"])
    try:
        context.load_verify_locations(files.authority)
    except ssl.SSLError as error:
        raise EtcdRefusedError(f"{files.authority} is no certificate of an authority in PEM form") from error
    if files.certificate is not None:
        try:
            context.load_cert_chain(files.certificate, files.key, password="")  # else it would ask at the terminal
        except ssl.SSLError as error:
            pair = f"{files.certificate} and {files.key}"
            raise EtcdRefusedError(f"{pair} are no certificate with its key, unencrypted, in PEM form") from error
    return context
