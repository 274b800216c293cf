//! Makes random machines, as a kernel that worked would leave them. [Damage](crate::amdvi::damage) comes separately.
