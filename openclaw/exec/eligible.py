"""Who may run what, in words: the one set of rules that owner, leader and worker share.

Promises: an empty answer means eligible; otherwise each reason completes the sentence "this node …".
"""

from __future__ import annotations

from collections.abc import Mapping

from openclaw.records import Kind, Member, Meta, Needs, Policy, SkillRow

CAPABILITY = {Kind.COMMAND: "shell", Kind.SKILL: "skill", Kind.HANDLER: "skill"}
"""What the roster must allow the submitter for each kind of task."""


def refusals(needs: Needs, meta: Meta | None, member: Member | None, alive: bool) -> list[str]:
    """Why the node that publishes `meta` does not run tasks with `needs`; empty when it does."""
    if member is None:
        return ["is not in the roster"]
    if member.revoked:
        return ["is revoked"]
    reasons = [] if alive else ["is not alive"]
    if needs.node and needs.node != member.node:
        reasons.append("is not the node that was asked for")
    if meta is None:
        return [*reasons, "has not said yet what it offers"]
    return reasons + _meta_refusals(needs, meta)


def _meta_refusals(needs: Needs, meta: Meta) -> list[str]:
    reasons: list[str] = []
    if meta.draining:
        reasons.append("is draining")
    if meta.slots == 0:
        reasons.append("has no slots")
    if meta.policy is Policy.NONE or (meta.policy is Policy.SKILLS and needs.kind is Kind.COMMAND):
        reasons.append(f"does not run {needs.kind}s (its policy is {meta.policy})")
    reasons += _lacks(needs, meta)
    reasons += [f"has no label {k}={v}" for k, v in needs.labels if (k, v) not in meta.labels]
    if needs.handler and needs.handler not in meta.handlers:
        reasons.append(f"does not know the handler {needs.handler}")
    skills = {row.name: row for row in meta.skills} if needs.skills else {}
    return reasons + [each for name in needs.skills if (each := _skill_refusal(name, skills))]


def _skill_refusal(wanted: str, skills: Mapping[str, SkillRow]) -> str:
    """`wanted` is NAME[:ENTRY][@TREE]: an entrypoint of it, of the one whose folder's hash begins with TREE."""
    called, _, tree = wanted.partition("@")
    name, _, entry = called.partition(":")
    row = skills.get(name)
    if row is None:
        return f"does not have the skill {name}"
    if not row.eligible:
        return f"lacks for the skill {name}: {', '.join(row.missing) or 'something'}"
    if not row.tree.startswith(tree):
        return f"has another skill {name} (hash {row.tree[: len(tree)]}, not {tree})"
    if entry and entry not in row.entries:
        lacks = [text.partition(": ")[2] for text in row.missing if text.startswith(f"{entry}: ")]
        return f"lacks for {called}: {', '.join(lacks) or 'something'}"
    return ""


def _lacks(needs: Needs, meta: Meta) -> list[str]:
    """What the whole machine is too small for, whatever runs on it now."""
    reasons: list[str] = []
    if needs.cpus > meta.slots > 0:
        reasons.append(f"has {meta.slots} of the {needs.cpus} slots (cpus) that it needs")
    if needs.memory_bytes > meta.memory_bytes:
        reasons.append(f"has {gib(meta.memory_bytes)} of the {gib(needs.memory_bytes)} memory that it needs")
    if needs.gpus > meta.gpus:
        reasons.append(f"has {meta.gpus or 'none'} of the {needs.gpus} GPUs that it needs")
    return reasons


def gib(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 30):,.1f}".removesuffix(".0") + " GiB"


def submitter_refusal(kind: Kind, submitter: Member | None) -> str:
    """Why `submitter` may not have such a task run anywhere; empty when it may."""
    if submitter is None:
        return "the submitter is not in the roster"
    if submitter.revoked:
        return "the submitter is revoked"
    if CAPABILITY[kind] not in submitter.capabilities:
        return f"the submitter lacks the capability {CAPABILITY[kind]}"
    return ""
