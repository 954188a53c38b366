//! What a group read from and wrote to block devices, as the files of both versions say it.

use std::collections::BTreeMap;

use basalt_driver::DiskUse;

/// By `MAJOR:MINOR`.
pub(super) type ByNumber = BTreeMap<String, DiskUse>;

/// Version 2, `io.stat`: `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0`. A line may have a number alone.
pub(super) fn of_stat(text: &str) -> ByNumber {
    let mut found = ByNumber::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some(number) = words.next() else { continue };
        let mut used = DiskUse::default();
        let mut any = false;
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let field = match key {
                "rbytes" => &mut used.read_bytes,
                "wbytes" => &mut used.written_bytes,
                "rios" => &mut used.reads,
                "wios" => &mut used.writes,
                _ => continue,
            };
            if let Ok(value) = value.parse() {
                *field = value;
                any = true;
            }
        }
        if any {
            found.insert(number.to_owned(), used);
        }
    }
    found
}

/// Version 1, bytes and requests: `8:0 Read 1`, `8:0 Write 2` and more, and a `Total` over all devices.
pub(super) fn of_throttle(bytes: &str, requests: &str) -> ByNumber {
    let mut found = ByNumber::new();
    for (text, in_bytes) in [(bytes, true), (requests, false)] {
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let (Some(number), Some(word), Some(Ok(value))) =
                (words.next(), words.next(), words.next().map(str::parse))
            else {
                continue;
            };
            if !matches!(word, "Read" | "Write") {
                continue;
            }
            let used = found.entry(number.to_owned()).or_default();
            let field = match (word == "Read", in_bytes) {
                (true, true) => &mut used.read_bytes,
                (true, false) => &mut used.reads,
                (false, true) => &mut used.written_bytes,
                (false, false) => &mut used.writes,
            };
            *field = value;
        }
    }
    found
}

/// What the host calls the device with a number; the number itself if it is gone.
pub(super) fn name(number: &str) -> String {
    let link = std::fs::read_link(format!("/sys/dev/block/{number}"));
    let name = link.ok().and_then(|to| Some(to.file_name()?.to_string_lossy().into_owned()));
    name.unwrap_or_else(|| number.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const USED: DiskUse = DiskUse { read_bytes: 4096, reads: 1, written_bytes: 12288, writes: 3 };

    #[test]
    fn both_versions_say_the_same() {
        let stat = "8:0 rbytes=4096 wbytes=12288 rios=1 wios=3 dbytes=0 dios=0\n7:1 \n";
        assert_eq!(of_stat(stat), [("8:0".to_owned(), USED)].into());
        let bytes = "8:0 Read 4096\n8:0 Write 12288\n8:0 Sync 16384\n8:0 Total 16384\nTotal 16384\n";
        let requests = "8:0 Read 1\n8:0 Write 3\n8:0 Async 0\n8:0 Total 4\nTotal 4\n";
        assert_eq!(of_throttle(bytes, requests), [("8:0".to_owned(), USED)].into());
    }

    #[test]
    fn nothing_counted_is_no_device() {
        assert!(of_throttle("Total 0\n", "Total 0\n").is_empty());
        assert!(of_stat("").is_empty() && of_throttle("", "").is_empty());
        assert_eq!(name("4000:1"), "4000:1");
    }
}
