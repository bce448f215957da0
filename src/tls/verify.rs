//! What is wrong with the other side's certificate, in words.

use std::ffi::c_int;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ptr::null_mut;

use super::openssl;
use super::{Tls, owned};
use crate::output::printable;

/// Of a certificate so many names are told.
const MAX_NAMES: c_int = 10;

impl Tls {
    /// Why the other side's certificate is not to be believed, in words;
    /// `None` when it is.
    pub fn unverified(&self) -> Option<String> {
        let (library, ssl) = (self.library, self.ssl.as_ptr());
        // SAFETY: the SSL is alive.
        let result = unsafe { (library.SSL_get_verify_result)(ssl) };
        // the codes of x509_vfy.h
        Some(match result {
            // (no certificate, nothing to verify)
            0 if self.has_certificate() => return None,
            0 => "the server shows no certificate".into(),
            9 => "the certificate is not valid yet".into(),
            10 => "the certificate has expired".into(),
            18 => "the certificate is self-signed (--ca-file would trust it)"
                .into(),
            19..=21 => "the certificate is of an unknown authority \
                (--ca-file names one to trust)"
                .into(),
            62 | 64 => match self.certificate_names().join(", ") {
                none if none.is_empty() => {
                    "the certificate is for another name".into()
                }
                names => format!("the certificate is for {names}"),
            },
            code => {
                // SAFETY: it answers with a constant string for any number.
                let text = unsafe {
                    owned((library.X509_verify_cert_error_string)(code))
                };
                format!("the certificate cannot be verified: {text}")
            }
        })
    }

    /// `TLSv1.3, … with HOST, whose certificate was verified`
    pub fn with(&self, host: &str) -> String {
        let verified = match self.unverified() {
            None => "whose certificate was verified",
            Some(_) => "whose certificate was not verified",
        };
        format!("{} with {host}, {verified}", self.describe())
    }

    fn has_certificate(&self) -> bool {
        let library = self.library;
        // SAFETY: the SSL is alive; the certificate is ours to free, and
        // null is free to be freed.
        unsafe {
            let get = library.SSL_get1_peer_certificate;
            let certificate = get(self.ssl.as_ptr());
            (library.X509_free)(certificate);
            !certificate.is_null()
        }
    }

    /// The first names and addresses that the other side's certificate is for: its
    /// subjectAltName. RFC 5280 §4.2.1.6
    fn certificate_names(&self) -> Vec<String> {
        let library = self.library;
        let mut found = Vec::new();
        // SAFETY: each object is asked of the one before, checked for null,
        // and freed once; what is copied lies within it.
        unsafe {
            let get = library.SSL_get1_peer_certificate;
            let certificate = get(self.ssl.as_ptr());
            if certificate.is_null() {
                return found;
            }
            let nid = openssl::NID_SUBJECT_ALT_NAME;
            let get = library.X509_get_ext_d2i;
            let names = get(certificate, nid, null_mut(), null_mut());
            (library.X509_free)(certificate);
            if names.is_null() {
                return found;
            }
            let count = (library.OPENSSL_sk_num)(names);
            for i in 0..count.min(MAX_NAMES) {
                let name = (library.OPENSSL_sk_value)(names, i);
                let mut kind = 0;
                let get = library.GENERAL_NAME_get0_value;
                let value = get(name, &raw mut kind);
                if !matches!(kind, openssl::GEN_DNS | openssl::GEN_IPADD) {
                    continue;
                }
                let start = (library.ASN1_STRING_get0_data)(value);
                let length = (library.ASN1_STRING_length)(value);
                if start.is_null() || length <= 0 {
                    continue;
                }
                let bytes = std::slice::from_raw_parts(start, length as usize);
                found.push(printable(name_or_address(kind, bytes)));
            }
            (library.GENERAL_NAMES_free)(names);
        }
        found
    }
}

fn name_or_address(kind: c_int, bytes: &[u8]) -> String {
    if kind == openssl::GEN_IPADD {
        if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
            return Ipv4Addr::from(v4).to_string();
        }
        if let Ok(v6) = <[u8; 16]>::try_from(bytes) {
            return Ipv6Addr::from(v6).to_string();
        }
    }
    String::from_utf8_lossy(bytes).into_owned()
}
