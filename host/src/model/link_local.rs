//! Addresses that name the machine's own link, where clouds serve the credentials of a machine to its programs.
//!
//! A server entry that points there would fetch them in the gateway's name. No MCP server lives there, so that they are
//! refused as they are written and as names resolve, unless the operator allows them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// Metadata services outside of link-local ranges, as their manuals name them: Alibaba Cloud, Azure (WireServer), Oracle
/// (classic).
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];

/// The same over IPv6, by the first segments: AWS (instance metadata, EKS pod identity, time and name service), Oracle,
/// Scaleway, Google Cloud.
const METADATA_V6: [&[u16]; 4] = [&[0xfd00, 0xec2], &[0xfd00, 0xc1], &[0xfd00, 0x42], &[0xfd20, 0xce]];

/// Names of metadata services, which resolve on the clouds' machines only.
const METADATA_NAMES: [&str; 2] = ["metadata.google.internal", "metadata.goog"];

/// Whether an address is link-local (RFC 3927, RFC 4291 section 2.5.6) or a cloud's metadata service, in whatever form.
pub(crate) fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local() || METADATA_V4.contains(&address),
        IpAddr::V6(address) => {
            address.is_unicast_link_local()
                || METADATA_V6.iter().any(|begin| address.segments().starts_with(begin))
                || embedded(address).is_some_and(|embedded| is_link_local(embedded.into()))
        }
    }
}

/// Whether a URL names such an address, or such a service. Other names are checked when they are resolved.
pub(crate) fn names_link_local(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => is_link_local(address.into()),
        Some(Host::Ipv6(address)) => is_link_local(address.into()),
        Some(Host::Domain(name)) => METADATA_NAMES.contains(&name.trim_end_matches('.')),
        None => false,
    }
}

/// The IPv4 address within an IPv6 one: mapped or compatible (RFC 4291, 2.5.5), translated (RFC 6052, RFC 8215), or 6to4
/// (RFC 3056).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let pair = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match address.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, .., high, low] => Some(pair(high, low)),
        [0x2002, high, low, ..] => Some(pair(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_link_local_or_metadata_address_is_known() {
        for url in [
            "http://169.254.169.254/latest",
            "http://169.254.0.1/",
            "http://2852039166/",
            "http://0xa9fea9fe/",
            "http://0251.0376.0251.0376/",
            "http://169.254.43518/",
            "http://[::ffff:169.254.169.254]/",
            "http://[::169.254.169.254]/",
            "http://[64:ff9b::a9fe:a9fe]/",
            "http://[2002:a9fe:a9fe::]/",
            "http://[fe80::1]/",
            "http://[febf::1]/",
            "http://[64:ff9b:1::a9fe:a9fe]/",
            "http://[fd00:ec2::254]/",
            "http://[fd00:ec2::23]/",
            "http://[fd00:c1::a9fe:a9fe]/",
            "http://[fd00:42::42]/",
            "http://[fd20:ce::254]/",
            "http://100.100.100.200/",
            "http://168.63.129.16/",
            "http://metadata.google.internal/",
            "http://METADATA.google.internal./",
            "https://metadata.goog/",
        ] {
            assert!(names_link_local(&Url::parse(url).unwrap()), "{url}");
        }
        for url in [
            "http://127.0.0.1/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://169.253.255.255/",
            "http://169.255.0.0/",
            "http://10.0.0.1/",
            "http://[fd00::1]/",
            "http://[fec0::1]/",
            "https://example.com/169.254.169.254",
            "https://169.254.169.254.example.com/",
        ] {
            assert!(!names_link_local(&Url::parse(url).unwrap()), "{url}");
        }
    }
}
