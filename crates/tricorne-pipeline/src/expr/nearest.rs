//! Finds the valid word that a misspelt one was probably meant to be.

/// The candidate nearest to `word`, if one is near enough to be worth suggesting.
///
/// Near means few edits for the length of the word (a swap of neighbours is one), or a part of a longer
/// name (`timeout` for `timeout_secs`). Case does not count. Of equally near candidates the first wins.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let length = word.chars().count();
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let lower = candidate.to_lowercase();
        let edits = strsim::damerau_levenshtein(&word, &lower);
        let allowed = (length.min(lower.chars().count()) / 3).max(1);
        let distance = if edits <= allowed {
            edits
        } else if length >= 4 && (lower.starts_with(&word) || word.starts_with(lower.as_str())) {
            // Ranks after real misspellings: a part of a name is a weaker sign.
            allowed + edits
        } else {
            continue;
        };
        if best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// The words as a list for a hint: "`a`, `b` and `c`", joined by `last`.
pub(crate) fn word_list<'a>(words: impl IntoIterator<Item = &'a str>, last: &str) -> String {
    let words: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    match words.split_last() {
        None => String::new(),
        Some((only, [])) => only.clone(),
        Some((end, rest)) => format!("{} {last} {end}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [&str; 5] = ["concurrency", "per_host", "timeout_secs", "retries", "url"];

    #[test]
    fn misspellings_find_their_word() {
        for (word, meant) in [
            ("concurency", "concurrency"),
            ("perhost", "per_host"),
            ("timeout", "timeout_secs"),
            ("Retries", "retries"),
            ("retreis", "retries"),
            ("urls", "url"),
        ] {
            assert_eq!(nearest(word, KEYS), Some(meant), "{word}");
        }
    }

    #[test]
    fn other_words_find_nothing() {
        for word in ["colour", "", "x", "uri_list"] {
            assert_eq!(nearest(word, KEYS), None, "{word}");
        }
    }

    #[test]
    fn lists_read_like_prose() {
        assert_eq!(word_list(["a"], "or"), "`a`");
        assert_eq!(word_list(["a", "b", "c"], "or"), "`a`, `b` or `c`");
    }
}
