//! The agent's configuration file as people write it: read, or refused with words. No file that it
//! names exists, so that the target doesn't read what lies about on the machine.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use portcullis_agent::{AgentConfig, Overrides};

fuzz_target!(|text: &str| {
    // A file's absolute name would be opened as it is.
    if text.contains("/etc")
        || text.contains("/proc")
        || text.contains("/dev")
        || text.contains("/sys")
    {
        return;
    }
    if let Err(error) = AgentConfig::parse(text, Path::new("/nonexistent"), &Overrides::default()) {
        assert!(!error.message.is_empty());
    }
});
