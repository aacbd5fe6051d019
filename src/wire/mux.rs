//! The multiplexer: yamux over the two halves of a pipe.
