//! A target in memory to measure the initiator alone: `ram_target [ADDRESS:PORT] [MEBIBYTES]`.

#![allow(dead_code, reason = "the target is shared with tests that tell it to fail")]

#[path = "../tests/support/ram.rs"]
mod ram;

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:3260".to_owned());
    let mebibytes: usize = arguments.next().unwrap_or_else(|| "256".to_owned()).parse()?;
    let target = ram::RamTarget::start(&address, mebibytes << 20);
    println!("{}", target.url());
    loop {
        std::thread::park();
    }
}
