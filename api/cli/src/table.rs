//! Tables for people: columns as wide as their widest cell, counted in terminal cells rather than bytes.

/// Headings and rows of text. A cell may have several lines.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    headings: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<H: Into<String>>(headings: impl IntoIterator<Item = H>) -> Self {
        Self { headings: headings.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    pub(crate) fn row<C: Into<String>>(&mut self, cells: impl IntoIterator<Item = C>) {
        let mut row: Vec<String> = cells.into_iter().map(Into::into).collect();
        row.resize(self.headings.len(), String::new());
        self.rows.push(row);
    }

    /// With lines around everything.
    pub(crate) fn boxed(&self) -> String {
        let widths = self.widths(true);
        let rule: String = widths.iter().map(|width| format!("+{}", "-".repeat(width + 2))).collect::<String>() + "+\n";
        let mut text = rule.clone();
        text.push_str(&boxed_row(&self.headings, &widths));
        text.push_str(&rule);
        for row in &self.rows {
            text.push_str(&boxed_row(row, &widths));
            text.push_str(&rule);
        }
        text
    }

    /// Columns parted by blanks, nothing else.
    pub(crate) fn compact(&self) -> String {
        let widths = self.widths(true);
        let mut text = compact_row(&self.headings, &widths);
        for row in &self.rows {
            text.push_str(&compact_row(row, &widths));
        }
        text
    }

    /// Comma-separated values, without headings.
    pub(crate) fn csv(&self) -> String {
        let line = |row: &Vec<String>| row.iter().map(|cell| csv_cell(cell)).collect::<Vec<_>>().join(",") + "\n";
        self.rows.iter().map(line).collect()
    }

    fn widths(&self, headings: bool) -> Vec<usize> {
        let mut widths = vec![0; self.headings.len()];
        let heads = headings.then_some(&self.headings);
        for row in heads.into_iter().chain(&self.rows) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.lines().map(text_width).max().unwrap_or(0));
            }
        }
        widths
    }
}

fn boxed_row(row: &[String], widths: &[usize]) -> String {
    let height = row.iter().map(|cell| cell.lines().count()).max().unwrap_or(1).max(1);
    let mut text = String::new();
    for at in 0..height {
        for (cell, width) in row.iter().zip(widths) {
            let line = cell.lines().nth(at).unwrap_or("");
            text.push_str(&format!("| {line}{} ", " ".repeat(width - text_width(line))));
        }
        text.push_str("|\n");
    }
    text
}

fn compact_row(row: &[String], widths: &[usize]) -> String {
    let mut text = String::new();
    for (cell, width) in row.iter().zip(widths) {
        let line = cell.lines().collect::<Vec<_>>().join(" ");
        let blanks = width.saturating_sub(text_width(&line)) + 2;
        text.push_str(&format!("{line}{}", " ".repeat(blanks)));
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

fn csv_cell(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.to_owned() }
}

fn text_width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

/// Cells that a character takes: good enough for names that people give to machines.
fn char_width(c: char) -> usize {
    match u32::from(c) {
        0..=0x1f | 0x7f..=0x9f | 0x300..=0x36f | 0x200b..=0x200f | 0xfe00..=0xfe0f => 0,
        0x1100..=0x115f
        | 0x2e80..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1f64f
        | 0x1f680..=0x1f6ff
        | 0x1f900..=0x1f9ff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(["NAME", "IPV4"]);
        table.row(["web", "10.0.0.2 (eth0)\n10.1.0.2 (eth1)"]);
        table.row(["数据", ""]);
        table
    }

    #[test]
    fn boxes_fit_wide_characters_and_many_lines() {
        let expected = "\
+------+-----------------+
| NAME | IPV4            |
+------+-----------------+
| web  | 10.0.0.2 (eth0) |
|      | 10.1.0.2 (eth1) |
+------+-----------------+
| 数据 |                 |
+------+-----------------+
";
        assert_eq!(table().boxed(), expected);
    }

    #[test]
    fn csv_quotes_what_would_break_it() {
        assert_eq!(table().csv(), "web,\"10.0.0.2 (eth0)\n10.1.0.2 (eth1)\"\n数据,\n");
        let mut quotes = Table::new(["A"]);
        quotes.row(["say \"hi\", twice"]);
        assert_eq!(quotes.csv(), "\"say \"\"hi\"\", twice\"\n");
    }

    #[test]
    fn compact_has_no_trailing_blanks() {
        assert!(table().compact().lines().all(|line| line == line.trim_end()));
    }
}
