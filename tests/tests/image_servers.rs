//! Images: in and out as files, from image servers, between servers, with the stock clients and our own.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // a suite is a user at a shell, and fails by panicking

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use basalt_tests::compat::{Client, Rows, Stock};
use basalt_tests::imageserver::{Authority, ImageServer, Parts, sha256};
use basalt_tests::testbed::{self, Options, Testbed};
use basalt_tests::{image, require, wait};
use serde_json::Value;

/// What members do by themselves is done by then, also where two suites share two cores.
const SOON: Duration = Duration::from_secs(120);

/// A client that trusts the image server's authority.
struct Shell<'a> {
    stock: &'a Stock,
    authority: &'a Authority,
}

impl Shell<'_> {
    fn raw(&self, arguments: &[&str]) -> Output {
        let ca = format!("SSL_CERT_FILE={}", self.authority.file.display());
        let program = match self.stock.client {
            Client::Basalt => testbed::basalt().display().to_string(),
            other => other.program().to_owned(),
        };
        let line: Vec<&str> = ["env", &ca, &program].into_iter().chain(arguments.iter().copied()).collect();
        self.stock.beside(&line).output().unwrap()
    }

    fn run(&self, arguments: &[&str]) -> String {
        let done = self.raw(arguments);
        let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert!(done.status.success(), "{} {}: {}: {out}{err}", self.stock.client, arguments.join(" "), done.status);
        out.into_owned()
    }

    fn refused(&self, arguments: &[&str]) -> String {
        let done = self.raw(arguments);
        assert!(!done.status.success(), "{} {} went well", self.stock.client, arguments.join(" "));
        String::from_utf8_lossy(&done.stderr).into_owned()
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What all members say: one may be a moment behind.
fn images(bed: &Testbed) -> Vec<Value> {
    wait::until("members agree on the images", SOON, || {
        let said: Vec<Value> =
            bed.nodes.iter().map(|n| n.api().get("/1.0/images?recursion=1")).collect::<Result<_, _>>()?;
        Ok(said.windows(2).all(|pair| pair[0] == pair[1]).then(|| said[0].as_array().unwrap().clone()))
    })
    .unwrap()
}

fn aliased(bed: &Testbed, alias: &str) -> Option<Value> {
    images(bed).into_iter().find(|i| i["aliases"].as_array().unwrap().iter().any(|a| a["name"] == alias))
}

/// Names in the stores of all members, and uploads that never ended.
fn unfinished(bed: &Testbed) -> Vec<PathBuf> {
    let files = bed.nodes.iter().filter_map(|node| std::fs::read_dir(node.dir.join("images")).ok());
    let names = files.flatten().map(|entry| entry.unwrap().path());
    names.filter(|path| text(path).contains("/import-")).collect()
}

/// The files of an image, and a scratch folder.
struct Material {
    dir: tempfile::TempDir,
    unified: PathBuf,
    parts: Parts,
}

impl Material {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let unified = dir.path().join("busybox.tar.gz");
        image::busybox(&unified).unwrap();
        let parts = Parts::make(dir.path()).unwrap();
        Self { dir, unified, parts }
    }

    fn folder(&self, name: &str) -> PathBuf {
        let folder = self.dir.path().join(name);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }
}

fn sum(path: &Path) -> String {
    sha256(&[&std::fs::read(path).unwrap()])
}

/// In and out as files, the same way with both stock clients.
fn files(rows: &mut Rows, stock: &Stock, bed: &Testbed, material: &Material) {
    let name = stock.client.program();
    let parts = &material.parts;
    rows.row("image: import (unified)", || {
        stock.run(&["image", "import", text(&material.unified), "basalt:", "--alias", "uni"]);
        assert_eq!(aliased(bed, "uni").unwrap()["fingerprint"], sum(&material.unified).as_str());
        let list = stock.json(&["image", "list", "basalt:", "--format", "json"]);
        assert!(list.as_array().unwrap().iter().any(|i| i["properties"]["os"] == "Busybox"), "{list}");
        let again = stock.refused(&["image", "import", text(&material.unified), "basalt:", "--alias", "uni2"]);
        assert!(again.contains("fingerprint"), "{again}");
    });
    rows.row("image: info, show", || {
        assert!(stock.run(&["image", "info", "basalt:uni"]).contains(&sum(&material.unified)));
        assert!(stock.run(&["image", "show", "basalt:uni"]).contains("os: Busybox"));
    });
    rows.row("image: aliases", || {
        let fingerprint = &sum(&material.unified)[..12];
        stock.run(&["image", "alias", "create", "basalt:deep/er", fingerprint]);
        assert!(stock.run(&["image", "alias", "list", "basalt:"]).contains("deep/er"));
        stock.run(&["image", "alias", "rename", "basalt:deep/er", "flat"]);
        assert!(aliased(bed, "flat").is_some() && aliased(bed, "deep/er").is_none());
        stock.run(&["image", "alias", "delete", "basalt:flat"]);
        assert!(aliased(bed, "flat").is_none());
    });
    rows.row("image: edit", || {
        let yaml = stock.run(&["image", "show", "basalt:uni"]);
        let yaml = yaml.replace("public: false", "public: true").replace("os: Busybox", "os: Edited");
        stock.feed(&["image", "edit", "basalt:uni"], &yaml);
        let image = aliased(bed, "uni").unwrap();
        assert_eq!((&image["public"], &image["properties"]["os"]), (&Value::Bool(true), &"Edited".into()));
        stock.run(&["image", "set-property", "basalt:uni", "colour", "blue"]);
        assert_eq!(stock.line(&["image", "get-property", "basalt:uni", "colour"]), "blue");
    });
    rows.row("image: export (unified)", || {
        let folder = material.folder(&format!("{name}-uni"));
        stock.run(&["image", "export", "basalt:uni", text(&folder)]);
        let files: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|f| f.unwrap().path()).collect();
        assert_eq!(files.iter().map(|f| sum(f)).collect::<Vec<_>>(), [sum(&material.unified)], "{files:?}");
    });
    rows.row("image: import (split)", || {
        stock.run(&["image", "import", text(&parts.metadata), text(&parts.rootxz), "basalt:", "--alias", "split"]);
        stock.run(&["init", "basalt:split", "basalt:i1"]);
        stock.run(&["start", "basalt:i1"]);
        assert_eq!(stock.line(&["exec", "basalt:i1", "--", "hostname"]), "i1");
        stock.run(&["delete", "basalt:i1", "--force"]);
    });
    rows.row("image: export (split)", || {
        let folder = material.folder(&format!("{name}-split"));
        stock.run(&["image", "export", "basalt:split", text(&folder.join("image"))]);
        let mut files: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|f| f.unwrap().path()).collect();
        files.sort();
        let sums: Vec<String> = files.iter().map(|f| sum(f)).collect();
        assert!(sums.contains(&sum(&parts.metadata)) && sums.contains(&sum(&parts.rootxz)), "{files:?}");
    });
    if let Some(squashfs) = &parts.squashfs {
        rows.row("image: import (squashfs)", || {
            stock.run(&["image", "import", text(&parts.metadata), text(squashfs), "basalt:", "--alias", "squash"]);
            stock.run(&["launch", "basalt:squash", "basalt:i2"]);
            assert_eq!(stock.line(&["exec", "basalt:i2", "--", "hostname"]), "i2");
            stock.run(&["delete", "basalt:i2", "--force"]);
            stock.run(&["image", "delete", "basalt:squash"]);
        });
    }
    rows.row("image: delete", || {
        stock.run(&["image", "delete", "basalt:uni"]);
        stock.run(&["image", "delete", "basalt:split"]);
        assert_eq!(images(bed), Vec::<Value>::new());
        let gone =
            || bed.nodes.iter().all(|node| std::fs::read_dir(node.dir.join("images")).is_ok_and(|d| d.count() == 0));
        wait::until_true("the files are gone", SOON, || Ok(gone())).unwrap();
    });
}

/// From an image server.
fn afar(rows: &mut Rows, shell: &Shell<'_>, bed: &Testbed, server: &ImageServer, material: &Material) {
    let first = server.publish("20260101_0000", &material.parts).unwrap();
    let root = "/images/20260101_0000/rootfs.tar.xz";
    shell.run(&["remote", "add", "far", &server.url, "--protocol", "simplestreams"]);
    rows.row("launch: from an image server", || {
        let before = server.served(root);
        shell.run(&["launch", "far:tiny", "basalt:a1"]);
        shell.run(&["launch", "far:tiny", "basalt:a2"]);
        assert_eq!(shell.run(&["exec", "basalt:a2", "--", "hostname"]).trim(), "a2");
        assert_eq!(server.served(root), before + 1, "the second one was there");
        let image = images(bed).into_iter().find(|i| i["fingerprint"] == first.as_str()).unwrap();
        assert_eq!((&image["cached"], &image["auto_update"]), (&Value::Bool(true), &Value::Bool(true)));
        assert_eq!(image["update_source"]["server"], server.url.as_str());
        for name in ["basalt:a1", "basalt:a2"] {
            shell.run(&["delete", name, "--force"]);
        }
    });
    rows.row("image: copy from an image server", || {
        shell.run(&["image", "copy", "far:tiny", "basalt:", "--alias", "near", "--auto-update"]);
        let image = aliased(bed, "near").unwrap();
        assert_eq!((&image["cached"], &image["auto_update"]), (&Value::Bool(false), &Value::Bool(true)));
        assert_eq!(image["fingerprint"], first.as_str());
    });
    rows.row("image: refresh", || {
        shell.run(&["image", "refresh", "basalt:near"]);
        assert_eq!(aliased(bed, "near").unwrap()["fingerprint"], first.as_str());
        let newer = server.publish("20260202_0000", &Parts::make(material.dir.path()).unwrap()).unwrap();
        shell.run(&["image", "refresh", "basalt:near"]);
        assert_eq!(aliased(bed, "near").unwrap()["fingerprint"], newer.as_str());
        assert!(images(bed).iter().all(|i| i["fingerprint"] != first.as_str()));
        shell.run(&["image", "delete", "basalt:near"]);
    });
    rows.row("image: a damaged one is refused", || {
        server.publish("20260303_0000", &material.parts).unwrap();
        let mut damaged = std::fs::read(&material.parts.rootxz).unwrap();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 1;
        server.put("/images/20260303_0000/rootfs.tar.xz", damaged);
        let said = shell.refused(&["launch", "far:tiny", "basalt:bad"]);
        assert!(said.contains("sha256"), "{said}");
        assert!(shell.refused(&["info", "basalt:bad"]).contains("not found"));
        assert_eq!(images(bed), Vec::<Value>::new());
        wait::until_true("nothing of it is left", SOON, || Ok(unfinished(bed).is_empty())).unwrap();
        let missing = shell.refused(&["launch", "far:none", "basalt:bad"]);
        assert!(missing.contains("none"), "{missing}");
    });
    shell.run(&["remote", "remove", "far"]);
}

#[test]
fn files_and_image_servers() {
    require!(Stock::lack(Client::Basalt));
    let material = Material::new();
    let authority = Authority::new(material.dir.path()).unwrap();
    let arguments = vec!["--image-ca-file".to_owned(), authority.file.display().to_string()];
    let bed = Testbed::cluster(&Options { arguments, ..Options::real(3) }).unwrap();
    let server = ImageServer::start(&authority, &bed.fabric.netns(), bed.fabric.address(254).into()).unwrap();
    for client in [Client::Lxc, Client::Incus] {
        if let Some(why) = Stock::lack(client) {
            basalt_tests::facility::skip(&format!("images with {client}"), &why);
            continue;
        }
        let stock = Stock::connect(client, &bed).unwrap();
        let shell = Shell { stock: &stock, authority: &authority };
        let mut rows = Rows::of(client);
        files(&mut rows, &stock, &bed, &material);
        afar(&mut rows, &shell, &bed, &server, &material);
        rows.done();
    }
}

/// With our own client.
#[test]
fn with_basalt() {
    require!(Stock::lack(Client::Basalt));
    let material = Material::new();
    let authority = Authority::new(material.dir.path()).unwrap();
    let arguments = vec!["--image-ca-file".to_owned(), authority.file.display().to_string()];
    let bed = Testbed::cluster(&Options { arguments, ..Options::real(3) }).unwrap();
    let server = ImageServer::start(&authority, &bed.fabric.netns(), bed.fabric.address(254).into()).unwrap();
    let stock = Stock::connect(Client::Basalt, &bed).unwrap();
    let mut rows = Rows::of(Client::Basalt);
    let first = server.publish("20260101_0000", &material.parts).unwrap();
    stock.run(&["remote", "add", "far", &server.url, "--protocol", "simplestreams"]);
    rows.row("launch: from an image server", || {
        stock.run(&["launch", "far:tiny", "a1"]);
        assert_eq!(stock.line(&["exec", "a1", "--", "hostname"]), "a1");
        stock.run(&["delete", "a1", "--force"]);
    });
    rows.row("image: copy from an image server", || {
        stock.run(&["image", "copy", "far:tiny", "basalt:", "--alias", "near", "--auto-update"]);
        assert_eq!(aliased(&bed, "near").unwrap()["fingerprint"], first.as_str());
    });
    rows.row("image: copies on all members", || {
        let here = |node: &testbed::Node| node.dir.join("images").join(&first).is_file();
        let all = || Ok(bed.nodes.iter().all(here));
        wait::until_true("three copies", SOON, all).unwrap();
    });
    rows.row("image: refresh", || {
        assert!(stock.run(&["image", "refresh", "near"]).contains("up to date"));
        let newer = server.publish("20260202_0000", &Parts::make(material.dir.path()).unwrap()).unwrap();
        stock.run(&["image", "refresh", "near"]);
        assert_eq!(aliased(&bed, "near").unwrap()["fingerprint"], newer.as_str());
    });
    rows.row("image: import (URL)", || {
        server.put("/whole.tar.gz", std::fs::read(&material.unified).unwrap());
        stock.run(&["image", "import", &format!("{}/whole.tar.gz", server.url), "--alias", "whole"]);
        assert_eq!(aliased(&bed, "whole").unwrap()["fingerprint"], sum(&material.unified).as_str());
        let said = stock.refused(&["image", "import", "https://169.254.169.254/latest", "--alias", "x"]);
        assert!(said.contains("link-local"), "{said}");
        let said = stock.refused(&["image", "import", &format!("{}/none", server.url)]);
        assert!(said.contains("not found"), "{said}");
    });
    rows.row("image: aliases", || {
        stock.run(&["image", "alias", "rename", "whole", "all/of/it"]);
        assert!(aliased(&bed, "all/of/it").is_some() && aliased(&bed, "whole").is_none());
    });
    rows.done();
}

/// Two clusters of one: `one` and `two` are remotes of each client.
#[test]
fn between_servers() {
    require!(basalt_tests::facility::testbed());
    let material = Material::new();
    let bed = Testbed::start(&Options::fake(2)).unwrap();
    bed.nodes.iter().try_for_each(|node| node.init()).unwrap();
    let [one, two] = [&bed.nodes[0], &bed.nodes[1]];
    one.basalt(&["image", "import", text(&material.parts.metadata), text(&material.parts.rootxz), "--alias", "split"])
        .unwrap();
    one.basalt(&["image", "import", text(&material.unified), "--alias", "uni"]).unwrap();
    for client in [Client::Lxc, Client::Incus] {
        if basalt_tests::host::which(client.program()).is_none() {
            basalt_tests::facility::skip(&format!("images between servers with {client}"), "not installed");
            continue;
        }
        let stock = Stock::new(client, &bed).unwrap();
        for (name, node) in [("one", one), ("two", two)] {
            let token = node.basalt(&["trust", "token", client.program()]).unwrap();
            let token = token.split_whitespace().last().unwrap().to_owned();
            let word = if client == Client::Lxc { "--password" } else { "--token" };
            stock.run(&["remote", "add", name, &node.url(), "--accept-certificate", word, &token]);
        }
        let mut rows = Rows::of(client);
        for mode in ["pull", "push", "relay"] {
            rows.row(&format!("image: copy between servers ({mode})"), || {
                for image in ["split", "uni"] {
                    stock.run(&["image", "copy", &format!("one:{image}"), "two:", "--copy-aliases", "--mode", mode]);
                    let found = two.api().get(&format!("/1.0/images/aliases/{image}")).unwrap();
                    let wanted = one.api().get(&format!("/1.0/images/aliases/{image}")).unwrap();
                    assert_eq!(found["target"], wanted["target"]);
                    stock.run(&["image", "delete", &format!("two:{image}")]);
                }
            });
        }
        rows.row("image: public ones without trust", || {
            let set = |from: &str, to: &str| {
                let yaml = stock.run(&["image", "show", "one:uni"]);
                stock.feed(&["image", "edit", "one:uni"], &yaml.replace(from, to));
            };
            set("public: false", "public: true");
            let stranger = Stock::named(client, &bed, &format!("stranger-{client}")).unwrap();
            stranger.run(&["remote", "add", "open", &one.url(), "--accept-certificate", "--public"]);
            let list = stranger.json(&["image", "list", "open:", "--format", "json"]);
            assert_eq!(list.as_array().unwrap().len(), 1, "{list}");
            let folder = material.folder(&format!("{client}-open"));
            stranger.run(&["image", "export", "open:uni", text(&folder)]);
            let files: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|f| f.unwrap().path()).collect();
            assert_eq!(files.iter().map(|f| sum(f)).collect::<Vec<_>>(), [sum(&material.unified)]);
            set("public: true", "public: false");
            assert_eq!(
                stranger.json(&["image", "list", "open:", "--format", "json"]).as_array().map(Vec::len),
                Some(0)
            );
        });
        rows.done();
    }
}
