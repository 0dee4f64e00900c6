//! Every bound on a queue, a retry or a wait (invariant 6). A wait without a bound has a name.

/// Times a held lock is tried again before its holder is named: `status` holds it for a moment too.
pub const LOCK_RETRIES_MAX: u32 = 20;
/// Pause between two tries.
pub const LOCK_RETRY_MS: u64 = 5;
/// Tasks released ahead of the workers, per worker: enough that none is idle, few enough that a lost run re-runs little.
/// One is written, one runs, one is next.
pub const RELEASE_WINDOW_PER_WORKER: u32 = 3;
/// The same where tasks are short: as many as are done while a group of records is written and synced.
pub const RELEASE_WINDOW_PER_WORKER_SHORT: u32 = UNSYNCED_MAX as u32 + RELEASE_WINDOW_PER_WORKER;
/// Tasks in a worker's own queue that it has not begun, where some workers can't do a job's tasks and so its shared queue is not used.
pub const UNBEGUN_IN_OWN_QUEUE_MAX: usize = 1;
/// Tasks are short that take no longer than this, from their begin to their commit.
pub const SHORT_TASK_MS: u64 = 20;
/// Attempts at one task before its job fails, when the error says that retrying may help.
pub const ATTEMPTS_MAX_RETRY: u8 = 5;
/// Attempts at one task before its job fails, when the result failed its check.
pub const ATTEMPTS_MAX_CORRUPT: u8 = 3;
/// Workers on which a task may fail for what looks like the fault of their machines, before its job fails.
pub const WORKERS_FAILED_MAX: usize = 3;
/// Workers that may find an input changed before the job fails: a single one may see a stale copy.
pub const WORKERS_INPUT_CHANGED_MAX: usize = 2;
/// Workers that may be lost while they run the same task before its job fails.
pub const ATTEMPTS_MAX_LOST: u8 = 3;
/// How long a task that passed its deadline may take to notice that it is told to stop; after that it hangs, and its worker is given up.
pub const HANG_GRACE_MS: u64 = 5_000;
/// Attempts at one task for any reason before its job fails: give-backs, backups and take-overs count too.
pub const ATTEMPTS_MAX: u8 = 60;
/// Results of one worker that may fail their checks before it gets no more tasks.
pub const CORRUPT_PER_WORKER_MAX: u32 = 3;
/// First delay before another attempt; doubled for each further one, of which the limits of attempts allow few.
pub const BACKOFF_FIRST_MS: u64 = 100;
/// Longest delay before another attempt: the last one that may be tried again has failed once less than is allowed.
pub const BACKOFF_MAX_MS: u64 = BACKOFF_FIRST_MS << (ATTEMPTS_MAX_RETRY - 2);
/// Outputs of one worker that are computed but not yet durable; more would only hold memory.
pub const UNCOMMITTED_MAX: usize = 2;
/// Records of one worker that are not yet durable, while the next tasks run: where these are short, the more of them share a sync.
pub const UNSYNCED_MAX: usize = 128;
/// Bytes of such records of one worker, about; the next task waits for some of them.
pub const UNSYNCED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How many bytes of records a group commit collects before it syncs.
pub const GROUP_COMMIT_BYTES: usize = 64 * 1024;
/// How long a group commit that has fewer bytes waits for more, from the begin of the one before ...
pub const GROUP_COMMIT_MS: u64 = 5;
/// ... if so many records came in that time: where they are few, nobody waits.
pub const GROUP_COMMIT_RECORDS_MIN: usize = 8;
/// Largest payload of one journal record.
pub const RECORD_PAYLOAD_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Tasks of one round: a barrier record names the winner of each in five bytes.
pub const TASKS_MAX: u64 = 3_000_000;
/// Times a job may be verified after its last task before tiles that keep going bad fail it.
pub const VERIFY_PASSES_MAX: u32 = 3;
/// How long the driver loop sleeps at most when no event comes: progress is drawn and stop requests are seen this often.
pub const DRIVER_POLL_MS: u64 = 100;
/// A named wait: how long an idle worker sleeps before it looks around and sleeps again; the driver wakes it.
pub const IDLE_WAIT_MS: u64 = 3_600_000;
/// How often a worker says that it is there.
pub const HEARTBEAT_MS: u64 = 2_000;
/// How long a worker may be silent before it counts as lost.
pub const WORKER_LOST_MS: u64 = 6_000;
/// How often the driver looks for what did not happen: silent workers, stragglers, tasks that nobody took.
pub const WATCH_MS: u64 = 500;
/// How long a released task may lie in a queue while a worker is idle, before it is released anew.
pub const UNCLAIMED_MS: u64 = 20_000;
/// How long a job may stand still before an alarm says so.
pub const STALL_ALARM_MS: u64 = 10_000;
/// How long a round-robin job waits for the workers that it expects before it deals its tasks to those that are there.
pub const DEAL_WAIT_MS: u64 = 5_000;
/// How long a driver that took a job over listens to what the workers hold, before it releases the rest.
pub const TAKE_OVER_LISTEN_MS: u64 = 2_500;
/// How long a job waits for space on a full disk before it tries again, where it was told to wait.
pub const DISK_FULL_WAIT_MS: u64 = 30_000;
/// An attempt counts as a straggler when it takes this much longer than the typical one, in percent ...
pub const STRAGGLER_PERCENT: u64 = 150;
/// ... and a worker as slow.
pub const SLOW_WORKER_PERCENT: u64 = 300;
/// Backup attempts of a round, per thousand of its tasks; one is always allowed.
pub const BACKUPS_PER_MILLE: u64 = 50;
/// Committed attempts from whose durations the typical one is taken.
pub const DURATIONS_KEPT: usize = 15;
/// Alarms of one run that are written beside its output; what comes after them is only logged.
pub const ALARMS_WRITTEN_MAX: u64 = 10_000;
/// How long after the last alarm the end of a job waits for it to be written: a file system that hangs must not hang a driver.
pub const ALARMS_FLUSH_MS: u64 = 3_000;
/// Alarms that a run's report lists, the latest; it counts them all.
pub const ALARMS_REPORTED_MAX: usize = 100;
/// Alarms that wait for a webhook; what comes while it is full is not posted, which is said at the end.
pub const WEBHOOK_QUEUE_MAX: usize = 100;
/// Times that an alarm is posted to a webhook before it is given up.
pub const WEBHOOK_ATTEMPTS_MAX: u32 = 4;
/// First delay before an alarm is posted again; doubled for each further one.
pub const WEBHOOK_BACKOFF_FIRST_MS: u64 = 250;
/// How long one POST may take, from the look-up of the host's name to its answer.
pub const WEBHOOK_REQUEST_MS: u64 = 10_000;
/// How long a job that has ended waits for its last alarms to be posted.
pub const WEBHOOK_FLUSH_MS: u64 = 3_000;
/// How long a driver's lease is good for after its last renewal, as the others see it.
pub const LEASE_MS: u64 = 6_000;
/// How often it is renewed.
pub const LEASE_RENEW_MS: u64 = 2_000;
/// How long a driver that can't renew its lease goes on: less than the others wait, by more than clocks differ in rate.
pub const LEASE_STEP_DOWN_MS: u64 = 4_000;
/// A driver that has not taken an event for so long hangs, and may not keep its lease.
pub const LEASE_ALIVE_MS: u64 = 8_000;
/// Jobs of which a worker remembers the latest run; when there are more, those that it holds nothing of are forgotten.
pub const RUNS_REMEMBERED_MAX: usize = 1_000;
