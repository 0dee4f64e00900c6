//! `doctor`: whether a cluster is fit for work, and what to do where it is not.

use crate::args::clients::DoctorArgs;
use crate::cluster::examination::{Finding, examine};
use crate::cluster::joining::read_join_of;
use crate::failure::{CliError, Exit};
use crate::human;
use crate::output::Output;
use serde_json::json;
use std::io::{self, Write};
use tilework_nats::Role;

/// Runs the command.
pub fn run(args: &DoctorArgs, output: &Output) -> Result<(), CliError> {
    let join = read_join_of(&args.ask.cluster, &Role::ALL)?;
    let findings = examine(&args.ask.cluster, &join);
    let json = json!({ "status": "done", "role": join.role, "checks": findings });
    let bad: Vec<&Finding> = findings.iter().filter(|finding| !finding.ok).collect();
    let Some(first) = bad.first() else {
        output.result(json, |out| describe(&findings, out))?;
        if join.role == Role::Worker {
            output.note("a worker's key does not show the board: with client.join workers and data roots are checked too");
        }
        return Ok(());
    };
    output.before_failure(|out| describe(&findings, out))?;
    let names: Vec<&str> = bad.iter().map(|finding| finding.check).collect();
    let message = format!(
        "{} of {} failed: {}",
        bad.len(),
        human::counted(findings.len() as u64, "check"),
        names.join(", ")
    );
    let error = CliError::new(Exit::Unreachable, message).with_facts(json);
    Err(match &first.next {
        Some(next) => error.with_next(next),
        None => error,
    })
}

fn describe(findings: &[Finding], out: &mut dyn Write) -> io::Result<()> {
    for Finding {
        check,
        ok,
        detail,
        next,
    } in findings
    {
        let verdict = if *ok { "ok" } else { "FAILED" };
        writeln!(out, "{verdict:<7} {check:<15} {detail}")?;
        if let Some(next) = next {
            writeln!(out, "{:<23} next: {next}", "")?;
        }
    }
    Ok(())
}
