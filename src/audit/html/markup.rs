//! Markup that cannot be broken by what is put into it: an [`Html`] is made of elements whose names and attributes' names we
//! wrote, and of texts that were escaped on the way in. There is no other way to make one.

use std::fmt::{Display, Write as _};

use crate::text;

/// A piece of a page.
#[derive(Debug, Clone, Default)]
pub(super) struct Html(String);

impl Html {
    /// Text from anywhere: hidden characters are shown, and what has a meaning in markup loses it.
    pub(super) fn text(text: impl Display) -> Self {
        Self(escaped(&text.to_string()))
    }

    /// A stylesheet or script of ours, which stands in the program.
    pub(super) fn ours(text: &'static str) -> Self {
        Self(text.to_owned())
    }

    /// Appends.
    pub(super) fn add(&mut self, more: impl Into<Self>) {
        self.0.push_str(&more.into().0);
    }

    /// The markup.
    pub(super) fn into_string(self) -> String {
        self.0
    }
}

impl<T: Into<Html>> FromIterator<T> for Html {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        items.into_iter().fold(Self::default(), |mut all, item| {
            all.add(item);
            all
        })
    }
}

/// An element that is being written.
#[derive(Debug, Clone)]
pub(super) struct El {
    name: &'static str,
    open: String,
    inner: String,
}

/// An element of ours by name.
pub(super) fn el(name: &'static str) -> El {
    El { name, open: format!("<{name}"), inner: String::new() }
}

/// The same, with a class.
pub(super) fn of_class(name: &'static str, class: &'static str) -> El {
    el(name).attr("class", class)
}

impl El {
    /// An attribute; its value is escaped.
    pub(super) fn attr(mut self, name: &'static str, value: impl Display) -> Self {
        let _ = write!(self.open, " {name}=\"{}\"", escaped(&value.to_string()));
        self
    }

    /// An attribute that has no value.
    pub(super) fn flag(mut self, name: &'static str) -> Self {
        let _ = write!(self.open, " {name}");
        self
    }

    /// Text inside.
    pub(super) fn text(mut self, text: impl Display) -> Self {
        self.inner.push_str(&escaped(&text.to_string()));
        self
    }

    /// Markup inside.
    pub(super) fn add(mut self, inner: impl Into<Html>) -> Self {
        self.inner.push_str(&inner.into().0);
        self
    }
}

impl From<El> for Html {
    fn from(el: El) -> Self {
        // Those that have nothing inside and no end.
        if matches!(el.name, "meta" | "br" | "input") {
            return Self(format!("{}>", el.open));
        }
        // Half of a big page would be ends of shapes.
        if el.inner.is_empty() && matches!(el.name, "rect" | "line" | "path" | "circle" | "polygon") {
            return Self(format!("{}/>", el.open));
        }
        Self(format!("{}>{}</{}>", el.open, el.inner, el.name))
    }
}

fn escaped(raw: &str) -> String {
    let shown = text::escape(raw);
    let mut out = String::with_capacity(shown.len());
    for c in shown.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_outside_is_markup() {
        let hostile = "</p><script>alert('1')</script>]]>\"&\u{202e}\u{7}";
        let html = Html::from(el("p").attr("title", hostile).text(hostile)).into_string();
        let safe = "&lt;/p&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;]]&gt;&quot;&amp;\\u{202e}\\u{7}";
        assert_eq!(html, format!("<p title=\"{safe}\">{safe}</p>"));
    }

    #[test]
    fn elements_are_closed_as_they_have_to_be() {
        let html: Html =
            [el("br"), el("rect").attr("x", 1), el("td"), el("b").add(Html::text("x"))].into_iter().collect();
        assert_eq!(html.into_string(), "<br><rect x=\"1\"/><td></td><b>x</b>");
    }
}
