//! Limits as users write them: sizes, CPU counts and sets, CPU allowances, memory.
//!
//! Source: the configuration reference of LXD 5.0 and Incus 6.0 (`limits.*`). Sizes take decimal suffixes (kB, MB, GB,
//! TB, PB, EB) and binary ones (KiB, MiB, GiB, TiB, PiB, EiB); no suffix means bytes.

/// A size in bytes.
///
/// # Errors
/// Says what is wrong with the text.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| format!("{text:?} is not a size: it needs a whole number"))?;
    let factor: u64 = match suffix {
        "" | "B" => 1,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "PB" => 1_000_000_000_000_000,
        "EB" => 1_000_000_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "PiB" => 1 << 50,
        "EiB" => 1 << 60,
        other => return Err(format!("{other:?} is not a size suffix: use kB, MB, GB, KiB, MiB, GiB, ...")),
    };
    number.checked_mul(factor).ok_or_else(|| format!("{text:?} is larger than 16 EiB"))
}

/// A rate in bits a second, from 1 kbit to 100 Gbit: what one interface can be held to.
///
/// # Errors
/// Says what is wrong with the text.
pub fn parse_rate(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| format!("{text:?} is not a rate such as 100Mbit"))?;
    let factor: u64 = match suffix {
        "" | "bit" => 1,
        "kbit" => 1_000,
        "Mbit" => 1_000_000,
        "Gbit" => 1_000_000_000,
        "Kibit" => 1 << 10,
        "Mibit" => 1 << 20,
        "Gibit" => 1 << 30,
        other => return Err(format!("{other:?} is not a suffix of rates: use kbit, Mbit, Gbit, Kibit, Mibit, Gibit")),
    };
    match number.checked_mul(factor) {
        Some(rate @ 1_000..=100_000_000_000) => Ok(rate),
        Some(_) | None => Err(format!("{text:?} is not between 1kbit and 100Gbit")),
    }
}

/// `limits.cpu`: how many, or which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cpu {
    Count(u32),
    /// Sorted host CPU numbers.
    Set(Vec<u32>),
}

/// Reads `limits.cpu`: `2`, `0-3`, `0,2,4-5`. A single number is a count; pin one CPU with `3-3`.
///
/// # Errors
/// Says what is wrong with the text.
pub fn parse_cpu(text: &str) -> Result<Cpu, String> {
    let bad = || format!("{text:?} is neither a count nor a set of CPUs such as 0-3 or 0,2");
    if let Ok(count) = text.parse::<u32>() {
        return match count {
            0 => Err("must be at least 1".into()),
            _ => Ok(Cpu::Count(count)),
        };
    }
    let mut set = std::collections::BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().map_err(|_| bad())?, last.parse().map_err(|_| bad())?);
        if first > last || last > 4095 {
            return Err(bad());
        }
        set.extend(first..=last);
    }
    Ok(Cpu::Set(set.into_iter().collect()))
}

/// `limits.cpu.allowance`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowance {
    /// A soft share: this much of the CPU under contention, in percent.
    Percent(u32),
    /// A hard quota: run at most the first out of each of the second, in microseconds.
    Quota(u64, u64),
}

/// Reads `limits.cpu.allowance`: `50%` or `25ms/100ms`.
///
/// # Errors
/// Says what is wrong with the text.
pub fn parse_allowance(text: &str) -> Result<Allowance, String> {
    let bad = || format!("{text:?} is neither a share such as 50% nor a quota such as 25ms/100ms");
    if let Some(percent) = text.strip_suffix('%') {
        return match percent.parse() {
            Ok(percent @ 1..=100) => Ok(Allowance::Percent(percent)),
            Ok(_) | Err(_) => Err(bad()),
        };
    }
    let (run, each) = text.split_once('/').ok_or_else(bad)?;
    let ms = |t: &str| t.strip_suffix("ms").and_then(|n| n.parse::<u64>().ok()).ok_or_else(bad);
    let (run, each) = (ms(run)?, ms(each)?);
    // The kernel takes periods from 1 ms to 1 s, and quotas of at least 1 ms.
    match run >= 1 && (1..=1000).contains(&each) && run <= each * 4096 {
        true => Ok(Allowance::Quota(run * 1000, each * 1000)),
        false => Err(bad()),
    }
}

/// `limits.memory`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    Bytes(u64),
    /// Of the host's memory.
    Percent(u32),
}

impl Memory {
    /// In bytes on a host that has `host` bytes.
    pub fn on_host(self, host: u64) -> u64 {
        match self {
            Memory::Bytes(bytes) => bytes,
            Memory::Percent(percent) => host / 100 * u64::from(percent),
        }
    }
}

/// Reads `limits.memory`: `512MiB` or `50%`.
///
/// # Errors
/// Says what is wrong with the text.
pub fn parse_memory(text: &str) -> Result<Memory, String> {
    if let Some(percent) = text.strip_suffix('%') {
        return match percent.parse() {
            Ok(percent @ 1..=100) => Ok(Memory::Percent(percent)),
            Ok(_) | Err(_) => Err(format!("{text:?} is not a share between 1% and 100%")),
        };
    }
    match parse_bytes(text)? {
        bytes if bytes < 1 << 20 => Err(format!("{text:?} is less than 1MiB")),
        bytes => Ok(Memory::Bytes(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(parse_bytes("10"), Ok(10));
        assert_eq!(parse_bytes("1kB"), Ok(1000));
        assert_eq!(parse_bytes("3GiB"), Ok(3 << 30));
        for bad in ["", "GiB", "1.5GiB", "-1", "1gib", "99999999999EiB", "1 GiB"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rates() {
        assert_eq!(parse_rate("100Mbit"), Ok(100_000_000));
        assert_eq!(parse_rate("8192"), Ok(8192));
        assert_eq!(parse_rate("1Gibit"), Ok(1 << 30));
        for bad in ["", "Mbit", "1.5Mbit", "10MB", "10mbit", "0", "999", "101Gbit", "99999999999Gbit", "1 Mbit"] {
            assert!(parse_rate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn cpus() {
        assert_eq!(parse_cpu("2"), Ok(Cpu::Count(2)));
        assert_eq!(parse_cpu("3-3"), Ok(Cpu::Set(vec![3])));
        assert_eq!(parse_cpu("0,2-3"), Ok(Cpu::Set(vec![0, 2, 3])));
        for bad in ["0", "", "3-1", "a", "0-99999", "1,,2"] {
            assert!(parse_cpu(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn allowances_and_memory() {
        assert_eq!(parse_allowance("50%"), Ok(Allowance::Percent(50)));
        assert_eq!(parse_allowance("25ms/100ms"), Ok(Allowance::Quota(25_000, 100_000)));
        for bad in ["0%", "101%", "25/100", "0ms/100ms", "1ms/2000ms"] {
            assert!(parse_allowance(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_memory("50%").map(|m| m.on_host(1000)), Ok(500));
        assert!(parse_memory("1kB").is_err());
    }
}
