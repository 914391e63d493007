//! Parts of a document, by XPath.

use crate::failure::Failure;
use cenote_model::{Code, Domain, Error};
use sxd_document::dom::{ChildOfElement, Element, Text};
use sxd_xpath::nodeset::Node;
use sxd_xpath::{Context, Factory, Value};

/// Whether the parts are put into one element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrap {
    No,
    Yes,
}

/// The parts that the expression finds, one after another, as libxml2 prints nodes.
pub(crate) fn select(xml: &str, expression: &str, wrap: Wrap) -> Result<String, Failure> {
    let wrong = || {
        let error = Error::new(Code::Internal, format!("Incorrect xpath '{expression}'"));
        Failure::from(error.in_domain(Domain::Xml))
    };
    let package = sxd_document::parser::parse(xml).map_err(|_| wrong())?;
    let document = package.as_document();
    document.root().children().iter().filter_map(|child| child.element()).for_each(join_text);
    let compiled = Factory::new().build(expression).ok().flatten().ok_or_else(wrong)?;
    let found = compiled.evaluate(&Context::new(), document.root()).map_err(|_| wrong())?;
    let Value::Nodeset(found) = found else { return Err(wrong()) };
    let mut text = String::new();
    let depth = match wrap {
        Wrap::No => 0,
        Wrap::Yes => {
            text.push_str("<nodes>\n");
            1
        }
    };
    for node in found.document_order() {
        print_node(&mut text, node, depth);
    }
    if wrap == Wrap::Yes {
        text.push_str("</nodes>\n");
    }
    Ok(text)
}

/// Makes one node of text that the parser cut in pieces at character references, as XPath's data model has it.
fn join_text(element: Element<'_>) {
    let mut text_before: Option<Text<'_>> = None;
    for child in element.children() {
        match (child, text_before) {
            (ChildOfElement::Text(text), Some(before)) => {
                before.set_text(&format!("{}{}", before.text(), text.text()));
                text.remove_from_parent();
            }
            (ChildOfElement::Text(text), None) => text_before = Some(text),
            (other, _) => {
                text_before = None;
                if let ChildOfElement::Element(element) = other {
                    join_text(element);
                }
            }
        }
    }
}

fn print_node(text: &mut String, node: Node<'_>, depth: usize) {
    match node {
        Node::Element(element) => {
            text.push_str(&"  ".repeat(depth));
            print_element(text, element, depth);
        }
        Node::Attribute(attribute) => {
            text.push_str(&format!(" {}=\"{}\"", attribute.name().local_part(), escape(attribute.value())));
        }
        Node::Root(root) => {
            for child in root.children() {
                if let Some(element) = child.element() {
                    print_element(text, element, depth);
                }
            }
        }
        other => text.push_str(&escape(&other.string_value())),
    }
    text.push('\n');
}

/// Elements are indented anew; text between elements that is blank is left out.
fn print_element(text: &mut String, element: Element<'_>, depth: usize) {
    let name = match element.preferred_prefix() {
        Some(prefix) => format!("{prefix}:{}", element.name().local_part()),
        None => element.name().local_part().to_owned(),
    };
    text.push_str(&format!("<{name}"));
    for attribute in element.attributes() {
        text.push_str(&format!(" {}=\"{}\"", attribute.name().local_part(), escape(attribute.value())));
    }
    let children: Vec<_> = element.children();
    let has_elements = children.iter().any(|child| matches!(child, ChildOfElement::Element(_)));
    if children.is_empty() || (!has_elements && children.iter().all(is_blank)) {
        text.push_str("/>");
        return;
    }
    text.push('>');
    for child in children {
        match child {
            ChildOfElement::Element(element) => {
                text.push_str(&format!("\n{}", "  ".repeat(depth + 1)));
                print_element(text, element, depth + 1);
            }
            ChildOfElement::Text(part) if !has_elements => text.push_str(&escape(part.text())),
            _ => {}
        }
    }
    if has_elements {
        text.push_str(&format!("\n{}", "  ".repeat(depth)));
    }
    text.push_str(&format!("</{name}>"));
}

fn is_blank(child: &ChildOfElement<'_>) -> bool {
    matches!(child, ChildOfElement::Text(part) if part.text().trim().is_empty())
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    const XML: &str = "<volume type='file'>\n  <name>a &amp; b</name>\n  <target>\n    <format type='raw'/>\n    <path>/x</path>\n  </target>\n</volume>\n";

    #[test]
    fn nodes() {
        let select = |expression| select(XML, expression, Wrap::No).unwrap();
        assert_eq!(select("//target"), "<target>\n  <format type=\"raw\"/>\n  <path>/x</path>\n</target>\n");
        assert_eq!(select("//@type"), " type=\"file\"\n type=\"raw\"\n");
        assert_eq!(select("/volume/name/text()"), "a &amp; b\n");
        assert_eq!(select("//nothing"), "");
        assert_eq!(
            super::select(XML, "//path", Wrap::Yes).unwrap(),
            "<nodes>\n  <path>/x</path>\n</nodes>\n"
        );
    }

    #[test]
    fn what_finds_no_nodes_is_refused() {
        for wrong in ["///", "count(//name)", ""] {
            let failure = select(XML, wrong, Wrap::No).unwrap_err();
            assert!(failure.cause.unwrap().to_string().contains("Incorrect xpath"));
        }
    }
}
