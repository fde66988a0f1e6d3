"""A node's keys, all from one seed, and signatures that cannot be taken for one another.

From the seed come, under separate labels, an Ed25519 pair that signs and a CURVE pair that encrypts. A
node's id is the hash of both public keys, so neither can be exchanged behind its name. Every signature is
made over exact bytes under a `Domain`: what was signed as one thing never verifies as another.
"""

from __future__ import annotations

import base64
import os
import struct
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b

from nacl.bindings import crypto_scalarmult_base
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey
from zmq.utils import z85

from openclaw.ids import NodeId

SEED_BYTES = 32
KEY_BYTES = 32
SIGNATURE_BYTES = 64
Z85_BYTES = 40
ID_BYTES = 10


class Domain(StrEnum):
    """What a signature is for."""

    REQUEST = "request"
    CERTIFICATE = "certificate"
    REVOCATION = "revocation"
    INVITE = "invite"
    PROOF = "proof"
    BATCH = "batch"


@dataclass(frozen=True, slots=True)
class CurvePair:
    """A CURVE key pair in the form that ZeroMQ takes: z85, 40 bytes each."""

    curve_public: bytes
    curve_secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Signer:
    """An Ed25519 pair."""

    public: bytes
    _key: SigningKey = field(repr=False)

    @classmethod
    def from_seed(cls, seed: bytes) -> Signer:
        key = SigningKey(seed)
        return cls(bytes(key.verify_key), key)

    def sign(self, domain: Domain, data: bytes) -> bytes:
        return self._key.sign(_scoped(domain, data)).signature


@dataclass(frozen=True, slots=True)
class NodeKeys:
    """Everything secret that a node has of its own."""

    node_id: NodeId
    signer: Signer
    curve: CurvePair

    @classmethod
    def from_seed(cls, seed: bytes) -> NodeKeys:
        if len(seed) != SEED_BYTES:
            raise ValueError(f"a seed has {SEED_BYTES} bytes, not {len(seed)}")
        signer = Signer.from_seed(derive(seed, b"node signing"))
        curve = curve_pair(derive(seed, b"node curve"))
        return cls(node_id_of(signer.public, z85.decode(curve.curve_public)), signer, curve)

    @property
    def signing_public(self) -> bytes:
        return self.signer.public

    @property
    def curve_public(self) -> bytes:
        return self.curve.curve_public

    @property
    def curve_secret(self) -> bytes:
        return self.curve.curve_secret

    def sign(self, domain: Domain, data: bytes) -> bytes:
        return self.signer.sign(domain, data)


def new_seed() -> bytes:
    return os.urandom(SEED_BYTES)


def derive(secret: bytes, label: bytes) -> bytes:
    """32 bytes that only the holder of `secret` can compute; different for every label."""
    return blake2b(label, digest_size=KEY_BYTES, key=secret, person=b"openclaw-mesh").digest()


def name_of(label: bytes, *public: bytes) -> str:
    """A 16 character name that is the hash of public keys."""
    digest = blake2b(b"".join(public), digest_size=ID_BYTES, person=label).digest()
    return base64.b32encode(digest).decode().lower()


def node_id_of(signing: bytes, curve: bytes) -> NodeId:
    return NodeId(name_of(b"node", signing, curve))


def curve_pair(secret: bytes) -> CurvePair:
    return CurvePair(z85_of(crypto_scalarmult_base(secret)), z85_of(secret))


def gate_pair(gate_secret: bytes) -> CurvePair:
    """The key of a mesh's intro ports: who does not hold the gate secret cannot even shake hands."""
    return curve_pair(derive(gate_secret, b"gate curve"))


def raw_curve_key(key: bytes) -> bytes:
    """A CURVE public key as 32 bytes, from either form; anything else gives b""."""
    if len(key) == KEY_BYTES:
        return key
    if len(key) != Z85_BYTES:
        return b""
    try:
        return z85.decode(key)
    except (KeyError, ValueError, struct.error):
        return b""


def z85_of(raw: bytes) -> bytes:
    encoded: bytes = z85.encode(raw)
    return encoded


def verify(public: bytes, domain: Domain, data: bytes, signature: bytes) -> bool:
    """Whether the holder of `public` signed exactly `data` for `domain`."""
    try:
        VerifyKey(public).verify(_scoped(domain, data), signature)
    except (BadSignatureError, ValueError, TypeError):
        return False
    return True


def _scoped(domain: Domain, data: bytes) -> bytes:
    return b"openclaw-mesh/" + domain.value.encode() + b"\0" + data
