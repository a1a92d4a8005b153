//! How well extracted text matches the true text: the metric of the public article extraction benchmark.
//!
//! A text is the multiset of its word 4-grams. Precision is the mean, over the pages with a prediction, of the share of its 4-grams that
//! the truth has too; recall the mean, over the pages with a truth, of the share of its 4-grams that were found; F1 is made of the two means.

use std::collections::HashMap;

/// Words in a gram.
const GRAM: usize = 4;

/// Precision, recall and F1 over many pages.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(crate) struct Score {
    pub(crate) precision: f64,
    pub(crate) recall: f64,
    pub(crate) f1: f64,
}

/// Scores predictions, each with its truth.
pub(crate) fn score<'a>(pages: impl IntoIterator<Item = (&'a str, &'a str)>) -> Score {
    let (mut precisions, mut recalls) = (Mean::default(), Mean::default());
    for (prediction, truth) in pages {
        let (prediction_words, truth_words) = (words(prediction), words(truth));
        let (found, wanted) = (grams(&prediction_words), grams(&truth_words));
        let (found_count, wanted_count) = (found.values().sum::<usize>(), wanted.values().sum::<usize>());
        if found_count == 0 && wanted_count == 0 {
            precisions.add(1.0);
            recalls.add(1.0);
            continue;
        }
        let both: usize =
            found.iter().map(|(gram, &count)| count.min(wanted.get(gram).copied().unwrap_or(0))).sum();
        if found_count > 0 {
            precisions.add(both as f64 / found_count as f64);
        }
        if wanted_count > 0 {
            recalls.add(both as f64 / wanted_count as f64);
        }
    }
    let (precision, recall) = (precisions.value(), recalls.value());
    let f1 = if precision + recall > 0.0 { 2.0 * precision * recall / (precision + recall) } else { 0.0 };
    Score { precision, recall, f1 }
}

#[derive(Default)]
struct Mean {
    sum: f64,
    count: usize,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1;
    }

    fn value(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum / self.count as f64 }
    }
}

/// The runs of letters, digits and underscores.
fn words(text: &str) -> Vec<&str> {
    text.split(|ch: char| !(ch.is_alphanumeric() || ch == '_')).filter(|word| !word.is_empty()).collect()
}

/// How often each gram is there. A text that is shorter than a gram is one gram.
fn grams<'w, 't>(words: &'w [&'t str]) -> HashMap<&'w [&'t str], usize> {
    let mut grams = HashMap::new();
    if !words.is_empty() {
        for gram in words.windows(GRAM.min(words.len())) {
            *grams.entry(gram).or_default() += 1;
        }
    }
    grams
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_perfect_and_others_are_not() {
        let perfect = Score { precision: 1.0, recall: 1.0, f1: 1.0 };
        assert_eq!(score([("one two, three four five", "One two three four five")]).f1, 0.5);
        assert_eq!(score([("a b c d e", "a (b) c\nd – e"), ("", "")]), perfect);
        assert_eq!(score([("x y", "a b c d")]), Score::default());
    }

    #[test]
    fn grams_are_counted_as_often_as_they_occur() {
        // 5 grams predicted, 1 true: found once.
        let score = score([("a a a a a a a a", "a a a a")]);
        assert_eq!((score.precision, score.recall), (0.2, 1.0));
    }

    /// The expected values are those of another implementation of the metric, in Python with `\w+` for words.
    #[test]
    fn the_metric_agrees_with_another_implementation() {
        let score = score([
            (
                "Menu The quick brown fox_1 jumps over a lazy dog; it's 3.5 m – Ünïcode naïve 東京タワー ¼ end. Share",
                "The quick brown fox_1 jumps over the lazy dog; it's 3.5 m – Ünïcode naïve 東京タワー ¼ end.",
            ),
            ("one two three", "one two three"),
            ("", ""),
            ("a b c d a b c d x", "a b c d a b c d a b c d"),
            ("", "only truth here and now"),
        ]);
        for (value, expected) in [
            (score.f1, 0.753_164_556_962_025_3),
            (score.precision, 0.875),
            (score.recall, 0.661_111_111_111_111_1),
        ] {
            assert!((value - expected).abs() < 1e-12, "{value} is not {expected}");
        }
    }

    #[test]
    fn an_empty_side_counts_for_the_other_mean_only() {
        let score = score([("", "a b c d"), ("a b c d", "a b c d")]);
        assert_eq!((score.precision, score.recall), (1.0, 0.5));
        assert!((score.f1 - 2.0 / 3.0).abs() < 1e-12);
    }
}
