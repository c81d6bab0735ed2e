//! The look of the status table: widths, colours, and what gives way on a narrow terminal.
//!
//! Must never know what the words mean.

use std::fmt::Write;

use anstyle::Style;
use unicode_width::UnicodeWidthStr;

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// The module.
    pub name: String,
    /// Its state, in one word.
    pub state: &'static str,
    /// The colour of that word.
    pub style: Style,
    /// The pid of what runs.
    pub pid: Option<String>,
    /// How long that has run.
    pub uptime: Option<String>,
    /// How often it was started again.
    pub restarts: String,
    /// What else one needs to know.
    pub note: String,
}

/// The whole table; in `columns`, where there are that many and no more.
#[must_use]
pub fn render(rows: &[Row], columns: Option<usize>, coloured: bool) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let layout = Layout::new(rows, columns);
    let paint = Paint { coloured };
    let mut text = String::new();
    let header = Row {
        name: "NAME".to_owned(),
        state: "STATE",
        style: HEADER,
        pid: Some("PID".to_owned()),
        uptime: Some("UPTIME".to_owned()),
        restarts: "RESTARTS".to_owned(),
        note: String::new(),
    };
    layout.line(&mut text, &header, HEADER, paint);
    for row in rows {
        layout.line(&mut text, row, Style::new(), paint);
    }
    text
}

const HEADER: Style = Style::new().bold();

/// What stands between two columns.
const GAP: usize = 2;

/// One name longer than this does not move the other columns away; it only moves its own.
const WIDEST_NAME: usize = 48;

/// A name is never shorter than this for the sake of what stands beside it.
const SHORTEST_NAME: usize = 16;

/// Less than this is no place for a note or a longer name.
const SHORTEST_HALF: usize = 24;

/// Where a note begins that has a line of its own.
const INDENT: usize = 4;

/// The width of each column; zero for one that is left out.
struct Layout {
    name: usize,
    state: usize,
    pid: usize,
    uptime: usize,
    restarts: usize,
    /// The width of the terminal, if there is one.
    columns: Option<usize>,
}

#[derive(Clone, Copy)]
struct Paint {
    coloured: bool,
}

impl Paint {
    fn put(self, text: &mut String, style: Style, words: &str) {
        // Writing to a String cannot fail.
        let _ = if self.coloured { write!(text, "{style}{words}{style:#}") } else { write!(text, "{words}") };
    }
}

impl Layout {
    fn new(rows: &[Row], columns: Option<usize>) -> Layout {
        let widest =
            |title: &str, cell: &dyn Fn(&Row) -> usize| rows.iter().map(cell).max().unwrap_or(0).max(width(title));
        let of = |cell: &Option<String>| cell.as_deref().map_or(1, width);
        let mut layout = Layout {
            name: widest("NAME", &|row| width(&row.name)).min(WIDEST_NAME),
            state: widest("STATE", &|row| width(row.state)),
            pid: widest("PID", &|row| of(&row.pid)),
            uptime: widest("UPTIME", &|row| of(&row.uptime)),
            restarts: widest("RESTARTS", &|row| width(&row.restarts)),
            columns,
        };
        let Some(columns) = columns else { return layout };
        let shortest = layout.name.min(SHORTEST_NAME);
        // What matters least gives way first, the longest names before anything.
        let give_way: [fn(&mut Layout); 3] =
            [|layout| layout.restarts = 0, |layout| layout.uptime = 0, |layout| layout.pid = 0];
        for leave_out in give_way {
            if shortest + layout.fixed() > columns {
                leave_out(&mut layout);
            }
        }
        let room = columns.saturating_sub(layout.fixed()).max(1);
        let note = rows.iter().map(|row| width(&row.note)).max().unwrap_or(0) + GAP;
        // Names and notes share what is left, unless a half of it is too little for either.
        let half = room / 2;
        let share = if half < SHORTEST_HALF { room } else { half.max(room.saturating_sub(note)) };
        layout.name = layout.name.min(share);
        layout
    }

    /// All columns but the name, with their gaps.
    fn fixed(&self) -> usize {
        let shown = [self.state, self.pid, self.uptime, self.restarts].into_iter().filter(|width| *width > 0);
        shown.map(|width| width + GAP).sum()
    }

    fn line(&self, text: &mut String, row: &Row, plain: Style, paint: Paint) {
        let whole = self.columns.is_none();
        let name = if whole { row.name.clone() } else { shortened(&row.name, self.name) };
        paint.put(text, plain, &name);
        text.extend(std::iter::repeat_n(' ', self.name.saturating_sub(width(&name)) + GAP));
        paint.put(text, row.style, row.state);
        text.extend(std::iter::repeat_n(' ', self.state - width(row.state)));
        let numbers = [
            (self.pid, row.pid.as_deref()),
            (self.uptime, row.uptime.as_deref()),
            (self.restarts, Some(row.restarts.as_str())),
        ];
        for (column, words) in numbers.into_iter().filter(|(column, _)| *column > 0) {
            let words = words.unwrap_or("-");
            text.extend(std::iter::repeat_n(' ', GAP + column - width(words)));
            paint.put(text, plain, words);
        }
        self.note(text, row, paint);
        text.push('\n');
    }

    /// The note at the end of its line if it fits there, else below.
    fn note(&self, text: &mut String, row: &Row, paint: Paint) {
        if row.note.is_empty() {
            return;
        }
        let style = Style::new().dimmed();
        let used = self.name + self.fixed() + GAP;
        let Some(columns) = self.columns.filter(|columns| used + width(&row.note) > *columns) else {
            text.extend(std::iter::repeat_n(' ', GAP));
            paint.put(text, style, &row.note);
            return;
        };
        for line in wrapped(&row.note, columns.saturating_sub(INDENT).max(1)) {
            text.push('\n');
            text.extend(std::iter::repeat_n(' ', INDENT));
            paint.put(text, style, &line);
        }
    }
}

/// How many columns of a terminal a text takes.
fn width(text: &str) -> usize {
    UnicodeWidthStr::width(text)
}

/// The longest beginning of a text that takes no more than so many columns.
fn beginning(text: &str, columns: usize) -> &str {
    let ends = text.char_indices().map(|(at, char)| at + char.len_utf8());
    let end = ends.take_while(|end| width(&text[..*end]) <= columns).last().unwrap_or(0);
    &text[..end]
}

/// The beginning of a text that is too long, with a `…` for the rest.
fn shortened(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    format!("{}…", beginning(text, columns.saturating_sub(1)))
}

/// A text in lines of at most so many columns, broken at blanks; a longer word is broken anywhere.
fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let mut rest = word;
        loop {
            let line = lines.last().map_or(0, |line| width(line));
            let blank = usize::from(lines.last().is_some_and(|line| !line.is_empty()));
            if line + blank + width(rest) <= columns {
                break;
            }
            if blank > 0 {
                lines.push(String::new());
                continue;
            }
            // At least one character, even where a line has no room for it, or there would be no end.
            let first = rest.chars().next().map_or(0, char::len_utf8);
            let cut = beginning(rest, columns).len().max(first);
            lines.push(rest[..cut].to_owned());
            rest = &rest[cut..];
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(rest);
        }
    }
    lines.retain(|line| !line.is_empty());
    lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(name: &str, note: &str) -> Row {
        Row {
            name: name.to_owned(),
            state: "waiting",
            style: Style::new(),
            pid: None,
            uptime: Some("3d 4h".to_owned()),
            restarts: "17".to_owned(),
            note: note.to_owned(),
        }
    }

    #[test]
    fn whole_when_piped() {
        let long = "x".repeat(240);
        let text = render(&[row("web", "exited 1"), row(&long, "")], None, false);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[0].starts_with("NAME ") && lines[0].ends_with("STATE    PID  UPTIME  RESTARTS"));
        assert!(lines[1].ends_with("waiting    -   3d 4h        17  exited 1"));
        assert!(lines[2].starts_with(&long));
        assert!(!text.contains('\x1b'));
    }

    #[test]
    fn a_note_that_does_not_fit_stands_below() {
        let text = render(&[row("web", "exited 1, next start in 4s")], Some(50), false);
        assert_eq!(text.lines().nth(2), Some("    exited 1, next start in 4s"));
    }

    #[test]
    fn colours_only_where_wanted() {
        assert!(render(&[row("web", "")], None, true).contains('\x1b'));
    }

    #[test]
    fn wide_characters_take_two_columns() {
        assert_eq!(shortened("数据库", 6), "数据库");
        assert_eq!(shortened("数据库", 5), "数据…");
        assert_eq!(wrapped("数据库", 5), ["数据", "库"]);
        assert_eq!(wrapped("数据", 1), ["数", "据"]);
        let text = render(&[row("数据库", ""), row("web", "")], None, false);
        let widths: Vec<_> = text.lines().map(width).collect();
        assert_eq!(widths, [widths[0]; 3]);
    }

    proptest! {
        #[test]
        fn never_wider_than_the_terminal(name in ".{1,80}", note in ".{0,120}", columns in 20_usize..120) {
            let clean = |text: String| text.replace(char::is_control, "?");
            let text = render(&[row(&clean(name), &clean(note))], Some(columns), false);
            for line in text.lines() {
                prop_assert!(width(line) <= columns, "{columns}: {line:?}");
            }
        }
    }
}
