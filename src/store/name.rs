//! Names of stores that follow the clock: `flows-%Y%m%d.db` is another file each day.
//!
//! Only the name of the file is a format (strftime(3)), never a folder above it: a folder that nobody made would keep a
//! recording from going on at midnight.

use std::ffi::OsStr;
use std::fs::Metadata;
use std::path::{Path, PathBuf};

use jiff::Zoned;
use jiff::fmt::strtime::BrokenDownTime;

use super::StoreError;

/// Where a store is at what time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameFormat {
    folder: PathBuf,
    format: String,
}

impl NameFormat {
    /// Reads the name of a store; `None` if it has no `%` in the name of its file and is one file for ever.
    ///
    /// # Errors
    /// [`StoreError::BadName`] for a directive that is not in the table of this module, or a name that is not UTF-8.
    pub fn of(path: &Path) -> Result<Option<Self>, StoreError> {
        let name = path.file_name().unwrap_or_default();
        if !name.as_encoded_bytes().contains(&b'%') {
            return Ok(None);
        }
        let bad = |why| StoreError::BadName { path: path.to_owned(), why };
        let format = name.to_str().ok_or_else(|| bad("it is not UTF-8".to_owned()))?;
        for part in parts(format) {
            if let Part::Directive(letter) = part
                && made_by(letter).is_none()
            {
                let known = MADE.iter().map(|(letter, _)| format!("%{letter}")).collect::<Vec<_>>();
                let found = letter.map_or_else(|| "a % at its end".to_owned(), |letter| format!("%{letter}"));
                return Err(bad(format!("it has {found}; known are {}, and %% for a %", known.join(" "))));
            }
        }
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        Ok(Some(Self { folder, format: format.to_owned() }))
    }

    /// The file for this moment, by the clock of its zone.
    ///
    /// # Errors
    /// [`StoreError::BadName`] if the moment has no such name, which no directive of the table leads to.
    pub fn at(&self, now: &Zoned) -> Result<PathBuf, StoreError> {
        let name = BrokenDownTime::from(now).to_string(&self.format);
        let bad = |why| StoreError::BadName { path: self.folder.join(&self.format), why };
        match name {
            Ok(name) => Ok(self.folder.join(name)),
            Err(error) => Err(bad(error.to_string())),
        }
    }

    /// A glob (crate `glob`) for all files that it makes.
    #[must_use]
    pub fn pattern(&self, escape: impl Fn(&str) -> String) -> PathBuf {
        let mut pattern = String::new();
        for part in parts(&self.format) {
            match part {
                Part::Literal(text) => pattern += &escape(text),
                Part::Directive(letter) => match made_by(letter).unwrap_or("*") {
                    // Two of them in a row mean something else.
                    "*" if pattern.ends_with('*') => {}
                    made => pattern += made,
                },
            }
        }
        let folder = self.folder.to_str().map(escape).unwrap_or_default();
        Path::new(&folder).join(OsStr::new(&pattern))
    }

    /// Of the files that it makes, the one that was written last.
    #[must_use]
    pub fn newest(&self) -> Option<PathBuf> {
        let found = glob::glob(self.pattern(glob::Pattern::escape).to_str()?).ok()?;
        let written =
            |path: &PathBuf| std::fs::metadata(path).ok().filter(Metadata::is_file)?.modified().ok();
        // A `*` finds what SQLite keeps beside a database, too.
        let is_beside =
            |path: &PathBuf| BESIDE.iter().any(|end| path.as_os_str().as_encoded_bytes().ends_with(end));
        let stores = found.flatten().filter(|path| !is_beside(path));
        stores.filter_map(|path| Some((written(&path)?, path))).max().map(|(_, path)| path)
    }
}

const BESIDE: [&[u8]; 5] = [b"-wal", b"-shm", b"-journal", b"-lock", b"-new"];

enum Part<'a> {
    Literal(&'a str),
    /// The letter behind a `%`; `None` at the end of the text.
    Directive(Option<char>),
}

fn parts(format: &str) -> impl Iterator<Item = Part<'_>> {
    let mut rest = format;
    std::iter::from_fn(move || {
        let Some(after) = rest.strip_prefix('%') else {
            let end = rest.find('%').unwrap_or(rest.len());
            let (literal, after) = rest.split_at(end);
            rest = after;
            return (!literal.is_empty()).then_some(Part::Literal(literal));
        };
        let letter = after.chars().next();
        let (of_letter, behind) = after.split_at(letter.map_or(0, char::len_utf8));
        rest = behind;
        Some(if letter == Some('%') { Part::Literal(of_letter) } else { Part::Directive(letter) })
    })
}

fn made_by(letter: Option<char>) -> Option<&'static str> {
    MADE.iter().find(|(known, _)| Some(*known) == letter).map(|(_, made)| *made)
}

/// The directives, and what each makes, as a glob. None makes a slash.
const MADE: &[(char, &str)] = &[
    ('Y', "[0-9][0-9][0-9][0-9]"),
    ('y', "[0-9][0-9]"),
    ('m', "[0-9][0-9]"),
    ('d', "[0-9][0-9]"),
    ('H', "[0-9][0-9]"),
    ('M', "[0-9][0-9]"),
    ('S', "[0-9][0-9]"),
    ('F', "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]"),
    ('j', "[0-9][0-9][0-9]"),
    ('G', "[0-9][0-9][0-9][0-9]"),
    ('V', "[0-9][0-9]"),
    ('u', "[0-9]"),
    ('a', "*"),
    ('b', "*"),
    ('s', "*"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn made(name: &str, at: &str) -> String {
        let format = NameFormat::of(Path::new(name)).unwrap().unwrap();
        format.at(&at.parse().unwrap()).unwrap().to_str().unwrap().to_owned()
    }

    #[test]
    fn the_clock_makes_the_name() {
        let at = "2026-11-22T09:05:07+01:00[Europe/Berlin]";
        assert_eq!(made("/x/%y/flows-%Y%m%d.db", at), "/x/%y/flows-20261122.db");
        assert_eq!(made("%F_%H%M%S 100%%.db", at), "2026-11-22_090507 100%.db");
        assert_eq!(made("%G-w%V-%u-%a-%j", at), "2026-w47-7-Sun-326");
        assert_eq!(NameFormat::of(Path::new("/a%b/flows.db")).unwrap(), None);
    }

    #[test]
    fn what_no_clock_can_make_is_refused() {
        for bad in ["%", "a%", "%Q", "%-d", "%n", "%é", "a%/../b%T"] {
            let error = NameFormat::of(Path::new(bad)).unwrap_err().to_string();
            assert!(error.contains("known are %Y"), "{bad}: {error}");
        }
    }

    /// Whatever a format makes, its glob finds it, and not what only looks alike.
    #[test]
    fn the_glob_finds_what_the_clock_makes() {
        let at = "2026-11-02T09:05:07Z[UTC]";
        for name in ["flows-%Y%m%d.db", "[x]*%F-%H%M%S.db", "%G%V%u%y%j", "%a%b%s%%.db"] {
            let format = NameFormat::of(Path::new(name)).unwrap().unwrap();
            let pattern = format.pattern(glob::Pattern::escape);
            let pattern = glob::Pattern::new(pattern.to_str().unwrap()).unwrap();
            assert!(pattern.matches(&made(name, at)), "{name}: {pattern}");
        }
        let format = NameFormat::of(Path::new("a/flows-%Y.db")).unwrap().unwrap();
        let pattern = format.pattern(glob::Pattern::escape);
        let pattern = glob::Pattern::new(pattern.to_str().unwrap()).unwrap();
        assert!(!pattern.matches("a/flows-old.db") && !pattern.matches("a/flows-2026.db-wal"));
    }
}
