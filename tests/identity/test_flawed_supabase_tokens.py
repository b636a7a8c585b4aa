"""Every flaw for which an access token of Supabase is refused."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from refusals import refusal
from signing_keys import HmacSecret, SigningKey, compact, es256, rs256
from supabase_emulator import SupabaseEmulator, User

from sidecar.identity.supabase_tokens import SupabaseTokens
from sidecar.identity.tokens import MAX_TOKEN_BYTES

Make = Callable[[SupabaseEmulator, User], str]


def _changed(**changes: Any) -> Make:
    return lambda supabase, user: supabase.token(user, **changes)


def _headed(**header: Any) -> Make:
    return lambda supabase, user: supabase.signer.sign(supabase.claims(user), **header)


def _by(key: SigningKey, **header: Any) -> Make:
    return lambda supabase, user: key.sign(supabase.claims(user), **header)


def _unsigned(algorithm: str) -> Make:
    header = {"alg": algorithm, "kid": "first"}
    return lambda supabase, user: compact(header, supabase.claims(user), lambda _data: b"")


def _hmac(secret: bytes) -> Make:
    """Signed with HS256 and something public."""
    header = {"alg": "HS256", "kid": "first"}
    return lambda supabase, user: compact(header, supabase.claims(user), HmacSecret(secret).mac)


def _claiming(body: bytes) -> Make:
    """Anything, under a good signature."""
    header = {"alg": "ES256", "kid": "first"}
    return lambda *_: compact(header, body, es256("first").signature)


def _tampered(supabase: SupabaseEmulator, user: User) -> str:
    head, _, signature = supabase.token(user).split(".")
    _, other, _ = supabase.token(replace(user, email="eve@example.com")).split(".")
    return f"{head}.{other}.{signature}"


def _with_crit(supabase: SupabaseEmulator, user: User) -> str:
    header = {"alg": "ES256", "kid": "first", "crit": ["b64"], "b64": True}
    return compact(header, supabase.claims(user), es256("first").signature)


def _cut(supabase: SupabaseEmulator, user: User) -> str:
    return supabase.token(user)[:-2]


FLAWS: dict[str, tuple[Make, str]] = {
    "no token": (lambda *_: "", "form"),
    "words": (lambda *_: "let me in", "form"),
    "dots": (lambda *_: "..", "form"),
    "half a surrogate": (lambda *_: "a.b.\ud800", "form"),
    "not ASCII": (lambda *_: "é.é.é", "form"),
    "too long": (_changed(app_metadata={"x": "x" * MAX_TOKEN_BYTES}), "form"),
    "claims that are a list": (_claiming(b"[]"), "form"),
    "claims that are no JSON": (_claiming(b"{"), "form"),
    "unsigned": (_unsigned("none"), "algorithm"),
    "unsigned, in capitals": (_unsigned("None"), "algorithm"),
    "no signature": (_unsigned("ES256"), "signature"),
    "no algorithm": (lambda s, u: compact({"kid": "first"}, s.claims(u), lambda _: b"x"), "form"),
    "an algorithm that is no text": (_unsigned(5), "form"),  # type: ignore[arg-type]
    "another algorithm": (_unsigned("ES384"), "algorithm"),
    "tampered with": (_tampered, "signature"),
    "cut off": (_cut, "signature"),
    "a stranger's key under a known id": (_by(es256("stranger"), kid="first"), "signature"),
    "a stranger's key": (_by(es256("stranger")), "key"),
    "a stranger's RSA key under a known id": (_by(rs256("stranger"), kid="first"), "algorithm"),
    "the public key as a secret, PEM": (_hmac(es256("first").pem), "algorithm"),
    "the public key as a secret, JWK": (_hmac(str(es256("first").jwk).encode()), "algorithm"),
    "the anonymous secret": (_hmac(b""), "algorithm"),
    "a key that came along": (
        _by(es256("stranger"), kid="stranger", jwk=es256("stranger").jwk),
        "key",
    ),
    "a key that came along under a known id": (
        _by(es256("stranger"), kid="first", jwk=es256("stranger").jwk),
        "signature",
    ),
    "no key id": (lambda s, u: s.signer.sign(s.claims(u), kid=""), "key"),
    "a critical extension": (_headed(crit=["exp"], exp=1), "form"),
    "a critical extension that PyJWT knows": (_with_crit, "form"),
    "a body that is not base64": (_headed(b64=False, crit=["b64"]), "form"),
    "another issuer": (_changed(iss="https://other.supabase.co/auth/v1"), "issuer"),
    "an issuer below ours": (lambda s, u: s.token(u, iss=f"{s.issuer}/"), "issuer"),
    "no issuer": (_changed(iss=None), "claims"),
    "another audience": (_changed(aud="anon"), "audience"),
    "other audiences": (_changed(aud=["anon", "admin"]), "audience"),
    "an audience that holds ours": (_changed(aud="authenticated2"), "audience"),
    "no audience": (_changed(aud=None), "claims"),
    "no expiry": (_changed(exp=None), "claims"),
    "an expiry in words": (_changed(exp="never"), "time"),
    "an expiry in digits": (_changed(exp="99999999999"), "time"),
    "an expiry that is true": (_changed(exp=True), "time"),
    "an endless expiry": (_changed(exp=1e308), "time"),
    "an expiry that is no number": (_changed(exp=float("nan")), "time"),
    "no time of issue": (_changed(iat=None), "claims"),
    "no subject": (_changed(sub=None), "subject"),
    "an empty subject": (_changed(sub=""), "subject"),
    "a subject that is no UUID": (_changed(sub="ada"), "subject"),
    "a subject that is a number": (_changed(sub=5), "subject"),
    "a subject in another spelling": (_changed(sub="{" + "0" * 32 + "}"), "subject"),
    "no role": (_changed(role=None), "role"),
    "a stranger's role": (_changed(role="anon"), "role"),
    "the role of the project's own key": (_changed(role="service_role"), "role"),
}


@pytest.mark.parametrize(("make", "flaw"), FLAWS.values(), ids=FLAWS.keys())
async def test_a_flawed_token_is_refused(
    make: Make, flaw: str, tokens: SupabaseTokens, supabase: SupabaseEmulator, ada: User
) -> None:
    assert await refusal(tokens, make(supabase, ada)) == ("bad_token", flaw)


@pytest.mark.parametrize(
    ("make", "flaw"),
    [
        (_hmac(b"another secret of more than 32 bytes"), "signature"),
        (_hmac(es256("first").pem), "signature"),
        (_hmac(b""), "signature"),
        (lambda s, u: HmacSecret(b"a legacy secret of more than 32 bytes").sign(
            s.claims(u, aud="anon")
        ), "audience"),
        (lambda s, u: HmacSecret(b"a legacy secret of more than 32 bytes").sign(
            s.claims(u, iss="supabase")
        ), "issuer"),
    ],
    ids=["another secret", "the public key", "no secret", "another audience", "another issuer"],
)  # fmt: skip
async def test_a_flawed_legacy_token_is_refused(
    make: Make, flaw: str, legacy_tokens: SupabaseTokens, supabase: SupabaseEmulator, ada: User
) -> None:
    assert await refusal(legacy_tokens, make(supabase, ada)) == ("bad_token", flaw)
