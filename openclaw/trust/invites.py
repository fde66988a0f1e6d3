"""Invite tokens: the one line that lets a machine in.

A token holds what a new machine needs and nothing else: the mesh's root key (so that nobody can pass off another
mesh as this one), the gate secret (so that it can speak to the intro port at all), the invite an admin signed, the
invite's own key, and where to ask. It is a secret: it never goes into a log, and `redact` takes it out of any text.
"""

from __future__ import annotations

import base64
import binascii
import re
from hashlib import blake2b
from typing import Annotated

from msgspec import DecodeError, msgpack
from msgspec import Meta as Bound

from openclaw.errors import BadToken, Junk
from openclaw.records import Name, Record
from openclaw.trust.certificates import Invite, Key, MeshId, mesh_id_of, unseal
from openclaw.trust.keys import Signer

PREFIX = "oc1_"
VERSION = 1
CHECK_BYTES = 4
TOKEN_CHARS_MAX = 4096
HINTS_MAX = 16
ASK_AGAIN = "Ask for a new one: openclaw node invite (on a machine of the mesh)"
_ANY_TOKEN = re.compile(r"\boc[0-9]+_[A-Za-z0-9_-]+={0,2}")
_FUTURE = re.compile(r"oc([2-9]|[1-9][0-9]+)_")


class Token(Record, frozen=True):
    """What stands in a token."""

    version: int
    root_public: Key
    name: Name
    gate_secret: Key
    invite: Annotated[bytes, Bound(max_length=1024)]
    invite_seed: Key
    hints: Annotated[tuple[Name, ...], Bound(max_length=HINTS_MAX)] = ()

    @property
    def mesh_id(self) -> MeshId:
        return mesh_id_of(self.root_public)

    def __repr__(self) -> str:
        return f"Token({self.mesh_id}, {PREFIX}…)"

    def text(self) -> str:
        data = msgpack.encode(self)
        return PREFIX + base64.urlsafe_b64encode(data + _check(data)).rstrip(b"=").decode()

    def terms(self) -> Invite:
        """The invite in it. Raises BadToken when the token does not fit together."""
        try:
            invite = unseal(self.invite, Invite)
        except Junk as error:
            raise _garbled(str(error)) from None
        if invite.mesh != self.mesh_id or Signer.from_seed(self.invite_seed).public != invite.key:
            raise _garbled("its parts belong to different meshes")
        return invite


def parse_token(text: str, now_wall: float, mesh_id: MeshId | None = None) -> Token:
    """The token that somebody pasted; line breaks and blanks do not matter. Raises BadToken.

    Who is in the mesh `mesh_id` already does not need it, so there an old token of that mesh does no harm.
    """
    compact = "".join(text.split())
    if _FUTURE.match(compact):
        raise BadToken("this invite token was made by a newer version. Upgrade this machine's installation")
    if not compact.startswith(PREFIX):
        raise _garbled(f"it does not begin with {PREFIX}")
    if len(compact) > TOKEN_CHARS_MAX:
        raise _garbled(f"it has {len(compact)} characters")
    token = _decode(compact.removeprefix(PREFIX))
    terms = token.terms()
    if terms.expires <= now_wall and token.mesh_id != mesh_id:
        raise expired(now_wall - terms.expires)
    return token


def expired(ago_s: float) -> BadToken:
    return BadToken(f"this invite token expired {_ago(ago_s)} ago. {ASK_AGAIN}", kind="token_expired")


def redact(text: str) -> str:
    """`text` without any token in it."""
    return _ANY_TOKEN.sub(f"{PREFIX}…", text)


def _decode(body: str) -> Token:
    try:
        raw = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
        data, check = raw[:-CHECK_BYTES], raw[-CHECK_BYTES:]
        if check != _check(data):
            raise _garbled("some of its characters are missing or changed")
        token = msgpack.decode(data, type=Token)
    except (binascii.Error, ValueError, DecodeError, RecursionError):
        raise _garbled("some of its characters are missing or changed") from None
    if token.version != VERSION:
        raise BadToken("this invite token was made by a newer version. Upgrade this machine's installation")
    return token


def _check(data: bytes) -> bytes:
    """Tells a token that was cut off in copying from one that is refused."""
    return blake2b(data, digest_size=CHECK_BYTES, person=b"token").digest()


def _garbled(why: str) -> BadToken:
    return BadToken(f"this is not a whole invite token: {why}. Paste all of it, or: {ASK_AGAIN}")


def _ago(seconds: float) -> str:
    for unit, size in (("day", 86400.0), ("hour", 3600.0), ("minute", 60.0)):
        if seconds >= size:
            count = int(seconds / size)
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return f"{int(seconds)} seconds"
