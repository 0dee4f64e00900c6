//! The output's folder may not be written any more, from one moment to the next: the run stops with what it has committed, and goes on once it may.
//!
//! Linux makes no mount read-only that has a file open for writing, but by force. So the folder's mount is covered by a read-only one: names can't be
//! changed any more, while what is open goes on, as after such a force.

use crate::common::Running;
use crate::place::{Mounts, PRODUCT, Place, WORDS, Work, may_mount, refusal};
use std::process::Command;

/// The same work, its paths absolute: a relative one would go on in the mount that is covered.
fn absolute(place: &Place, work: Work) -> Command {
    let mut command = place.command(work);
    let folder = place.stage.folder();
    let words: Vec<String> = command
        .get_args()
        .map(|word| match word.to_str().unwrap() {
            name if folder.join(name).exists() || name == place.output(work).file_name().unwrap() => {
                folder.join(name).to_str().unwrap().to_owned()
            }
            word => word.replace("folder=", &format!("folder={}/", folder.display())),
        })
        .collect();
    let program = command.get_program().to_owned();
    let envs: Vec<_> = command.get_envs().map(|(name, _)| name.to_owned()).collect();
    command = Command::new(program);
    command.args(words).current_dir("/");
    for name in envs {
        command.env_remove(name);
    }
    command
}

fn stops_and_goes_on(work: Work) {
    if !may_mount() {
        return;
    }
    let place = Place::with(&[work]);
    let folder = place.stage.folder().to_path_buf();
    let mounts = Mounts::made_by("true", &folder);
    let mut command = mounts.entering(&absolute(&place, work));
    command.env("TILEWORK_TEST_SLOW", "*:40ms");
    let mut running = Running::start(command);
    running.wait_until("a commit", || place.n_committed(work) > 0);
    let cover = format!(
        "mount --bind \"{0}\" \"{0}\" && mount -o remount,bind,ro \"{0}\"",
        folder.display()
    );
    mounts.run(&cover, "/".as_ref());
    let n_before = place.n_committed(work);
    let text = refusal(&running.end(), "read-only");
    println!("read-only after {n_before} commits: {text}");
    assert!(text.contains("Read-only file system"), "{text}");
    assert!(
        text.contains(&format!("`{}", folder.display())),
        "no path in: {text}"
    );
    assert!(place.n_committed(work) >= n_before && !place.output(work).exists());
    place.is_unharmed(work, "read-only");

    // Nothing begins there, and nothing is changed by trying.
    let refused = Running::start(mounts.entering(&absolute(&place, work))).end();
    let text = refusal(&refused, "still read-only");
    assert!(text.contains("Read-only file system"), "{text}");

    mounts.run(&format!("umount \"{}\"", folder.display()), "/".as_ref());
    let again = Running::start(mounts.entering(&absolute(&place, work))).end();
    assert!(again.status.success(), "{again:?}");
    place.goes_on(work, "writable again");
}

#[test]
fn a_product_whose_folder_becomes_read_only_stops_and_goes_on() {
    stops_and_goes_on(PRODUCT);
}

#[test]
fn a_job_of_ones_own_whose_folder_becomes_read_only_stops_and_goes_on() {
    stops_and_goes_on(WORDS);
}
