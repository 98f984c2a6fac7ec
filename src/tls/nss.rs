//! A certificate database as NSS has it (`cert9.db`), with one trusted authority: for a profile of Firefox that is made
//! without NSS's own tools, which few machines have.
//!
//! It is an SQLite file with one table, a column for each attribute of PKCS #11, numbers as four bytes in network order
//! (nss-dev/nss, `lib/softoken/sdb.c`). What makes an authority trusted is guarded by a MAC under a key in `key4.db`,
//! whose password is nothing. Neither is written here: where there is no `key4.db`, NSS makes one when it opens the
//! profile, and the MACs of what is in `cert9.db` with it (`sftkdb_ChangePassword`). So this is for new profiles alone.

use std::path::Path;

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Why a database was not made.
#[derive(Debug, thiserror::Error)]
pub enum NssError {
    /// The certificate is none.
    #[error("the certificate cannot be read")]
    Certificate,
    /// The file cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
}

/// Makes the database at `path` with the certificate `der`, trusted to say who a server is and for nothing else.
///
/// # Errors
/// If `der` is no certificate; if there is a database at `path`, or none can be written.
pub fn write_cert_db(path: &Path, der: &[u8], nickname: &str) -> Result<(), NssError> {
    let (_, cert) = X509Certificate::from_der(der).map_err(|_| NssError::Certificate)?;
    let sha1 = |bytes: &[u8]| digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref().to_vec();
    let serial = cert.tbs_certificate.raw_serial();
    let length =
        u8::try_from(serial.len()).ok().filter(|length| *length < 0x80).ok_or(NssError::Certificate)?;
    // As it stands in the certificate, tag and length with it.
    let serial = [&[0x02, length], serial].concat();
    let common = |class: u32| {
        vec![
            (CLASS, class.to_be_bytes().to_vec()),
            (TOKEN, vec![1]),
            (PRIVATE, vec![0]),
            (MODIFIABLE, vec![1]),
            (LABEL, nickname.into()),
            (ISSUER, cert.issuer().as_raw().to_vec()),
            (SERIAL_NUMBER, serial.clone()),
        ]
    };
    let mut certificate = common(CLASS_CERTIFICATE);
    certificate.extend([
        (CERTIFICATE_TYPE, X509.to_be_bytes().to_vec()),
        (SUBJECT, cert.subject().as_raw().to_vec()),
        (ID, sha1(&cert.public_key().subject_public_key.data)),
        (VALUE, der.to_vec()),
    ]);
    let mut trust = common(CLASS_TRUST);
    trust.extend([(SHA1_HASH, sha1(der)), (STEP_UP_APPROVED, vec![0])]);
    trust.push((SERVER_AUTH, TRUSTED_DELEGATOR.to_be_bytes().to_vec()));
    trust.extend(OTHER_USES.map(|usage| (usage, MUST_VERIFY.to_be_bytes().to_vec())));
    write(path, &[certificate, trust]).map_err(|source| NssError::Write { path: path.into(), source })
}

/// An attribute's number and its value.
type Attribute = (u32, Vec<u8>);

fn write(path: &Path, objects: &[Vec<Attribute>]) -> rusqlite::Result<()> {
    let mut db = Connection::open(path)?;
    let transaction = db.transaction()?;
    transaction.execute(
        &format!("CREATE TABLE nssPublic (id PRIMARY KEY UNIQUE ON CONFLICT ABORT, {COLUMNS})"),
        [],
    )?;
    for (id, attributes) in (1_i64..).zip(objects) {
        let names = attributes.iter().map(|(number, _)| format!(", a{number:x}")).collect::<String>();
        let places = ", ?".repeat(attributes.len());
        let values = attributes.iter().map(|(_, value)| Value::Blob(value.clone()));
        transaction.execute(
            &format!("INSERT INTO nssPublic (id{names}) VALUES (?{places})"),
            params_from_iter(std::iter::once(Value::Integer(id)).chain(values)),
        )?;
    }
    transaction.execute_batch(
        "CREATE INDEX issuer ON nssPublic (a81); CREATE INDEX subject ON nssPublic (a101);
         CREATE INDEX label ON nssPublic (a3); CREATE INDEX ckaid ON nssPublic (a102);",
    )?;
    transaction.commit()
}

// Attributes and their values (PKCS #11 2.40, `pkcs11t.h`; NSS's own begin with its vendor number, `pkcs11n.h`).
const CLASS: u32 = 0x0;
const TOKEN: u32 = 0x1;
const PRIVATE: u32 = 0x2;
const LABEL: u32 = 0x3;
const VALUE: u32 = 0x11;
const CERTIFICATE_TYPE: u32 = 0x80;
const ISSUER: u32 = 0x81;
const SERIAL_NUMBER: u32 = 0x82;
const SUBJECT: u32 = 0x101;
const ID: u32 = 0x102;
const MODIFIABLE: u32 = 0x170;
const NSS: u32 = 0xce53_4350;
const SERVER_AUTH: u32 = NSS + 0x2008;
/// For clients, code, e-mail.
const OTHER_USES: [u32; 3] = [NSS + 0x2009, NSS + 0x200a, NSS + 0x200b];
const STEP_UP_APPROVED: u32 = NSS + 0x2010;
const SHA1_HASH: u32 = NSS + 0x2064;

const CLASS_CERTIFICATE: u32 = 1;
const CLASS_TRUST: u32 = NSS + 3;
const X509: u32 = 0;
const TRUSTED_DELEGATOR: u32 = NSS + 2;
const MUST_VERIFY: u32 = NSS + 3;

/// Every attribute that NSS knows, as its `certutil -N` makes them (3.87). It adds those that are missing, but not in all
/// versions.
const COLUMNS: &str = "a0, a1, a2, a3, a10, a11, a12, a80, a81, a82, a83, a84, a85, a86, a87, a88, a89, a8a, a8b, a90, a100, a101, \
     a102, a103, a104, a105, a106, a107, a108, a109, a10a, a10b, a10c, a110, a111, a120, a121, a122, a123, a124, \
     a125, a126, a127, a128, a129, a130, a131, a132, a133, a134, a160, a161, a162, a163, a164, a165, a166, a170, \
     a180, a181, a200, a201, a202, a210, a300, a301, a302, a400, a401, a402, a403, a404, a405, a406, a480, a481, \
     a482, a500, a501, a502, a503, a40000211, a40000212, a80000001, ace534351, ace534352, ace534353, ace534354, \
     ace534355, ace534356, ace534357, ace534358, ace534364, ace534365, ace534366, ace534367, ace534368, \
     ace534369, ace534373, ace534374, ace536351, ace536352, ace536353, ace536354, ace536355, ace536356, \
     ace536357, ace536358, ace536359, ace53635a, ace53635b, ace53635c, ace53635d, ace53635e, ace53635f, \
     ace536360, ace5363b4, ace5363b5, ad5a0db00";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_and_its_trust_are_in_the_database() {
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(["a.test".to_owned()]).expect("a name");
        let cert = params.self_signed(&key).expect("a certificate");
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("cert9.db");
        write_cert_db(&path, cert.der(), "us").expect("writable");
        let db = Connection::open(&path).expect("it is there");
        let read = |sql: &str| -> Vec<u8> { db.query_row(sql, [], |row| row.get(0)).expect("a row") };
        assert_eq!(read("SELECT a11 FROM nssPublic WHERE a0 = x'00000001'"), cert.der().to_vec());
        assert_eq!(read("SELECT ace536358 FROM nssPublic WHERE a0 = x'ce534353'"), [0xce, 0x53, 0x43, 0x52]);
        // The one is found by the other's issuer and number.
        let both = "SELECT a.a3 FROM nssPublic a JOIN nssPublic b ON a.a81 = b.a81 AND a.a82 = b.a82 AND a.id <> b.id";
        assert_eq!(read(both), b"us");
        assert!(matches!(write_cert_db(&path, cert.der(), "us"), Err(NssError::Write { .. })));
        assert!(matches!(write_cert_db(&path, b"none", "us"), Err(NssError::Certificate)));
    }
}
