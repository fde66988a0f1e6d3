"""What must hold, one property a promise: `all_properties()` is a fresh set for one world."""

from sims.properties.attempts import (
    EndsAreWitnessed,
    NotStartedIsKept,
    OnceIsOnce,
    OnlyWhatWasAssigned,
    OutcomesAreKept,
    StartedIsStored,
    TokensStartOnce,
)
from sims.properties.base import Property, Violated
from sims.properties.bounds import MessagesAreBounded, NobodySpins, OnceWaitsForItsRoom, SlotsAreKept
from sims.properties.cancelling import CancelReachesItsWorker
from sims.properties.candidates import CandidatesAskAround
from sims.properties.causes import AnswersAreInformed, FirstInFirstPlaced, GivenUpForCause
from sims.properties.counted import Counted
from sims.properties.election import (
    ElectionsHaveReasons,
    EpochsAreStored,
    LeadersSpeak,
    NeverAnOlderLeader,
    TermsRiseByOne,
    TurnsArePlanned,
)
from sims.properties.ending import FirstComeFirstServed, KilledWhenTold, NobodyEndsWhatCounts
from sims.properties.guarding import (
    EndsAreKeptTwice,
    GuardedIsKept,
    IntentsAreKept,
    LowerClaimsYield,
    OneEndStands,
    TakeoversAreEarned,
)
from sims.properties.liveness import (
    AllSeeAll,
    EveryTaskEnds,
    NobodyWaitsForEver,
    NothingIsLeftBehind,
    OneLeader,
    UpIsNotDown,
)
from sims.properties.membership import (
    AccusationsAreAnswered,
    BeatsAreBounded,
    ClaimsOnlyRise,
    QuestionsAreAnswered,
    SettledWhenTold,
    VouchedFirst,
    WakingIsAnnounced,
)
from sims.properties.news import GoodbyesAreSaid, NewsIsPassedOn, TheNewestLoadIsShown
from sims.properties.overlap import NothingOverlaps
from sims.properties.placing import DemandIsTrue, GrantsAreTheLeaders, GrantsAreUsedOnce, TakenBackWhenAsked
from sims.properties.serving import ServedInTurn, UnusedGoesBack
from sims.properties.silence import TheGoneAreFound
from sims.properties.tasks import (
    AcceptedIsDurable,
    CountsAgree,
    IntentFirst,
    MovesAreLegal,
    OneFinal,
    OutputsAreHere,
    ResultsAreReal,
    RetriesAreCounted,
    TokensAreNew,
)
from sims.properties.trust import MembersOnly, WorkerHasTheLastWord
from sims.properties.verdicts import VerdictsAreEarned
from sims.properties.views import Views
from sims.properties.watching import CopiesAreEnded, GraceIsGiven

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
        GuardedIsKept(),
        EndsAreKeptTwice(views),
        IntentsAreKept(),
        TakeoversAreEarned(views),
        LowerClaimsYield(),
        OneEndStands(),
        TokensStartOnce(),
        OnceIsOnce(),
        NothingOverlaps(),
        OnlyWhatWasAssigned(views),
        StartedIsStored(),
        EndsAreWitnessed(views),
        NotStartedIsKept(),
        OutcomesAreKept(views),
        FirstComeFirstServed(views),
        KilledWhenTold(views),
        NobodyEndsWhatCounts(),
        FirstInFirstPlaced(views),
        GivenUpForCause(views),
        AnswersAreInformed(views),
        GraceIsGiven(views),
        CopiesAreEnded(views),
        GrantsAreTheLeaders(views),
        ServedInTurn(views),
        GrantsAreUsedOnce(views),
        UnusedGoesBack(views),
        TakenBackWhenAsked(views),
        DemandIsTrue(views),
        EpochsAreStored(),
        NeverAnOlderLeader(),
        TermsRiseByOne(),
        ElectionsHaveReasons(views),
        CandidatesAskAround(views),
        LeadersSpeak(views),
        TurnsArePlanned(views),
        VouchedFirst(),
        AccusationsAreAnswered(views),
        ClaimsOnlyRise(views),
        VerdictsAreEarned(views),
        QuestionsAreAnswered(views),
        WakingIsAnnounced(views),
        BeatsAreBounded(),
        NewsIsPassedOn(views),
        GoodbyesAreSaid(views),
        TheNewestLoadIsShown(views),
        SettledWhenTold(views),
        UpIsNotDown(views),
        TheGoneAreFound(views),
        WorkerHasTheLastWord(views),
        MembersOnly(views),
        SlotsAreKept(),
        OnceWaitsForItsRoom(),
        MessagesAreBounded(),
        NobodySpins(),
        NobodyWaitsForEver(views),
        EveryTaskEnds(),
        OneLeader(),
        AllSeeAll(),
        NothingIsLeftBehind(),
        Counted(),
        views,
    )
