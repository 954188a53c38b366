//! `file`: LXD's client speaks HTTP headers, Incus's speaks SFTP, both to a guest on another member.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Stdio;

use basalt_tests::compat::Rows;
use basalt_tests::wait;

use super::{Bed, SOON};

pub(crate) fn rows(rows: &mut Rows, bed: &Bed) {
    rows.row("file: push, pull, mode, owner", || push_pull(bed));
    rows.row("file: folders", || folders(bed));
    rows.row("file: edit", || edit(bed));
    rows.row("file: delete", || delete(bed));
    if !bed.lxc() {
        rows.row("file: create", || create(bed));
    }
    if !bed.ours() {
        rows.row("file: mount (over SSH)", || mount(bed));
    }
}

fn guest(bed: &Bed, script: &str) -> String {
    bed.line(&["exec", "c1", "--", "sh", "-c", script])
}

fn push_pull(bed: &Bed) {
    let folder = bed.home();
    let bytes: Vec<u8> = (0..=255).cycle().take(3 << 20).collect();
    std::fs::write(folder.join("big"), &bytes).unwrap();
    bed.run(&["file", "push", "big", "c1/root/big", "--mode", "0640", "--uid", "12", "--gid", "34"]);
    assert_eq!(guest(bed, "stat -c '%a %u %g %s' /root/big"), format!("640 12 34 {}", bytes.len()));
    bed.run(&["file", "pull", "c1/root/big", "back"]);
    assert_eq!(std::fs::read(folder.join("back")).unwrap(), bytes);
    assert_eq!(std::fs::metadata(folder.join("back")).unwrap().permissions().mode() & 0o777, 0o640);
    // From standard input, to standard output, into folders that do not exist.
    bed.feed(&["file", "push", "-p", "-", "c1/new/deep/file"], "text\n");
    assert_eq!(bed.run(&["file", "pull", "c1/new/deep/file", "-"]), "text\n");
    // Over what is there.
    bed.feed(&["file", "push", "-", "c1/new/deep/file"], "short");
    assert_eq!(bed.run(&["file", "pull", "c1/new/deep/file", "-"]), "short");
    let refused = bed.refused(&["file", "pull", "c1/no/such", "-"]);
    assert!(refused.to_lowercase().contains("not found") || refused.contains("not exist"), "{refused}");
    guest(bed, "rm -r /new /root/big");
}

fn folders(bed: &Bed) {
    let tree = bed.home().join("tree");
    std::fs::create_dir_all(tree.join("a/b")).unwrap();
    std::fs::write(tree.join("a/b/deep"), "deep").unwrap();
    std::fs::write(tree.join("top"), "top").unwrap();
    std::fs::set_permissions(tree.join("top"), PermissionsExt::from_mode(0o755)).unwrap();
    symlink("a/b/deep", tree.join("link")).unwrap();
    guest(bed, "mkdir -p /srv");
    bed.run(&["file", "push", "-r", "tree", "c1/srv"]);
    assert_eq!(guest(bed, "cat /srv/tree/a/b/deep; stat -c %a /srv/tree/top"), "deep755");
    assert_eq!(guest(bed, "readlink /srv/tree/link; cat /srv/tree/link"), "a/b/deep\ndeep");
    guest(bed, "echo more > /srv/tree/a/more");
    bed.run(&["file", "pull", "-r", "c1/srv/tree", "pulled"]);
    let pulled = bed.home().join("pulled/tree");
    let pulled = if pulled.is_dir() { pulled } else { bed.home().join("pulled") };
    assert_eq!(std::fs::read_to_string(pulled.join("a/b/deep")).unwrap(), "deep");
    assert_eq!(std::fs::read_to_string(pulled.join("a/more")).unwrap(), "more\n");
    assert_eq!(std::fs::read_link(pulled.join("link")).unwrap().to_str(), Some("a/b/deep"));
    assert_eq!(std::fs::metadata(pulled.join("top")).unwrap().permissions().mode() & 0o777, 0o755);
    guest(bed, "rm -r /srv/tree");
}

fn edit(bed: &Bed) {
    guest(bed, "echo before > /tmp/note; chmod 604 /tmp/note");
    // In an editor, which takes a terminal, and from standard input.
    let mut command = bed.command(&["file", "edit", "c1/tmp/note"]);
    command.env("EDITOR", "sed -i s/before/edited/");
    let mut terminal = basalt_tests::compat::Terminal::start(&command, 80, 24).unwrap();
    assert!(terminal.end().unwrap().success(), "{}", terminal.shown());
    assert_eq!(guest(bed, "cat /tmp/note; stat -c %a /tmp/note"), "edited\n604");
    bed.feed(&["file", "edit", "c1/tmp/note"], "from stdin\n");
    assert_eq!(guest(bed, "cat /tmp/note"), "from stdin");
}

fn delete(bed: &Bed) {
    guest(bed, "mkdir -p /tmp/d/e; echo x > /tmp/d/f; echo y > /tmp/g");
    bed.run(&["file", "delete", "c1/tmp/d/f", "c1/tmp/g"]);
    assert_eq!(guest(bed, "ls /tmp/d; test -e /tmp/g || echo gone"), "e\ngone");
    bed.run(&["file", "delete", "c1/tmp/d/e"]);
    bed.refused(&["file", "delete", "c1/tmp/nothing"]);
    if !bed.lxc() && !bed.ours() {
        guest(bed, "mkdir -p /tmp/d/e; echo x > /tmp/d/e/f");
        bed.refused(&["file", "delete", "c1/tmp/d"]);
        bed.run(&["file", "delete", "-f", "c1/tmp/d"]);
        assert_eq!(guest(bed, "test -e /tmp/d || echo gone"), "gone");
    }
}

fn create(bed: &Bed) {
    bed.run(&["file", "create", "c1/tmp/made", "--mode", "0600", "--uid", "5", "--gid", "6"]);
    bed.run(&["file", "create", "--type=directory", "-p", "c1/tmp/x/y"]);
    bed.run(&["file", "create", "--type=symlink", "c1/tmp/sym", "made"]);
    let told = guest(bed, "stat -c '%a %u %g %s' /tmp/made; test -d /tmp/x/y && readlink /tmp/sym");
    assert_eq!(told, "600 5 6 0\nmade");
    guest(bed, "rm -r /tmp/made /tmp/x /tmp/sym");
}

/// `file mount --listen` hands the guest's files to any SFTP client.
fn mount(bed: &Bed) {
    guest(bed, "mkdir -p /srv/m; echo served > /srv/m/file");
    let mut command = bed.command(&["file", "mount", "c1", "--listen", "127.0.0.1:2022", "--no-auth"]);
    let mut server = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let sftp = |batch: &str| {
        let file = bed.home().join("batch");
        std::fs::write(&file, batch).unwrap();
        let options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes"];
        let line = [&["sftp", "-q"], &options[..], &["-P", "2022", "-b", "batch", "root@127.0.0.1"]].concat();
        bed.beside(&line).output().unwrap()
    };
    let done = wait::until("the listener serves", SOON, || {
        let done =
            sftp("get /srv/m/file served\nput served /srv/m/again\nrename /srv/m/again /srv/m/renamed\nls -l /srv/m\n");
        anyhow::ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        Ok(Some(done))
    });
    let _ = server.kill();
    let said = server.wait_with_output().unwrap();
    let done = done.unwrap_or_else(|e| panic!("{e:#}: {said:?}"));
    assert!(String::from_utf8_lossy(&done.stdout).contains("renamed"), "{done:?}");
    assert_eq!(std::fs::read_to_string(bed.home().join("served")).unwrap(), "served\n");
    assert_eq!(guest(bed, "cat /srv/m/renamed; rm -r /srv/m"), "served");
}
