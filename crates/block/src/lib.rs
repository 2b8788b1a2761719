//! What a volume and a disk are: traits, aligned buffers, errors, the in-memory disk and the conformance suite.
