//! What is VT-d's own in a takeover: the unit and its commands, the tables above the page tables, the census of these, the swap
//! of the root pointer, and the invalidation of caches.
//!
//! The modules around this one are about domains and their page tables, whatever the architecture. In imports, `vtd` is the crate
//! with VT-d's layouts, and `crate::vtd` is this module.
//!
//! | module | what it does |
//! |---|---|
//! | [`unit`] | reads registers |
//! | [`command`] | writes registers: each command repeats what is on |
//! | [`mode`] | legacy or scalable: where entries of a device are |
//! | [`entry`] | the entry that decides how requests are translated |
//! | [`judge`] | whether hardware accepts an entry, and which domain it names |
//! | [`tables`] | root, context and PASID tables of our own |
//! | [`census`] | copies and checks these tables, and lists their entries |
//! | [`old_queue`] | waits for the dead kernel's invalidation queue |
//! | [`queue`] | an invalidation queue of our own |
//! | [`swap`] | own queue, own root pointer, caches told to forget |
//! | [`invalidate`] | invalidates caches, by queue or by registers |
//! | [`device_tlb`] | how devices are told to invalidate what they keep |
//! | [`link`] | links entries of devices to tables |
//! | [`found`] | the state in which a unit was found |

pub(crate) mod census;
pub(crate) mod command;
pub(crate) mod device_tlb;
pub(crate) mod entry;
pub(crate) mod found;
pub(crate) mod invalidate;
pub(crate) mod judge;
pub(crate) mod link;
pub(crate) mod mode;
pub(crate) mod old_queue;
pub(crate) mod queue;
pub(crate) mod swap;
pub(crate) mod tables;
pub(crate) mod unit;
