//! A cluster for one test: its folder, and processes that are started one by one, may be killed one by one, and never outlive the test.
#![allow(dead_code, reason = "the soak and the tests of single faults use a part each")]

use crate::common::{PATIENCE, Running, Stage};
use rustix::process::{Pid, Signal};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tilework::cluster::board::{JobOnBoard, WorkerOnBoard};
use tilework::cluster::clients::Client;
use tilework::cluster::events::{self, JobEvent};
use tilework::cluster::record::unix_ms;
use tilework_core::ids::JobId;
use tilework_core::record::Commit;
use tilework_nats::child_server::ChildServer;
use tilework_nats::server::Places;
use tilework_nats::streams::job_of_token;
use tilework_nats::{ClusterFolder, JoinFile, NatsOptions, Role};

/// Between two looks at events or processes.
const LOOK: Duration = Duration::from_millis(20);
/// Makes every task long enough to be hit.
pub(crate) const SLOW: &str = "*:600ms";
/// An attempt that began so lately has not ended yet.
const FRESH_MS: u64 = 300;
/// Below the ports that systems give to outgoing connections, so that a server that was killed gets its own again.
const PORTS: std::ops::Range<u32> = 15_000..30_000;

/// The product that most tests compute, without its output.
pub(crate) const MULTIPLY: &str = "multiply data:/A.npy data:/B.npy -o";
/// The directory of the data root `data`.
pub(crate) const DATA: &str = "data";

/// A cluster's folder `c`, its data root `data` with A and B, and its server.
pub(crate) struct Cluster {
    pub(crate) stage: Stage,
    server: Option<ChildServer>,
    port: u16,
    /// What drivers, workers and clients are.
    program: PathBuf,
    worker_memory: &'static str,
    /// Where it is said how slow the store is.
    slow_store: Option<PathBuf>,
}

impl Cluster {
    /// With a running server and nobody else.
    pub(crate) fn start() -> Cluster {
        Cluster::with_inputs("1200x300", "300x1200")
    }

    /// The same for other hosts, which reach it at this address.
    pub(crate) fn listening_on(address: Ipv4Addr) -> Cluster {
        Cluster::made("1200x300", "300x1200", address)
    }

    /// The same with inputs of other extents.
    pub(crate) fn with_inputs(a: &str, b: &str) -> Cluster {
        Cluster::made(a, b, Ipv4Addr::LOCALHOST)
    }

    fn made(a: &str, b: &str, address: Ipv4Addr) -> Cluster {
        let stage = Stage::empty();
        fs::create_dir(stage.path(DATA)).unwrap();
        for (extents, name, seed) in [(a, "A", 1), (b, "B", 2)] {
            stage.succeed(&format!(
                "generate normal {extents} -o data/{name}.npy --seed {seed}"
            ));
        }
        let port = free_port(address);
        stage.succeed(&format!(
            "cluster init c --listen {address}:{port} --host {address}"
        ));
        let mut cluster = Cluster {
            stage,
            server: None,
            port,
            program: PathBuf::from(env!("CARGO_BIN_EXE_tilework")),
            worker_memory: "16MiB",
            slow_store: None,
        };
        cluster.start_server();
        cluster
    }

    /// The same whose processes are an example's program from here on.
    pub(crate) fn of_example(mut self, example: &str) -> Cluster {
        let programs = Path::new(env!("CARGO_BIN_EXE_tilework")).parent().unwrap();
        self.program = programs.join("examples").join(example);
        // What a task needs if its job says nothing of it, and more.
        self.worker_memory = "192MiB";
        assert!(
            self.program.exists(),
            "{} is not built: cargo build -p tilework --examples",
            self.program.display()
        );
        self
    }

    /// The same whose processes are `tilework` itself again.
    pub(crate) fn of_tilework(mut self) -> Cluster {
        self.program = PathBuf::from(env!("CARGO_BIN_EXE_tilework"));
        self
    }

    /// The same whose drivers and workers have a store that is slow while `says_how` has milliseconds in it: each access takes so much longer.
    pub(crate) fn with_slow_store(mut self, says_how: PathBuf) -> Cluster {
        self.slow_store = Some(says_how);
        self
    }

    fn command(&self, line: &str) -> Command {
        let inner = self.stage.command(line);
        let mut command = Command::new(&self.program);
        command.args(inner.get_args()).current_dir(self.stage.folder());
        for (name, value) in inner.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.stdin(Stdio::null());
        command
    }

    /// The program without the cluster.
    pub(crate) fn alone(&self, line: &str) -> std::process::Output {
        Running::start(self.command(line)).end()
    }

    /// What is in the data root.
    pub(crate) fn data(&self, name: &str) -> PathBuf {
        self.stage.path(DATA).join(name)
    }

    /// The server's port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The cluster's own folder.
    pub(crate) fn folder(&self) -> PathBuf {
        self.stage.path("c")
    }

    /// Starts the server with what it kept.
    pub(crate) fn start_server(&mut self) {
        let folder = ClusterFolder::open(&self.folder()).unwrap();
        self.server = Some(ChildServer::of_cluster(&server_program(), &folder).unwrap());
    }

    /// Kills the server.
    pub(crate) fn kill_server(&mut self) {
        self.server.take().unwrap().kill();
    }

    /// The server's process, if it runs.
    pub(crate) fn server_pid(&self) -> Option<u32> {
        self.server.as_ref().map(ChildServer::pid)
    }

    /// A driver that waits for the lease, or has it.
    pub(crate) fn driver(&self, name: &str) -> Process {
        self.driver_with(name, "--cluster c/driver.join --data-root data=data")
    }

    /// The same with another join file or data root.
    pub(crate) fn driver_with(&self, name: &str, joins: &str) -> Process {
        self.process(name, &format!("driver {joins}"), "")
    }

    /// A worker that is as slow as `slow` says, and has its number. `name` is no other's.
    pub(crate) fn worker(&self, name: &str, slow: &str) -> Process {
        self.worker_with(name, slow, "--cluster c/worker.join --data-root data=data")
    }

    /// The same with another join file or data root.
    pub(crate) fn worker_with(&self, name: &str, slow: &str, joins: &str) -> Process {
        let mut process = self.worker_without_number(name, slow, joins);
        process.wait_for_number();
        process
    }

    /// A worker that need not find a driver.
    pub(crate) fn worker_without_number(&self, name: &str, slow: &str, joins: &str) -> Process {
        let memory = self.worker_memory;
        self.process(
            name,
            &format!("worker --memory {memory} --threads 1 {joins}"),
            slow,
        )
    }

    fn process(&self, name: &str, line: &str, slow: &str) -> Process {
        let mut command = self.command(&of_cluster(name, line));
        command.env("TILEWORK_TEST_SLOW", slow).envs(
            self.slow_store
                .iter()
                .map(|says_how| ("TILEWORK_TEST_SLOW_STORE", says_how)),
        );
        Process::start(command, name, self.stage.folder())
    }

    /// A driver or worker whose clock is off by the milliseconds in the file `clock`.
    pub(crate) fn with_clock(&self, name: &str, line: &str, slow: &str, clock: &str) -> Process {
        let mut command = self.command(&of_cluster(name, line));
        command.env("TILEWORK_TEST_SLOW", slow);
        command.env("TILEWORK_TEST_CLOCK", self.stage.path(clock));
        Process::start(command, name, self.stage.folder())
    }

    /// What a client's command reports whose clock is off like that.
    pub(crate) fn succeed_with_clock(&self, line: &str, clock: &str) -> Value {
        let mut command = self.command(&format!("{line} --cluster c/client.join --json"));
        command.env("TILEWORK_TEST_CLOCK", self.stage.path(clock));
        let output = Running::start(command).end();
        assert!(output.status.success(), "{line}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// A command of a client whose words can be read while it runs.
    pub(crate) fn staying_client(&self, name: &str, line: &str) -> Process {
        let command = self.command(&format!("{line} --cluster c/client.join"));
        Process::start(command, name, self.stage.folder())
    }

    /// A driver or worker that another program starts: `wrapper` with the words of `line` behind its own.
    pub(crate) fn wrapped(&self, name: &str, wrapper: &[&str], line: &str, slow: &str) -> Process {
        let inner = self.stage.command(&of_cluster(name, line));
        let mut command = Command::new(wrapper[0]);
        command
            .args(&wrapper[1..])
            .arg(inner.get_program())
            .args(inner.get_args())
            .current_dir(self.stage.folder())
            .env("TILEWORK_TEST_SLOW", slow);
        Process::start(command, name, self.stage.folder())
    }

    /// A command of a client, with the client's join file.
    pub(crate) fn client(&self, line: &str) -> Running {
        Running::start(self.command(&format!("{line} --cluster c/client.join")))
    }

    /// A client's command that succeeds; what it reports.
    pub(crate) fn succeed(&self, line: &str) -> Value {
        let output = self.client(&format!("{line} --json")).end();
        assert!(output.status.success(), "{line}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// A client's command that fails with this exit code; what it says as JSON.
    pub(crate) fn fail(&self, line: &str, exit_code: i32) -> Value {
        let output = self.client(&format!("{line} --json")).end();
        assert_eq!(output.status.code(), Some(exit_code), "{line}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Submits `line` without staying.
    pub(crate) fn submit(&self, line: &str) -> Job {
        let submitted = self.succeed(&format!("{} --detach", line.trim_end()));
        self.job(
            submitted["id"].as_str().unwrap(),
            submitted["output"].as_str().unwrap(),
        )
    }

    /// The job that computes `output`, such as `C.npy`, as soon as it runs.
    pub(crate) fn running_job(&self, output: &str) -> Job {
        let client = self.joined();
        let named = format!("data:/{output}");
        let found = wait_for(&format!("a job that computes {output}"), || {
            let board = client.board().ok()??;
            let job = board.jobs.iter().find(|job| job.output == named)?;
            (job.state == "running").then(|| job.id.clone())
        });
        self.job(&found, &named)
    }

    /// A client in this process.
    pub(crate) fn joined(&self) -> Client {
        Client::join(&self.stage.path("c/client.join")).unwrap()
    }

    /// The process that drives, as the board has it.
    pub(crate) fn driving_pid(&self) -> Option<u32> {
        let client = Client::join(&self.stage.path("c/client.join")).ok()?;
        Some(client.board().ok()??.driver?.pid)
    }

    /// A job by its id.
    pub(crate) fn job(&self, id: &str, output: &str) -> Job {
        Job {
            id: id.to_owned(),
            token: job_of_token(id).unwrap(),
            output: output.strip_prefix("data:/").unwrap().to_owned(),
            client: self.joined(),
            after: 0,
            seen: Vec::new(),
        }
    }

    /// The report of a job that ends well, once it has ended.
    pub(crate) fn report(&self, job: &Job) -> Value {
        self.succeed(&format!("watch {}", job.id))
    }

    /// Waits until a job is done and has the undisturbed bytes; its report.
    pub(crate) fn is_right(&self, job: &Job) -> Value {
        let report = self.report(job);
        assert_eq!(report["status"], "done", "{report}");
        self.has_product_of("A.npy", "B.npy", &job.output);
        report
    }

    /// Whether `output` is what one undisturbed process makes of two inputs.
    pub(crate) fn has_product_of(&self, a: &str, b: &str, output: &str) {
        self.stage.succeed(&format!(
            "multiply data/{a} data/{b} -o undisturbed.npy --overwrite"
        ));
        let undisturbed = self.stage.read("undisturbed.npy");
        assert!(
            fs::read(self.data(output)).unwrap() == undisturbed,
            "other bytes than without faults"
        );
        assert!(!self.data(&format!("{output}.partial")).exists());
    }

    /// Tasks that the journal beside `output` has commits of.
    pub(crate) fn committed(&self, output: &str) -> BTreeSet<u64> {
        let journal = self.stage.journal(&format!("{DATA}/{output}"));
        let commits = journal.map(|journal| journal.commits).unwrap_or_default();
        commits.keys().map(|(_, task)| task.0).collect()
    }

    /// Run, worker and attempt of each task's commit that counts.
    pub(crate) fn winners(&self, output: &str) -> BTreeMap<u64, (u32, u32, u8)> {
        let journal = self.stage.journal(&format!("{DATA}/{output}"));
        let commits = journal.map(|journal| journal.commits).unwrap_or_default();
        let winner = |commit: &Commit| {
            let attempt = commit.attempt;
            (attempt.epoch.0, commit.worker.0, attempt.attempt.0)
        };
        commits
            .iter()
            .map(|((_, task), commit)| (task.0, winner(commit)))
            .collect()
    }

    /// Fails if the journal has a commit of the task: then the fault came too late.
    pub(crate) fn assert_uncommitted(&self, job: &Job, begun: Begun) {
        assert!(
            !self.committed(&job.output).contains(&begun.task),
            "the fault came after the commit of {begun:?}"
        );
    }

    /// How something that is not a process of its own connects.
    pub(crate) fn options(&self, role: Role, name: &str) -> NatsOptions {
        let folder = ClusterFolder::open(&self.folder()).unwrap();
        NatsOptions::joining(&JoinFile::read(&folder.join(role), role).unwrap(), name)
    }

    /// A join file of a role whose server is at another port.
    pub(crate) fn join_through(&self, role: Role, port: u16) -> PathBuf {
        let folder = ClusterFolder::open(&self.folder()).unwrap();
        let mut join = JoinFile::read(&folder.join(role), role).unwrap();
        join.servers = vec![format!("tls://127.0.0.1:{port}")];
        let path = self.stage.path(&format!("{role}-{port}.join"));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        std::io::Write::write_all(&mut file.unwrap(), join.text().as_bytes()).unwrap();
        path
    }

    /// The workers, if there is a board.
    pub(crate) fn workers_on_board(&self) -> Option<Vec<WorkerOnBoard>> {
        Some(self.joined().board().ok()??.workers)
    }

    /// The state of a worker on the board.
    pub(crate) fn state_of(&self, worker: u32) -> Option<String> {
        let workers = self.workers_on_board()?;
        let found = workers.into_iter().find(|shown| shown.id == worker);
        found.map(|shown| shown.state)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if thread::panicking() {
            let logs = fs::read_dir(self.stage.folder()).unwrap();
            for log in logs.filter_map(|entry| Some(entry.ok()?.path())) {
                if log
                    .extension()
                    .is_some_and(|extension| extension == "log" || extension == "err")
                {
                    println!("--- {}\n{}", log.display(), last_lines(&log));
                }
            }
        }
    }
}

/// It ends with this process, however that ends.
fn of_cluster(name: &str, line: &str) -> String {
    format!("{line} --until-stdin-closes --log-file {name}.log")
}

fn last_lines(log: &Path) -> String {
    const LINES: usize = 25;
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.contains("DEBUG async_nats"))
        .collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// Tests that are threads of one process never try the same one.
fn free_port(address: Ipv4Addr) -> u16 {
    static N_TRIED: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(31);
    let mut ports = (0..1000).map(|_| {
        let n = N_TRIED.fetch_add(1, Ordering::Relaxed);
        (PORTS.start + first.wrapping_add(n * 7) % (PORTS.end - PORTS.start)) as u16
    });
    ports
        .find(|port| TcpListener::bind((address, *port)).is_ok())
        .expect("there is a free port")
}

/// The server that `cargo xtask nats-server` found or installed.
fn server_program() -> PathBuf {
    let mut places = Places::from_env();
    let tools = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../tools/nats-server");
    places.also.push(tools.join("bin/nats-server"));
    let found = places.find().unwrap_or_else(|error| {
        panic!("{error}, or let `cargo xtask nats-server` install one for the tests")
    });
    found.path
}

/// Waits for something that `what` names.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not seen in {PATIENCE:?}: {what}");
        thread::sleep(LOOK); // waits: other processes
    }
}

/// A process of the cluster, killed when dropped, also one that is stopped.
pub(crate) struct Process {
    child: Child,
    out: PathBuf,
    err: PathBuf,
    number: Option<u32>,
}

impl Process {
    fn start(mut command: Command, name: &str, folder: &Path) -> Process {
        let [out, err] = ["out", "err"].map(|kind| folder.join(format!("{name}.{kind}")));
        let child = command
            .stdin(Stdio::piped())
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&err).unwrap())
            .spawn()
            .unwrap();
        Process {
            child,
            out,
            err,
            number: None,
        }
    }

    /// What it has said on stderr.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.err).unwrap_or_default()
    }

    /// A worker's number; the latest, if it got another one.
    pub(crate) fn number(&self) -> u32 {
        self.number.expect("it waited for its number")
    }

    /// Waits until the worker says that it has a number, unlike `number` if it had one.
    pub(crate) fn wait_for_number(&mut self) {
        let before = self.number;
        self.number = Some(wait_for("a worker's number", || {
            let text = self.said();
            let line = text.lines().rfind(|line| line.contains(" takes tasks"))?;
            let number = line.strip_prefix("worker ")?.split(' ').next()?.parse().ok()?;
            (before != Some(number)).then_some(number)
        }));
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Kills without warning; when that was.
    pub(crate) fn kill(&mut self) -> u64 {
        self.child.kill().unwrap();
        let killed = unix_ms();
        self.child.wait().unwrap();
        killed
    }

    /// What it printed on stdout.
    pub(crate) fn printed(&self) -> String {
        fs::read_to_string(&self.out).unwrap_or_default()
    }

    /// Waits until it has said `words` on stderr.
    pub(crate) fn wait_until_said(&self, words: &str) {
        wait_for(words, || self.said().contains(words).then_some(()));
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    pub(crate) fn end(&mut self) -> ExitStatus {
        wait_for("the end of a process", || self.child.try_wait().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An attempt that a worker has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Begun {
    pub(crate) run: u32,
    pub(crate) worker: u32,
    pub(crate) task: u64,
    pub(crate) attempt: u8,
    pub(crate) unix_ms: u64,
}

/// A job, and what was heard of it.
pub(crate) struct Job {
    pub(crate) id: String,
    pub(crate) output: String,
    token: JobId,
    client: Client,
    after: u64,
    seen: Vec<JobEvent>,
}

impl Job {
    /// All events so far.
    pub(crate) fn events(&mut self) -> &[JobEvent] {
        while let Ok(page) = self.client.control().events_of(self.token, self.after, 100)
            && let Some((last, _)) = page.last()
        {
            self.after = *last;
            let read = page.iter().flat_map(|(_, bytes)| events::read(bytes));
            self.seen.extend(read);
        }
        &self.seen
    }

    /// All events of a job that has ended, whose last ones may come after its end.
    pub(crate) fn all_events(&mut self) -> &[JobEvent] {
        self.wait_for("the end among the events", |events| {
            let last = |what: &str| events.iter().rposition(|event| event.what == what);
            (last("ended")? > last("began")?).then_some(())
        });
        &self.seen
    }

    /// Waits until the events show what `what` names.
    pub(crate) fn wait_for<T>(&mut self, what: &str, find: impl Fn(&[JobEvent]) -> Option<T>) -> T {
        wait_for(what, || find(self.events()))
    }

    /// Waits for a task that was begun a moment ago, by this worker if one is named.
    pub(crate) fn wait_for_begun(&mut self, worker: Option<u32>) -> Begun {
        self.wait_for("a task that has just begun", |events| {
            begun(events)
                .into_iter()
                .find(|begun| worker.is_none_or(|worker| begun.worker == worker) && begun.is_fresh())
        })
    }

    /// Waits for `n` commits.
    pub(crate) fn wait_for_commits(&mut self, n: usize) {
        self.wait_for(&format!("{n} commits"), |events| {
            (of_kind(events, "committed").count() >= n).then_some(())
        });
    }

    /// When and by whom a task was committed, once it is by anybody but `not_by`.
    pub(crate) fn wait_for_commit(&mut self, task: u64, not_by: Option<u32>) -> JobEvent {
        self.wait_for(&format!("task {task}'s commit"), |events| {
            let mut commits = of_kind(events, "committed");
            let found = commits
                .find(|event| event.task == Some(task) && (not_by.is_none() || event.worker != not_by));
            found.cloned()
        })
    }

    /// The first event of a kind after that time, once it is there.
    pub(crate) fn wait_after(&mut self, what: &str, unix_ms: u64) -> JobEvent {
        self.wait_for(&format!("`{what}` after the fault"), |events| {
            of_kind(events, what)
                .find(|event| event.unix_ms > unix_ms)
                .cloned()
        })
    }

    /// How often each task was begun in `run`.
    pub(crate) fn started_in(&mut self, run: u32) -> Vec<u64> {
        let started = of_kind(self.events(), "started").filter(|event| event.run == run);
        started.filter_map(|event| event.task).collect()
    }

    /// What is on the board.
    pub(crate) fn on_board(&self) -> Option<JobOnBoard> {
        let board = self.client.board().ok()??;
        board.jobs.into_iter().find(|job| job.id == self.id)
    }
}

impl Begun {
    fn is_fresh(&self) -> bool {
        unix_ms().saturating_sub(self.unix_ms) < FRESH_MS
    }
}

/// The events of a kind, oldest first.
pub(crate) fn of_kind<'e>(events: &'e [JobEvent], what: &str) -> impl Iterator<Item = &'e JobEvent> {
    events.iter().filter(move |event| event.what == what)
}

/// What is begun and has not ended.
pub(crate) fn begun(events: &[JobEvent]) -> Vec<Begun> {
    let mut begun: Vec<Begun> = Vec::new();
    for event in events {
        let (Some(worker), Some(task), Some(attempt)) = (event.worker, event.task, event.attempt) else {
            continue;
        };
        begun.retain(|known| (known.worker, known.task, known.attempt) != (worker, task, attempt));
        if event.what == "started" {
            begun.push(Begun {
                run: event.run,
                worker,
                task,
                attempt,
                unix_ms: event.unix_ms,
            });
        }
    }
    begun
}

/// Prints how long it took to go on, and fails if that is too long.
pub(crate) fn recovered(fault: &str, from_ms: u64, to_ms: u64, allowed: Duration) {
    let took = Duration::from_millis(to_ms.saturating_sub(from_ms));
    println!("{fault}: recovered in {:.1} s", took.as_secs_f64());
    assert!(took < allowed, "{fault}: {took:?}, allowed are {allowed:?}");
}
