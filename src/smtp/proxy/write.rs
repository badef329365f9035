//! PROXY headers as a client writes them.

use super::SIGNATURE;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Version 1 for a client at `source` that had connected to `destination`; for a connection of our own with none.
pub fn write_v1(client: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    let Some((source, destination)) = client else { return b"PROXY UNKNOWN\r\n".to_vec() };
    let (family, from, to) = match pair(source, destination) {
        Pair::V4(from, to) => ("TCP4", from.to_string(), to.to_string()),
        Pair::V6(from, to) => ("TCP6", from.to_string(), to.to_string()),
    };
    format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port()).into_bytes()
}

/// Version 2 of the same: PROXY, or LOCAL.
pub fn write_v2(client: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    let Some((source, destination)) = client else {
        header.extend_from_slice(&[0x20, 0, 0, 0]);
        return header;
    };
    match pair(source, destination) {
        Pair::V4(from, to) => {
            header.extend_from_slice(&[0x21, 0x11, 0, 12]);
            header.extend_from_slice(&from.octets());
            header.extend_from_slice(&to.octets());
        }
        Pair::V6(from, to) => {
            header.extend_from_slice(&[0x21, 0x21, 0, 36]);
            header.extend_from_slice(&from.octets());
            header.extend_from_slice(&to.octets());
        }
    }
    header.extend_from_slice(&source.port().to_be_bytes());
    header.extend_from_slice(&destination.port().to_be_bytes());
    header
}

/// Both addresses of one family, as a header has to have them.
enum Pair {
    V4(std::net::Ipv4Addr, std::net::Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

fn pair(source: SocketAddr, destination: SocketAddr) -> Pair {
    let six = |address: IpAddr| match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    match (source.ip().to_canonical(), destination.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => Pair::V4(from, to),
        (from, to) => Pair::V6(six(from), six(to)),
    }
}
