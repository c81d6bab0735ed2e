//! The three roots that every command works on, from options, the environment or their defaults.
//!
//! The only reader of the environment here. Must never look whether the directories are there.

use std::path::PathBuf;

use clap::Args;

/// The options that name the roots.
#[derive(Args, Clone, Debug, Default)]
#[expect(clippy::doc_markdown, reason = "this is also the text of --help, where a variable is a plain word")]
pub struct RootArgs {
    /// The directory of the services [default: $SVTREE_SERVICES, else `services`]
    #[arg(long, global = true, value_name = "DIR", help_heading = HEADING, display_order = 900)]
    pub services: Option<PathBuf>,
    /// The directory of their state [default: $SVTREE_STATUS, else `status`]
    #[arg(long, global = true, value_name = "DIR", help_heading = HEADING, display_order = 901)]
    pub status: Option<PathBuf>,
    /// The directory of their logs [default: $SVTREE_LOGS, else `logs`]
    #[arg(long, global = true, value_name = "DIR", help_heading = HEADING, display_order = 902)]
    pub logs: Option<PathBuf>,
}

const HEADING: &str = "Directories";

/// The roots in force, as they were given: relative ones to the current directory.
#[derive(Clone, Debug)]
pub struct Roots {
    /// The services root.
    pub services: PathBuf,
    /// The status root.
    pub status: PathBuf,
    /// The log root.
    pub logs: PathBuf,
}

impl Roots {
    /// From options where there are any.
    #[must_use]
    pub fn new(args: &RootArgs) -> Roots {
        Roots {
            services: choose(args.services.as_ref(), "SVTREE_SERVICES", "services"),
            status: choose(args.status.as_ref(), "SVTREE_STATUS", "status"),
            logs: choose(args.logs.as_ref(), "SVTREE_LOGS", "logs"),
        }
    }

    /// For the programs whose command line has no room for options.
    #[must_use]
    pub fn from_env() -> Roots {
        Roots::new(&RootArgs::default())
    }
}

fn choose(option: Option<&PathBuf>, variable: &str, default: &str) -> PathBuf {
    option
        .cloned()
        .or_else(|| std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from))
        .unwrap_or_else(|| default.into())
}
