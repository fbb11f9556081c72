//! What the operator sees at start: one screen the first time, what changed afterwards.
//! Invariants: secrets are printed once, at the first start, and only when Basalt made them; lines to paste work as
//! they stand.
//! Not here: logs, which go to stderr.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use shardstore_format::Profile;

use crate::config::ListenAddress;

/// Everything that the screen tells.
#[derive(Clone, Debug)]
pub struct Screen {
    /// Labels of the drives in use.
    pub drives: Vec<String>,
    /// Labels of member drives that are not there.
    pub missing: Vec<String>,
    /// Redundancy of the pool.
    pub profile: Profile,
    /// CPUs in use.
    pub cpus: Vec<usize>,
    /// Flags of the rings, as the kernel granted them.
    pub ring_flags: String,
    /// Erasure kernel.
    pub kernel: String,
    /// Memory budget in bytes.
    pub memory_bytes: u64,
    /// S3 listener; at least one address.
    pub listen: Vec<ListenAddress>,
    /// Whether clients must be told not to verify the certificate.
    pub is_self_signed: bool,
    /// Admin listener.
    pub admin_listen: SocketAddr,
    /// Region.
    pub region: String,
    /// Access key of root.
    pub access_key: String,
    /// The secret, when it was made just now and must be shown.
    pub new_secret_key: Option<String>,
    /// Remarks of recovery, for the operator.
    pub notes: Vec<String>,
}

impl Screen {
    /// The endpoint as a client on this machine would write it.
    fn endpoint(&self) -> String {
        let ListenAddress { address, is_tls } = self.listen[0];
        let ip = match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        ListenAddress { address: SocketAddr::new(ip, address.port()), is_tls }.to_string()
    }

    fn listen_text(&self) -> String {
        self.listen.iter().map(ListenAddress::to_string).collect::<Vec<_>>().join(" ")
    }

    /// The facts that a later start compares with this one.
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        vec![
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("drives", self.drives.len().to_string()),
            ("missing", if self.missing.is_empty() { "none".to_owned() } else { self.missing.join(", ") }),
            ("redundancy", format!("{}+{}", self.profile.k, self.profile.m)),
            ("cores", list(&self.cpus)),
            ("memory", format!("{} MiB", self.memory_bytes >> 20)),
            ("listen", self.listen_text()),
            ("admin", self.admin_listen.to_string()),
            ("region", self.region.clone()),
            ("access key", self.access_key.clone()),
        ]
    }

    /// The first start's screen.
    pub fn first(&self) -> String {
        let mut out = String::new();
        let endpoint = self.endpoint();
        let Profile { k, m } = self.profile;
        let secret = self.new_secret_key.as_deref();
        let mut line = |text: String| {
            out.push_str(&text);
            out.push('\n');
        };
        line(format!("Basalt {}", env!("CARGO_PKG_VERSION")));
        line(format!("  drives      {} at {k}+{m}: {}", self.drives.len(), self.drives.join(" ")));
        if m == 0 {
            line("  WARNING     no redundancy: a lost drive is lost data. Give two or more drives to survive one.".to_owned());
        } else {
            line(format!("              any {m} of them may fail"));
        }
        line(format!(
            "  cores       {} ({}; erasure coding by {}), memory {} MiB",
            list(&self.cpus),
            self.ring_flags,
            self.kernel,
            self.memory_bytes >> 20
        ));
        line(format!("  S3          {}  region {}", self.listen_text(), self.region));
        if self.is_self_signed {
            line("  WARNING     the certificate is made anew at every start: clients must be told not to verify it".to_owned());
        }
        line(format!("  admin       http://{}  /healthz /readyz /metrics", self.admin_listen));
        line(format!("  access key  {}", self.access_key));
        match secret {
            Some(secret) => line(format!("  secret key  {secret}   (shown this once; keep it)")),
            None => line("  secret key  as you set it in BASALT_ROOT_SECRET_KEY".to_owned()),
        }
        for note in &self.notes {
            line(format!("  note        {note}"));
        }
        line(
            "  master key  identity/master.key on every drive: losing all copies loses the secrets and the \
             encrypted objects under it"
                .to_owned(),
        );
        out.push_str(&self.paste_lines(&endpoint, secret.unwrap_or("YOUR_SECRET_KEY")));
        out
    }

    fn paste_lines(&self, endpoint: &str, secret: &str) -> String {
        let (key, region) = (&self.access_key, &self.region);
        format!(
            "\nPaste one of these:\n\
             export AWS_ACCESS_KEY_ID={key} AWS_SECRET_ACCESS_KEY={secret} AWS_DEFAULT_REGION={region}\n\
             aws --endpoint-url {endpoint} s3 mb s3://demo && aws --endpoint-url {endpoint} s3 ls\n\
             mc alias set basalt {endpoint} {key} {secret} && mc mb basalt/demo\n\
             rclone lsd :s3: --s3-provider Other --s3-endpoint {endpoint} --s3-access-key-id {key} --s3-secret-access-key {secret}\n\
             python3 -c \"import boto3; s3 = boto3.client('s3', endpoint_url='{endpoint}', aws_access_key_id='{key}', \
             aws_secret_access_key='{secret}', region_name='{region}'); print(s3.list_buckets()['Buckets'])\"\n"
        )
    }

    /// A later start's lines: where it listens, what changed since `before`, and remarks.
    pub fn later(&self, before: &[(String, String)]) -> String {
        let mut out = format!(
            "Basalt {}: {} drives at {}+{}, S3 {}, admin http://{}\n",
            env!("CARGO_PKG_VERSION"),
            self.drives.len(),
            self.profile.k,
            self.profile.m,
            self.endpoint(),
            self.admin_listen
        );
        for (name, now) in self.facts() {
            let was = before.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
            if was.is_some_and(|was| was != now) {
                writeln!(out, "  changed     {name}: {} -> {now}", was.unwrap_or_default())
                    .expect("writes to a String");
            }
        }
        if !self.missing.is_empty() {
            writeln!(out, "  WARNING     missing drives: {}", self.missing.join(" "))
                .expect("writes to a String");
        }
        for note in &self.notes {
            writeln!(out, "  note        {note}").expect("writes to a String");
        }
        out
    }
}

/// The facts as lines `name = value`, for the next start.
pub fn facts_to_text(facts: &[(&'static str, String)]) -> Vec<u8> {
    facts.iter().map(|(name, value)| format!("{name} = {value}\n")).collect::<String>().into_bytes()
}

/// Reads [`facts_to_text`] back; lines that are not facts are passed over.
pub fn facts_from_text(text: &[u8]) -> Vec<(String, String)> {
    String::from_utf8_lossy(text)
        .lines()
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn list(cpus: &[usize]) -> String {
    cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn screen() -> Screen {
        Screen {
            drives: vec!["./data".to_owned()],
            missing: Vec::new(),
            profile: Profile { k: 1, m: 0 },
            cpus: vec![0, 1],
            ring_flags: "DEFER_TASKRUN".to_owned(),
            kernel: "avx2".to_owned(),
            memory_bytes: 1 << 30,
            listen: vec![ListenAddress { address: "0.0.0.0:9000".parse().unwrap(), is_tls: false }],
            is_self_signed: false,
            admin_listen: "127.0.0.1:9001".parse().unwrap(),
            region: "us-east-1".to_owned(),
            access_key: "KEY".to_owned(),
            new_secret_key: Some("SECRET".to_owned()),
            notes: Vec::new(),
        }
    }

    #[test]
    fn the_first_screen_warns_of_no_redundancy_and_fits_a_terminal() {
        let text = screen().first();
        assert!(text.contains("WARNING     no redundancy"));
        assert!(text.lines().count() <= 24, "{}", text.lines().count());
    }

    #[test]
    fn lines_to_paste_name_an_address_that_a_client_can_reach() {
        let text = screen().first();
        assert!(text.contains("http://127.0.0.1:9000"));
        assert!(!text.contains("--endpoint-url http://0.0.0.0"));
    }

    #[test]
    fn later_starts_tell_what_changed_and_no_secret() {
        let before = facts_from_text(&facts_to_text(&screen().facts()));
        assert_eq!(screen().later(&before).lines().count(), 1);
        let moved = Screen { memory_bytes: 2 << 30, ..screen() };
        let text = moved.later(&before);
        assert!(text.contains("memory: 1024 MiB -> 2048 MiB"), "{text}");
        assert!(!text.contains("SECRET"));
    }
}
