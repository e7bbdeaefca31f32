//! Lookups in real files, and what becomes of files that change.

use std::time::Duration;

use portcullis_telemetry::Records;
use tokio_util::sync::CancellationToken;

use super::follow::Follower;
use super::*;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(name)
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn list(path: &Path, category: Option<&str>) -> PlaceFiles {
    PlaceFiles {
        categories: vec![CategoryList {
            path: path.to_owned(),
            category: category.map(str::to_owned),
        }],
        ..PlaceFiles::default()
    }
}

fn geo(places: &Places, address: &str, name: &str) -> Option<String> {
    places.of(ip(address))?.geo.get(name).cloned()
}

#[test]
fn an_address_has_its_place_and_its_system() {
    let files = PlaceFiles {
        city: Some(fixture("city.mmdb")),
        asn: Some(fixture("asn.mmdb")),
        categories: Vec::new(),
    };
    let places = Places::read(&files).expect("fixtures");
    let berlin = places.of(ip("198.51.100.7")).expect("data");
    let expected = [
        ("city", "Berlin"),
        ("country", "Germany"),
        ("country_code", "DE"),
        ("latitude", "52.5196"),
        ("longitude", "13.4069"),
        ("radius", "20"),
        ("subdivision", "Land Berlin"),
    ];
    let found = berlin.geo.iter();
    let found: Vec<_> = found.map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(found, expected);
    assert_eq!(
        (berlin.as_number, berlin.as_organization.as_str()),
        (64_500, "Example Net")
    );
    for same in ["::ffff:198.51.100.7", "2001:db8:1::5"] {
        assert_eq!(geo(&places, same, "country_code").as_deref(), Some("DE"));
    }
    // Another maker's, without a radius or a part of the country.
    let paris = places.of(ip("203.0.113.1")).expect("data");
    assert_eq!(paris.geo["country_code"], "FR");
    assert!(!paris.geo.contains_key("radius") && !paris.geo.contains_key("subdivision"));
    assert_eq!((paris.as_number, paris.as_organization.as_str()), (0, ""));
    let nowhere = places.of(ip("192.0.2.1")).expect("data");
    assert!(nowhere.geo.is_empty());
}

#[test]
fn without_files_nothing_is_known() {
    let places = Places::read(&PlaceFiles::default()).expect("nothing to read");
    assert_eq!(places.of(ip("198.51.100.7")), None);
}

#[test]
fn files_that_are_none_are_refused_with_their_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let broken = dir.path().join("broken.mmdb");
    let whole = std::fs::read(fixture("city.mmdb")).expect("fixture");
    let of = |city: PathBuf| PlaceFiles {
        city: Some(city),
        ..PlaceFiles::default()
    };
    for cut in [0, 1, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&broken, &whole[..cut]).expect("written");
        let error = Places::read(&of(broken.clone())).expect_err("not whole");
        assert!(error.message.contains("broken.mmdb"), "{cut}: {error}");
    }
    let error = Places::read(&of(fixture("asn.mmdb"))).expect_err("the wrong key");
    assert!(error.message.contains("GeoLite2-ASN"), "{error}");
    let error = Places::read(&of(dir.path().join("none"))).expect_err("absent");
    assert_eq!(error.code, Code::ConfigUnreadable);
}

#[test]
fn damage_anywhere_in_a_file_never_panics() {
    let whole = std::fs::read(fixture("city.mmdb")).expect("fixture");
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("damaged.mmdb");
    for at in (0..whole.len()).step_by(7) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0xA5;
        std::fs::write(&path, &damaged).expect("written");
        if let Ok(database) = Database::open(&path, &[]) {
            for address in ["198.51.100.7", "203.0.113.9", "::1", "2001:db8:1::"] {
                drop(database.geo(ip(address)));
                drop(database.system(ip(address)));
            }
        }
    }
}

#[test]
fn categories_carry_those_above_them() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("drop");
    let text = "# nobody wants these\n\n192.0.2.0/24\n192.0.2.7 com.aws.eu # and this\n2001:db8::/32\n10.0.0.0/8 com.aws\n";
    std::fs::write(&path, text).expect("written");
    let places = Places::read(&list(&path, Some("blocklist.org.example.drop"))).expect("a list");
    let of = |address| places.of(ip(address)).expect("data").categories.clone();
    let drop = [
        "blocklist",
        "blocklist.org",
        "blocklist.org.example",
        "blocklist.org.example.drop",
    ];
    assert_eq!(of("192.0.2.1"), drop);
    assert_eq!(of("2001:db8::1"), drop);
    assert_eq!(
        of("192.0.2.7"),
        [&drop[..], &["com", "com.aws", "com.aws.eu"]].concat()
    );
    assert_eq!(of("10.1.1.1"), ["com", "com.aws"]);
    assert!(of("198.51.100.1").is_empty());
}

#[test]
fn a_directory_names_the_categories_of_its_lists() {
    let dir = tempfile::tempdir().expect("a directory");
    for (name, text) in [
        ("com.aws.txt", "10.0.0.0/8\n"),
        ("proxy.vpn.list", "10.1.0.0/16\n"),
        ("README.md", "not a list"),
        (".hidden.txt", "not a list"),
    ] {
        std::fs::write(dir.path().join(name), text).expect("written");
    }
    let places = Places::read(&list(dir.path(), None)).expect("lists");
    let place = places.of(ip("10.1.2.3")).expect("data");
    assert_eq!(place.categories, ["com", "com.aws", "proxy", "proxy.vpn"]);
}

#[test]
fn a_wrong_line_is_told_with_its_number() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("list");
    for (text, what) in [
        ("10.0.0.0/8", ":1: the line has no category"),
        ("\n10.0.0.1/8 com", ":2: "),
        ("10.0.0.0/8 Com.X", ":1: a category is"),
        ("10.0.0.0/8 com..x", ":1: a category is"),
        ("10.0.0.0/8 com x", ":1: more than"),
        ("host com", ":1: "),
    ] {
        std::fs::write(&path, text).expect("written");
        let error = Places::read(&list(&path, None)).expect_err(text);
        assert!(error.message.contains(what), "{text}: {error}");
    }
    std::fs::write(&path, [0xff, 0xfe]).expect("written");
    assert!(Places::read(&list(&path, None)).is_err());
}

/// Puts another file in the place of one, as it should be done.
fn replace(path: &Path, bytes: &[u8]) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, bytes).expect("written");
    std::fs::rename(&beside, path).expect("renamed");
}

#[tokio::test]
async fn files_are_read_again_when_they_change_and_a_broken_one_takes_nothing_away() {
    let dir = tempfile::tempdir().expect("a directory");
    let (city, drop) = (dir.path().join("city.mmdb"), dir.path().join("drop"));
    std::fs::write(&drop, "192.0.2.1\n").expect("written");
    let files = PlaceFiles {
        city: Some(city.clone()),
        ..list(&drop, Some("drop"))
    };
    let records = Records::new();
    let mut follower = Follower::start(files, records.clone()).await;
    let places = follower.places();
    let country = || geo(&places, "198.51.100.7", "country_code");
    assert_eq!(country(), None, "it is not there yet");
    let bytes = |name| std::fs::read(fixture(name)).expect("fixture");
    replace(&city, &bytes("city.mmdb"));
    follower.look().await;
    assert_eq!(country().as_deref(), Some("DE"));
    replace(&city, b"<html>quota exceeded</html>");
    follower.look().await;
    follower.look().await;
    assert_eq!(country().as_deref(), Some("DE"), "what was known stays");
    std::fs::remove_file(&city).expect("removed");
    follower.look().await;
    assert_eq!(country().as_deref(), Some("DE"));
    replace(&city, &bytes("city-2.mmdb"));
    replace(&drop, b"192.0.2.1 other.one\n");
    follower.look().await;
    assert_eq!(country().as_deref(), Some("FR"));
    let categories = places.of(ip("192.0.2.1")).expect("data").categories.clone();
    assert_eq!(categories, ["other", "other.one"]);
    let text = records.metrics_text();
    for line in [
        "portcullis_place_file_reads_total{file=\"city\",outcome=\"ok\"} 2",
        // Absent at first, broken, absent: each told once.
        "portcullis_place_file_reads_total{file=\"city\",outcome=\"failed\"} 3",
        "portcullis_place_file_reads_total{file=\"categories\",outcome=\"ok\"} 2",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    let stopped = CancellationToken::new();
    stopped.cancel();
    let run = tokio::time::timeout(Duration::from_secs(60), follower.run(stopped));
    run.await.expect("it stops when it is told");
}
