//! Codes that hardware supplies, as fields of its registers and table entries.

/// Lets a newtype of `u8`, for a code that hardware supplies, be a field of a register or table entry: such a code may be any number,
/// and the type names those that are known.
#[macro_export]
macro_rules! code {
    ($name:ident) => {
        impl $name {
            pub(crate) const fn from_bits(bits: u8) -> Self {
                Self(bits)
            }

            pub(crate) const fn into_bits(self) -> u8 {
                self.0
            }
        }
    };
}
