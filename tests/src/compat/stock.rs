//! A client that is set up: its own configuration folder, trusted by the cluster, run in the namespace of the fabric, from
//! where it reaches the nodes as any machine would.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::Client;
use crate::testbed::{self, Node, Options, Testbed};
use crate::{facility, host, image};

/// Seconds that one command may take; a walk through a whole library, or a playbook, is one too.
const LIMIT: &str = "600";

/// One of the command line clients, and what it needs to be run.
#[derive(Debug, Clone)]
pub struct Stock {
    pub client: Client,
    program: PathBuf,
    netns: String,
    home: PathBuf,
}

impl Stock {
    /// Why a client cannot be tested here with real containers.
    pub fn lack(client: Client) -> facility::Lack {
        let program = client.program();
        let missing = || client != Client::Basalt && host::which(program).is_none();
        facility::containers().or_else(|| missing().then(|| format!("{program} is not installed")))
    }

    /// A cluster of three real nodes with the image `busybox`.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn cluster() -> Result<Testbed> {
        let bed = Testbed::cluster(&Options::real(3))?;
        let file = bed.dir().join("busybox.tar.gz");
        image::busybox(&file)?;
        let file = file.to_str().context("a plain path")?;
        bed.nodes[0].basalt(&["image", "import", file, "--alias", "busybox"])?;
        Ok(bed)
    }

    /// A client that knows nothing yet.
    ///
    /// # Errors
    /// When its folder cannot be made.
    pub fn new(client: Client, bed: &Testbed) -> Result<Self> {
        Self::named(client, bed, client.program())
    }

    /// Another one, with another certificate.
    ///
    /// # Errors
    /// When its folder cannot be made.
    pub fn named(client: Client, bed: &Testbed, name: &str) -> Result<Self> {
        let home = bed.dir().join(format!("home-{name}"));
        std::fs::create_dir_all(&home).context("the client's folder")?;
        let program = match client {
            Client::Basalt => testbed::basalt().to_owned(),
            Client::Lxc | Client::Incus => PathBuf::from(client.program()),
            Client::Pylxd | Client::Ansible => bail!("{client} is no program"),
        };
        Ok(Self { client, program, netns: bed.fabric.netns(), home })
    }

    /// A client that is trusted, with the cluster as its default remote `basalt`, and talks to a follower.
    ///
    /// # Errors
    /// When it does not become trusted.
    pub fn connect(client: Client, bed: &Testbed) -> Result<Self> {
        let stock = Self::new(client, bed)?;
        stock.trust(bed.follower()?, &token(bed, client.program())?)?;
        Ok(stock)
    }

    /// Redeems a token at that node, and makes it the default remote, `basalt`.
    ///
    /// # Errors
    /// When it is refused.
    pub fn trust(&self, node: &Node, token: &str) -> Result<()> {
        let word = if self.client == Client::Lxc { "--password" } else { "--token" };
        self.tried(&["remote", "add", "basalt", &node.url(), "--accept-certificate", word, token])?;
        self.tried(&["remote", "switch", "basalt"]).map(drop)
    }

    /// The client's own folder, also good for scratch files.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The command to run it, without a limit.
    pub fn command<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.netns)).arg(&self.program).args(arguments);
        self.environment(&mut command);
        command
    }

    /// Any program where the client is; it is ended when it takes too long.
    pub fn beside(&self, argv: &[&str]) -> Command {
        self.service(&[&["timeout", LIMIT], argv].concat())
    }

    /// Any program where the client is, for as long as the test wants it.
    pub fn service(&self, argv: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.netns)).args(argv);
        self.environment(&mut command);
        command
    }

    fn environment(&self, command: &mut Command) {
        command
            .current_dir(&self.home)
            .env("HOME", &self.home)
            .env("LXD_CONF", self.home.join("conf"))
            .env("INCUS_CONF", self.home.join("conf"))
            .env("BASALT_CONF", self.home.join("conf"))
            .env_remove("BASALT_DIR")
            .env("TERM", "xterm")
            .stdin(Stdio::null());
        // How this machine reaches the outside is nothing to a client that stays inside.
        for name in ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"] {
            command.env_remove(name);
        }
        for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
            command.env_remove(name);
        }
    }

    /// Runs it to its end, whatever comes of it.
    pub fn raw(&self, arguments: &[&str]) -> Output {
        let program = self.program.display().to_string();
        let line: Vec<&str> = [program.as_str()].into_iter().chain(arguments.iter().copied()).collect();
        self.beside(&line).output().expect("nsenter can be started")
    }

    /// The same with something on its standard input.
    pub fn fed(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("nsenter can be started");
        // A client that does not read to the end closes its side: its exit says what there is to say.
        let _ = child.stdin.take().expect("it is piped").write_all(input);
        child.wait_with_output().expect("a child can be waited for")
    }

    /// What it prints.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub fn tried(&self, arguments: &[&str]) -> Result<String> {
        let done = self.raw(arguments);
        let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        if !done.status.success() {
            bail!("{} {}: {}: {out}{err}", self.client, arguments.join(" "), done.status);
        }
        Ok(out.into_owned())
    }

    /// What it prints.
    ///
    /// # Panics
    /// When it fails.
    pub fn run(&self, arguments: &[&str]) -> String {
        self.tried(arguments).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// What it prints, without white space around it.
    ///
    /// # Panics
    /// When it fails.
    pub fn line(&self, arguments: &[&str]) -> String {
        self.run(arguments).trim().to_owned()
    }

    /// What it prints, with `input` on its standard input.
    ///
    /// # Panics
    /// When it fails.
    pub fn feed(&self, arguments: &[&str], input: &str) -> String {
        let done = self.fed(arguments, input.as_bytes());
        let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert!(done.status.success(), "{} {}: {}: {out}{err}", self.client, arguments.join(" "), done.status);
        out.into_owned()
    }

    /// What it prints, as JSON.
    ///
    /// # Panics
    /// When it fails or prints something else.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let text = self.run(arguments);
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{} {}: {e}: {text}", self.client, arguments.join(" ")))
    }

    /// What it says when it fails, which it must.
    ///
    /// # Panics
    /// When it does not.
    pub fn refused(&self, arguments: &[&str]) -> String {
        let done = self.raw(arguments);
        let err = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!done.status.success(), "{} {} went well", self.client, arguments.join(" "));
        err
    }
}

/// A fresh trust token.
///
/// # Errors
/// When it is refused.
pub fn token(bed: &Testbed, name: &str) -> Result<String> {
    let text = bed.nodes[0].basalt(&["trust", "token", name])?;
    text.split_whitespace().last().map(str::to_owned).context("no token was printed")
}
