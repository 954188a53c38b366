//! Projects.

use basalt_tests::compat::Rows;

use super::Bed;

pub(crate) fn rows(rows: &mut Rows, bed: &Bed) {
    rows.row("project: create, show, edit, get, set, list, rename, info, delete", || manage(bed));
    rows.row("project: switch, and what it holds", || switch(bed));
    rows.row("project: images of its own", || images(bed));
    rows.row("image: copy to another project", || copy(bed));
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

/// The arguments, in a project.
fn within<'a>(project: &'a str, arguments: &[&'a str]) -> Vec<&'a str> {
    [&["--project", project], arguments].concat()
}

/// The fingerprints of a project's images.
fn fingerprints(bed: &Bed, project: &str) -> Vec<String> {
    let list = bed.json(&within(project, &["image", "list", "--format", "json"]));
    list.as_array().unwrap().iter().map(|image| image["fingerprint"].as_str().unwrap().to_owned()).collect()
}

/// What a project imports is in no other, and what others have is not in it.
fn images(bed: &Bed) {
    let fingerprint = super::image::archive(bed);
    bed.run(&["project", "create", "atelier", "-c", "features.images=true"]);
    assert_eq!(fingerprints(bed, "atelier"), [""; 0]);
    bed.run(&within("atelier", &["image", "import", "second.tar.gz", "--alias", "brush"]));
    assert_eq!(fingerprints(bed, "atelier"), [fingerprint.as_str()]);
    assert!(!fingerprints(bed, "default").contains(&fingerprint));
    bed.refused(&["image", "info", "brush"]);
    bed.refused(&within("atelier", &["image", "info", "busybox"]));
    bed.refused(&within("atelier", &["launch", "busybox", "twin", "-s", "default"]));
    // It is looked for in the project, on whichever member the instance comes to.
    let member = bed.bed.nodes[2].name.as_str();
    bed.run(&within("atelier", &["launch", "brush", "twin", "-s", "default", "--target", member]));
    assert_eq!(bed.line(&within("atelier", &["exec", "twin", "--", "hostname"])), "twin");
    let refused = bed.refused(&["project", "set", "atelier", "features.images=false"]);
    assert!(refused.contains("features.images"), "{refused}");
    bed.run(&within("atelier", &["delete", "--force", "twin"]));
    bed.refused(&["project", "delete", "atelier"]);
    bed.run(&within("atelier", &["image", "delete", "brush"]));
    assert_eq!(fingerprints(bed, "atelier"), [""; 0]);
    bed.run(&["project", "delete", "atelier"]);
}

/// The same image under another name in another project; deleting it there leaves the first.
fn copy(bed: &Bed) {
    bed.run(&["project", "create", "atelier", "-c", "features.images=true"]);
    bed.run(&["image", "copy", "basalt:busybox", "basalt:", "--target-project", "atelier", "--alias", "copied"]);
    let copied = fingerprints(bed, "atelier");
    assert!(copied.len() == 1 && fingerprints(bed, "default").contains(&copied[0]), "{copied:?}");
    bed.run(&within("atelier", &["launch", "copied", "twin", "-s", "default"]));
    bed.run(&within("atelier", &["delete", "--force", "twin"]));
    bed.run(&within("atelier", &["image", "delete", "copied"]));
    assert!(fingerprints(bed, "default").contains(&copied[0]));
    // With its files: what is made of it starts.
    bed.run(&["launch", "busybox", "twin", "--target", &bed.bed.nodes[2].name]);
    bed.run(&["delete", "--force", "twin"]);
    bed.run(&["project", "delete", "atelier"]);
}
