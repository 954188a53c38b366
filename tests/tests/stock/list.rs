//! `list`: forms, columns, filters.

use basalt_tests::compat::Rows;
use serde_json::Value;

use super::Bed;

pub(crate) fn rows(rows: &mut Rows, bed: &Bed) {
    bed.run(&[bed.create(), "busybox", "web1", "-c", "user.colour=blue", "--target", &bed.bed.nodes[0].name]);
    bed.run(&[bed.create(), "busybox", "web2", "--ephemeral"]);
    rows.row("list: table, csv, json, yaml, compact", || formats(bed));
    rows.row("list: columns", || columns(bed));
    rows.row("list: filters", || filters(bed));
    rows.row("list: all projects", || all_projects(bed));
    bed.run(&["delete", "web1", "web2"]);
}

fn formats(bed: &Bed) {
    let table = bed.run(&["list"]);
    assert!(table.contains("| NAME") && table.contains("| LOCATION"), "{table}");
    assert!(table.contains("| web1 | STOPPED |"), "{table}");
    let compact = bed.run(&["list", "--format", "compact"]);
    assert!(compact.contains("web2") && !compact.contains('|'), "{compact}");
    let csv = bed.run(&["list", "--format", "csv", "-c", "nsL"]);
    assert!(csv.contains(&format!("c1,RUNNING,{}\n", bed.home)), "{csv}");
    let json = bed.json(&["list", "--format", "json"]);
    let names: Vec<&str> = json.as_array().unwrap().iter().map(|i| i["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["c1", "web1", "web2"]);
    assert_eq!(json[0]["location"], bed.home.as_str());
    assert_eq!(json[0]["state"]["status"], "Running");
    assert_eq!(json[2]["ephemeral"], true);
    let yaml = bed.run(&["list", "web", "--format", "yaml"]);
    assert!(yaml.contains("name: web1\n") && yaml.contains("  user.colour: blue\n"), "{yaml}");
}

fn columns(bed: &Bed) {
    if bed.ours() {
        let csv = bed.run(&["list", "web1", "--format", "csv", "-c", "nsaetPSL"]);
        let me = &bed.bed.nodes[0].name;
        assert_eq!(csv.trim(), format!("web1,STOPPED,x86_64,default,CONTAINER,default,0,{me}"));
        let csv = bed.run(&["list", "c1", "--format", "csv", "-c", "4Np"]);
        let fields: Vec<&str> = csv.trim().split(',').collect();
        assert!(fields[0].ends_with(" (eth0)") && fields[1].parse::<u32>().unwrap() > 1, "{csv}");
        assert!(fields[2].parse::<u32>().unwrap() > 1, "{csv}");
        return;
    }
    let csv = bed.run(&["list", "web1", "--format", "csv", "-c", "nsaebtPSLd"]);
    let me = &bed.bed.nodes[0].name;
    assert_eq!(csv.trim(), format!("web1,STOPPED,x86_64,default,default,CONTAINER,default,0,{me},"));
    let csv = bed.run(&["list", "--format", "csv", "-c", "n,user.colour:COLOUR,devices:eth0.network"]);
    assert!(csv.contains("web1,blue,") && csv.contains("c1,,"), "{csv}");
    // The figures of the running one: addresses, processes, memory, CPU, init's process id, base image.
    let csv = bed.run(&["list", "c1", "--format", "csv", "-c", "4NmupFcl"]);
    let fields: Vec<&str> = csv.trim().split(',').collect();
    assert_eq!(fields.len(), 8, "{csv}");
    assert!(fields[0].ends_with(" (eth0)"), "an address: {csv}");
    assert!(fields[1].parse::<u32>().unwrap() > 1, "processes: {csv}");
    assert!(fields[2].ends_with("iB") || fields[2].ends_with('B'), "memory: {csv}");
    assert!(fields[4].parse::<u32>().unwrap() > 1, "process id: {csv}");
    assert_eq!(fields[5].len(), 64, "fingerprint: {csv}");
    let fast = bed.run(&["list", "--fast", "--format", "csv"]);
    assert!(fast.lines().any(|l| l.starts_with("web1,STOPPED,x86_64,")), "{fast}");
}

fn filters(bed: &Bed) {
    let names = |filters: &[&str]| {
        let line = [&["list", "--format", "csv", "-c", "n"], filters].concat();
        let mut names: Vec<String> = bed.run(&line).lines().map(str::to_owned).collect();
        names.sort();
        names.join(" ")
    };
    assert_eq!(names(&["web"]), "web1 web2");
    if !bed.ours() {
        assert_eq!(names(&["^.*b1$"]), "web1");
        assert_eq!(names(&["u.colour=red"]), "");
    }
    assert_eq!(names(&["status=running"]), "c1");
    assert_eq!(names(&["status=STOPPED", "web2"]), "web2");
    assert_eq!(names(&["user.colour=blue"]), "web1");
    assert_eq!(names(&["type=container"]), "c1 web1 web2");
    assert_eq!(names(&[&format!("location={}", bed.home), "c1"]), "c1");
}

fn all_projects(bed: &Bed) {
    bed.run(&["project", "create", "apart", "-c", "features.images=false"]);
    bed.run(&[bed.create(), "busybox", "far", "-s", "default", "--project", "apart"]);
    let csv = bed.run(&["list", "--all-projects", "--format", "csv", "-c", "en"]);
    assert!(csv.contains("apart,far\n") && csv.contains("default,c1\n"), "{csv}");
    let here = bed.json(&["list", "--format", "json"]);
    assert!(!here.as_array().unwrap().iter().any(|i: &Value| i["name"] == "far"));
    bed.run(&["delete", "far", "--project", "apart"]);
    bed.run(&["project", "delete", "apart"]);
}
