"""From a pasted token to membership, and every way in which that is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trust_helpers import DAY, NOW, MemoryRows, keys

from openclaw.config import INTRO_BYTES_MAX
from openclaw.errors import BadState, BadToken, Junk, MeshError, Unavailable
from openclaw.ids import TaskId
from openclaw.records import Batch
from openclaw.trust.batches import leaf, sign_batch, verify_batch
from openclaw.trust.intro import Elsewhere, Joining, Refused, decode, encode
from openclaw.trust.invites import Token, parse_token, redact
from openclaw.trust.keys import Domain, NodeKeys, verify
from openclaw.trust.mesh import Mesh

WORK = frozenset({"skill", "shell"})
HOME, LAPTOP, NAS, EVE = (keys(number) for number in range(10, 14))


def home() -> Mesh:
    return Mesh.create(MemoryRows(), HOME, "home", NOW)


def token_of(mesh: Mesh, uses: int = 1, capabilities: frozenset[str] = WORK) -> str:
    return mesh.invite(NOW + DAY, uses, capabilities, ("192.0.2.1:27461",))


def ask(mesh: Mesh, joining: Joining, at: float = NOW) -> tuple[bytes, ...] | Elsewhere:
    answer, _ = mesh.answer_intro(joining.question(), at, ("192.0.2.9:27461",))
    assert answer is not None
    assert len(answer) <= INTRO_BYTES_MAX
    return joining.read(answer)


def join(mesh: Mesh, node: NodeKeys, text: str, name: str = "laptop") -> Mesh:
    joining = Joining(parse_token(text, NOW), node, name)
    papers = ask(mesh, joining)
    assert not isinstance(papers, Elsewhere)
    return Mesh.adopt(MemoryRows(), node, joining.token, papers)


def refusal(mesh: Mesh, node: NodeKeys, text: str, at: float = NOW) -> BadToken:
    with pytest.raises(BadToken) as caught:
        ask(mesh, Joining(parse_token(text, NOW), node, "x"), at)
    return caught.value


def test_a_token_lets_one_machine_in_and_both_have_the_same_mesh() -> None:
    mesh = home()
    joined = join(mesh, LAPTOP, token_of(mesh))
    assert joined.roster.digest() == mesh.roster.digest()
    assert (joined.mesh_id, joined.name, joined.gate) == (mesh.mesh_id, "home", mesh.gate)
    member = mesh.roster.members()[LAPTOP.node_id]
    assert (member.name, member.capabilities) == ("laptop", WORK)
    assert mesh.roster.allows(LAPTOP.node_id)


def test_the_mesh_is_found_again_on_disk() -> None:
    rows = MemoryRows()
    mesh = Mesh.create(rows, HOME, "home", NOW)
    join(mesh, LAPTOP, token_of(mesh))
    mesh.remember_addresses(LAPTOP.node_id, ("192.0.2.7:27460",))
    back = Mesh.load(rows, HOME)
    assert back is not None
    assert back.roster.digest() == mesh.roster.digest()
    assert back.known_addresses() == {LAPTOP.node_id: ("192.0.2.7:27460",)}
    assert join(back, NAS, token_of(back)).roster.allows(NAS.node_id)
    assert Mesh.load(MemoryRows(), HOME) is None
    with pytest.raises(BadState, match="another node"):
        Mesh.load(rows, EVE)


def test_asking_twice_with_one_key_gives_one_certificate_even_late() -> None:
    mesh = home()
    joining = Joining(parse_token(token_of(mesh), NOW), LAPTOP, "laptop")
    assert ask(mesh, joining) == ask(mesh, joining, NOW + 2 * DAY)
    assert len(mesh.roster.records()) == 2


def test_a_used_token_is_refused() -> None:
    mesh = home()
    text = token_of(mesh)
    join(mesh, LAPTOP, text)
    error = refusal(mesh, NAS, text)
    assert (error.kind, error.exit_code) == ("token_used", 125)
    assert "openclaw node invite" in str(error)
    twice = token_of(mesh, uses=2)
    join(mesh, NAS, twice)
    join(mesh, EVE, twice)


def test_an_expired_token_is_refused_here_and_there() -> None:
    mesh = home()
    text = token_of(mesh)
    with pytest.raises(BadToken, match=r"expired 2 days ago.*openclaw node invite"):
        parse_token(text, NOW + 3 * DAY)
    assert refusal(mesh, LAPTOP, text, NOW + 1.5 * DAY).kind == "token_expired"
    assert parse_token(text, NOW + 3 * DAY, mesh.mesh_id).mesh_id == mesh.mesh_id


def test_a_revoked_token_is_refused() -> None:
    mesh = home()
    text = token_of(mesh)
    mesh.revoke(parse_token(text, NOW).terms().id)
    assert refusal(mesh, LAPTOP, text).kind == "token_revoked"


def test_a_token_of_another_mesh_is_refused() -> None:
    mesh, other = home(), Mesh.create(MemoryRows(), NAS, "other", NOW)
    assert refusal(mesh, LAPTOP, token_of(other)).kind == "other_mesh"


def test_a_token_whose_maker_was_revoked_is_refused() -> None:
    mesh = home()
    second = join(mesh, NAS, token_of(mesh, capabilities=WORK | {"admin"}))
    text = token_of(second)
    mesh.revoke(NAS.node_id)
    assert refusal(mesh, LAPTOP, text).kind == "token_revoked"


def test_a_second_admin_lets_machines_in_and_everyone_can_check_that() -> None:
    mesh = home()
    second = join(mesh, NAS, token_of(mesh, capabilities=WORK | {"admin"}))
    third = join(second, LAPTOP, token_of(second))
    assert third.roster.allows(HOME.node_id)
    introduced, news = mesh.answer_intro(third.introduction(), NOW, own_addresses=("192.0.2.3:27460",))
    assert mesh.roster.allows(LAPTOP.node_id)
    assert len(news) == 1
    assert introduced is not None
    node, papers, addresses = third.read_introduction(introduced)
    assert (node, addresses) == (HOME.node_id, ("192.0.2.3:27460",))
    assert third.roster.add_all(papers) == ()
    with pytest.raises(Unavailable, match="where this mesh was made"):
        token_of(second, capabilities=WORK | {"admin"})


def test_a_member_that_is_no_admin_names_those_that_are() -> None:
    mesh = home()
    member = join(mesh, LAPTOP, token_of(mesh))
    answer = ask(member, Joining(parse_token(token_of(mesh), NOW), NAS, "nas"))
    assert answer == Elsewhere(("192.0.2.9:27461",))
    with pytest.raises(Unavailable, match=r"only an admin.*home"):
        token_of(member)


def test_without_the_invites_own_key_nobody_gets_in() -> None:
    mesh = home()
    real = parse_token(token_of(mesh), NOW)
    frame = decode(Joining(real, LAPTOP, "x").question())
    mine = decode(Joining(real, EVE, "x").question())
    forged = type(frame)(frame.invite, mine.request, frame.proof)  # type: ignore[union-attr, call-arg]
    answer, news = mesh.answer_intro(encode(forged), NOW, ())
    assert answer is not None
    assert isinstance(decode(answer), Refused)
    assert news == ()


def test_a_false_admin_cannot_talk_a_joiner_into_its_own_mesh() -> None:
    mesh, trap = home(), Mesh.create(MemoryRows(), EVE, "home", NOW)
    theirs = Joining(parse_token(token_of(trap), NOW), LAPTOP, "x")
    answer, _ = trap.answer_intro(theirs.question(), NOW, ())
    assert answer is not None
    with pytest.raises(Junk):
        Joining(parse_token(token_of(mesh), NOW), LAPTOP, "x").read(answer)


def test_a_revoked_node_does_not_start_and_does_not_come_back_with_a_new_token() -> None:
    mesh = home()
    rows = MemoryRows()
    joining = Joining(parse_token(token_of(mesh), NOW), LAPTOP, "x")
    papers = ask(mesh, joining)
    assert not isinstance(papers, Elsewhere)
    laptop = Mesh.adopt(rows, LAPTOP, joining.token, papers)
    laptop.learn(mesh.revoke(LAPTOP.node_id))
    with pytest.raises(BadState, match="revoked"):
        Mesh.load(rows, LAPTOP)
    assert refusal(mesh, LAPTOP, token_of(mesh)).kind == "revoked"


def test_a_mesh_without_others_and_tasks_is_replaced_and_no_other() -> None:
    mesh, rows = home(), MemoryRows()
    alone = Mesh.create(rows, LAPTOP, "alone", NOW)
    alone.check_replaceable()
    joining = Joining(parse_token(token_of(mesh), NOW), LAPTOP, "laptop")
    papers = ask(mesh, joining)
    assert not isinstance(papers, Elsewhere)
    assert Mesh.adopt(rows, LAPTOP, joining.token, papers).mesh_id == mesh.mesh_id
    assert len(rows.rows("roster")) == 2
    with pytest.raises(BadToken, match="already belongs"):
        mesh.check_replaceable()
    busy = MemoryRows()
    busy.all["tasks", "t"] = b""
    with pytest.raises(BadToken, match="1 tasks"):
        Mesh.create(busy, NAS, "busy", NOW).check_replaceable()


def test_answers_stay_small_in_a_large_mesh() -> None:
    mesh = home()
    text = token_of(mesh, uses=60)
    for number in range(100, 150):
        ask(mesh, Joining(parse_token(text, NOW), keys(number), "n" * 60))
    assert join(mesh, LAPTOP, text).roster.allows(LAPTOP.node_id)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda text: text[:-5], "missing or changed"),
        (lambda text: text[:60] + ("A" if text[60] != "A" else "B") + text[61:], "missing or changed"),
        (lambda text: text[4:], "does not begin with oc1_"),
        (lambda text: "oc2_" + text[4:], "newer version"),
        (lambda _: "oc1_", "missing or changed"),
        (lambda text: text + "A" * 5000, "characters"),
        (lambda _: "", "does not begin"),
    ],
)
def test_a_garbled_token_says_what_is_wrong_with_it(spoil: object, message: str) -> None:
    assert callable(spoil)
    with pytest.raises(BadToken, match=message):
        parse_token(spoil(token_of(home())), NOW)


def test_a_token_survives_a_terminal_that_breaks_lines() -> None:
    text = token_of(home())
    token = parse_token(f"  {text[:80]}\n{text[80:200]}\r\n {text[200:]}\n", NOW)
    assert token.text() == text
    assert token.hints == ("192.0.2.1:27461",)


def test_no_log_line_keeps_a_token() -> None:
    text = token_of(home())
    assert redact(f"started with --join {text}, and {text}.") == "started with --join oc1_…, and oc1_…."
    assert text[10:40] not in repr(parse_token(text, NOW))


def test_a_token_put_together_from_two_is_refused() -> None:
    one, two = (parse_token(token_of(home()), NOW) for _ in range(2))
    mixed = Token(1, one.root_public, "x", one.gate_secret, two.invite, two.invite_seed)
    with pytest.raises(BadToken, match="different meshes"):
        parse_token(mixed.text(), NOW)


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda data: "oc1_" + data.hex()))
def test_arbitrary_text_is_only_ever_a_bad_token(text: str) -> None:
    with pytest.raises(BadToken):
        parse_token(text, NOW)


ADMIN = home()


@given(st.binary(max_size=400))
def test_arbitrary_bytes_on_the_intro_port_get_no_answer(data: bytes) -> None:
    assert ADMIN.answer_intro(data, NOW, ()) == (None, ())
    with pytest.raises((Junk, BadToken)):
        Joining(parse_token(token_of(ADMIN), NOW), LAPTOP, "x").read(data)
    with pytest.raises(Junk):
        ADMIN.read_introduction(data)


def test_unknown_capabilities_are_refused() -> None:
    with pytest.raises(MeshError, match="no capability 'root'"):
        token_of(home(), capabilities=frozenset({"root"}))


def test_one_signature_stands_for_a_batch_and_for_nothing_else() -> None:
    mesh = home()
    leaves = leaf(TaskId("a"), b"n", b"p") + leaf(TaskId("b"), b"n", b"p")
    batch = Batch(sign_batch(HOME, mesh.mesh_id, leaves), leaves)
    assert verify_batch(HOME.signing_public, mesh.mesh_id, batch)
    assert not verify_batch(LAPTOP.signing_public, mesh.mesh_id, batch)
    assert not verify_batch(HOME.signing_public, mesh.mesh_id, Batch(batch.signature, leaves[:16]))
    assert not verify(HOME.signing_public, Domain.INVITE, mesh.mesh_id.encode() + leaves, batch.signature)
    assert leaf(TaskId("ab"), b"", b"c") != leaf(TaskId("a"), b"b", b"c")
