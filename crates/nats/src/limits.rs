//! Every bound of this engine on a queue, a retry or a wait. What driver and workers promise each other is in core's limits.
//!
//! Waits without a bound have a pause between two tries: a connection that was lost is sought again for ever, messages wait for it, and
//! a release that the server did not take is published again until it does. While they last, the job waits and says so.

use std::time::Duration;

/// Without an acknowledgement or a sign of work for this long, a single server delivers a task again. A sign is given every
/// heartbeat, so this is what a worker's death costs at most where no driver notices it.
pub const ACK_WAIT_SINGLE: Duration = Duration::from_secs(8);
/// The same on replicated servers: an election takes up to 9 s, and signs of work that are given meanwhile are lost.
pub const ACK_WAIT_REPLICATED: Duration = Duration::from_secs(20);
/// Deliveries of one task message before a worker takes it out of the queue unseen: the driver releases its task anew.
pub const DELIVERIES_MAX: i64 = 20;
/// Acknowledged attempts that a worker recognizes when they are delivered again.
pub const ACKED_REMEMBERED_MAX: usize = 256;
/// Tasks of one queue that workers may hold; more are not delivered.
pub const ACK_PENDING_MAX: i64 = 20_000;
/// Pulls that may wait at one queue: two for each worker.
pub const PULLS_WAITING_MAX: i64 = 8_192;
/// Bytes of all tasks in the stream, released and unfinished; core releases three for each worker.
pub const TASK_STREAM_BYTES_MAX: i64 = 64 * 1024 * 1024;
/// Bytes of one message in the stream.
pub const STREAM_MESSAGE_BYTES_MAX: i32 = 64 * 1024;
/// For this long a release that is published twice is stored once.
pub const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);

/// How long a pull waits at the server for a task before it is asked anew.
pub const PULL_EXPIRES: Duration = Duration::from_secs(3);
/// The same at several servers. When one of them ends, even in good order, the pulls that wait there may end with it unsaid; and a task that
/// is sent to a pull whose worker has died lies there until it is delivered again.
pub const PULL_EXPIRES_REPLICATED: Duration = Duration::from_secs(1);
/// How long after that, or after a pull that does not wait, an answer may take before it counts as lost.
pub const PULL_GRACE: Duration = Duration::from_millis(500);
/// First pause after a pull that the server refused; doubled for each further one.
pub const PULL_PAUSE_FIRST: Duration = Duration::from_millis(50);
/// Longest pause after a pull that the server refused. An election of up to 9 s ends in one, and new tasks are promised after 12 s.
pub const PULL_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Releases that are published and not yet known to be stored.
pub const RELEASES_UNDER_WAY_MAX: usize = 256;
/// Releases that wait to be published; more are dropped, and core releases them anew when nobody took them.
pub const RELEASES_WAITING_MAX: usize = 65_536;
/// First pause after a release that the server did not take; doubled for each further one.
pub const RELEASE_PAUSE_FIRST: Duration = Duration::from_millis(50);
/// Longest pause after a release that the server did not take.
pub const RELEASE_PAUSE_MAX: Duration = Duration::from_millis(250);

/// Messages that wait to be sent; more are dropped: whatever matters is said again by a heartbeat.
pub const OUTBOX_MAX: usize = 4_096;
/// Reports of a worker that are said again after a reconnect ...
pub const SAID_AGAIN_MAX: usize = 64;
/// ... and how old they may be: a connection that hangs is noticed in three pings.
pub const SAID_AGAIN_FOR: Duration = Duration::from_secs(20);
/// How long a message may take to enter the client's buffer, which is full only while the server is away.
pub const SEND_WAIT: Duration = Duration::from_secs(1);
/// How long an acknowledgement is tried before it is left to the redelivery of a task that changes nothing.
pub const ACK_TRIES_FOR: Duration = Duration::from_secs(30);
/// Pause between two tries.
pub const ACK_PAUSE: Duration = Duration::from_millis(200);
/// Acknowledgements of a worker that the server is asked to hear at a time; more wait.
pub const ACKS_UNDER_WAY_MAX: usize = 64;
/// How long a port that is dropped waits for what it still has to say.
pub const CLOSE_WAIT: Duration = Duration::from_secs(2);
/// How long its threads may take to end after that.
pub const SHUTDOWN_WAIT: Duration = Duration::from_millis(500);

/// Bytes of one record: a server passes on at most 1 MiB at once, and what it says about a record goes with it.
pub const RECORD_BYTES_MAX: usize = 1024 * 1024 - 16 * 1024;
/// Bytes of one record and its headers in a bucket.
pub const STORED_RECORD_BYTES_MAX: i32 = 1024 * 1024 - 8 * 1024;
/// Bytes of all records of jobs.
pub const JOBS_BYTES_MAX: i64 = 256 * 1024 * 1024;
/// Bytes of all records of workers, which a server keeps in its memory.
pub const WORKERS_BYTES_MAX: i64 = 32 * 1024 * 1024;
/// Workers whose records are kept at once. Each may have two pulls at the shared queue, and the board has to show them all in one record.
pub const MEMBERS_MAX: usize = 2_048;
/// Bytes of one worker's record ...
pub const MEMBER_BYTES_MAX: usize = 8 * 1024;
/// ... with its headers.
pub const STORED_MEMBER_BYTES_MAX: i32 = 9 * 1024;
/// Bytes of the records of all workers, and as much again for those that two drivers admit while the lease changes hands, so that a
/// record can always be taken away.
pub const MEMBERS_BYTES_MAX: i64 = 2 * MEMBERS_MAX as i64 * STORED_MEMBER_BYTES_MAX as i64;
/// Bytes of the lease.
pub const LEASE_BYTES_MAX: i64 = 1024 * 1024;
/// Bytes of one event.
pub const EVENT_BYTES_MAX: usize = 63 * 1024;
/// Bytes of all events that are kept; the oldest are dropped.
pub const EVENTS_BYTES_MAX: i64 = 256 * 1024 * 1024;
/// How long events are kept.
pub const EVENTS_KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Events that wait to be stored; more are dropped.
pub const EVENTS_WAITING_MAX: usize = 4_096;
/// First pause after an event that the server did not store; doubled for each further one.
pub const EVENT_PAUSE_FIRST: Duration = Duration::from_millis(50);
/// Longest pause after an event that the server did not store.
pub const EVENT_PAUSE_MAX: Duration = Duration::from_secs(1);
/// Requests that wait for a driver to look at them; more are dropped, and who asked hears nothing.
pub const REQUESTS_WAITING_MAX: usize = 256;
/// Messages that a listener has not looked at; more are dropped.
pub const HEARD_WAITING_MAX: usize = 1_024;
/// How long reading or changing a record may take, a reconnect and a store that has to be made again included.
pub const CONTROL_WAIT: Duration = Duration::from_secs(10);
/// The same on replicated servers: an election takes up to 9 s, those of a store and of the servers' own leader may follow each other
/// when a client hears of them, and the rest is for a reconnect.
pub const CONTROL_WAIT_REPLICATED: Duration = Duration::from_secs(20);
/// First pause before something is asked again of a store without a leader; doubled for each further one.
pub const STORE_PAUSE_FIRST: Duration = Duration::from_millis(50);
/// Longest pause before something is asked again of a store without a leader.
pub const STORE_PAUSE_MAX: Duration = Duration::from_millis(500);
/// How long the store may take to answer about the driver's lease, which has to be renewed or read a second time before a leader steps down.
pub const LEASE_ASK_WAIT: Duration = Duration::from_millis(1_500);

/// How long the first connection, a handshake included, may take.
pub const CONNECT_WAIT: Duration = Duration::from_secs(3);
/// How long a request to the server may take.
pub const REQUEST_WAIT: Duration = Duration::from_secs(3);
/// How long one try of a request to replicated servers may take, of which there are several: what a leader that died took with it is
/// never answered, and its successor is not to wait for us.
pub const REQUEST_TRY_WAIT: Duration = Duration::from_secs(1);
/// How often each side of a connection makes sure that the other is there; three missed answers end it. A machine that lost its power
/// closes no connection, and a worker that is silent for 6 s counts as lost: until then it has to be at another server.
pub const PING_INTERVAL: Duration = Duration::from_millis(1_500);
/// How long a refusal may take to be heard after the server has said it.
pub const REFUSAL_WAIT: Duration = Duration::from_millis(500);
/// First pause between two tries to connect again; the very first try comes at once.
pub const RECONNECT_PAUSE_FIRST: Duration = Duration::from_millis(50);
/// Longest pause between two tries to connect again.
pub const RECONNECT_PAUSE_MAX: Duration = Duration::from_millis(500);

/// How long `nats-server --version` may take.
pub const VERSION_WAIT: Duration = Duration::from_secs(5);
/// How long a server that was started here may take until it listens.
pub const SERVER_START_WAIT: Duration = Duration::from_secs(10);
/// How long it may take to end when asked, before it is killed.
pub const SERVER_STOP_WAIT: Duration = Duration::from_secs(5);
/// Pause between two looks at a child process.
pub const CHILD_POLL: Duration = Duration::from_millis(10);
