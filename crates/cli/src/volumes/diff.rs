//! What differs between snapshots and volumes.

use crate::output::{Output, size};
use api::{ByteRange, Client, DiffRequest, Difference, Problem};

/// Asks until nothing is left to be told. Ranges that an answer has cut in two are joined.
pub(super) async fn run(client: &Client, from: String, to: String, out: Output) -> Result<(), Problem> {
    let mut request = DiffRequest { from, to, offset: 0, ranges_max: None };
    let mut whole: Option<Difference> = None;
    loop {
        let part = client.difference(&request).await?;
        let next = part.next_offset;
        match &mut whole {
            Some(whole) => join(&mut whole.ranges, part.ranges),
            None => whole = Some(Difference { next_offset: None, ..part }),
        }
        match next {
            Some(next) => request.offset = next,
            None => break,
        }
    }
    match whole {
        Some(whole) => out.print(&whole, show),
        None => Ok(()),
    }
}

fn join(ranges: &mut Vec<ByteRange>, more: Vec<ByteRange>) {
    for range in more {
        match ranges.last_mut() {
            Some(last) if last.offset + last.length == range.offset => last.length += range.length,
            _ => ranges.push(range),
        }
    }
}

fn show(difference: &Difference) -> String {
    let Difference { from, to, ranges, .. } = difference;
    let sum: u64 = ranges.iter().map(|range| range.length).sum();
    let mut text = format!("{from} and {to} differ in {} ranges, {}.", ranges.len(), size(sum));
    if difference.from_size_bytes != difference.to_size_bytes {
        let sizes = (size(difference.from_size_bytes), size(difference.to_size_bytes));
        text.push_str(&format!("\nTheir sizes differ, too: {} and {}.", sizes.0, sizes.1));
    }
    for range in ranges {
        text.push_str(&format!("\n{} {}", range.offset, range.length));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_an_answer_has_cut_are_joined() {
        let range = |offset, length| ByteRange { offset, length };
        let mut ranges = vec![range(0, 4096), range(8192, 4096)];
        join(&mut ranges, vec![range(12_288, 4096), range(20_480, 4096)]);
        assert_eq!(ranges, [range(0, 4096), range(8192, 8192), range(20_480, 4096)]);
    }
}
