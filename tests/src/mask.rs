//! Masks over what was heard: what differs by nature between two connections looks the same behind them.

/// Ids of clients, as HELLO tells them.
#[must_use]
pub fn client_ids(heard: &str) -> String {
    const BEFORE: &str = "$2\\r\\nid\\r\\n:";
    let mut parts = heard.split(BEFORE);
    let mut all = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        all.push_str(BEFORE);
        all.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    all
}

/// All numbers, lengths among them.
#[must_use]
pub fn numbers(heard: &str) -> String {
    let mut masked = String::new();
    for c in heard.chars() {
        if !(c.is_ascii_digit() || c == '.') {
            masked.push(c);
        } else if !masked.ends_with('0') {
            masked.push('0');
        }
    }
    masked
}

/// The order of lines.
#[must_use]
pub fn order(heard: &str) -> String {
    let mut lines: Vec<&str> = heard.split("\\r\\n").collect();
    lines.sort_unstable();
    lines.join(" ")
}

/// Everything but the type of a reply.
#[must_use]
pub fn contents(heard: &str) -> String {
    heard.chars().take(1).collect()
}
