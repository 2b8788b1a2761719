//! SAM, SPC and SBC: commands, sense, unit attentions and the logical unit, without I/O.
