"""A store in a bucket of Google Cloud Storage, or of an emulator (`STORAGE_EMULATOR_HOST`).

Every write carries a generation, and none is retried here: the client library's own retries overwrite newer
objects after a lost answer (docs/protocol.md#stores), and the caller cannot account for attempts that it does not see.
"""

from __future__ import annotations

import base64
import os
import random
import time
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import quote

import certifi
import google.auth
import google_crc32c
import urllib3
from google.api_core.exceptions import Conflict, NotFound
from google.api_core.exceptions import PreconditionFailed as GenerationMismatch
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import AuthorizedSession, Request
from google.cloud.storage import Client
from google.cloud.storage.retry import DEFAULT_RETRY
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies, select_proxy

from springline.paths import ObjectPath, relative_path
from springline.storage.gcs_errors import FAULTS, read_error, read_refused, reasons_in, write_error
from springline.storage.port import (
    IfAbsent,
    ObjectInfo,
    ObjectStore,
    Precondition,
    PreconditionFailed,
    PutResult,
    Stored,
    StoredObject,
    StoreMisconfigured,
    StoreRetry,
    StoreUnknown,
)
from springline.storage.threads import Threads

EMULATOR_VARIABLE = "STORAGE_EMULATOR_HOST"
THREADS = 48
TIMEOUT_SECONDS = (5.0, 20.0)
"""To connect, and between two bytes of an answer: well below any activity's own time-out."""
READ_ATTEMPTS = 3
_READ_PAUSE_SECONDS = 0.1
_LISTING_RETRY_SECONDS = 20.0
_NO_METADATA_REQUESTS = "DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA"
_SCOPES = ("https://www.googleapis.com/auth/devstorage.read_write",)


class GcsStore(ObjectStore):
    """The objects of `bucket` whose names begin with `prefix` and a slash; all of them without a prefix.

    The token of an object is its generation. Credentials are the application default ones; an emulator needs
    none. `timeout` is in seconds, to connect and between two bytes of an answer; `threads` is the number
    of requests under way at once.
    Raises `StoreMisconfigured` if there are no credentials, `InvalidPath` for a prefix that is not a valid path.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        timeout: tuple[float, float] = TIMEOUT_SECONDS,
        threads: int = THREADS,
    ) -> None:
        self.bucket = bucket
        self.prefix = relative_path(prefix.strip("/"), field="prefix")
        self._start = f"{self.prefix}/" if self.prefix else ""
        self._timeout = timeout
        self._threads = Threads("springline-gcs", threads)
        # By default the library requests the bucket's metadata on a thread of its own, for traces.
        os.environ.setdefault(_NO_METADATA_REQUESTS, "true")
        self._credentials = _credentials()
        self._session: Any = AuthorizedSession(self._credentials)  # type: ignore[no-untyped-call]
        adapter = HTTPAdapter(pool_connections=4, pool_maxsize=threads, max_retries=0)
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)
        self._client = Client(project=None, credentials=self._credentials, _http=self._session)
        self._bucket = self._client.bucket(bucket)
        self._token_request = Request()
        self._pool = _pool(self._client.api_endpoint, timeout, threads)

    async def get(self, path: ObjectPath) -> StoredObject | None:
        """Return the object, or None; bytes and generation come from one answer."""
        return await self._threads.run(lambda: self._reading(lambda: self._get(path)))

    async def put(self, path: ObjectPath, data: bytes, precondition: Precondition) -> PutResult:
        """Write if the precondition holds."""
        generation: int | None = 0 if isinstance(precondition, IfAbsent) else _generation(precondition.token)
        if generation is None:
            return PreconditionFailed()
        return await self._threads.run(lambda: self._put(path, data, generation))

    async def head(self, path: ObjectPath) -> ObjectInfo | None:
        """Return size and generation, or None."""
        return await self._threads.run(lambda: self._reading(lambda: self._head(path)))

    async def delete(self, path: ObjectPath, *, if_version: str) -> bool:
        """Delete the object if its generation is `if_version`."""
        generation = _generation(if_version)
        return generation is not None and await self._threads.run(lambda: self._delete(path, generation))

    async def list(self, prefix: ObjectPath, *, start_after: ObjectPath | None = None) -> AsyncIterator[ObjectInfo]:
        """Yield the objects below `prefix` in name order."""
        if prefix and not prefix.endswith("/"):
            own = await self.head(prefix) if start_after is None or prefix > start_after else None
            if own is not None:
                yield own
            prefix = ObjectPath(prefix + "/")
        pages = self._client.list_blobs(
            self._bucket,
            prefix=self._start + prefix,
            start_offset=None if start_after is None else self._start + start_after,
            fields="items(name,size,generation),nextPageToken",
            timeout=self._timeout,
            retry=DEFAULT_RETRY.with_timeout(_LISTING_RETRY_SECONDS),
        ).pages
        while (page := await self._threads.run(lambda: self._page(pages))) is not None:
            for blob in page:
                path = ObjectPath(blob.name[len(self._start) :])
                if start_after is None or path > start_after:
                    yield ObjectInfo(path, int(blob.size), str(blob.generation))

    @property
    def url(self) -> str:
        """The URL of the bucket, with the prefix."""
        return f"gs://{self.bucket}/{self.prefix}".rstrip("/")

    async def prepare(self) -> None:
        """Create the bucket in an emulator; the owner of a real one creates it, with its location and rules."""
        if os.environ.get(EMULATOR_VARIABLE):
            await self._threads.run(self._make_bucket)

    async def aclose(self) -> None:
        """Wait for requests under way, then close connections and threads."""
        await self._threads.aclose()
        self._session.close()
        self._pool.clear()

    def _make_bucket(self) -> None:
        try:
            self._client.create_bucket(self._bucket, project="emulated", timeout=self._timeout, retry=None)
        except Conflict:
            return  # It exists.
        except FAULTS as error:
            raise write_error(f"make the bucket gs://{self.bucket}", error) from error

    def _put(self, path: ObjectPath, data: bytes, generation: int) -> PutResult:
        what = f"put {self._where(path)}"
        blob = self._bucket.blob(self._start + path)
        try:
            # The service checks the sum in both kinds of upload. The library must not: if it finds a resumable
            # upload corrupt, it deletes the object without a precondition, even one that another writer put since.
            blob.crc32c = base64.b64encode(_crc32c(data)).decode()
            blob.upload_from_string(
                data,
                content_type="application/octet-stream",
                if_generation_match=generation,
                timeout=self._timeout,
                checksum=None,
                retry=None,
            )
        except GenerationMismatch:
            return PreconditionFailed()
        except FAULTS as error:
            raise write_error(what, error) from error
        if blob.generation is None:
            raise StoreUnknown(f"{what}: the answer names no generation")
        return Stored(str(blob.generation))

    def _delete(self, path: ObjectPath, generation: int) -> bool:
        try:
            self._bucket.delete_blob(
                self._start + path, if_generation_match=generation, timeout=self._timeout, retry=None
            )
        except (GenerationMismatch, NotFound):
            return False
        except FAULTS as error:
            raise write_error(f"delete {self._where(path)}", error) from error
        return True

    def _get(self, path: ObjectPath) -> StoredObject | None:
        answer = self._ask(path, f"{self._client.api_endpoint}/download/storage/v1", "alt=media")
        if answer is None:
            return None
        expected = _stored_crc32c(answer.headers.get("x-goog-hash", ""))
        if expected is not None and expected != _crc32c(answer.data):
            raise StoreRetry(f"get {self._where(path)}: the bytes do not match their checksum")
        generation = answer.headers.get("x-goog-generation")
        if generation is None:
            raise StoreMisconfigured(f"get {self._where(path)}: the answer names no generation")
        return StoredObject(answer.data, generation)

    def _head(self, path: ObjectPath) -> ObjectInfo | None:
        answer = self._ask(path, f"{self._client.api_endpoint}/storage/v1", "fields=size,generation")
        if answer is None:
            return None
        try:
            facts = answer.json()
            return ObjectInfo(path, int(facts["size"]), str(facts["generation"]))
        except (ValueError, KeyError, TypeError) as error:
            raise StoreRetry(f"head {self._where(path)}: the answer cannot be read: {error}") from error

    def _ask(self, path: ObjectPath, base: str, query: str) -> urllib3.BaseHTTPResponse | None:
        """Ask for an object by a plain request, at a third of the client library's CPU; None if there is none."""
        url = f"{base}/b/{quote(self.bucket, safe='')}/o/{quote(self._start + path, safe='')}?{query}"
        answer = self._request(url)
        if answer.status == 401:
            self._credentials.refresh(self._token_request)
            answer = self._request(url)
        if answer.status == 200:
            return answer
        text = answer.data.decode(errors="replace")[:500]
        if answer.status == 404 and "bucket does not exist" not in text:
            return None
        raise read_refused(f"read {self._where(path)}", answer.status, _reasons(answer), text)

    def _request(self, url: str) -> urllib3.BaseHTTPResponse:
        # Ask for a compressed object as it is stored, or checksum and generation would not match the bytes.
        headers = {"Accept-Encoding": "gzip"}
        self._credentials.before_request(self._token_request, "GET", url, headers)
        return self._pool.request("GET", url, headers=headers, decode_content=False, retries=False)

    def _reading(self, read: Callable[[], Any]) -> Any:
        """Try a read a few times: it changes nothing, and most faults of a connection pass."""
        for attempt in range(1, READ_ATTEMPTS + 1):
            try:
                return read()
            except StoreRetry:
                if attempt == READ_ATTEMPTS:
                    raise
            except FAULTS as error:
                failure = read_error(f"read from gs://{self.bucket}", error)
                if attempt == READ_ATTEMPTS or isinstance(failure, StoreMisconfigured):
                    raise failure from error
            time.sleep(_READ_PAUSE_SECONDS * 4 ** (attempt - 1) * random.uniform(0.5, 1.5))
        raise AssertionError("unreachable")

    def _page(self, pages: Any) -> tuple[Any, ...] | None:
        try:
            page = next(pages, None)
        except FAULTS as error:
            raise read_error(f"list gs://{self.bucket}", error) from error
        return None if page is None else tuple(page)

    def _where(self, path: ObjectPath) -> str:
        return f"gs://{self.bucket}/{self._start}{path}"


def _credentials() -> Any:
    emulator = os.environ.get(EMULATOR_VARIABLE)
    if emulator:
        if not emulator.startswith(("http://", "https://")):
            raise StoreMisconfigured(f"{EMULATOR_VARIABLE}={emulator!r}: give a URL such as http://127.0.0.1:4443")
        return AnonymousCredentials()  # type: ignore[no-untyped-call]
    try:
        credentials, _ = google.auth.default(scopes=_SCOPES)
    except GoogleAuthError as error:
        raise StoreMisconfigured(
            f"no Google Cloud credentials: {error} "
            f"(run `gcloud auth application-default login`, or set {EMULATOR_VARIABLE} for an emulator)"
        ) from error
    return credentials


def _crc32c(data: bytes) -> bytes:
    return int(google_crc32c.value(data)).to_bytes(4, "big")


def _pool(endpoint: str, timeout: tuple[float, float], connections: int) -> urllib3.PoolManager:
    """Return a pool of connections with the same proxies and certificates as the client library's."""
    options: dict[str, Any] = {
        "maxsize": connections,
        "timeout": urllib3.Timeout(connect=timeout[0], read=timeout[1]),
        "ca_certs": os.environ.get("REQUESTS_CA_BUNDLE") or certifi.where(),
    }
    proxy = select_proxy(endpoint, get_environ_proxies(endpoint))
    return urllib3.PoolManager(**options) if proxy is None else urllib3.ProxyManager(proxy, **options)


def _generation(token: str) -> int | None:
    """Return the generation in a token, or None for another store's token, which can match no object.

    0 is not a generation either: on the wire it would mean that there must be no object.
    """
    if not (token.isascii() and token.isdecimal()):
        return None
    return int(token) or None


def _stored_crc32c(header: str) -> bytes | None:
    """Return the CRC32C in an `x-goog-hash` header (`crc32c=BASE64,md5=BASE64`), or None if it holds none."""
    for part in header.split(","):
        name, _, value = part.strip().partition("=")
        if name == "crc32c":
            return base64.b64decode(value)
    return None


def _reasons(answer: urllib3.BaseHTTPResponse) -> list[str]:
    try:
        return reasons_in(answer.json())
    except ValueError:
        return []
