//! Enums whose every variant has a word: for logs, metric labels, problem documents and `Cache-Status; detail=`.

/// Declares an enum, the words of its variants, and `as_str`, which gives the word. A variant that holds another such
/// enum has the word of that one.
macro_rules! words {
    (
        $(#[$attribute:meta])*
        $visibility:vis enum $name:ident {
            $($(#[$variant_attribute:meta])* $variant:ident $(($held:ty))? $(= $word:literal)?,)*
        }
    ) => {
        $(#[$attribute])*
        $visibility enum $name {
            $($(#[$variant_attribute])* $variant $(($held))?,)*
        }

        impl $name {
            /// The words of all variants, each for a metric that counts from zero.
            #[allow(dead_code, reason = "not every such enum labels a metric")]
            pub fn words() -> Vec<&'static str> {
                [$($(vec![$word])? $(<$held>::words())?),*].concat()
            }

            /// The word for logs, metric labels and fields.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(
                        $(Self::$variant => $word,)?
                        $(Self::$variant(held) => <$held>::as_str(held),)?
                    )*
                }
            }

            /// All of them, for tests that hold one case for each.
            #[cfg(any(test, feature = "internals"))]
            #[allow(dead_code, reason = "not every such enum has such a test")]
            pub fn all() -> Vec<Self> {
                let mut all = Vec::new();
                $(
                    $({
                        let _its_word: &str = $word;
                        all.push(Self::$variant);
                    })?
                    $(all.extend(<$held>::all().into_iter().map(Self::$variant));)?
                )*
                all
            }
        }
    };
}

pub(crate) use words;
