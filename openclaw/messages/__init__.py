"""What nodes say to each other. Frozen structs, arrays on the wire, bounded in every field.

A field is only ever appended, with a default: an older node skips it, a newer one fills it in. An unknown
message is counted and dropped by `wire`. Who sent a message is what CURVE says and is never in it.
"""

from __future__ import annotations

from openclaw.messages.base import Hash, Message, Status
from openclaw.messages.election import Coordinator, Elect, ElectAnswer, Higher, Offer, OfferRefused
from openclaw.messages.gossip import (
    Ack,
    Beat,
    Digest,
    Gossip,
    Head,
    MetaHave,
    MetaWant,
    Nack,
    Ping,
    PingRequest,
    Rumour,
)
from openclaw.messages.keeping import (
    Adopt,
    Found,
    Guard,
    Guarded,
    Keeping,
    Kept,
    Known,
    Release,
    Released,
    Seek,
    Superseded,
    Unguarded,
)
from openclaw.messages.placing import (
    Ask,
    Assign,
    Cancel,
    Demand,
    DemandOf,
    DemandRow,
    End,
    Grant,
    GrantRow,
    Have,
    Holding,
    Item,
    Leased,
    Outcome,
    Outcomes,
    OutcomesStored,
    Probe,
    Recall,
    Refused,
    Renew,
    Report,
    Returned,
    Room,
    Started,
    Unused,
)
from openclaw.messages.service import DialBulk, Query, Reply, RosterSync

GossipMessage = Ping | Ack | PingRequest | Nack | Gossip | Digest | MetaWant | MetaHave
ElectionMessage = Elect | ElectAnswer | Coordinator | Higher | Offer | OfferRefused
LeaderMessage = Demand | Report
OwnerMessage = (
    Grant | Returned | Started | Outcomes | Have | Cancel | Room | Guarded | Unguarded | Superseded | Keeping
    | Released | Found | Known | Renew
)  # fmt: skip
GuardianMessage = Guard | Release | Seek | Unguarded
WorkerMessage = Assign | OutcomesStored | Ask | End | Probe | Recall | Seek | Adopt | Leased
CoreMessage = GossipMessage | ElectionMessage | LeaderMessage | OwnerMessage | GuardianMessage | WorkerMessage
RuntimeMessage = RosterSync | Query | Reply | DialBulk
AnyMessage = CoreMessage | RuntimeMessage

EARLY = (
    Ping,
    Ack,
    PingRequest,
    Nack,
    MetaWant,
    MetaHave,
    Digest,
    Demand,
    Grant,
    Report,
    Probe,
    Room,
    Ask,
    Recall,
)
"""What may leave before the commit of the batch that it was made in. Nothing else may, ever.

A `Head` carries incarnation and epoch; the machines put only stored ones there (see `gossip.membership`).
`Assign` is not here: its intent is on disk first, which costs one group commit and saves every duplicate.
"""

PATIENT = (Started, OutcomesStored)
"""News that nobody waits for: it may lie in the inbox until something else comes, or a moment has passed."""

__all__ = [
    "EARLY",
    "PATIENT",
    "Ack",
    "Adopt",
    "AnyMessage",
    "Ask",
    "Assign",
    "Beat",
    "Cancel",
    "Coordinator",
    "CoreMessage",
    "Demand",
    "DemandOf",
    "DemandRow",
    "DialBulk",
    "Digest",
    "Elect",
    "ElectAnswer",
    "ElectionMessage",
    "End",
    "Found",
    "Gossip",
    "GossipMessage",
    "Grant",
    "GrantRow",
    "Guard",
    "Guarded",
    "GuardianMessage",
    "Hash",
    "Have",
    "Head",
    "Higher",
    "Holding",
    "Item",
    "Keeping",
    "Kept",
    "Known",
    "LeaderMessage",
    "Leased",
    "Message",
    "MetaHave",
    "MetaWant",
    "Nack",
    "Offer",
    "OfferRefused",
    "Outcome",
    "Outcomes",
    "OutcomesStored",
    "OwnerMessage",
    "Ping",
    "PingRequest",
    "Probe",
    "Query",
    "Recall",
    "Refused",
    "Release",
    "Released",
    "Renew",
    "Reply",
    "Report",
    "Returned",
    "Room",
    "RosterSync",
    "Rumour",
    "RuntimeMessage",
    "Seek",
    "Started",
    "Status",
    "Superseded",
    "Unguarded",
    "Unused",
    "WorkerMessage",
]
