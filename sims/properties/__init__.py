"""What must hold, one property a promise: `all_properties()` is a fresh set for one world."""

from sims.properties.attempts import NotStartedIsKept, OnceIsOnce, OutcomesAreKept, TokensStartOnce
from sims.properties.base import Property, Violated
from sims.properties.bounds import SlotsAreKept
from sims.properties.election import NeverAnOlderLeader, StoredBeforeSaid
from sims.properties.liveness import AllSeeAll, EveryTaskEnds, OneLeader
from sims.properties.tasks import AcceptedIsDurable, IntentFirst, OneFinal

__all__ = ["EveryTaskEnds", "OneLeader", "Property", "Violated", "all_properties"]


def all_properties() -> tuple[Property, ...]:
    return (
        AcceptedIsDurable(),
        OneFinal(),
        TokensStartOnce(),
        OnceIsOnce(),
        IntentFirst(),
        NotStartedIsKept(),
        OutcomesAreKept(),
        StoredBeforeSaid(),
        NeverAnOlderLeader(),
        SlotsAreKept(),
        EveryTaskEnds(),
        OneLeader(),
        AllSeeAll(),
    )
