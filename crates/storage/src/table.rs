//! The macro that makes an enum, a list and a choice of the table of drivers.

/// Generates, from the table of drivers, the code that must know all drivers.
///
/// A line names a variant, the driver's [`Controller`](crate::Controller), generic in registers and memory, and its module.
/// The module has `DRIVEN`, the functions that it runs, and `start`, which makes a [`Started`](crate::disk::Started)
/// controller of one. The first line that matches a function is used.
macro_rules! drivers {
    ($($(#[$doc:meta])* $name:ident: $controller:ident in $($driver:ident)::+;)+) => {
        /// The functions that the drivers run, in the order of the table.
        const DRIVEN: &[&[Match]] = &[$(&crate::$($driver)::+::DRIVEN),+];

        /// The controller of a disk, with any of the drivers.
        pub enum AnyController<R, M> {
            $($(#[$doc])* $name(crate::$($driver)::+::$controller<R, M>),)+
        }

        /// Starts the function with the first driver that runs it.
        fn start<A: DeviceAccess>(
            access: &mut A,
            clock: &impl Clock,
            allowance: Allowance,
        ) -> StartResult<AnyController<A::Registers, A::Memory>, A> {
            let identity = Identity::read(access.config());
            $(if crate::$($driver)::+::DRIVEN.iter().any(|driven| driven.fits(identity)) {
                return Ok(crate::$($driver)::+::start(access, clock, allowance)?.map(AnyController::$name));
            })+
            Err(OpenError::NoDriver)
        }

        impl<R: Registers, M: DmaMemory> Controller for AnyController<R, M> {
            type Memory = M;

            fn next_disk(&mut self, buffer: &mut M, clock: &impl Clock) -> Option<Found> {
                match self { $(Self::$name(driver) => driver.next_disk(buffer, clock),)+ }
            }

            fn reaches(&self, buffer: &M) -> bool {
                match self { $(Self::$name(driver) => driver.reaches(buffer),)+ }
            }

            fn submit(&mut self, slot: usize, request: Request, buffer: &M) {
                match self { $(Self::$name(driver) => driver.submit(slot, request, buffer),)+ }
            }

            fn notify(&mut self) {
                match self { $(Self::$name(driver) => driver.notify(),)+ }
            }

            fn poll(&mut self, clock: &impl Clock) -> Result<Option<Completion>, BlockError> {
                match self { $(Self::$name(driver) => driver.poll(clock),)+ }
            }

            fn stop(&mut self, clock: &impl Clock) {
                match self { $(Self::$name(driver) => driver.stop(clock),)+ }
            }
        }
    };
}
