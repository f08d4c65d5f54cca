//! How a machine is woken: the hardware address of its network card, and where the packets go.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddrV4},
    str::FromStr,
};

use diagnostics::Diagnostic;

use crate::errors::{invalid_mac_address, invalid_wake_address};

/// The port of magic packets, by custom: network cards do not look at it.
const DISCARD: u16 = 9;

/// MAC address of one network card.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress([u8; 6]);

string_schema!(
    MacAddress,
    "^[0-9a-fA-F][02468aceACE](:[0-9a-fA-F]{2}){5}$",
    "52:54:00:12:34:56",
    "MAC address of a network card."
);

impl MacAddress {
    /// Returns the bytes in the order in which they are written.
    pub fn octets(self) -> [u8; 6] {
        self.0
    }
}

impl FromStr for MacAddress {
    type Err = Diagnostic;

    /// Accepts what systems and switches print: `52:54:00:12:34:56`, `52-54-00-12-34-56`,
    /// `5254.0012.3456` and `525400123456`.
    fn from_str(text: &str) -> Result<Self, Diagnostic> {
        let octets = octets(text).filter(|octets| {
            let is_group = octets[0] & 1 == 1;
            !is_group && octets.iter().any(|octet| *octet != 0)
        });
        octets.map(Self).ok_or_else(|| invalid_mac_address(text))
    }
}

fn octets(text: &str) -> Option<[u8; 6]> {
    let (separator, width) = match text.len() {
        17 if text.contains('-') => (Some('-'), 2),
        17 => (Some(':'), 2),
        14 => (Some('.'), 4),
        12 => (None, 12),
        _ => return None,
    };
    let parts: Vec<&str> = match separator {
        Some(separator) => text.split(separator).collect(),
        None => vec![text],
    };
    let is_valid =
        |part: &&str| part.len() == width && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !parts.iter().all(is_valid) {
        return None;
    }
    let digits = parts.concat();
    let mut octets = [0; 6];
    for (n, octet) in octets.iter_mut().enumerate() {
        let digits = digits.get(2 * n..2 * n + 2)?;
        *octet = u8::from_str_radix(digits, 16).ok()?;
    }
    Some(octets)
}

impl TryFrom<String> for MacAddress {
    type Error = Diagnostic;
    fn try_from(text: String) -> Result<Self, Diagnostic> {
        text.parse()
    }
}

impl From<MacAddress> for String {
    fn from(address: MacAddress) -> Self {
        address.to_string()
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, octet) in self.0.iter().enumerate() {
            let separator = if n == 0 { "" } else { ":" };
            write!(f, "{separator}{octet:02x}")?;
        }
        Ok(())
    }
}

/// Where magic packets are sent: an IPv4 address, usually the broadcast address of a network, and
/// a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WakeAddress(SocketAddrV4);

string_schema!(
    WakeAddress,
    "^[0-9]{1,3}([.][0-9]{1,3}){3}(:[0-9]{1,5})?$",
    "192.0.2.255:9",
    "IPv4 address and port to which magic packets are sent; the port 9 if it names none."
);

impl WakeAddress {
    /// Returns the address as a socket sends to it.
    pub fn socket(self) -> SocketAddrV4 {
        self.0
    }
}

impl FromStr for WakeAddress {
    type Err = Diagnostic;
    fn from_str(text: &str) -> Result<Self, Diagnostic> {
        let address = match text.parse::<Ipv4Addr>() {
            Ok(address) => Some(SocketAddrV4::new(address, DISCARD)),
            Err(_) => text.parse().ok(),
        };
        address
            .filter(|address| !address.ip().is_unspecified() && address.port() != 0)
            .map(Self)
            .ok_or_else(|| invalid_wake_address(text))
    }
}

impl TryFrom<String> for WakeAddress {
    type Error = Diagnostic;
    fn try_from(text: String) -> Result<Self, Diagnostic> {
        text.parse()
    }
}

impl From<WakeAddress> for String {
    fn from(address: WakeAddress) -> Self {
        address.to_string()
    }
}

impl fmt::Display for WakeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_mac_address_is_read_as_systems_and_switches_print_it() {
        for text in [
            "52:54:00:12:34:56",
            "52-54-00-12-34-56",
            "5254.0012.3456",
            "525400123456",
        ] {
            let address: MacAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), "52:54:00:12:34:56", "{text}");
            assert_eq!(address.octets(), [0x52, 0x54, 0, 0x12, 0x34, 0x56]);
        }
        let upper: MacAddress = "AA:BB:CC:DD:EE:FF".parse().unwrap();
        assert_eq!(upper.to_string(), "aa:bb:cc:dd:ee:ff");
    }

    #[test]
    fn what_names_no_single_card_is_refused() {
        for bad in [
            "",
            "52:54:00:12:34",
            "52:54:00:12:34:5",
            "52:54:00:12:34:567",
            "52:54:00:12:34:5g",
            "52:54-00:12:34:56",
            "5:254:00:12:34:56",
            "+2:54:00:12:34:56",
            "5254.0012:3456",
            "52540012345é",
            // Nothing, all cards, a group of cards.
            "00:00:00:00:00:00",
            "ff:ff:ff:ff:ff:ff",
            "01:00:5e:00:00:01",
        ] {
            let error = bad.parse::<MacAddress>().unwrap_err();
            assert!(error.message.contains("not a MAC address"), "{error}");
            assert!(error.hint.is_some());
        }
    }

    #[test]
    fn packets_go_to_the_port_9_by_default() {
        let printed = |text: &str| text.parse::<WakeAddress>().map(|a| a.to_string());
        assert_eq!(printed("192.0.2.255"), Ok("192.0.2.255:9".to_owned()));
        assert_eq!(printed("192.0.2.255:7"), Ok("192.0.2.255:7".to_owned()));
        for bad in [
            "",
            "host",
            "192.0.2",
            "192.0.2.255:0",
            "0.0.0.0",
            "[::1]:9",
            "1.2.3.4:70000",
        ] {
            assert!(
                printed(bad).unwrap_err().message.contains("not an address"),
                "{bad}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_printed_as_it_is_parsed(text in "[0-9a-gA-G:.-]{0,20}") {
            if let Ok(address) = text.parse::<MacAddress>() {
                prop_assert_eq!(address.to_string().parse::<MacAddress>(), Ok(address));
            }
            if let Ok(address) = text.parse::<WakeAddress>() {
                prop_assert_eq!(address.to_string().parse::<WakeAddress>(), Ok(address));
            }
        }
    }
}
