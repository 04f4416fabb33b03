//! Headings and tables.

use std::fmt::Write;

use crate::contender::LAYER;
use crate::ratios::Table;

pub fn head(text: &mut String, level: usize, title: &str, columns: &[&str]) {
    let aligned = ["---"].into_iter().chain(columns.iter().skip(1).map(|_| "---:"));
    let _ = write!(
        text,
        "\n{} {title}\n\n| {} |\n| {} |\n",
        "#".repeat(level),
        columns.join(" | "),
        aligned.collect::<Vec<_>>().join(" | ")
    );
}

pub fn row(text: &mut String, name: &str, cells: impl IntoIterator<Item = String>) {
    let name = if name == LAYER { format!("**{name}**") } else { name.to_owned() };
    let cells: Vec<String> = [name].into_iter().chain(cells).collect();
    let _ = writeln!(text, "| {} |", cells.join(" | "));
}

pub fn table(text: &mut String, table: &Table) {
    let columns = [""].into_iter().chain(table.columns.iter().map(String::as_str));
    let columns: Vec<&str> = columns.collect();
    let below = if table.note.is_empty() { String::new() } else { format!("\n\n{}", table.note) };
    head(text, 2, &(table.title.clone() + &below), &columns);
    for (name, cells) in &table.rows {
        let cell =
            |cell: &Option<_>| cell.map_or("–".to_owned(), |spread| table.unit.text(spread));
        row(text, name, cells.iter().map(cell));
    }
}
