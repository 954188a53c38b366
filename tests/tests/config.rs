//! Configuration of containers as the guest finds it: templates of images, data for cloud-init, limits.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // a suite is a user at a shell, and fails by panicking

use std::process::Command;
use std::time::Duration;

use basalt_tests::api::Api;
use basalt_tests::testbed::{Node, Options, Testbed};
use basalt_tests::{facility, host, image, require, wait};
use serde_json::{Value, json};

/// What a guest and its host do by themselves is done by then, also where two suites share two cores.
const SOON: Duration = Duration::from_secs(60);

/// What distributions put into the metadata of their images.
const RULES: &str = "  /etc/hostname:
    when: [create, copy]
    template: hostname.tpl
  /etc/motd:
    when:
      - start
    template: motd.tpl
    properties:
      greeting: Welcome
  /etc/kept:
    when: [create]
    create_only: true
    template: motd.tpl
  /etc/passwd:
    when: [create]
    create_only: true
    template: motd.tpl
  /var/lib/cloud/seed/nocloud-net/meta-data:
    when: [create, copy]
    template: meta.tpl
  /var/lib/cloud/seed/nocloud-net/user-data:
    when: [create, copy]
    template: user.tpl
    properties:
      default: |
        #cloud-config
        {}
  /var/lib/cloud/seed/nocloud-net/network-config:
    when: [create, copy]
    template: network.tpl
";

const TEMPLATES: &[(&str, &str)] = &[
    ("hostname.tpl", "{{ container.name }}\n"),
    (
        "motd.tpl",
        "{{ properties.greeting }} to {{ instance.name }} ({{ config_get(\"user.colour\", \"grey\") }}), {{ trigger }}\n",
    ),
    (
        "meta.tpl",
        "#cloud-config\ninstance-id: {{ container.name }}\nlocal-hostname: {{ container.name }}\n{{ config_get(\"user.meta-data\", \"\") }}\n",
    ),
    ("user.tpl", "{{ config_get(\"cloud-init.user-data\", properties.default) }}"),
    (
        "network.tpl",
        "{% if config_get(\"cloud-init.network-config\", \"\") == \"\" %}version: 1\nconfig:\n  - type: physical\n    name: \
         {% if instance.type == \"virtual-machine\" %}enp5s0{% else %}eth0{% endif %}\n{% else %}\
         {{- config_get(\"cloud-init.network-config\", \"\") -}}{% endif %}\n",
    ),
];

const SEED: &str = "/var/lib/cloud/seed/nocloud-net";

fn node(bed: &Testbed) -> (&Node, Api) {
    (&bed.nodes[0], bed.nodes[0].api())
}

fn exec(node: &Node, name: &str, script: &str) -> String {
    node.basalt(&["exec", name, "--", "sh", "-c", script]).unwrap()
}

fn restart(api: &Api, name: &str) {
    api.act(name, "stop", true).unwrap();
    api.act(name, "start", false).unwrap();
}

#[test]
fn templates_are_filled_in_before_the_guest_starts() {
    require!(facility::containers());
    let bed = Testbed::cluster(&Options::real(1)).unwrap();
    let (node, api) = node(&bed);
    let file = bed.dir().join("templated.tar.gz");
    image::templated(&file, RULES, TEMPLATES).unwrap();
    node.basalt(&["image", "import", file.to_str().unwrap(), "--alias", "templated"]).unwrap();
    let user_data = "#cloud-config\npackages: [\"a & b\"]\n";
    let config = json!({"cloud-init.user-data": user_data, "user.colour": "blue"});
    api.create("t1", "templated", None, &config).unwrap();
    api.create("t2", "templated", None, &Value::Null).unwrap();
    for name in ["t1", "t2"] {
        api.act(name, "start", false).unwrap();
    }
    assert_eq!(exec(node, "t1", "cat /etc/hostname; stat -c %u:%g:%a /etc/hostname"), "t1\n0:0:644\n");
    assert_eq!(exec(node, "t1", "cat /etc/motd"), "Welcome to t1 (blue), start\n");
    assert_eq!(exec(node, "t1", "cat /etc/kept"), " to t1 (blue), create\n");
    assert!(exec(node, "t1", "cat /etc/passwd").starts_with("root:"), "what is there is kept");
    assert_eq!(exec(node, "t1", &format!("cat {SEED}/user-data")), user_data);
    assert_eq!(exec(node, "t2", &format!("cat {SEED}/user-data")), "#cloud-config\n{}\n");
    assert!(exec(node, "t2", &format!("cat {SEED}/network-config")).contains("name: eth0\n"));
    assert!(exec(node, "t2", &format!("cat {SEED}/meta-data")).contains("local-hostname: t2\n"));

    // What is made at every start follows the configuration; what is made once is the guest's own.
    exec(node, "t1", "echo mine > /etc/hostname");
    api.run("PATCH", "/1.0/instances/t1", &json!({"config": {"user.colour": "red"}})).unwrap();
    restart(&api, "t1");
    assert_eq!(exec(node, "t1", "cat /etc/hostname /etc/motd"), "mine\nWelcome to t1 (red), start\n");

    // A link in the guest leads nowhere outside of it.
    let outside = bed.dir().join("outside");
    std::fs::write(&outside, "untouched").unwrap();
    exec(node, "t1", &format!("ln -sf {} /etc/motd", outside.display()));
    let started = api.act("t1", "stop", true).and_then(|_| api.act("t1", "start", false));
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "untouched", "{started:?}");
    let _ = started.unwrap_err();

    // Templates can be edited; one that is wrong is named.
    let template = |name: &str| format!("/1.0/instances/t2/metadata/templates?path={name}");
    let put = |name: &str, text: &str| {
        let answer =
            api.connect().unwrap().request("POST", &template(name), "application/octet-stream", text.as_bytes());
        assert_eq!(answer.unwrap().status, 200);
    };
    put("motd.tpl", "edited {{ instance.name }}");
    restart(&api, "t2");
    assert_eq!(exec(node, "t2", "cat /etc/motd"), "edited t2");
    for (bad, said) in [
        ("{{ nothing(", "motd.tpl"),
        ("{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}", "fuel"),
    ] {
        put("motd.tpl", bad);
        api.act("t2", "stop", true).unwrap();
        let error = format!("{:#}", api.act("t2", "start", false).unwrap_err());
        assert!(error.contains("/etc/motd") && error.contains(said), "{error}");
        put("motd.tpl", "fine");
        api.act("t2", "start", false).unwrap();
    }
}

#[test]
fn lxc_edits_metadata_and_templates() {
    require!(
        facility::containers().or_else(|| host::which("lxc").is_none().then(|| "lxc is not installed".to_owned()))
    );
    let bed = Testbed::cluster(&Options::real(1)).unwrap();
    let (node, api) = node(&bed);
    let file = bed.dir().join("templated.tar.gz");
    image::templated(&file, RULES, TEMPLATES).unwrap();
    node.basalt(&["image", "import", file.to_str().unwrap(), "--alias", "templated"]).unwrap();
    api.create("t1", "templated", None, &Value::Null).unwrap();
    let lxc = |arguments: &[&str], input: &str| {
        use std::io::Write as _;
        let mut child = Command::new("lxc")
            .args(arguments)
            .env("LXD_DIR", &node.dir)
            .env("LXD_CONF", bed.dir().join("lxc-conf"))
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let done = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "lxc {}: {said}", arguments.join(" "));
        String::from_utf8_lossy(&done.stdout).into_owned()
    };
    let shown = lxc(&["config", "metadata", "show", "t1"], "");
    assert!(shown.contains("os: Busybox") && shown.contains("template: hostname.tpl"), "{shown}");
    lxc(&["config", "metadata", "edit", "t1"], &shown.replace("os: Busybox", "os: Edited"));
    assert!(lxc(&["config", "metadata", "show", "t1"], "").contains("os: Edited"));
    assert!(lxc(&["config", "template", "list", "t1"], "").contains("hostname.tpl"));
    lxc(&["config", "template", "edit", "t1", "motd.tpl"], "by lxc\n");
    assert_eq!(lxc(&["config", "template", "show", "t1", "motd.tpl"], ""), "by lxc\n");
    lxc(&["config", "template", "create", "t1", "new.tpl"], "");
    lxc(&["config", "template", "delete", "t1", "new.tpl"], "");
    assert!(!lxc(&["config", "template", "list", "t1"], "").contains("new.tpl"));
    api.act("t1", "start", false).unwrap();
    assert_eq!(exec(node, "t1", "cat /etc/motd"), "by lxc\n");
    // And what the console showed can be forgotten: all that is shown until somebody types.
    let asks = || Ok(lxc(&["console", "t1", "--show-log"], "").contains("login:"));
    wait::until_true("the console asks for a name", SOON, asks).unwrap();
    api.run("DELETE", "/1.0/instances/t1/console", &Value::Null).unwrap();
    let log = api.call("GET", "/1.0/instances/t1/console", &Value::Null).unwrap();
    assert_eq!((log.status, log.bytes.len()), (200, 0));
}

#[test]
fn limits_and_settings_of_the_kernel() {
    require!(facility::containers());
    let bed = Testbed::cluster(&Options::real(1)).unwrap();
    let (node, api) = node(&bed);
    let file = bed.dir().join("busybox.tar.gz");
    image::busybox(&file).unwrap();
    node.basalt(&["image", "import", file.to_str().unwrap(), "--alias", "busybox"]).unwrap();
    let config = json!({
        "limits.kernel.nofile": "1000:2000",
        "limits.kernel.core": "0",
        "linux.sysctl.net.ipv4.ip_forward": "1",
        "linux.sysctl.net.ipv4.ip_default_ttl": "77",
        "limits.cpu.priority": "4",
        "limits.memory": "64MiB",
        "limits.memory.enforce": "soft",
        "limits.memory.swap": "false",
    });
    api.create("k1", "busybox", None, &config).unwrap();
    api.act("k1", "start", false).unwrap();
    let limits = exec(node, "k1", "cat /proc/1/limits");
    let line = |name: &str| {
        let line = limits.lines().find(|l| l.starts_with(name)).unwrap();
        line[name.len()..].split_whitespace().take(2).collect::<Vec<_>>().join(":")
    };
    assert_eq!((line("Max open files"), line("Max core file size")), ("1000:2000".into(), "0:0".into()));
    assert_eq!(exec(node, "k1", "cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/ip_default_ttl"), "1\n77\n");
    let id = exec(node, "k1", "cat /proc/1/cgroup");
    assert!(!id.is_empty());

    // What the kernel holds the guest to, in either version of cgroups.
    let folders = host::run(&["find", "/sys/fs/cgroup", "-path", &format!("*{}/*/payload", node.cgroup)]).unwrap();
    let value = |file: &str| {
        folders.lines().find_map(|f| std::fs::read_to_string(format!("{f}/{file}")).ok()).map(|v| v.trim().to_owned())
    };
    let one_of = |one: (&str, &str), two: (&str, &str)| {
        let found = (value(one.0), value(two.0));
        assert!(found.0.as_deref() == Some(one.1) || found.1.as_deref() == Some(two.1), "{one:?} {two:?}: {found:?}");
    };
    let bytes = (64 << 20).to_string();
    one_of(("cpu.shares", "1018"), ("cpu.weight", "94"));
    one_of(("memory.soft_limit_in_bytes", &bytes), ("memory.high", &bytes));
    one_of(("memory.swappiness", "0"), ("memory.swap.max", "0"));
    // At once, in a guest that runs.
    api.run(
        "PATCH",
        "/1.0/instances/k1",
        &json!({"config": {"limits.cpu.priority": "", "limits.memory.enforce": "hard"}}),
    )
    .unwrap();
    wait::until_true("limits reach the guest", SOON, || {
        let hard = [value("memory.limit_in_bytes"), value("memory.max")].into_iter().flatten().any(|v| v == bytes);
        let even = [value("cpu.shares"), value("cpu.weight")].into_iter().flatten().any(|v| v == "1024" || v == "100");
        Ok(hard && even)
    })
    .unwrap();

    for (key, bad) in
        [("limits.kernel.nofile", "2:1"), ("limits.kernel.everything", "1"), ("limits.cpu.priority", "11")]
    {
        let answer = api.call("PATCH", "/1.0/instances/k1", &json!({"config": {key: bad}})).unwrap();
        let said = answer.json()["error"].to_string();
        assert!(answer.status == 400 && said.contains(key), "{said}");
    }
}
