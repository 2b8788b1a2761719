//! The key that secrets are sealed with: a file beside the group's, for its owner only.
//!
//! It is made at the first start. One that is missing later is not made anew while there is something sealed with it,
//! so that it can be put back; only a new secret makes a new one.

use crate::chap::Secret;
use crate::sealed::{KEY_BYTES, NONCE_BYTES, Place, Sealed, Unopened, from_hex, hex};
use crate::{Error, ErrorKind, Result};
use block::Runtime;
use parking_lot::RwLock;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Name of the key's file.
pub(crate) const FILE_NAME: &str = "secret.key";

/// First line of the file.
const HEADING: &str = "palisade secret key 1";

/// Random bytes of a new key: its name and itself.
const RANDOM_BYTES: usize = 16 + KEY_BYTES;

type Random = Zeroizing<[u8; RANDOM_BYTES]>;

struct Key {
    id: String,
    bytes: Zeroizing<[u8; KEY_BYTES]>,
}

/// The key, or why there is none.
pub(crate) struct SecretKey {
    path: PathBuf,
    key: RwLock<std::result::Result<Key, Missing>>,
}

enum Missing {
    /// There is no file.
    Gone,
    /// The file cannot be used.
    Unusable(String),
}

/// Random bytes for a new key.
pub(crate) fn random(runtime: &dyn Runtime) -> Random {
    let mut random = Zeroizing::new([0; RANDOM_BYTES]);
    random.chunks_exact_mut(16).for_each(|part| part.copy_from_slice(&runtime.random_id()));
    random
}

fn nonce(runtime: &dyn Runtime) -> [u8; NONCE_BYTES] {
    let mut nonce = [0; NONCE_BYTES];
    let random = [runtime.random_id(), runtime.random_id()];
    nonce.iter_mut().zip(random.as_flattened()).for_each(|(byte, random)| *byte = *random);
    nonce
}

impl Key {
    fn new(random: &Random) -> Self {
        let (id, key) = random.split_at(16);
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        bytes.copy_from_slice(key);
        Self { id: hex(id), bytes }
    }

    fn read(path: &Path) -> std::result::Result<Self, Missing> {
        let text = std::fs::read_to_string(path).map(Zeroizing::new).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Missing::Gone,
            _ => Missing::Unusable(error.to_string()),
        })?;
        let damaged = || Missing::Unusable("it is damaged".to_owned());
        let lines: Vec<&str> = text.lines().collect();
        let [HEADING, id, key] = lines.as_slice() else { return Err(damaged()) };
        let key = from_hex(key).map(Zeroizing::new).ok_or_else(damaged)?;
        let bytes = <[u8; KEY_BYTES]>::try_from(key.as_slice()).map_err(|_| damaged())?;
        Ok(Self { id: (*id).to_owned(), bytes: Zeroizing::new(bytes) })
    }

    /// Writes the file, which may not be there. It is on the disk before anything is sealed with it.
    fn write(&self, path: &Path) -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let key = Zeroizing::new(hex(&*self.bytes));
        let text = Zeroizing::new(format!("{HEADING}\n{}\n{}\n", self.id, *key));
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
    }
}

impl SecretKey {
    /// Reads the key. One that is not there is made of `random`, if given.
    pub(crate) fn load(path: PathBuf, random: Option<Random>) -> Self {
        let mut key = Key::read(&path);
        if let (Err(Missing::Gone), Some(random)) = (&key, random) {
            let new = Key::new(&random);
            key = match new.write(&path) {
                Ok(()) => Ok(new),
                Err(error) => Err(Missing::Unusable(error.to_string())),
            };
        }
        let this = Self { path, key: RwLock::new(key) };
        if let Err(missing) = &*this.key.read() {
            tracing::error!("{}", this.error(missing));
        }
        this
    }

    fn error(&self, missing: &Missing) -> Error {
        let object = self.path.display().to_string();
        let what = match missing {
            Missing::Gone => "the key of the CHAP secrets is missing".to_owned(),
            Missing::Unusable(why) => format!("the key of the CHAP secrets cannot be used: {why}"),
        };
        let message = format!(
            "{what}; hosts with a secret are refused. Put the file back as it was and start again, or set the secrets \
             anew (a file that cannot be used has to be moved away first)"
        );
        Error::new(ErrorKind::Corrupt, object, message)
    }

    /// Seals a secret. A key that is gone is made anew. Blocks.
    pub(crate) fn seal(&self, runtime: &dyn Runtime, place: Place<'_>, secret: &Secret) -> Result<Sealed> {
        let mut key = self.key.write();
        if let Err(Missing::Gone) = &*key {
            let new = Key::new(&random(runtime));
            new.write(&self.path).map_err(|error| self.error(&Missing::Unusable(error.to_string())))?;
            *key = Ok(new);
        }
        match &*key {
            Ok(key) => Sealed::seal(&key.id, &key.bytes, nonce(runtime), place, secret)
                .ok_or_else(|| Error::new(ErrorKind::Internal, "secret", "it cannot be encrypted")),
            Err(missing) => Err(self.error(missing)),
        }
    }

    /// Opens a sealed secret.
    pub(crate) fn open(&self, place: Place<'_>, sealed: &Sealed) -> Result<Secret> {
        let key = self.key.read();
        let key = key.as_ref().map_err(|missing| self.error(missing))?;
        sealed.open(&key.id, &key.bytes, place).map_err(|why| {
            let message = match why {
                Unopened::OtherKey => format!(
                    "its CHAP secret is encrypted with another key than {}; put the key file of that time back and \
                     start again, or set the secret anew",
                    self.path.display()
                ),
                Unopened::Damaged => "its CHAP secret is damaged or of another record; set it anew".to_owned(),
            };
            Error::new(ErrorKind::Corrupt, place.object, message)
        })
    }
}
