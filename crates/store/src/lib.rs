//! The pool engine: log-structured segments, layers, checkpoints and recovery over a disk given from outside.
