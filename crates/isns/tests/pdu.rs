//! PDUs and attributes, by the clauses of RFC 4171; and what is none.

use isns::{
    Attributes, Function, HEADER_BYTES, Malformed, Message, PAYLOAD_BYTES_MAX, Status, answer, flags, frame,
    tag,
};
use std::net::SocketAddr;

fn ascii(text: &str) -> Vec<u8> {
    text.bytes().collect()
}

#[test]
fn clause_5_1_the_header_is_version_function_length_flags_transaction_sequence() {
    let bytes = Message::new(Function::REGISTER, flags::REPLACE, 0x1234).number(tag::NODE_TYPE, 1).finish();
    let expected = [
        &[0, 1, 0, 1, 0, 12, 0x9C, 0, 0x12, 0x34, 0, 0][..], // client, replace, last, first
        &[0, 0, 0, 33, 0, 0, 0, 4, 0, 0, 0, 1],
    ];
    assert_eq!(bytes.unwrap(), expected.concat());
}

#[test]
fn clause_5_3_text_ends_with_nul_and_every_value_is_padded_to_4_bytes() {
    for (text, length) in [("", 4u8), ("abc", 4), ("abcd", 8), ("abcdefg", 8)] {
        let bytes = Message::new(Function::REGISTER, 0, 0).text(tag::NODE_NAME, text).finish().unwrap();
        let mut value = ascii(text);
        value.resize(usize::from(length), 0);
        assert_eq!(bytes[HEADER_BYTES..], [&[0, 0, 0, 32, 0, 0, 0, length][..], &value].concat(), "{text:?}");
        let read = Attributes::new(&bytes[HEADER_BYTES..]).next().unwrap().unwrap();
        assert_eq!((read.tag, read.text()), (tag::NODE_NAME, Some(text)));
    }
}

#[test]
fn clause_6_3_1_addresses_are_those_of_ipv6_and_ports_have_a_bit_for_udp() {
    let portal: SocketAddr = "192.0.2.7:3260".parse().unwrap();
    let bytes = Message::new(Function::REGISTER, 0, 0).portal(16, 17, portal).finish().unwrap();
    let attributes: Vec<_> = Attributes::new(&bytes[HEADER_BYTES..]).map(Result::unwrap).collect();
    assert_eq!(attributes[0].value, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 192, 0, 2, 7]);
    assert_eq!(attributes[1].number(), Some(3260));
    let portal: SocketAddr = "[2001:db8::1]:1".parse().unwrap();
    let bytes = Message::new(Function::REGISTER, 0, 0).portal(49, 50, portal).finish().unwrap();
    assert_eq!(bytes[HEADER_BYTES + 8..][..4], [0x20, 1, 0x0D, 0xB8]);
}

#[test]
fn a_pdu_is_there_when_it_is_whole_and_not_before() {
    let bytes = Message::new(Function::DEREGISTER, 0, 7).text(tag::ENTITY, "e").finish().unwrap();
    for length in 0..bytes.len() {
        assert_eq!(frame(&bytes[..length]), Ok(None), "{length}");
    }
    let twice = [bytes.clone(), bytes.clone()].concat();
    let first = frame(&twice).unwrap().unwrap();
    assert_eq!((first.len(), first.function, first.transaction), (bytes.len(), Function::DEREGISTER, 7));
}

#[test]
fn what_is_no_pdu_is_said_so() {
    assert_eq!(frame(b"HTTP/1.1 400").unwrap_err(), Malformed::Version(0x4854));
    assert_eq!(frame(&[0, 1, 0, 1, 0, 3, 0, 0, 0, 0, 0, 0]).unwrap_err(), Malformed::Length(3));
    for payload in [
        &[0, 0, 0, 1][..],
        &[0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0, 0],
        &[0, 0, 0, 1, 0, 0, 0, 2, 0, 0],
        &[0, 0, 0, 1, 255, 255, 255, 252],
    ] {
        let read: Vec<_> = Attributes::new(payload).collect();
        assert_eq!(read, [Err(Malformed::Attribute)], "{payload:?}");
    }
    for error in [Malformed::Version(2), Malformed::Length(5), Malformed::Attribute, Malformed::Status] {
        assert!(error.to_string().len() > 10);
    }
}

#[test]
fn values_of_another_form_are_no_numbers_and_no_texts() {
    let bytes = Message::new(Function::REGISTER, 0, 0)
        .attribute(1, &[0xFF, 0xFE, 0, 0])
        .attribute(1, b"abcd")
        .attribute(1, &[])
        .finish()
        .unwrap();
    let attributes: Vec<_> = Attributes::new(&bytes[HEADER_BYTES..]).map(Result::unwrap).collect();
    assert_eq!(attributes.iter().map(|one| one.text()).collect::<Vec<_>>(), [None, None, None]);
    assert_eq!(attributes[1].number(), Some(0x6162_6364));
    assert_eq!(attributes[2].number(), None);
}

#[test]
fn a_message_is_never_longer_than_its_length_says() {
    let message = |bytes| Message::new(Function::REGISTER, 0, 0).attribute(tag::ENTITY, &vec![1; bytes]);
    assert_eq!(message(PAYLOAD_BYTES_MAX - 8).finish().unwrap().len(), PAYLOAD_BYTES_MAX + HEADER_BYTES);
    assert_eq!(message(PAYLOAD_BYTES_MAX - 4).finish(), None);
}

#[test]
fn clause_5_7_5_13_an_inquiry_is_answered_with_what_it_said() {
    let asked = Message::new(Function::INQUIRY, 0, 99)
        .attribute(4, &[0; 8])
        .text(tag::ENTITY, "palisade-1")
        .portal(tag::PORTAL_ADDRESS, tag::PORTAL_PORT, "192.0.2.1:3260".parse().unwrap())
        .finish()
        .unwrap();
    let answered = answer(&frame(&asked).unwrap().unwrap()).unwrap();
    let read = frame(&answered).unwrap().unwrap();
    assert_eq!((read.function, read.transaction), (Function(0x800D), 99));
    assert_eq!(read.payload, [&[0; 4][..], &asked[HEADER_BYTES..]].concat());
    assert_eq!(answer(&read), None, "a response is not answered, or two clients would talk for ever");
}

#[test]
fn clause_5_4_other_requests_are_not_supported() {
    for function in [2, 8, 14, 0x1FF] {
        let asked = Message::new(Function(function), 0, 5).finish().unwrap();
        let answered = answer(&frame(&asked).unwrap().unwrap()).unwrap();
        let read = frame(&answered).unwrap().unwrap();
        assert_eq!((read.function, read.payload), (Function(0x8000 | function), &[0, 0, 0, 15][..]));
    }
    assert_eq!(Status::SOURCE_UNKNOWN.to_string(), "source unknown (6)");
    assert!((0..40).all(|code| Status(code).to_string().ends_with(&format!("({code})"))));
}

#[test]
fn garbage_neither_panics_nor_loops() {
    let good = Message::new(Function::INQUIRY, 0, 1).text(1, "entity").number(6, 60).finish().unwrap();
    let mut random = 0x9E37_79B9_7F4A_7C15u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random.to_le_bytes()
    };
    for _ in 0..20_000 {
        let mut bytes = good.clone();
        for _ in 0..next()[0] % 4 + 1 {
            let [place, value, ..] = next();
            let place = usize::from(place) % bytes.len();
            bytes[place] = value;
        }
        bytes.truncate(usize::from(next()[0]) % (bytes.len() + 1));
        if let Ok(Some(frame)) = frame(&bytes) {
            assert!(Attributes::new(frame.payload).count() <= frame.payload.len());
            for one in Attributes::new(frame.payload).flatten() {
                assert!(one.text().is_none_or(|text| text.len() < one.value.len()));
                assert_eq!(one.number().is_some(), one.value.len() == 4);
            }
            let _ = answer(&frame);
        }
    }
}
