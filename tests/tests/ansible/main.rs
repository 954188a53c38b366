//! Ansible's modules for LXD, as Debian packs them, against a cluster of three real nodes: over a member's unix socket and
//! over HTTPS. A playbook that has been run changes nothing when it is run again.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // a suite is a user at a shell, and fails by panicking

use std::path::Path;

use basalt_tests::compat::{Client, Rows, Stock, token};
use basalt_tests::testbed::Testbed;
use basalt_tests::{facility, host, require};
use serde_json::json;

const FEATURES: [&str; 3] = [
    "modules: lxd_container, lxd_profile, lxd_project, run twice",
    "modules: restarted, frozen, changed, absent",
    "modules: over HTTPS",
];

fn lack() -> facility::Lack {
    let missing = || host::which("ansible-playbook").is_none().then(|| "ansible is not installed".to_owned());
    facility::containers().or_else(missing)
}

/// Runs a playbook; how many tasks changed something.
fn play(place: &Stock, book: &str, variables: &serde_json::Value) -> u32 {
    let book = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ansible").join(book).display().to_string();
    let variables = variables.to_string();
    // The modules trust what the system trusts, and check names: what an administrator would put in place. Only for
    // this process: in a mount namespace of its own.
    let script = "mount --bind hosts /etc/hosts && exec \"$@\"";
    let shell = ["unshare", "--mount", "sh", "-ec", script, "sh"];
    let ansible = ["ansible-playbook", "-i", "localhost,", "-e", &variables, &book];
    let mut command = place.beside(&[&shell[..], &ansible[..]].concat());
    command.env("ANSIBLE_NOCOLOR", "1").env("ANSIBLE_HOME", place.home().join("ansible"));
    command.env("SSL_CERT_FILE", place.home().join("server.crt"));
    let done = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{book}: {out}{err}");
    let recap = out.lines().last().into_iter().chain(out.lines().rev()).find(|l| l.contains("changed=")).unwrap();
    let changed = recap.split_once("changed=").unwrap().1.split_whitespace().next().unwrap();
    changed.parse().unwrap()
}

fn twice(place: &Stock, variables: &serde_json::Value) {
    assert!(play(place, "play.yml", variables) >= 5);
    assert_eq!(play(place, "play.yml", variables), 0, "the second run changed something");
}

/// A certificate that the cluster trusts by token, the cluster's own certificate, and a name for a member that it holds.
fn trusted(place: &Stock, bed: &Testbed) -> serde_json::Value {
    let follower = bed.follower().unwrap();
    let made = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-384 -nodes -days 2 -subj /CN=ansible \
                -keyout client.key -out client.crt && \
                openssl s_client -connect \"$1\" </dev/null | openssl x509 -out server.crt && \
                openssl x509 -in server.crt -noout -ext subjectAltName | grep -o 'DNS:[^, ]*' | head -1 | cut -d: -f2";
    let done = place.beside(&["sh", "-ec", made, "sh", &follower.api_address()]).output().unwrap();
    let name = String::from_utf8_lossy(&done.stdout).trim().to_owned();
    assert!(done.status.success() && !name.is_empty(), "{done:?}");
    std::fs::write(place.home().join("hosts"), format!("127.0.0.1 localhost\n{} {name}\n", follower.address)).unwrap();
    let file = |name: &str| place.home().join(name).display().to_string();
    json!({"url": format!("https://{name}:8443"), "client_cert": file("client.crt"), "client_key": file("client.key")})
}

#[test]
fn playbooks() {
    require!(lack());
    let bed = Stock::cluster().unwrap();
    let place = Stock::named(Client::Basalt, &bed, "ansible").unwrap();
    let mut https = trusted(&place, &bed);
    let mut rows = Rows::of(Client::Ansible);

    let socket = bed.follower().unwrap().dir.join("unix.socket");
    let target = &bed.nodes[2].name;
    let unix =
        json!({"url": format!("unix:{}", socket.display()), "image": "busybox", "target": target, "prefix": "u"});
    rows.row(FEATURES[0], || twice(&place, &unix));
    rows.row(FEATURES[1], || assert!(play(&place, "turns.yml", &unix) >= 8));
    rows.row(FEATURES[2], || {
        // The word `trust_password` of these modules, with a token in it.
        let curl = ["curl", "-sk", "--cert", "client.crt", "--key", "client.key", "-d"];
        let body = json!({"type": "client", "password": token(&bed, "ansible").unwrap()}).to_string();
        let url = format!("{}/1.0/certificates", bed.follower().unwrap().url());
        let done = place.beside(&[&curl[..], &[&body, &url]].concat()).output().unwrap();
        assert!(String::from_utf8_lossy(&done.stdout).contains("\"status_code\":20"), "{done:?}");
        for (key, value) in [("image", "busybox"), ("target", target.as_str()), ("prefix", "h")] {
            https[key] = json!(value);
        }
        twice(&place, &https);
        play(&place, "turns.yml", &https);
    });
    rows.done();
}
