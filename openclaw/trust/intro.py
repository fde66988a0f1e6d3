"""What is said on the intro port, and how a machine asks to be let in.

Everybody here holds the gate secret and nothing more is known of them: frames are small, every paper is verified,
and a joiner believes an answer only when its own certificate leads back to the root key in its token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from msgspec import DecodeError, Struct, msgpack
from msgspec import Meta as Bound

from openclaw.config import INTRO_BYTES_MAX
from openclaw.errors import BadToken, Junk
from openclaw.records import Name, Text
from openclaw.trust.certificates import PAPER_BYTES_MAX, Id, Request, seal
from openclaw.trust.invites import Token
from openclaw.trust.keys import SIGNATURE_BYTES, CurvePair, Domain, NodeKeys, Signer, gate_pair, raw_curve_key
from openclaw.trust.roster import Roster

Paper = Annotated[bytes, Bound(max_length=PAPER_BYTES_MAX)]
Papers = Annotated[tuple[Paper, ...], Bound(max_length=64)]
Addresses = Annotated[tuple[Name, ...], Bound(max_length=16)]
PAPERS_BYTES_MAX = INTRO_BYTES_MAX - 2048  # leaves room for the addresses


class _Frame(Struct, frozen=True, array_like=True, tag_field="type", tag=str.lower):
    """Base of what is said; the tag is the class's name in lower case."""


class Join(_Frame, frozen=True):
    """Let me in: an admin's invite, my signed request, and the invite key's signature over that request."""

    invite: Paper
    request: Paper
    proof: Annotated[bytes, Bound(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]


class Joined(_Frame, frozen=True):
    """You are in: your certificate, after those that it rests on, and what else of the roster found room."""

    papers: Papers


class Refused(_Frame, frozen=True):
    """No, and why, for people."""

    kind: Name
    message: Text


class Elsewhere(_Frame, frozen=True):
    """I am no admin; these intro ports are those of admins."""

    addresses: Annotated[tuple[Name, ...], Bound(max_length=64)] = ()


class Introduce(_Frame, frozen=True):
    """I am a member: my papers. And you?"""

    node: Id
    papers: Papers


class Introduced(_Frame, frozen=True):
    """So am I: mine, and where my mesh port may be reached."""

    node: Id
    papers: Papers
    addresses: Addresses = ()


Frame = Join | Joined | Refused | Elsewhere | Introduce | Introduced
encode = msgpack.Encoder().encode
_decoder: msgpack.Decoder[Frame] = msgpack.Decoder(Frame)


def decode(data: bytes) -> Frame:
    """Raises Junk on anything that is not a frame."""
    if len(data) > INTRO_BYTES_MAX:
        raise Junk("too long for an intro frame")
    try:
        return _decoder.decode(data)
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Junk(f"not an intro frame: {error}") from None


def fitting(papers: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """As many of them, from the first on, as go into one answer. The rest comes over the mesh port."""
    room = PAPERS_BYTES_MAX
    taken: list[bytes] = []
    for paper in dict.fromkeys(papers):
        room -= len(paper) + 8
        if room < 0 or len(taken) == 64:
            break
        taken.append(paper)
    return tuple(taken)


@dataclass(frozen=True, slots=True)
class Joining:
    """A machine that holds a token and wants in."""

    token: Token
    keys: NodeKeys
    name: str

    @property
    def gate(self) -> CurvePair:
        return gate_pair(self.token.gate_secret)

    def question(self) -> bytes:
        terms = self.token.terms()
        curve = raw_curve_key(self.keys.curve_public)
        paper = seal(
            self.keys.signer, Request(terms.mesh, self.keys.signing_public, curve, self.name, terms.id)
        )
        proof = Signer.from_seed(self.token.invite_seed).sign(Domain.PROOF, paper)
        return encode(Join(self.token.invite, paper, proof))

    def read(self, answer: bytes) -> tuple[bytes, ...] | Elsewhere:
        """The papers that make us a member, or whom to ask. Raises BadToken when refused, Junk on nonsense."""
        match decode(answer):
            case Joined(papers):
                return self._checked(papers)
            case Elsewhere() as elsewhere:
                return elsewhere
            case Refused(kind, message):
                raise BadToken(message, kind=kind)
            case _:
                raise Junk("an answer to another question")

    def _checked(self, papers: tuple[bytes, ...]) -> tuple[bytes, ...]:
        roster = Roster(self.token.mesh_id, self.token.root_public)
        roster.add_all(papers)
        if not roster.allows(self.keys.node_id):
            raise Junk("an answer without a certificate of ours that counts")
        return papers
