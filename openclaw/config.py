"""Every limit and every duration, in one place. Units stand last in the name.

`Settings` is what the pure core is given; the bounds below it are what the shell around it enforces.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

PROTOCOL_VERSION = 1
PORT = 27460
INTRO_OFFSET = 1
BULK_OFFSET = 2
SERVICE_TYPE = "_openclaw-mesh._tcp.local."
ENV_PREFIX = "OPENCLAW_MESH_"

# What one packet may weigh, on each port.
MESSAGE_BYTES_MAX = 1 << 20
INTRO_BYTES_MAX = 8 << 10
BULK_CHUNK_BYTES = 256 << 10
BULK_CREDIT_CHUNKS = 8
CONTROL_FRAME_BYTES_MAX = 16 << 20
EXECUTOR_FRAME_BYTES_MAX = 16 << 20

# How many of anything.
PEERS_MAX = 1000
HIGH_WATER_MARK = 1000
INBOX_BATCH_MAX = 512
INBOX_MAX = 16_384  # from here on, what peers send is dropped
PATIENCE_S = 0.003  # how long news that nobody waits for may lie before the core looks at it
DRAIN_MESSAGES_MAX = 256
EVENTS_KEPT_MAX = 2000
WATCHERS_MAX = 4096
FETCHES_PER_WORKER_MAX = 8
COPIES_MAX = 64  # files that `openclaw cp` brings at once
OFFERS_MAX = 1024  # and those that it offers: the oldest goes
COPY_IDLE_S = 30.0  # a copy that nobody asks about any more stops, and can be taken up again
ROSTER_RECORDS_MAX = 10_000

# What one task may weigh.
ARGV_BYTES_MAX = 128 << 10
ENV_BYTES_MAX = 128 << 10
PAYLOAD_BYTES_MAX = 512 << 10
INLINE_OUTPUT_BYTES_MAX = 16 << 10
FILES_MAX = 256  # inputs, and outputs
LOCAL_FILES_MAX = 8  # words of a command that name files where it is submitted
NEEDS_MAX = 32  # labels, and skills
PRIORITY_MAX = 1000
KEY_CHARS_MAX = 256
OUTPUT_KEPT_BYTES_MAX = 2 << 30
FILE_BYTES_MAX = 10 << 30
SUBMIT_BATCH_MAX = 256
SIGNED_TOGETHER = 32  # tasks under one signature: each keeps the hashes of all of them on disk

# Handlers.
HANDLERS_MAX = 256  # task types that a node offers
HANDLER_ARGS_INLINE_BYTES_MAX = 64 << 10  # larger arguments travel as a file
RESULT_INLINE_BYTES_MAX = 16 << 10  # larger results do too
RESULT_BYTES_MAX = 1 << 30
HANDLER_TASKS_PER_PROCESS = 50_000  # then a fresh one takes its place
HANDLER_CALLS_AHEAD_MAX = 16  # quick calls that one process is given at a time
HANDLER_IDLE_S = 300.0  # a process that had nothing to do for so long goes
HANDLER_LOG_BYTES_MAX = 1 << 20  # what is written past all handlers, for each process
HANDLERS_LOAD_S_MAX = 60.0

# Programs that submit tasks.
SESSIONS_MAX = 256
SESSION_ROWS_MAX = 256  # ends in one frame
SUBMITS_UNDER_WAY_MAX = 4  # requests of SUBMIT_BATCH_MAX tasks that no answer has come to yet
RECONNECT_S_MAX = 300.0  # how long a program waits for its node to come back
RECONNECT_EVERY_S = 0.1

# In one answer to another node: rows, and how many are looked at for them.
LISTED_BYTES_MAX = 512 << 10
LISTED_LOOK_MAX = 10_000

# The store.
MAP_BYTES_MIN = 64 << 20
MAP_BYTES_MAX = 64 << 30
DISK_FREE_BYTES_MIN = 64 << 20

# What is kept, and how it goes.
FILES_REST_S = 60.0  # a file that was used a moment ago is about to be used
PARTIAL_REST_S = 24 * 3600.0
ROOM_SHARE = 0.9  # of a limit that was passed: what is left after making room
FORGET_FIRST_S = 60.0
FORGET_EVERY_S = 600.0
FORGET_AT_ONCE_MAX = 128  # tasks in one transaction
FORGET_LOOK_MAX = 1024  # tasks in one read
FORGET_PAUSE_S = 0.05
DISK_LOOK_EVERY_S = 30.0
DATED_S_MIN = 1_767_225_600.0  # 2026: what ended before that ended under a clock that nobody had set yet

# Guardians, beside the settings of the core.
GUARD_INPUT_BYTES_MAX = 256 << 20  # inputs of one task
STAGED_COPIES_MAX = 64  # messages that wait for their files at once

# Connections.
OPEN_FILES = 8192
SOCKETS_MAX = 4096
ADDRESSES_PER_PEER_MAX = 16
DIALS_AT_ONCE_MAX = 64
LINK_QUEUE_MAX = 64
LINK_IDLE_S = 600.0
INTRO_HIGH_WATER_MARK = 4
INTRO_PER_S = 20.0
INTRO_PER_ADDRESS_S = 5.0
INTRO_BURST = 20.0
INTRO_ADDRESSES_MAX = 1024
BULK_HIGH_WATER_MARK = 64
BULK_SERVES_MAX = 256

INVITE_HOURS = 24.0

# The command line.
ANSWER_S_MAX = 60.0  # a short answer of the node on this machine
START_S_MAX = 90.0
NEIGHBOURS_S = 2.5
WAIT_IDS_MAX = 1000
LISTED_MAX = 10_000
MAP_CHUNKS_MAX = 16  # of SUBMIT_BATCH_MAX tasks, under way at once
MAP_HELD_BYTES_MAX = 64 << 20  # results that are done before their turn
MAP_AHEAD_MAX = 50_000  # so many results may be done before their turn; then no more is submitted
MAP_KEY_CHARS_MAX = 128
MAP_LINE_BYTES_MAX = 64 << 10
LOG_TAIL_LINES = 200

# What a machine has.
GPU_TOOL_S_MAX = 10.0  # nvidia-smi and the like wake the device first
GPUS_MAX = 1024

# Discovery: hints, so it may take its time and must stay cheap.
TXT_BYTES_MAX = 200
MDNS_INSTANCES_MAX = 1000
MDNS_LOOKUPS_MAX = 16
MDNS_LOOKUP_S = 3.0
ADDRESSES_PER_HINT_MAX = 8
INTERFACES_EVERY_S = 2.0
TAILSCALE_TIMEOUT_S = 5.0
TAILSCALE_BYTES_MAX = 16 << 20
TAILSCALE_EVERY_S = 30.0
PROBES_MAX = 16
PROBE_TIMEOUT_S = 1.0
PROBE_AGAIN_S_MIN = 30.0
PROBE_AGAIN_S_MAX = 600.0
SEEDS_EVERY_S_MIN = 2.0
SEEDS_EVERY_S_MAX = 60.0
SOURCE_BACKOFF_S_MIN = 2.0
SOURCE_BACKOFF_S_MAX = 300.0

TRACE_BYTES_MAX = 512 << 20  # of what a node writes of itself when OPENCLAW_MESH_TRACE asks for it

# Skills.
SKILLS_MAX = 256
SKILL_FILE_BYTES_MAX = 256 << 10
SKILL_TREE_FILES_MAX = 2000
SKILL_TREE_BYTES_MAX = 64 << 20
SKILL_DEPTH_MAX = 6  # of folders below a place where skills are kept
SKILL_FOLDERS_MAX = 5000  # looked into below one place
SKILL_VALUES_MAX = 10_000  # in one key of a front matter
SKILL_ENTRIES_MAX = 32
SKILL_MISSING_MAX = 8  # reasons that are told to others, each cut to SKILL_REASON_CHARS_MAX
SKILL_REASON_CHARS_MAX = 160
SKILL_ROWS_BYTES_MAX = 256 << 10  # of all that a node tells others of its skills
SKILL_PARAMS_BYTES_MAX = 64 << 10
SKILL_WARNINGS_MAX = 200
SKILLS_EVERY_S = 5.0
SKILLS_SHARE_MAX = 0.002  # of a core may go into looking whether folders have changed
SKILLS_FIRST_S_MAX = 2.0  # that a node which starts waits for its skills


@dataclass(frozen=True, slots=True)
class Limits:
    """What a node takes and keeps. Each is a setting of that name."""

    queue_tasks: int = 500_000  # that wait here
    mesh_queue_tasks: int = 5_000_000  # that wait anywhere, when this node adds to them
    payload_bytes: int = PAYLOAD_BYTES_MAX
    argv_bytes: int = ARGV_BYTES_MAX
    env_bytes: int = ENV_BYTES_MAX
    output_bytes: int = (
        OUTPUT_KEPT_BYTES_MAX  # of each stream of a command here: head and tail; less on a full disk
    )
    disk_free_bytes: int = DISK_FREE_BYTES_MIN  # below this nothing is accepted, and nothing runs here
    keep_s: float = 30 * 24 * 3600.0
    keep_bytes: int = 8 << 30
    files_bytes: int = 10 << 30
    takeover_s: float = (
        30.0  # that an owner may be down before this node owns the tasks that it keeps copies of
    )
    lease_s: float = (
        30.0  # that a task with --no-overlap may run on without a word of its owner, which is this node
    )


# What peers and the wire take, whatever a node is told.
LIMITS_MOST: Mapping[str, int] = {
    "payload_bytes": PAYLOAD_BYTES_MAX,
    "argv_bytes": ARGV_BYTES_MAX,
    "env_bytes": ENV_BYTES_MAX,
}


@dataclass(frozen=True, slots=True)
class Settings:
    """What the pure core is given. Durations are seconds on the node's own monotonic clock."""

    # Failure detection: SWIM with Lifeguard.
    probe_every_s: float = 0.5
    probe_timeout_s: float = 0.25
    indirect_probes: int = 3
    indirect_timeout_s: float = 0.25
    suspect_s_min: float = 0.8
    suspect_s_max: float = 6.0
    refused_confirm_s: float = 0.15
    resume_gap_s_min: float = 2.0
    resume_quiet_s: float = 2.5
    health_score_max: int = 8
    dead_probe_every_s: float = 5.0
    forget_left_s: float = 24 * 3600.0

    # Dissemination.
    rumour_fanout: int = 4
    rumours_per_message_max: int = 16
    rumour_sends_factor: int = 3
    beat_every_s: float = 1.0
    beats_per_second_mesh_max: float = 10.0
    beats_relayed_max: int = 3
    exchange_every_s: float = 5.0
    digest_entries_max: int = 2000

    # Election: Bully, with turns.
    patience_s: float = 0.3
    rank_step_s: float = 0.15
    answer_s: float = 0.2
    announce_s: float = 0.6
    rotation_s: float = 600.0
    offer_s: float = 2.0
    coordinator_every_s: float = 5.0

    # Scheduling.
    demand_every_s: float = 2.0
    demand_rows_max: int = 1024
    grant_ttl_s: float = 10.0
    grants_per_message_max: int = 512
    ahead_per_slot_max: int = 160  # only what takes under half a millisecond comes near it
    ahead_runtime_s_max: float = 1.0
    turnaround_s_min: float = 0.03
    starve_s_max: float = 30.0  # so long may a class be passed over before it gets the next place
    recall_s_min: float = 0.1
    recall_s_max: float = 5.0
    report_every_s: float = 1.0
    report_gap_s_min: float = 0.01
    gather_s: float = 0.5
    leaderless_after_s: float = 1.0

    # Owner and worker.
    queued_max: int = 500_000
    assign_tasks_max: int = 256
    assign_bytes_max: int = 256 << 10
    ask_after_s: float = 1.0
    ask_every_s: float = 5.0
    outcome_resend_s: float = 1.0
    outcomes_per_message_max: int = 64
    rerun_grace_s_max: float = 60.0
    rerun_grace_factor: float = 0.1
    keep_restart_grace_s: float = 60.0
    deaths_max: int = 3
    retry_backoff_s: float = 0.5
    retry_backoff_s_max: float = 60.0
    kill_grace_s: float = 5.0
    lease_s: float = 30.0  # that a task with --no-overlap may run without a word of its owner
    lease_margin_s: float = 5.0  # for clocks whose rates differ by up to a tenth, and for the end itself
    lease_ask_again_s: float = 1.0
    stop_grace_s: float = 10.0
    fences_max: int = 200_000
    story_moves_max: int = 64
    settle_s: float = 0.5

    # Guardians.
    guard_wait_s: float = 2.0  # for a guardian, until an acceptance says that there is none yet
    guard_resend_s: float = 2.0
    guard_tell_s: float = 2.0  # what runs for so long is told to the guardian
    guard_tasks_max: int = 256  # in one message
    guard_window_max: int = 4096  # tasks under way to a guardian
    guard_grace_s: float = 30.0  # that an owner may be down before its tasks are taken over
    guard_confirm_s: float = 5.0  # that an owner waits for its guardians when it is back
    guard_output_bytes_max: int = 256 << 20  # outputs of one task that a guardian keeps too
    keeping_every_s: float = 3600.0
    copy_stale_s: float = 7 * 24 * 3600.0  # a copy whose owner was not heard of for so long starts nothing
    seek_s: float = 3.0

    events_per_instant_max: int = 10_000

    # Membership, the smaller bounds.
    coalesce_s: float = 0.005
    rumours_queued_max: int = 4096
    flood_nodes_max: int = 16
    beat_flood_nodes_max: int = 30
    beat_idle_s: float = 5.0
    dead_probe_s_max: float = 12.0
    relays_max: int = 256
    repeat_note_s: float = 1.0
    meta_retry_s: float = 1.0
    metas_asked_max: int = 64
    demand_bytes_max: int = 384 << 10
