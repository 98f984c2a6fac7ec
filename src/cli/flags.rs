//! The flags of a capturing proxy, and how they become a [`Config`].

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::access::AccessFlags;
use super::args::Global;
use super::errors::CliError;
use super::rules::RuleFlags;
use super::setup::SetupFlags;
use super::via::ViaFlags;
use crate::config::units::{
    UnitError, parse_count, parse_duration, parse_level, parse_port, parse_positive_duration,
    parse_positive_size, parse_size_or_none,
};
use crate::config::{CaFiles, Config, Durability, HostCert, Keep, Limits, Timeouts};
use crate::filter::Filter;
use crate::proxy::{HostPattern, Listen, Mode, PassthroughOptions, Reverse};

/// Flags that `capture` and `run` share.
#[derive(Debug, Args)]
pub(super) struct ProxyFlags {
    #[command(flatten)]
    listen: ListenFlags,
    #[command(flatten)]
    record: RecordFlags,
    #[command(flatten)]
    upstream: ViaFlags,
    #[command(flatten)]
    tls: TlsFlags,
    #[command(flatten)]
    rules: RuleFlags,
    #[command(flatten)]
    limits: LimitFlags,
}

/// Those of them that `serve` has.
#[derive(Debug, Args)]
pub(super) struct ServingFlags {
    #[command(flatten)]
    listen: ListenFlags,
    #[command(flatten)]
    upstream: ViaFlags,
    #[command(flatten)]
    tls: TlsFlags,
    #[command(flatten)]
    limits: LimitFlags,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Listening")]
struct ListenFlags {
    /// Where to accept clients, and how they come in: explicit (they know a proxy), socks5, reverse:URL (they take it for
    /// the origin at URL), transparent (the kernel's rules lead them here). Port 0 is any free one. Repeatable [default: 127.0.0.1:8080; of `run`: any free port]
    #[arg(short, long, value_name = "[MODE@][ADDR:]PORT", env = "MANENT_LISTEN", value_delimiter = ',')]
    #[arg(value_parser = Listen::parse)]
    listen: Vec<(Option<Mode>, SocketAddr)>,
    /// Port on 127.0.0.1
    #[arg(short, long, value_name = "PORT", env = "MANENT_PORT", conflicts_with = "listen")]
    #[arg(value_parser = parse_port)]
    port: Option<u16>,
    /// Be a reverse proxy for this origin, http(s)://HOST[:PORT], wherever no mode is named
    #[arg(long, value_name = "URL", env = "MANENT_REVERSE")]
    reverse: Option<Reverse>,
    /// Send the client's Host on to the origin of a reverse proxy, rather than the origin's own name
    #[arg(long, env = "MANENT_KEEP_HOST")]
    keep_host: bool,
    #[command(flatten)]
    access: AccessFlags,
    #[command(flatten)]
    setup: SetupFlags,
}

#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Recording")]
struct RecordFlags {
    /// Pass everything on and record nothing
    #[arg(long, env = "MANENT_NO_RECORD")]
    no_record: bool,
    /// Record only flows that match; all pass. Asked when a flow ends, so it cannot depend on bodies or on what is noted
    /// later. `manent filter` tells the language
    #[arg(long, value_name = "FILTER", env = "MANENT_RECORD", conflicts_with = "no_record")]
    record: Option<String>,
    /// Answer 503 to what cannot be recorded, rather than pass it on
    #[arg(long, env = "MANENT_REQUIRE_RECORDING")]
    #[arg(conflicts_with = "no_record")]
    require_recording: bool,
    /// Delete flows that began longer ago than this while recording; marked ones stay [default: none, no limit]
    #[arg(long, value_name = "TIME", env = "MANENT_MAX_AGE", value_parser = parse_positive_duration)]
    max_age: Option<Duration>,
    /// Delete the oldest flows while recording, so that the store's files take no more than this, at least 64MiB
    #[arg(long, value_name = "SIZE", env = "MANENT_MAX_SIZE", value_parser = parse_max_size)]
    max_size: Option<u64>,
    /// Delete the oldest flows while recording, so that there are no more than this
    #[arg(long, value_name = "N", env = "MANENT_MAX_FLOWS", value_parser = parse_count)]
    max_flows: Option<usize>,
    /// What a recorded flow survives: full, a power failure; normal, the end of the process
    #[arg(long, env = "MANENT_DURABILITY", value_enum, default_value_t)]
    durability: DurabilityChoice,
    /// How much of each body to record; the traffic passes whole. 0 records none of it [default: none, no limit]
    #[arg(long, value_name = "SIZE", env = "MANENT_BODY_LIMIT", default_value = "none")]
    #[arg(value_parser = parse_body_limit, hide_default_value = true)]
    body_limit: BodyLimit,
    /// Store large bodies that shrink by it as zstd, with this effort: half the disk for more of the processor
    #[arg(long, value_name = "LEVEL", env = "MANENT_COMPRESS", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "1", value_parser = parse_level)]
    compress: Option<i32>,
}

/// `none` or a size. (clap takes an `Option` inside of an `Option` for a flag without a value.)
#[derive(Debug, Clone, Copy, Default)]
struct BodyLimit(Option<u64>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum DurabilityChoice {
    #[default]
    Full,
    Normal,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "TLS")]
struct TlsFlags {
    /// PEM file with the CA's certificate (and key) to use instead of the one in --ca-dir
    #[arg(long, value_name = "PEM", env = "MANENT_CA_CERT", hide_env_values = true)]
    ca_cert: Option<PathBuf>,
    /// PEM file with the key of --ca-cert
    #[arg(long, value_name = "PEM", env = "MANENT_CA_KEY", hide_env_values = true)]
    ca_key: Option<PathBuf>,
    /// PEM file with roots to trust upstream, besides the system's. Repeatable
    #[arg(long, value_name = "PEM", env = "MANENT_UPSTREAM_CA", hide_env_values = true)]
    upstream_ca: Vec<PathBuf>,
    /// Do not verify upstream certificates
    #[arg(short = 'k', long, env = "MANENT_INSECURE")]
    insecure: bool,
    /// PEM file with a certificate, what leads on from it to a root, and its key, which clients are shown in place of one
    /// that we make: for HOST (a name, or *.example.com for all below it), else for all. Repeatable
    #[arg(long, value_name = "[HOST=]PEM", env = "MANENT_CERT", hide_env_values = true)]
    #[arg(value_parser = parse_host_cert)]
    cert: Vec<HostCert>,
    /// PEM file with a certificate and its key, for origins that ask for one: those called HOST (a name, or
    /// *.example.com for all below it), else all. Repeatable
    #[arg(long, value_name = "[HOST=]PEM", env = "MANENT_CLIENT_CERT", hide_env_values = true)]
    #[arg(value_parser = parse_host_cert)]
    client_cert: Vec<HostCert>,
    /// Pass tunnels to these hosts through untouched: the client sees the origin's own certificate. REGEX is looked for
    /// in host:port, by the names in CONNECT, SNI and Host and by the address. Repeatable; goes before --allow-host
    #[arg(long, value_name = "REGEX", env = "MANENT_IGNORE_HOST")]
    ignore_host: Vec<HostPattern>,
    /// Pass tunnels to all other hosts through untouched. Repeatable
    #[arg(long, value_name = "REGEX", env = "MANENT_ALLOW_HOST")]
    allow_host: Vec<HostPattern>,
    /// Do not pass a client through for ten minutes to a host for which it has rejected our certificate twice
    #[arg(long, env = "MANENT_NO_AUTO_PASSTHROUGH")]
    no_auto_passthrough: bool,
}

/// The defaults are those of [`Timeouts`] and [`Limits`], as a test has it.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Limits")]
struct LimitFlags {
    /// For a request's head
    #[arg(long, value_name = "TIME", env = "MANENT_HEAD_TIMEOUT", value_parser = parse_positive_duration)]
    #[arg(default_value = "30s")]
    head_timeout: Duration,
    /// For a TLS handshake on either side
    #[arg(long, value_name = "TIME", env = "MANENT_TLS_TIMEOUT", value_parser = parse_positive_duration)]
    #[arg(default_value = "10s")]
    tls_timeout: Duration,
    /// For a connection to an origin
    #[arg(long, value_name = "TIME", env = "MANENT_CONNECT_TIMEOUT", value_parser = parse_positive_duration)]
    #[arg(default_value = "10s")]
    connect_timeout: Duration,
    /// For the next request on a kept connection
    #[arg(long, value_name = "TIME", env = "MANENT_IDLE_TIMEOUT", value_parser = parse_positive_duration)]
    #[arg(default_value = "2m")]
    idle_timeout: Duration,
    /// For the next byte of a response, body or tunnel
    #[arg(long, value_name = "TIME", env = "MANENT_RELAY_TIMEOUT", value_parser = parse_positive_duration)]
    #[arg(default_value = "10m")]
    relay_timeout: Duration,
    /// For a tunnel's first byte, before the server is let speak first
    #[arg(long, value_name = "TIME", env = "MANENT_SILENT_CLIENT", value_parser = parse_positive_duration)]
    #[arg(default_value = "300ms")]
    silent_client: Duration,
    /// For open exchanges when told to stop
    #[arg(long, value_name = "TIME", env = "MANENT_GRACE", value_parser = parse_duration)]
    #[arg(default_value = "5s")]
    grace: Duration,
    /// Connections of clients at one time
    #[arg(long, value_name = "N", env = "MANENT_MAX_CONNECTIONS", value_parser = parse_count)]
    #[arg(default_value = "8192")]
    max_connections: usize,
    /// Size of a message's head
    #[arg(long, value_name = "SIZE", env = "MANENT_MAX_HEAD", value_parser = parse_positive_size)]
    #[arg(default_value = "256KiB")]
    max_head: u64,
    /// Fields in a message's head
    #[arg(long, value_name = "N", env = "MANENT_MAX_FIELDS", value_parser = parse_count)]
    #[arg(default_value = "1000")]
    max_fields: usize,
}

impl ProxyFlags {
    /// What a command of ours has to show to the proxy: see [`AccessFlags::credentials`].
    ///
    /// # Errors
    /// See there.
    pub(super) fn credentials(&self) -> Result<Option<&str>, CliError> {
        self.listen.access.credentials()
    }

    /// What they come to.
    ///
    /// # Errors
    /// If a setting cannot be used, or there is no home directory and a path is needed.
    pub(super) fn config(&self, global: &Global) -> anyhow::Result<Config> {
        let listen = match self.listen.port {
            Some(port) => vec![(None, SocketAddr::from((Ipv4Addr::LOCALHOST, port)))],
            None => self.listen.listen.clone(),
        };
        has_its_cert(self.tls.ca_key.as_ref(), self.tls.ca_cert.as_ref())?;
        let record_filter = match self.record.record.as_deref() {
            Some(text) if !text.trim().is_empty() => Some(Filter::parse(text).map_err(CliError::Filter)?),
            _ => None,
        };
        let config = Config {
            listen: self.listen.with_modes(listen),
            access: self.listen.access.options()?,
            setup_host: self.listen.setup.host(),
            record: !self.record.no_record,
            record_filter,
            require_recording: self.record.require_recording,
            durability: match self.record.durability {
                DurabilityChoice::Full => Durability::Full,
                DurabilityChoice::Normal => Durability::Normal,
            },
            keep: Keep {
                max_age: self.record.max_age,
                max_size_bytes: self.record.max_size,
                max_flows: self.record.max_flows.map(|count| count as u64),
            },
            body_limit: self.record.body_limit.0,
            compress: self.record.compress,
            ca_files: self.tls.ca_cert.clone().map(|cert| CaFiles { cert, key: self.tls.ca_key.clone() }),
            upstream_ca: self.tls.upstream_ca.clone(),
            insecure: self.tls.insecure,
            via: self.upstream.via()?,
            certs: self.tls.cert.clone(),
            client_certs: self.tls.client_cert.clone(),
            passthrough: PassthroughOptions {
                ignore: self.tls.ignore_host.clone(),
                allow: self.tls.allow_host.clone(),
                automatic: !self.tls.no_auto_passthrough,
            },
            rules: self.rules.rules()?,
            timeouts: self.limits.timeouts(),
            limits: self.limits.limits(),
            ..Config::new(global.store()?, global.ca_dir()?)
        };
        config.check()?;
        Ok(config)
    }
}

impl ServingFlags {
    /// The settings for `serve`, which records into `record` alone.
    ///
    /// # Errors
    /// As [`ProxyFlags::config`].
    pub(super) fn for_serve(&self, global: &Global, record: Option<PathBuf>) -> anyhow::Result<Config> {
        let flags = ProxyFlags {
            listen: self.listen.clone(),
            upstream: self.upstream.clone(),
            record: RecordFlags::default(),
            tls: self.tls.clone(),
            rules: RuleFlags::default(),
            limits: self.limits.clone(),
        };
        let mut config = flags.config(global)?;
        config.record = record.is_some();
        config.store = record.unwrap_or(config.store);
        // There is no origin that could be seen instead.
        config.passthrough.automatic = false;
        Ok(config)
    }
}

impl ListenFlags {
    /// The listeners, those without a mode in the one that goes for them.
    fn with_modes(&self, listen: Vec<(Option<Mode>, SocketAddr)>) -> Vec<Listen> {
        let common = self.reverse.clone().map_or(Mode::Explicit, Mode::Reverse);
        let complete = |(mode, addr): (Option<Mode>, SocketAddr)| {
            let mut mode = mode.unwrap_or_else(|| common.clone());
            if let Mode::Reverse(reverse) = &mut mode {
                reverse.keep_host |= self.keep_host;
            }
            Listen { mode, addr }
        };
        listen.into_iter().map(complete).collect()
    }
}

impl LimitFlags {
    fn timeouts(&self) -> Timeouts {
        Timeouts {
            head: self.head_timeout,
            tls: self.tls_timeout,
            connect: self.connect_timeout,
            idle: self.idle_timeout,
            relay_idle: self.relay_timeout,
            silent_client: self.silent_client,
            grace: self.grace,
            ..Timeouts::default()
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            max_connections: self.max_connections,
            max_head_bytes: usize::try_from(self.max_head).unwrap_or(usize::MAX),
            max_fields: self.max_fields,
        }
    }
}

/// Refuses a --ca-key whose --ca-cert neither flag nor file nor environment gives.
///
/// # Errors
/// So it is.
pub(super) fn has_its_cert(key: Option<&PathBuf>, cert: Option<&PathBuf>) -> Result<(), CliError> {
    match (key, cert) {
        (Some(_), None) => Err(CliError::Flag {
            flag: "--ca-key",
            why: "it is the key of --ca-cert, which is not given".to_owned(),
        }),
        _ => Ok(()),
    }
}

/// `PEM` or `HOST=PEM`. A `=` behind a slash belongs to the file's name.
pub(super) fn parse_host_cert(text: &str) -> Result<HostCert, String> {
    let (host, pem) = match text.split_once('=') {
        Some((host, pem)) if !host.contains('/') => (Some(host), pem),
        _ => (None, text),
    };
    let odd = |host: &str| host.is_empty() || host.trim_start_matches("*.").contains('*');
    if host.is_some_and(odd) {
        return Err("HOST must be a host name, *.example.com or an IP address".to_owned());
    }
    if pem.is_empty() {
        return Err("a file was expected".to_owned());
    }
    Ok(HostCert { host: host.map(str::to_owned), pem: pem.into() })
}

fn parse_body_limit(text: &str) -> Result<BodyLimit, UnitError> {
    parse_size_or_none(text).map(BodyLimit)
}

/// Less than this, and the log that SQLite writes ahead would be most of it.
fn parse_max_size(text: &str) -> Result<u64, String> {
    match parse_positive_size(text).map_err(|error| error.to_string())? {
        size if size < 64 << 20 => Err("it must be at least 64MiB".to_owned()),
        size => Ok(size),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Cli, Command};
    use crate::cli::tree;

    /// What `run` makes of these flags.
    fn config(line: &str) -> anyhow::Result<Config> {
        let line = format!("manent run --store s --ca-dir c --no-config {line} -- true");
        let args: Vec<_> = line.split_whitespace().map(Into::into).collect();
        let mut parsed = crate::config::layers::parse(&tree::tree(), &args, &|_| None)?;
        let cli = <Cli as clap::FromArgMatches>::from_arg_matches_mut(&mut parsed.matches)?;
        match cli.command {
            Command::Run(run) => run.config(&cli.global),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nothing_given_is_the_default() {
        let config = config("").expect("defaults are usable");
        let listen = vec!["127.0.0.1:0".parse().expect("an address")];
        assert_eq!(config, Config { listen, ..Config::new("s".into(), "c".into()) });
    }

    #[test]
    fn flags_reach_the_settings() {
        let config =
            config("-p 99 -k --upstream-ca a --upstream-ca b --grace 0s --max-head 1MiB --no-record")
                .expect("good flags");
        assert_eq!(config.listen[0].addr.port(), 99);
        assert_eq!(config.upstream_ca, [PathBuf::from("a"), "b".into()]);
        assert!(config.insecure && !config.record && config.passthrough.automatic);
        assert_eq!(config.timeouts.grace, Duration::ZERO);
        assert_eq!(config.limits.max_head_bytes, 1 << 20);
        for (given, limit) in [("none", None), ("0", Some(0)), ("64KiB", Some(65_536))] {
            let config = self::config(&format!("--body-limit {given}")).expect("a good flag");
            assert_eq!(config.body_limit, limit);
        }
    }

    #[test]
    fn listeners_have_the_mode_that_is_named_or_the_common_one() {
        let modes = |line: &str| -> Vec<String> {
            let config = config(line).expect("good flags");
            config.listen.iter().map(|listen| format!("{}@{}", listen.mode, listen.addr.port())).collect()
        };
        assert_eq!(modes("-l 1 -l reverse:http://a.test@2"), ["explicit@1", "reverse:http://a.test@2"]);
        let reverse = "--reverse https://b.test:444";
        assert_eq!(modes(&format!("{reverse} -p 1")), ["reverse:https://b.test:444@1"]);
        assert_eq!(
            modes(&format!("{reverse} -l explicit@1 -l 2 -l reverse:http://a.test@3")),
            ["explicit@1", "reverse:https://b.test:444@2", "reverse:http://a.test@3"]
        );
        let keeps = |line: &str| match &config(line).expect("good flags").listen[0].mode {
            Mode::Reverse(reverse) => reverse.keep_host,
            mode => panic!("{mode}"),
        };
        assert!(keeps("--reverse http://a.test --keep-host") && !keeps("--reverse http://a.test"));
    }

    #[test]
    fn flags_say_what_is_left_unread_and_which_certificates_are_shown() {
        let config = config(
            r"--ignore-host a --ignore-host ^b{1,2}$ --allow-host c --no-auto-passthrough
              --cert d.test=d.pem --client-cert a.pem --client-cert *.b.test=b=.pem --client-cert ./c=d.pem",
        )
        .expect("good flags");
        let patterns = |texts: &[&str]| -> Vec<HostPattern> {
            texts.iter().map(|text| text.parse().expect("a pattern")).collect()
        };
        let passthrough = config.passthrough;
        assert_eq!(passthrough.ignore, patterns(&["a", "^b{1,2}$"]));
        assert_eq!((passthrough.allow, passthrough.automatic), (patterns(&["c"]), false));
        let certs = |certs: &[HostCert]| -> Vec<(Option<String>, PathBuf)> {
            certs.iter().map(|cert| (cert.host.clone(), cert.pem.clone())).collect()
        };
        assert_eq!(certs(&config.certs), [(Some("d.test".into()), "d.pem".into())]);
        let certs = certs(&config.client_certs);
        let certs: Vec<_> =
            certs.iter().map(|(host, pem)| (host.as_deref(), pem.to_str().expect("UTF-8"))).collect();
        assert_eq!(certs, [(None, "a.pem"), (Some("*.b.test"), "b=.pem"), (None, "./c=d.pem")]);
    }

    #[test]
    fn the_setup_page_has_a_name_or_is_off() {
        let host = |line: &str| config(line).expect("good flags").setup_host;
        assert_eq!(host(""), Some("manent".into()));
        assert_eq!(host("--setup-host Manent.Test"), Some("manent.test".into()));
        assert_eq!(host("--no-setup-page"), None);
    }

    #[test]
    fn contradictions_and_remote_listeners_are_refused() {
        for bad in [
            "-p 1 -l 2",
            "--no-record --require-recording",
            "--ca-key k",
            "--tls-timeout 0s",
            "--tls-timeout 10",
            "--max-fields 0",
            "--ignore-host (",
            "--cert a.test=",
            "--client-cert a.test=",
            "--client-cert =a.pem",
            "--body-limit some",
            "-l 0.0.0.0:8080",
            "-l reverse:http://a.test@0.0.0.0:8080 --proxy-auth u:p",
            "--proxy-auth user",
            "--proxy-auth @/no/such/file",
            "--allow 10.0.0.0/33",
            "--setup-host 127.0.0.1",
            "--setup-host http://manent/",
        ] {
            assert!(config(bad).is_err(), "{bad}");
        }
        for good in ["--allow-remote", "--open", "--proxy-auth u:p", "--allow 10.0.0.0/8"] {
            assert!(config(&format!("-l 0.0.0.0:8080 {good}")).is_ok(), "{good}");
        }
    }
}
