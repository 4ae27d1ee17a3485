"""Who is let in, and whose tables they see: tokens, scopes, tenants, key sets."""

from __future__ import annotations

import asyncio
import base64
import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from springline.api.app import create_app
from springline.api.auth import KeySet, TokenVerifier
from springline.errors import Refused
from springline.paths import Scope
from tests.api.conftest import EVENTS, ROUTES, TABLES, V1, World, add, assert_refused, fresh, ndjson, new_key
from tests.support.local_api import ACME, RIVAL, SECRET


def signed(claims: dict[str, Any], key: Any = SECRET, **options: Any) -> str:
    return jwt.encode(claims, key, **({"algorithm": "HS256"} | options))


GOOD: dict[str, Any] = {
    "tenant": "acme",
    "workspace": "prod",
    "sub": "tester",
    "exp": 4_000_000_000,
    "aud": "springline",
}


def without(name: str) -> dict[str, Any]:
    return {claim: value for claim, value in GOOD.items() if claim != name}


def tampered() -> str:
    head, body, signature = signed(GOOD | {"scope": "read"}).split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    claims["tenant"] = "rival"
    forged = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"{head}.{forged}.{signature}"


BAD_TOKENS: list[tuple[str | None, str, str]] = [
    (None, "MISSING_TOKEN", "Authorization"),
    ("", "MISSING_TOKEN", "Authorization"),
    ("Bearer", "MISSING_TOKEN", "Authorization"),
    ("Bearer ", "MISSING_TOKEN", "Authorization"),
    ("Basic dXNlcjpwYXNz", "MISSING_TOKEN", "Authorization"),
    (signed(GOOD), "MISSING_TOKEN", "Authorization"),
    ("Bearer junk", "INVALID_TOKEN", "Authorization"),
    ("Bearer " + signed(GOOD | {"exp": 1}), "INVALID_TOKEN", "exp"),
    ("Bearer " + signed(GOOD | {"nbf": 4_000_000_000}), "INVALID_TOKEN", "nbf"),
    ("Bearer " + signed(GOOD | {"aud": "other"}), "INVALID_TOKEN", "aud"),
    ("Bearer " + signed(without("exp")), "INVALID_TOKEN", "exp"),
    ("Bearer " + signed(without("aud")), "INVALID_TOKEN", "aud"),
    ("Bearer " + signed(without("sub")), "INVALID_TOKEN", "sub"),
    ("Bearer " + signed(without("tenant")), "INVALID_TOKEN", "tenant"),
    ("Bearer " + signed(without("workspace")), "INVALID_TOKEN", "workspace"),
    ("Bearer " + signed(GOOD | {"tenant": "../rival"}), "INVALID_TOKEN", "tenant"),
    ("Bearer " + signed(GOOD | {"workspace": ""}), "INVALID_TOKEN", "workspace"),
    ("Bearer " + signed(GOOD | {"tenant": "a" * 246}), "INVALID_TOKEN", "tenant"),
    ("Bearer " + signed(GOOD | {"workspace": "a" * 300}), "INVALID_TOKEN", "workspace"),
    ("Bearer " + signed(GOOD | {"tenant": 7}), "INVALID_TOKEN", "tenant"),
    ("Bearer " + signed(GOOD | {"sub": "a\nb"}), "INVALID_TOKEN", "sub"),
    ("Bearer " + signed(GOOD | {"sub": "a\0b"}), "INVALID_TOKEN", "sub"),
    ("Bearer " + signed(GOOD | {"sub": "\ud800"}), "INVALID_TOKEN", "sub"),
    ("Bearer " + signed(GOOD | {"sub": "\u00e9" * 513}), "INVALID_TOKEN", "sub"),
    ("Bearer " + signed(GOOD, "another secret that is long enough"), "INVALID_TOKEN", "Authorization"),
    ("Bearer " + signed(GOOD, SECRET * 2, algorithm="HS512"), "INVALID_TOKEN", "alg"),
    ("Bearer " + jwt.encode(GOOD, "", algorithm="none"), "INVALID_TOKEN", "alg"),
    ("Bearer " + tampered(), "INVALID_TOKEN", "Authorization"),
]


@pytest.mark.parametrize(("header", "code", "field"), BAD_TOKENS)
@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_nobody_without_a_good_token_is_let_in(
    world: World, method: str, path: str, header: str | None, code: str, field: str
) -> None:
    del world.client.headers["Authorization"]
    headers = {} if header is None else {"Authorization": header}
    answer = await world.client.request(method, path, headers=headers, content=b"{")
    assert_refused(answer, 401, code, field)
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    if header and len(header) > 40:
        assert header.removeprefix("Bearer ") not in answer.text
        assert header.split(".")[1][:20] not in answer.text, "a part of the token is echoed"
    assert not world.store.objects


async def test_a_body_is_not_read_before_its_sender_is_known(world: World) -> None:
    sent = 0

    async def endless() -> Any:
        nonlocal sent
        while True:
            sent += 1
            yield b"x" * 1024

    answer = await world.client.post(TABLES, content=endless(), headers={"Authorization": "Bearer junk"})
    assert answer.status_code == 401
    assert sent <= 1


@pytest.mark.parametrize(
    ("scopes", "method", "path", "needed"),
    [
        (granted, method, path, needed)
        for granted in ((), ("read",), ("write",), ("operate",), ("read", "write"))
        for method, path, needed in (
            ("POST", TABLES, "write"),
            ("POST", f"{TABLES}/adopt", "write"),
            ("GET", f"{TABLES}/flights", "read"),
            ("POST", f"{TABLES}/flights/commits/stage", "write"),
            ("POST", f"{TABLES}/flights/commits", "write"),
            ("GET", f"{TABLES}/flights/commits/01946b1c-0000-7000-8000-000000000001", "read"),
            ("POST", EVENTS, "write"),
            ("POST", f"{V1}/ledger/ingest", "operate"),
            ("GET", f"{V1}/ledger/status", "read"),
            ("GET", f"{V1}/state/digest", "read"),
            ("GET", f"{V1}/runs", "read"),
            ("GET", f"{V1}/backfills/x", "read"),
            ("POST", f"{V1}/backfills/x/pause", "write"),
            ("GET", f"{V1}/hold", "read"),
            ("PUT", f"{V1}/hold", "operate"),
            ("POST", f"{V1}/sensors/x/pause", "operate"),
            ("POST", f"{V1}/sensors/x/messages", "write"),
        )
    ],
)
async def test_scopes(world: World, scopes: tuple[str, ...], method: str, path: str, needed: str) -> None:
    bodies: dict[str, dict[str, Any]] = {
        f"{V1}/hold": {"held": False},
        f"{V1}/sensors/x/messages": {"message_id": "m", "payload": {}},
        TABLES: {"name": "other", "columns": [{"name": "x", "type": "long"}]},
        f"{TABLES}/adopt": {"name": "other", "location": "nothing/here"},
        f"{TABLES}/flights/commits/stage": {"payload": ndjson(add("a"))},
        f"{TABLES}/flights/commits": {
            "read_version": 0,
            "staged_path": "x",
            "staged_version": "1",
            "idempotency_key": new_key(),
        },
    }
    await world.create("flights")
    before = world.snapshot()
    answer = await world.client.request(method, path, json=bodies.get(path), headers=world.bearer(scopes=scopes))
    if needed in scopes:
        assert answer.status_code not in (401, 403)
    else:
        assert_refused(answer, 403, "FORBIDDEN", "scope", remedy=needed)
        assert world.snapshot() == before


async def test_scopes_may_come_as_a_list(world: World) -> None:
    await world.create("flights")
    for claim, status in ((["read"], 200), (["write"], 403), ({"read": True}, 403), (["reader", 7], 403)):
        token = signed(GOOD | {"scope": claim})
        answer = await world.client.get(f"{TABLES}/flights", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == status


async def test_another_tenants_table_is_not_there(world: World) -> None:
    table = await world.create("flights")
    staged = await world.stage(table, add("a.parquet"))
    key = new_key()
    await world.commit(table, staged, key)
    before = world.snapshot()
    for stranger in (RIVAL, Scope("acme", "dev"), Scope("rival", "prod")):
        headers = world.bearer(stranger)
        for name in (table, "flights"):
            for ask in (
                world.client.get(f"{TABLES}/{name}", headers=headers),
                world.client.get(f"{TABLES}/{name}/commits/{key}", headers=headers),
                world.client.post(
                    f"{TABLES}/{name}/commits/stage", headers=headers, json={"payload": ndjson(add("b"))}
                ),
                world.client.post(
                    f"{TABLES}/{name}/commits",
                    headers=headers,
                    json={"read_version": 1, **staged, "idempotency_key": new_key()},
                ),
            ):
                assert_refused(await ask, 404, "TABLE_NOT_FOUND", "table", value=name)
    assert world.snapshot() == before


OWN = tuple(f"{place}/" for scope in (ACME, RIVAL) for place in (scope.prefix, scope.tables))


async def test_two_tenants_may_use_one_name_and_one_key(world: World) -> None:
    key = new_key()
    versions = []
    for scope in (ACME, RIVAL):
        world.client.headers.update(world.bearer(scope))
        table = await world.create("flights")
        staged = await world.stage(table, add(f"{scope.tenant}.parquet"))
        versions.append((await world.commit(table, staged, key)).json())
        assert all(path.startswith(OWN) for path in world.store.objects)
    assert versions[0]["version"] == versions[1]["version"] == 1
    assert versions[0]["delta_log_path"] != versions[1]["delta_log_path"]


class Jwks(http.server.BaseHTTPRequestHandler):
    keys: ClassVar[list[dict[str, Any]]] = []
    status: ClassVar[int] = 200
    fetches: ClassVar[int] = 0

    def do_GET(self) -> None:
        type(self).fetches += 1
        self.send_response(self.status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps({"keys": self.keys}).encode())

    def log_message(self, format: str, *args: Any) -> None:
        return None


@pytest.fixture
def jwks() -> Iterator[str]:
    Jwks.keys, Jwks.status, Jwks.fetches = [], 200, 0
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Jwks)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/keys"
    server.shutdown()
    server.server_close()
    thread.join()


def rsa_key(kid: str) -> tuple[rsa.RSAPrivateKey, dict[str, Any]]:
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = jwt.algorithms.RSAAlgorithm.to_jwk(private.public_key(), as_dict=True)
    return private, public | {"kid": kid, "use": "sig", "alg": "RS256"}


async def test_rs256_tokens_are_verified_with_the_published_keys(world: World, jwks: str) -> None:
    ours, published = rsa_key("one")
    theirs, _ = rsa_key("one")
    Jwks.keys = [published]
    app = create_app(replace(world.deps, verifier=TokenVerifier(KeySet(jwks)), metrics=fresh()))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api.test") as client:

        async def ask(token: str) -> httpx.Response:
            return await client.get(f"{TABLES}/flights", headers={"Authorization": f"Bearer {token}"})

        claims = GOOD | {"scope": "read"}
        good = signed(claims, ours, algorithm="RS256", headers={"kid": "one"})
        assert_refused(await ask(good), 404, "TABLE_NOT_FOUND", "table")
        for bad, field in (
            (signed(claims, theirs, algorithm="RS256", headers={"kid": "one"}), "Authorization"),
            (signed(claims, ours, algorithm="RS256", headers={"kid": "two"}), "Authorization"),
            (signed(claims, ours, algorithm="RS256"), "Authorization"),
            (signed(claims, SECRET, headers={"kid": "one"}), "alg"),
            (signed(claims | {"exp": 1}, ours, algorithm="RS256", headers={"kid": "one"}), "exp"),
        ):
            assert_refused(await ask(bad), 401, "INVALID_TOKEN", field)
        fetched = Jwks.fetches
        for _ in range(20):
            await ask(signed(claims, ours, algorithm="RS256", headers={"kid": "guessed"}))
        assert Jwks.fetches <= fetched + 1, "unknown key ids must not make us hammer the key server"


async def test_keys_that_cannot_be_fetched_are_our_trouble_not_the_callers(world: World, jwks: str) -> None:
    ours, _ = rsa_key("one")
    Jwks.status = 500
    app = create_app(replace(world.deps, verifier=TokenVerifier(KeySet(jwks)), metrics=fresh()))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api.test") as client:
        token = signed(GOOD, ours, algorithm="RS256", headers={"kid": "one"})
        answer = await client.get(f"{TABLES}/flights", headers={"Authorization": f"Bearer {token}"})
        assert_refused(answer, 503, "UNAVAILABLE", "SPRINGLINE_JWT_JWKS_URL", value=None)
        assert answer.headers["Retry-After"]
        fetched = Jwks.fetches
        for _ in range(20):
            assert (
                await client.get(f"{TABLES}/flights", headers={"Authorization": f"Bearer {token}"})
            ).status_code == 503
        assert Jwks.fetches == fetched, "a key server that does not answer is asked again and again"


async def test_keys_are_fetched_again_soon_after_a_failure(jwks: str) -> None:
    ours, published = rsa_key("one")
    keys = KeySet(jwks, after_failure_s=0.1)
    token = signed(GOOD, ours, algorithm="RS256", headers={"kid": "one"})
    Jwks.status = 500
    with pytest.raises(Refused):
        await keys.key_for(token)
    Jwks.status, Jwks.keys = 200, [published]
    await asyncio.sleep(0.15)
    assert await keys.key_for(token)


async def test_keys_that_are_no_key_set_are_our_trouble_too(jwks: str) -> None:
    ours, _ = rsa_key("one")
    token = signed(GOOD, ours, algorithm="RS256", headers={"kid": "one"})
    for keys in ([], ["x"], [{"kty": "none"}]):
        Jwks.keys = keys  # type: ignore[assignment]
        with pytest.raises(Refused) as caught:
            await KeySet(jwks).key_for(token)
        assert caught.value.refusal.code == "UNAVAILABLE"
