//! Profiles: servers that an operator asks often, by name, in a file of their own.
//! Invariants: a flag wins over the environment, the environment over the profile, the profile over the default; a file
//! that others may read is refused, because it holds secrets; without a name no file is read.
//! Not here: what is asked (`cli`).

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

const ENDPOINT: &str = "http://127.0.0.1:9001";
const REGION: &str = "us-east-1";
/// Readable or writable by group or others.
const OTHERS_MODE: u32 = 0o077;

/// Where a server is and who asks, as far as somebody said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Profile {
    pub(crate) endpoint: Option<String>,
    pub(crate) region: Option<String>,
    pub(crate) access_key: Option<String>,
    pub(crate) secret_key: Option<String>,
}

/// The same with nothing left open but the keys.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) endpoint: String,
    pub(crate) region: String,
    pub(crate) access_key: String,
    pub(crate) secret_key: String,
}

impl Profile {
    /// What is said here, else what `profile` says, else the default. What is said with nothing in it is not said.
    pub(crate) fn or(self, profile: Profile) -> Settings {
        let pick = |said: Option<String>, other: Option<String>, default: &str| {
            let mut all = said.into_iter().chain(other).filter(|text| !text.is_empty());
            all.next().unwrap_or_else(|| default.to_owned())
        };
        Settings {
            endpoint: pick(self.endpoint, profile.endpoint, ENDPOINT),
            region: pick(self.region, profile.region, REGION),
            access_key: pick(self.access_key, profile.access_key, ""),
            secret_key: pick(self.secret_key, profile.secret_key, ""),
        }
    }
}

/// The file of profiles: `BASALT_CONFIG_FILE`, else below the home directory.
pub(crate) fn file_of(environment: &dyn Fn(&str) -> Option<String>) -> Result<PathBuf, String> {
    let said = |name: &str| environment(name).filter(|value| !value.is_empty());
    let home = || said("HOME").map(|home| Path::new(&home).join(".config/basalt/config.toml"));
    let file = said("BASALT_CONFIG_FILE").map(PathBuf::from).or_else(home);
    file.ok_or_else(|| {
        "there is no home directory: name the file of profiles by BASALT_CONFIG_FILE".to_owned()
    })
}

/// A profile by its name.
pub(crate) fn read(file: &Path, name: &str) -> Result<Profile, String> {
    let shown = file.display();
    let cannot = |error: std::io::Error| format!("the profiles in {shown} cannot be read: {error}");
    let mode = std::fs::metadata(file).map_err(cannot)?.permissions().mode();
    if mode & OTHERS_MODE != 0 {
        return Err(format!("{shown} holds secrets and others may read it: chmod 600 {shown}"));
    }
    let text = std::fs::read_to_string(file).map_err(cannot)?;
    let mut profiles = parse(&text).map_err(|what| format!("{shown} is no file of profiles: {what}"))?;
    profiles.remove(name).ok_or_else(|| {
        let known: Vec<String> = profiles.into_keys().collect();
        format!("{shown} has no profile {name}; it has {}", known.join(", "))
    })
}

fn parse(text: &str) -> Result<BTreeMap<String, Profile>, String> {
    // The library shows the line that it stopped at, which may hold a secret.
    toml::from_str(text).map_err(|error| error.message().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(endpoint: &str, secret_key: &str) -> Profile {
        let said = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Profile { endpoint: said(endpoint), secret_key: said(secret_key), ..Profile::default() }
    }

    #[test]
    fn what_is_said_wins_over_the_profile_and_that_over_the_default() {
        let settings = profile("http://said:1", "").or(profile("http://profile:1", "of-the-profile"));
        assert_eq!(settings.endpoint, "http://said:1");
        assert_eq!((settings.secret_key.as_str(), settings.region.as_str()), ("of-the-profile", "us-east-1"));
        assert_eq!(Profile::default().or(Profile::default()).endpoint, "http://127.0.0.1:9001");
        let empty = Profile { secret_key: Some(String::new()), ..Profile::default() };
        assert_eq!(empty.or(profile("", "of-the-profile")).secret_key, "of-the-profile");
    }

    #[test]
    fn profiles_are_tables_and_an_error_tells_no_secret() {
        let profiles = parse("[lab]\nendpoint = 'http://lab:9001'\nsecret_key = 's'\n[other]\n").unwrap();
        assert_eq!(profiles["lab"], profile("http://lab:9001", "s"));
        let error = parse("[lab]\nsecret_keys = 'very-secret'\n").unwrap_err();
        assert!(error.contains("secret_keys") && !error.contains("very-secret"), "{error}");
        let error = parse("[lab]\nsecret_key = very-secret\n").unwrap_err();
        assert!(!error.contains("very-secret"), "{error}");
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let file = std::env::temp_dir().join(format!("basaltctl-profile-{}.toml", std::process::id()));
        std::fs::write(&file, "[lab]\naccess_key = 'a'\n").unwrap();
        let refused = |mode| {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            read(&file, "lab")
        };
        assert!(refused(0o644).unwrap_err().contains("chmod 600"));
        assert!(refused(0o620).is_err());
        assert_eq!(refused(0o600).unwrap().access_key.as_deref(), Some("a"));
        assert!(read(&file, "laboratory").unwrap_err().contains("it has lab"));
        std::fs::remove_file(&file).unwrap();
        assert!(read(&file, "lab").is_err());
    }

    #[test]
    fn the_file_is_named_or_lies_below_the_home_directory() {
        let home = |name: &str| (name == "HOME").then(|| "/home/me".to_owned());
        assert_eq!(file_of(&home), Ok(PathBuf::from("/home/me/.config/basalt/config.toml")));
        let named = |name: &str| (name == "BASALT_CONFIG_FILE").then(|| "/etc/x.toml".to_owned());
        assert_eq!(file_of(&named), Ok(PathBuf::from("/etc/x.toml")));
        assert!(file_of(&|_| None).is_err());
    }
}
