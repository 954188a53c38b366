use super::*;

fn hash(digit: char) -> String {
    std::iter::repeat_n(digit, 64).collect()
}

fn products() -> Vec<Product> {
    let item = |ftype: &str, path: &str, sha: char| {
        format!(r#""{path}": {{"ftype": "{ftype}", "path": "{path}", "size": 10, "sha256": "{}"}}"#, hash(sha))
    };
    let meta = |folder: &str, square: char, xz: char| {
        format!(
            r#""lxd.tar.xz": {{"ftype": "lxd.tar.xz", "path": "{folder}/lxd.tar.xz", "size": 5, "sha256": "{}",
            "combined_squashfs_sha256": "{}", "combined_rootxz_sha256": "{}", "combined_disk-kvm-img_sha256": "{}"}}"#,
            hash('1'),
            hash(square),
            hash(xz),
            hash('e')
        )
    };
    let text = format!(
        r#"{{"products": {{
        "alpine:edge:amd64:default": {{"aliases": "alpine/edge/default,alpine/edge", "arch": "amd64", "os": "Alpine",
            "release": "edge", "variant": "default", "support_eol": "2029-05-31", "unknown": [1],
            "versions": {{
                "20260101_13:00": {{"items": {{ {}, {} }} }},
                "20260202_13:00": {{"items": {{ {}, {}, {}, {} }} }},
                "20260303_13:00": {{"items": {{ "x": {{"ftype": "squashfs.vcdiff", "path": "d/x"}} }} }}
            }} }},
        "alpine:edge:arm64:default": {{"aliases": "alpine/edge", "arch": "arm64", "versions": {{
            "20260202_13:00": {{"items": {{ {}, {} }} }} }} }},
        "old:1:amd64": {{"aliases": "old", "arch": "amd64", "versions": {{ "1": {{"items": {{
            "u": {{"ftype": "lxd_combined.tar.gz", "path": "old/u.tar.gz", "size": 3, "sha256": "{}"}} }} }} }} }}
        }} }}"#,
        meta("a", 'a', '0'),
        item("squashfs", "a/rootfs.squashfs", '2'),
        meta("b", 'b', 'c'),
        item("squashfs", "b/rootfs.squashfs", '3'),
        item("root.tar.xz", "b/rootfs.tar.xz", '4'),
        item("disk-kvm.img", "b/disk.qcow2", '5'),
        meta("r", 'd', '0'),
        item("squashfs", "r/rootfs.squashfs", '6'),
        hash('7'),
    );
    serde_json::from_str::<Products>(&text).unwrap().products.into_values().collect()
}

fn ask(name: &str, kind: Kind, squashfs: bool, architectures: &[&str]) -> Result<Offer, Error> {
    let architectures: Vec<String> = architectures.iter().map(|a| (*a).to_owned()).collect();
    let base = Url::parse("https://images.example/pub").unwrap();
    find(&products(), &base, &Query { name, kind, architectures: &architectures, squashfs })
}

#[test]
fn the_newest_that_can_be_used() {
    let offer = ask("alpine/edge", Kind::Container, true, &["x86_64"]).unwrap();
    assert_eq!(offer.fingerprint.unwrap().as_str(), hash('b'));
    let urls: Vec<&str> = offer.files.iter().map(|f| f.url.as_str()).collect();
    assert_eq!(urls, ["https://images.example/pub/b/lxd.tar.xz", "https://images.example/pub/b/rootfs.squashfs"]);
    assert_eq!(offer.files[1].sha256.as_ref().unwrap().as_str(), hash('3'));
    assert_eq!(offer.properties["serial"], "20260202_13:00");
    assert_eq!(offer.properties["description"], "Alpine edge amd64 (20260202_13:00)");
    assert_eq!(basalt_api::clock::text(offer.expires_at), "2029-05-31T00:00:00Z");
}

#[test]
fn the_host_and_the_kind_decide_how_it_is_packed() {
    let of = |kind, squashfs| ask("alpine/edge", kind, squashfs, &["x86_64"]).unwrap().fingerprint.unwrap().to_string();
    assert_eq!(of(Kind::Container, false), hash('c'));
    assert_eq!(of(Kind::VirtualMachine, true), hash('e'));
    let whole = ask("old", Kind::Container, true, &["x86_64"]).unwrap();
    assert_eq!((whole.files.len(), whole.fingerprint.unwrap().to_string()), (1, hash('7')));
}

#[test]
fn architectures_of_the_cluster_only() {
    let of = |name, archs: &[&str]| ask(name, Kind::Container, true, archs).map(|o| o.fingerprint.unwrap().to_string());
    assert_eq!(of("alpine/edge", &["aarch64", "x86_64"]).unwrap(), hash('d'), "the first is preferred");
    assert_eq!(of("alpine/edge/arm64", &["x86_64", "aarch64"]).unwrap(), hash('d'), "the name says which");
    assert_eq!(of("alpine/edge/amd64", &["x86_64"]).unwrap(), hash('b'));
    assert_eq!(of("alpine/edge/default/x86_64", &["x86_64"]).unwrap(), hash('b'));
    for (name, archs) in [("alpine/edge/arm64", &["x86_64"]), ("alpine/edge", &["riscv64"]), ("alpine", &["x86_64"])] {
        let error = of(name, archs).unwrap_err();
        assert!(matches!(&error, Error::Missing(text) if text.contains(name)), "{error}");
    }
}

#[test]
fn fingerprints_name_any_version() {
    assert_eq!(ask(&hash('a'), Kind::Container, true, &["x86_64"]).unwrap().properties["serial"], "20260101_13:00");
    assert!(ask("aaaaaaaaaaaa", Kind::Container, true, &["x86_64"]).is_ok());
    assert!(ask("aaaa", Kind::Container, true, &["x86_64"]).is_err(), "too short to mean one");
}

#[test]
fn what_leads_out_of_the_server_is_refused() {
    for path in ["../x", "https://evil.example/x", "/etc/passwd"] {
        let text = format!(
            r#"{{"products": {{"p": {{"aliases": "x", "arch": "amd64", "versions": {{"1": {{"items": {{
            "u": {{"ftype": "lxd_combined.tar.gz", "path": "{path}", "sha256": "{}"}} }} }} }} }} }} }}"#,
            hash('7')
        );
        let products: Vec<Product> = serde_json::from_str::<Products>(&text).unwrap().products.into_values().collect();
        let base = Url::parse("https://images.example").unwrap();
        let query = Query { name: "x", kind: Kind::Container, architectures: &["x86_64".into()], squashfs: true };
        assert!(find(&products, &base, &query).is_err(), "{path}");
    }
}
