//! Enums to which Inqud may add values at any time.

/// A value that this version does not know.
///
/// Compare the `as_str` of its enum, for example
/// [`RequestStatus::as_str`](crate::RequestStatus::as_str), instead of matching `Other`. A later version may
/// know the value, and then it becomes another variant. That is why you cannot create an `UnknownValue`
/// yourself.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct UnknownValue(String);

impl UnknownValue {
    pub(super) fn new(text: String) -> Self {
        Self(text)
    }

    /// The value, as it was sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Defines an enum of the known values, with `Other` for the text of an unknown one. Deserializes from
/// strings only.
macro_rules! open_enum {
    (
        $(#[$meta:meta])*
        $vis:vis enum $name:ident {
            $(
                $(#[$variant_meta:meta])*
                $variant:ident = $text:literal $(| $alias:literal)*,
            )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Eq, Hash, PartialEq)]
        #[non_exhaustive]
        $vis enum $name {
            $($(#[$variant_meta])* $variant,)*
            /// A value that this version does not know. To look for a certain value, compare
            /// [`as_str`](Self::as_str).
            Other($crate::event::UnknownValue),
        }

        impl $name {
            /// The value, as Inqud spells it. If several spellings mean the same, the main one.
            #[must_use]
            $vis fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)*
                    Self::Other(word) => word.as_str(),
                }
            }

            fn known(text: &str) -> Option<Self> {
                match text {
                    $($text $(| $alias)* => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self::known(&text)
                    .unwrap_or_else(|| Self::Other($crate::event::UnknownValue::new(text)))
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self::known(text).unwrap_or_else(|| {
                    Self::Other($crate::event::UnknownValue::new(text.to_owned()))
                })
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Word;

                impl serde::de::Visitor<'_> for Word {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("a string")
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        Ok(text.into())
                    }
                }

                deserializer.deserialize_str(Word)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    };
}

pub(super) use open_enum;
