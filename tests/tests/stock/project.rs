//! Projects.

use basalt_tests::compat::Rows;

use super::Bed;

pub(crate) fn rows(rows: &mut Rows, bed: &Bed) {
    rows.row("project: create, show, edit, get, set, list, rename, info, delete", || manage(bed));
    rows.row("project: switch, and what it holds", || switch(bed));
}

fn manage(bed: &Bed) {
    bed.run(&["project", "create", "lab", "-c", "features.images=false", "-c", "user.a=b"]);
    assert_eq!(bed.line(&["project", "get", "lab", "user.a"]), "b");
    bed.run(&["project", "set", "lab", "user.a=c"]);
    bed.run(&["project", "unset", "lab", "user.a"]);
    assert_eq!(bed.line(&["project", "get", "lab", "user.a"]), "");
    let shown = bed.run(&["project", "show", "lab"]);
    bed.feed(&["project", "edit", "lab"], &shown.replace("description: \"\"", "description: for trials"));
    assert!(bed.run(&["project", "show", "lab"]).contains("description: for trials"));
    bed.run(&["project", "rename", "lab", "bench"]);
    let list = bed.run(&["project", "list", "--format", "csv"]);
    assert!(list.contains("bench,") && list.contains("default (current),"), "{list}");
    let info = bed.run(&["project", "info", "bench"]);
    assert!(info.to_uppercase().contains("INSTANCES"), "{info}");
    let refused = bed.refused(&["project", "create", "bench"]);
    assert!(refused.contains("already exists"), "{refused}");
    bed.run(&["project", "delete", "bench"]);
    let refused = bed.refused(&["project", "show", "bench"]);
    assert!(refused.contains("not found"), "{refused}");
}

fn switch(bed: &Bed) {
    bed.run(&["project", "create", "team", "-c", "features.images=false"]);
    bed.run(&["project", "switch", "team"]);
    // The same name as an instance of the default project: another instance.
    bed.run(&["launch", "busybox", "c1", "-s", "default"]);
    bed.run(&["exec", "c1", "--", "touch", "/root/of-team"]);
    let csv = bed.run(&["list", "--format", "csv", "-c", "n"]);
    assert_eq!(csv.trim(), "c1");
    let refused = bed.refused(&["project", "delete", "team"]);
    assert!(!refused.is_empty());
    bed.run(&["delete", "--force", "c1"]);
    bed.run(&["project", "switch", "default"]);
    assert_eq!(bed.run(&["exec", "c1", "--", "ls", "/root"]).trim(), "");
    bed.run(&["project", "delete", "team"]);
}
