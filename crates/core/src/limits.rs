//! Every bound on a queue, a retry or a wait (invariant 6). A wait without a bound has a name.

/// Times a held lock is tried again before its holder is named: `status` holds it for a moment too.
pub const LOCK_RETRIES_MAX: u32 = 20;
/// Pause between two tries.
pub const LOCK_RETRY_MS: u64 = 5;
/// Tasks released ahead of the workers, per worker: enough that none is idle, few enough that a lost run re-runs little.
pub const RELEASE_WINDOW_PER_WORKER: u32 = 2;
/// Attempts at one task before its job fails, when the error says that retrying may help.
pub const ATTEMPTS_MAX_RETRY: u8 = 5;
/// Attempts at one task before its job fails, when the result failed its check.
pub const ATTEMPTS_MAX_CORRUPT: u8 = 3;
/// First delay before another attempt; doubled for each further one.
pub const BACKOFF_FIRST_MS: u64 = 100;
/// Longest delay before another attempt.
pub const BACKOFF_MAX_MS: u64 = 10_000;
/// Outputs of one worker that are computed but not yet committed; more would only hold memory.
pub const UNCOMMITTED_MAX: usize = 2;
/// How many bytes of records a group commit collects before it syncs.
pub const GROUP_COMMIT_BYTES: usize = 64 * 1024;
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
