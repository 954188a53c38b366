//! Images that come and go as files.

use basalt_tests::compat::Rows;
use basalt_tests::image;
use sha2::{Digest, Sha256};

use super::Bed;

pub(crate) fn rows(rows: &mut Rows, bed: &Bed) {
    rows.row("image: import a file, list, info, show", || import(bed));
    rows.row("image: export, as it was imported", || export(bed));
    rows.row("image: aliases", || aliases(bed));
    rows.row("image: properties, edit, delete", || edit(bed));
}

/// A second image, other than `busybox`, and its fingerprint.
pub(crate) fn archive(bed: &Bed) -> String {
    let file = bed.home().join("second.tar.gz");
    if !file.exists() {
        image::busybox(&file).unwrap();
        // Another fingerprint: gzip takes no notice of what follows its end mark when it is another, empty member.
        let mut bytes = std::fs::read(&file).unwrap();
        bytes.extend_from_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        std::fs::write(&file, bytes).unwrap();
    }
    Sha256::digest(std::fs::read(&file).unwrap()).iter().map(|b| format!("{b:02x}")).collect()
}

fn import(bed: &Bed) {
    let fingerprint = archive(bed);
    let property: &[&str] = if bed.ours() { &["--property", "user.note=mine"] } else { &["user.note=mine"] };
    let said = bed.run(&[&["image", "import", "second.tar.gz", "--alias", "second"], property].concat());
    assert!(said.contains(&fingerprint), "{said}");
    let list = bed.json(&["image", "list", "--format", "json"]);
    assert_eq!(list.as_array().unwrap().len(), 2);
    if !bed.ours() {
        let csv = bed.run(&["image", "list", "second", "--format", "csv", "-c", "lft"]);
        assert_eq!(csv.trim(), format!("second,{},CONTAINER", &fingerprint[..12]));
    }
    let info = bed.run(&["image", "info", &fingerprint[..10]]);
    assert!(info.contains(&fingerprint) && info.contains("second"), "{info}");
    assert!(bed.run(&["image", "show", "second"]).contains("user.note: mine"));
    let refused = bed.refused(&["image", "import", "second.tar.gz"]);
    assert!(refused.contains("already exists"), "{refused}");
    // It can be used at once, on any member.
    bed.run(&["launch", "second", "of2", "--target", &bed.bed.nodes[2].name]);
    bed.run(&["delete", "--force", "of2"]);
}

fn export(bed: &Bed) {
    let fingerprint = archive(bed);
    std::fs::create_dir_all(bed.home().join("exported")).unwrap();
    bed.run(&["image", "export", "second", "exported"]);
    let file = std::fs::read_dir(bed.home().join("exported")).unwrap().next().unwrap().unwrap().path();
    let digest: String = Sha256::digest(std::fs::read(file).unwrap()).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(digest, fingerprint);
}

fn aliases(bed: &Bed) {
    let fingerprint = archive(bed);
    if bed.ours() {
        bed.run(&["image", "alias", "create", "other", &fingerprint]);
    } else {
        bed.run(&["image", "alias", "create", "also", &fingerprint]);
        bed.run(&["image", "alias", "rename", "also", "other"]);
    }
    let list = bed.run(&["image", "alias", "list", "--format", "csv"]);
    assert!(list.contains(&format!("other,{}", &fingerprint[..12])), "{list}");
    assert!(bed.run(&["image", "info", "other"]).contains(&fingerprint));
    bed.run(&["image", "alias", "delete", "other"]);
    let refused = bed.refused(&["image", "info", "other"]);
    assert!(refused.contains("not found") || refused.contains("no image"), "{refused}");
}

fn edit(bed: &Bed) {
    if !bed.ours() {
        bed.run(&["image", "set-property", "second", "user.note", "yours"]);
        assert_eq!(bed.line(&["image", "get-property", "second", "user.note"]), "yours");
        bed.run(&["image", "unset-property", "second", "user.note"]);
    }
    let shown = bed.run(&["image", "show", "second"]);
    bed.feed(&["image", "edit", "second"], &shown.replace("public: false", "public: true"));
    assert!(bed.run(&["image", "show", "second"]).contains("public: true"));
    bed.run(&["image", "delete", "second"]);
    let refused = bed.refused(&["image", "info", "second"]);
    assert!(refused.contains("not found") || refused.contains("no image"), "{refused}");
}
