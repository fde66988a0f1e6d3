"""The JSON documents of `CLI.md`, built from the core's views and the store's rows. Pure functions."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from openclaw.handlers.values import shown
from openclaw.ids import NO_EPOCH, Epoch, NodeId
from openclaw.records import Counts, Exit, Kind, Payload, Progress, State, Submission

Doc = dict[str, object]
NameOf = Callable[[NodeId], str]

decode_payload = msgspec.msgpack.Decoder(Payload).decode


def utc(wall_s: float) -> str | None:
    """ISO 8601 in UTC, to the millisecond; None for "not yet"."""
    if wall_s <= 0:
        return None
    try:
        moment = datetime.fromtimestamp(wall_s, UTC)
    except (OverflowError, ValueError, OSError):
        return None  # some worker's clock is out of its mind
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def node_ref(node: NodeId, name_of: NameOf) -> Doc | None:
    return {"id": node, "name": name_of(node)} if node else None


def exit_code(progress: Progress) -> int | None:
    """The exit code that the command line passes on; None while the task is not final."""
    match progress.state:
        case State.CANCELLED:
            return 130
        case State.TIMED_OUT:
            return 124
        case State.LOST:
            return 125
        case state if state.final:
            return progress.exit.code if progress.exit is not None else 125
        case _:
            return None


def epoch_doc(epoch: Epoch, name_of: NameOf) -> Doc | None:
    if epoch == NO_EPOCH:
        return None
    return {"term": epoch.term, "leader": node_ref(epoch.node, name_of)}


def task_doc(submission: Submission, progress: Progress, name_of: NameOf) -> Doc:
    """`openclaw task show --json`. `submission` is immutable, `progress` the newest row on disk."""
    payload = decode_payload(submission.payload)
    kind = submission.needs.kind
    skills = submission.needs.skills
    called = payload.skill
    return {
        "id": submission.task,
        "name": submission.name or submission.title,
        "state": str(progress.state),
        "exit_code": exit_code(progress),
        "kind": str(kind),
        "argv": list(payload.argv) if kind is not Kind.HANDLER else [],
        "skill": f"{called.name}:{called.entry}".rstrip(":") if called else skills[0] if skills else None,
        "handler": payload.handler or None,
        "owner": node_ref(progress.claim.owner, name_of),
        "submitter": node_ref(submission.submitter, name_of),
        "takeover": progress.takeover,
        "guardians": [node_ref(guardian, name_of) for guardian in progress.guardians],
        "provisional": progress.provisional,
        "also_ended": list(progress.rivals),
        "node": node_ref(progress.worker, name_of),
        "attempt": progress.attempt,
        "starts": progress.starts,
        "epoch": epoch_doc(progress.epoch, name_of),
        "submitted": utc(submission.submitted),
        "started": utc(progress.started),
        "finished": utc(progress.finished),
        "result": _result(progress.exit),
        "error": progress.error or (progress.exit.error if progress.exit is not None else "") or None,
        "story": [
            {
                "n": move.n,
                "at": utc(move.at),
                "state": str(move.state),
                "node": node_ref(move.node, name_of),
                "reason": move.reason,
            }
            for move in progress.story
        ],
    }


def _result(exit: Exit | None) -> Doc | None:
    if exit is None:
        return None
    return {
        "ended_by": exit.ended_by or None,
        "runtime_s": round(exit.runtime_s, 6),
        "limits": {"memory": exit.memory_limit or None, "cpus": exit.cpu_limit or None},
        "stdout_bytes": exit.stdout_size,
        "stderr_bytes": exit.stderr_size,
        "stdout_cut_bytes": exit.stdout_cut,
        "stderr_cut_bytes": exit.stderr_cut,
        "outputs": [
            {"name": output.name, "sha256": output.sha256, "size": output.size} for output in exit.outputs
        ],
        "value": shown(exit.result) if exit.result else None,
    }


def counts_doc(counts: list[Counts]) -> Doc:
    """The sum over all owners."""
    return {field: sum(getattr(each, field) for each in counts) for field in Counts.__struct_fields__}
