use std::str::FromStr;

use clap::{ArgGroup, Args};
use diagnostics::Diagnostic;
use input_validation::{MacAddress, NodeName, WakeAddress};
use queen_contract::PowerSettings;

use crate::{
    errors,
    values::{DrainArg, NodeNameArg, parse, parse_expiry, with_hint},
};

pub(crate) const SET_EXAMPLES: &str = "\
Examples:
  rbee-keeper node set attic --sleep-after 30m
  rbee-keeper node set attic --mac 52:54:00:12:34:56 --wake-address 192.0.2.255
  rbee-keeper node set attic --sleep-after never --mac auto

Options that are left out keep their value.";

pub(crate) const SLEEP_EXAMPLES: &str = "\
Examples:
  rbee-keeper node sleep attic
  rbee-keeper node sleep attic --drain 300

`node wake`, or a request that only this node can serve, wakes it again.";

pub(crate) const WAKE_EXAMPLES: &str = "\
Example:
  rbee-keeper node wake attic

Its network card must be set to wake the machine by magic packets; docs/sleep.md says how.";

#[derive(Debug, Args)]
pub(crate) struct SleepArgs {
    #[command(flatten)]
    pub(crate) node: NodeNameArg,
    /// Suspend it although it cannot be woken, or downloads or builds are running there
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) drain: DrainArg,
}

#[derive(Debug, Args)]
#[group(skip)]
#[command(group = ArgGroup::new("power").required(true).multiple(true)
    .args(["mac", "wake_address", "sleep_after"]))]
pub(crate) struct PowerArgs {
    /// Name of the node
    #[arg(value_parser = parse::<NodeName>)]
    pub(crate) name: NodeName,
    /// Wake it by the network card with this MAC address; `auto`: by those that its hive reports
    #[arg(long, value_name = "MAC", value_parser = or_default::<MacAddress>)]
    pub(crate) mac: Option<OrDefault<MacAddress>>,
    /// Send the packets that wake it to this IPv4 address and port; `auto`: to all networks of the
    /// queen and of other nodes, port 9
    #[arg(long, value_name = "ADDRESS", value_parser = or_default::<WakeAddress>)]
    pub(crate) wake_address: Option<OrDefault<WakeAddress>>,
    /// Put it to sleep when it had nothing to do for this time, for example 30m or 2h, or `never`
    #[arg(long, value_name = "TIME", value_parser = time_or_never)]
    pub(crate) sleep_after: Option<OrDefault<u32>>,
}

/// A value, or the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OrDefault<T>(pub(crate) Option<T>);

impl PowerArgs {
    /// The settings with what the user changes.
    pub(crate) fn applied_to(&self, known: PowerSettings) -> PowerSettings {
        let Self {
            mac,
            wake_address,
            sleep_after,
            ..
        } = self;
        PowerSettings {
            mac: mac.map_or(known.mac, |wanted| wanted.0),
            wake_address: wake_address.map_or(known.wake_address, |wanted| wanted.0),
            sleep_after_seconds: sleep_after.map_or(known.sleep_after_seconds, |wanted| wanted.0),
        }
    }
}

fn or_default<T: FromStr<Err = Diagnostic>>(text: &str) -> Result<OrDefault<T>, String> {
    match text {
        "auto" => Ok(OrDefault(None)),
        _ => parse::<T>(text).map(|value| OrDefault(Some(value))),
    }
}

fn time_or_never(text: &str) -> Result<OrDefault<u32>, String> {
    match text {
        "never" => Ok(OrDefault(None)),
        _ => match parse_expiry(text) {
            Ok(seconds) => Ok(OrDefault(Some(seconds))),
            Err(_) => Err(with_hint(errors::invalid_sleep_time(text))),
        },
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::{
        cli::{Cli, Command},
        node_cli::Node,
    };

    fn set(arguments: &[&str]) -> Result<PowerArgs, String> {
        let line = ["rbee-keeper", "node", "set", "attic"]
            .iter()
            .chain(arguments);
        match Cli::try_parse_from(line)
            .map_err(|e| e.to_string())?
            .command
        {
            Command::Node(Node::Set(args)) => Ok(args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_left_out_keeps_its_value_and_the_default_is_named() {
        let known = PowerSettings {
            mac: "52:54:00:00:00:01".parse().ok(),
            wake_address: "192.0.2.255".parse().ok(),
            sleep_after_seconds: Some(60),
        };
        let changed = |arguments: &[&str]| set(arguments).unwrap().applied_to(known);
        let mac = changed(&["--mac", "52-54-00-00-00-02"]);
        assert_eq!(mac.mac, "52:54:00:00:00:02".parse().ok());
        assert_eq!(
            (mac.wake_address, mac.sleep_after_seconds),
            (known.wake_address, Some(60))
        );
        let none = changed(&[
            "--mac",
            "auto",
            "--wake-address",
            "auto",
            "--sleep-after",
            "never",
        ]);
        assert_eq!(none, PowerSettings::default());
        assert_eq!(
            changed(&["--sleep-after", "30m"]).sleep_after_seconds,
            Some(1800)
        );
    }

    #[test]
    fn wrong_values_are_refused_with_a_hint() {
        for (arguments, text) in [
            (&["--mac", "52:54:00"][..], "not a MAC address"),
            (&["--mac", "ff:ff:ff:ff:ff:ff"], "not a MAC address"),
            (
                &["--wake-address", "host"],
                "not an address for magic packets",
            ),
            (&["--sleep-after", "30"], "not a time"),
        ] {
            let error = set(arguments).unwrap_err();
            assert!(error.contains(text) && error.contains("hint: "), "{error}");
        }
        assert!(set(&[]).unwrap_err().contains("--sleep-after"));
    }
}
