//! The configuration of a cluster's nats-server: TLS, a key per role with the least rights, and JetStream that syncs every write.

use crate::role::{Permissions, Role};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;

/// What differs between clusters. Paths are relative to the configuration's folder.
#[derive(Debug)]
pub(crate) struct ClusterConfig<'a> {
    /// What it is called among servers.
    pub(crate) server_name: &'a str,
    /// Where it listens.
    pub(crate) listen: SocketAddr,
    /// The public key of each role.
    pub(crate) keys: &'a BTreeMap<Role, String>,
    /// How it reaches the other servers, if there are any.
    pub(crate) routes: Option<&'a Routes>,
}

/// A server's connections to the cluster's other servers.
#[derive(Debug)]
pub(crate) struct Routes {
    /// Where it listens for them.
    pub(crate) listen: SocketAddr,
    /// `host:port` by which they reach it.
    pub(crate) advertise: String,
    /// What all servers of the cluster know and nobody else.
    pub(crate) password: String,
    /// `host:port` of each of the others.
    pub(crate) others: Vec<String>,
}

/// What begins the lines of [`Routes`]: no other configuration has it.
pub(crate) const ROUTES_LINE: &str = "cluster {";

/// The server's log, in the cluster's folder.
pub(crate) const SERVER_LOG: &str = "logs/nats-server.log";

/// JetStream's acknowledged writes survive a power cut only with `sync_interval: always`; the default loses two minutes.
const FIXED: &str = r#"tls {
  cert_file: "server.pem"
  key_file: "server.key"
  timeout: 3
}
ping_interval: "3s"
ping_max: 2
write_deadline: "5s"
lame_duck_duration: "30s"
lame_duck_grace_period: "2s"
max_payload: 1MB
jetstream {
  store_dir: "data"
  max_memory_store: 64MB
  max_file_store: 20GB
  sync_interval: always
}
"#;

impl ClusterConfig<'_> {
    /// The configuration as nats-server reads it.
    pub(crate) fn text(&self) -> String {
        let mut text = String::from("# Written by `tilework cluster init`.\n");
        let _ = writeln!(text, "server_name: {}", self.server_name);
        let _ = writeln!(text, "listen: \"{}\"", self.listen);
        let _ = writeln!(
            text,
            "log_file: \"{SERVER_LOG}\"\nlogfile_size_limit: 10MB\nlogfile_max_num: 5"
        );
        text.push_str(FIXED);
        if let Some(routes) = self.routes {
            routes.push(&mut text);
        }
        text.push_str("accounts {\n");
        for role in Role::ALL {
            let _ = writeln!(text, "  {}: {{", role.account());
            if role == Role::Driver {
                text.push_str("    jetstream: enabled\n");
                push_list(&mut text, "exports", &exports());
            } else {
                push_list(&mut text, "imports", &imports(role));
            }
            self.push_user(&mut text, role);
            text.push_str("  }\n");
        }
        text.push_str("}\n");
        text
    }

    fn push_user(&self, text: &mut String, role: Role) {
        let key = &self.keys[&role];
        let user = match role.permissions() {
            None => format!("{{ nkey: {key} }}"),
            Some(Permissions { publish, subscribe }) => format!(
                "{{ nkey: {key}, permissions: {{\n        publish: {{ allow: {publish:?} }}\n        subscribe: {{ allow: {subscribe:?} }}\n      }} }}"
            ),
        };
        push_list(text, "users", &[user]);
    }
}

impl Routes {
    /// A server proves itself to another by a certificate of the cluster's authority and by the password. Clients are told of no
    /// other addresses than those in their join files: only these are in the certificates.
    fn push(&self, text: &mut String) {
        let Routes {
            listen,
            advertise,
            password,
            others,
        } = self;
        let _ = writeln!(
            text,
            r#"{ROUTES_LINE}
  name: tilework
  listen: "{listen}"
  advertise: "{advertise}"
  no_advertise: true
  authorization {{ user: server, password: "{password}", timeout: 3 }}
  tls {{
    cert_file: "server.pem"
    key_file: "server.key"
    ca_file: "authority.pem"
    verify: true
    timeout: 3
  }}
  routes: ["#
        );
        for other in others {
            let _ = writeln!(text, "    \"nats-route://server:{password}@{other}\"");
        }
        text.push_str("  ]\n}\n");
    }
}

/// What the account in which the work is done gives to others, and to which.
fn exports() -> Vec<String> {
    let of_kind = |kind: &str, subjects: fn(Role) -> &'static [&'static str]| {
        let mut accounts = BTreeMap::<&str, Vec<&str>>::new();
        for role in Role::ALL {
            for subject in subjects(role) {
                accounts.entry(subject).or_default().push(role.account());
            }
        }
        let one = |(subject, accounts): (&str, Vec<&str>)| {
            format!("{{ {kind}: \"{subject}\", accounts: [{}] }}", accounts.join(", "))
        };
        accounts.into_iter().map(one).collect::<Vec<_>>()
    };
    let mut exports = of_kind("stream", Role::shown);
    exports.extend(of_kind("service", Role::sent));
    exports
}

/// What the account of `role` takes of that.
fn imports(role: Role) -> Vec<String> {
    let of_kind = |kind: &str, subjects: &[&str]| {
        let one = |subject: &&str| {
            let account = Role::Driver.account();
            format!("{{ {kind}: {{ account: {account}, subject: \"{subject}\" }} }}")
        };
        subjects.iter().map(one).collect::<Vec<_>>()
    };
    let mut imports = of_kind("stream", role.shown());
    imports.extend(of_kind("service", role.sent()));
    imports
}

fn push_list(text: &mut String, name: &str, items: &[String]) {
    let _ = writeln!(text, "    {name}: [");
    for item in items {
        let _ = writeln!(text, "      {item}");
    }
    text.push_str("    ]\n");
}
