//! Values that every interface shares: failure classes and subject kinds.
//!
//! Plain data, and a mirror of `wit/types.wit`: the same names, the same order, the same documentation. Nothing here
//! decides anything, and no `serde` attribute may rename a field: the tests compare these values with those that the
//! host binds from the WIT, name by name.

/// Why a fetch failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum FailureClass {
    /// The name did not resolve.
    Dns,
    /// No connection, or one that broke before the answer was whole.
    Refused,
    /// A deadline passed.
    Timeout,
    /// The origin refuses our credentials (HTTP 401 or 403).
    Auth,
    /// The origin does not know the resource (HTTP 404).
    NotFound,
    /// The origin says that the resource is gone for good (HTTP 410).
    Gone,
    /// The origin asks for fewer requests (HTTP 429).
    Throttled,
    /// The origin failed (HTTP 5xx), or answered with an error of its own.
    Server,
    /// The answer is larger than its cap.
    Oversize,
    /// The answer is a redirect that may not be followed.
    Redirect,
    /// The answer is not what the protocol demands.
    Decode,
    /// The signature is missing or does not match.
    Signature,
    /// The document is signed but breaks a rule of its format.
    Schema,
    /// The document was past its signed expiry.
    Expiry,
    /// The document is older than what was accepted before, or contradicts it.
    Rollback,
}

/// What a subject is, where rules differ by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum SubjectKind {
    /// The signed service map: one for a gateway, shared by a fleet.
    ServiceMap,
    /// A connector: one MCP server and its lists.
    Connector,
}
