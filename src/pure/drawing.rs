//! A tree as lines: branches by box-drawing characters, and what is said of each node beside it.
//!
//! Must never know what is drawn.

use unicode_width::UnicodeWidthStr;

/// One node, with all below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its state, in one word.
    pub state: String,
    /// What else there is to say.
    pub note: String,
    /// What is below it.
    pub below: Vec<Node>,
}

/// One line: what stands before the state, the state, and what stands behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Branches and name, as wide as the widest.
    pub name: String,
    /// The state.
    pub state: String,
    /// As wide as the widest state.
    pub gap: String,
    /// What else there is to say.
    pub note: String,
}

/// The lines of a tree, its root first.
#[must_use]
pub fn lines(root: &Node) -> Vec<Line> {
    let mut lines = Vec::new();
    // What is still to be drawn, the next one last: with what stands before it, and before what is below it.
    let mut todo = vec![(root, String::new(), String::new())];
    while let Some((node, before, indent)) = todo.pop() {
        lines.push(Line {
            name: format!("{before}{}", node.name),
            state: node.state.clone(),
            gap: String::new(),
            note: node.note.clone(),
        });
        for (index, below) in node.below.iter().enumerate().rev() {
            let (branch, rest) =
                if index + 1 == node.below.len() { ("└── ", "    ") } else { ("├── ", "│   ") };
            todo.push((below, format!("{indent}{branch}"), format!("{indent}{rest}")));
        }
    }
    let names = lines.iter().map(|line| line.name.width()).max().unwrap_or_default();
    let states = lines.iter().map(|line| line.state.width()).max().unwrap_or_default();
    for line in &mut lines {
        let wide = names - line.name.width();
        line.name.push_str(&" ".repeat(wide + GAP));
        let wide = states - line.state.width();
        line.gap = if line.note.is_empty() { String::new() } else { " ".repeat(wide + GAP) };
    }
    lines
}

/// What stands between two columns.
const GAP: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_and_columns() {
        let node = |name: &str, state: &str, note: &str, below| Node {
            name: name.to_owned(),
            state: state.to_owned(),
            note: note.to_owned(),
            below,
        };
        let shop =
            vec![node("db", "up", "", vec![node("log", "up", "", vec![])]), node("web", "ready", "needs db", vec![])];
        let all = node(".", "", "", vec![node("shop", "up", "of 2", shop), node("mail", "down", "", vec![])]);
        let text: Vec<String> = lines(&all)
            .iter()
            .map(|line| format!("{}{}{}{}", line.name, line.state, line.gap, line.note).trim_end().to_owned())
            .collect();
        assert_eq!(
            text,
            [
                ".",
                "├── shop         up     of 2",
                "│   ├── db       up",
                "│   │   └── log  up",
                "│   └── web      ready  needs db",
                "└── mail         down",
            ]
        );
    }
}
