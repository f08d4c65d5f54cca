use input_validation::MacAddress;

/// Bytes that begin the pattern for which cards look.
const SYNCHRONIZATION: [u8; 6] = [0xff; 6];
/// How often the MAC address follows them.
const ADDRESSES: usize = 16;

/// Size of a magic packet.
pub const PACKET_BYTES: usize = 6 + ADDRESSES * 6;

/// The payload that wakes the card with this MAC address.
pub fn magic_packet(mac: MacAddress) -> [u8; PACKET_BYTES] {
    let mut packet = [0; PACKET_BYTES];
    let pattern = SYNCHRONIZATION
        .into_iter()
        .chain(mac.octets().into_iter().cycle());
    for (byte, value) in packet.iter_mut().zip(pattern) {
        *byte = value;
    }
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packet_is_that_of_the_white_paper() {
        // Its example is the card 11 22 33 44 55 66, which would be the address of a group.
        let packet = magic_packet("12:22:33:44:55:66".parse().unwrap());
        assert_eq!(packet.len(), 102);
        assert_eq!(packet[..6], [0xff; 6]);
        for address in packet[6..].chunks(6) {
            assert_eq!(address, [0x12, 0x22, 0x33, 0x44, 0x55, 0x66]);
        }
        assert_eq!(packet[6..].chunks(6).count(), 16);
    }
}
