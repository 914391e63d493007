//! A writer for libvirt's layout: two blanks an indent, attributes in single quotes, one element a line.

use std::fmt::{Display, Write};

/// XML under construction.
#[derive(Debug, Default)]
pub struct Writer {
    out: String,
    indent: usize,
}

impl Writer {
    /// Nothing yet.
    pub fn new() -> Writer {
        Writer::default()
    }

    /// What has been written.
    pub fn finish(self) -> String {
        self.out
    }

    /// Begins an element; it is written when its content is known to be there or not.
    pub fn element<'w>(&'w mut self, name: &'w str) -> Open<'w> {
        self.line_start();
        self.out.push('<');
        self.out.push_str(name);
        Open { writer: self, name }
    }

    /// `<name>value</name>`
    pub fn text(&mut self, name: &str, value: impl Display) {
        self.element(name).content(value);
    }

    /// `<name>value</name>`, or nothing.
    pub fn text_opt(&mut self, name: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    /// `<name unit='bytes'>value</name>`
    pub fn bytes(&mut self, name: &str, value: u64) {
        self.element(name).attr("unit", "bytes").content(value);
    }

    fn line_start(&mut self) {
        self.out.extend(std::iter::repeat_n(' ', self.indent));
    }

    fn escaped(&mut self, value: impl Display, place: Place) {
        // Writing into a String cannot fail.
        let _ = write!(Escape(&mut self.out, place), "{value}");
    }
}

/// An element whose start tag is still open for attributes.
#[must_use = "end the element with content, children or empty"]
pub struct Open<'w> {
    writer: &'w mut Writer,
    name: &'w str,
}

impl Open<'_> {
    /// Adds an attribute.
    pub fn attr(self, name: &str, value: impl Display) -> Self {
        self.writer.out.push(' ');
        self.writer.out.push_str(name);
        self.writer.out.push_str("='");
        self.writer.escaped(value, Place::Attribute);
        self.writer.out.push('\'');
        self
    }

    /// Adds an attribute, or nothing.
    pub fn attr_opt(self, name: &str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.attr(name, value),
            None => self,
        }
    }

    /// Ends it as `<name/>`.
    pub fn empty(self) {
        self.writer.out.push_str("/>\n");
    }

    /// Ends it around text.
    pub fn content(self, value: impl Display) {
        self.writer.out.push('>');
        self.writer.escaped(value, Place::Text);
        self.end();
    }

    /// Ends it around what `children` writes.
    pub fn children(self, children: impl FnOnce(&mut Writer)) {
        self.writer.out.push_str(">\n");
        self.writer.indent += 2;
        children(self.writer);
        self.writer.indent -= 2;
        self.writer.line_start();
        self.end();
    }

    /// Ends it around what `children` writes, or as `<name/>` if that is nothing.
    pub fn children_or_empty(self, children: impl FnOnce(&mut Writer)) {
        let mut inner = Writer { out: String::new(), indent: self.writer.indent + 2 };
        children(&mut inner);
        if inner.out.is_empty() {
            self.empty();
        } else {
            self.children(|w| w.out.push_str(&inner.out));
        }
    }

    fn end(self) {
        self.writer.out.push_str("</");
        self.writer.out.push_str(self.name);
        self.writer.out.push_str(">\n");
    }
}

/// Where a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Attribute,
    Text,
}

/// Escapes as libvirt does, and white space that would not be read again as it was; control characters that XML 1.0
/// cannot carry are dropped.
struct Escape<'o>(&'o mut String, Place);

impl Write for Escape<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for c in text.chars() {
            match c {
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '&' => self.0.push_str("&amp;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&apos;"),
                // What a reader would make a space, or a line's end, of.
                '\t' if self.1 == Place::Attribute => self.0.push_str("&#9;"),
                '\n' if self.1 == Place::Attribute => self.0.push_str("&#10;"),
                '\r' => self.0.push_str("&#13;"),
                '\t' | '\n' => self.0.push(c),
                c if c < ' ' || c == '\u{fffe}' || c == '\u{ffff}' => {}
                c => self.0.push(c),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout() {
        let mut w = Writer::new();
        w.element("a").attr("x", "1'2\t\n").children(|w| {
            w.text("b", "<&>\t\r");
            w.element("c").children_or_empty(|_| {});
            w.element("d").children_or_empty(|w| w.text("e", 1));
            w.bytes("f", 7);
        });
        assert_eq!(
            w.finish(),
            "<a x='1&apos;2&#9;&#10;'>\n  <b>&lt;&amp;&gt;\t&#13;</b>\n  <c/>\n  <d>\n    <e>1</e>\n  </d>\n  <f unit='bytes'>7</f>\n</a>\n"
        );
    }
}
