//! What the parts of the page are made of: a part, a fact, text of fixed width, a table.

use maud::{Markup, Render, html};

/// Rows of a table that are shown; JSON has all.
const ROWS: usize = 200;

/// A part of the page with its heading.
pub(super) fn part(name: &str, title: &str, content: impl Render) -> Markup {
    let heading = format!("{name}-heading");
    html! {
        section id=(name) aria-labelledby=(heading) { h2 id=(heading) { (title) } (content) }
    }
}

/// A term and what it is, if that is known.
pub(super) fn fact(term: &str, value: Option<impl Render>) -> Markup {
    html! { @if let Some(value) = value { dt { (term) } dd { (value) } } }
}

/// Text of fixed width that may be wider than the page.
pub(super) fn scrolled(label: &str, text: impl Render) -> Markup {
    html! { pre tabindex="0" role="region" aria-label=(label) { (text) } }
}

/// A table that may be wider than the page. Columns whose title begins with `#` are numbers.
pub(super) fn table(
    caption: &str,
    columns: &[&str],
    rows: impl IntoIterator<Item = Vec<String>>,
    more: u64,
) -> Markup {
    let rows: Vec<Vec<String>> = rows.into_iter().collect();
    let is_number = |at: usize| columns.get(at).is_some_and(|title| title.starts_with('#'));
    let class = |at: usize| is_number(at).then_some("n");
    let hidden = rows.len().saturating_sub(ROWS) as u64 + more;
    html! {
        @if !rows.is_empty() {
            div class="scroll" tabindex="0" role="region" aria-label=(caption) {
                table {
                    caption { (caption) }
                    thead { tr {
                        @for (at, title) in columns.iter().enumerate() {
                            th scope="col" class=[class(at)] { (title.trim_start_matches('#')) }
                        }
                    } }
                    tbody { @for row in rows.iter().take(ROWS) {
                        tr { @for (at, cell) in row.iter().enumerate() { td class=[class(at)] { (cell) } } }
                    } }
                }
            }
            @if hidden > 0 { p class="note" { (hidden) " more are not shown; " code { "holdover inspect" } " shows them." } }
        }
    }
}
