//! Networks as policies and `--trusted-proxies` write them.
//! Invariants: an IPv4 address inside IPv6 counts as the IPv4 address that it is.
//! Not here: whose address a request has (`s3::authorize`).

use std::net::IpAddr;

/// An address and the length of its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix_bits: u8,
}

impl Network {
    /// Reads `10.0.0.0/8`, `2001:db8::/32`, or one address.
    pub fn parse(text: &str) -> Option<Network> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = match prefix {
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
            Some(_) => return None,
            None => longest,
        };
        (prefix_bits <= longest).then_some(Network { address, prefix_bits })
    }

    /// Whether the address lies in it.
    pub fn holds(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let differ = u32::from(network) ^ u32::from(address);
                self.prefix_bits == 0 || differ >> (32 - u32::from(self.prefix_bits)) == 0
            }
            (IpAddr::V6(network), address) => {
                let address = match address {
                    IpAddr::V4(address) => address.to_ipv6_mapped(),
                    IpAddr::V6(address) => address,
                };
                let differ = u128::from(network) ^ u128::from(address);
                self.prefix_bits == 0 || differ >> (128 - u32::from(self.prefix_bits)) == 0
            }
            (IpAddr::V4(_), IpAddr::V6(_)) => false,
        }
    }

    /// Whether it is so wide that AWS calls a policy which names it public: wider than /8 of IPv4 or /32 of IPv6.
    pub(super) fn is_wide(&self) -> bool {
        self.prefix_bits < if self.address.is_ipv4() { 8 } else { 32 }
    }
}

/// The address in one entry of `X-Forwarded-For`, with or without a port.
pub fn address_of(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|rest| rest.split_once(']')).map_or(text, |(bare, _)| bare);
    bare.parse().ok().or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|socket| socket.ip()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn addresses_lie_in_their_networks_and_in_no_other() {
        let holds =
            |network: &str, address: &str| Network::parse(network).unwrap().holds(address.parse().unwrap());
        for (network, address) in [
            ("10.0.0.0/8", "10.255.0.1"),
            ("10.0.0.7", "10.0.0.7"),
            ("0.0.0.0/0", "1.2.3.4"),
            ("10.0.0.0/8", "::ffff:10.1.1.1"),
            ("::ffff:10.0.0.0/104", "10.1.1.1"),
            ("2001:db8::/32", "2001:db8:1::1"),
            ("::/0", "2001:db8:1::1"),
        ] {
            assert!(holds(network, address), "{network} {address}");
        }
        for (network, address) in [
            ("10.0.0.0/8", "11.0.0.1"),
            ("10.0.0.7", "10.0.0.8"),
            ("0.0.0.0/0", "::1"),
            ("2001:db8::/32", "::1"),
        ] {
            assert!(!holds(network, address), "{network} {address}");
        }
        for wrong in ["", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "a", "::/129", "10.0.0/8"] {
            assert_eq!(Network::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn forwarded_entries_may_have_a_port() {
        for text in ["192.0.2.7", " 192.0.2.7 ", "192.0.2.7:4711"] {
            assert_eq!(address_of(text), "192.0.2.7".parse().ok(), "{text}");
        }
        for text in ["2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:80"] {
            assert_eq!(address_of(text), "2001:db8::1".parse().ok(), "{text}");
        }
        assert_eq!(address_of("unknown"), None);
    }
}
