//! Who connects to a cluster, and what each may say and hear: the least that its work takes.
//!
//! A server answers API requests with its own rights and does not check where the answer goes, so whoever may send a request can
//! have bytes delivered anywhere in its account. Clients and viewers therefore have accounts of their own, from which they reach only what
//! is exported to them. Workers could do it, and are trusted with results anyway; but a task only names what is to be done.

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

/// Subjects that a role may publish to and subscribe to; `None` is everything in the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permissions {
    /// What it may say.
    pub publish: &'static [&'static str],
    /// What it may hear.
    pub subscribe: &'static [&'static str],
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
        match self {
            Role::Driver => None,
            Role::Worker => Some(Permissions {
                publish: &[
                    PING,
                    "$JS.API.CONSUMER.MSG.NEXT.TW_TASKS.*",
                    "$JS.ACK.TW_TASKS.>",
                    "$JS.ACK.*.*.TW_TASKS.>",
                    "$JS.API.DIRECT.GET.KV_tw_jobs.$KV.tw_jobs.>",
                    "tw.report.*",
                ],
                subscribe: &["_INBOX.worker.>", "tw.ctl.all", "tw.ctl.w.*", "tw.kv.jobs.>"],
            }),
            Role::Client => Some(Permissions {
                publish: &[
                    PING,
                    REQUESTS,
                    "$JS.API.DIRECT.GET.KV_tw_jobs.$KV.tw_jobs.>",
                    "$JS.API.DIRECT.GET.KV_tw_workers.$KV.tw_workers.>",
                ],
                subscribe: &["_INBOX.client.>", "tw.event.>", "tw.kv.>"],
            }),
            Role::Viewer => Some(Permissions {
                publish: &[
                    PING,
                    "$JS.API.DIRECT.GET.KV_tw_jobs.$KV.tw_jobs.>",
                    "$JS.API.DIRECT.GET.KV_tw_workers.$KV.tw_workers.>",
                ],
                subscribe: &["_INBOX.viewer.>", "tw.event.>", "tw.kv.>"],
            }),
        }
    }
}

/// What the other accounts hear of the one in which the work is done.
pub(crate) const SHOWN: &[&str] = &["tw.event.>", "tw.kv.>"];
/// Requests that they may send there.
pub(crate) const LOOKUPS: &[&str] = &[
    "$JS.API.DIRECT.GET.KV_tw_jobs.$KV.tw_jobs.>",
    "$JS.API.DIRECT.GET.KV_tw_workers.$KV.tw_workers.>",
];
/// Requests that clients may send there.
pub(crate) const REQUESTS: &str = "tw.request.>";

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
