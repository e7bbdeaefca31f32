//! `limit-bandwidth`.

use portcullis_model::Code;
use portcullis_model::bytes::ByteSize;

use super::actions::counted;
use super::{Reading, values};
use crate::decide::LimitBandwidth;
use crate::defaults::{BANDWIDTH_MAX, BANDWIDTH_MIN};
use crate::document::Node;

pub(super) fn read(
    path: &str,
    name: &str,
    config: Node,
    reading: &mut Reading,
) -> Option<LimitBandwidth> {
    let needs = "`upload`, `download` or `rate` in bytes per second, such as `{ rate: 1MB }`";
    let mut fields = values::config(
        path,
        config,
        ("limit-bandwidth", "the config of limit-bandwidth"),
        needs,
        reading,
    )?;
    let keys = ["upload", "download", "rate", "burst", "key"];
    let [upload, download, rate, burst, key] =
        keys.map(|key| fields.take(key).filter(|node| *node != Node::Null));
    fields.close(&keys, &mut reading.problems);
    let mut fault = None;
    if rate.is_some() && (upload.is_some() || download.is_some()) {
        fault = Some("`rate` sets both `upload` and `download`; use it, or them".to_owned());
    } else if rate.is_none() && upload.is_none() && download.is_none() {
        fault = Some(format!("limit-bandwidth needs {needs}"));
    }
    if let Some(message) = fault {
        reading.problems.add(Code::PolicyConfig, path, message);
        return None;
    }
    let mut read = |key: &str, node: Option<Node>| match node {
        None => Some(None),
        Some(node) => size(&format!("{path}.{key}"), &node, reading).map(Some),
    };
    let (upload, download) = (read("upload", upload), read("download", download));
    let (rate, burst) = (read("rate", rate), read("burst", burst));
    let key = values::key(path, key, reading);
    let (upload, download, rate) = (upload?, download?, rate?);
    Some(LimitBandwidth {
        bucket: counted(name, path, reading),
        upload: rate.or(upload),
        download: rate.or(download),
        burst: burst?,
        key: key?,
    })
}

/// `1MB`, `512KiB` or a number of bytes.
fn size(path: &str, node: &Node, reading: &mut Reading) -> Option<u64> {
    let read = match node {
        Node::Number(number) => number.as_u64(),
        Node::Text(text) => text.parse::<ByteSize>().ok().map(|size| size.0),
        _ => None,
    };
    let Some(read) = read else {
        let expected = "a number of bytes such as `1MB` or `512KiB`";
        return values::wrong(path, node, expected, reading);
    };
    if !(BANDWIDTH_MIN..=BANDWIDTH_MAX).contains(&read) {
        let message = format!(
            "{} is out of bounds; from {BANDWIDTH_MIN} bytes to {} is possible",
            node.what(),
            ByteSize(BANDWIDTH_MAX)
        );
        reading.problems.add(Code::PolicyConfig, path, message);
        return None;
    }
    Some(read)
}
