"""Real keys that sign JWTs, made once for each id, and tokens as no library would make them."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, RSAAlgorithm


class Signer(Protocol):
    """Whatever signs tokens."""

    def sign(self, claims: Mapping[str, Any], **header: Any) -> str:
        """A token that says this; ``header`` is added to its header."""

    def read(self, token: str) -> dict[str, Any]:
        """What a token of this signer says, whatever that is; jwt.PyJWTError for another's."""


_SIGNATURE_ALONE: Any = {f"verify_{claim}": False for claim in ("exp", "iat", "nbf", "aud", "iss")}


@dataclass(frozen=True)
class SigningKey:
    """A key pair and its id."""

    kid: str
    algorithm: str
    private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

    def sign(self, claims: Mapping[str, Any], **header: Any) -> str:
        """See Signer."""
        headers = {"kid": self.kid, **header}
        return jwt.encode(dict(claims), self.private, algorithm=self.algorithm, headers=headers)

    def read(self, token: str) -> dict[str, Any]:
        """See Signer."""
        return jwt.decode(token, self.pem, [self.algorithm], _SIGNATURE_ALONE)

    def signature(self, data: bytes) -> bytes:
        """The bare signature."""
        return jwt.get_algorithm_by_name(self.algorithm).sign(data, self.private)

    @property
    def jwk(self) -> dict[str, Any]:
        """The public part, as a JWKS holds it."""
        public = self.private.public_key()
        if isinstance(public, rsa.RSAPublicKey):
            fields = RSAAlgorithm.to_jwk(public, as_dict=True)
        else:
            fields = ECAlgorithm.to_jwk(public, as_dict=True)
        fields.pop("key_ops", None)
        named = {"kid": self.kid, "alg": self.algorithm, "use": "sig", "key_ops": ["verify"]}
        return {**fields, **named}

    @property
    def pem(self) -> bytes:
        """The public part in PEM form."""
        public = self.private.public_key()
        return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@dataclass(frozen=True)
class HmacSecret:
    """A shared secret: HS256, and no id."""

    secret: bytes

    def sign(self, claims: Mapping[str, Any], **header: Any) -> str:
        """See Signer."""
        return compact({"alg": "HS256", "typ": "JWT", **header}, claims, self.mac)

    def read(self, token: str) -> dict[str, Any]:
        """See Signer."""
        return jwt.decode(token, self.secret, ["HS256"], _SIGNATURE_ALONE)

    def mac(self, data: bytes) -> bytes:
        """The bare signature."""
        return hmac.new(self.secret, data, hashlib.sha256).digest()


@cache
def es256(kid: str) -> SigningKey:
    """An elliptic curve key; the same for the same id."""
    return SigningKey(kid, "ES256", ec.generate_private_key(ec.SECP256R1()))


@cache
def rs256(kid: str, bits: int = 2048) -> SigningKey:
    """An RSA key; the same for the same id."""
    return SigningKey(kid, "RS256", rsa.generate_private_key(65537, bits))


def compact(
    header: Mapping[str, Any], claims: Mapping[str, Any] | bytes, sign: Callable[[bytes], bytes]
) -> str:
    """A token put together by hand: any header, any claims, any signature."""
    body = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    signed = f"{_base64(json.dumps(header).encode())}.{_base64(body)}"
    return f"{signed}.{_base64(sign(signed.encode()))}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
