//! The upstreams that this node dials itself, read from their text once.
//!
//! Must never: resolve or dial; that is the open's.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use portcullis_model::Error;
use portcullis_net::upstream::Upstream;

use crate::defaults::UPSTREAMS_PARSED_MAX;

/// Upstreams by their text.
#[derive(Default)]
pub(crate) struct Upstreams {
    parsed: RwLock<HashMap<String, Arc<Upstream>>>,
}

impl Upstreams {
    /// The upstream that a text means.
    ///
    /// # Errors
    /// `PTC_UPSTREAM_INVALID`.
    pub(crate) fn of(&self, text: &str) -> Result<Arc<Upstream>, Error> {
        let parsed = self.parsed.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(upstream) = parsed.get(text) {
            return Ok(Arc::clone(upstream));
        }
        drop(parsed);
        let upstream = Arc::new(text.parse::<Upstream>()?);
        let mut parsed = self.parsed.write().unwrap_or_else(PoisonError::into_inner);
        // Endpoints come and go; starting again costs each that is there one more reading.
        if parsed.len() >= UPSTREAMS_PARSED_MAX {
            parsed.clear();
        }
        parsed.insert(text.to_owned(), Arc::clone(&upstream));
        Ok(upstream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_once_and_a_wrong_one_is_not_kept() {
        let upstreams = Upstreams::default();
        let first = upstreams.of("tcp://127.0.0.1:5432").expect("valid");
        let second = upstreams.of("tcp://127.0.0.1:5432").expect("valid");
        assert!(Arc::ptr_eq(&first, &second));
        assert!(upstreams.of("http://x").is_err());
        assert_eq!(upstreams.parsed.read().expect("sound").len(), 1);
    }

    #[test]
    fn many_texts_are_not_kept_for_ever() {
        let upstreams = Upstreams::default();
        for port in 1..=u16::try_from(UPSTREAMS_PARSED_MAX + 1).expect("a port") {
            upstreams
                .of(&format!("tcp://127.0.0.1:{port}"))
                .expect("valid");
        }
        let kept = upstreams.parsed.read().expect("sound").len();
        assert!(kept <= UPSTREAMS_PARSED_MAX, "{kept}");
    }
}
