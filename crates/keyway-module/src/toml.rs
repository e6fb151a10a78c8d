//! The part of TOML that the module's file needs: comments and `key = value`, where a value is a text in quotes, an
//! array of such texts, which may go over several lines, or a word without quotes, such as true.

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A text in quotes, without escapes.
    Text(String),
    /// An array of texts.
    Texts(Vec<String>),
    /// A word or whole number without quotes.
    Word(String),
}

/// A line `key = value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The line on which it begins, from 1.
    pub line: usize,
    /// What is before the equals sign.
    pub key: String,
    /// What is behind it.
    pub value: Value,
}

/// Reads a file's text.
///
/// # Errors
/// The line, from 1, and what is wrong with it.
pub fn parse(text: &str) -> Result<Vec<Entry>, (usize, String)> {
    let mut reader = Reader { rest: text, line: 1 };
    let mut entries = Vec::new();
    while reader.skip_lines() {
        entries.push(reader.entry().map_err(|problem| (reader.line, problem.to_owned()))?);
    }
    Ok(entries)
}

struct Reader<'t> {
    rest: &'t str,
    line: usize,
}

impl<'t> Reader<'t> {
    /// Goes over spaces, line ends and comments. Whether there is more.
    fn skip_lines(&mut self) -> bool {
        loop {
            self.skip_spaces();
            if self.take('\n') {
                self.line += 1;
            } else if self.rest.starts_with('#') {
                self.rest = &self.rest[self.rest.find('\n').unwrap_or(self.rest.len())..];
            } else {
                return !self.rest.is_empty();
            }
        }
    }

    fn skip_spaces(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r']);
    }

    fn take(&mut self, sign: char) -> bool {
        let rest = self.rest.strip_prefix(sign);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn word(&mut self) -> &'t str {
        let is_part = |sign: char| sign.is_ascii_alphanumeric() || sign == '_' || sign == '-';
        let end = self.rest.find(|sign| !is_part(sign)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn entry(&mut self) -> Result<Entry, &'static str> {
        let line = self.line;
        let key = self.word().to_owned();
        self.skip_spaces();
        if key.is_empty() || !self.take('=') {
            return Err("expected key = value");
        }
        self.skip_spaces();
        let value = self.value()?;
        self.skip_spaces();
        if self.rest.is_empty() || self.rest.starts_with(['\n', '#']) {
            Ok(Entry { line, key, value })
        } else {
            Err("there is more than one value on the line")
        }
    }

    fn value(&mut self) -> Result<Value, &'static str> {
        if self.rest.starts_with(['"', '\'']) {
            return Ok(Value::Text(self.text()?));
        }
        if self.take('[') {
            return self.texts();
        }
        match self.word() {
            "" => Err("expected a text in quotes, an array of texts, true or false"),
            word => Ok(Value::Word(word.to_owned())),
        }
    }

    /// The rest of an array.
    fn texts(&mut self) -> Result<Value, &'static str> {
        let mut texts = Vec::new();
        loop {
            self.skip_lines();
            if self.take(']') {
                return Ok(Value::Texts(texts));
            }
            texts.push(self.text()?);
            self.skip_lines();
            if !self.take(',') && !self.rest.starts_with(']') {
                return Err("expected , or ] after a text of an array");
            }
        }
    }

    fn text(&mut self) -> Result<String, &'static str> {
        let quote = self.rest.chars().next().filter(|first| matches!(first, '"' | '\''));
        let quote = quote.ok_or("expected a text in quotes")?;
        let line = self.rest.lines().next().unwrap_or_default();
        let (text, _) = line[1..].split_once(quote).ok_or("the quotes are not closed")?;
        if quote == '"' && text.contains('\\') {
            return Err("escapes are not understood; use single quotes for a text with a backslash");
        }
        self.rest = &self.rest[text.len() + 2..];
        Ok(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    fn word(word: &str) -> Value {
        Value::Word(word.to_owned())
    }

    fn texts(texts: &[&str]) -> Value {
        Value::Texts(texts.iter().map(|text| (*text).to_owned()).collect())
    }

    /// The value of the only entry.
    fn value(source: &str) -> Value {
        let entries = parse(source).expect(source);
        assert_eq!(entries.len(), 1, "{source}");
        assert_eq!(entries[0].key, "key");
        entries[0].value.clone()
    }

    #[test]
    fn values_are_texts_arrays_and_words() {
        assert_eq!(value("key = 'a b#c'  # the daemon\n"), text("a b#c"));
        assert_eq!(value("key=\"it's\""), text("it's"));
        assert_eq!(value("key = '\\'"), text("\\"));
        assert_eq!(value("key = ''"), text(""));
        assert_eq!(value("key = true\r\n"), word("true"));
        assert_eq!(value("key = -1 # not"), word("-1"));
        assert_eq!(value("key = []"), texts(&[]));
        assert_eq!(value("key = ['a', \"b\"]"), texts(&["a", "b"]));
        assert_eq!(
            value("key = [ # these\n  'a',\n\n  'b', # and\n] # no more"),
            texts(&["a", "b"])
        );
    }

    #[test]
    fn entries_tell_their_lines() {
        let entries = parse("# where\n\n  a = ['x',\n 'y']\nb = true\n# nothing").expect("entries");
        let lines: Vec<_> = entries.iter().map(|entry| (entry.line, entry.key.as_str())).collect();
        assert_eq!(lines, [(3, "a"), (5, "b")]);
        assert_eq!(parse("# nothing\n"), Ok(Vec::new()));
    }

    #[test]
    fn a_wrong_line_is_told_by_its_number() {
        for source in [
            "\nkey",
            "\nkey = ",
            "\nkey = /x",
            "\nkey = \"x",
            "\nkey = \"x\ny\"",
            "\nkey = \"x\" y",
            "\nkey = \"\\x\"",
            "\nkey = 1.5",
            "\nkey = @",
            "\n[module]",
            "\n= 'x'",
            "\na.b = 'x'",
            "key = [\n1]",
            "key = ['a'\n'b']",
            "key = ['a',\n",
            "key = ['a'\n",
        ] {
            let (line, problem) = parse(source).expect_err(source);
            assert_eq!(line, 2, "{source:?}: {problem}");
        }
    }

    #[test]
    fn whatever_is_in_it_there_is_a_result() {
        let source = "# one\naddress = [\"unix:/a\", 'b' , # two\n]\nca='/ca.pem'\r\n insecure = true # three";
        let odd = [
            "", "é", "\"", "'", "[", "]", "#", "\n", "=", ",", "\\", "\0", "\u{2028}",
        ];
        for (start, sign) in source.char_indices() {
            for other in odd {
                let changed = [&source[..start], other, &source[start + sign.len_utf8()..]].concat();
                let lines = changed.lines().count().max(1);
                if let Err((line, problem)) = parse(&changed) {
                    assert!((1..=lines + 1).contains(&line), "{changed:?}: {line}: {problem}");
                }
            }
        }
    }
}
