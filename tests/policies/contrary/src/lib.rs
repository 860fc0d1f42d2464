//! A policy that decides as the default does, but for one function, which it decides otherwise.
//!
//! It exists so that tests can show, at the level of the gateway, that the host obeys the policy in each function. Which
//! one it is stands in the compiled component as 64 bytes of text, `CONTRARY-SELECTS:` and the name of the function,
//! padded with spaces; tests overwrite them. Two further names turn half a function around: with `beginning` no run
//! that is due begins, with `ending` each verdict ends the moment it is given. It must never be shipped, and holds no
//! code outside WebAssembly builds.
#![cfg_attr(not(target_family = "wasm"), forbid(unsafe_code))]

#[cfg(target_family = "wasm")]
mod component;
