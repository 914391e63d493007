//! Commands as they are typed: virsh's grammar.

use crate::command::{Arguments, Command, Naming, Opt, OptKind, find};

/// A command to be run.
#[derive(Debug)]
pub(crate) struct Invocation {
    pub(crate) command: &'static Command,
    pub(crate) arguments: Arguments,
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// A piece of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    /// `;`, the end of a line, or a comment.
    End,
}

/// The commands in a line. A command is ended by `;`, a line's end, or a comment.
pub(crate) fn parse_line(line: &str) -> Result<Vec<Invocation>, String> {
    let mut invocations = Vec::new();
    let mut words = Vec::new();
    for token in tokens(line)?.into_iter().chain([Token::End]) {
        match token {
            Token::Word(word) => words.push(word),
            Token::End if words.is_empty() => {}
            Token::End => invocations.extend(parse_words(&std::mem::take(&mut words))?),
        }
    }
    Ok(invocations)
}

/// The command that these words are; nothing if they are a comment.
pub(crate) fn parse_words(words: &[String]) -> Result<Option<Invocation>, String> {
    let Some((name, words)) = words.split_first() else { return Ok(None) };
    if name.starts_with('#') {
        return Ok(None);
    }
    let command = find(name).ok_or_else(|| format!("unknown command: '{name}'"))?;
    let mut parser = Parser { command, arguments: Arguments::default(), wants_help: false };
    parser.read(words)?;
    if parser.wants_help {
        let mut arguments = Arguments::default();
        arguments.values.insert("command", command.name.to_owned());
        return Ok(find("help").map(|command| Invocation { command, arguments }));
    }
    parser.check()?;
    Ok(Some(Invocation { command, arguments: parser.arguments }))
}

struct Parser {
    command: &'static Command,
    arguments: Arguments,
    wants_help: bool,
}

impl Parser {
    fn read(&mut self, words: &[String]) -> Result<(), String> {
        // `help` takes whatever follows and looks at its first word only.
        let is_help = self.command.name == "help";
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let Some(option) = word.strip_prefix("--") else {
                self.take_positional(word, is_help)?;
                continue;
            };
            if option.is_empty() {
                for word in words.by_ref() {
                    self.take_positional(word, is_help)?;
                }
                return Ok(());
            }
            let (name, value) = match option.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (option, None),
            };
            if name == "help" {
                self.wants_help = true;
                continue;
            }
            let option = match self.option(name) {
                Ok(option) => option,
                Err(_) if is_help => continue,
                Err(message) => return Err(message),
            };
            let value = match option.kind {
                OptKind::Flag if value.is_some() => {
                    return Err(format!("invalid '=' after option --{name}"));
                }
                OptKind::Flag => String::new(),
                _ => match value.or_else(|| words.next().map(String::as_str)) {
                    Some(value) => value.to_owned(),
                    None => return Err(self.expected(option)),
                },
            };
            self.set(option, value);
        }
        Ok(())
    }

    fn expected(&self, option: &Opt) -> String {
        let kind = if option.kind == OptKind::Number { "number" } else { "string" };
        format!("expected syntax: --{} <{kind}>", option.name)
    }

    fn option(&self, name: &str) -> Result<&'static Opt, String> {
        let option = self
            .command
            .options
            .iter()
            .find(|option| option.name == name)
            .ok_or_else(|| format!("command '{}' doesn't support option --{name}", self.command.name))?;
        if self.is_set(option) && option.kind != OptKind::Words {
            return Err(format!("option --{name} already seen"));
        }
        Ok(option)
    }

    fn take_positional(&mut self, word: &str, is_help: bool) -> Result<(), String> {
        let is_free = |option: &&Opt| {
            option.naming != Naming::Always && (option.kind == OptKind::Words || !self.is_set(option))
        };
        let next = self.command.options.iter().find(is_free);
        match next {
            Some(option) => self.set(option, word.to_owned()),
            None if is_help => {}
            None => return Err(format!("unexpected data '{word}'")),
        }
        Ok(())
    }

    fn is_set(&self, option: &Opt) -> bool {
        self.arguments.values.contains_key(option.name)
    }

    fn set(&mut self, option: &'static Opt, value: String) {
        match option.kind {
            OptKind::Words => self.arguments.words.push(value),
            _ => {
                self.arguments.values.insert(option.name, value);
            }
        }
    }

    fn check(&self) -> Result<(), String> {
        match self.command.options.iter().find(|option| option.required && !self.is_set(option)) {
            None => Ok(()),
            Some(option) => Err(format!("command '{}' requires <{}> option", self.command.name, option.name)),
        }
    }
}

/// Splits a line as virsh does: blanks separate, quotes and backslashes keep together.
fn tokens(line: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = line.chars().peekable();
    loop {
        while rest.next_if(|c| matches!(c, ' ' | '\t')).is_some() {}
        match rest.peek().copied() {
            None => return Ok(tokens),
            Some(';' | '\n') => {
                rest.next();
                tokens.push(Token::End);
            }
            Some('#') => {
                while rest.next_if(|c| *c != '\n').is_some() {}
                tokens.push(Token::End);
            }
            Some('\\') if rest.clone().nth(1) == Some('\n') => {
                rest.nth(1);
            }
            Some(_) => tokens.push(Token::Word(word(&mut rest)?)),
        }
    }
}

fn word(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<String, String> {
    let mut word = String::new();
    let mut quote = None;
    while let Some(&c) = rest.peek() {
        match (quote, c) {
            (None, ' ' | '\t' | ';' | '\n') => break,
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (None | Some('"'), '\\') => {
                rest.next();
                match rest.peek() {
                    None => return Err("dangling \\".to_owned()),
                    Some('\n') => {}
                    Some(&c) => word.push(c),
                }
            }
            (_, c) => word.push(c),
        }
        rest.next();
    }
    match quote {
        Some('"') => Err("missing \"".to_owned()),
        _ => Ok(word),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<Token> {
        tokens(line).unwrap()
    }

    #[test]
    fn quoting() {
        let word = |text: &str| Token::Word(text.to_owned());
        assert_eq!(words("a 'b c' \"d\\\"e\" f\\ g"), [word("a"), word("b c"), word("d\"e"), word("f g")]);
        assert_eq!(
            words("a;b # c\nd"),
            [word("a"), Token::End, word("b"), Token::End, Token::End, word("d")]
        );
        assert_eq!(words("a\\\n b"), [word("a"), word("b")]);
        assert_eq!(words("'a;b'"), [word("a;b")]);
        assert_eq!(tokens("a\\").unwrap_err(), "dangling \\");
        assert_eq!(tokens("\"a").unwrap_err(), "missing \"");
    }

    #[test]
    fn virshs_grammar() {
        for (line, message) in [
            ("foo", "unknown command: 'foo'"),
            ("vol-list", "command 'vol-list' requires <pool> option"),
            ("pool-list --foo", "command 'pool-list' doesn't support option --foo"),
            ("vol-info a --pool", "expected syntax: --pool <string>"),
            ("vol-upload a b --offset", "expected syntax: --offset <number>"),
            ("vol-info a --bytes=3", "invalid '=' after option --bytes"),
            ("vol-info a --pool p --pool p", "option --pool already seen"),
            ("pool-info p extra", "unexpected data 'extra'"),
        ] {
            assert_eq!(parse_line(line).unwrap_err(), message, "{line}");
        }
        let parsed = parse_line("vol-info --pool p v --bytes; pool-list # all").unwrap();
        assert_eq!(parsed.len(), 2);
        assert_eq!(parsed[0].arguments.values["vol"], "v");
        let parsed = parse_line("vol-info -- --odd --pool").unwrap();
        assert_eq!(parsed[0].arguments.values["vol"], "--odd");
        assert_eq!(parsed[0].arguments.values["pool"], "--pool");
        assert_eq!(parse_line("vol-info --help").unwrap()[0].command.name, "help");
        assert!(parse_line("# nothing\n\n;;").unwrap().is_empty());
    }
}
