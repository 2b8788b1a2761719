//! Seeded simulation: a disk that loses, tears and reorders writes, a deterministic executor and a model to compare with.
