//! Lossless passage, by comparison of bytes: a corpus of odd JSON documents crosses the gateway at every place where a
//! document can stand, between every two eras between which that place exists, in both forms of an answer.
//!
//! What may change, and nothing else: in definitions the name, and one `_meta` key of ours; in parameters the name, and
//! what one era's `_meta` may not show the other; in results for modern clients the members that a legacy server does not
//! know; and a line end between tokens that crosses an event stream, which becomes LF (WHATWG HTML 9.2.6: the data of an
//! event is its lines joined by LF).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "tests may")]

mod support;

#[path = "lossless/ambiguous_members.rs"]
mod ambiguous_members;
#[path = "lossless/between_eras.rs"]
mod between_eras;
#[path = "lossless/corpus.rs"]
mod corpus;
#[path = "lossless/definitions.rs"]
mod definitions;
#[path = "lossless/ledger.rs"]
mod ledger;
#[path = "lossless/messages.rs"]
mod messages;
#[path = "lossless/names.rs"]
mod names;
#[path = "lossless/requests.rs"]
mod requests;
#[path = "lossless/world.rs"]
mod world;
