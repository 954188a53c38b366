//! A small image, made on the machine itself from Debian's static busybox: a real init, a shell, DHCP on `eth0`, and a
//! web server to look at. No image server is needed. [`hostile`] makes the ones that must be refused.

pub mod hostile;

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};

/// Debian's package `busybox-static` puts it here.
const BUSYBOX: &str = "/bin/busybox";

#[rustfmt::skip] // a list of words
const APPLETS: &[&str] = &[
    "ash", "cat", "chmod", "chown", "clear", "cp", "cut", "date", "dd", "df", "du", "echo", "env", "false", "free",
    "find", "getty", "grep", "head", "hostname", "httpd", "id", "ifconfig", "init", "ip", "kill", "killall", "less",
    "ln", "ls", "md5sum", "mkdir", "mknod", "more", "mount", "mv", "nc", "nproc", "nslookup", "ping", "poweroff",
    "printf", "ps", "pwd", "reboot", "rm", "rmdir", "route", "sed", "seq", "sh", "sha256sum", "sleep", "sort",
    "stat", "stty", "sync", "tail", "tar", "tee", "test", "top", "touch", "tr", "true", "tty", "udhcpc", "umount",
    "uname", "uptime", "vi", "wc", "wget", "whoami", "xargs", "yes",
];

const INITTAB: &str = "\
::sysinit:/etc/init.d/rcS
::respawn:/bin/sh -c 'exec /sbin/udhcpc -f -i eth0 -s /etc/udhcpc.script -t 10 -T 1 -A 3 -x hostname:$(hostname)'
::respawn:/bin/httpd -f -p 80 -h /var/www
::ctrlaltdel:/bin/poweroff
console::respawn:/sbin/getty -L console 115200 vt100
";

const RCS: &str = "\
#!/bin/sh
mount -t proc proc /proc 2>/dev/null
mount -t tmpfs tmpfs /run 2>/dev/null
[ -s /etc/hostname ] && hostname -F /etc/hostname 2>/dev/null
ip link set lo up
ip link set eth0 up 2>/dev/null
echo \"<h1>$(hostname)</h1>\" > /var/www/index.html
exit 0
";

const UDHCPC: &str = "\
#!/bin/sh
case \"$1\" in
deconfig) ip -4 addr flush dev $interface; ip link set $interface up ;;
bound|renew)
  ip -4 addr flush dev $interface
  ip addr add $ip/${mask:-24} dev $interface
  for r in $router; do ip route add default via $r dev $interface; done
  : > /etc/resolv.conf
  [ -n \"$domain\" ] && echo \"search $domain\" >> /etc/resolv.conf
  for d in $dns; do echo \"nameserver $d\" >> /etc/resolv.conf; done ;;
esac
exit 0
";

/// A root file system that is being written into an archive.
pub struct Archive {
    builder: Builder<GzEncoder<File>>,
}

impl std::fmt::Debug for Archive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Archive").finish_non_exhaustive()
    }
}

impl Archive {
    /// # Errors
    /// When the file cannot be made.
    pub fn create(file: &Path) -> Result<Self> {
        let out = File::create(file).with_context(|| format!("make {}", file.display()))?;
        Ok(Self { builder: Builder::new(GzEncoder::new(out, Compression::fast())) })
    }

    fn header(kind: EntryType, mode: u32, size: u64) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        header
    }

    /// # Errors
    /// When it cannot be written.
    pub fn folder(&mut self, path: &str, mode: u32) -> Result<()> {
        let mut header = Self::header(EntryType::Directory, mode, 0);
        self.builder.append_data(&mut header, path, std::io::empty()).with_context(|| path.to_owned())
    }

    /// # Errors
    /// When it cannot be written.
    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        let mut header = Self::header(EntryType::Regular, mode, content.len() as u64);
        self.builder.append_data(&mut header, path, content).with_context(|| path.to_owned())
    }

    /// # Errors
    /// When it cannot be written.
    pub fn symlink(&mut self, path: &str, target: &str) -> Result<()> {
        let mut header = Self::header(EntryType::Symlink, 0o777, 0);
        self.builder.append_link(&mut header, path, target).with_context(|| path.to_owned())
    }

    /// An entry exactly as given, with names that a well-behaved writer would refuse.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn raw(&mut self, kind: EntryType, path: &str, link: &str, content: &[u8]) -> Result<()> {
        let mut header = Self::header(kind, 0o644, content.len() as u64);
        copy(&mut header.as_old_mut().name, path);
        copy(&mut header.as_old_mut().linkname, link);
        if matches!(kind, EntryType::Char | EntryType::Block) {
            header.set_device_major(1)?;
            header.set_device_minor(3)?;
        }
        header.set_cksum();
        self.builder.append(&header, content).with_context(|| path.to_owned())
    }

    /// # Errors
    /// When it cannot be written.
    pub fn metadata(&mut self, description: &str) -> Result<()> {
        self.file("metadata.yaml", 0o644, metadata(description).as_bytes())
    }

    /// # Errors
    /// When it cannot be written.
    pub fn finish(self) -> Result<()> {
        self.builder.into_inner()?.finish()?.sync_all().context("write the image")
    }
}

fn copy(field: &mut [u8; 100], text: &str) {
    let bytes = text.as_bytes();
    assert!(bytes.len() < field.len(), "an old tar header has 100 bytes for a name");
    field[..bytes.len()].copy_from_slice(bytes);
}

fn metadata(description: &str) -> String {
    format!(
        "architecture: {}\ncreation_date: 1700000000\nproperties:\n  architecture: {0}\n  description: {description}\n  \
         os: Busybox\n  release: \"1\"\n  name: busybox\ntemplates: {{}}\n",
        std::env::consts::ARCH
    )
}

/// Writes the busybox image, a unified tar.gz.
///
/// # Errors
/// When busybox is not installed or the file cannot be written.
pub fn busybox(file: &Path) -> Result<()> {
    let mut archive = Archive::create(file)?;
    archive.metadata("Busybox, made on this machine")?;
    busybox_into(&mut archive)?;
    archive.finish()
}

/// The same with templates: files in the guest are made of `templates` (name and content) as `rules`, the part of
/// `metadata.yaml` below `templates:`, says.
///
/// # Errors
/// When busybox is not installed or the file cannot be written.
pub fn templated(file: &Path, rules: &str, templates: &[(&str, &str)]) -> Result<()> {
    let mut archive = Archive::create(file)?;
    let text = metadata("Busybox with templates").replace("templates: {}\n", &format!("templates:\n{rules}"));
    archive.file("metadata.yaml", 0o644, text.as_bytes())?;
    archive.folder("templates", 0o755)?;
    for (name, content) in templates {
        archive.file(&format!("templates/{name}"), 0o644, content.as_bytes())?;
    }
    busybox_into(&mut archive)?;
    archive.finish()
}

fn busybox_into(archive: &mut Archive) -> Result<()> {
    let program = std::fs::read(BUSYBOX).with_context(|| format!("{BUSYBOX} (package busybox-static)"))?;
    for folder in [
        "rootfs",
        "rootfs/bin",
        "rootfs/sbin",
        "rootfs/usr",
        "rootfs/usr/bin",
        "rootfs/etc",
        "rootfs/etc/init.d",
        "rootfs/var",
        "rootfs/var/www",
        "rootfs/dev",
        "rootfs/proc",
        "rootfs/sys",
        "rootfs/run",
        "rootfs/mnt",
    ] {
        archive.folder(folder, 0o755)?;
    }
    archive.folder("rootfs/root", 0o700)?;
    archive.folder("rootfs/tmp", 0o1777)?;
    archive.file("rootfs/bin/busybox", 0o755, &program)?;
    for applet in APPLETS {
        archive.symlink(&format!("rootfs/bin/{applet}"), "busybox")?;
    }
    for applet in ["init", "udhcpc", "getty", "poweroff", "reboot"] {
        archive.symlink(&format!("rootfs/sbin/{applet}"), "../bin/busybox")?;
    }
    archive.file("rootfs/etc/inittab", 0o644, INITTAB.as_bytes())?;
    archive.file("rootfs/etc/init.d/rcS", 0o755, RCS.as_bytes())?;
    archive.file("rootfs/etc/udhcpc.script", 0o755, UDHCPC.as_bytes())?;
    archive.file(
        "rootfs/etc/passwd",
        0o644,
        b"root::0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    )?;
    archive.file("rootfs/etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n")?;
    archive.file("rootfs/etc/os-release", 0o644, b"NAME=Busybox\nID=busybox\nPRETTY_NAME=\"Busybox\"\n")
}

/// Unpacks the busybox root file system into a folder, for engines that run without Basalt (`make bench`).
///
/// # Errors
/// When it cannot be written.
pub fn busybox_root(folder: &Path) -> Result<()> {
    let packed = folder.with_extension("tar.gz");
    busybox(&packed)?;
    let file = File::open(&packed).context("open the image")?;
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
    archive.unpack(folder).context("unpack the image")?;
    std::fs::remove_file(&packed).context("remove the packed image")
}
