//! Addresses that only our own network reaches, and who may be led to them.
//!
//! A list of URLs from others, or a redirect of a server of others, may name an address behind our own firewall: the
//! metadata service of a cloud, a router, a database. What such a request answers would stand in the data set. The
//! address itself is looked at when a connection is made, so that a name that resolves to one, or to another one from
//! one moment to the next, is no way around it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Which records may reach private addresses: loopback, private and link-local networks, and all others that are not
/// part of the public internet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PrivateAddresses {
    /// All.
    Allow,
    /// Those that were asked for there in the first place; a redirect from a public address does not lead to a private
    /// one. For lists that we made ourselves.
    #[default]
    Listed,
    /// None. For lists from others.
    Refuse,
}

impl PrivateAddresses {
    /// Whether a request may go to a private address. `redirected_from_public`: it follows a redirect of a public one.
    pub(crate) fn allows(self, redirected_from_public: bool) -> bool {
        match self {
            PrivateAddresses::Allow => true,
            PrivateAddresses::Listed => !redirected_from_public,
            PrivateAddresses::Refuse => false,
        }
    }
}

/// Whether an address is outside the public internet, by the special-purpose registries of IANA (RFC 6890 and its
/// updates). An IPv6 address that stands for an IPv4 address is judged as that one.
pub(crate) fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_private_v4(ip),
        IpAddr::V6(ip) => is_private_v6(ip),
    }
}

fn is_private_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_multicast()
        || ip.is_documentation()
        || a == 0                               // this network
        || (a == 100 && b & 0xc0 == 64)         // shared by carriers, 100.64.0.0/10
        || (a == 192 && b == 0 && c == 0)       // protocol assignments
        || (a == 198 && b & 0xfe == 18)         // benchmarks
        || a >= 240 // reserved, and the broadcast address
}

fn is_private_v6(ip: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = ip.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_private_v4(Ipv4Addr::new(a, b, c, d))
    };
    match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0xffff] => embedded(g, h),             // mapped
        [0, 0, 0, 0, 0xffff, 0] => embedded(g, h),             // translated
        [0, 0, 0, 0, 0, 0] => true,                            // unspecified, loopback, compatible
        [0x64, 0xff9b, 0, 0, 0, 0] => embedded(g, h),          // NAT64
        [0x2002, high, low, ..] => embedded(high, low),        // 6to4
        [0x2001, 0x0000..=0x01ff, ..] => true,                 // Teredo and other protocol assignments
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => true, // documentation
        // Unicast addresses of the public internet are in 2000::/3; local, link-local and multicast ones are not.
        _ => a & 0xe000 != 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_public_internet_are_told_from_all_others() {
        for public in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2001:4860:4860::8888",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
            "2002:808:808::1",
            "2a00:1450::1",
        ] {
            assert!(!is_private(public.parse().unwrap()), "{public}");
        }
        for private in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:0:10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
            "3fff::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(is_private(private.parse().unwrap()), "{private}");
        }
    }

    #[test]
    fn a_redirect_of_a_public_address_is_trusted_less_than_the_list() {
        let allows = |of: PrivateAddresses| [false, true].map(|redirected| of.allows(redirected));
        assert_eq!(allows(PrivateAddresses::Allow), [true, true]);
        assert_eq!(allows(PrivateAddresses::Listed), [true, false]);
        assert_eq!(allows(PrivateAddresses::Refuse), [false, false]);
    }
}
