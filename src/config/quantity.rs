//! Sizes, shares, durations and names: each parsed once into a type that can't hold a bad value.
//!
//! What a person writes is what `Display` prints; `FromStr` errors say what was wrong and show a good example. They
//! never repeat the value: where it came from a file, `${NAME}` may have put something into it that belongs in no
//! message.

use serde::Serialize;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Why a text is none of the quantities below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("a size is a number and a unit, such as `4GiB`, `512m` or `1.5g` (powers of 1024), or a number of bytes")]
    NotASize,
    #[error("that unit means powers of 1000 to some and of 1024 to others: write `MiB`, `GiB`, or `m`, `g`")]
    AmbiguousUnit,
    #[error("a size is at least one byte")]
    EmptySize,
    #[error("a size is at most 8EiB")]
    HugeSize,
    #[error("a CPU share is a number of CPUs with at most three decimals, such as `2`, `0.5` or `1.25`")]
    NotACpuShare,
    #[error("a CPU share is at least 0.01 and at most 4000000")]
    CpuShareOutOfRange,
    #[error(
        "a limit of processes is a whole number from {} to {}; Codex alone uses some forty threads",
        PidsLimit::MIN,
        PidsLimit::MAX
    )]
    NotAPidsLimit,
    #[error("a duration is whole numbers with units, largest first, such as `240s`, `30m` or `1h30m` (d, h, m, s)")]
    NotADuration,
    #[error("a duration is at least 1s and at most 365d")]
    DurationOutOfRange,
    #[error("a provider's name is 1 to 64 of `a-z 0-9 - _` and begins with a letter")]
    NotAProviderName,
    #[error("a model's id is 1 to 128 of `A-Z a-z 0-9 . _ - : /`")]
    NotAModelId,
}

/// A number of bytes, at least 1. Written `4GiB`, `4g`, `512m`, `1073741824`; units are powers of 1024, because
/// that is what the engines' `--memory` means by `m` and `g`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct ByteSize(u64);

impl ByteSize {
    /// The units a size is printed in, largest first.
    const UNITS: [(&'static str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    /// What fits the signed 64-bit byte counts of the kernel and the engines.
    const MAX: u64 = i64::MAX as u64;

    pub const fn from_mib(mib: u64) -> Self {
        Self(mib << 20)
    }

    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let text = text.trim();
        let unit_at = text
            .find(|c: char| c != '.' && !c.is_ascii_digit())
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(unit_at);
        let shift = match unit.trim_start().to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kib" => 10,
            "m" | "mib" => 20,
            "g" | "gib" => 30,
            "t" | "tib" => 40,
            "kb" | "mb" | "gb" | "tb" => return Err(QuantityError::AmbiguousUnit),
            _ => return Err(QuantityError::NotASize),
        };
        let decimal = Decimal::parse(number).ok_or(QuantityError::NotASize)?;
        if shift == 0 && decimal.has_fraction() {
            return Err(QuantityError::NotASize);
        }
        match decimal.times(1 << shift) {
            Some(0) => Err(QuantityError::EmptySize),
            Some(bytes) if bytes <= Self::MAX => Ok(Self(bytes)),
            _ => Err(QuantityError::HugeSize),
        }
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, shift) in Self::UNITS {
            if self.0.trailing_zeros() >= shift {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

/// A number of bytes as a person reads it, to a tenth of its unit: `1.9 GiB`, `512 B`. For what was measured; a setting is
/// a [`ByteSize`], which prints exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rounded(pub u64);

impl fmt::Display for Rounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(bytes) = *self;
        match ByteSize::UNITS.iter().find(|(_, shift)| bytes >> shift > 0) {
            Some((unit, shift)) => write!(f, "{:.1} {unit}", bytes as f64 / (1u64 << shift) as f64),
            None => write!(f, "{bytes} B"),
        }
    }
}

/// A share of processor time in thousandths of one CPU, at least 10. Written `2`, `0.5`, `1.25`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct CpuShare(u32);

impl CpuShare {
    pub const fn from_millis(millis: u32) -> Self {
        Self(millis)
    }

    pub const fn millis(self) -> u32 {
        self.0
    }
}

impl FromStr for CpuShare {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let decimal = Decimal::parse(text.trim()).ok_or(QuantityError::NotACpuShare)?;
        // A fourth decimal would be lost without a word.
        if decimal.decimals() > 3 {
            return Err(QuantityError::NotACpuShare);
        }
        let millis = decimal.times(1000).ok_or(QuantityError::CpuShareOutOfRange)?;
        match u32::try_from(millis) {
            Ok(millis) if (10..=4_000_000_000).contains(&millis) => Ok(Self(millis)),
            _ => Err(QuantityError::CpuShareOutOfRange),
        }
    }
}

impl fmt::Display for CpuShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, millis) = (self.0 / 1000, self.0 % 1000);
        if millis == 0 {
            return write!(f, "{whole}");
        }
        let fraction = format!("{millis:03}");
        write!(f, "{whole}.{}", fraction.trim_end_matches('0'))
    }
}

/// How many processes and threads may live at once, at least 64 (Codex alone uses some forty threads).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct PidsLimit(u32);

impl PidsLimit {
    pub const MIN: u32 = 64;
    /// The kernel's own limit (PID_MAX_LIMIT).
    pub const MAX: u32 = 4_194_304;

    pub const fn new(pids: u32) -> Self {
        Self(pids)
    }

    pub const fn get(self) -> u32 {
        self.0
    }
}

impl FromStr for PidsLimit {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        match text.trim().parse() {
            Ok(pids) if (Self::MIN..=Self::MAX).contains(&pids) => Ok(Self(pids)),
            _ => Err(QuantityError::NotAPidsLimit),
        }
    }
}

impl fmt::Display for PidsLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A duration of whole seconds as a person writes it: `240s`, `30m`, `1h30m`, `2d`.
///
/// Bounded to a year, because a deadline is an `Instant` plus this and must not overflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(u64);

impl Period {
    const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];
    const MAX_SECONDS: u64 = 365 * 86_400;

    pub const fn duration(self) -> Duration {
        Duration::from_secs(self.0)
    }
}

/// For printing; a started second counts as a whole one, so that no limit prints as nothing.
impl From<Duration> for Period {
    fn from(duration: Duration) -> Self {
        Self(duration.as_secs() + u64::from(duration.subsec_nanos() > 0))
    }
}

impl FromStr for Period {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let mut rest = text.trim();
        let mut units = Self::UNITS.iter();
        let mut seconds: u64 = 0;
        if rest.is_empty() {
            return Err(QuantityError::NotADuration);
        }
        while !rest.is_empty() {
            let digits = rest
                .find(|c: char| !c.is_ascii_digit())
                .ok_or(QuantityError::NotADuration)?;
            let (number, tail) = rest.split_at(digits);
            let unit = tail.chars().next().ok_or(QuantityError::NotADuration)?;
            // The iterator only moves on: a unit that comes twice or after a smaller one is not found.
            let (_, unit_seconds) = units
                .find(|(name, _)| *name == unit)
                .ok_or(QuantityError::NotADuration)?;
            if number.is_empty() {
                return Err(QuantityError::NotADuration);
            }
            let number: u64 = number.parse().map_err(|_| QuantityError::DurationOutOfRange)?;
            seconds = number
                .checked_mul(*unit_seconds)
                .and_then(|part| seconds.checked_add(part))
                .ok_or(QuantityError::DurationOutOfRange)?;
            rest = &tail[unit.len_utf8()..];
        }
        if (1..=Self::MAX_SECONDS).contains(&seconds) {
            Ok(Self(seconds))
        } else {
            Err(QuantityError::DurationOutOfRange)
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.0;
        for (unit, seconds) in Self::UNITS {
            if rest >= seconds {
                write!(f, "{}{unit}", rest / seconds)?;
                rest %= seconds;
            }
        }
        Ok(())
    }
}

/// The name of a `[providers.NAME]` table: 1 to 64 of `a-z 0-9 - _`, first a letter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct ProviderName(String);

impl ProviderName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ProviderName {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let fits = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-' || c == b'_';
        let begins_well = text.starts_with(|c: char| c.is_ascii_lowercase());
        if begins_well && text.len() <= 64 && text.bytes().all(fits) {
            Ok(Self(text.to_owned()))
        } else {
            Err(QuantityError::NotAProviderName)
        }
    }
}

impl fmt::Display for ProviderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A model's id: 1 to 128 of `A-Z a-z 0-9 . _ - : /`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct ModelId(String);

impl ModelId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ModelId {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let fits = |c: u8| c.is_ascii_alphanumeric() || b"._-:/".contains(&c);
        if !text.is_empty() && text.len() <= 128 && text.bytes().all(fits) {
            Ok(Self(text.to_owned()))
        } else {
            Err(QuantityError::NotAModelId)
        }
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub use super::url::{BaseUrl, Scheme};

/// Decimal digits with at most one point, kept exact: a float would turn `0.29` CPUs into 289 thousandths.
struct Decimal<'a> {
    whole: u64,
    fraction: &'a str,
}

impl<'a> Decimal<'a> {
    /// More decimals than this say nothing about bytes or CPUs, and `10^n` must stay small.
    const MAX_DECIMALS: usize = 9;

    fn parse(text: &'a str) -> Option<Self> {
        let (whole, fraction) = match text.split_once('.') {
            Some((_, "")) => return None,
            Some(parts) => parts,
            None => (text, ""),
        };
        let digits = |part: &str| part.bytes().all(|c| c.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > Self::MAX_DECIMALS {
            return None;
        }
        // Too many digits for a u64 saturate, so that the range check of the caller names the real trouble.
        let whole = whole.parse().unwrap_or(u64::MAX);
        Some(Self { whole, fraction })
    }

    fn has_fraction(&self) -> bool {
        !self.fraction.is_empty()
    }

    fn decimals(&self) -> usize {
        self.fraction.trim_end_matches('0').len()
    }

    /// The number times `unit`, rounded down; `None` where it does not fit.
    fn times(&self, unit: u64) -> Option<u64> {
        let numerator: u128 = if self.fraction.is_empty() {
            0
        } else {
            self.fraction.parse().ok()?
        };
        let denominator = 10_u128.pow(u32::try_from(self.fraction.len()).ok()?);
        let part = u64::try_from(numerator * u128::from(unit) / denominator).ok()?;
        self.whole.checked_mul(unit)?.checked_add(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_measured_is_rounded() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (2_040_109_466, "1.9 GiB"),
            (u64::MAX, "16777216.0 TiB"),
        ] {
            assert_eq!(Rounded(bytes).to_string(), text);
        }
    }
    use proptest::prelude::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, bytes) in [
            ("4GiB", 4 << 30),
            ("4g", 4 << 30),
            ("512m", 512 << 20),
            ("1.5g", 3 << 29),
            ("1073741824", 1 << 30),
            ("1 KiB", 1024),
            ("7b", 7),
            ("0.5k", 512),
        ] {
            assert_eq!(text.parse::<ByteSize>().map(ByteSize::bytes), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn bad_sizes_are_refused_with_the_reason() {
        use QuantityError::{AmbiguousUnit, EmptySize, HugeSize, NotASize};
        for (text, reason) in [
            ("", NotASize),
            ("g", NotASize),
            ("-1g", NotASize),
            ("1.g", NotASize),
            (".5g", NotASize),
            ("1.5", NotASize),
            ("1..5g", NotASize),
            ("4 g b", NotASize),
            ("4GB", AmbiguousUnit),
            ("0", EmptySize),
            ("0.0000001k", EmptySize),
            ("8388608t", HugeSize),
            ("99999999999999999999g", HugeSize),
            ("18446744073709551615", HugeSize),
        ] {
            assert_eq!(text.parse::<ByteSize>(), Err(reason), "{text:?}");
        }
    }

    #[test]
    fn cpu_shares_are_exact() {
        for (text, millis) in [
            ("2", 2000),
            ("0.5", 500),
            ("1.25", 1250),
            ("0.29", 290),
            ("0.01", 10),
            ("2.0000", 2000),
        ] {
            assert_eq!(text.parse::<CpuShare>().map(CpuShare::millis), Ok(millis), "{text}");
        }
        assert_eq!("0.009".parse::<CpuShare>(), Err(QuantityError::CpuShareOutOfRange));
        assert_eq!("0.0001".parse::<CpuShare>(), Err(QuantityError::NotACpuShare));
        assert_eq!("5000000".parse::<CpuShare>(), Err(QuantityError::CpuShareOutOfRange));
        for text in ["", "two", "1e3", "-1", "NaN", "inf"] {
            assert_eq!(text.parse::<CpuShare>(), Err(QuantityError::NotACpuShare), "{text:?}");
        }
    }

    #[test]
    fn a_limit_of_processes_leaves_codex_room() {
        assert_eq!("64".parse(), Ok(PidsLimit::new(64)));
        for text in ["63", "0", "-1", "unlimited", "4194305"] {
            assert_eq!(text.parse::<PidsLimit>(), Err(QuantityError::NotAPidsLimit), "{text:?}");
        }
    }

    #[test]
    fn durations_go_from_large_units_to_small() {
        for (text, seconds) in [
            ("30m", 1800),
            ("8h", 28800),
            ("1h30m", 5400),
            ("240s", 240),
            ("1d1s", 86401),
            ("90m", 5400),
        ] {
            assert_eq!(
                text.parse::<Period>().map(|p| p.duration().as_secs()),
                Ok(seconds),
                "{text}"
            );
        }
        for text in [
            "", "30", "m", "30m1h", "1m1m", "1.5h", "5ms", "-5s", "1h 30m", "1w", "3é",
        ] {
            assert_eq!(text.parse::<Period>(), Err(QuantityError::NotADuration), "{text:?}");
        }
        for text in ["0s", "366d", "99999999999999999999s", "18446744073709551615d"] {
            assert_eq!(
                text.parse::<Period>(),
                Err(QuantityError::DurationOutOfRange),
                "{text:?}"
            );
        }
    }

    #[test]
    fn names_take_no_character_that_could_leave_its_place() {
        assert!("openai".parse::<ProviderName>().is_ok());
        for text in ["", "Open", "1a", "a b", "a/b", "a.b", &"a".repeat(65)] {
            assert_eq!(
                text.parse::<ProviderName>(),
                Err(QuantityError::NotAProviderName),
                "{text:?}"
            );
        }
        assert!("org/model-1.5:latest".parse::<ModelId>().is_ok());
        for text in ["", "a b", "a\"b", "a\n", &"a".repeat(129)] {
            assert_eq!(text.parse::<ModelId>(), Err(QuantityError::NotAModelId), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_printed_size_is_the_same_size(bytes in 1..=ByteSize::MAX, shift in 0_u32..40) {
            let size = ByteSize((bytes >> shift).max(1));
            prop_assert_eq!(size.to_string().parse(), Ok(size));
            let whole = ByteSize(((bytes >> shift).max(1) << (shift / 10 * 10)).clamp(1, ByteSize::MAX));
            prop_assert_eq!(whole.to_string().parse(), Ok(whole));
        }

        #[test]
        fn a_printed_cpu_share_is_the_same_share(millis in 10_u32..4_000_000_000) {
            prop_assert_eq!(CpuShare(millis).to_string().parse(), Ok(CpuShare(millis)));
        }

        #[test]
        fn a_printed_duration_is_the_same_duration(seconds in 1..=Period::MAX_SECONDS) {
            prop_assert_eq!(Period(seconds).to_string().parse(), Ok(Period(seconds)));
        }

        #[test]
        fn no_text_makes_a_parser_panic(text in "\\PC{0,24}") {
            let _ = text.parse::<ByteSize>();
            let _ = text.parse::<CpuShare>();
            let _ = text.parse::<Period>();
            let _ = text.parse::<PidsLimit>();
        }
    }
}
