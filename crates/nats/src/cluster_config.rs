//! The configuration of a cluster's nats-server: TLS, a key per role with the least rights, and JetStream that syncs every write.

use crate::role::{LOOKUPS, Permissions, REQUESTS, Role, SHOWN};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;

/// What differs between clusters. Paths are relative to the configuration's folder.
#[derive(Debug)]
pub(crate) struct ClusterConfig<'a> {
    /// Where it listens.
    pub(crate) listen: SocketAddr,
    /// The public key of each role.
    pub(crate) keys: &'a BTreeMap<Role, String>,
}

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
        let mut text = String::from("# Written by `tilework cluster init`.\nserver_name: tilework\n");
        let _ = writeln!(text, "listen: \"{}\"", self.listen);
        let _ = writeln!(
            text,
            "log_file: \"{SERVER_LOG}\"\nlogfile_size_limit: 10MB\nlogfile_max_num: 5"
        );
        text.push_str(FIXED);
        text.push_str("accounts {\n  TILEWORK: {\n    jetstream: enabled\n    users: [\n");
        self.push_user(&mut text, Role::Driver);
        self.push_user(&mut text, Role::Worker);
        text.push_str("    ]\n");
        let open = |subject: &str| format!("\"{subject}\"");
        let mut exports = shares("stream", SHOWN, open);
        exports.extend(shares("service", LOOKUPS, open));
        exports.extend(shares("service", &[REQUESTS], |subject| {
            format!("\"{subject}\", accounts: [CLIENTS]")
        }));
        push_list(&mut text, "exports", &exports);
        text.push_str("  }\n");
        for (account, role) in [("CLIENTS", Role::Client), ("VIEWERS", Role::Viewer)] {
            let _ = writeln!(text, "  {account}: {{\n    users: [");
            self.push_user(&mut text, role);
            text.push_str("    ]\n");
            let theirs = |subject: &str| format!("{{ account: TILEWORK, subject: \"{subject}\" }}");
            let mut imports = shares("stream", SHOWN, theirs);
            imports.extend(shares("service", LOOKUPS, theirs));
            if role == Role::Client {
                imports.extend(shares("service", &[REQUESTS], theirs));
            }
            push_list(&mut text, "imports", &imports);
            text.push_str("  }\n");
        }
        text.push_str("}\n");
        text
    }

    fn push_user(&self, text: &mut String, role: Role) {
        let key = &self.keys[&role];
        let _ = match role.permissions() {
            None => writeln!(text, "      {{ nkey: {key} }} # {role}"),
            Some(Permissions { publish, subscribe }) => writeln!(
                text,
                "      {{ nkey: {key}, permissions: {{ # {role}\n        publish: {{ allow: {publish:?} }}\n        subscribe: {{ allow: {subscribe:?} }}\n      }} }}"
            ),
        };
    }
}

fn shares(kind: &str, subjects: &[&str], described: impl Fn(&str) -> String) -> Vec<String> {
    subjects
        .iter()
        .map(|subject| format!("{{ {kind}: {} }}", described(subject)))
        .collect()
}

fn push_list(text: &mut String, name: &str, items: &[String]) {
    let _ = writeln!(text, "    {name}: [");
    for item in items {
        let _ = writeln!(text, "      {item}");
    }
    text.push_str("    ]\n");
}
