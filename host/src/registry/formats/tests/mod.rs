//! The formats as a whole.

mod clients;
mod official;
mod out;
mod properties;
