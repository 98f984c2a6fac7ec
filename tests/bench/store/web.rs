//! A made-up web for the generator: hosts and how often they are asked, what they serve, and the bytes of bodies.
//!
//! 300 hosts, asked by Zipf's law (the host of rank r has a share of 1/r): a few take most, most are rare. One more,
//! [`RARE_HOST`], is asked once in [`RARE_EVERY`] flows, always for [`RARE_PATH`], so that a search has something to look
//! for that is nowhere else. All is made anew in each run from fixed seeds, so it is the same everywhere.

use bytes::Bytes;

/// The host that is asked once in [`RARE_EVERY`] flows.
pub(crate) const RARE_HOST: &str = "rare.needle.example";
/// What is asked there; nothing else in the store has it.
pub(crate) const RARE_PATH: &str = "/wp-login.php?redirect_to=needle";
/// A prime, so that it coincides with no other period.
pub(crate) const RARE_EVERY: u64 = 99_991;

/// What a request is for: it decides on path, header fields and type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resource {
    Page,
    Script,
    Style,
    Image,
    Font,
    Api,
    Beacon,
}

impl Resource {
    /// Of a hundred requests of a browser, as the HTTP Archive has them by and large.
    pub(crate) fn draw(chance: &mut Chance) -> Self {
        match chance.below(100) {
            0..7 => Resource::Page,
            7..29 => Resource::Script,
            29..35 => Resource::Style,
            35..68 => Resource::Image,
            68..71 => Resource::Font,
            71..92 => Resource::Api,
            _ => Resource::Beacon,
        }
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Resource::Page => "text/html; charset=utf-8",
            Resource::Script => "application/javascript",
            Resource::Style => "text/css",
            Resource::Image => "image/webp",
            Resource::Font => "font/woff2",
            Resource::Api => "application/json; charset=utf-8",
            Resource::Beacon => "image/gif",
        }
    }

    /// The types of what is text.
    pub(crate) const TEXTS: [&str; 4] =
        ["text/html; charset=utf-8", "application/javascript", "text/css", "application/json; charset=utf-8"];

    /// Whether its bytes are text; else they are as good as random.
    fn is_text(self) -> bool {
        !matches!(self, Resource::Image | Resource::Font | Resource::Beacon)
    }
}

/// Hosts and bytes, made once.
pub(crate) struct Web {
    hosts: Vec<String>,
    /// Shares of the hosts up to each, in rising order.
    shares: Vec<f64>,
    text: Bytes,
    noise: Bytes,
}

impl Web {
    pub(crate) fn new() -> Self {
        let mut chance = Chance::new(1);
        let hosts: Vec<String> = (0..HOSTS).map(|rank| host(rank, &mut chance)).collect();
        let mut sum = 0.0;
        let shares = (1..=HOSTS)
            .map(|rank| {
                sum += 1.0 / f64::from(rank);
                sum
            })
            .collect();
        let mut text = Vec::with_capacity(POOL_BYTES + 64);
        while text.len() < POOL_BYTES {
            text.extend_from_slice(WORDS[chance.index(WORDS.len())].as_bytes());
            text.extend_from_slice([" ", "\": \"", "\", \"", ", ", "\n"][chance.index(5)].as_bytes());
        }
        let noise: Vec<u8> = (0..POOL_BYTES / 8).flat_map(|_| chance.next().to_le_bytes()).collect();
        Self { hosts, shares, text: text.into(), noise: noise.into() }
    }

    /// The host of a rank, from 0, the most frequent.
    pub(crate) fn host(&self, rank: usize) -> &str {
        &self.hosts[rank]
    }

    /// The rank of the host that is asked next.
    pub(crate) fn draw_host(&self, chance: &mut Chance) -> usize {
        let at = chance.unit() * self.shares.last().copied().unwrap_or(0.0);
        self.shares.partition_point(|&share| share < at).min(self.hosts.len() - 1)
    }

    /// `len` bytes of a body, up to 4 MiB. They are a slice of one pool: nothing is copied.
    pub(crate) fn body(&self, resource: Resource, len: usize, chance: &mut Chance) -> Bytes {
        let pool = if resource.is_text() { &self.text } else { &self.noise };
        let from = chance.index(pool.len() - len.min(POOL_BYTES) + 1);
        pool.slice(from..from + len.min(POOL_BYTES))
    }
}

fn host(rank: u32, chance: &mut Chance) -> String {
    let sub = ["www", "api", "cdn", "img", "static", "assets", "m", "tracking"][chance.index(8)];
    let (one, other) = (WORDS[chance.index(WORDS.len())], WORDS[chance.index(WORDS.len())]);
    format!("{sub}.{one}-{other}{rank}.example")
}

/// Chance, the same in each run: xorshift64*.
#[derive(Debug, Clone)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `limit`, which is above 0.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 16) % limit
    }

    /// A place in something of this length.
    #[expect(clippy::cast_possible_truncation, reason = "below a usize")]
    pub(crate) fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// From 0 to 1.
    #[expect(clippy::cast_precision_loss, reason = "32 bits fit a float")]
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 32) as f64 / (1_u64 << 32) as f64
    }

    /// Between the two, each order of magnitude as likely as the other.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a length of a body")]
    pub(crate) fn log_uniform(&mut self, least: f64, most: f64) -> usize {
        (least * (most / least).powf(self.unit())) as usize
    }
}

const HOSTS: u32 = 300;

/// The longest body is a slice of this.
const POOL_BYTES: usize = 4 << 20;

const WORDS: &[&str] = &[
    "alpine", "anchor", "apple", "atlas", "aurora", "autumn", "basalt", "beacon", "birch", "bloom", "breeze",
    "bridge", "cedar", "cinder", "clover", "cobalt", "copper", "coral", "delta", "ember", "falcon", "fern",
    "field", "flint", "forest", "garden", "garnet", "glacier", "granite", "harbor", "hazel", "heron",
    "indigo", "island", "ivory", "jasper", "juniper", "lagoon", "lantern", "larch", "linden", "lumen",
    "maple", "marble", "meadow", "mesa", "mirror", "nectar", "north", "oasis", "ocean", "olive", "opal",
    "orchard", "orchid", "pebble", "pine", "prairie", "quartz", "raven", "reef", "ridge", "river", "rowan",
    "saffron", "sage", "sierra", "silver", "slate", "sparrow", "spruce", "summit", "thistle", "timber",
    "tundra", "valley", "velvet", "violet", "walnut", "willow", "winter", "yarrow", "zenith", "zephyr",
];
