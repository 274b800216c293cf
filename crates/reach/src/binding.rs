//! Bindings: the domain and the route that a unit's tables give to a requester.

use crate::Route;

/// What an entry says of a requester.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Domain-id.
    pub domain: u16,
    /// The device may have a device-TLB; hardware does not check the requests that it makes with translated addresses
    /// (VT-d 4.1, AMD-Vi 2.2.2.1).
    pub device_tlb: bool,
    /// How its requests are translated.
    pub route: Route,
}
