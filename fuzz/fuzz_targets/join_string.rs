//! Join strings and tokens as people paste them. What is accepted is written to a form that is
//! accepted again, and no error repeats the text.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_model::join::JoinString;
use portcullis_model::secret::Token;

fuzz_target!(|text: &str| {
    if let Ok(join) = JoinString::parse(text) {
        assert_eq!(JoinString::parse(join.reveal().expose()), Ok(join));
    }
    if let Ok(token) = Token::parse(text) {
        assert_eq!(Token::parse(token.reveal().expose()), Ok(token));
    }
});
