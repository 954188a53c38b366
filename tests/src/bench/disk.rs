//! The floor: what one synced write costs on the disk that both sides use, and how busy the machine is.

use std::io::Write as _;
use std::time::Instant;

use anyhow::{Context, Result};

use super::{Report, Sample};

/// # Errors
/// When the disk cannot be written.
pub fn measure(report: &mut Report, when: &str) -> Result<()> {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let folder = tempfile::tempdir_in("/var/lib").context("a folder in /var/lib")?;
    let mut file = std::fs::File::create(folder.path().join("f")).context("a file to sync")?;
    let mut sample = Sample::default();
    for _ in 0..300 {
        let begun = Instant::now();
        file.write_all(&[0x5a; 512]).context("append")?;
        file.sync_data().context("sync")?;
        sample.push_time(begun.elapsed());
    }
    println!(
        "{when}: load {}; append + fdatasync p50 {:.2} ms, p99 {:.2} ms",
        load.trim(),
        sample.median(),
        sample.quantile(0.99)
    );
    report.note(&format!("fdatasync {when}"), &sample, "ms");
    Ok(())
}
