//! Plain tables: columns as wide as their widest cell, so that they can be read and compared.
//!
//! No colours and no lines: a changed cell is a changed line in a diff, unless it was the widest.

use std::fmt::{self, Write as _};

/// Writes a table below a heading, or nothing if it has no rows. The last column ends where its
/// text ends.
pub(crate) fn table<const N: usize>(
    out: &mut String,
    heading: &str,
    head: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> fmt::Result {
    let mut lines = vec![head.map(str::to_owned)];
    lines.extend(rows);
    if lines.len() == 1 {
        return Ok(());
    }
    writeln!(out, "  {heading}")?;
    write_lines(out, &lines)
}

/// The same without a head: names and what they are.
pub(super) fn list(
    out: &mut String,
    heading: &str,
    rows: impl IntoIterator<Item = [String; 2]>,
) -> fmt::Result {
    let lines: Vec<_> = rows.into_iter().collect();
    writeln!(out, "  {heading}")?;
    write_lines(out, &lines)
}

fn write_lines<const N: usize>(out: &mut String, lines: &[[String; N]]) -> fmt::Result {
    for line in lines {
        out.push_str("   ");
        for (column, cell) in line.iter().enumerate() {
            if column + 1 == N {
                write!(out, " {cell}")?;
            } else {
                let widths = lines.iter().map(|line| line[column].chars().count());
                let width = widths.max().unwrap_or(0);
                write!(out, " {cell:width$} ")?;
            }
        }
        // An empty last cell leaves no blanks behind.
        out.truncate(out.trim_end_matches(' ').len());
        out.push('\n');
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_aligns_its_columns() {
        let mut out = String::new();
        let rows = [["a", "bbbb", "c"], ["é", "b", ""]].map(|row| row.map(str::to_owned));
        table(&mut out, "all", ["one", "two", "three"], rows).expect("a string takes all");
        assert_eq!(out, "  all\n    one  two   three\n    a    bbbb  c\n    é    b\n");
    }

    #[test]
    fn a_table_without_rows_is_not_there() {
        let mut out = String::new();
        table(&mut out, "none", ["one"], []).expect("a string takes all");
        assert_eq!(out, "");
    }
}
