//! What is AMD-Vi's own in a takeover: the unit and its commands, the device table, its census, the swap of its base, and the
//! invalidation of caches.
//!
//! The modules around this one are about domains and their page tables, whatever the architecture. This one mirrors
//! `crate::vtd`, module by module. In imports, `amdvi` is the crate with AMD-Vi's layouts, and `crate::amdvi` is this module.
//!
//! | module | what it does | in `vtd` |
//! |---|---|---|
//! | [`unit`] | reads registers | `unit` |
//! | [`command`] | writes registers: each write to the control register repeats what is on | `command` |
//! | [`entry`] | the entry that decides how requests are translated | `entry` |
//! | [`judge`] | whether hardware accepts an entry, and which domain it names | `judge` |
//! | [`segment`] | a segment of the device table | |
//! | [`tables`] | device table and CR3 tables of our own | `tables` |
//! | [`census`] | copies and checks these tables, and lists their entries | `census` |
//! | [`old_queue`] | waits for the dead kernel's command buffer | `old_queue` |
//! | [`queue`] | the command buffer | `queue` |
//! | [`ring`] | the memory of both: ours, or the dead kernel's | |
//! | [`log`] | logs of events: the dead kernel's, and one of our own | fault records, in `unit` |
//! | [`reuse`] | what stays where it is, because hardware takes no other | |
//! | [`swap`] | own command buffer, own device table, caches told to forget | `swap` |
//! | [`invalidate`] | invalidates caches | `invalidate`, `device_tlb` |
//! | [`tags`] | under which tags caches have translations | |
//! | [`link`] | links entries of devices to tables | `link` |
//! | [`found`] | the state in which a unit was found | `found` |

pub(crate) mod census;
pub(crate) mod command;
pub(crate) mod entry;
pub(crate) mod found;
pub(crate) mod invalidate;
pub(crate) mod judge;
pub(crate) mod link;
pub(crate) mod log;
pub(crate) mod old_queue;
pub(crate) mod queue;
pub(crate) mod reuse;
pub(crate) mod ring;
pub(crate) mod segment;
pub(crate) mod swap;
pub(crate) mod tables;
pub(crate) mod tags;
pub(crate) mod unit;
