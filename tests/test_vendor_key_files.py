"""The files of a vendor's keys: public ones of a folder, read and written, and the private one, whole or absent."""

import os
import stat
from pathlib import Path

import pytest

from als import vendorkeys
from als_tools import signing_keys
from serial_samples import VENDOR_PUBLIC


def test_vendor_keys_of_a_folder(tmp_path: Path) -> None:
    """All NAME.pub are read by name, other files are left alone, and a missing folder has none."""
    vendorkeys.write(tmp_path / "acme.pub", VENDOR_PUBLIC)
    vendorkeys.write(tmp_path / "other.corp-2.pub", bytes(32))
    (tmp_path / "notes.txt").write_text("nothing")
    assert vendorkeys.read_folder(tmp_path) == {"acme": VENDOR_PUBLIC, "other.corp-2": bytes(32)}
    assert vendorkeys.read_folder(tmp_path / "none") == {}
    assert stat.S_IMODE((tmp_path / "acme.pub").stat().st_mode) == 0o644


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"AAAA",
        b"not base64 at all",
        vendorkeys.encode(bytes(32))[:-3],
        vendorkeys.encode(bytes(32)) * 2,
        b"-----BEGIN PUBLIC KEY-----\n" + vendorkeys.encode(bytes(32)),
        b"\xff" * 44,
        b"A" * 1_000_000,
    ],
)
def test_damaged_vendor_key_is_named(tmp_path: Path, data: bytes) -> None:
    """What is not one line with the base64 of 32 bytes is refused, naming the file."""
    path = tmp_path / "acme.pub"
    path.write_bytes(data)
    with pytest.raises(vendorkeys.VendorKeyError, match=r"acme\.pub"):
        vendorkeys.read_folder(tmp_path)


def test_vendor_key_with_windows_line_end(tmp_path: Path) -> None:
    """A file that went through an editor on Windows, with its mark and CRLF, is read all the same."""
    (tmp_path / "acme.pub").write_bytes(b"\xef\xbb\xbf" + vendorkeys.encode(VENDOR_PUBLIC).strip() + b"\r\n")
    assert vendorkeys.read_folder(tmp_path) == {"acme": VENDOR_PUBLIC}


def test_vendor_key_files_that_confuse(tmp_path: Path) -> None:
    """A name that no catalog can hold, and one key under two names, are refused, naming the file."""
    vendorkeys.write(tmp_path / "acme.pub", VENDOR_PUBLIC)
    vendorkeys.write(tmp_path / "acme2.pub", VENDOR_PUBLIC)
    with pytest.raises(vendorkeys.VendorKeyError, match=r"acme2\.pub: holds the same key as acme\.pub"):
        vendorkeys.read_folder(tmp_path)
    (tmp_path / "acme2.pub").rename(tmp_path / "ac me.pub")
    with pytest.raises(vendorkeys.VendorKeyError, match=r"ac me\.pub: a vendor's key file is called NAME\.pub"):
        vendorkeys.read_folder(tmp_path)


def test_signing_key_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk fails before the public half is safe, no half of a pair stays behind."""
    synced: list[int] = []

    def failing_fsync(handle: int) -> None:
        synced.append(handle)
        if len(synced) > 2:  # the private key and its folder are on disk by then
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", failing_fsync)
    with pytest.raises(signing_keys.SigningKeyError, match="No space left on device"):
        signing_keys.make(tmp_path / "vendor.pem", None)
    assert list(tmp_path.iterdir()) == []
