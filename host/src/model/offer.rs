//! Everything that a connector offers, as one value: its four lists and what its server says about itself.
//!
//! It is fetched, cached, kept and published as a whole, so that no reader ever sees the tools of one moment beside the
//! prompts of another. Raw JSON; nothing here decides what of it is served.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::raw::{self, RawObject};
use super::{Digest, ItemList, ItemListError, ListKind};

/// What a connector offers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Offer {
    lists: [ItemList; 4],
    about: Arc<About>,
}

/// The names, URIs and URI templates of the items that a server lists and that are hidden until they are approved, in the order
/// of [`ListKind::ALL`].
pub type HiddenKeys = Arc<[Vec<String>; 4]>;

/// Where an offer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfferSource {
    /// An earlier process saved it.
    Saved,
    /// Its server sent it to this process.
    Fetched,
}

/// What a server says about itself.
#[derive(Clone, Debug)]
pub struct About {
    /// Its capabilities: an object.
    pub capabilities: Box<RawValue>,
    /// What it wants a model to know.
    pub instructions: Option<String>,
}

impl Default for About {
    fn default() -> Self {
        Self { capabilities: raw::empty_object(), instructions: None }
    }
}

impl About {
    fn is_equal(&self, other: &Self) -> bool {
        self.capabilities.get() == other.capabilities.get() && self.instructions == other.instructions
    }

    /// Whether it has a capability.
    pub fn has(&self, capability: &str) -> bool {
        RawObject::parse(&self.capabilities).is_ok_and(|all| all.get(capability).is_some_and(raw::is_object))
    }

    /// Whether a flag of a capability is set: `("tools", "listChanged")`.
    pub fn has_flag(&self, capability: &str, flag: &str) -> bool {
        let all = RawObject::parse(&self.capabilities).unwrap_or_default();
        let one = all.get(capability).and_then(|one| RawObject::parse(one).ok()).unwrap_or_default();
        one.get(flag).is_some_and(|flag| flag.get() == "true")
    }
}

impl Offer {
    /// An offer of these lists, in the order of [`ListKind::ALL`].
    pub fn new(lists: [ItemList; 4], about: About) -> Self {
        Self { lists, about: Arc::new(about) }
    }

    /// One that has nothing but tools.
    pub fn of_tools(tools: ItemList) -> Self {
        Self::new([tools, ItemList::empty(), ItemList::empty(), ItemList::empty()], About::default())
    }

    /// One of its lists.
    pub fn list(&self, kind: ListKind) -> &ItemList {
        // There is a list for each of the four kinds.
        &self.lists[kind as usize]
    }

    /// The offer with other lists, in the order of [`ListKind::ALL`]. What is equal to that of `before` is the very same.
    #[must_use]
    pub fn with_lists(&self, lists: [ItemList; 4], before: Option<&Self>) -> Self {
        let before = before.filter(|before| before.about.is_equal(&self.about));
        Self { lists, about: before.unwrap_or(self).about.clone() }
    }

    /// The offer without the instructions.
    #[must_use]
    pub fn without_instructions(&self) -> Self {
        let about = About { capabilities: self.about.capabilities.clone(), instructions: None };
        Self::new(self.lists.clone(), about)
    }

    /// What its server says about itself.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// The whole offer as a JSON object: what is kept on disk, and digested.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut object = RawObject::new();
        for kind in ListKind::ALL {
            // A list's bytes are an array of values that were JSON when they came.
            let list = String::from_utf8_lossy(self.list(kind).bytes()).into_owned();
            object.set(kind.member(), raw::trusted(list));
        }
        object.set("capabilities", self.about.capabilities.clone());
        if let Some(instructions) = &self.about.instructions {
            object.set("instructions", raw::string(instructions));
        }
        object.to_raw().get().as_bytes().to_vec()
    }

    /// The digest of [`Self::to_bytes`].
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }

    /// Reads back what [`Self::to_bytes`] gave.
    ///
    /// # Errors
    /// [`OfferError`] if that is not what the bytes are.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, OfferError> {
        let text = std::str::from_utf8(bytes).map_err(|_| OfferError::Shape)?;
        let object = RawObject::from_str(text).map_err(|_| OfferError::Shape)?;
        let capabilities = object.get("capabilities").ok_or(OfferError::Shape)?.to_owned();
        let instructions = match object.get("instructions").filter(|instructions| !raw::is_null(instructions)) {
            Some(instructions) => Some(raw::as_text(instructions).ok_or(OfferError::Shape)?),
            None => None,
        };
        let list = |kind: ListKind| -> Result<ItemList, OfferError> {
            let list = object.get(kind.member()).ok_or(OfferError::Shape)?;
            Ok(ItemList::from_bytes(kind, list.get().as_bytes())?)
        };
        let [tools, prompts, resources, templates] = ListKind::ALL;
        let lists = [list(tools)?, list(prompts)?, list(resources)?, list(templates)?];
        Ok(Self::new(lists, About { capabilities, instructions }))
    }

    /// Whether this is the very offer that `other` is, not merely an equal one.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.about, &other.about) && self.lists.iter().zip(&other.lists).all(|(a, b)| a.is_same(b))
    }
}

/// Bytes that are no offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// They are not an object with the four lists and capabilities.
    #[error("it is not an object with four lists and capabilities")]
    Shape,
    /// One of its lists can not be read.
    #[error(transparent)]
    List(#[from] ItemListError),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(kind: ListKind, items: &[&str]) -> ItemList {
        ItemList::new(kind, items.iter().map(|item| raw::trusted((*item).to_owned())).collect()).unwrap()
    }

    #[test]
    fn an_offer_is_read_back_byte_for_byte() {
        let odd = r#"{ "name":"a" , "z":12345678901234567890.50 }"#;
        let lists = [
            list(ListKind::Tools, &[odd]),
            ItemList::empty(),
            list(ListKind::Resources, &[r#"{"uri":"x:y"}"#]),
            list(ListKind::Templates, &[r#"{"uriTemplate":"x:{y}"}"#]),
        ];
        let capabilities = raw::trusted(r#"{"tools":{ "listChanged":true},"odd":1}"#.to_owned());
        let before = Offer::new(lists, About { capabilities, instructions: Some("say \"hello\"".into()) });
        let after = Offer::from_bytes(&before.to_bytes()).unwrap();
        assert_eq!((after.to_bytes(), after.digest()), (before.to_bytes(), before.digest()));
        assert_eq!(after.list(ListKind::Tools).items()[0].definition.get(), odd);
        assert_eq!(after.about().instructions.as_deref(), Some("say \"hello\""));
    }

    #[test]
    fn capabilities_are_read_from_what_the_server_wrote() {
        let capabilities = raw::trusted(r#"{"tools":{"listChanged":true},"prompts":{},"resources":true}"#.to_owned());
        let about = About { capabilities, instructions: None };
        assert!(about.has("tools") && about.has("prompts") && !about.has("resources") && !about.has("logging"));
        assert!(about.has_flag("tools", "listChanged") && !about.has_flag("prompts", "listChanged"));
    }

    #[test]
    fn what_is_no_offer_is_refused() {
        for bad in [&b"[]"[..], b"{}", b"\xff", br#"{"tools":[],"prompts":[],"resources":[],"capabilities":{}}"#] {
            assert_eq!(Offer::from_bytes(bad).unwrap_err(), OfferError::Shape);
        }
        let bad = br#"{"tools":[{}],"prompts":[],"resources":[],"resourceTemplates":[],"capabilities":{}}"#;
        let error = ItemListError::Nameless { kind: ListKind::Tools, position: 0 };
        assert_eq!(Offer::from_bytes(bad).unwrap_err(), error.into());
    }
}
