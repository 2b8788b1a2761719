//! Words that do not belong into the tree: paths of one machine, names of writing tools, work left for later, and
//! type and file names that say nothing.

use crate::tree::SourceFile;

/// A line that has a word it should not have.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Misplaced {
    pub(crate) line: usize,
    pub(crate) word: String,
}

/// Spelt in two halves, as this file is checked too. Compared without regard to case.
const TOOLS: [&str; 8] = [
    concat!("cla", "ude"),
    concat!("anthr", "opic"),
    concat!("chat", "gpt"),
    concat!("open", "ai"),
    concat!("copi", "lot"),
    concat!("codex", " cli"),
    concat!("language", " model"),
    concat!("gem", "ini"),
];
/// Compared as they stand, only where no letter, digit, `$`, `}` or `.` comes before.
const PATHS: [&str; 3] = [concat!("/wo", "rk/"), concat!("/ro", "ot/."), concat!("/ho", "me/")];
/// Compared as they stand, as whole words.
const LATER: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
/// File names that tell nothing of what is in the file.
const EMPTY_NAMES: [&str; 6] = ["utils", "util", "helpers", "helper", "common", "misc"];

/// The misplaced words of a file, in order.
pub(crate) fn misplaced(file: &SourceFile) -> Vec<Misplaced> {
    let mut found = Vec::new();
    let stem = file.path.rsplit('/').next().and_then(|name| name.split('.').next()).unwrap_or_default();
    if EMPTY_NAMES.contains(&stem) {
        found.push(Misplaced { line: 0, word: format!("file name `{stem}`") });
    }
    if file.path == "Cargo.lock" {
        return found;
    }
    for (index, text) in file.text.lines().enumerate() {
        found.extend(words_of_line(text).map(|word| Misplaced { line: index + 1, word: word.to_owned() }));
    }
    found
}

fn words_of_line(text: &str) -> impl Iterator<Item = &'static str> {
    let lower = text.to_lowercase();
    let tools = TOOLS.into_iter().filter(|w| lower.contains(w)).collect::<Vec<_>>();
    let paths = PATHS.into_iter().filter(|w| starts_outside(text, w)).collect::<Vec<_>>();
    let later = LATER.into_iter().filter(|w| is_whole_word(text, w)).collect::<Vec<_>>();
    tools.into_iter().chain(paths).chain(later)
}

fn starts_outside(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        !before.is_some_and(|c| {
            c.is_alphanumeric() || matches!(c, '$' | '}' | '.' | '_' | '-' | ']' | '"' | '*')
        })
    })
}

fn is_whole_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let joins = |c: char| c.is_alphanumeric() || c == '_';
        !text[..at].chars().next_back().is_some_and(joins)
            && !text[at + word.len()..].chars().next().is_some_and(joins)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(path: &str, text: &str) -> Vec<Misplaced> {
        misplaced(&SourceFile { path: path.to_owned(), text: text.to_owned() })
    }

    #[test]
    fn a_path_of_one_machine_is_found_and_a_folder_of_a_variable_is_not() {
        let absolute = format!("cd {}main", PATHS[0]);
        assert_eq!(words("a.sh", &absolute), [Misplaced { line: 1, word: PATHS[0].to_owned() }]);
        let below = format!("cp ${{x}}{0}y $x{0}z", PATHS[0]);
        assert_eq!(words("a.sh", &below), []);
    }

    #[test]
    fn tools_are_found_in_any_case() {
        let text = format!("first\nby {}", TOOLS[0].to_uppercase());
        assert_eq!(words("a.md", &text), [Misplaced { line: 2, word: TOOLS[0].to_owned() }]);
    }

    #[test]
    fn work_left_for_later_is_found_as_a_word_only() {
        assert_eq!(words("a.rs", &format!("// {}: more", LATER[0])).len(), 1);
        assert_eq!(words("a.rs", &format!("// {}S", LATER[0])), []);
    }

    #[test]
    fn a_file_name_says_what_is_in_it() {
        assert_eq!(words("crates/a/src/utils.rs", "").len(), 1);
        assert_eq!(words("crates/a/src/sense.rs", ""), []);
    }
}
