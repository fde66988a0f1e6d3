"""What is kept on a node's disk and what its core remembers of itself: frozen, typed, no I/O.

The structs are arrays on the wire and on disk, so a field may only ever be appended (with a default):
yesterday's decoder skips what it does not know, tomorrow's fills in what is missing.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, NamedTuple

from msgspec import Meta as Bound
from msgspec import Struct

from openclaw.ids import NO_EPOCH, Claim, Epoch, NodeId, TaskId, Token, owner_of

Name = Annotated[str, Bound(max_length=128)]
Text = Annotated[str, Bound(max_length=1024)]
Count = Annotated[int, Bound(ge=0, lt=1 << 53)]
Seconds = Annotated[float, Bound(ge=0, lt=1e12)]


class Record(Struct, frozen=True, array_like=True):
    """Base of everything stored or sent."""


class Table(StrEnum):
    """The tables of a node's store. Keys are strings."""

    META = "meta"
    TASKS = "tasks"
    PROGRESS = "progress"
    ATTEMPTS = "attempts"
    COPIES = "copies"  # of other owners' tasks that are not over
    RESULTS = "results"  # copies of those that are


# --- tasks ---------------------------------------------------------------------------------------


class Kind(StrEnum):
    COMMAND = "command"
    SKILL = "skill"
    HANDLER = "handler"


class State(StrEnum):
    QUEUED = "queued"
    PLACED = "placed"
    RUNNING = "running"
    RETRYING = "retrying"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    LOST = "lost"

    @property
    def final(self) -> bool:
        return self in FINAL


FINAL = frozenset({State.SUCCEEDED, State.FAILED, State.TIMED_OUT, State.CANCELLED, State.LOST})


class Size(Record, frozen=True):
    """What one task or several take of a worker, or what a worker has."""

    slots: Count = 1
    memory_bytes: Count = 0
    gpus: Count = 0


ONE_SLOT = Size()


class Needs(Record, frozen=True):
    """What a task asks of the node that runs it. Equal needs are one class to the scheduler.

    Of `cpus`, `memory_bytes` and `gpus` 0 was not asked for; a task counts one slot a CPU, and one in any case.
    """

    kind: Kind = Kind.COMMAND
    node: NodeId = NodeId("")
    labels: tuple[tuple[Name, Name], ...] = ()
    skills: tuple[Name, ...] = ()
    cpus: Count = 0
    memory_bytes: Count = 0
    gpus: Count = 0
    handler: Name = ""  # the task type of a handler

    @property
    def size(self) -> Size:
        if self.cpus <= 1 and not self.memory_bytes and not self.gpus:
            return ONE_SLOT
        return Size(max(1, self.cpus), self.memory_bytes, self.gpus)


class InputFile(Record, frozen=True):
    """A file that travels with the task by its content. `name` is relative to the scratch directory."""

    name: Text
    sha256: Name
    size: Count


class SkillCall(Record, frozen=True):
    """What of a skill is to run. `tree` is the hash of the folder that the parameters were checked against.

    Without an `entry` the task's `argv` begins with the path of a script in that folder.
    """

    name: Name
    tree: Name
    entry: Name = ""
    params: str = "{}"  # JSON


class Payload(Record, frozen=True):
    """What the worker's executor needs to start the task. Encoded once by the owner, then opaque."""

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()
    cwd: str = ""
    timeout_s: Seconds = 0.0
    stdin: InputFile | None = None
    inputs: tuple[InputFile, ...] = ()
    outputs: tuple[Text, ...] = ()
    handler: Name = ""  # a task type in place of `argv`
    args: bytes = b""  # its arguments, as `handlers.values` has them; large ones are in `stdin`
    skill: SkillCall | None = None  # then the worker makes the command line from its own copy of the skill
    memory_bytes: Count = 0  # what it may use, 0 unlimited; its worker enforces that as well as it can
    cpus: Count = 0
    local_files: tuple[Text, ...] = ()  # words of `argv` that name files where it was submitted


class Batch(Record, frozen=True):
    """One signature over many submissions: the owner signs the hash of `leaves`, 16 bytes a task."""

    signature: bytes
    leaves: bytes


class Submission(Record, frozen=True):
    """A task as it was accepted. Written once, never changed."""

    task: TaskId
    needs: Needs
    payload: bytes
    batch: Batch
    leaf: Count
    submitted: float  # wall clock, UTC seconds
    title: Text = ""  # what people see: the command line, shortened
    name: Name = ""
    job: Name = ""
    priority: int = 0
    retries: Count = 0
    once: bool = False
    origin: NodeId = NodeId("")  # who submitted and signed it, where the id does not say
    replicas: Count = 1  # copies that a guardian keeps
    no_overlap: bool = False

    @property
    def submitter(self) -> NodeId:
        """Whose signature it bears, and whose capabilities count."""
        return self.origin or owner_of(self.task)

    @property
    def exclusive(self) -> bool:
        """Whether a second start does harm: nobody starts it while another may have."""
        return self.once or self.no_overlap


REFUSED = "refused"
"""`Exit.ended_by` of an attempt that its node found no room for before it started: it goes back to its owner."""


class Exit(Record, frozen=True):
    """How an attempt ended, as its executor saw it.

    `code` is the command's own, or 128+n for signal n. `ended_by` says who ended it, `error` why it never
    started. Small outputs ride inline; `cut` is how many bytes the cap removed from the middle.
    """

    code: int
    ended_by: str = (
        ""  # "", "timeout", "cancel", "stop", "superseded", "lease", "stage" (inputs), "spawn", "orphaned"
    )
    error: Text = ""
    started: float = 0.0
    ended: float = 0.0
    runtime_s: Seconds = 0.0
    stdout: bytes = b""
    stderr: bytes = b""
    stdout_size: Count = 0
    stderr_size: Count = 0
    stdout_cut: Count = 0
    stderr_cut: Count = 0
    outputs: tuple[InputFile, ...] = ()
    stdout_head: Count = 0  # where the cut begins, when there is one
    stderr_head: Count = 0
    result: bytes = b""  # what a handler returned or raised; a large one is among the outputs
    memory_limit: Name = ""  # what kept it within its memory: "cgroup", "process" (each of it), "none"
    cpu_limit: Name = ""  # and within its processors: "cgroup", "affinity", "none"; "" when it asked for none

    @property
    def inline(self) -> bool:
        """Whether the whole output is in this record and nothing must be fetched."""
        return (
            not self.outputs and len(self.stdout) == self.stdout_size and len(self.stderr) == self.stderr_size
        )

    @property
    def kept_bytes(self) -> int:
        """What its owner keeps of it beside this record: logs that are not inline, and outputs."""
        logs = (
            size - cut
            for inline, size, cut in (
                (self.stdout, self.stdout_size, self.stdout_cut),
                (self.stderr, self.stderr_size, self.stderr_cut),
            )
            if len(inline) < size
        )
        return sum(logs) + sum(file.size for file in self.outputs)


class Move(Record, frozen=True):
    """One line of a task's story, in its owner's order."""

    n: Count
    at: float
    state: State
    node: NodeId = NodeId("")
    reason: Text = ""


class Progress(Record, frozen=True):
    """How far a task has come: the part of its record that changes. Rewritten whole at each move."""

    task: TaskId
    state: State
    attempt: Count = 0
    token: Token | None = None
    worker: NodeId = NodeId("")
    worker_boot: Name = ""
    epoch: Epoch = NO_EPOCH
    started: float = 0.0
    finished: float = 0.0
    failures: Count = 0  # non-zero exits and timeouts, against `retries`
    deaths: Count = 0  # workers that died while it ran
    starts: Count = 0  # attempts that are known to have started
    exit: Exit | None = None
    error: Text = ""
    story: tuple[Move, ...] = ()
    fetched: bool = True  # outputs are at the owner
    intent: bool = False  # of an exclusive task: an assign may have left
    owner: NodeId = NodeId("")  # where the id does not say
    takeover: Count = 0  # how often its owner changed
    guardians: tuple[NodeId, ...] = ()  # who may hold a copy, the present one first
    provisional: bool = False  # final, and not yet at its guardian
    rivals: tuple[Text, ...] = ()  # other ends that it had elsewhere while nobody knew

    @property
    def claim(self) -> Claim:
        return Claim(self.takeover, self.owner or owner_of(self.task))

    @property
    def moves(self) -> int:
        """The number of its last move: a copy with fewer is older."""
        return self.story[-1].n if self.story else 0

    @property
    def over(self) -> bool:
        """Whether its owner has nothing left to do for it."""
        return self.state.final and self.fetched and not self.provisional


class Copy(Record, frozen=True):
    """What a guardian keeps of another owner's task. Whose it is stands in `progress`."""

    submission: Submission
    progress: Progress
    told: bool = True  # by that owner; else it is what a former one knew


class Ended(NamedTuple):
    """A task that is over, and what its records, logs and outputs weigh at its owner."""

    task: TaskId
    state: State
    finished: float  # wall clock
    bytes: int


class Attempt(Record, frozen=True):
    """A worker's own row: on disk before the attempt starts, gone when its owner has the outcome."""

    task: TaskId
    token: Token
    owner: NodeId  # whom it reports to: the last one that claimed it
    exit: Exit | None = None
    size: Size = ONE_SLOT
    gpus: tuple[Count, ...] = ()  # which of the worker's it has to itself
    takeover: Count = 0
    submitter: NodeId = NodeId("")  # where it is not the owner
    no_overlap: bool = False

    @property
    def claim(self) -> Claim:
        return Claim(self.takeover, self.owner)


# --- nodes ---------------------------------------------------------------------------------------


class Policy(StrEnum):
    """What a node lets others run on it. `commands` includes skills."""

    COMMANDS = "commands"
    SKILLS = "skills"
    NONE = "none"


class Tier(StrEnum):
    """How good a leader a node would make, best first; a `no_lead` node never stands."""

    ALWAYS_ON = "always_on"
    MAINS = "mains"
    BATTERY = "battery"
    NO_LEAD = "no_lead"


class SkillRow(Record, frozen=True):
    """One skill as a node advertises it: never contents, never values of variables.

    `entries` are those that can run there. Where it is eligible and others cannot, `missing` has "ENTRY: what".
    """

    name: Name
    version: Name = ""
    tree: Name = ""
    category: Name = ""
    eligible: bool = True
    missing: tuple[Text, ...] = ()
    description: Text = ""
    entries: tuple[Name, ...] = ()


class Meta(Record, frozen=True):
    """What a node publishes of itself, as one versioned blob: pulled by peers when its version is news."""

    name: Name = ""
    addresses: tuple[Name, ...] = ()  # "ip:port" of the mesh port, best first
    hostname: Name = ""
    platform: Name = ""
    arch: Name = ""
    tailscale: Name = ""
    version: Name = ""
    slots: Count = 1
    policy: Policy = Policy.COMMANDS
    tier: Tier = Tier.MAINS
    labels: tuple[tuple[Name, Name], ...] = ()
    skills: tuple[SkillRow, ...] = ()
    draining: bool = False
    bulk_port: Count = 0
    intro_port: Count = 0
    memory_bytes: Count = 0
    gpus: Count = 0
    handlers: tuple[Name, ...] = ()  # task types that it has a handler for

    @property
    def size(self) -> Size:
        return Size(self.slots, self.memory_bytes, self.gpus)


class Metrics(Record, frozen=True):
    """One reading of a machine, by its own node."""

    cpu_percent: Seconds = 0.0
    memory_percent: Seconds = 0.0
    disk_percent: Seconds = 0.0


class Counts(Record, frozen=True):
    """How many of an owner's tasks are in each state."""

    queued: Count = 0
    placed: Count = 0
    running: Count = 0
    succeeded: Count = 0
    failed: Count = 0
    timed_out: Count = 0
    cancelled: Count = 0
    lost: Count = 0


class Member(Record, frozen=True):
    """A line of the roster, as far as the core needs it."""

    node: NodeId
    name: Name
    capabilities: frozenset[str]
    revoked: bool = False


class Restored(Record, frozen=True):
    """What a node finds on its own disk when it starts; all of it may be missing."""

    incarnation: Count = 0
    epoch: Epoch = NO_EPOCH
    meta_version: Count = 0
    counts: Counts = Counts()
    submissions: tuple[Submission, ...] = ()  # of tasks that are not final, or not fetched yet
    progress: tuple[Progress, ...] = ()  # the same tasks, same order
    attempts: tuple[Attempt, ...] = ()
    copies: tuple[Copy, ...] = ()  # of other owners' tasks that are not over
    heard: tuple[tuple[NodeId, float], ...] = ()  # when their owners were last heard of, UTC seconds


class Held(Record, frozen=True):
    """What a node's executor knows of one attempt. `exit` is None while it runs."""

    task: TaskId
    token: Token
    exit: Exit | None = None


class Number(Record, frozen=True):
    """A single counter in `Table.META`: "incarnation", "meta_version"."""

    value: Count


class EpochRow(Record, frozen=True):
    """The highest epoch that this node has promised to respect, in `Table.META` under "epoch"."""

    epoch: Epoch
