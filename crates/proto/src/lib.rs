//! The wire between agent and edge: messages, framing, session and channel state machines. No I/O, no clock.
