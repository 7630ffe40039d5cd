//! `/operations`: the progress of the creation of a snapshot.

use http::header::RETRY_AFTER;
use serde::Serialize;

use crate::emulator::answer::Answer;
use crate::emulator::configuration_store::ConfigurationStore;
use crate::emulator::presented::ApiRequest;
use crate::emulator::problem::Problem;
use crate::emulator::snapshot::SnapshotStatus;
use crate::profile::app_configuration::media_type::MediaType;

#[derive(Serialize)]
struct Operation<'a> {
    id: &'a str,
    status: &'a str,
    error: Option<OperationError>,
}

#[derive(Serialize)]
struct OperationError {
    code: &'static str,
    message: &'static str,
}

/// `GET /operations?snapshot={name}`. While the operation runs, `Retry-After` gives the remaining time.
pub fn operation(request: &ApiRequest<'_>, store: &ConfigurationStore) -> Result<Answer, Problem> {
    let name = request.query.single("snapshot")?.filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| Problem::invalid("snapshot", "Send the name of a snapshot"))?;
    let snapshot = store.find_snapshot(name, request.view, request.now).ok_or(Problem::NotFound)?;
    let (status, error) = match snapshot.status(request.now) {
        SnapshotStatus::Provisioning => ("Running", None),
        SnapshotStatus::Ready | SnapshotStatus::Archived => ("Succeeded", None),
        SnapshotStatus::Failed => (
            "Failed",
            Some(OperationError {
                code: "ProvisioningFailed",
                message: "The snapshot could not be created.",
            }),
        ),
    };
    let running = status == "Running";
    let operation = Operation { id: &snapshot.etag, status, error };
    // Serialising strings cannot fail.
    let body = serde_json::to_vec(&operation).unwrap_or_default();
    let answer = Answer::ok(request.content_type(MediaType::Operation), body.into());
    let remaining = snapshot.provisioned.since(request.now);
    let seconds = remaining.as_secs() + u64::from(remaining.subsec_nanos() > 0);
    Ok(if running { answer.with(RETRY_AFTER, seconds.max(1).to_string()) } else { answer })
}
