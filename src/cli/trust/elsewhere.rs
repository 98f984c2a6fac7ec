//! Machines that are not this one: what is to be run there, which is shown and never run here.

use super::{Kind, State, Step, Store, Subject};

/// The system's keychain of a Mac.
#[derive(Debug)]
pub(super) struct Mac;

/// The root store of a Windows machine.
#[derive(Debug)]
pub(super) struct Windows;

impl Store for Mac {
    fn kind(&self) -> Kind {
        Kind::Macos
    }

    fn place(&self) -> String {
        KEYCHAIN.to_owned()
    }

    fn state(&self, _: &Subject) -> State {
        State::Unknown("it is asked by: security verify-cert -c manent-ca.pem".to_owned())
    }

    fn install(&self, it: &Subject) -> Result<Vec<Step>, String> {
        let add = ["sudo", "security", "add-trusted-cert", "-d", "-r", "trustRoot", "-k", KEYCHAIN];
        Ok(vec![Step::elsewhere(&add).arg(&it.path)])
    }

    fn remove(&self, it: &Subject) -> Result<Vec<Step>, String> {
        let sum: String = it.cert.sha256().iter().map(|byte| format!("{byte:02X}")).collect();
        Ok(vec![
            Step::elsewhere(&["sudo", "security", "remove-trusted-cert", "-d"]).arg(&it.path),
            Step::elsewhere(&["sudo", "security", "delete-certificate", "-Z", &sum, KEYCHAIN]),
        ])
    }
}

impl Store for Windows {
    fn kind(&self) -> Kind {
        Kind::Windows
    }

    fn place(&self) -> String {
        "Root of the current user".to_owned()
    }

    fn state(&self, _: &Subject) -> State {
        State::Unknown("it is asked by: certutil -user -store Root".to_owned())
    }

    fn install(&self, _: &Subject) -> Result<Vec<Step>, String> {
        // The file is made by `manent ca export --format der`, and copied there.
        Ok(vec![Step::elsewhere(&["certutil", "-user", "-addstore", "Root", "manent-ca.cer"])])
    }

    fn remove(&self, it: &Subject) -> Result<Vec<Step>, String> {
        let name = it.cert.name().to_owned();
        Ok(vec![Step::elsewhere(&["certutil", "-user", "-delstore", "Root", &name])])
    }
}

const KEYCHAIN: &str = "/Library/Keychains/System.keychain";
