//! The option table for people: the reference page and the text of `--help`.

use std::fmt::Write as _;

use super::{OptionDoc, options};

const INTRODUCTION: &str = include_str!("reference.md");

/// The page `docs/configuration.md`.
pub fn reference_page() -> String {
    let mut page = INTRODUCTION.to_owned();
    let mut group = None;
    for option in options() {
        let this = option.path.split_once('.').map_or("", |(group, _)| group);
        if group != Some(this) {
            group = Some(this);
            let title = if this.is_empty() { "Top level".to_owned() } else { format!("`{this}`") };
            let _ = write!(
                page,
                "\n### {title}\n\n| Option | Variable | Default | Meaning |\n|---|---|---|---|\n"
            );
        }
        let default = if option.default.is_empty() { String::new() } else { format!("`{}`", option.default) };
        let _ = writeln!(
            page,
            "| `{}` ({}) | `{}` | {default} | {} |",
            option.path,
            option.kind,
            option.env(),
            option.help.trim()
        );
    }
    page
}

/// The options as `--help` lists them.
pub fn help_text() -> String {
    let mut text = String::from("Options of the config file, each with the variable that overrides it:\n");
    for option in options() {
        let OptionDoc { path, kind, default, help } = option;
        let default = if default.is_empty() { String::new() } else { format!(", default {default}") };
        let _ = write!(
            text,
            "\n  {path}  {}  ({kind}{default})\n      {}\n",
            option.env(),
            help.trim().replace('`', "")
        );
    }
    text
}
