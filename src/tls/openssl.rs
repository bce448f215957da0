//! The functions of the system's OpenSSL that TLS takes, found in
//! `libssl.so` when the first connection wants them (dlopen, dlsym). Names
//! and types are those of its headers; 1.1 and 3 have all of them.

use std::ffi::{CStr, c_char, c_int, c_long, c_uchar, c_uint, c_ulong, c_void};
use std::sync::OnceLock;

/// The library by its versions, the newest first. It brings libcrypto.
const LIBRARIES: [&CStr; 2] = [c"libssl.so.3", c"libssl.so.1.1"];

/// Named as it is in OpenSSL 1.1.
const OLD_PEER_CERTIFICATE: &CStr = c"SSL_get_peer_certificate";

/// C's types, of which only addresses pass through here.
pub enum SslMethod {}
pub enum SslCtx {}
pub enum Ssl {}
pub enum X509 {}

// ssl.h
pub const FILETYPE_PEM: c_int = 1;
pub const ERROR_SSL: c_int = 1;
pub const ERROR_WANT_READ: c_int = 2;
pub const ERROR_WANT_WRITE: c_int = 3;
pub const ERROR_ZERO_RETURN: c_int = 6;
pub const OP_NO_RENEGOTIATION: u64 = 1 << 30;
pub const CTRL_MODE: c_int = 33;
pub const CTRL_SET_READ_AHEAD: c_int = 41;
pub const CTRL_SET_TLSEXT_HOSTNAME: c_int = 55;
pub const CTRL_SET_MIN_PROTO_VERSION: c_int = 123;
pub const TLS1_2_VERSION: c_long = 0x0303;
/// A write may end early, its buffer may move, and an idle connection holds
/// no buffers.
pub const MODES: c_long = 0x1 | 0x2 | 0x10;
// x509v3.h, obj_mac.h
/// No wildcard within a label, and no name but in subjectAltName: RFC 9525
/// §6.3, §2.
pub const HOST_FLAGS: c_uint = 0x4 | 0x20;
pub const NID_SUBJECT_ALT_NAME: c_int = 85;
pub const GEN_DNS: c_int = 2;
pub const GEN_IPADD: c_int = 7;

/// A table with a field for each function, and how to fill it.
macro_rules! functions {
    ($($name:ident: fn($($argument:ty),*) $(-> $result:ty)?;)*) => {
        #[allow(non_snake_case)]
        pub struct OpenSsl {
            $(pub $name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
        }

        impl OpenSsl {
            fn bind(library: *mut c_void) -> Result<OpenSsl, String> {
                Ok(OpenSsl { $($name: {
                    let name = concat!(stringify!($name), "\0");
                    let found = find(library, name)?;
                    // SAFETY: OpenSSL's function of this name has this type.
                    unsafe { std::mem::transmute::<
                        *mut c_void,
                        unsafe extern "C" fn($($argument),*) $(-> $result)?,
                    >(found) }
                },)* })
            }
        }
    };
}

functions! {
    TLS_client_method: fn() -> *const SslMethod;
    TLS_server_method: fn() -> *const SslMethod;
    SSL_CTX_new: fn(*const SslMethod) -> *mut SslCtx;
    SSL_CTX_free: fn(*mut SslCtx);
    SSL_CTX_ctrl: fn(*mut SslCtx, c_int, c_long, *mut c_void) -> c_long;
    SSL_CTX_set_default_read_buffer_len: fn(*mut SslCtx, usize);
    SSL_CTX_set_options: fn(*mut SslCtx, u64) -> u64;
    SSL_CTX_set_default_verify_paths: fn(*mut SslCtx) -> c_int;
    SSL_CTX_load_verify_locations:
        fn(*mut SslCtx, *const c_char, *const c_char) -> c_int;
    SSL_CTX_use_certificate_chain_file:
        fn(*mut SslCtx, *const c_char) -> c_int;
    SSL_CTX_use_PrivateKey_file:
        fn(*mut SslCtx, *const c_char, c_int) -> c_int;
    SSL_new: fn(*mut SslCtx) -> *mut Ssl;
    SSL_free: fn(*mut Ssl);
    SSL_set_fd: fn(*mut Ssl, c_int) -> c_int;
    SSL_ctrl: fn(*mut Ssl, c_int, c_long, *mut c_void) -> c_long;
    SSL_set_hostflags: fn(*mut Ssl, c_uint);
    SSL_set1_host: fn(*mut Ssl, *const c_char) -> c_int;
    SSL_get0_param: fn(*mut Ssl) -> *mut c_void;
    SSL_connect: fn(*mut Ssl) -> c_int;
    SSL_accept: fn(*mut Ssl) -> c_int;
    SSL_read: fn(*mut Ssl, *mut c_void, c_int) -> c_int;
    SSL_has_pending: fn(*const Ssl) -> c_int;
    SSL_peek: fn(*mut Ssl, *mut c_void, c_int) -> c_int;
    SSL_write: fn(*mut Ssl, *const c_void, c_int) -> c_int;
    SSL_shutdown: fn(*mut Ssl) -> c_int;
    SSL_get_error: fn(*const Ssl, c_int) -> c_int;
    SSL_get_verify_result: fn(*const Ssl) -> c_long;
    SSL_get_version: fn(*const Ssl) -> *const c_char;
    SSL_get_current_cipher: fn(*const Ssl) -> *const c_void;
    SSL_CIPHER_get_name: fn(*const c_void) -> *const c_char;
    SSL_get1_peer_certificate: fn(*const Ssl) -> *mut X509;
    X509_free: fn(*mut X509);
    X509_VERIFY_PARAM_set1_ip_asc: fn(*mut c_void, *const c_char) -> c_int;
    X509_verify_cert_error_string: fn(c_long) -> *const c_char;
    X509_get_ext_d2i:
        fn(*const X509, c_int, *mut c_int, *mut c_int) -> *mut c_void;
    GENERAL_NAMES_free: fn(*mut c_void);
    GENERAL_NAME_get0_value: fn(*const c_void, *mut c_int) -> *mut c_void;
    OPENSSL_sk_num: fn(*const c_void) -> c_int;
    OPENSSL_sk_value: fn(*const c_void, c_int) -> *mut c_void;
    ASN1_STRING_get0_data: fn(*const c_void) -> *const c_uchar;
    ASN1_STRING_length: fn(*const c_void) -> c_int;
    ERR_get_error: fn() -> c_ulong;
    ERR_clear_error: fn();
    ERR_reason_error_string: fn(c_ulong) -> *const c_char;
}

/// The library, loaded at the first call; the error says what to install.
pub fn openssl() -> Result<&'static OpenSsl, String> {
    static LIBRARY: OnceLock<Result<OpenSsl, String>> = OnceLock::new();
    LIBRARY.get_or_init(load).as_ref().map_err(Clone::clone)
}

fn load() -> Result<OpenSsl, String> {
    for name in LIBRARIES {
        // SAFETY: a C string goes in; a handle that is never closed, or
        // null, comes out.
        let library = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW) };
        if !library.is_null() {
            return OpenSsl::bind(library);
        }
    }
    Err("there is no OpenSSL 3 or 1.1 on this machine: install the package \
         libssl3 (Debian, Ubuntu), openssl-libs (Fedora) or openssl (Arch)"
        .into())
}

/// The address of a function; `name` ends with a NUL.
fn find(library: *mut c_void, name: &str) -> Result<*mut c_void, String> {
    // SAFETY: the handle is dlopen's, and the name is a C string.
    let mut found = unsafe { libc::dlsym(library, name.as_ptr().cast()) };
    if found.is_null() && name.starts_with("SSL_get1_peer_certificate") {
        let old = OLD_PEER_CERTIFICATE.as_ptr();
        // SAFETY: as above.
        found = unsafe { libc::dlsym(library, old) };
    }
    match found.is_null() {
        true => Err(format!("OpenSSL has no {}", name.trim_end_matches('\0'))),
        false => Ok(found),
    }
}
