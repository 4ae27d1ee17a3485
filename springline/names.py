"""Every name that crosses a process: workflows, activities, queues, search attributes, metrics.

A name is never changed once shipped: running workflows, dashboards and runbooks hold it.
"""

from __future__ import annotations

# Workflow types.
COMMIT_WORKFLOW = "CommitWorkflow"
CREATE_TABLE_WORKFLOW = "CreateTableWorkflow"
CHECKPOINT_WORKFLOW = "CheckpointWorkflow"
LEDGER_WORKFLOW = "LedgerWorkflow"
GARBAGE_WORKFLOW = "GarbageWorkflow"
REBUILD_WORKFLOW = "RebuildWorkflow"

RUN_LAUNCHER = "RunLauncher"
RUN_WORKFLOW = "RunWorkflow"
RUN_SHARD_WORKFLOW = "RunShardWorkflow"
SCHEDULE_EVALUATOR = "ScheduleEvaluator"
POOL_WORKFLOW = "PoolWorkflow"
SENSOR_WORKFLOW = "SensorWorkflow"
REQUEST_RUN_WORKFLOW = "RequestRunWorkflow"
BACKFILL_EVALUATOR = "BackfillEvaluator"
REQUEST_BACKFILL_WORKFLOW = "RequestBackfillWorkflow"
REPAIR_WORKFLOW = "Repair"
PROBE_WORKFLOW = "ProbeWorkflow"

# Messages of CommitWorkflow.
COMMIT_UPDATE = "commit"
STATUS_QUERY = "status"

# Messages of LedgerWorkflow (besides `status`).
APPEND_UPDATE = "append"
INGEST_UPDATE = "ingest"
SWITCH_UPDATE = "switch"
LOADING_SIGNAL = "loading"

# Messages of RebuildWorkflow.
PROGRESS_QUERY = "progress"

# Messages of RunLauncher.
LAUNCH_UPDATE = "launch"
WAKE_SIGNAL = "wake"

# Messages of RunWorkflow (besides `status` and `wake`).
CANCEL_UPDATE = "cancel"
ATTEMPTS_STARTED_SIGNAL = "attempts_started"
ATTEMPTS_ENDED_SIGNAL = "attempts_ended"
SHARD_WAITS_SIGNAL = "shard_waits"
SLOTS_GRANTED_SIGNAL = "slots_granted"

# Messages of RunShardWorkflow.
BEGIN_ATTEMPTS_SIGNAL = "begin_attempts"
END_ATTEMPTS_SIGNAL = "end_attempts"

# Message of PoolWorkflow (besides `status`).
SLOTS_ASKED_SIGNAL = "slots_asked"

# Message of SensorWorkflow (besides `status` and `wake`).
EVALUATE_UPDATE = "evaluate"

# Message of Repair (besides `status` and `wake`).
REPAIR_UPDATE = "repair"

# Message of ProbeWorkflow.
PROBED_QUERY = "probed"

# Activities of a commit.
RESERVE = "reserve"
WRITE_LOG = "write_log"
WRITE_MARKER = "write_marker"
FINALIZE = "finalize"
FINALIZE_AND_RESERVE = "finalize_and_reserve"
# Activities of tables.
CREATE_TABLE = "create_table"
ADOPT_TABLE = "adopt_table"
CHECKPOINT = "checkpoint"
# Activities of a ledger round.
OPEN_LEDGER = "open_ledger"
ADMIT = "admit"
ADMIT_FOREIGN = "admit_foreign"
APPEND_EVENTS = "append_events"
FOLD = "fold"
PUBLISH = "publish"
SWITCH_STATE = "switch_state"
# Activities of a ledger's garbage collection.
MARK_GARBAGE = "mark_garbage"
SWEEP_GARBAGE = "sweep_garbage"
# Activities of a rebuild.
PLAN_REBUILD = "plan_rebuild"
READ_SLICE = "read_slice"
SCAN_SEGMENT = "scan_segment"
PLAN_SHARDS = "plan_shards"
FOLD_SHARD = "fold_shard"
ASSEMBLE = "assemble"
COMPARE = "compare"
SWITCH_IN = "switch_in"
WRITE_REPORT = "write_report"

# Activities of runs.
LAUNCH_RUNS = "launch_runs"
LOAD_RUN = "load_run"
APPEND_RUN_EVENTS = "append_run_events"
WAKE_RUNS = "wake_runs"
ASK_POOLS = "ask_pools"
READ_POOL = "read_pool"
REQUEST_RUN = "request_run"
POST_ATTEMPT = "post_attempt"
NOTE_SEALS = "note_seals"
# Activities of repairs.
LOOK_FOR_REPAIRS = "look_for_repairs"
MAKE_REPAIRS = "make_repairs"
# Activity of schedules.
EVALUATE_SCHEDULES = "evaluate_schedules"
# Activities of sensors.
LOOK_AT_SENSOR = "look_at_sensor"
RECORD_EVALUATION = "record_evaluation"
# Activities of backfills.
EVALUATE_BACKFILL = "evaluate_backfill"
REQUEST_BACKFILL = "request_backfill"
# Activities of users' workers.
RUN_ATTEMPT = "run_attempt"
EVALUATE_SENSOR = "evaluate_sensor"

# Activity of a probe.
PROBE = "probe"

# Task queues.
COMMIT_QUEUE = "springline-commit"
MAINTENANCE_QUEUE = "springline-maintenance"
LEDGER_QUEUE = "springline-ledger"
REBUILD_QUEUE = "springline-rebuild"
RUNS_QUEUE = "springline-runs"
ALL_QUEUES = (COMMIT_QUEUE, LEDGER_QUEUE, MAINTENANCE_QUEUE, REBUILD_QUEUE, RUNS_QUEUE)

# Search attributes.
SEARCH_TENANT = "SpringlineTenant"
SEARCH_WORKSPACE = "SpringlineWorkspace"
SEARCH_TABLE = "SpringlineTable"
SEARCH_TABLE_NAME = "SpringlineTableName"
SEARCH_RUN = "SpringlineRun"
SEARCH_REBUILD_PHASE = "SpringlineRebuildPhase"
SEARCH_REBUILD_MODE = "SpringlineRebuildMode"
SEARCH_FAILURE_CLASS = "SpringlineFailureClass"
SEARCH_REBUILD_PERCENT = "SpringlineRebuildPercent"
SEARCH_ATTRIBUTES = {
    SEARCH_TENANT: "Keyword",
    SEARCH_WORKSPACE: "Keyword",
    SEARCH_TABLE: "Keyword",
    SEARCH_TABLE_NAME: "Keyword",
    SEARCH_RUN: "Keyword",
    SEARCH_REBUILD_PHASE: "Keyword",
    SEARCH_REBUILD_MODE: "Keyword",
    SEARCH_FAILURE_CLASS: "Keyword",
    SEARCH_REBUILD_PERCENT: "Double",
}
"""Search attribute -> its type, as Temporal names types."""

# Types of Temporal application errors.
ROLLING_OVER = "RollingOver"
INVALID_REQUEST = "InvalidRequest"
LEDGER_UNAVAILABLE = "LedgerUnavailable"
STORE_RETRY = "StoreRetry"
STORE_UNKNOWN = "StoreUnknown"
STORE_MISCONFIGURED = "StoreMisconfigured"
INVARIANT_VIOLATED = "InvariantViolated"
UNFORESEEN = "Unforeseen"
WORKER_STOPPED = "WorkerStopped"
FOUND_NOTHING = "FoundNothing"
WORKER_NOT_READY = "WorkerNotReady"

# Metrics (Prometheus names; counters get `_total` from the exporter).
METRIC_COMMITS = "springline_delta_commits"  # label result: committed, replayed, refused
METRIC_ROUNDS = "springline_delta_rounds"  # label mode: strict, append
METRIC_ROUND_MEMBERS = "springline_delta_round_members"
METRIC_RECOVERIES = "springline_delta_recoveries"  # label outcome: completed, abandoned, released, void
METRIC_REQUESTS_FAILED = "springline_requests_failed"  # label kind: commit, append, foreign
METRIC_STEP_SECONDS = "springline_delta_step"  # the exporter adds `_seconds`; label step
METRIC_STORE_REQUESTS = "springline_store_requests"  # labels operation, outcome
METRIC_HTTP_REQUESTS = "springline_http_requests"  # labels method, route, status
METRIC_HTTP_SECONDS = "springline_http_request_seconds"  # labels method, route
METRIC_COALESCED_REQUESTS = "springline_coalesced_requests"
METRIC_COALESCED_BATCHES = "springline_coalesced_batches"
METRIC_COALESCED_RETRIES = "springline_coalesced_retries"
METRIC_COALESCED_FAILED = "springline_coalesced_failed"
METRIC_COALESCED_EXPIRED = "springline_coalesced_expired"

# Metrics of the ledger; labels tenant and workspace on the gauges only.
METRIC_LEDGER_LAG_EVENTS = "springline_ledger_lag_events"  # gauge: accepted and not visible
METRIC_LEDGER_LAG_SECONDS = "springline_ledger_lag_seconds"  # gauge: age of the oldest event that is not visible
METRIC_LEDGER_EVENTS = "springline_ledger_events"  # labels origin: own, foreign; outcome: an `EventOutcome`
METRIC_LEDGER_REFUSED_EVENTS = "springline_ledger_refused_events"  # label reason: a `Code` or `RefusalReason`
METRIC_LEDGER_REQUESTS = "springline_ledger_requests"  # label result: accepted, replayed, refused
METRIC_LEDGER_ROUNDS = "springline_ledger_rounds"  # label kind: delta, base, refold
METRIC_LEDGER_ROUND_EVENTS = "springline_ledger_round_events"
METRIC_LEDGER_ROUND_STORE_REQUESTS = "springline_ledger_round_store_requests"
METRIC_LEDGER_STEP_SECONDS = "springline_ledger_step"  # the exporter adds `_seconds`; label step
METRIC_LEDGER_FOLD_SECONDS = "springline_ledger_fold"  # the exporter adds `_seconds`; label kind: as of rounds
METRIC_LEDGER_PUBLISH_RETRIES = "springline_ledger_publish_retries"  # label cause: lost, unknown, store
METRIC_LEDGER_REFOLDED_EVENTS = "springline_ledger_refolded_events"
METRIC_REBUILD_STEP_SECONDS = "springline_rebuild_step"  # the exporter adds `_seconds`; label step
METRIC_RUN_STEP_SECONDS = "springline_run_step"  # the exporter adds `_seconds`; label step
METRIC_SCHEDULE_TICKS = "springline_schedule_ticks"  # labels status; reason: a `TickReason`, empty for runs
METRIC_SCHEDULE_LATE_SECONDS = "springline_schedule_late"  # the exporter adds `_seconds`
METRIC_SENSOR_EVALUATIONS = "springline_sensor_evaluations"  # label outcome: an `EvaluationOutcome`
METRIC_SENSOR_LATE_SECONDS = "springline_sensor_late"  # the exporter adds `_seconds`
METRIC_SENSOR_MESSAGES = "springline_sensor_messages"  # gauge, labels tenant and workspace: those that wait
METRIC_SENSOR_OLDEST_MESSAGE = "springline_sensor_oldest_message_timestamp_seconds"  # gauge, likewise
METRIC_SENSOR_ON_TIME = "springline_sensor_on_time_timestamp_seconds"  # gauge, likewise: up to when no sensor is late
METRIC_BACKFILL_CHUNKS = "springline_backfill_chunks"  # label step: planned, succeeded, failed, cancelled
METRIC_BACKFILL_OPEN_CHUNKS = "springline_backfill_open_chunks"  # gauge, labels tenant and workspace
METRIC_BACKFILL_OLDEST_CHUNK = "springline_backfill_oldest_chunk_timestamp_seconds"  # gauge, likewise: of open ones
METRIC_BACKFILL_MOVED = "springline_backfill_moved_timestamp_seconds"  # gauge, likewise: up to when none stood still
METRIC_SCHEDULE_LAST_PASS = "springline_schedule_last_pass_timestamp_seconds"  # gauge, labels tenant and workspace
METRIC_TAKEOVERS = "springline_takeovers"  # labels workflow: its type; cause: worker, start
METRIC_REPAIR_LAST_PASS = "springline_repair_last_pass_timestamp_seconds"  # gauge, labels tenant and workspace
METRIC_REPAIR_FINDINGS = "springline_repair_findings"  # label kind: a `RepairKind`; once for each look
METRIC_RUNS = "springline_runs"  # label state: STARTED, REFUSED (not to be planned), or that of its end
METRIC_ATTEMPTS = "springline_run_attempts"  # label outcome: succeeded, failed, cancelled, lost
METRIC_LAUNCH_SECONDS = "springline_run_launch"  # the exporter adds `_seconds`: from the request to the run
METRIC_ATTEMPT_WAIT_SECONDS = "springline_run_attempt_wait"  # the exporter adds `_seconds`: until a worker begins it
METRIC_REQUESTS_WAITING = "springline_run_requests_waiting"  # gauge, labels tenant and workspace
METRIC_REPAIRS = "springline_repairs"  # labels kind: a `RepairKind`; outcome: made, failed
METRIC_PUBLISHED_READS = "springline_published_reads"  # label how: held, advanced, loaded
METRIC_LEDGER_GARBAGE_OBJECTS = "springline_ledger_garbage_objects"  # label step: marked, deleted, emptied, kept


def attempt_queue(tenant: str, workspace: str, location: str, queue: str | None = None) -> str:
    """Return the task queue from which users' workers take the attempts of a code location, or of one of its queues."""
    return f"springline-attempts/{tenant}/{workspace}/{location}" + ("" if queue is None else f"/{queue}")


def sensor_queue(tenant: str, workspace: str, location: str) -> str:
    """Return the task queue from which users' workers take the evaluations of a code location's sensors."""
    return f"springline-sensors/{tenant}/{workspace}/{location}"


def sensor_workflow_id(tenant: str, workspace: str, sensor_id: str) -> str:
    """Return the id that makes Temporal keep one workflow for each sensor."""
    return f"evaluator/sensor/{tenant}/{workspace}/{sensor_id}"


def run_workflow_id(tenant: str, workspace: str, run_id: str) -> str:
    """Return the id that makes Temporal keep one workflow for each run."""
    return f"run/{tenant}/{workspace}/{run_id}"


def run_shard_id(tenant: str, workspace: str, run_id: str, writer: str, number: int) -> str:
    """Return the id of a shard of a large run. `writer` is that of its run, `number` counts its shards from 1."""
    return f"{run_workflow_id(tenant, workspace, run_id)}/{writer}/{number}"


def pool_workflow_id(tenant: str, workspace: str, pool: str) -> str:
    """Return the id that makes Temporal keep one workflow for each pool of slots."""
    return f"pool/{tenant}/{workspace}/{pool}"


def run_launcher_id(tenant: str, workspace: str) -> str:
    """Return the id that makes Temporal keep one launcher of runs for each workspace."""
    return f"evaluator/runs/{tenant}/{workspace}"


def schedule_evaluator_id(tenant: str, workspace: str) -> str:
    """Return the id that makes Temporal keep one evaluator of schedules for each workspace."""
    return f"evaluator/schedules/{tenant}/{workspace}"


def backfill_evaluator_id(tenant: str, workspace: str, backfill_id: str) -> str:
    """Return the id that makes Temporal keep one evaluator for each backfill."""
    return f"evaluator/backfill/{tenant}/{workspace}/{backfill_id}"


def repair_workflow_id(tenant: str, workspace: str) -> str:
    """Return the id that makes Temporal keep one workflow that repairs for each workspace."""
    return f"evaluator/repair/{tenant}/{workspace}"


def probe_workflow_id(queue: str) -> str:
    """Return the id that keeps one probe of a queue's workers under way."""
    return f"probe/{queue}"


def commit_workflow_id(tenant: str, workspace: str, table_id: str) -> str:
    """Return the id that makes Temporal keep one sequencer per table."""
    return f"commit/{tenant}/{workspace}/{table_id}"


def create_table_workflow_id(tenant: str, workspace: str, name: str) -> str:
    """Return the id that makes Temporal keep one creation per table name."""
    return f"create-table/{tenant}/{workspace}/{name}"


def checkpoint_workflow_id(tenant: str, workspace: str, table_id: str) -> str:
    """Return the id that keeps one checkpoint of a table under way."""
    return f"checkpoint/{tenant}/{workspace}/{table_id}"


def ledger_workflow_id(tenant: str, workspace: str) -> str:
    """Return the id that makes Temporal keep one sequencer per workspace (docs/protocol.md#ledger-rounds)."""
    return f"ledger/{tenant}/{workspace}"


def rebuild_workflow_id(tenant: str, workspace: str) -> str:
    """Return the id that makes Temporal keep one rebuild of a workspace under way."""
    return f"rebuild/{tenant}/{workspace}"


def garbage_workflow_id(tenant: str, workspace: str) -> str:
    """Return the id that keeps one garbage collection of a workspace's ledger under way."""
    return f"ledger-garbage/{tenant}/{workspace}"
