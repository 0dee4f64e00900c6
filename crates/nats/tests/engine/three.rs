//! Three servers that replicate each other: what is going on goes on when one of them dies, and what is new waits for an election.
//!
//! Those that measure come one after the other: elections are a matter of timeouts, which nine busy servers on a small machine would miss.

use crate::harness::{attempt, found_server, says, take, wait_until};
use crate::lease::keep_alive;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::net::TcpListener;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tilework_core::driver::Queue;
use tilework_core::ids::WorkerIdx;
use tilework_core::lease::DriverIdx;
use tilework_core::limits::HEARTBEAT_MS;
use tilework_core::message::{JobAttempt, WorkerReport};
use tilework_core::worker::WorkerEvent;
use tilework_nats::limits::ACK_WAIT_REPLICATED;
use tilework_nats::server_address::ROUTE_PORT_OFFSET;
use tilework_nats::{
    Bucket, ChildServer, Control, JoinFile, LeaseKeeper, NatsDriverPort, NatsOptions, NatsWorkerPort, Role,
    ThreeServersFolder,
};
use tilework_runtime::contract;
use tilework_runtime::engine::{DriverPort, WorkerPort};

/// Three servers agree on who leads them.
const READY: Duration = Duration::from_secs(20);
/// New tasks are delivered again after a server was killed.
const GAP_MAX: Duration = Duration::from_secs(12);
/// The same after one that was stopped in good order.
const GAP_MAX_STOPPED: Duration = Duration::from_secs(2);
/// Some driver leads again after a server was killed.
const LEADS_AGAIN: Duration = Duration::from_secs(20);
/// A task that was on its way to a worker as its server died comes again when nobody gave a sign of it.
const LATE_MAX: Duration = ACK_WAIT_REPLICATED.saturating_add(Duration::from_secs(5));
const ALL_DELIVERED: Duration = LATE_MAX.saturating_add(Duration::from_secs(5));
const TICK: Duration = Duration::from_millis(20);

/// What was measured.
#[expect(clippy::print_stdout, reason = "whoever runs the tests wants to see it")]
fn tell(measured: &str) {
    println!("{measured}");
}

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Three running servers and their folder.
struct Three {
    folder: ThreeServersFolder,
    servers: Vec<Option<ChildServer>>,
    admin: Admin,
    _dir: TempDir,
    _turn: Option<MutexGuard<'static, ()>>,
}

impl Three {
    /// When no other test measures.
    fn start() -> Three {
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        Three::start_with(Some(turn))
    }

    fn start_with(turn: Option<MutexGuard<'static, ()>>) -> Three {
        let dir = tempfile::tempdir().unwrap();
        // Somebody else may take a port between its being found free and its use.
        for n in 0..5 {
            let addresses: Vec<_> = (0..3)
                .map(|_| format!("127.0.0.1:{}", free_port()).parse().unwrap())
                .collect();
            let folder = ThreeServersFolder::init(&dir.path().join(format!("c{n}")), &addresses).unwrap();
            let program = found_server().path;
            let started: Result<Vec<_>, _> = (1..=3)
                .map(|n| ChildServer::in_folder(&program, &folder.server(n)))
                .collect();
            let Ok(servers) = started else { continue };
            let three = Three {
                admin: Admin::connect(&JoinFile::read(&folder.join(Role::Driver), Role::Driver).unwrap()),
                folder,
                servers: servers.into_iter().map(Some).collect(),
                _dir: dir,
                _turn: turn,
            };
            let control = three.control(Role::Driver, "maker");
            let ready = wait_until("the stores are made", READY, || control.create_stores().is_ok());
            tell(&format!("three servers are ready {ready:?} after they listen"));
            return three;
        }
        panic!("the servers did not start at any of five triples of ports");
    }

    fn options(&self, role: Role, name: &str) -> NatsOptions {
        let join = JoinFile::read(&self.folder.join(role), role).unwrap();
        NatsOptions::joining(&join, name)
    }

    fn control(&self, role: Role, name: &str) -> Control {
        Control::connect(&self.options(role, name)).expect("it joins")
    }

    fn driver(&self) -> NatsDriverPort {
        NatsDriverPort::connect(&self.options(Role::Driver, "driver")).expect("the driver joins")
    }

    fn worker(&self, worker: u32) -> NatsWorkerPort {
        let options = self.options(Role::Worker, &format!("w{worker}"));
        NatsWorkerPort::connect(&options, WorkerIdx(worker)).expect("the worker joins")
    }

    /// Starts what was stopped, and waits until it has what it missed.
    fn start_missing(&mut self) -> Duration {
        let program = found_server().path;
        for (n, server) in (1..).zip(&mut self.servers) {
            let start = || ChildServer::in_folder(&program, &self.folder.server(n)).expect("it starts");
            server.get_or_insert_with(start);
        }
        let started = Instant::now();
        let is_current = |info: &Value| {
            let replicas = info["cluster"]["replicas"].as_array();
            replicas.is_some_and(|all| all.len() == 2 && all.iter().all(|one| one["current"] == true))
        };
        for stream in STREAMS {
            let info = format!("STREAM.INFO.{stream}");
            wait_until("it is current", READY, || is_current(&self.admin.get(&info)));
        }
        started.elapsed()
    }

    /// Takes away what a server had stored that does not run.
    fn wipe_missing(&self) {
        for (n, _) in (1..).zip(&self.servers).filter(|(_, server)| server.is_none()) {
            std::fs::remove_dir_all(self.folder.server(n).join("data")).expect("it had a store");
        }
    }

    /// The server that is called so, which is not there any more.
    fn take(&mut self, name: &str) -> ChildServer {
        let n: usize = name.strip_prefix("tilework-").unwrap().parse().unwrap();
        self.servers[n - 1].take().expect("it runs")
    }
}

/// A port that is free, and the one for the routes above it too. Below those from which the system takes outgoing ones.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let is_free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let first = (std::process::id() % 97 * 90) as u16;
    (0..900)
        .map(|_| 20_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 9_000)
        .find(|port| is_free(*port) && is_free(*port + ROUTE_PORT_OFFSET))
        .expect("a free port")
}

/// Asks the servers what only an operator asks, with a driver's key.
struct Admin {
    runtime: tokio::runtime::Runtime,
    client: async_nats::Client,
    /// Read again whenever it connects again.
    _authority: tempfile::NamedTempFile,
}

impl Admin {
    fn connect(join: &JoinFile) -> Admin {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let pem = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(pem.path(), &join.authority).unwrap();
        let client = async_nats::ConnectOptions::with_nkey(join.seed.clone())
            .add_root_certificates(pem.path().to_path_buf())
            .require_tls(true)
            .request_timeout(Some(Duration::from_secs(1)))
            .custom_inbox_prefix(join.role.inboxes());
        let client = runtime.block_on(client.connect(join.servers.clone())).unwrap();
        Admin {
            runtime,
            client,
            _authority: pem,
        }
    }

    /// What the servers answer, if they do.
    fn ask(&self, verb: &str, asked: &Value) -> Option<Value> {
        let asked = asked.to_string().into_bytes().into();
        let answer = self.client.request(format!("$JS.API.{verb}"), asked);
        let answer = self.runtime.block_on(answer).ok()?;
        let answer: Value = serde_json::from_slice(&answer.payload).ok()?;
        answer.get("error").is_none().then_some(answer)
    }

    /// Asks until they answer.
    fn get(&self, verb: &str) -> Value {
        let found = RefCell::new(None);
        wait_until(verb, READY, || {
            found.replace(self.ask(verb, &json!({})));
            found.borrow().is_some()
        });
        found.take().unwrap()
    }

    /// Which server leads the stream or consumer.
    fn leader_of(&self, verb: &str) -> String {
        let is_led = |info: &Value| info["cluster"]["leader"].as_str().map(str::to_owned);
        let leader = RefCell::new(None);
        wait_until("it is led", READY, || {
            leader.replace(is_led(&self.get(verb)));
            leader.borrow().is_some()
        });
        leader.take().unwrap()
    }

    /// Makes a server lead a consumer.
    fn make_lead(&self, server: &str, consumer: &str) {
        let info = format!("CONSUMER.INFO.{consumer}");
        wait_until("it leads", READY, || {
            if self.leader_of(&info) == server {
                return true;
            }
            let placement = json!({ "placement": { "preferred": server } });
            self.ask(&format!("CONSUMER.LEADER.STEPDOWN.{consumer}"), &placement);
            false
        });
    }

    fn delete_tasks(&self) {
        wait_until("the tasks are gone", READY, || {
            self.ask("STREAM.DELETE.TW_TASKS", &json!({})).is_some()
                || self
                    .ask("STREAM.NAMES", &json!({}))
                    .is_some_and(|names| !names["streams"].to_string().contains("TW_TASKS"))
        });
    }
}

/// Who was given what, and when.
type Deliveries = Arc<Mutex<Vec<(JobAttempt, Instant)>>>;

/// A worker that fetches all the time, and acknowledges what is new at once; what it held from the beginning it keeps, and gives signs
/// of work.
struct Busy {
    ends: Sender<()>,
    thread: JoinHandle<()>,
}

impl Busy {
    fn start(port: NatsWorkerPort, held: Vec<JobAttempt>, deliveries: &Deliveries) -> Busy {
        let (ends, ended) = channel();
        let deliveries = Arc::clone(deliveries);
        let thread = thread::spawn(move || Busy::run(port, &held, &deliveries, &ended));
        Busy { ends, thread }
    }

    fn run(mut port: NatsWorkerPort, held: &[JobAttempt], deliveries: &Deliveries, ended: &Receiver<()>) {
        let mut renewed = Instant::now();
        port.fetch();
        while ended.try_recv().is_err() {
            if renewed.elapsed() >= Duration::from_millis(HEARTBEAT_MS) {
                renewed = Instant::now();
                held.iter().for_each(|attempt| port.renew(*attempt));
            }
            if let Some(WorkerEvent::Assigned(attempt)) = port.next(TICK) {
                deliveries.lock().unwrap().push((attempt, Instant::now()));
                port.ack(attempt);
                port.fetch();
            }
        }
        held.iter().for_each(|attempt| port.ack(*attempt));
    }

    fn end(self) {
        self.ends.send(()).unwrap();
        self.thread.join().unwrap();
    }
}

/// How new tasks fared after the server that led their queue ended.
#[derive(Debug, Default)]
struct Fared {
    /// The longest time in which none was delivered.
    gap: Duration,
    /// The longest that one was late by.
    late_max: Duration,
    /// Those that were later than the gap: they were on their way to a worker, and come again.
    n_lost_on_the_way: usize,
    /// Those that were held by who gave signs of them, and were delivered again.
    n_held_again: usize,
    /// All.
    n_tasks: usize,
}

const STREAMS: [&str; 6] = [
    "TW_TASKS",
    "TW_EVENTS",
    "KV_tw_jobs",
    "KV_tw_workers",
    "KV_tw_members",
    "KV_tw_lease",
];
const N_HELD: u64 = 8;
const FIRST_NEW: u64 = 1_000;

/// Releases a task every 50 ms, while one worker holds some and both take what comes; ends the server that leads the queue after 2 s, and
/// goes on for `time`. What is held and given signs of never comes again.
fn load(three: &mut Three, time: Duration, end: impl FnOnce(ChildServer)) -> Fared {
    let (mut driver, mut holder) = (three.driver(), three.worker(0));
    (0..N_HELD).for_each(|task| driver.release(attempt(task), Queue::Shared));
    let held: Vec<JobAttempt> = (0..N_HELD).map(|_| take(&mut holder)).collect();
    let leader = three.admin.leader_of("STREAM.INFO.TW_TASKS");
    three.admin.make_lead(&leader, "TW_TASKS.q-shared");
    let server = three.take(&leader);
    let deliveries = Deliveries::default();
    let workers = [
        Busy::start(holder, held.clone(), &deliveries),
        Busy::start(three.worker(1), Vec::new(), &deliveries),
    ];
    let mut released = Vec::new();
    let mut release_for = |time: Duration| {
        let start = Instant::now();
        while start.elapsed() < time {
            driver.release(attempt(FIRST_NEW + released.len() as u64), Queue::Shared);
            released.push(Instant::now());
            thread::sleep(Duration::from_millis(50)); // waits: the pace of releases
        }
    };
    release_for(Duration::from_secs(2));
    let ended = Instant::now();
    end(server);
    release_for(time);
    let stopped = Instant::now();
    let n_delivered = || deliveries.lock().unwrap().len();
    wait_until("all are delivered", ALL_DELIVERED, || {
        n_delivered() >= released.len()
    });
    workers.into_iter().for_each(Busy::end);
    fared(&held, &released, &deliveries.lock().unwrap(), ended..stopped)
}

fn fared(
    held: &[JobAttempt],
    released: &[Instant],
    deliveries: &[(JobAttempt, Instant)],
    looked_at: Range<Instant>,
) -> Fared {
    let again = deliveries.iter().filter(|(attempt, _)| held.contains(attempt));
    let mut fared = Fared {
        n_held_again: again.count(),
        ..Fared::default()
    };
    let mut last = looked_at.start;
    for (_, at) in deliveries.iter().filter(|(_, at)| looked_at.contains(at)) {
        fared.gap = fared.gap.max(at.duration_since(last));
        last = *at;
    }
    fared.gap = fared.gap.max(looked_at.end.duration_since(last));
    for (task, since) in (FIRST_NEW..).zip(released) {
        let mut found = deliveries.iter().filter(|(found, _)| *found == attempt(task));
        let (_, at) = found.next().expect("each is delivered");
        let late = at.duration_since(*since);
        fared.late_max = fared.late_max.max(late);
        fared.n_lost_on_the_way += usize::from(late > fared.gap + Duration::from_secs(2));
        fared.n_tasks += 1;
    }
    fared
}

#[test]
fn three_servers_keep_the_contract() {
    // It measures nothing, and mostly waits for pulls to expire.
    let three = Three::start_with(None);
    contract::check(|n_workers| {
        // The last engine's ports are gone by now.
        three.admin.delete_tasks();
        let driver = Box::new(three.driver());
        let workers = (0..n_workers).map(|worker| Box::new(three.worker(worker)) as _);
        (driver as _, workers.collect())
    });
    for stream in [
        "TW_TASKS",
        "TW_EVENTS",
        "KV_tw_jobs",
        "KV_tw_workers",
        "KV_tw_members",
        "KV_tw_lease",
    ] {
        let info = three.admin.get(&format!("STREAM.INFO.{stream}"));
        assert_eq!(info["config"]["num_replicas"], 3, "{stream}");
        assert_eq!(
            info["cluster"]["replicas"].as_array().unwrap().len(),
            2,
            "{stream}"
        );
    }
    let consumer = three.admin.get("CONSUMER.INFO.TW_TASKS.q-shared");
    assert_eq!(consumer["cluster"]["replicas"].as_array().unwrap().len(), 2);
    assert_eq!(consumer["config"]["ack_wait"], 20_000_000_000_u64);
}

#[test]
fn the_death_of_a_server_keeps_new_tasks_back_for_an_election_and_live_ones_not_at_all() {
    let mut three = Three::start();
    // With what is waited for at the end: longer than it takes a task without signs of work to come again.
    let fared = load(&mut three, Duration::from_secs(22), ChildServer::kill);
    tell(&format!("SIGKILL of the queue's leader: {fared:?}"));
    let cost = json!({
        "row": "one-server-of-three",
        "recovered_ms": fared.gap.as_millis() as u64,
        "attempts_lost": fared.n_held_again,
    });
    tell(&format!("measured {cost}"));
    assert!(fared.gap < GAP_MAX, "{fared:?}");
    assert!(fared.late_max < LATE_MAX, "{fared:?}");
    assert_eq!(fared.n_held_again, 0, "{fared:?}");
    // Two servers go on as three did, for who comes now as well.
    let (mut driver, mut worker) = (three.driver(), three.worker(2));
    says(&mut driver, &mut worker, WorkerReport::Joined { memory_bytes: 1 });
    driver.release(attempt(N_HELD), Queue::Worker(WorkerIdx(2)));
    assert_eq!(take(&mut worker), attempt(N_HELD));
    three.wipe_missing();
    let caught_up = three.start_missing();
    tell(&format!(
        "a server that lost its disk has caught up after {caught_up:?}"
    ));
}

#[test]
fn a_server_that_is_stopped_in_good_order_keeps_nothing_back() {
    let mut three = Three::start();
    let fared = load(&mut three, Duration::from_secs(5), ChildServer::stop);
    tell(&format!("SIGTERM of the queue's leader: {fared:?}"));
    assert!(fared.gap < GAP_MAX_STOPPED, "{fared:?}");
    assert!(fared.late_max < LATE_MAX, "{fared:?}");
    assert_eq!(fared.n_held_again, 0, "{fared:?}");
    // It comes back as after an upgrade, and has what it missed: the next one may be stopped.
    let caught_up = three.start_missing();
    tell(&format!(
        "a server that is back has caught up after {caught_up:?}"
    ));
}

#[test]
fn a_server_that_hangs_is_missed_as_one_that_died() {
    let mut three = Three::start();
    let hung = RefCell::new(None);
    let fared = load(&mut three, Duration::from_secs(14), |server| {
        let pid = i32::try_from(server.pid()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a process"), Signal::STOP).expect("it hangs");
        hung.replace(Some(server));
    });
    hung.take().expect("it hung").kill();
    tell(&format!("SIGSTOP of the queue's leader: {fared:?}"));
    assert!(fared.gap < GAP_MAX, "{fared:?}");
    assert!(fared.late_max < LATE_MAX, "{fared:?}");
    assert_eq!(fared.n_held_again, 0, "{fared:?}");
}

#[test]
fn drivers_lead_and_records_are_kept_through_the_death_of_a_server() {
    let mut three = Three::start();
    let keepers: Arc<Vec<Arc<LeaseKeeper>>> = Arc::new(
        (1..=2)
            .map(|n| {
                let control = three.control(Role::Driver, &format!("d{n}"));
                let keeper = LeaseKeeper::start(Arc::new(control), DriverIdx(n), format!("driver {n}"));
                Arc::new(keeper)
            })
            .inspect(keep_alive)
            .collect(),
    );
    let n_leaders = || keepers.iter().filter(|keeper| keeper.is_leader()).count();
    wait_until("one leads", READY, || n_leaders() == 1);
    let ended = Arc::new(AtomicBool::new(false));
    let watching = {
        let (keepers, ended) = (Arc::clone(&keepers), Arc::clone(&ended));
        thread::spawn(move || {
            let (mut longest, mut without) = (Duration::ZERO, None);
            while !ended.load(Ordering::SeqCst) {
                match keepers.iter().filter(|keeper| keeper.is_leader()).count() {
                    0 => longest = longest.max(without.get_or_insert_with(Instant::now).elapsed()),
                    1 => without = None,
                    _ => panic!("two lead"),
                }
                thread::sleep(Duration::from_millis(2)); // waits: the pace of looking
            }
            longest
        })
    };
    let writing = {
        let (control, ended) = (three.control(Role::Driver, "writer"), Arc::clone(&ended));
        thread::spawn(move || {
            let mut longest = Duration::ZERO;
            for n in 0_u32.. {
                if ended.load(Ordering::SeqCst) {
                    break;
                }
                let (asked, value) = (Instant::now(), n.to_string());
                let key = format!("k{}", n % 3);
                for bucket in [Bucket::Jobs, Bucket::Workers] {
                    control.put(bucket, &key, value.as_bytes()).unwrap();
                    let entry = control.get(bucket, &key).unwrap().expect("it was put");
                    assert_eq!(entry.value, value.as_bytes());
                }
                longest = longest.max(asked.elapsed());
                thread::sleep(TICK); // waits: the pace of writing
            }
            longest
        })
    };
    let control = three.control(Role::Driver, "looker");
    let revision = || {
        control
            .get(Bucket::Lease, "driver")
            .ok()
            .flatten()
            .map(|entry| entry.revision)
    };
    let before = revision().expect("somebody leads");
    let leader = three.admin.leader_of("STREAM.INFO.KV_tw_lease");
    three.take(&leader).kill();
    let killed = Instant::now();
    wait_until("the lease is renewed or taken over", LEADS_AGAIN, || {
        revision().is_some_and(|now| now > before + 1)
    });
    wait_until("one leads", LEADS_AGAIN.saturating_sub(killed.elapsed()), || {
        n_leaders() == 1
    });
    tell(&format!(
        "a driver leads again {:?} after SIGKILL",
        killed.elapsed()
    ));
    ended.store(true, Ordering::SeqCst);
    tell(&format!(
        "nobody led for {:?}",
        watching.join().expect("never two lead")
    ));
    tell(&format!(
        "a put and a get took at most {:?}",
        writing.join().expect("records are kept")
    ));
}
