use basalt_runtime::{Answer, ScriptedRunner};

use super::*;

fn ruleset(spec: &BridgeSpec) -> Option<String> {
    let state = State::new(std::path::Path::new("/none"), &spec.name);
    let chains = chains(spec);
    (!chains.is_empty()).then(|| table(&state, &spec.name).text(&chains))
}

fn spec() -> BridgeSpec {
    BridgeSpec {
        ipv4: Some("10.1.2.1/24".parse().unwrap()),
        ipv4_nat: true,
        ..BridgeSpec::new(IfName::new("br0").unwrap())
    }
}

#[test]
fn the_usual_table() {
    let expected = "\
table inet basalt_br0
delete table inet basalt_br0
table inet basalt_br0 {
\tchain nat {
\t\ttype nat hook postrouting priority srcnat; policy accept;
\t\tip saddr 10.1.2.0/24 ip daddr != 10.1.2.0/24 oifname != \"br0\" masquerade
\t}

\tchain input {
\t\ttype filter hook input priority filter; policy accept;
\t\tiifname \"br0\" meta nfproto ipv4 udp dport { 53, 67 } accept
\t\tiifname \"br0\" meta nfproto ipv4 tcp dport 53 accept
\t}

\tchain forward {
\t\ttype filter hook forward priority filter; policy accept;
\t\tiifname \"br0\" meta nfproto ipv4 accept
\t\toifname \"br0\" meta nfproto ipv4 accept
\t}
}
";
    assert_eq!(ruleset(&spec()).unwrap(), expected);
}

#[test]
fn ipv6_and_no_routing() {
    let spec =
        BridgeSpec { ipv6: Some("fd00:1::1/64".parse().unwrap()), ipv6_nat: true, ipv4_routing: false, ..spec() };
    let text = ruleset(&spec).unwrap();
    let has = |rule: &str| assert!(text.contains(&format!("\t\t{rule}\n")), "{rule} in\n{text}");
    has("ip6 saddr fd00:1::/64 ip6 daddr != fd00:1::/64 oifname != \"br0\" masquerade");
    has("iifname \"br0\" oifname != \"br0\" meta nfproto ipv4 reject");
    has("oifname \"br0\" meta nfproto ipv6 accept");
    has("iifname \"br0\" meta nfproto ipv6 udp dport { 53, 547 } accept");
}

#[test]
fn nothing_wanted_is_no_table() {
    assert_eq!(ruleset(&BridgeSpec::new(IfName::new("br0").unwrap())), None);
    let quiet = BridgeSpec { ipv4_nat: false, ipv4_firewall: false, ..spec() };
    assert_eq!(ruleset(&quiet), None);
}

const LIST: [&str; 6] = ["nft", "-s", "list", "table", "inet", "basalt_br0"];

#[tokio::test]
async fn loads_once_and_again_when_someone_changed_it() {
    let root = tempfile::tempdir().unwrap();
    let state = State::new(root.path(), &spec().name);
    state.create().unwrap();
    let runner = ScriptedRunner::new();
    let none = Answer::fail(1, "Error: No such file or directory\nlist table");
    runner.on(&LIST, none).on(&LIST, Answer::ok("as loaded")).on(&LIST, Answer::ok("as loaded"));
    runner.on(&LIST, Answer::ok("edited")).on(&["nft", "-f", "-"], Answer::ok(""));
    let loads = || runner.argvs().iter().filter(|argv| argv[1] == "-f").count();
    ensure(&runner, &state, &spec()).await.unwrap();
    assert_eq!(loads(), 1);
    ensure(&runner, &state, &spec()).await.unwrap();
    assert_eq!(loads(), 1);
    ensure(&runner, &state, &spec()).await.unwrap();
    assert_eq!(loads(), 2);
}

#[tokio::test]
async fn a_missing_program_names_its_package() {
    let root = tempfile::tempdir().unwrap();
    let state = State::new(root.path(), &spec().name);
    state.create().unwrap();
    let runner = ScriptedRunner::new();
    runner.on_prefix(&["nft"], Answer::Missing);
    let error = ensure(&runner, &state, &spec()).await.unwrap_err().to_string();
    assert!(error.contains("br0") && error.contains("package nftables"), "{error}");
    // Nothing was loaded, so there is nothing that removing could need it for.
    remove(&runner, &state, &spec().name).await.unwrap();
}
