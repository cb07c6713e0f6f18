//! Tables that can be read on a telephone: there a row becomes a list, and each cell carries its column's name.

use super::markup::{El, Html, el, of_class};

/// A table that is being written.
pub(super) struct Table {
    id: &'static str,
    caption: &'static str,
    columns: &'static [&'static str],
    rows: Html,
    count: usize,
    left_out: usize,
}

/// A cell.
pub(super) enum Cell {
    /// Text.
    Text(String),
    /// A time or a number, on one line.
    Short(String),
    /// A number, to the right.
    Number(String),
    /// Something made.
    Html(Html),
}

impl Cell {
    fn write(self, label: &str) -> El {
        match self {
            Self::Text(text) => el("td").attr("data-label", label).text(text),
            Self::Short(text) => of_class("td", "short").attr("data-label", label).text(text),
            Self::Number(text) => of_class("td", "num").attr("data-label", label).text(text),
            Self::Html(html) => el("td").attr("data-label", label).add(html),
        }
    }
}

impl Table {
    /// An empty one.
    pub(super) fn new(id: &'static str, caption: &'static str, columns: &'static [&'static str]) -> Self {
        Self { id, caption, columns, rows: Html::default(), count: 0, left_out: 0 }
    }

    /// A row: its name, and the other cells. `anchor` is what a link can lead to.
    pub(super) fn row(&mut self, anchor: Option<String>, name: impl Into<Html>, cells: impl IntoIterator<Item = Cell>) {
        let mut labels = self.columns.iter();
        let first = labels.next().copied().unwrap_or_default();
        let name = el("th").attr("scope", "row").attr("data-label", first).add(name);
        let cells: Html = cells.into_iter().zip(labels).map(|(cell, label)| cell.write(label)).collect();
        let row = el("tr");
        let row = if let Some(id) = anchor { row.attr("id", id) } else { row };
        self.rows.add(row.add(name).add(cells));
        self.count += 1;
    }

    /// Says that so many rows are not in it.
    pub(super) fn leave_out(&mut self, rows: usize) {
        self.left_out += rows;
    }

    /// The table with a field to search it, which the script shows.
    pub(super) fn finish(self) -> Html {
        if self.count == 0 && self.left_out == 0 {
            return of_class("p", "none").text("None.").into();
        }
        let heads: Html = self.columns.iter().map(|c| el("th").attr("scope", "col").text(c)).collect();
        let table = of_class("table", "stack")
            .attr("id", self.id)
            .add(el("caption").text(self.caption))
            .add(el("thead").add(el("tr").add(heads)))
            .add(el("tbody").add(self.rows));
        let mut html = Html::default();
        if self.count > 8 {
            let input = el("input").attr("type", "search").attr("autocomplete", "off").attr("aria-controls", self.id);
            let label = el("label").text("Search this table").add(input);
            html.add(of_class("div", "search").flag("hidden").attr("data-of", self.id).add(label).add(el("output")));
        }
        if self.left_out > 0 {
            let text = format!("{} more rows are left out here; the JSON of this report has them.", self.left_out);
            html.add(of_class("p", "cut").text(text));
        }
        html.add(
            of_class("div", "wide")
                .attr("role", "region")
                .attr("aria-label", self.caption)
                .attr("tabindex", 0)
                .add(table),
        );
        html
    }
}
