//! OpenSSL's EVP on as many bytes, by its own `speed`.

use std::process::Command;

use sluice_crypto::key::Algorithm;

use crate::esp::report::Case;

/// What `openssl speed` finds for one algorithm and size.
#[must_use]
pub fn measure(algorithm: Algorithm, bytes: usize) -> Case {
    let case = Case::new("seal", "openssl speed", algorithm, &bytes.to_string(), 1);
    match speed(algorithm, bytes) {
        #[allow(clippy::cast_precision_loss, reason = "a packet's length")]
        Ok(per_second) => case.taking(bytes as f64 * 1e9 / per_second, bytes as f64),
        Err(why) => case.noting(why),
    }
}

/// Bytes a second.
fn speed(algorithm: Algorithm, bytes: usize) -> Result<f64, String> {
    let name = match algorithm {
        Algorithm::Aes128Gcm16 => "aes-128-gcm",
        Algorithm::Aes256Gcm16 => "aes-256-gcm",
        Algorithm::ChaCha20Poly1305 => "chacha20-poly1305",
    };
    let bytes = bytes.to_string();
    let args = [
        "speed", "-mr", "-seconds", "1", "-bytes", &bytes, "-aead", "-evp", name,
    ];
    let ran = Command::new("openssl")
        .args(args)
        .env_remove("GLIBC_TUNABLES")
        .output();
    let ran = ran.map_err(|error| format!("openssl can't be run: {error}"))?;
    let said = String::from_utf8_lossy(&ran.stdout);
    result(&said).ok_or_else(|| "openssl speed gave no result".to_owned())
}

/// The last field of its line `+F:…`.
fn result(said: &str) -> Option<f64> {
    let line = said.lines().find(|line| line.starts_with("+F:"))?;
    let rate: f64 = line.rsplit(':').next()?.trim().parse().ok()?;
    Some(rate).filter(|it| *it > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_the_last_field_of_its_line() {
        let said = "+H:1420\n+F:25:AES-128-GCM:2017825195.12\n";
        assert_eq!(result(said), Some(2_017_825_195.12));
        assert_eq!(result("+H:1420\n+F:25:AES-128-GCM:0.00\n"), None);
        assert_eq!(result(""), None);
    }
}
