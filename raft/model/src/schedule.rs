//! Schedules: `snapshots.schedule`, in cron's five fields (`minute hour day month weekday`, in UTC) or by alias.

use std::collections::BTreeSet;

/// The aliases, as cron has them.
const ALIASES: &[(&str, &str)] = &[
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@annually", "0 0 1 1 *"),
    ("@yearly", "0 0 1 1 *"),
];

/// A minute of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Minute {
    pub minute: u8,
    pub hour: u8,
    /// 1 to 31.
    pub day: u8,
    /// 1 to 12.
    pub month: u8,
    /// 0 is Sunday.
    pub weekday: u8,
}

/// When something is to happen: at every minute that one of its parts names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule(Vec<Fields>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Fields {
    minutes: BTreeSet<u8>,
    hours: BTreeSet<u8>,
    days: BTreeSet<u8>,
    months: BTreeSet<u8>,
    weekdays: BTreeSet<u8>,
    /// Both the day of the month and that of the week are given: then either will do.
    either: bool,
}

impl Schedule {
    /// Reads five fields of cron, or aliases with commas between.
    ///
    /// # Errors
    /// Says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Schedule, String> {
        if !text.contains('@') {
            return Ok(Schedule(vec![fields(text)?]));
        }
        let part = |word: &str| match ALIASES.iter().find(|(alias, _)| *alias == word.trim()) {
            Some((_, cron)) => fields(cron),
            None => {
                let known: Vec<&str> = ALIASES.iter().map(|(alias, _)| *alias).collect();
                Err(format!("{word:?} is not one of {}", known.join(", ")))
            }
        };
        text.split(',').map(part).collect::<Result<_, _>>().map(Schedule)
    }

    /// Whether it is time.
    pub fn names(&self, at: Minute) -> bool {
        self.0.iter().any(|fields| fields.name(at))
    }
}

impl Fields {
    fn name(&self, at: Minute) -> bool {
        let (day, weekday) = (self.days.contains(&at.day), self.weekdays.contains(&at.weekday));
        let date = if self.either { day || weekday } else { day && weekday };
        date && self.minutes.contains(&at.minute) && self.hours.contains(&at.hour) && self.months.contains(&at.month)
    }
}

fn fields(text: &str) -> Result<Fields, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [minute, hour, day, month, weekday] = words[..] else {
        return Err(format!(
            "{text:?} is not a schedule such as \"0 3 * * *\" (minute hour day month weekday) or @daily"
        ));
    };
    // Sunday is 0 and 7.
    let weekdays = field(weekday, 0, 7)?.into_iter().map(|day| day % 7).collect();
    Ok(Fields {
        minutes: field(minute, 0, 59)?,
        hours: field(hour, 0, 23)?,
        days: field(day, 1, 31)?,
        months: field(month, 1, 12)?,
        weekdays,
        either: !day.starts_with('*') && !weekday.starts_with('*'),
    })
}

/// `*`, `7`, `1-5`, each with `/2` or without, and lists of them.
fn field(text: &str, first: u8, last: u8) -> Result<BTreeSet<u8>, String> {
    let bad = || format!("{text:?} is not a list of numbers or ranges between {first} and {last}, nor *");
    let mut all = BTreeSet::new();
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, step.parse::<u8>().ok().filter(|step| *step > 0).ok_or_else(bad)?),
            None => (part, 1),
        };
        let number = |text: &str| text.parse::<u8>().ok().filter(|n| (first..=last).contains(n)).ok_or_else(bad);
        let (from, to) = match (range, range.split_once('-')) {
            ("*", _) => (first, last),
            (_, Some((from, to))) => (number(from)?, number(to)?),
            (one, None) if part.contains('/') => (number(one)?, last),
            (one, None) => (number(one)?, number(one)?),
        };
        if from > to {
            return Err(bad());
        }
        all.extend((from..=to).step_by(usize::from(step)));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: u8, hour: u8, day: u8, month: u8, weekday: u8) -> Minute {
        Minute { minute, hour, day, month, weekday }
    }

    #[test]
    fn as_cron_has_it() {
        for (text, yes, no) in [
            ("0 3 * * *", at(0, 3, 9, 9, 2), at(0, 4, 9, 9, 2)),
            ("*/15 * * * *", at(45, 7, 1, 1, 1), at(46, 7, 1, 1, 1)),
            ("5,10-12 0-6/2 * * 1-5", at(11, 4, 9, 9, 5), at(11, 5, 9, 9, 5)),
            ("0 0 13 * 5", at(0, 0, 13, 2, 1), at(0, 0, 12, 2, 1)),
            ("0 0 13 * 5", at(0, 0, 1, 2, 5), at(0, 0, 1, 2, 4)),
            ("0 0 * * 7", at(0, 0, 1, 1, 0), at(0, 0, 1, 1, 6)),
            ("10/20 * * * *", at(50, 0, 1, 1, 0), at(0, 0, 1, 1, 0)),
            ("@hourly", at(0, 9, 9, 9, 2), at(1, 9, 9, 9, 2)),
            ("@monthly, @weekly", at(0, 0, 4, 1, 0), at(0, 0, 4, 1, 3)),
            ("@yearly", at(0, 0, 1, 1, 3), at(0, 0, 1, 2, 3)),
        ] {
            let schedule = Schedule::parse(text).unwrap();
            assert!(schedule.names(yes) && !schedule.names(no), "{text}");
        }
    }

    #[test]
    fn what_is_no_schedule() {
        for bad in
            ["", "* * * *", "60 * * * *", "* * 0 * *", "5-3 * * * *", "*/0 * * * *", "@often", "a * * * *", "@daily x"]
        {
            assert!(Schedule::parse(bad).is_err(), "{bad}");
        }
    }
}
