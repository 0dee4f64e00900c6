//! `cluster init`: makes a cluster's folder.

use crate::args::cluster::InitArgs;
use crate::failure::CliError;
use crate::output::Output;
use serde_json::{Value, json};
use std::io::{self, Write};
use tilework_nats::ThreeServersFolder;
use tilework_nats::cluster_folder::{ClusterFolder, ClusterPlan};
use tilework_nats::role::Role;

/// Runs the command.
pub fn run(args: &InitArgs, output: &Output) -> Result<(), CliError> {
    if !args.servers.is_empty() {
        return make_three(args, output);
    }
    let plan = ClusterPlan {
        listen: args.listen,
        hosts: args.host.clone(),
    };
    let cluster = ClusterFolder::init(&args.dir, &plan)?;
    let dir = args.dir.display();
    let next = format!("tilework cluster up {dir}");
    let joins = Role::ALL.map(|role| cluster.join(role).display().to_string());
    let json = json!({
        "status": "done",
        "cluster": dir.to_string(),
        "listen": args.listen.to_string(),
        "join_files": joins,
        "next": next,
    });
    output.result(json, |out| {
        writeln!(
            out,
            "made a cluster in {dir}, whose server listens on {}",
            args.listen
        )?;
        writeln!(out, "  nats.conf, certificates   the server's")?;
        describe_joins(out)?;
        writeln!(out, "next: {next}")
    })
}

fn make_three(args: &InitArgs, output: &Output) -> Result<(), CliError> {
    let cluster = ThreeServersFolder::init(&args.dir, &args.servers)?;
    let dir = args.dir.display();
    let folder = |n: usize| cluster.server(n).display().to_string();
    let servers: Vec<Value> = (1..)
        .zip(&args.servers)
        .map(|(n, server)| {
            json!({
                "folder": folder(n),
                "url": server.url(),
                "route": server.route().map(|route| route.to_string()),
            })
        })
        .collect();
    let joins = Role::ALL.map(|role| cluster.join(role).display().to_string());
    let next = format!(
        "copy each server's folder to its machine, and there: cd server-N && nats-server -c nats.conf; then anywhere: tilework driver --data-root NAME=DIR --cluster {}",
        cluster.join(Role::Driver).display()
    );
    let json = json!({
        "status": "done",
        "cluster": dir.to_string(),
        "servers": servers,
        "join_files": joins,
        "next": next,
    });
    output.result(json, |out| {
        writeln!(out, "made a cluster of three servers in {dir}")?;
        for (n, server) in (1..).zip(&args.servers) {
            let routes = server
                .route()
                .map_or(String::new(), |route| route.port().to_string());
            writeln!(
                out,
                "  {:<24}  for `{}`: port {} for all, {routes} for the other servers",
                format!("server-{n}/"),
                server.host(),
                server.port()
            )?;
        }
        describe_joins(out)?;
        writeln!(out, "next: {next}")
    })
}

fn describe_joins(out: &mut dyn Write) -> io::Result<()> {
    for (role, may) in [
        (Role::Driver, "drives jobs"),
        (Role::Worker, "works"),
        (Role::Client, "submits jobs, watches, cancels"),
        (Role::Viewer, "watches"),
    ] {
        writeln!(out, "  {:<24}  whoever has it {may}", format!("{role}.join"))?;
    }
    Ok(())
}
