//! Two macros for types with a text form: enums of fixed words, and serde by that text.

/// Writes an enum whose variants have fixed words, with `ALL`, `word`, `Display`, serde by the word, and a
/// `FromStr` that suggests the nearest.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident, $what:literal: $($(#[$vmeta:meta])* $variant:ident = $word:literal),* $(,)?) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$vmeta])* $variant),* }

        impl $name {
            /// All of them, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The word in files and on the command line.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.word())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                let words = || Self::ALL.iter().map(|v| v.word());
                if let Some(found) = Self::ALL.iter().find(|v| v.word() == text) {
                    return Ok(*found);
                }
                let known = words().collect::<Vec<_>>().join(", ");
                let hint = crate::text::nearest(text, words()).map(|w| format!("; did you mean '{w}'?")).unwrap_or_default();
                Err(format!("'{}' is not {}; known are {known}{hint}", crate::text::shown(text), $what))
            }
        }

        $crate::words::serde_by_text!($name);
    };
}
pub(crate) use words;

/// Serde by `Display` and `FromStr`, so that every file spells a value the way the command line does.
macro_rules! serde_by_text {
    ($($type:ty),*) => {$(
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
pub(crate) use serde_by_text;
