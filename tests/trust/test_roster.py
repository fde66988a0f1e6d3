"""Who is in is a function of the set of papers: checked for forgery, for revocation, and for any order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import msgpack
from trust_helpers import ADMIN, MESH_ID, NOW, ROOT, certificate, keys, request

from openclaw import config
from openclaw.errors import Junk
from openclaw.ids import NodeId
from openclaw.trust.certificates import (
    Certificate,
    Request,
    Revocation,
    mesh_id_of,
    paper_hash,
    seal,
    unseal,
)
from openclaw.trust.keys import NodeKeys, Signer, raw_curve_key
from openclaw.trust.roster import Roster

CHIEF, OTHER_CHIEF, ANNA, BERT, EVE = (keys(number) for number in range(1, 6))
INVITE = "i" * 16


def revocation(
    subject: str, issuer: Signer = ROOT, keeps: tuple[bytes, ...] = (), mesh: str = MESH_ID
) -> bytes:
    return seal(issuer, Revocation(mesh, subject, issuer.public, keeps))


def roster(*papers: bytes) -> Roster:
    made = Roster(MESH_ID, ROOT.public)
    for paper in papers:
        made.add(paper)
    return made


def test_members_of_root_and_admins_are_in_and_known_by_their_keys() -> None:
    made = roster(certificate(CHIEF, capabilities=ADMIN), certificate(ANNA, CHIEF.signer))
    assert set(made.members()) == {CHIEF.node_id, ANNA.node_id}
    assert made.members()[ANNA.node_id].capabilities == {"shell", "skill"}
    assert made.curve_key(ANNA.node_id) == ANNA.curve_public
    assert made.by_curve_key(ANNA.curve_public) == ANNA.node_id
    assert made.by_curve_key(raw_curve_key(ANNA.curve_public)) == ANNA.node_id
    assert made.status_of_key(ANNA.curve_public) == "member"
    assert made.status_of_key(EVE.curve_public) == "unknown"
    assert made.allows(ANNA.node_id)
    assert not made.allows(EVE.node_id)
    assert not made.add(certificate(ANNA, CHIEF.signer))


@pytest.mark.parametrize("key", [b"", b"x", b"\xff" * 40, b"#" * 40, b"0" * 41, bytes(32)])
def test_any_bytes_may_be_asked_about_as_a_key(key: bytes) -> None:
    made = roster(certificate(CHIEF, capabilities=ADMIN))
    assert made.by_curve_key(key) is None
    assert made.status_of_key(key) == "unknown"


def forged() -> list[bytes]:
    good = certificate(ANNA, CHIEF.signer)
    flipped = good[:-1] + bytes([good[-1] ^ 1])
    claims_root = Certificate(request(EVE), ADMIN, NOW, ROOT.public)
    stolen_keys = Request(MESH_ID, ANNA.signing_public, raw_curve_key(EVE.curve_public), "eve")
    not_by_anna = seal(EVE.signer, Certificate(good[1:], (), NOW, EVE.signing_public))
    data = msgpack.encode(claims_root)
    return [
        flipped,
        good + b"x",
        certificate(EVE, ANNA.signer),  # by a member that is no admin
        certificate(EVE, EVE.signer, ADMIN),  # by herself
        certificate(EVE, CHIEF.signer, ADMIN),  # only the root makes admins
        b"c" + EVE.signer._key.sign(data).signature + data,  # claims the root as issuer
        seal(
            CHIEF.signer,
            Certificate(b"q" + bytes(64) + msgpack.encode(stolen_keys), (), NOW, CHIEF.signing_public),
        ),
        not_by_anna,
        request(EVE),
        revocation(ANNA.node_id, EVE.signer),
        revocation(CHIEF.node_id, ANNA.signer),
        revocation(ANNA.node_id, mesh="a" * 16),
    ]


@pytest.mark.parametrize("index", range(len(forged())))
def test_forged_papers_are_junk_and_change_nothing(index: int) -> None:
    made = roster(certificate(CHIEF, capabilities=ADMIN), certificate(ANNA, CHIEF.signer))
    before = made.digest()
    with pytest.raises(Junk):
        made.add(forged()[index])
    assert made.digest() == before
    assert set(made.members()) == {CHIEF.node_id, ANNA.node_id}


def test_papers_of_another_mesh_are_junk() -> None:
    other = Signer.from_seed(b"o" * 32)
    body = Request(mesh_id_of(other.public), ANNA.signing_public, raw_curve_key(ANNA.curve_public), "a")
    paper = seal(ROOT, Certificate(seal(ANNA.signer, body), (), NOW, ROOT.public))
    with pytest.raises(Junk, match="another mesh"):
        roster().add(paper)


def test_a_revocation_beats_every_certificate_also_later_ones() -> None:
    chief = certificate(CHIEF, capabilities=ADMIN)
    made = roster(chief, certificate(ANNA, CHIEF.signer), revocation(ANNA.node_id, CHIEF.signer))
    made.add(certificate(ANNA, issued=NOW + 1000))
    assert not made.allows(ANNA.node_id)
    assert made.members()[ANNA.node_id].revoked
    assert made.members()[ANNA.node_id].capabilities == frozenset()
    assert made.curve_key(ANNA.node_id) is None
    assert made.by_curve_key(ANNA.curve_public) is None
    assert made.status_of_key(ANNA.curve_public) == "revoked"


def test_a_node_may_revoke_itself_and_nobody_else() -> None:
    made = roster(certificate(ANNA), certificate(BERT), revocation(ANNA.node_id, ANNA.signer))
    assert not made.allows(ANNA.node_id)
    with pytest.raises(Junk):
        made.add(revocation(BERT.node_id, ANNA.signer))


def test_a_stolen_admin_falls_and_lets_nobody_in_any_more_but_keeps_whom_it_had() -> None:
    anna = certificate(ANNA, CHIEF.signer)
    papers = [certificate(CHIEF, capabilities=ADMIN), certificate(OTHER_CHIEF, capabilities=ADMIN), anna]
    made = roster(*papers, revocation(CHIEF.node_id, OTHER_CHIEF.signer, (paper_hash(anna),)))
    made.add(certificate(EVE, CHIEF.signer, issued=1.0))
    assert not made.certifies(CHIEF.signing_public)
    assert made.allows(ANNA.node_id)
    assert not made.allows(EVE.node_id)
    assert made.pending() == (EVE.node_id,)


def test_the_root_takes_the_word_back_that_a_stolen_admin_gave() -> None:
    made = roster(
        certificate(CHIEF, capabilities=ADMIN),
        certificate(ANNA),
        revocation(ANNA.node_id, CHIEF.signer),
        revocation(CHIEF.node_id),
    )
    assert made.allows(ANNA.node_id)


def test_an_invite_used_twice_lets_neither_in_until_one_is_revoked() -> None:
    made = roster(certificate(ANNA, invite=INVITE))
    assert made.allows(ANNA.node_id)
    made.add(certificate(EVE, invite=INVITE))
    assert not made.allows(ANNA.node_id)
    assert made.status_of_key(EVE.curve_public) == "unknown"
    assert set(made.pending()) == {ANNA.node_id, EVE.node_id}
    made.add(revocation(EVE.node_id))
    assert made.allows(ANNA.node_id)
    assert not made.allows(EVE.node_id)


def test_an_invite_for_two_or_twice_for_one_node_is_no_abuse() -> None:
    made = roster(certificate(ANNA, invite=INVITE), certificate(ANNA, invite=INVITE, issued=NOW + 1))
    assert made.allows(ANNA.node_id)
    two = roster(*(certificate(node, invite=INVITE, uses=2) for node in (ANNA, BERT)))
    assert two.allows(ANNA.node_id)
    assert two.allows(BERT.node_id)


def test_a_curve_key_stays_with_whom_it_was_first_certified_for() -> None:
    body = Request(MESH_ID, EVE.signing_public, raw_curve_key(ANNA.curve_public), "eve")
    thief = seal(ROOT, Certificate(seal(EVE.signer, body), (), NOW + 1, ROOT.public))
    made = roster(thief, certificate(ANNA))
    assert made.by_curve_key(ANNA.curve_public) == ANNA.node_id
    assert unseal(unseal(thief, Certificate).request, Request).node in made.pending()


def test_the_roster_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openclaw.trust.roster.ROSTER_RECORDS_MAX", 2)
    made = roster(certificate(ANNA), certificate(BERT))
    with pytest.raises(Junk, match="full"):
        made.add(certificate(EVE))
    assert config.ROSTER_RECORDS_MAX >= 1000


ANNAS = certificate(ANNA, CHIEF.signer, invite=INVITE)
PAPERS = (
    certificate(CHIEF, capabilities=ADMIN),
    certificate(OTHER_CHIEF, capabilities=ADMIN),
    ANNAS,
    certificate(ANNA, OTHER_CHIEF.signer, issued=NOW + 5),
    certificate(BERT, OTHER_CHIEF.signer, invite=INVITE),
    certificate(EVE, CHIEF.signer),
    revocation(BERT.node_id, OTHER_CHIEF.signer),
    revocation(CHIEF.node_id, OTHER_CHIEF.signer, (paper_hash(ANNAS),)),
    revocation(OTHER_CHIEF.node_id, CHIEF.signer),
    revocation(CHIEF.node_id, CHIEF.signer, (paper_hash(ANNAS),)),
    revocation(EVE.node_id, EVE.signer),
)


@given(st.permutations(PAPERS), st.lists(st.sampled_from(PAPERS)), st.integers(0, len(PAPERS)))
def test_any_order_any_repetition_and_any_split_give_one_roster(
    order: list[bytes], again: list[bytes], cut: int
) -> None:
    whole = Roster(MESH_ID, ROOT.public)
    whole.add_all(PAPERS)
    parts = Roster(MESH_ID, ROOT.public)
    learned: list[bytes] = []
    for chunk in (order[:cut], again, order[cut:], order):
        learned += parts.add_all(chunk)
    assert sorted(learned) == sorted(whole.records())
    assert parts.digest() == whole.digest()
    assert parts.members() == whole.members()
    assert parts.pending() == whole.pending()


@given(st.sets(st.sampled_from(PAPERS)))
def test_records_can_be_taken_in_one_by_one_in_their_order(papers: set[bytes]) -> None:
    made = Roster(MESH_ID, ROOT.public)
    made.add_all(sorted(papers))
    copy = roster(*made.records())
    assert copy.digest() == made.digest()


@given(st.binary(max_size=300), st.sampled_from([b"", b"c", b"r"]))
def test_arbitrary_bytes_are_only_ever_junk(data: bytes, kind: bytes) -> None:
    with pytest.raises(Junk):
        roster().add(kind + data)


@given(st.sampled_from(PAPERS[:3]), st.integers(0, 10_000), st.integers(0, 7))
def test_one_flipped_bit_makes_any_paper_junk(paper: bytes, place: int, bit: int) -> None:
    made = roster(*PAPERS[:2])
    changed = bytearray(paper)
    changed[place % len(paper)] ^= 1 << bit
    with pytest.raises(Junk):
        made.add(bytes(changed))


def test_a_seed_gives_the_same_node_and_its_two_keys_have_nothing_in_common() -> None:
    one, same = NodeKeys.from_seed(b"s" * 32), NodeKeys.from_seed(b"s" * 32)
    assert (one.node_id, one.curve, one.signing_public) == (same.node_id, same.curve, same.signing_public)
    assert len(one.node_id) == 16
    assert NodeId(one.node_id) != NodeKeys.from_seed(b"t" * 32).node_id
    assert raw_curve_key(one.curve_secret) != b"s" * 32
    assert one.curve_secret.decode() not in repr(one)
