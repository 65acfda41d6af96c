"""Azurite, a real emulator of Blob storage, behind the account's own host name over https."""

from __future__ import annotations

import datetime
import os
import re
import secrets
import subprocess
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from azure.storage.blob import BlobServiceClient, ContainerClient, ContainerSasPermissions, generate_container_sas

from .certificate import Certificate
from .requirements import azurite

HOST = "blob.core.windows.net"


class Blobs:
    """One storage account. `port` is known after `start`; the account's name must lead there before any other method."""

    def __init__(self, folder: Path, account: str, certificate: Certificate) -> None:
        self.account, self.folder, self._certificate = account, folder, certificate
        self.key = b64encode(secrets.token_bytes(64)).decode()
        self.port = 0
        self._log = folder / "azurite.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"https://{self.account}.{HOST}"

    def start(self) -> None:
        """Starts Azurite and waits until it listens (seconds); `RuntimeError` with its own words where it does not."""
        program = azurite()
        if program is None:
            raise RuntimeError("Azurite is not installed; `make azure-test-env` installs it")
        self.folder.mkdir(parents=True, exist_ok=True)
        words = ["node", "--require", str(Path(__file__).parent / "child" / "end_with_parent.js"), str(program)]
        words += ["--blobHost", "127.0.0.1", "--blobPort", "0", "--inMemoryPersistence"]
        words += ["--cert", str(self._certificate.chain), "--key", str(self._certificate.key)]
        words += ["--skipApiVersionCheck", "--disableTelemetry"]
        environment = {**os.environ, "AZURITE_ACCOUNTS": f"{self.account}:{self.key}"}
        with self._log.open("wb") as out:
            settings: dict[str, Any] = {"cwd": self.folder, "env": environment, "stdout": out, "stderr": out}
            self._process = subprocess.Popen(words, stdin=subprocess.PIPE, **settings)
        end = time.monotonic() + 60
        while time.monotonic() < end and self._process.poll() is None:
            found = re.search(r"successfully listens on https://127\.0\.0\.1:(\d+)", self._log.read_text())
            if found:
                self.port = int(found[1])
                return
            time.sleep(0.05)
        self.stop()
        raise RuntimeError(f"Azurite does not listen: {self._log.read_text()}")

    @property
    def calls(self) -> list[str]:
        """Requests so far, as `PUT CONTAINER/NAME`, in order; without the queries, which are signed."""
        return [
            f"{verb} {path}" for verb, path in re.findall(r'"([A-Z]+) /([^ ?"]*)[^"]*" \d{3}', self._log.read_text())
        ]

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.communicate(timeout=10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.communicate()
            self._process = None

    @property
    def service(self) -> BlobServiceClient:
        return BlobServiceClient(self.url, credential=self.key)

    def make_container(self, name: str) -> ContainerClient:
        container = self.service.get_container_client(name)
        if not container.exists():
            container.create_container()
        return container

    def sas(self, container: str, hours: float = 1) -> str:
        """A shared access signature of a container, as startPendingUpload and listSecrets give it."""
        expiry = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=hours)
        rights = ContainerSasPermissions(read=True, add=True, create=True, write=True, delete=True, list=True)
        return generate_container_sas(self.account, container, account_key=self.key, permission=rights, expiry=expiry)

    def split(self, url: str) -> tuple[str, str]:
        """Container and prefix of a blob's address in this account."""
        found = re.fullmatch(rf"https://{self.account}\.{re.escape(HOST)}(?::443)?/([^/]+)/?(.*)", url)
        if not found:
            raise ValueError(f"{url} is no address in the account {self.account}")
        return found[1], found[2]

    def list(self, container: str, prefix: str = "") -> dict[str, dict[str, str]]:
        """Names under a prefix and their metadata; nothing where the container is missing."""
        client = self.service.get_container_client(container)
        if not client.exists():
            return {}
        found = client.list_blobs(name_starts_with=prefix, include=["metadata"])
        return {blob.name: dict(blob.metadata or {}) for blob in found}

    def _under(self, container: str, prefix: str) -> Iterator[tuple[str, str]]:
        """Names, and what they are relative to a prefix that is a folder or one file."""
        for name in self.list(container, prefix):
            rest = name[len(prefix) :]
            if not rest:
                yield name, Path(name).name
            elif not prefix or prefix.endswith("/") or rest.startswith("/"):
                yield name, rest.lstrip("/")

    def download(self, container: str, prefix: str, folder: Path) -> list[Path]:
        """Writes the blobs under a prefix into a folder."""
        client, written = self.service.get_container_client(container), []
        for name, relative in self._under(container, prefix):
            target = folder / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(client.download_blob(name).readall())
            written.append(target)
        return written

    def upload(self, container: str, prefix: str, folder: Path) -> list[str]:
        """Writes a folder's files under a prefix."""
        client, names = self.make_container(container), []
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            names.append(f"{prefix.rstrip('/')}/{file.relative_to(folder).as_posix()}")
            with file.open("rb") as data:
                client.upload_blob(names[-1], data, overwrite=True)
        return names
