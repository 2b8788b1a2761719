//! Work of the developers of Palisade.

fn main() {}
