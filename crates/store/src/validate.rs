//! Lengths and names of the free texts that users give.

use portcullis_model::{Code, Error};

use crate::defaults;

pub(crate) fn description(text: &str) -> Result<(), Error> {
    length(
        "description",
        text,
        defaults::DESCRIPTION_BYTES_MAX,
        Code::DescriptionTooLong,
    )
}

pub(crate) fn metadata(text: &str) -> Result<(), Error> {
    length(
        "metadata",
        text,
        defaults::METADATA_BYTES_MAX,
        Code::MetadataTooLong,
    )
}

pub(crate) fn session_metadata(text: &str) -> Result<(), Error> {
    length(
        "metadata",
        text,
        defaults::METADATA_BYTES_MAX,
        Code::SessionMetadataTooLong,
    )
}

/// Both texts of a new record.
pub(crate) fn texts(description_text: &str, metadata_text: &str) -> Result<(), Error> {
    description(description_text)?;
    metadata(metadata_text)
}

/// Sets both texts where an update has them.
pub(crate) fn set_texts(
    description_text: Option<&String>,
    metadata_text: Option<&String>,
    into: (&mut String, &mut String),
) -> Result<(), Error> {
    if let Some(text) = description_text {
        description(text)?;
        into.0.clone_from(text);
    }
    if let Some(text) = metadata_text {
        metadata(text)?;
        into.1.clone_from(text);
    }
    Ok(())
}

fn length(what: &str, text: &str, most: usize, code: Code) -> Result<(), Error> {
    if text.len() > most {
        return Err(Error::new(
            code,
            format!(
                "the {what} has {} bytes; at most {most} are allowed",
                text.len()
            ),
        ));
    }
    Ok(())
}

pub(crate) fn account_name(name: &str) -> Result<(), Error> {
    let fits = (1..=defaults::NAME_CHARS_MAX).contains(&name.chars().count());
    let allowed = |c: char| c.is_alphanumeric() || " -_.".contains(c);
    if fits && name.chars().all(allowed) && name.trim() == name {
        return Ok(());
    }
    Err(Error::new(
        Code::NameInvalid,
        format!(
            "{name:?} cannot be an account's name; use 1 to 64 letters, digits, spaces and `-_.`"
        ),
    ))
}

/// An endpoint's name may be empty, and is otherwise free but for length and control characters.
pub(crate) fn endpoint_name(name: &str) -> Result<(), Error> {
    if name.chars().count() <= defaults::ENDPOINT_NAME_CHARS_MAX
        && !name.chars().any(char::is_control)
    {
        return Ok(());
    }
    Err(Error::new(
        Code::NameInvalid,
        format!(
            "an endpoint's name has at most {} characters, none of them a control character",
            defaults::ENDPOINT_NAME_CHARS_MAX
        ),
    ))
}

/// What an agent says of its machine, for people: cut to a bounded length, without control characters.
pub(crate) fn shown(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .take(defaults::AGENT_TEXT_CHARS_MAX)
        .collect()
}

/// An update that changes nothing is a mistake of the caller.
pub(crate) fn not_empty<T: Default + PartialEq>(update: &T) -> Result<(), Error> {
    if *update == T::default() {
        return Err(Error::new(
            Code::ApiEmptyUpdate,
            "the update changes nothing; give at least one field",
        ));
    }
    Ok(())
}
