//! First bytes: what real clients say, in pieces of any size; what is excluded where; limits; heads and responses.

use super::*;

mod behind;
mod clients;
mod fronts;
mod heads;
mod properties;
mod replies;
mod tls;

/// A look at a client's first bytes.
fn look(bytes: &[u8], ended: bool) -> Looked {
    super::look(bytes, ended, Asked::Nothing)
}

/// Everything up to an answer, as someone who reads a byte at a time comes to it, and how many bytes that took.
fn dribbled(bytes: &[u8]) -> (Looked, usize) {
    for length in 0..=bytes.len() {
        let looked = look(&bytes[..length], false);
        if looked != Looked::More {
            return (looked, length);
        }
    }
    (Looked::More, bytes.len())
}

/// What was found in all bytes, with the same found at every cut.
fn found(bytes: &[u8]) -> First {
    let Looked::Found(first) = look(bytes, false) else {
        panic!("nothing found: {:?}", look(bytes, false));
    };
    let (looked, taken) = dribbled(bytes);
    assert_eq!(looked, Looked::Found(first.clone()));
    for length in taken..=bytes.len() {
        assert_eq!(look(&bytes[..length], false), looked, "{length} bytes");
        assert_eq!(
            look(&bytes[..length], true),
            looked,
            "{length} bytes, ended"
        );
    }
    for length in 0..taken {
        assert_ne!(
            look(&bytes[..length], true),
            Looked::More,
            "{length} bytes, ended"
        );
    }
    first
}

fn plain(protocol: Protocol) -> First {
    First::of(protocol)
}

/// A ClientHello in one record, of an SNI extension's content and further extensions.
fn hello(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    records(&message(extensions), usize::MAX)
}

fn message(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut list = Vec::new();
    for (kind, content) in extensions {
        list.extend(kind.to_be_bytes());
        list.extend(long(content));
    }
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 1, 1, 0]);
    body.extend(long(&list));
    let length = u32::try_from(body.len()).expect("a length").to_be_bytes();
    [&[1], &length[1..], &body].concat()
}

/// A message in records of at most so many bytes.
fn records(message: &[u8], each: usize) -> Vec<u8> {
    message
        .chunks(each.min(16 * 1024))
        .flat_map(|content| [vec![0x16, 3, 1], long(content)].concat())
        .collect()
}

fn long(content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("a length");
    [&length.to_be_bytes(), content].concat()
}

fn short(content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).expect("a length");
    [&[length], content].concat()
}

/// The content of an extension with the server's name.
fn server_name(name: &[u8]) -> (u16, Vec<u8>) {
    (0, long(&[vec![0], long(name)].concat()))
}

/// A handshake of Minecraft.
fn minecraft(host: &[u8], next: u8) -> Vec<u8> {
    let version = [0x88, 0x06];
    let packet = [
        &[0],
        &version[..],
        &varint(host.len()),
        host,
        &25565_u16.to_be_bytes(),
        &[next],
    ]
    .concat();
    [varint(packet.len()), packet].concat()
}

fn varint(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 0x7f {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}
