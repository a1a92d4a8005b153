//! Which language a text is in.
//!
//! Three steps, from what is certain to what has to be guessed:
//!
//! 1. A census of scripts. Han, kana and Hangul say Chinese, Japanese or Korean also in pages full of English
//!    terms, which is where detectors that look at the most frequent script go wrong: a Han character counts
//!    as three letters, being about half a word.
//! 2. Latin text is cut into pieces and `whichlang` votes on each: it is accurate and costs a few
//!    microseconds, but knows 16 languages, and takes any other for one of them. So the winner must also show
//!    the little words that no running text of it is without. Half of the sample is enough where all its
//!    pieces agree. Before that, some languages that it does not know show by little words of their own.
//! 3. Where none of this is clear, or the script is another one, `whatlang` decides: 70 languages at ten times
//!    the cost.

mod function_words;

use function_words::FunctionWords;

/// A detected language.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Language {
    /// The ISO 639-1 code: `en`, `zh`, `de`, …
    pub code: &'static str,
    /// How sure the answer is, from 0.0 to 1.0: the share of the text, or of its pieces, that says so. No
    /// probability.
    pub confidence: f64,
}

/// How much of the text is looked at.
const SAMPLE_BYTES: usize = 2048;
/// How much of a Latin text is looked at first.
const FIRST_LOOK_BYTES: usize = 1024;
/// The length of the pieces of a Latin text, about forty words.
const PIECE_BYTES: usize = 256;
/// How much of the text `whatlang` gets.
const SECOND_OPINION_BYTES: usize = 512;
/// From here on the pieces agree well enough.
const CLEAR_MAJORITY: f64 = 0.75;
/// From here on `whatlang` is right more often than not about text that `whichlang` could not place.
const SURE_SECOND_OPINION: f64 = 0.3;
/// What is left of the confidence in an answer that nothing else supports.
const DOUBT: f64 = 0.5;
/// Detects the main language of `text` from its first 2 KiB; nothing if it has no letters.
///
/// ```
/// use tricorne_text::language;
///
/// assert_eq!(language("The quick brown fox jumps over the lazy dog.").unwrap().code, "en");
/// assert_eq!(language("在 Apache 中设置 VirtualHost").unwrap().code, "zh");
/// assert_eq!(language("42"), None);
/// ```
#[must_use]
pub fn language(text: &str) -> Option<Language> {
    let sample = prefix(text, SAMPLE_BYTES);
    let census = Census::of(sample);
    let east_asian = (census.han + census.kana + census.hangul) * 3;
    let all = east_asian + census.latin + census.other;
    if all == 0 {
        return None;
    }
    // Such pages are full of English terms; English pages have little of these scripts.
    if east_asian * 4 >= all {
        let code = if census.hangul >= census.han + census.kana {
            "ko"
        } else if census.kana * 10 >= census.han {
            "ja"
        } else {
            "zh"
        };
        return Some(Language { code, confidence: east_asian as f64 / all as f64 });
    }
    if census.latin < census.other {
        return second_opinion(sample);
    }
    let function_words = FunctionWords::get();
    if sample.len() > FIRST_LOOK_BYTES {
        let first_look = prefix(sample, FIRST_LOOK_BYTES);
        let tally = function_words.tally(first_look);
        if !tally.hints_at_another() {
            let vote = vote(first_look);
            if vote.confidence >= 1.0 && tally.is_running_text_in(vote.code) {
                return Some(vote);
            }
        }
    }
    let tally = function_words.tally(sample);
    if let Some((code, confidence)) = tally.unmistakable() {
        return Some(Language { code, confidence });
    }
    let vote = vote(sample);
    if vote.confidence >= CLEAR_MAJORITY && tally.is_running_text_in(vote.code) {
        return Some(vote);
    }
    match second_opinion(sample) {
        Some(second) if second.code == vote.code || second.confidence >= SURE_SECOND_OPINION => Some(second),
        // Two guesses that differ: the better detector's, for what it is worth.
        _ => Some(Language { confidence: vote.confidence * DOUBT, ..vote }),
    }
}

/// Letters by the kind of script.
#[derive(Debug, Default)]
struct Census {
    latin: usize,
    han: usize,
    kana: usize,
    hangul: usize,
    other: usize,
}

impl Census {
    fn of(text: &str) -> Self {
        let bytes = text.as_bytes();
        let ascii = bytes.iter().filter(|byte| byte.is_ascii_alphabetic()).count();
        let mut census = Self { latin: ascii, ..Self::default() };
        let mut at = 0;
        while let Some(ascii_bytes) = bytes[at..].iter().position(|byte| !byte.is_ascii()) {
            at += ascii_bytes;
            let ch = text[at..].chars().next().expect("a character begins here");
            at += ch.len_utf8();
            match ch {
                'À'..='ɏ' | 'Ḁ'..='ỿ' => census.latin += 1,
                '\0'..='\u{bf}' => {}
                '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{323af}' => {
                    census.han += 1;
                }
                '\u{3041}'..='\u{30ff}' | '\u{31f0}'..='\u{31ff}' | '\u{ff66}'..='\u{ff9f}' => {
                    census.kana += 1;
                }
                '\u{1100}'..='\u{11ff}' | '\u{ac00}'..='\u{d7ff}' => census.hangul += 1,
                _ => census.other += usize::from(ch.is_alphabetic()),
            }
        }
        census
    }
}

/// The language of most pieces.
fn vote(sample: &str) -> Language {
    // A sample has at most eight pieces.
    let mut votes: Vec<(&'static str, usize)> = Vec::with_capacity(SAMPLE_BYTES / PIECE_BYTES);
    let mut piece_count = 0;
    let mut rest = sample;
    while !rest.is_empty() {
        let end = if rest.len() < PIECE_BYTES * 3 / 2 { rest.len() } else { prefix(rest, PIECE_BYTES).len() };
        let (piece, after) = rest.split_at(end);
        rest = after;
        if piece.bytes().any(|byte| byte.is_ascii_alphabetic()) {
            piece_count += 1;
            let code = short_code(whichlang::detect_language(piece).three_letter_code());
            match votes.iter_mut().find(|(known, _)| *known == code) {
                Some((_, vote_count)) => *vote_count += 1,
                None => votes.push((code, 1)),
            }
        }
    }
    // On a tie, the first code in the alphabet.
    let (code, vote_count) =
        votes.into_iter().max_by(|a, b| a.1.cmp(&b.1).then(b.0.cmp(a.0))).unwrap_or(("en", 0));
    Language { code, confidence: vote_count as f64 / f64::from(piece_count.max(1)) }
}

fn second_opinion(sample: &str) -> Option<Language> {
    let info = whatlang::detect(prefix(sample, SECOND_OPINION_BYTES))?;
    Some(Language { code: short_code(info.lang().code()), confidence: info.confidence() })
}

/// At most this many bytes of the text, whole characters only.
fn prefix(text: &str, max_bytes: usize) -> &str {
    &text[..text.floor_char_boundary(max_bytes)]
}

/// The ISO 639-1 code for a code of ISO 639-3; languages without one keep the longer code.
fn short_code(code: &'static str) -> &'static str {
    const CODES: &[(&str, &str)] = &[
        ("afr", "af"),
        ("aka", "ak"),
        ("amh", "am"),
        ("ara", "ar"),
        ("aze", "az"),
        ("bel", "be"),
        ("ben", "bn"),
        ("bul", "bg"),
        ("cat", "ca"),
        ("ces", "cs"),
        ("cmn", "zh"),
        ("cym", "cy"),
        ("dan", "da"),
        ("deu", "de"),
        ("ell", "el"),
        ("eng", "en"),
        ("epo", "eo"),
        ("est", "et"),
        ("fin", "fi"),
        ("fra", "fr"),
        ("guj", "gu"),
        ("heb", "he"),
        ("hin", "hi"),
        ("hrv", "hr"),
        ("hun", "hu"),
        ("hye", "hy"),
        ("ind", "id"),
        ("ita", "it"),
        ("jav", "jv"),
        ("jpn", "ja"),
        ("kan", "kn"),
        ("kat", "ka"),
        ("khm", "km"),
        ("kor", "ko"),
        ("lat", "la"),
        ("lav", "lv"),
        ("lit", "lt"),
        ("mal", "ml"),
        ("mar", "mr"),
        ("mkd", "mk"),
        ("mya", "my"),
        ("nep", "ne"),
        ("nld", "nl"),
        ("nob", "nb"),
        ("ori", "or"),
        ("pan", "pa"),
        ("pes", "fa"),
        ("pol", "pl"),
        ("por", "pt"),
        ("ron", "ro"),
        ("rus", "ru"),
        ("sin", "si"),
        ("slk", "sk"),
        ("slv", "sl"),
        ("sna", "sn"),
        ("spa", "es"),
        ("srp", "sr"),
        ("swe", "sv"),
        ("tam", "ta"),
        ("tel", "te"),
        ("tgl", "tl"),
        ("tha", "th"),
        ("tuk", "tk"),
        ("tur", "tr"),
        ("ukr", "uk"),
        ("urd", "ur"),
        ("uzb", "uz"),
        ("vie", "vi"),
        ("yid", "yi"),
        ("zul", "zu"),
    ];
    CODES.binary_search_by_key(&code, |(long, _)| long).map_or(code, |found| CODES[found].1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A few sentences each, on the same subject, in languages that both, one or none of the detectors know
    /// well.
    const SAMPLES: &[(&str, &str)] = &[
        (
            "en",
            "The library is open every day except Sunday. You can borrow up to ten books at a time, and if nobody else has asked for them you may keep them for a month.",
        ),
        (
            "de",
            "Die Bibliothek ist außer sonntags jeden Tag geöffnet. Man kann bis zu zehn Bücher ausleihen, und wenn sonst niemand nach ihnen fragt, darf man sie einen Monat behalten.",
        ),
        (
            "fr",
            "La bibliothèque est ouverte tous les jours sauf le dimanche. On peut emprunter jusqu'à dix livres à la fois et les garder un mois si personne d'autre ne les demande.",
        ),
        (
            "es",
            "La biblioteca abre todos los días menos el domingo. Se pueden llevar hasta diez libros a la vez, y si nadie más los ha pedido se pueden tener durante un mes.",
        ),
        (
            "pt",
            "A biblioteca está aberta todos os dias, exceto aos domingos. Você pode levar até dez livros de cada vez e, se ninguém mais os pediu, ficar com eles durante um mês.",
        ),
        (
            "it",
            "La biblioteca è aperta tutti i giorni tranne la domenica. Si possono prendere in prestito fino a dieci libri e tenerli per un mese se nessun altro li ha chiesti.",
        ),
        (
            "nl",
            "De bibliotheek is elke dag open behalve op zondag. Je kunt tot tien boeken tegelijk lenen en als niemand anders erom heeft gevraagd mag je ze een maand houden.",
        ),
        (
            "sv",
            "Biblioteket är öppet varje dag utom söndag. Man kan låna upp till tio böcker åt gången, och om ingen annan har frågat efter dem får man behålla dem i en månad.",
        ),
        (
            "da",
            "Biblioteket har åbent hver dag undtagen søndag. Man kan låne op til ti bøger ad gangen, og hvis ingen andre har spurgt efter dem, må man beholde dem i en måned.",
        ),
        (
            "tr",
            "Kütüphane pazar hariç her gün açıktır. Bir defada en fazla on kitap ödünç alabilirsiniz ve başka kimse istemediyse onları bir ay boyunca tutabilirsiniz.",
        ),
        (
            "pl",
            "Biblioteka jest otwarta codziennie oprócz niedzieli. Można wypożyczyć do dziesięciu książek naraz, a jeśli nikt inny o nie nie poprosił, można je zatrzymać przez miesiąc.",
        ),
        (
            "cs",
            "Knihovna je otevřena každý den kromě neděle. Najednou si můžete půjčit až deset knih, a pokud o ně nikdo jiný nepožádal, můžete si je nechat celý měsíc.",
        ),
        (
            "fi",
            "Kirjasto on avoinna joka päivä paitsi sunnuntaisin. Kerralla voi lainata enintään kymmenen kirjaa, ja jos kukaan muu ei ole pyytänyt niitä, ne saa pitää kuukauden.",
        ),
        (
            "hu",
            "A könyvtár vasárnap kivételével minden nap nyitva van. Egyszerre legfeljebb tíz könyvet lehet kölcsönözni, és ha más nem kérte őket, egy hónapig lehet megtartani.",
        ),
        (
            "ro",
            "Biblioteca este deschisă în fiecare zi, cu excepția zilei de duminică. Puteți împrumuta până la zece cărți deodată și, dacă nimeni nu le-a cerut, le puteți păstra o lună.",
        ),
        (
            "vi",
            "Thư viện mở cửa mỗi ngày trừ chủ nhật. Bạn có thể mượn tối đa mười cuốn sách một lần, và nếu không có ai khác yêu cầu thì bạn có thể giữ chúng trong một tháng.",
        ),
        (
            "ru",
            "Библиотека открыта каждый день, кроме воскресенья. Можно взять до десяти книг сразу, и если их больше никто не просил, оставить их у себя на месяц.",
        ),
        (
            "uk",
            "Бібліотека відчинена щодня, крім неділі. Можна взяти до десяти книжок одразу, і якщо їх більше ніхто не просив, залишити їх у себе на місяць.",
        ),
        (
            "el",
            "Η βιβλιοθήκη είναι ανοιχτή κάθε μέρα εκτός από την Κυριακή. Μπορείτε να δανειστείτε μέχρι δέκα βιβλία τη φορά και να τα κρατήσετε έναν μήνα.",
        ),
        (
            "ar",
            "المكتبة مفتوحة كل يوم ما عدا يوم الأحد. يمكنك استعارة ما يصل إلى عشرة كتب في المرة الواحدة والاحتفاظ بها لمدة شهر إذا لم يطلبها أحد آخر.",
        ),
        (
            "fa",
            "کتابخانه هر روز به جز یکشنبه باز است. می‌توانید هر بار تا ده کتاب امانت بگیرید و اگر کس دیگری آنها را نخواسته باشد یک ماه نگه دارید.",
        ),
        (
            "he",
            "הספרייה פתוחה בכל יום מלבד יום ראשון. אפשר לשאול עד עשרה ספרים בבת אחת, ואם אף אחד אחר לא ביקש אותם אפשר להחזיק בהם חודש.",
        ),
        (
            "hi",
            "पुस्तकालय रविवार को छोड़कर हर दिन खुला रहता है। आप एक बार में दस किताबें तक ले सकते हैं और अगर किसी और ने नहीं माँगी तो उन्हें एक महीने तक रख सकते हैं।",
        ),
        ("th", "ห้องสมุดเปิดทุกวันยกเว้นวันอาทิตย์ คุณสามารถยืมหนังสือได้ครั้งละสิบเล่ม และถ้าไม่มีใครขอ คุณสามารถเก็บไว้ได้หนึ่งเดือน"),
        ("zh", "图书馆除星期日外每天开放。一次最多可以借十本书，如果没有其他人预约，可以借一个月。"),
        (
            "ja",
            "図書館は日曜日を除いて毎日開いています。一度に十冊まで借りることができ、ほかに希望者がいなければ一か月間借りられます。",
        ),
        (
            "ko",
            "도서관은 일요일을 제외하고 매일 열려 있습니다. 한 번에 열 권까지 빌릴 수 있고 다른 사람이 신청하지 않았다면 한 달 동안 가지고 있을 수 있습니다.",
        ),
    ];

    #[test]
    fn sentences_in_many_languages() {
        let wrong: Vec<_> = SAMPLES
            .iter()
            .filter_map(|&(code, text)| {
                let found = language(text).unwrap();
                (found.code != code).then_some((code, found))
            })
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn longer_text_is_at_least_as_clear() {
        for &(code, text) in SAMPLES {
            let found = language(&text.repeat(20)).unwrap();
            assert_eq!(found.code, code);
            assert!((0.0..=1.0).contains(&found.confidence));
        }
    }

    #[test]
    fn east_asian_text_with_foreign_terms() {
        assert_eq!(language("AuthBasicProvider ディレクティブは provider を設定します").unwrap().code, "ja");
        assert_eq!(language("mod_isapi 모듈은 Windows 용 아파치에서 사용합니다").unwrap().code, "ko");
        assert_eq!(
            language("A page of English with one word of Chinese, 你好, in it, is English.").unwrap().code,
            "en"
        );
    }

    #[test]
    fn no_letters_no_language() {
        for text in ["", " \n", "1 + 1 = 2", "¡¿…", "😀"] {
            assert_eq!(language(text), None, "{text}");
        }
    }

    #[test]
    fn every_code_is_a_short_one() {
        for lang in whatlang::Lang::all() {
            assert_eq!(short_code(lang.code()).len(), 2, "{lang:?}");
        }
        for lang in whichlang::LANGUAGES {
            assert_eq!(short_code(lang.three_letter_code()).len(), 2, "{lang:?}");
        }
    }
}
