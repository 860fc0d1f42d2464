//! As much HTTP/1.1 as two programs need that know each other.

/// The head of a message.
pub(crate) struct Head {
    /// How long it is, in bytes.
    pub(crate) bytes: usize,
    /// How long the body behind it is, in bytes.
    pub(crate) body: usize,
    /// Whether it is an answer with the status 200.
    pub(crate) is_ok: bool,
}

impl Head {
    /// The head at the beginning of a buffer, if it is there as a whole.
    pub(crate) fn of(buffer: &[u8]) -> Option<Self> {
        let bytes = find(buffer, b"\r\n\r\n")? + 4;
        let head = std::str::from_utf8(&buffer[..bytes]).ok()?;
        let length = head.split("\r\n").find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
        });
        Some(Self { bytes, body: length.unwrap_or(0), is_ok: head.starts_with("HTTP/1.1 200") })
    }
}

/// Where a text begins in another one.
pub(crate) fn find(text: &[u8], sought: &[u8]) -> Option<usize> {
    text.windows(sought.len()).position(|window| window == sought)
}
