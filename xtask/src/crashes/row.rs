//! One row of the matrix: a crash, what it must show, and whether it did.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use crate::crashes::crash::Crash;
use crate::crashes::expectation::Expectation;
use crate::guests::image::{Image, Variant};
use crate::guests::tool::Tool;
use crate::machines::console::Echo;
use crate::machines::scenario::Scenario;
use crate::witnesses::Problem;

/// One crash of the matrix.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// What a person calls it; also the folder that keeps its files.
    pub(crate) name: String,
    /// What happens.
    pub(crate) scenario: Scenario,
    /// What it must show.
    pub(crate) expectation: Expectation,
    /// Whether it runs only if it is named or all rows are asked for: the others show each of its conditions, apart from each other.
    pub(crate) only_among_all: bool,
}

/// The programs that must be built before any row can run.
pub(crate) struct Built {
    /// The host's command line.
    pub(crate) tool: Tool,
    /// The capture kernels that the rows ask for.
    pub(crate) images: BTreeMap<Variant, Image>,
}

impl Row {
    /// A row of the matrix.
    pub(crate) fn new(name: &str, scenario: Scenario, expectation: Expectation) -> Self {
        Self { name: name.to_owned(), scenario, expectation, only_among_all: false }
    }

    /// The same row, left out unless it is named or all rows are asked for.
    pub(crate) fn only_among_all(self) -> Self {
        Self { only_among_all: true, ..self }
    }

    /// Runs the crash and returns the problems; fails if it did not come to its end.
    pub(crate) fn problems(&self, built: &Built) -> Result<Vec<Problem>> {
        let image = built.images.get(&self.image()).context("the capture kernel was not built")?;
        let (scenario, watch) = (&self.scenario, self.expectation.watch);
        let (image, tool, echo) = (&image.path, &built.tool, Echo::Hidden);
        let crash = Crash { scenario, image, tool, watch, echo, used: None };
        self.expectation.problems(&crash.run(&self.name)?, &built.tool)
    }

    /// The capture kernel that it needs: only one variant can make mistakes.
    pub(crate) fn image(&self) -> Variant {
        if self.scenario.mutation.is_some() { Variant::Mutations } else { Variant::Release }
    }
}
