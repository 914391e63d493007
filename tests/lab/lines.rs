//! The same command lines to libvirtd and to cenoted.

use crate::{CENOTED, in_the_lab};
use cenote_test_support::Cenoted;
use cenote_test_support::lines::compare_lines;

#[test]
fn virsh_on_cenoted_and_on_libvirtd() {
    in_the_lab();
    let folder = tempfile::tempdir().unwrap();
    let cenoted = Cenoted::start(CENOTED, &folder.path().join("cenote"));
    compare_lines(include_str!("commands.txt"), "cenoted", folder.path(), &|args| {
        cenoted.virsh(&args.iter().map(String::as_str).collect::<Vec<_>>())
    });
}
