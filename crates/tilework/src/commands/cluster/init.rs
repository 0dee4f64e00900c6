//! `cluster init`: makes a cluster's folder.

use crate::args::cluster::InitArgs;
use crate::failure::CliError;
use crate::output::Output;
use serde_json::json;
use tilework_nats::cluster_folder::{ClusterFolder, ClusterPlan};
use tilework_nats::role::Role;

/// Runs the command.
pub fn run(args: &InitArgs, output: &Output) -> Result<(), CliError> {
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
        for (role, may) in [
            (Role::Driver, "drives jobs"),
            (Role::Worker, "works"),
            (Role::Client, "submits jobs, watches, cancels"),
            (Role::Viewer, "watches"),
        ] {
            writeln!(out, "  {:<24}  whoever has it {may}", format!("{role}.join"))?;
        }
        writeln!(out, "next: {next}")
    })
}
