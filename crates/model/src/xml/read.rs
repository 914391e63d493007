//! A reader that remembers what was asked for.
//!
//! In a strict document whatever no reader asked for is refused, with its line and column: the readers are the
//! schema. Documents with a DTD are refused, so there are no entities to expand.

use crate::{Code, Domain, Error, Result};
use roxmltree::{Node, NodeId, ParsingOptions};
use std::cell::RefCell;
use std::collections::HashSet;

/// The longest document in bytes, as virsh limits its files.
const MAX_LENGTH: usize = 10 << 20;
/// The largest number of nodes in a document.
const MAX_NODES: u32 = 200_000;

/// A parsed document.
pub struct Document<'i> {
    tree: roxmltree::Document<'i>,
    /// What was asked for; `None` in a lax document.
    asked: Option<RefCell<Asked>>,
}

#[derive(Default)]
struct Asked {
    elements: HashSet<NodeId>,
    attributes: HashSet<(NodeId, String)>,
}

impl<'i> Document<'i> {
    /// Parses a document in which unknown parts are passed over.
    pub fn lax(text: &'i str) -> Result<Document<'i>> {
        Ok(Document { tree: parse(text)?, asked: None })
    }

    /// Parses a document in which unknown parts are refused, see [`finish`](Document::finish).
    pub fn strict(text: &'i str) -> Result<Document<'i>> {
        Ok(Document { tree: parse(text)?, asked: Some(RefCell::default()) })
    }

    /// The root element, which must have this name.
    pub fn root(&self, name: &str) -> Result<Element<'_, 'i>> {
        let root = self.element(self.tree.root_element());
        if root.name() != name {
            return Err(xml_error(format!("expecting root element of '{name}', not '{}'", root.name())));
        }
        Ok(root)
    }

    /// The first element of this name, anywhere.
    pub fn find(&self, name: &str) -> Option<Element<'_, 'i>> {
        self.tree.descendants().find(|node| node.has_tag_name(name)).map(|node| self.element(node))
    }

    /// Refuses what nobody asked for, if the document is strict.
    pub fn finish(&self) -> Result<()> {
        let Some(asked) = &self.asked else { return Ok(()) };
        let asked = asked.borrow();
        for node in self.tree.root_element().descendants().filter(Node::is_element) {
            if !asked.elements.contains(&node.id()) {
                let parent = node.parent_element().map_or("", |parent| parent.tag_name().name());
                let what = format!("element '{}' is not allowed in '{parent}'", node.tag_name().name());
                return Err(self.schema_error(node.range().start, &what));
            }
            for attribute in node.attributes() {
                if !asked.attributes.contains(&(node.id(), attribute.name().to_owned())) {
                    let what = format!(
                        "attribute '{}' is not allowed in element '{}'",
                        attribute.name(),
                        node.tag_name().name()
                    );
                    return Err(self.schema_error(attribute.range().start, &what));
                }
            }
        }
        Ok(())
    }

    fn schema_error(&self, offset: usize, what: &str) -> Error {
        let at = self.tree.text_pos_at(offset);
        Error::new(Code::XmlInvalidSchema, format!("line {}, column {}: {what}", at.row, at.col))
            .in_domain(Domain::Xml)
    }

    fn element(&self, node: Node<'_, 'i>) -> Element<'_, 'i> {
        if let Some(asked) = &self.asked {
            asked.borrow_mut().elements.insert(node.id());
        }
        // The node is looked up again so that it borrows from the document and not from the caller's node.
        let node = self.tree.get_node(node.id()).unwrap_or_else(|| self.tree.root());
        Element { document: self, node }
    }
}

fn parse(text: &str) -> Result<roxmltree::Document<'_>> {
    if text.len() > MAX_LENGTH {
        return Err(xml_error(format!(
            "the document is {} bytes long, at most {MAX_LENGTH} are allowed",
            text.len()
        )));
    }
    let options = ParsingOptions { allow_dtd: false, nodes_limit: MAX_NODES, ..ParsingOptions::default() };
    roxmltree::Document::parse_with_options(text, options).map_err(|error| {
        let at = error.pos();
        let line = text.lines().nth(at.row.saturating_sub(1) as usize).unwrap_or("");
        let column = at.col.saturating_sub(1) as usize;
        let pointer: String = line.chars().take(column).map(|c| if c == '\t' { '\t' } else { '-' }).collect();
        // "unknown token at 1:1" says its place twice.
        let reason = error.to_string();
        let reason = reason.rsplit_once(" at ").map_or(reason.as_str(), |(reason, _)| reason);
        let shown: String = line.chars().take(200).collect();
        Error::new(Code::XmlDetail, format!("at line {}: {reason}\n{shown}\n{pointer}^", at.row))
    })
}

fn xml_error(detail: impl Into<String>) -> Error {
    Error::new(Code::XmlError, detail).in_domain(Domain::Xml)
}

/// An element of a document.
#[derive(Clone, Copy)]
pub struct Element<'d, 'i> {
    document: &'d Document<'i>,
    node: Node<'d, 'i>,
}

impl<'d, 'i> Element<'d, 'i> {
    /// The name, without a namespace's prefix.
    pub fn name(&self) -> &'d str {
        self.node.tag_name().name()
    }

    /// All text inside, as it stands.
    pub fn text(&self) -> String {
        self.node.descendants().filter(Node::is_text).filter_map(|node| node.text()).collect()
    }

    /// An attribute's value.
    pub fn attr(&self, name: &str) -> Option<&'d str> {
        if let Some(asked) = &self.document.asked {
            asked.borrow_mut().attributes.insert((self.node.id(), name.to_owned()));
        }
        self.node.attribute(name)
    }

    /// An attribute's value; an empty one counts as absent.
    pub fn attr_non_empty(&self, name: &str) -> Option<&'d str> {
        self.attr(name).filter(|value| !value.is_empty())
    }

    /// A number in an attribute.
    pub fn attr_u32(&self, name: &str) -> Result<Option<u32>> {
        self.attr(name)
            .map(|value| {
                value
                    .trim_ascii_start()
                    .parse()
                    .map_err(|_| self.bad_attr(name, value, " Expected non-negative integer value"))
            })
            .transpose()
    }

    /// A value of an enumeration in an attribute.
    pub fn attr_enum<T>(&self, name: &str, from_name: impl Fn(&str) -> Option<T>) -> Result<Option<T>> {
        self.attr(name)
            .map(|value| from_name(value).ok_or_else(|| self.bad_attr(name, value, "")))
            .transpose()
    }

    /// "yes" or "no" in an attribute.
    pub fn attr_yes_no(&self, name: &str) -> Result<Option<bool>> {
        self.attr_enum(name, |value| match value {
            "yes" => Some(true),
            "no" => Some(false),
            _ => None,
        })
    }

    /// The error for a value that an attribute cannot have.
    pub fn bad_attr(&self, name: &str, value: &str, hint: &str) -> Error {
        xml_error(format!(
            "Invalid value for attribute '{name}' in element '{}': '{value}'.{hint}",
            self.name()
        ))
    }

    /// The error for an attribute that is not there.
    pub fn missing_attr(&self, name: &str) -> Error {
        xml_error(format!("Missing required attribute '{name}' in element '{}'", self.name()))
    }

    /// The first child of this name.
    pub fn child(&self, name: &str) -> Option<Element<'d, 'i>> {
        let node = self.node.children().find(|node| is_plain(node, name))?;
        Some(self.document.element(node))
    }

    /// The children of this name.
    pub fn children(&self, name: &str) -> impl Iterator<Item = Element<'d, 'i>> + use<'d, 'i> {
        let document = self.document;
        let name = name.to_owned();
        self.node.children().filter(move |node| is_plain(node, &name)).map(|node| document.element(node))
    }

    /// All child elements.
    pub fn all_children(&self) -> impl Iterator<Item = Element<'d, 'i>> + use<'d, 'i> {
        let document = self.document;
        self.node.children().filter(Node::is_element).map(|node| document.element(node))
    }

    /// The children of this name in a namespace.
    pub fn children_in(
        &self,
        namespace: &'static str,
        name: &'static str,
    ) -> impl Iterator<Item = Element<'d, 'i>> + use<'d, 'i> {
        let document = self.document;
        self.node
            .children()
            .filter(move |node| node.has_tag_name((namespace, name)))
            .map(|node| document.element(node))
    }

    /// The text of the first child of this name; empty text counts as absent.
    pub fn child_text(&self, name: &str) -> Option<String> {
        self.child(name).map(|child| child.text()).filter(|text| !text.is_empty())
    }
}

fn is_plain(node: &Node<'_, '_>, name: &str) -> bool {
    node.tag_name().namespace().is_none() && node.tag_name().name() == name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entities_dtds_and_bombs_are_refused() {
        let bomb = r#"<!DOCTYPE p [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]><p>&b;</p>"#;
        let file = r#"<!DOCTYPE p [<!ENTITY x SYSTEM "file:///etc/passwd">]><p>&x;</p>"#;
        for text in [bomb, file, "<p>&undefined;</p>"] {
            assert_eq!(Document::lax(text).err().unwrap().code, Code::XmlDetail, "{text}");
        }
        let deep = "<a>".repeat(400_000);
        assert!(Document::lax(&deep).is_err());
        let deep = format!("{}{}", "<a>".repeat(150_000), "</a>".repeat(150_000));
        let _ = Document::lax(&deep).map(|doc| doc.root("a").map(|root| root.text()));
    }

    #[test]
    fn strict_documents_refuse_what_nobody_asked_for() {
        let text = "<a x='1'>\n  <b/>\n  <c y='2'/>\n</a>";
        let doc = Document::strict(text).unwrap();
        let root = doc.root("a").unwrap();
        root.attr("x");
        root.child("b");
        let error = doc.finish().unwrap_err();
        assert_eq!(error.code, Code::XmlInvalidSchema);
        assert!(error.detail.starts_with("line 3, column 3: element 'c'"), "{error}");
        root.child("c");
        let error = doc.finish().unwrap_err();
        assert!(error.detail.starts_with("line 3, column 6: attribute 'y'"), "{error}");
    }

    #[test]
    fn syntax_errors_show_their_place() {
        let error = Document::lax("<a>\n  <b>\n</a>").err().unwrap();
        assert!(error.detail.starts_with("at line 3: "), "{error}");
        assert!(error.detail.contains("\n</a>\n"), "{error}");
    }
}
