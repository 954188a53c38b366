//! An image server of static files over TLS, in the namespace of a testbed's fabric: simplestreams, made from the busybox
//! image. Its certificate is of an [`Authority`] of its own, which clients and nodes are told to trust.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};
use rustls::pki_types::PrivateKeyDer;
use sha2::{Digest, Sha256};

use crate::{host, image};

/// The port of the server.
pub const PORT: u16 = 8443;

/// A certificate authority.
#[derive(Debug)]
pub struct Authority {
    issuer: rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
    /// Its certificate, as PEM.
    pub file: PathBuf,
}

impl Authority {
    /// Makes one; its certificate goes into `folder`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn new(folder: &Path) -> Result<Self> {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer = rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate()?)?;
        let file = folder.join("ca.pem");
        std::fs::write(&file, issuer.pem()).context("write the authority's certificate")?;
        Ok(Self { issuer, file })
    }

    fn serve(&self, address: IpAddr) -> Result<rustls::ServerConfig> {
        let key = rcgen::KeyPair::generate()?;
        let leaf = rcgen::CertificateParams::new(vec![address.to_string()])?.signed_by(&key, &self.issuer)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        Ok(config.with_no_client_auth().with_single_cert(vec![leaf.der().clone()], key)?)
    }
}

type Files = Arc<Mutex<BTreeMap<String, Arc<Vec<u8>>>>>;

/// The server; it ends with this.
#[derive(Debug)]
pub struct ImageServer {
    pub url: String,
    files: Files,
    served: Arc<Mutex<BTreeMap<String, usize>>>,
    stop: Arc<AtomicBool>,
}

impl Drop for ImageServer {
    fn drop(&mut self) {
        // Its thread wakes with the next connection, of which there is none: it ends with the process.
        self.stop.store(true, Ordering::SeqCst);
    }
}

impl ImageServer {
    /// Serves at `address` in the namespace `netns`.
    ///
    /// # Errors
    /// When the namespace cannot be entered or the port is taken.
    pub fn start(authority: &Authority, netns: &str, address: IpAddr) -> Result<Self> {
        let config = Arc::new(authority.serve(address)?);
        let namespace = File::open(format!("/run/netns/{netns}")).context("open the fabric's namespace")?;
        // Only the thread that binds needs to be there; the socket stays there.
        let bind = std::thread::spawn(move || -> Result<TcpListener> {
            setns(namespace, CloneFlags::CLONE_NEWNET).context("enter the fabric's namespace")?;
            TcpListener::bind((address, PORT)).context("bind the image server")
        });
        let listener = bind.join().map_err(|_| anyhow::anyhow!("the thread that binds panicked"))??;
        let (files, served) = (Files::default(), Arc::<Mutex<BTreeMap<String, usize>>>::default());
        let stop = Arc::new(AtomicBool::new(false));
        let server = Self { url: format!("https://{address}:{PORT}"), files, served, stop };
        let (files, served, stop) = (server.files.clone(), server.served.clone(), server.stop.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let (config, files, served) = (config.clone(), files.clone(), served.clone());
                // A client that goes away is no matter of the test.
                std::thread::spawn(move || drop(answer(&config, stream, &files, &served)));
            }
        });
        Ok(server)
    }

    /// Puts a file up, or another in its place.
    pub fn put(&self, path: &str, content: Vec<u8>) {
        self.files.lock().expect("no thread panics while it holds it").insert(path.to_owned(), Arc::new(content));
    }

    /// How often a file was asked for.
    pub fn served(&self, path: &str) -> usize {
        self.served.lock().expect("no thread panics while it holds it").get(path).copied().unwrap_or(0)
    }

    /// Puts up a version of an image called `tiny`, the newest if its serial sorts last; gives its fingerprint.
    ///
    /// # Errors
    /// When the parts cannot be read.
    pub fn publish(&self, serial: &str, parts: &Parts) -> Result<String> {
        let (meta, root) = (std::fs::read(&parts.metadata)?, std::fs::read(&parts.rootxz)?);
        let fingerprint = sha256(&[&meta, &root]);
        let product = serde_json::json!({"content_id": "images", "format": "products:1.0", "datatype": "image-downloads", "products": {
            "busybox:tiny:default": {
                "aliases": "tiny,tiny/default", "arch": debian_name(), "os": "Busybox", "release": "tiny",
                "release_title": "tiny", "variant": "default", "versions": { serial: { "items": {
                    "lxd.tar.xz": {"ftype": "lxd.tar.xz", "path": format!("images/{serial}/lxd.tar.xz"), "size": meta.len(),
                        "sha256": sha256(&[&meta]), "combined_rootxz_sha256": fingerprint, "combined_sha256": fingerprint},
                    "incus.tar.xz": {"ftype": "incus.tar.xz", "path": format!("images/{serial}/lxd.tar.xz"), "size": meta.len(),
                        "sha256": sha256(&[&meta]), "combined_rootxz_sha256": fingerprint, "combined_sha256": fingerprint},
                    "root.tar.xz": {"ftype": "root.tar.xz", "path": format!("images/{serial}/rootfs.tar.xz"), "size": root.len(),
                        "sha256": sha256(&[&root])},
                }}}
            }
        }});
        let index = serde_json::json!({"format": "index:1.0", "index": {"images": {
            "datatype": "image-downloads", "path": "streams/v1/images.json", "format": "products:1.0",
            "products": ["busybox:tiny:default"]}}});
        self.put(&format!("/images/{serial}/lxd.tar.xz"), meta);
        self.put(&format!("/images/{serial}/rootfs.tar.xz"), root);
        self.put("/streams/v1/images.json", serde_json::to_vec(&product)?);
        self.put("/streams/v1/index.json", serde_json::to_vec(&index)?);
        Ok(fingerprint)
    }
}

fn answer(
    config: &Arc<rustls::ServerConfig>,
    tcp: TcpStream,
    files: &Files,
    served: &Mutex<BTreeMap<String, usize>>,
) -> Result<()> {
    let mut stream = rustls::StreamOwned::new(rustls::ServerConnection::new(config.clone())?, tcp);
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && head.len() < 65536 {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head)?;
    let mut words = head.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let found = files.lock().expect("no thread panics while it holds it").get(path).cloned();
    if method == "GET" {
        *served.lock().expect("no thread panics while it holds it").entry(path.to_owned()).or_default() += 1;
    }
    let (status, content) = match &found {
        Some(content) => ("200 OK", content.as_slice()),
        None => ("404 Not Found", &[][..]),
    };
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", content.len())?;
    if method == "GET" {
        stream.write_all(content)?;
    }
    stream.conn.send_close_notify();
    stream.flush()?;
    Ok(())
}

/// SHA-256 of parts, one after the other, in hexadecimal.
pub fn sha256(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The architecture in the words of image servers.
fn debian_name() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The files of a split image.
#[derive(Debug)]
pub struct Parts {
    pub metadata: PathBuf,
    pub rootxz: PathBuf,
    /// `None` where `mksquashfs` is not installed.
    pub squashfs: Option<PathBuf>,
}

static MADE: AtomicUsize = AtomicUsize::new(0);

impl Parts {
    /// Makes the busybox image as parts, in `folder`; every call makes another one.
    ///
    /// # Errors
    /// When a program is missing or fails.
    pub fn make(folder: &Path) -> Result<Self> {
        let number = MADE.fetch_add(1, Ordering::SeqCst);
        let tree = folder.join(format!("tree{number}"));
        let at = |name: &str| folder.join(format!("{number}-{name}"));
        std::fs::create_dir_all(&tree).context("make the tree")?;
        image::busybox_root(&tree)?;
        let yaml = std::fs::read_to_string(tree.join("metadata.yaml")).context("metadata.yaml")?;
        std::fs::write(
            tree.join("metadata.yaml"),
            yaml.replace("release: \"1\"", &format!("release: \"{}\"", number + 1)),
        )?;
        let text = |path: &Path| path.to_str().map(str::to_owned).context("a plain path");
        let (metadata, rootxz, squashfs) = (at("lxd.tar.xz"), at("rootfs.tar.xz"), at("rootfs.squashfs"));
        let root = text(&tree.join("rootfs"))?;
        host::run(&["tar", "-C", &text(&tree)?, "-cJf", &text(&metadata)?, "metadata.yaml"])?;
        host::run(&["tar", "-C", &root, "-cJf", &text(&rootxz)?, "."])?;
        let squash = host::which("mksquashfs").is_some();
        if squash {
            host::run(&["mksquashfs", &root, &text(&squashfs)?, "-noappend", "-quiet", "-no-progress"])?;
        }
        std::fs::remove_dir_all(&tree).context("remove the tree")?;
        Ok(Self { metadata, rootxz, squashfs: squash.then_some(squashfs) })
    }
}
