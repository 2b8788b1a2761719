//! Real bytes: disks through io_uring with a thread-pool fallback, and disks in memory.
