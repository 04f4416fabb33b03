use std::error::Error;
use std::fmt;
use std::str::FromStr;

use rust_decimal::Decimal;
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// An exact amount of money, or a rate or percentage.
///
/// It is read from the text of the JSON, never through a floating-point number, and written as a
/// JSON number with the same digits. Numbers are what Inqud's samples show (confirmed); a number
/// inside a string, and an exponent, are accepted too (inferred: the sender is a JVM service).
///
/// What cannot be held exactly is refused, never rounded: at most 28 digits after the point, and a
/// value below 2^96 when written without the point, so that any amount of 28 digits fits.
///
/// Amounts are compared by value: 1.5 equals 1.50, although each prints as it was written.
///
/// # Example
///
/// ```
/// use tower_inqud::Amount;
///
/// let amount: Amount = serde_json::from_str("9007199254740993")?;
/// assert_eq!(amount.to_string(), "9007199254740993"); // an f64 has no such number
///
/// let amount: Amount = "1E-8".parse()?;
/// assert_eq!(amount.to_string(), "0.00000001");
/// assert!(amount < "0.1".parse()?);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
///
/// # Serializing
///
/// To JSON text, as `serde_json::to_string` does it, the digits stay. A `serde_json::Value`, and so
/// `json!` and `to_value`, holds numbers as floating point unless `serde_json`'s feature
/// `arbitrary_precision` is on, and **rounds**. There, and in a database column of JSON, put
/// [`to_string`](ToString::to_string):
///
/// ```
/// # use tower_inqud::Amount;
/// let amount: Amount = "0.1234567890123456789".parse()?;
/// let exact = serde_json::json!({ "paid": amount.to_string() });
/// assert_eq!(exact["paid"], "0.1234567890123456789");
/// # Ok::<_, tower_inqud::AmountError>(())
/// ```
///
/// # Deserializing
///
/// The text has to be at hand: use `serde_json::from_str` or `from_slice`, as the layer does.
/// `from_reader`, `from_value` and `#[serde(flatten)]` cannot lend it, and end in an error that says
/// so.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Amount(Decimal);

impl Amount {
    /// The amount as the `rust_decimal` crate's type, to calculate with.
    #[must_use]
    pub fn decimal(self) -> Decimal {
        self.0
    }
}

impl From<Decimal> for Amount {
    fn from(decimal: Decimal) -> Self {
        Self(decimal)
    }
}

impl From<Amount> for Decimal {
    fn from(amount: Amount) -> Self {
        amount.0
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Reads what JSON calls a number, and nothing else.
impl FromStr for Amount {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        let number = Number::parse(text).ok_or(AmountError { kind: Kind::NotANumber })?;
        number.to_decimal().map(Self).ok_or(AmountError { kind: Kind::NotExact })
    }
}

/// The parts of a JSON number, digits only.
struct Number<'a> {
    negative: bool,
    integer: &'a str,
    fraction: &'a str,
    exponent: i32,
}

impl<'a> Number<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent)?),
            None => (rest, 0),
        };
        let (integer, fraction) = match mantissa.split_once('.') {
            Some((integer, fraction)) if is_digits(fraction) => (integer, fraction),
            Some(_) => return None,
            None => (mantissa, ""),
        };
        let has_leading_zero = integer.len() > 1 && integer.starts_with('0');
        (is_digits(integer) && !has_leading_zero).then_some(Self {
            negative,
            integer,
            fraction,
            exponent,
        })
    }

    fn to_decimal(&self) -> Option<Decimal> {
        // Zeros at the end of what is too long are not worth a refusal.
        self.with_fraction(self.fraction)
            .or_else(|| self.with_fraction(self.fraction.trim_end_matches('0')))
    }

    fn with_fraction(&self, fraction: &str) -> Option<Decimal> {
        let mut scale = i32::try_from(fraction.len()).ok()?.checked_sub(self.exponent)?;
        let mut units = append_digits(append_digits(0, self.integer)?, fraction)?;
        if units == 0 {
            scale = scale.clamp(0, MAX_SCALE);
        }
        while scale > MAX_SCALE && units % 10 == 0 {
            units /= 10;
            scale = scale.checked_sub(1)?;
        }
        while scale < 0 {
            units = units.checked_mul(10)?;
            scale = scale.checked_add(1)?;
        }
        let scale = u32::try_from(scale).ok()?;
        let mut decimal = Decimal::try_from_i128_with_scale(units, scale).ok()?;
        decimal.set_sign_negative(self.negative);
        Some(decimal)
    }
}

/// Many digits at a time, as a wide multiplication costs more than reading them.
fn append_digits(units: i128, digits: &str) -> Option<i128> {
    const AT_A_TIME: usize = 18;
    digits.as_bytes().chunks(AT_A_TIME).try_fold(units, |units, digits| {
        let (mut power, mut value) = (1_u64, 0_u64);
        for digit in digits {
            power = power.wrapping_mul(10);
            value = value.wrapping_mul(10).wrapping_add(u64::from(digit.checked_sub(b'0')?));
        }
        units.checked_mul(power.into())?.checked_add(value.into())
    })
}

/// Of `rust_decimal`.
const MAX_SCALE: i32 = 28;

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// An exponent too large for an `i32` saturates: no amount has it, but zero.
fn parse_exponent(text: &str) -> Option<i32> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, text.split_at(1).1),
        b'+' => (false, text.split_at(1).1),
        _ => (false, text),
    };
    if !is_digits(digits) {
        return None;
    }
    let exponent = digits.parse::<i32>().unwrap_or(i32::MAX / 2);
    Some(if negative { exponent.saturating_neg() } else { exponent })
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = <&RawValue>::deserialize(deserializer).map_err(|error| {
            D::Error::custom(format_args!(
                "{error}: an amount is read from the JSON text, so deserialize with \
                 `serde_json::from_str` or `from_slice`, without `flatten`"
            ))
        })?;
        // Within quotes nothing but a plain number is one, so no escape needs to be undone.
        let text = json.get();
        let number = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
        number.parse().map_err(D::Error::custom)
    }
}

/// As a JSON number, exact in JSON text; see the type about `serde_json::Value`.
impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RawValue::from_string(self.to_string()).map_err(S::Error::custom)?.serialize(serializer)
    }
}

/// A text that is not an amount, or not one that can be held exactly.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AmountError {
    kind: Kind,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    NotANumber,
    NotExact,
}

impl fmt::Display for AmountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::NotANumber => "not a decimal number",
            Kind::NotExact => "a number with more digits than can be held exactly",
        })
    }
}

impl Error for AmountError {}
