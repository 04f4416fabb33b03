use std::borrow::Cow;
use std::cmp::Ordering;
use std::error::Error;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use rust_decimal::Decimal;
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use super::json;

/// An exact amount of money, or a rate or percentage.
///
/// It is read from the text of the JSON, never through a floating-point number, and written as a
/// JSON number with the same digits. Inqud's samples show bare numbers (confirmed). A number inside a
/// string and a number with an exponent are accepted too (inferred: the sender is a JVM service).
///
/// Every JSON number is a valid amount, and none is rounded. Nearly all fit a [`Decimal`], which
/// [`decimal`](Self::decimal) returns for calculations: at most 28 digits after the point, and a
/// value below 2^96 when written without the point. An amount that does not fit, such as one of 60
/// digits, is kept as text, and `decimal` returns `None`.
///
/// Amounts are compared by value: 1.5 equals 1.50, although each prints as it was written. This
/// includes amounts that do not fit a `Decimal`. A large exponent does not make a comparison slower.
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
///
/// let amount: Amount = "1e400".parse()?;
/// assert_eq!(amount.decimal(), None);
/// assert_eq!(amount.to_string(), "1e400");
/// assert!(amount > "9e399".parse()?);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
///
/// # Serializing
///
/// JSON text, as `serde_json::to_string` writes it, keeps every digit. A `serde_json::Value` does not:
/// `json!` and `to_value` hold numbers as floating point and **round** them, and fail for `1e400`, unless
/// the feature `arbitrary_precision` of `serde_json` is on. In a `Value` or a JSON column of a database,
/// store [`to_string`](ToString::to_string) instead:
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
/// Use `serde_json::from_str` or `from_slice`, as the layer does. An amount borrows the JSON text, which
/// `from_reader`, `from_value` and `#[serde(flatten)]` cannot lend. They fail with an error that says so.
#[derive(Clone)]
pub struct Amount(Repr);

#[derive(Clone)]
enum Repr {
    Decimal(Decimal),
    /// A JSON number that does not fit a `Decimal`.
    Text(Box<str>),
}

impl Amount {
    /// The amount as a [`Decimal`] of the `rust_decimal` crate, for calculations. `None` if it does not
    /// fit exactly.
    #[must_use]
    pub fn decimal(&self) -> Option<Decimal> {
        match self.0 {
            Repr::Decimal(decimal) => Some(decimal),
            Repr::Text(_) => None,
        }
    }

    /// Parses a number or a quoted number. Escapes inside the quotes are not undone: a number needs none,
    /// so a text with one is not a number.
    pub(super) fn from_json(json: &str) -> Result<Self, AmountError> {
        json.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(json).parse()
    }

    /// Whether `it` is at least `amount`, in the same currency. `false` if either is unknown.
    pub(super) fn covers(
        it: Option<&Self>,
        of: Option<&str>,
        amount: &Self,
        currency: &str,
    ) -> bool {
        it.is_some_and(|it| it >= amount) && of == Some(currency)
    }

    fn text(&self) -> Cow<'_, str> {
        match &self.0 {
            Repr::Decimal(decimal) => decimal.to_string().into(),
            Repr::Text(text) => (&**text).into(),
        }
    }
}

impl From<Decimal> for Amount {
    fn from(decimal: Decimal) -> Self {
        Self(Repr::Decimal(decimal))
    }
}

/// Fails if the amount does not fit a `Decimal`: see [`Amount::decimal`].
impl TryFrom<Amount> for Decimal {
    type Error = AmountError;

    fn try_from(amount: Amount) -> Result<Self, AmountError> {
        amount.decimal().ok_or(AmountError { kind: Kind::NotExact })
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Decimal(decimal) => decimal.fmt(f),
            Repr::Text(text) => f.pad(text),
        }
    }
}

impl fmt::Debug for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Amount({self})")
    }
}

impl PartialEq for Amount {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Repr::Decimal(a), Repr::Decimal(b)) => a == b,
            (Repr::Text(a), Repr::Text(b)) => Value::of(a) == Value::of(b),
            _ => false,
        }
    }
}

impl Eq for Amount {}

impl PartialOrd for Amount {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Amount {
    fn cmp(&self, other: &Self) -> Ordering {
        match (&self.0, &other.0) {
            (Repr::Decimal(a), Repr::Decimal(b)) => a.cmp(b),
            _ => Value::of(&self.text()).cmp(&Value::of(&other.text())),
        }
    }
}

impl Hash for Amount {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match &self.0 {
            Repr::Decimal(decimal) => decimal.hash(state),
            Repr::Text(text) => Value::of(text).hash(state),
        }
    }
}

/// Parses a JSON number, and nothing else.
impl FromStr for Amount {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        let number = Number::parse(text).ok_or(AmountError { kind: Kind::NotANumber })?;
        Ok(Self(match number.to_decimal() {
            Some(decimal) => Repr::Decimal(decimal),
            None => Repr::Text(text.into()),
        }))
    }
}

/// The parts of a JSON number.
struct Number<'a> {
    negative: bool,
    integer: &'a str,
    fraction: Option<&'a str>,
    /// The exponent, with its sign.
    exponent: Option<&'a str>,
}

impl<'a> Number<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let number = Self::split(text);
        let has_leading_zero = number.integer.len() > 1 && number.integer.starts_with('0');
        let is_number = is_digits(number.integer)
            && !has_leading_zero
            && number.fraction.is_none_or(is_digits)
            && number.exponent.is_none_or(|exponent| {
                is_digits(exponent.strip_prefix(['-', '+']).unwrap_or(exponent))
            });
        is_number.then_some(number)
    }

    fn split(text: &'a str) -> Self {
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, Some(exponent)),
            None => (text, None),
        };
        let (integer, fraction) = match mantissa.split_once('.') {
            Some((integer, fraction)) => (integer, Some(fraction)),
            None => (mantissa, None),
        };
        Self { negative, integer, fraction, exponent }
    }

    /// `None` only if no `Decimal` has this value.
    fn to_decimal(&self) -> Option<Decimal> {
        let (integer, fraction) = (self.integer, self.fraction.unwrap_or_default());
        let exponent = self.exponent.map_or(0, saturating_exponent);
        self.with_digits(integer, fraction, exponent).or_else(|| {
            // Perhaps only trailing zeros make it too long.
            let fraction = fraction.trim_end_matches('0');
            if !fraction.is_empty() {
                return self.with_digits(integer, fraction, exponent);
            }
            let trimmed = integer.trim_end_matches('0');
            let zeros = integer.len().checked_sub(trimmed.len())?;
            let exponent = exponent.checked_add(i64::try_from(zeros).ok()?)?;
            self.with_digits(trimmed, "", exponent)
        })
    }

    fn with_digits(&self, integer: &str, fraction: &str, exponent: i64) -> Option<Decimal> {
        let mut scale = i64::try_from(fraction.len()).ok()?.checked_sub(exponent)?;
        let mut units = append_digits(append_digits(0, integer)?, fraction)?;
        if units == 0 {
            scale = scale.clamp(0, MAX_SCALE);
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

/// Saturates far beyond any exponent that the digits of a text could offset.
fn saturating_exponent(text: &str) -> i64 {
    const LIMIT: i64 = i64::MAX / 4;
    match text.parse::<i64>() {
        Ok(exponent) => exponent.clamp(-LIMIT, LIMIT),
        Err(_) if text.starts_with('-') => -LIMIT,
        Err(_) => LIMIT,
    }
}

/// A number in normalized form: 0.DIGITS times ten to the power of the exponent. Neither the first nor
/// the last digit is zero.
#[derive(Eq, Hash, PartialEq)]
struct Value<'a> {
    /// -1, 0 or 1.
    sign: i8,
    exponent: Exponent,
    digits: Digits<'a>,
}

impl<'a> Value<'a> {
    /// The value of a text, which must be a number.
    fn of(text: &'a str) -> Self {
        let number = Number::split(text);
        let integer = number.integer.trim_start_matches('0');
        let mut fraction = number.fraction.unwrap_or_default().trim_end_matches('0');
        // The position of the point, counted from the first significant digit.
        let mut point = i64::try_from(integer.len()).unwrap_or(i64::MAX);
        if integer.is_empty() {
            let significant = fraction.trim_start_matches('0');
            let zeros = fraction.len().saturating_sub(significant.len());
            point = i64::try_from(zeros).unwrap_or(i64::MAX).saturating_neg();
            fraction = significant;
        }
        let integer = if fraction.is_empty() { integer.trim_end_matches('0') } else { integer };
        let digits = Digits(integer, fraction);
        if digits.iter().next().is_none() {
            return Self { sign: 0, exponent: Exponent::default(), digits };
        }
        let sign = if number.negative { -1 } else { 1 };
        Self { sign, exponent: Exponent::of(number.exponent.unwrap_or("0"), point), digits }
    }

    fn cmp(&self, other: &Self) -> Ordering {
        let size =
            || self.exponent.cmp(&other.exponent).then_with(|| self.digits.cmp(&other.digits));
        self.sign.cmp(&other.sign).then_with(|| match self.sign {
            -1 => size().reverse(),
            _ => size(),
        })
    }
}

/// The digits before the point and those after it. They compare as one sequence.
struct Digits<'a>(&'a str, &'a str);

impl Digits<'_> {
    fn iter(&self) -> impl Iterator<Item = u8> {
        self.0.bytes().chain(self.1.bytes())
    }

    fn cmp(&self, other: &Self) -> Ordering {
        self.iter().cmp(other.iter())
    }
}

impl PartialEq for Digits<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Digits<'_> {}

impl Hash for Digits<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.iter().for_each(|digit| state.write_u8(digit));
        state.write_u8(0xff);
    }
}

/// An integer of any size, in decimal digits without leading zeros.
#[derive(Default, Eq, Hash, PartialEq)]
struct Exponent {
    negative: bool,
    digits: String,
}

impl Exponent {
    /// The sum of the number in the text and `point`. Its cost depends on the length of the text, not on
    /// its value.
    fn of(text: &str, point: i64) -> Self {
        /// The sum of a number of this many digits and an `i64` fits an `i128`.
        const EASY: usize = 36;
        let negative = text.starts_with('-');
        let digits = text.trim_start_matches(['-', '+']).trim_start_matches('0');
        if digits.len() <= EASY {
            let size = digits.parse::<i128>().unwrap_or(0);
            let sum = if negative { size.wrapping_neg() } else { size }.wrapping_add(point.into());
            return Self { negative: sum < 0, digits: sum.unsigned_abs().to_string() };
        }
        // The number is far larger than `point`, so the sign stays.
        let mut carry = i128::from(point);
        if negative {
            carry = carry.wrapping_neg();
        }
        let mut sum = digits.as_bytes().to_vec();
        for digit in sum.iter_mut().rev() {
            if carry == 0 {
                break;
            }
            carry = carry.wrapping_add(digit.wrapping_sub(b'0').into());
            *digit = u8::try_from(carry.rem_euclid(10)).unwrap_or(0).wrapping_add(b'0');
            carry = carry.div_euclid(10);
        }
        let digits = format!("{carry}{}", String::from_utf8_lossy(&sum));
        Self { negative, digits: digits.trim_start_matches('0').to_owned() }
    }

    fn cmp(&self, other: &Self) -> Ordering {
        let size = || (self.digits.len(), &self.digits).cmp(&(other.digits.len(), &other.digits));
        match (self.negative, other.negative) {
            (false, false) => size(),
            (true, true) => size().reverse(),
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
        }
    }
}

/// Appends decimal digits. Takes many at a time, because one `i128` multiplication costs more than reading
/// 18 digits.
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

/// The largest scale of a `Decimal`.
const MAX_SCALE: i64 = 28;

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_json(json::text(deserializer)?).map_err(D::Error::custom)
    }
}

/// Writes a JSON number, which is exact in JSON text. See [`Amount`] about `serde_json::Value`.
impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RawValue::from_string(self.to_string()).map_err(S::Error::custom)?.serialize(serializer)
    }
}

/// The error of a text that is not an amount, or of an amount that does not fit a [`Decimal`].
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
            Kind::NotANumber => "not a decimal number, such as `12.50` or `1e-8`",
            Kind::NotExact => "the number does not fit a `Decimal` exactly; use its text",
        })
    }
}

impl Error for AmountError {}
