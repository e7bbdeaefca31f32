//! The nearest of some words to one that was mistyped.

/// The word nearest to `typed`, if it is near enough to have been meant.
pub(crate) fn nearest<'a>(typed: &str, words: &[&'a str]) -> Option<&'a str> {
    let typed: String = typed
        .chars()
        .take(64)
        .flat_map(char::to_lowercase)
        .map(|c| if c == '_' { '-' } else { c })
        .collect();
    let distances = words
        .iter()
        .map(|word| (distance(&typed, &word.replace('_', "-")), *word));
    let (distance, word) = distances.min_by_key(|(distance, _)| *distance)?;
    (distance * 3 <= word.len().max(typed.len())).then_some(word)
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (slot, to) in row.iter_mut().skip(1).zip(&b) {
            let changed = diagonal + usize::from(from != *to);
            diagonal = *slot;
            left = changed.min(*slot + 1).min(left + 1);
            *slot = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant_and_nothing_else() {
        let words = [
            "restrict-ips",
            "deny",
            "close-connection",
            "forward-internal",
        ];
        for (typed, meant) in [
            ("restrict-ip", Some("restrict-ips")),
            ("restrict_ips", Some("restrict-ips")),
            ("Deny", Some("deny")),
            ("forward-internel", Some("forward-internal")),
            ("close-conection", Some("close-connection")),
            ("basic-auth", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, &words), meant, "{typed}");
        }
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
