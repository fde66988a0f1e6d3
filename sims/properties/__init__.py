"""What must hold, one property a promise: `all_properties()` is a fresh set for one world."""

from sims.properties.attempts import (
    FirstComeFirstServed,
    KilledWhenTold,
    NobodyEndsWhatCounts,
    NotStartedIsKept,
    OnceIsOnce,
    OnlyWhatWasAssigned,
    OutcomesAreKept,
    StartedIsStored,
    TokensStartOnce,
)
from sims.properties.base import Property, Violated
from sims.properties.bounds import SlotsAreKept
from sims.properties.election import NeverAnOlderLeader, StoredBeforeSaid
from sims.properties.liveness import AllSeeAll, EveryTaskEnds, OneLeader
from sims.properties.placing import DemandIsTrue, GrantsAreTheLeaders, GrantsAreUsedOnce
from sims.properties.tasks import (
    AcceptedIsDurable,
    CancelReachesItsWorker,
    CountsAgree,
    IntentFirst,
    MovesAreLegal,
    OneFinal,
    OutputsAreHere,
    ResultsAreReal,
    RetriesAreCounted,
    TokensAreNew,
)
from sims.properties.views import Views

__all__ = ["EveryTaskEnds", "OneLeader", "Property", "Violated", "all_properties"]


def all_properties() -> tuple[Property, ...]:
    """`Views` stands last: the others judge an event by what the node knew before it."""
    views = Views()
    return (
        AcceptedIsDurable(),
        OneFinal(),
        MovesAreLegal(),
        TokensAreNew(),
        IntentFirst(),
        RetriesAreCounted(),
        ResultsAreReal(),
        OutputsAreHere(),
        CountsAgree(),
        CancelReachesItsWorker(),
        TokensStartOnce(),
        OnceIsOnce(),
        OnlyWhatWasAssigned(views),
        StartedIsStored(),
        NotStartedIsKept(),
        OutcomesAreKept(),
        FirstComeFirstServed(views),
        KilledWhenTold(views),
        NobodyEndsWhatCounts(),
        GrantsAreTheLeaders(views),
        GrantsAreUsedOnce(views),
        DemandIsTrue(views),
        StoredBeforeSaid(),
        NeverAnOlderLeader(),
        SlotsAreKept(),
        EveryTaskEnds(),
        OneLeader(),
        AllSeeAll(),
        views,
    )
