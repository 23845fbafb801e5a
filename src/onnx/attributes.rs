//! The attributes of a node, read by name.

use super::proto::attribute_proto::AttributeType;
use super::proto::{AttributeProto, NodeProto, TensorProto};
use crate::model::graph::{Attribute, Attributes};

/// The attributes of a node; each is read as the type that is expected.
pub(super) struct NodeAttributes<'n>(&'n NodeProto);

impl<'n> NodeAttributes<'n> {
    pub(super) fn of(node: &'n NodeProto) -> Self {
        Self(node)
    }

    fn wrong(name: &str, expected: &str) -> String {
        format!("attribute {name:?}: expected {expected}, got another type")
    }

    pub(super) fn int(&self, name: &str) -> Result<Option<i64>, String> {
        match attribute(self.0, name) {
            None => Ok(None),
            Some(given) if given.r#type() == AttributeType::Int => Ok(Some(given.i)),
            Some(_) => Err(Self::wrong(name, "a whole number")),
        }
    }

    pub(super) fn ints(&self, name: &str) -> Result<Option<Vec<i64>>, String> {
        match attribute(self.0, name) {
            None => Ok(None),
            Some(given) if given.r#type() == AttributeType::Ints => Ok(Some(given.ints.clone())),
            Some(_) => Err(Self::wrong(name, "whole numbers")),
        }
    }

    pub(super) fn float(&self, name: &str) -> Result<Option<f32>, String> {
        match attribute(self.0, name) {
            None => Ok(None),
            Some(given) if given.r#type() == AttributeType::Float => Ok(Some(given.f)),
            Some(_) => Err(Self::wrong(name, "a number")),
        }
    }

    pub(super) fn floats(&self, name: &str) -> Result<Option<Vec<f32>>, String> {
        match attribute(self.0, name) {
            None => Ok(None),
            Some(given) if given.r#type() == AttributeType::Floats => {
                Ok(Some(given.floats.clone()))
            }
            Some(_) => Err(Self::wrong(name, "numbers")),
        }
    }

    pub(super) fn texts(&self, name: &str) -> Result<Option<Vec<String>>, String> {
        let text = |bytes: &bytes::Bytes| String::from_utf8_lossy(bytes).into_owned();
        match attribute(self.0, name) {
            None => Ok(None),
            Some(given) => match given.r#type() {
                AttributeType::Strings => Ok(Some(given.strings.iter().map(text).collect())),
                AttributeType::String => Ok(Some(vec![text(&given.s)])),
                _ => Err(Self::wrong(name, "text")),
            },
        }
    }

    pub(super) fn tensor(&self, name: &str) -> Result<Option<&'n TensorProto>, String> {
        match attribute(self.0, name) {
            None => Ok(None),
            Some(given) => match &given.t {
                Some(tensor) => Ok(Some(tensor)),
                None => Err(Self::wrong(name, "a tensor")),
            },
        }
    }

    /// All of them as the network has them.
    pub(super) fn all(&self) -> Result<Attributes, String> {
        let read = |given: &AttributeProto| {
            let value = match given.r#type() {
                AttributeType::Float => Attribute::Float(given.f),
                AttributeType::Int => Attribute::Int(given.i),
                AttributeType::Ints => Attribute::Ints(given.ints.clone()),
                AttributeType::String => {
                    Attribute::Text(String::from_utf8_lossy(&given.s).into_owned())
                }
                other => {
                    return Err(format!(
                        "attribute {:?}: {} are not supported",
                        given.name,
                        other.as_str_name()
                    ));
                }
            };
            Ok((given.name.clone(), value))
        };
        self.0.attribute.iter().map(read).collect()
    }
}

/// The attribute of a node by name.
pub(super) fn attribute<'n>(node: &'n NodeProto, name: &str) -> Option<&'n AttributeProto> {
    node.attribute
        .iter()
        .find(|attribute| attribute.name == name)
}
