//! Sets one key of the section `agent:` in the text of a configuration file, and leaves everything
//! else as it was: order, comments, blank lines.
//!
//! Must never: touch a file.

/// What a new file starts with.
pub(super) const START: &str = "version: 3\nagent:\n";

/// The text with `agent.<key>` set to `value`.
pub(super) fn with_agent_key(text: &str, key: &str, value: &str) -> Result<String, String> {
    if value.is_empty() || value.contains(|c: char| c.is_control() || c == '"' || c == '\\') {
        return Err(format!(
            "the value of {key} has characters that do not belong there"
        ));
    }
    let text = if text.trim().is_empty() { START } else { text };
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let start = match lines
        .iter()
        .position(|line| key_of(line) == Some((0, "agent")))
    {
        Some(start) => start,
        None => {
            lines.push("agent:".to_owned());
            lines.len() - 1
        }
    };
    let rest = lines[start]
        .split_once(':')
        .map_or("", |(_, rest)| rest)
        .trim();
    if !(rest.is_empty() || rest.starts_with('#') || rest == "null" || rest == "~") {
        return Err(format!(
            "`agent:` is written in one line; add `{key}` to it by hand"
        ));
    }
    let end = (start + 1..lines.len())
        .find(|&at| ends_block(&lines[at]))
        .unwrap_or(lines.len());
    let indent = (start + 1..end)
        .find_map(|at| key_of(&lines[at]))
        .map_or(4, |(indent, _)| indent);
    let line = format!("{}{key}: \"{value}\"", " ".repeat(indent));
    match (start + 1..end).find(|&at| key_of(&lines[at]) == Some((indent, key))) {
        Some(at) => lines[at] = line,
        None => {
            lines[start] = "agent:".to_owned();
            lines.insert(start + 1, line);
        }
    }
    Ok(format!("{}\n", lines.join("\n")))
}

/// The indent and name of the key on a line, if there is one.
fn key_of(line: &str) -> Option<(usize, &str)> {
    let trimmed = line.trim_start_matches(' ');
    let (name, _) = trimmed.split_once(':')?;
    let plain = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    plain.then_some((line.len() - trimmed.len(), name))
}

/// Whether a block that began at indent 0 is over on this line.
fn ends_block(line: &str) -> bool {
    !line.is_empty() && !line.starts_with([' ', '\t', '#'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> String {
        with_agent_key(text, "authtoken", "pc1.x").unwrap()
    }

    #[test]
    fn a_key_is_set_and_the_rest_stays() {
        for (before, after) in [
            ("", "version: 3\nagent:\n    authtoken: \"pc1.x\"\n"),
            (
                "version: 3\n",
                "version: 3\nagent:\n    authtoken: \"pc1.x\"\n",
            ),
            (
                "# mine\nagent:\n  # first\n  metadata: m\n  authtoken: old\nendpoints: []\n",
                "# mine\nagent:\n  # first\n  metadata: m\n  authtoken: \"pc1.x\"\nendpoints: []\n",
            ),
            (
                "agent:\n  log: false\n\nendpoints:\n  - name: authtoken\n",
                "agent:\n  authtoken: \"pc1.x\"\n  log: false\n\nendpoints:\n  - name: authtoken\n",
            ),
            (
                "agent: # empty\nversion: 3\n",
                "agent:\n    authtoken: \"pc1.x\"\nversion: 3\n",
            ),
        ] {
            assert_eq!(set(before), after);
            assert_eq!(set(&set(before)), after, "twice is once");
        }
    }

    #[test]
    fn what_cannot_be_edited_is_left_alone() {
        assert!(with_agent_key("agent: {log: false}\n", "authtoken", "x").is_err());
        assert!(with_agent_key("", "authtoken", "a\"b").is_err());
        assert!(with_agent_key("", "authtoken", "").is_err());
    }
}
