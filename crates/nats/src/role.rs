//! Who connects to a cluster, and what each may say and hear: the least that its work takes.
//!
//! A server answers API requests with its own rights and does not check where the answer goes, so whoever may send a request can
//! have bytes delivered anywhere in its account: a worker that shared the driver's account would need no more than a pull whose
//! answer goes to `$JS.API.STREAM.DELETE.TW_TASKS` to be rid of all tasks. Every role but the driver therefore has an account of its
//! own, from which it reaches only what is exported to it; answers come back into that account and end there.

use crate::streams::{CONTROL_OF_ALL, JOIN, REPORTS};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Where a request has no listener: that the server says so shows that it has seen what was sent before.
pub(crate) const PING: &str = "tw.ping";

/// What a process does in a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Drives jobs; the only role that makes streams and consumers, releases tasks and gives them back.
    Driver,
    /// Takes tasks.
    Worker,
    /// Submits jobs, watches and cancels them.
    Client,
    /// Watches.
    Viewer,
}

/// Subjects that a role may publish to and subscribe to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permissions {
    /// What it may say.
    pub publish: Vec<String>,
    /// What it may hear.
    pub subscribe: Vec<String>,
}

impl Role {
    /// All roles.
    pub const ALL: [Role; 4] = [Role::Driver, Role::Worker, Role::Client, Role::Viewer];

    /// The name in commands, file names and configurations.
    pub fn name(self) -> &'static str {
        match self {
            Role::Driver => "driver",
            Role::Worker => "worker",
            Role::Client => "client",
            Role::Viewer => "viewer",
        }
    }

    /// Below which answers to its requests arrive: no other role may listen there, but for the driver.
    pub fn inboxes(self) -> &'static str {
        match self {
            Role::Driver => "_INBOX.driver",
            Role::Worker => "_INBOX.worker",
            Role::Client => "_INBOX.client",
            Role::Viewer => "_INBOX.viewer",
        }
    }

    /// What it may say and hear; `None` for the driver, which may do everything in its account.
    pub fn permissions(self) -> Option<Permissions> {
        if self == Role::Driver {
            return None;
        }
        let with = |first: String, others: &[&str]| {
            let others = others.iter().map(|other| (*other).to_owned());
            std::iter::once(first).chain(others).collect()
        };
        Some(Permissions {
            publish: with(PING.to_owned(), self.sent()),
            subscribe: with(format!("{}.>", self.inboxes()), self.shown()),
        })
    }

    /// The account in which it connects.
    pub(crate) fn account(self) -> &'static str {
        match self {
            Role::Driver => "TILEWORK",
            Role::Worker => "WORKERS",
            Role::Client => "CLIENTS",
            Role::Viewer => "VIEWERS",
        }
    }

    /// What its account hears of the one in which the work is done.
    pub(crate) fn shown(self) -> &'static [&'static str] {
        match self {
            Role::Driver => &[],
            Role::Worker => &[CONTROL_OF_ALL, CONTROL_OF_ONE, JOBS_SHOWN],
            Role::Client | Role::Viewer => &[EVENTS_SHOWN, RECORDS_SHOWN],
        }
    }

    /// What its account may send to the one in which the work is done.
    pub(crate) fn sent(self) -> &'static [&'static str] {
        match self {
            Role::Driver => &[],
            Role::Worker => &[PULLS, ACKS, ACKS_OF_DOMAINS, JOBS_LOOKUP, REPORTS, JOIN],
            Role::Client => &[REQUESTS, JOBS_LOOKUP, WORKERS_LOOKUP, EVENTS_LOOKUP],
            Role::Viewer => &[JOBS_LOOKUP, WORKERS_LOOKUP, EVENTS_LOOKUP],
        }
    }
}

const PULLS: &str = "$JS.API.CONSUMER.MSG.NEXT.TW_TASKS.*";
const ACKS: &str = "$JS.ACK.TW_TASKS.>";
/// The same as newer servers may write it, with a domain and an account.
const ACKS_OF_DOMAINS: &str = "$JS.ACK.*.*.TW_TASKS.>";
const JOBS_LOOKUP: &str = "$JS.API.DIRECT.GET.KV_tw_jobs.$KV.tw_jobs.>";
const WORKERS_LOOKUP: &str = "$JS.API.DIRECT.GET.KV_tw_workers.$KV.tw_workers.>";
const EVENTS_LOOKUP: &str = "$JS.API.DIRECT.GET.TW_EVENTS";
/// Where clients ask drivers for something.
const REQUESTS: &str = "tw.request.>";
const CONTROL_OF_ONE: &str = "tw.ctl.w.*";
const JOBS_SHOWN: &str = "tw.kv.jobs.>";
const RECORDS_SHOWN: &str = "tw.kv.>";
const EVENTS_SHOWN: &str = "tw.event.>";

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
