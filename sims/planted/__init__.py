"""Bugs planted in the core from outside: each replaces one function for a while, and breaks a rule of its own.

No two break the same rule, and each names the properties of which one must catch it. The core itself has no switches
for this.
"""

from sims.planted.base import Mutant
from sims.planted.election import ELECTION
from sims.planted.guards import GUARDS
from sims.planted.leases import LEASES
from sims.planted.lifecycles import LIFECYCLES
from sims.planted.membership import MEMBERSHIP
from sims.planted.owners import OWNERS
from sims.planted.placing import PLACING
from sims.planted.workers import WORKERS

__all__ = ["MUTANTS", "Mutant"]

MUTANTS: tuple[Mutant, ...] = (
    *MEMBERSHIP,
    *ELECTION,
    *PLACING,
    *OWNERS,
    *GUARDS,
    *LEASES,
    *WORKERS,
    *LIFECYCLES,
)
