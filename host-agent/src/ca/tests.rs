use super::*;

const DAY: Duration = Duration::days(1);

fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()
}

fn authority(domain: &str) -> (Authority, KeyPem) {
    Authority::create(&domain.parse().unwrap(), now(), 100 * DAY).unwrap()
}

fn id(text: &str) -> SvidId {
    text.parse().unwrap()
}

const NODE: &str = "spiffe://example.org/sluice/node/a";

fn csr(edit: impl FnOnce(&mut CertificateParams)) -> String {
    let key = KeyPair::generate().unwrap();
    let mut params = params(NODE, "node/a").unwrap();
    edit(&mut params);
    params.serialize_request(&key).unwrap().pem().unwrap()
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.to_owned().try_into().unwrap())
}

#[test]
fn what_is_signed_is_an_svid_and_nothing_more() {
    let (ca, _) = authority("example.org");
    // What the request asks for beside its name is not what it gets.
    let request = csr(|it| {
        it.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        it.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        it.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    });
    let signed = ca.sign(&request, now(), 7 * DAY).unwrap();
    assert_eq!(signed.id, id(NODE));
    let pem = Pem::iter_from_buffer(signed.pem.as_bytes())
        .next()
        .unwrap()
        .unwrap();
    let it = pem.parse_x509().unwrap();
    assert!(!it.is_ca() && it.basic_constraints().unwrap().unwrap().critical);
    let usage = it.key_usage().unwrap().unwrap().value;
    assert!(usage.digital_signature() && !usage.key_cert_sign() && !usage.crl_sign());
    let usage = it.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.server_auth && usage.client_auth && !usage.code_signing && !usage.any);
    let validity = (
        it.validity().not_before.timestamp(),
        it.validity().not_after.timestamp(),
    );
    let at = now().unix_timestamp();
    assert_eq!(validity, (at - 300, at + 7 * 86_400));
    let certificate = Certificate::parse(&signed.pem).unwrap();
    assert_eq!(certificate.uris, [NODE]);
    let anchor = Certificate::parse(ca.pem()).unwrap();
    assert_eq!(certificate.check(&anchor, now()), Ok(id(NODE)));
}

#[test]
fn two_certificates_never_share_a_serial_number() {
    let (ca, _) = authority("example.org");
    let request = csr(|_| {});
    let serial = || {
        let signed = ca.sign(&request, now(), DAY).unwrap();
        let pem = Pem::iter_from_buffer(signed.pem.as_bytes())
            .next()
            .unwrap()
            .unwrap();
        pem.parse_x509().unwrap().raw_serial().to_vec()
    };
    let (a, b) = (serial(), serial());
    assert_eq!(a.len(), SERIAL_LEN);
    assert_ne!(a, b);
}

#[test]
fn names_that_are_not_its_own_are_refused() {
    let (ca, _) = authority("example.org");
    let refused = |names: Vec<SanType>| {
        let request = csr(|it| it.subject_alt_names = names);
        ca.sign(&request, now(), DAY).unwrap_err()
    };
    let other = refused(vec![uri("spiffe://example.com/sluice/node/a")]);
    assert!(matches!(other, CaError::Domain { .. }), "{other}");
    let root = refused(vec![uri("spiffe://example.org/sluice/root/a")]);
    assert!(matches!(root, CaError::Id(_)), "{root}");
    let domain = refused(vec![uri("spiffe://example.org")]);
    assert!(matches!(domain, CaError::Id(_)), "{domain}");
    let two = refused(vec![uri(NODE), uri("spiffe://example.org/sluice/node/b")]);
    assert!(matches!(two, CaError::Names { count: 2 }), "{two}");
    let none = refused(Vec::new());
    assert!(matches!(none, CaError::Names { count: 0 }), "{none}");
    let dns = refused(vec![
        uri(NODE),
        SanType::DnsName("a".to_owned().try_into().unwrap()),
    ]);
    assert!(matches!(dns, CaError::Names { count: 2 }), "{dns}");
}

#[test]
fn a_request_that_was_changed_anywhere_is_refused() {
    let (ca, _) = authority("example.org");
    let pem = csr(|_| {});
    let der = Pem::iter_from_buffer(pem.as_bytes())
        .next()
        .unwrap()
        .unwrap()
        .contents;
    let parse = |der: &[u8]| CertificateSigningRequestParams::from_der(&der.into());
    let whole = parse(&der).unwrap();
    let mut refused = 0;
    for at in 0..der.len() {
        let mut changed = der.clone();
        changed[at] ^= 1;
        match parse(&changed) {
            Err(_) => refused += 1,
            // Around the signed part a bit or two say nothing.
            Ok(same) => assert_eq!(same, whole, "byte {at}"),
        }
    }
    assert!(refused + 4 > der.len(), "{refused} of {}", der.len());
    // And its name in particular, through the front door.
    let place = der
        .windows(NODE.len())
        .position(|it| it == NODE.as_bytes())
        .unwrap();
    let mut changed = der;
    changed[place + NODE.len() - 1] = b'b';
    let request = to_pem(&changed);
    let error = ca.sign(&request, now(), DAY).unwrap_err();
    assert!(matches!(error, CaError::Signature), "{error}");
}

fn to_pem(der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in der.chunks(3) {
        let word = chunk
            .iter()
            .fold(0u32, |it, byte| it << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let letter = ALPHABET[(word >> (18 - 6 * at) & 63) as usize];
            text.push(if at <= chunk.len() {
                letter.into()
            } else {
                '='
            });
        }
    }
    let lines: Vec<_> = text
        .as_bytes()
        .chunks(64)
        .map(|it| std::str::from_utf8(it).unwrap())
        .collect();
    format!(
        "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
        lines.join("\n")
    )
}

#[test]
fn nothing_outlives_the_ca_and_an_expired_one_signs_nothing() {
    let (ca, _) = authority("example.org");
    let request = csr(|_| {});
    let signed = ca.sign(&request, now() + 99 * DAY, 30 * DAY).unwrap();
    assert_eq!(signed.not_after, now() + 100 * DAY);
    for late in [100 * DAY, 200 * DAY, -DAY] {
        let error = ca.sign(&request, now() + late, DAY).unwrap_err();
        assert!(matches!(error, CaError::Expired), "{error}");
    }
    let anchor = Certificate::parse(ca.pem()).unwrap();
    let short = ca.sign(&request, now(), DAY).unwrap();
    let short = Certificate::parse(&short.pem).unwrap();
    assert!(
        short
            .check(&anchor, now() + 2 * DAY)
            .unwrap_err()
            .starts_with("it is in force")
    );
}

#[test]
fn another_cas_certificate_does_not_check() {
    let ((ca, _), (other, _)) = (authority("example.org"), authority("example.org"));
    let signed = other.sign(&csr(|_| {}), now(), DAY).unwrap();
    let signed = Certificate::parse(&signed.pem).unwrap();
    let anchor = Certificate::parse(ca.pem()).unwrap();
    assert_eq!(
        signed.check(&anchor, now()),
        Err("it is not signed by that CA".to_owned())
    );
    assert!(signed.check(&signed, now()).is_err());
    assert!(anchor.check(&anchor, now()).is_err());
}

#[test]
fn a_ca_opens_with_its_own_key_only() {
    let ((ca, key), (other, other_key)) = (authority("example.org"), authority("example.org"));
    assert!(Authority::open(ca.pem(), &key).is_ok());
    let error = Authority::open(ca.pem(), &other_key).unwrap_err();
    assert!(matches!(error, CaError::KeyMismatch), "{error}");
    let (leaf_key, request) = request(&id(NODE)).unwrap();
    let leaf = other.sign(&request, now(), DAY).unwrap();
    let error = Authority::open(&leaf.pem, &leaf_key).unwrap_err();
    assert!(matches!(error, CaError::Certificate { .. }), "{error}");
    assert!(!format!("{ca:?}").contains("PRIVATE"));
}

#[test]
fn a_key_can_be_renewed() {
    let (ca, _) = authority("example.org");
    let (key, first) = request(&id(NODE)).unwrap();
    let second = renewal(&id(NODE), &key).unwrap();
    let public = |request: &str| {
        let signed = ca.sign(request, now(), DAY).unwrap();
        Certificate::parse(&signed.pem).unwrap().public_key
    };
    assert_eq!(public(&first), public(&second));
}
