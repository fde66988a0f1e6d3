"""Whether a machine that came with an invite is let in: an admin's decision, from the roster alone.

How often an invite has been used is what the roster says, so the ledger is on disk with the certificates and
is shared with the other admins as fast as the roster is. Asking twice gives the same certificate twice.
"""

from __future__ import annotations

from openclaw.config import ROSTER_RECORDS_MAX
from openclaw.errors import Junk
from openclaw.trust.certificates import Capability, Certificate, Invite, Request, seal, unseal
from openclaw.trust.intro import Join, Joined, Refused, fitting
from openclaw.trust.invites import ASK_AGAIN, expired
from openclaw.trust.keys import Domain, Signer, verify
from openclaw.trust.roster import Roster


class Admission:
    """`own` signs as this admin, `root` (only where the mesh was made) certifies other admins."""

    def __init__(self, roster: Roster, own: Signer, root: Signer | None) -> None:
        self._roster, self._own, self._root = roster, own, root

    def answer(self, join: Join, now_wall: float) -> tuple[Joined | Refused, tuple[bytes, ...]]:
        """The answer, and the new certificate where there is one: to be on disk before the answer leaves."""
        try:
            invite = unseal(join.invite, Invite)
            request = unseal(join.request, Request)
        except Junk as error:
            return Refused("garbled", f"the invite cannot be read: {error}. {ASK_AGAIN}"), ()
        earlier = self._roster.issued_under(invite.id)
        refusal = self._refusal(join, invite, request)
        if refusal is None and request.node in earlier:
            return self._welcome(earlier[request.node].issuer, earlier[request.node].paper), ()
        refusal = refusal or self._late(invite, len(earlier), now_wall)
        if refusal is not None:
            return refusal, ()
        signer = self._own
        if Capability.ADMIN in invite.capabilities:
            if self._root is None:
                return Refused("not_here", "only the machine where this mesh was made can let admins in"), ()
            signer = self._root
        certificate = Certificate(join.request, invite.capabilities, now_wall, signer.public, invite.uses)
        paper = seal(signer, certificate)
        return self._welcome(signer.public, paper), (paper,)

    def _refusal(self, join: Join, invite: Invite, request: Request) -> Refused | None:
        """What no passing of time can mend or break."""
        roster = self._roster
        if invite.mesh != roster.mesh_id or request.mesh != roster.mesh_id:
            return Refused("other_mesh", f"this invite is for another mesh. {ASK_AGAIN}")
        if roster.revoked(invite.id):
            return Refused("token_revoked", f"this invite was revoked. {ASK_AGAIN}")
        by_root = invite.issuer == roster.root_public
        if not roster.certifies(invite.issuer) or (Capability.ADMIN in invite.capabilities and not by_root):
            return Refused("token_revoked", f"whoever made this invite may not let anybody in. {ASK_AGAIN}")
        if request.invite != invite.id or not verify(invite.key, Domain.PROOF, join.request, join.proof):
            return Refused("garbled", f"the request was not made with this invite's key. {ASK_AGAIN}")
        if roster.revoked(request.node):
            return Refused(
                "revoked", "this machine's keys are revoked: begin a new node in an empty state folder"
            )
        return None

    def _late(self, invite: Invite, used: int, now_wall: float) -> Refused | None:
        if used >= invite.uses:
            return Refused("token_used", f"this invite has been used already. {ASK_AGAIN}")
        if invite.expires <= now_wall:
            gone = expired(now_wall - invite.expires)
            return Refused(gone.kind, str(gone))
        if len(self._roster.records()) >= ROSTER_RECORDS_MAX:
            return Refused("full", "the roster of this mesh is full")
        return None

    def _welcome(self, issuer: bytes, paper: bytes) -> Joined:
        """Its certificate behind the one that it rests on; then what else fits, admins first."""
        rest = self._roster.records()
        return Joined(fitting((*self._roster.supports(issuer), paper, *rest)))
