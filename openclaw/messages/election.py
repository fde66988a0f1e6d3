"""Who leads: candidacies, announcements, turns."""

from __future__ import annotations

from openclaw.ids import NO_EPOCH, Epoch
from openclaw.messages.base import Message
from openclaw.messages.placing import DemandOf, GrantRow
from openclaw.records import Count, Seconds, Text, Tier


class Elect(Message, frozen=True):
    """I would stand for `term`; you rank above me. Will you?"""

    term: Count


class ElectAnswer(Message, frozen=True):
    """`standing`: I take it from here. Else `leader` is one that I hear, or `stored` why the term is old."""

    term: Count
    standing: bool
    tier: Tier
    stored: Epoch
    leader: Epoch = NO_EPOCH


class Coordinator(Message, frozen=True):
    """I lead under `epoch`, which is on my disk."""

    epoch: Epoch


class Higher(Message, frozen=True):
    """I have stored a higher epoch than the one that you lead under."""

    epoch: Epoch


class Offer(Message, frozen=True):
    """Your turn: lead under `term` if you announce it within `expires_s`; here is what I know."""

    term: Count
    expires_s: Seconds
    demands: tuple[DemandOf, ...] = ()
    outstanding: tuple[GrantRow, ...] = ()


class OfferRefused(Message, frozen=True):
    term: Count
    reason: Text
